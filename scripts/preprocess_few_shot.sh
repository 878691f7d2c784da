#!/usr/bin/env bash
# Draw few-shot samples of GLUE tasks and binarise them for fairseq-train; --help says more.
set -euo pipefail
# shellcheck source=scripts/prepare.sh
. "$(dirname "${BASH_SOURCE[0]}")/prepare.sh"

usage() {
    cat <<END
usage: scripts/preprocess_few_shot.sh GLUE_DIR BPE_DIR OUT_DIR

Draw few-shot samples of GLUE tasks with scl-sample, and binarise each with scl-preprocess:
OUT_DIR/SST-2/20/text/sample0 is the first sample of 20 examples of SST-2, and fairseq-train reads
OUT_DIR/SST-2/20/bin/sample0. GLUE_DIR and BPE_DIR are what scripts/download_glue.sh and
scripts/download_bpe.sh download. The first failure ends it.

environment:
  TASKS         which tasks (SST-2 QNLI MNLI)
  NUM_EXAMPLES  how many examples a sample has (20 100 1000)
  NUM_SAMPLES   how many samples of each size (10)
  SEED          which samples (1)

example:
  TASKS=SST-2 NUM_EXAMPLES="20 100" scripts/preprocess_few_shot.sh glue gpt2_bpe few-shot
END
}

check_number() {
    case $2 in '' | *[!0-9]*) fail "$1: $2 is not a number" ;; esac
}

case ${1:-} in --help | -h) usage; exit ;; esac
[ $# = 3 ] ||
    fail "GLUE_DIR, BPE_DIR and OUT_DIR are expected (see scripts/preprocess_few_shot.sh --help)"
glue=$1 bpe=$2 out=$3
num_samples=${NUM_SAMPLES:-10} seed=${SEED:-1}
IFS=$', \t\n' read -r -d '' -a tasks <<<"${TASKS:-SST-2 QNLI MNLI}" || true
IFS=$', \t\n' read -r -d '' -a sizes <<<"${NUM_EXAMPLES:-20 100 1000}" || true
[ "${#sizes[@]}" -gt 0 ] || fail "NUM_EXAMPLES names no number"
for size in "${sizes[@]}"; do check_number NUM_EXAMPLES "$size"; done
check_number NUM_SAMPLES "$num_samples"
check_number SEED "$seed"
num_samples=$((10#$num_samples)) # not octal where it starts with 0
need_inputs "$glue" "$bpe" "${tasks[@]}"
sample=$(find_command scl-sample)
preprocess=$(find_command scl-preprocess)

summary=
trap 'status=$?; printf "\n%s" "$summary"; exit $status' EXIT
for task in "${tasks[@]}"; do
    for size in "${sizes[@]}"; do
        what="$task, $size examples"
        folder=$out/$task/$size
        echo "== $what, $num_samples samples"
        "$sample" --task "$task" --data-dir "$glue/$task" --num-examples "$size" \
            --num-samples "$num_samples" --seed "$seed" --out "$folder/text" || {
            status=$?
            summary+="$what: scl-sample FAILED with exit code $status"$'\n'
            exit "$status"
        }
        # Of an earlier draw of more samples.
        for old in "$folder"/bin/sample*; do
            [ ! -d "$old" ] || [ -d "$folder/text/$(basename "$old")" ] || rm -r "$old"
        done
        for ((index = 0; index < num_samples; index++)); do
            "$preprocess" --task "$task" --data-dir "$folder/text/sample$index" --bpe gpt2 \
                --bpe-dir "$bpe" --destdir "$folder/bin/sample$index" || {
                status=$?
                summary+="$what: scl-preprocess FAILED with exit code $status, sample$index"$'\n'
                exit "$status"
            }
        done
        summary+="$what: done, $num_samples samples in $folder"$'\n'
    done
done
