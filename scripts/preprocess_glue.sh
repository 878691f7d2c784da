#!/usr/bin/env bash
# Binarise GLUE tasks for fairseq-train with scl-preprocess; --help says more.
set -euo pipefail
# shellcheck source=scripts/prepare.sh
. "$(dirname "${BASH_SOURCE[0]}")/prepare.sh"

usage() {
    cat <<END
usage: scripts/preprocess_glue.sh GLUE_DIR BPE_DIR OUT_DIR [OPTION ...]

Binarise GLUE tasks for fairseq-train: GLUE_DIR/SST-2 (as scripts/download_glue.sh leaves it) to
OUT_DIR/SST-2-bin, and so on. BPE_DIR is what scripts/download_bpe.sh downloads. Further options are
passed on to scl-preprocess. A task that fails does not keep the next ones from being done.

environment:
  TASKS  which tasks ($all)

example:
  TASKS="SST-2 RTE" scripts/preprocess_glue.sh glue gpt2_bpe data-bin
END
}

all="SST-2 CoLA MRPC RTE QNLI MNLI"
case ${1:-} in --help | -h) usage; exit ;; esac
[ $# -ge 3 ] ||
    fail "GLUE_DIR, BPE_DIR and OUT_DIR are expected (see scripts/preprocess_glue.sh --help)"
glue=$1 bpe=$2 out=$3
shift 3
for folder in "$glue" "$bpe" "$out"; do
    case $folder in -*) fail "GLUE_DIR, BPE_DIR and OUT_DIR come before the options" ;; esac
done

IFS=$', \t\n' read -r -d '' -a tasks <<<"${TASKS:-$all}" || true
need_inputs "$glue" "$bpe" "${tasks[@]}"
preprocess=$(find_command scl-preprocess)

summary=
first=0
stopped=
for task in "${tasks[@]}"; do
    if [ -n "$stopped" ]; then
        summary+="$task: not begun"$'\n'
        continue
    fi
    echo "== $task"
    status=0
    "$preprocess" --task "$task" --data-dir "$glue/$task" --bpe gpt2 --bpe-dir "$bpe" \
        --split glue --destdir "$out/$task-bin" "$@" || status=$?
    if [ "$status" = 0 ]; then
        summary+="$task: done, $out/$task-bin"$'\n'
    else
        summary+="$task: FAILED with exit code $status"$'\n'
        if [ "$first" = 0 ]; then first=$status; fi
        # Killed, or ended by Ctrl-C.
        if [ "$status" -ge 128 ]; then stopped=1; fi
    fi
done
printf '\n%s' "$summary"
exit "$first"
