#!/usr/bin/env bash
# One cell of the batch-size ablation: RoBERTa-Base on a whole data set, CE+SCL within BATCH examples.
#
# usage: examples/batch_size/train.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

TASK=${TASK:-SST-2} # SST-2, CoLA, QNLI
BATCH=${BATCH:-16}  # 16, 64, 256 to 4096: what is contrasted, over all GPUs
CHUNK=${CHUNK:-256} # sentences that a GPU takes at a time
GPUS=${GPUS:-1}     # they share the batch
DATA=${DATA:-$OUT/data/$TASK-bin} # what scl-preprocess --split paper wrote
ROBERTA=${ROBERTA:-roberta.base/model.pt}
LAMBDA=${LAMBDA:-0.9} # 0: CE
TAU=${TAU:-0.3}
SEED=${SEED:-1}
SAVE_DIR=${SAVE_DIR:-$OUT/batch-size/runs/$TASK-batch$BATCH-lambda$LAMBDA-tau$TAU-seed$SEED}

EPOCHS=10 TOTAL_BATCH=$BATCH
MODEL=(--arch roberta_base --max-positions 512)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
task_options "$TASK"
set_up_glue "$TASK" base
split_batch "$TOTAL_BATCH"
plan_updates "$TOTAL_BATCH"

run fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --scl-chunk-size "$CHUNK" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes "$NUM_CLASSES" "${TOKENS[@]}" \
    --distributed-world-size "$GPUS" --find-unused-parameters \
    --batch-size "$BATCH" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --save-dir "$SAVE_DIR" --log-format simple --log-interval 100 "$@"
test_best "$NUM_CLASSES"
