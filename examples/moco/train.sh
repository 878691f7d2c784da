#!/usr/bin/env bash
# CE+SCL with a queue on one few-shot sample of N examples, RoBERTa-Large in batches of 4, as if a GPU
# held no more: a sentence is contrasted with its batch and with the last QUEUE keys.
#
# usage: examples/moco/train.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

[ -z "$SMOKE" ] || N=${N:-20}
TASK=${TASK:-SST-2} # SST-2, QNLI, MNLI
N=${N:-100}         # 20, 100, 1000
SAMPLE=${SAMPLE:-0} # 0 to 9
DATA=${DATA:-$OUT/few-shot/data/$TASK/$N/bin/sample$SAMPLE} # from scl-sample and scl-preprocess
ROBERTA=${ROBERTA:-roberta.large/model.pt}
GPUS=${GPUS:-1}
BATCH=${BATCH:-4}       # of each GPU; all together make 16 an update
QUEUE=${QUEUE:-64}      # keys; 0: none
MOMENTUM=${MOMENTUM:-0} # of the copy that makes keys; 0: they are the embeddings of training itself
LAMBDA=${LAMBDA:-0.9}
TAU=${TAU:-0.3}
EPOCHS=${EPOCHS:-50}
SEED=${SEED:-1}
name=$TASK-$N-sample$SAMPLE-batch$BATCH-queue$QUEUE-momentum$MOMENTUM-lambda$LAMBDA-tau$TAU-seed$SEED
SAVE_DIR=${SAVE_DIR:-$OUT/moco/runs/$name}

whole_number N
whole_number EPOCHS
MODEL=(--arch roberta_large --max-positions 512)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
task_options "$TASK"
set_up_few_shot "$TASK" "$N" "$SAMPLE"
share_batch 16
plan_updates 16
echo "queue: $QUEUE keys of earlier batches beside them, momentum $MOMENTUM"

run fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --scl-queue-size "$QUEUE" --scl-momentum "$MOMENTUM" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes "$NUM_CLASSES" "${TOKENS[@]}" \
    --distributed-world-size "$GPUS" --find-unused-parameters \
    --batch-size "$BATCH" --update-freq "$UPDATE_FREQ" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --no-last-checkpoints --no-save-optimizer-state \
    --save-dir "$SAVE_DIR" --log-format simple --log-interval 10 "$@"
test_best "$NUM_CLASSES"
