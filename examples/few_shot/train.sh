#!/usr/bin/env bash
# One trial of the few-shot table: RoBERTa-Large on one sample of N examples, CE+SCL.
#
# usage: examples/few_shot/train.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

TASK=${TASK:-SST-2} # SST-2, QNLI, MNLI
N=${N:-20}          # 20, 100, 1000
SAMPLE=${SAMPLE:-0} # 0 to 9
DATA=${DATA:-$OUT/few-shot/data/$TASK/$N/bin/sample$SAMPLE} # from scl-sample and scl-preprocess
ROBERTA=${ROBERTA:-roberta.large/model.pt}
GPUS=${GPUS:-1}       # they share the batch of 16
LAMBDA=${LAMBDA:-0.9} # 0: CE
TAU=${TAU:-0.3}
SEED=${SEED:-1}
SAVE_DIR=${SAVE_DIR:-$OUT/few-shot/runs/$TASK-$N-sample$SAMPLE-lambda$LAMBDA-tau$TAU-seed$SEED}

whole_number N
# The paper does not say how long it trains: 200, 350 and 630 updates for 20, 100 and 1000 examples.
EPOCHS=10 INTERVAL=1
if [ "$N" -le 20 ]; then EPOCHS=100 INTERVAL=5; elif [ "$N" -le 100 ]; then EPOCHS=50; fi
MODEL=(--arch roberta_large --max-positions 512)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
task_options "$TASK"
set_up_few_shot "$TASK" "$N" "$SAMPLE"
split_batch 16
plan_updates 16

run fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes "$NUM_CLASSES" "${TOKENS[@]}" \
    --distributed-world-size "$GPUS" --find-unused-parameters \
    --batch-size "$BATCH" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --validate-interval "$INTERVAL" --save-interval "$INTERVAL" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --no-last-checkpoints --no-save-optimizer-state \
    --save-dir "$SAVE_DIR" --log-format simple --log-interval 10 "$@"
test_best "$NUM_CLASSES"
