#!/usr/bin/env bash
# The transfer table in one command: fine-tune on the whole of SST-2 with CE and with CE+SCL, then
# from each of these on 20 examples a class of Amazon-2 and Yelp-2, and report.
#
# usage: examples/transfer/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

small=()
if [ -n "$SMOKE" ]; then
    NUM_SAMPLES=${NUM_SAMPLES:-1}
    small=(--set encoder=null --set options.validate-interval=1 --set options.save-interval=1)
fi
TASKS=${TASKS:-Amazon-2 Yelp-2}
NUM_SAMPLES=${NUM_SAMPLES:-10}
PER_CLASS=${PER_CLASS:-20}
LAMBDA=${LAMBDA:-0.9} # of CE+SCL, on SST-2 and on the reviews
TAU=${TAU:-0.3}
HEAD=${HEAD:-keep} # new: the classifier starts from random weights, the encoder alone is SST-2's
GPUS=${GPUS:-1}    # of the training on SST-2; the sweep takes one a trial, as many as there are
GLUE=${GLUE:-glue}
REVIEWS=${REVIEWS:-reviews}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}
IFS=$', \t\n' read -r -d '' -a tasks <<<"$TASKS" || true
whole_number NUM_SAMPLES
whole_number PER_CLASS
case $HEAD in
    keep) head=() ;;
    # fairseq leaves out a checkpoint's heads of other names, and begins this one anew.
    new) head=(--set options.classification-head-name=transfer_head) ;;
    *) fail "HEAD=$HEAD, expected keep or new" ;;
esac

[ -n "$SMOKE" ] || need_checkpoint large
set_up_text SST-2 "${tasks[@]}"
binarize_glue SST-2
for lambda in 0 "$LAMBDA"; do
    folder=$OUT/transfer/sst2-lambda$lambda
    made_as="$ROBERTA on SST-2, lambda $lambda, tau $TAU, seed ${SEED:-1}"
    if ! is_trained "$folder" "$made_as"; then
        LAMBDA=$lambda TAU=$TAU GPUS=$GPUS SAVE_DIR=$folder OUT=$OUT DATA=$OUT/data/SST-2-bin \
            ROBERTA=$ROBERTA "$ROOT/examples/glue/sst2.sh"
        echo "$made_as" >"$folder/trained"
    fi
done
size=$((2 * PER_CLASS))
for task in "${tasks[@]}"; do
    draw_samples "$task" "$size" "$NUM_SAMPLES" --per-class "$PER_CLASS"
done
start=$OUT/transfer/sst2-lambda
ce=${start}0/checkpoint_best.pt
ROBERTA=$start$LAMBDA/checkpoint_best.pt
sweep_and_report "$ROOT/examples/transfer/sweep.yaml" "$OUT/transfer/sweep-head-$HEAD" \
    ${small[@]+"${small[@]}"} --set "options.finetune-from-model=$ROBERTA" \
    --set "overrides=[{when: {scl-lambda: 0}, options: {finetune-from-model: '$ce'}}]" \
    --set "data=$OUT/few-shot/data/{task}/{N}/bin/sample{sample}" \
    --set "grid.task=$(listed "${tasks[@]}")" --set "grid.N=[$size]" \
    --set "grid.scl-lambda=[0,$LAMBDA]" --set "grid.scl-temperature=[$TAU]" \
    --set "grid.sample=$(listed $(seq 0 $((NUM_SAMPLES - 1))))" \
    ${head[@]+"${head[@]}"} "$@"
