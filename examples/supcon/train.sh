#!/usr/bin/env bash
# SupCon on one few-shot sample of N examples, RoBERTa-Large: first the encoder with a projection head,
# without a classifier, then a linear classifier on the frozen encoder.
#
# usage: examples/supcon/train.sh [FAIRSEQ-TRAIN OPTION ...]
#
# An option is given to both stages, one that only one of their criterions has to its stage.
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
GPUS=${GPUS:-1}       # they share the batch of 16
VIEWS=${VIEWS:-2}     # of each sentence, by dropout
TAU=${TAU:-0.3}
EPOCHS=${EPOCHS:-50}  # of each stage
SEED=${SEED:-1}
SAVE_DIR=${SAVE_DIR:-$OUT/supcon/runs/$TASK-$N-sample$SAMPLE-views$VIEWS-tau$TAU-seed$SEED}

whole_number N
whole_number EPOCHS
MODEL=(--arch roberta_large --max-positions 512)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
task_options "$TASK"
set_up_few_shot "$TASK" "$N" "$SAMPLE"
split_batch 16
plan_updates 16
echo "views: $VIEWS of each sentence, so $((16 * VIEWS)) rows in a batch of 16"

shared=(
    --task sentence_prediction --num-classes "$NUM_CLASSES" "${TOKENS[@]}"
    --distributed-world-size "$GPUS" --find-unused-parameters
    --batch-size "$BATCH" --required-batch-size-multiple 1 "${PRECISION[@]}"
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --clip-norm 0.0
    --lr-scheduler polynomial_decay --total-num-update "$UPDATES" --warmup-updates "$WARMUP"
    --max-epoch "$EPOCHS" --dropout 0.1 --attention-dropout 0.1 --seed "$SEED"
    --no-epoch-checkpoints --no-save-optimizer-state --log-format simple --log-interval 10
)
options_of supcon "$@"
run fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion supcon --supcon-views "$VIEWS" --scl-temperature "$TAU" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" "${shared[@]}" \
    --lr 1e-05 --weight-decay 0.1 --disable-validation --save-interval "$EPOCHS" \
    --save-dir "$SAVE_DIR/first-stage" ${OWN[@]+"${OWN[@]}"}
options_of sentence_prediction_scl "$@"
run fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda 0 --freeze-encoder --pooler-activation-fn linear \
    --finetune-from-model "$SAVE_DIR/first-stage/checkpoint_last.pt" "${MODEL[@]}" "${shared[@]}" \
    --lr 1e-02 --weight-decay 0.0 --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-last-checkpoints --save-dir "$SAVE_DIR" ${OWN[@]+"${OWN[@]}"}
test_best "$NUM_CLASSES"
