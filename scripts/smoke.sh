#!/usr/bin/env bash
# Run every recipe and hydra configuration of examples/, small, on a CPU.
#
# usage: scripts/smoke.sh [FILE ...]
#
# FILE is a recipe or a configuration (without any: all of them). Each runs on generated data with the
# embedded encoder, writes below OUT (outputs/smoke) and is told with its seconds: OK, or FAILED with
# the end of its log. The exit code is 1 if one failed. What earlier runs left there is replaced.
#
# example:
#   scripts/smoke.sh examples/glue/rte.sh examples/glue/config/rte.yaml
set -uo pipefail
case ${1:-} in --help | -h) sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

out=${OUT:-outputs/smoke}
files=("$@")
[ $# -gt 0 ] || files=(examples/*/*.sh examples/*/config/*.yaml)
failed=0
for file in "${files[@]}"; do
    [ -f "$file" ] || { echo "error: $file is no file" >&2; exit 2; }
    command=("$file")
    case $file in *.yaml) command=(examples/hydra_train.sh "$file") ;; esac
    name=${file#examples/}
    folder=$out/${name//\//-}
    rm -rf "$folder"
    mkdir -p "$folder" || exit
    SECONDS=0 status=0
    SMOKE=1 OUT=$folder SMOKE_ENCODER=$out/encoder "${command[@]}" >"$folder/log" 2>&1 || status=$?
    seconds=$SECONDS
    find "$folder" \( -name '*.pt' -o -name '*.safetensors' \) -delete # up to 360 MB of each
    if [ "$status" = 0 ]; then
        printf '%-32s OK     %4d s\n' "$name" "$seconds"
    else
        tail -n 15 "$folder/log" >&2
        printf '%-32s FAILED %4d s, exit code %d, see %s/log\n' "$name" "$seconds" "$status" "$folder"
        failed=1
    fi
    [ "$status" -lt 128 ] || exit "$status" # Ctrl-C, or killed
done
exit "$failed"
