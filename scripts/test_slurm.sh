#!/usr/bin/env bash
# Run the tests that need Slurm, beside a Slurm that is started for them and ended after them.
#
# usage: scripts/test_slurm.sh [FOLDER] [PYTHON]
#
# FOLDER and PYTHON are scripts/setup_env.sh's. Installs Debian's slurm-wlm and munge where they are
# missing, and for the tests with accounting slurmdbd and mariadb-server; they stay. Needs root and apt:
# elsewhere it says that it is skipped. Tried with 22.05 of Debian 12, and what is without accounting with
# 24.11 of Debian 13. Took 20 minutes on two cores with ten other processes on them.
set -euo pipefail
case ${1:-} in --help | -h) sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-slurm: skipped; it needs root and apt, to install and start Slurm"
    exit
fi
venv=${1:-.venv}
scripts/setup_env.sh "$venv" "${2:-}"

packages=(slurm-wlm munge slurmdbd mariadb-server)
if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
    echo "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi
slurmctld -V
tests=("$venv/bin/python" -m pytest -p no:xdist --durations=10)
scripts/with_slurm.sh "${tests[@]}" tests/slurm
# With accounting: what ended without a result.
ACCOUNTING=1 scripts/with_slurm.sh "${tests[@]}" tests/slurm/test_sweep.py -k "accounting or killed"
