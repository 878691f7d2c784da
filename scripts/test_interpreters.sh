#!/usr/bin/env bash
# Run the tests on each of Python 3.10 (with stock fairseq) and 3.11, 3.12, 3.13 (with the fork) that
# this machine has, each in an environment of its own below .venvs.
#
# usage: scripts/test_interpreters.sh [PYTEST OPTION ...]        e.g. -k losses
set -uo pipefail
case ${1:-} in --help | -h) sed -n '2,5s/^# \?//p' "$0"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_interpreter() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

summary=()
failed=0
for version in 3.10 3.11 3.12 3.13; do
    python=$(find_interpreter "$version")
    if [ -z "$python" ]; then
        summary+=("Python $version: skipped, there is no python$version here")
        continue
    fi
    echo "== Python $version ($python)"
    if scripts/setup_env.sh ".venvs/$version" "$python" &&
        ".venvs/$version/bin/python" -m pytest -q -n auto --dist loadfile -m "not slow" "$@"; then
        outcome=passed
    else
        outcome=FAILED failed=1
    fi
    summary+=("Python $version: $outcome, $(".venvs/$version/bin/python" -m pip list 2>/dev/null |
        grep -E '^(fairseq|torch) |^fairseq-fixed ' | tr -s ' ' | paste -sd, -)")
done
printf '%s\n' "" "${summary[@]}"
exit $failed
