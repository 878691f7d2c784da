#!/usr/bin/env bash
# Run the check on a machine with a GPU, installing what scripts/pack_for_gpu.sh has brought.
#
# usage: scripts/gpu_check.sh [OPTION ...]       options of python -m benchmarks.gpu; PYTHON=python3
#
# Where fairseq is installed it is used; nothing outside of .gpu/ is written but outputs/gpu-check.
#
# example: scripts/gpu_check.sh --record
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in --help | -h) sed -n '2,8s/^# \?//p' scripts/gpu_check.sh; exit ;; esac
python=${PYTHON:-python3}
site=$PWD/.gpu/site
export PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH}
if ! "$python" -c "import fairseq" 2>/dev/null; then
    [ -d .gpu/wheels ] || { echo "error: there is neither fairseq nor .gpu/: see scripts/pack_for_gpu.sh" >&2; exit 2; }
    "$python" -m pip --disable-pip-version-check -q install --no-index --no-deps --no-compile \
        --upgrade --target "$site" .gpu/wheels/*.whl
fi
exec "$python" -m benchmarks.gpu "$@"
