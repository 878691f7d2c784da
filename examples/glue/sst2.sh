#!/usr/bin/env bash
# SST-2, the whole data set: RoBERTa-Large with CE+SCL, one cell of the table of full GLUE tasks.
#
# usage: examples/glue/sst2.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

DATA=${DATA:-$OUT/data/SST-2-bin} # what scl-preprocess --split paper wrote
ROBERTA=${ROBERTA:-roberta.large/model.pt}
GPUS=${GPUS:-1}
BATCH=${BATCH:-16}     # per GPU; contrast is over all
LAMBDA=${LAMBDA:-0.9}  # 0: CE
TAU=${TAU:-0.3}
SEED=${SEED:-1}
SAVE_DIR=${SAVE_DIR:-$OUT/glue/SST-2/lambda$LAMBDA-tau$TAU-gpus$GPUS-batch$BATCH-seed$SEED}

TOTAL_BATCH=32 UPDATES=20935 WARMUP=1256 EPOCHS=10
MODEL=(--arch roberta_large --max-positions 512)
TOKENS=(--init-token 0)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
set_up_glue SST-2 large
share_batch "$TOTAL_BATCH"
[ -z "$SMOKE" ] || plan_updates "$TOTAL_BATCH"

run fairseq-train "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes 2 "${TOKENS[@]}" \
    --distributed-world-size "$GPUS" --find-unused-parameters \
    --batch-size "$BATCH" --update-freq "$UPDATE_FREQ" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --save-dir "$SAVE_DIR" \
    --log-format simple --log-interval 100 "$@"
test_best 2
