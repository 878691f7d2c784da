#!/usr/bin/env bash
# Binarise GLUE tasks for fairseq-train with scl-preprocess; --help says more.
set -euo pipefail

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

fail() { echo "error: $*" >&2; exit 2; }

find_command() {
    command -v "$1" || command -v "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/$1" ||
        fail "$1 was not found; 'make setup' installs it"
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
[ "${#tasks[@]}" -gt 0 ] || fail "TASKS names no task"
missing=
for task in "${tasks[@]}"; do
    [ -d "$glue/$task" ] || missing="$missing $glue/$task"
done
[ -z "$missing" ] || fail "missing:$missing; scripts/download_glue.sh downloads them"
for file in encoder.json vocab.bpe dict.txt; do
    [ -f "$bpe/$file" ] || fail "$bpe/$file is missing; scripts/download_bpe.sh downloads it"
done
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
