#!/usr/bin/env bash
# The t-SNE figures: SST-2's test sentences after fine-tuning with CE and with CE+SCL, side by side.
#
# usage: examples/tsne/run.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). What is trained stays.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

SIZES=${SIZES:-20} # of 20, 100, ... and full, e.g. "20 100 full"
SAMPLE=${SAMPLE:-0}
LAMBDA=${LAMBDA:-0.9} # of CE+SCL
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}
title=()
if [ -n "$SMOKE" ]; then title=(--title "Smoke run on generated data, no result"); fi
IFS=$', \t\n' read -r -d '' -a sizes <<<"$SIZES" || true

[ -n "$SMOKE" ] || need_checkpoint large
set_up_text SST-2
for size in "${sizes[@]}"; do
    if [ "$size" = full ]; then
        binarize_glue SST-2
        data=$OUT/data/SST-2-bin recipe=glue/sst2.sh
    else
        draw_samples SST-2 "$size" $((SAMPLE + 1))
        data=$OUT/few-shot/data/SST-2/$size/bin/sample$SAMPLE recipe=few_shot/train.sh
    fi
    checkpoints=()
    for lambda in 0 "$LAMBDA"; do
        folder=$OUT/tsne/$size-sample$SAMPLE-lambda$lambda
        made_as="$ROBERTA on $data, lambda $lambda, tau ${TAU:-0.3}, seed ${SEED:-1}${*:+, $*}"
        if ! is_trained "$folder" "$made_as"; then
            TASK=SST-2 N=$size LAMBDA=$lambda SAVE_DIR=$folder OUT=$OUT DATA=$data ROBERTA=$ROBERTA \
                "$ROOT/examples/$recipe" "$@"
            echo "$made_as" >"$folder/trained"
        fi
        checkpoints+=("$folder/checkpoint_best.pt")
    done
    run scl-plot tsne "${checkpoints[@]}" --data "$data" --class-names negative positive \
        --out "$OUT/tsne/$size.png" --out "$OUT/tsne/$size.svg" ${title[@]+"${title[@]}"}
done
