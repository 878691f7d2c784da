#!/usr/bin/env bash
# SST-2 as several processes on a CPU: RoBERTa-Base with CE+SCL, contrast over all of them. To try what
# GPUs do, not to be fast: one process uses all cores as well.
#
# usage: examples/workers/cpu.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small (README.md)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

DATA=${DATA:-$OUT/data/SST-2-bin} # what scl-preprocess --split paper wrote
ROBERTA=${ROBERTA:-roberta.base/model.pt}
WORKERS=${WORKERS:-2}
BATCH=${BATCH:-16}    # per process; contrast is over all
CHUNK=${CHUNK:-0}     # sentences at a time, where memory does not hold BATCH; 0: all
LAMBDA=${LAMBDA:-0.9} # 0: CE
TAU=${TAU:-0.3}
SEED=${SEED:-1}
SAVE_DIR=${SAVE_DIR:-$OUT/workers/SST-2-lambda$LAMBDA-tau$TAU-workers$WORKERS-batch$BATCH-seed$SEED}

EPOCHS=10
MODEL=(--arch roberta_base --max-positions 512)
TOKENS=(--init-token 0)
PRECISION=(--cpu)
set_up_glue SST-2 base
whole_number WORKERS
GPUS=$WORKERS
share_batch $((GPUS * BATCH))
plan_updates $((GPUS * BATCH))

on_cpu "$WORKERS" fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --scl-gather all --scl-chunk-size "$CHUNK" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes 2 "${TOKENS[@]}" \
    --batch-size "$BATCH" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --save-dir "$SAVE_DIR" --log-format simple --log-interval 100 "$@"
test_best 2
