#!/usr/bin/env bash
# Create or refresh an environment in which the contest runs SetFit.
#
# usage: scripts/setup_setfit.sh [FOLDER] [VENV]
#
# FOLDER is .venv-setfit, VENV the project's environment (.venv), which must be there: SetFit sees its
# torch, transformers and sentence-transformers, so that all contenders run on the same ones. What SetFit
# needs besides is installed in FOLDER alone, at fixed versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in --help | -h) sed -n '2,8s/^# \?//p' scripts/setup_setfit.sh; exit ;; esac
folder=${1:-.venv-setfit}
project=${2:-.venv}
packages="setfit==1.2.0 evaluate==0.4.6 accelerate==1.15.0 psutil==7.2.2"

fail() { echo "error: $*" >&2; exit 2; }
site() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

[ -x "$project/bin/python" ] || fail "there is no environment in $project; make setup makes it"
state="$packages; $(site "$project"); $(cksum < scripts/setup_setfit.sh)"
stamp=$folder/set-up-as
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then exit 0; fi

printf '[set-up %s] SetFit in %s (once; half a minute)\n' "$(date +%H:%M:%S)" "$folder"
rm -f "$stamp"
"$project/bin/python" -m venv --clear "$folder"
# Packages of the project's environment come after those of this one.
printf "import site; site.addsitedir(r'%s')\n" "$(site "$project")" > "$(site "$folder")/project.pth"
# shellcheck disable=SC2086
"$folder/bin/python" -m pip --disable-pip-version-check -q install --no-deps $packages
"$folder/bin/python" -c 'import setfit' || fail "SetFit cannot be imported in $folder"
echo "$state" > "$stamp"
