#!/usr/bin/env bash
# SST-2 on all GPUs of one node: RoBERTa-Large with CE+SCL, contrast over the sentences of all GPUs.
#
# usage: examples/workers/torchrun.sh [FAIRSEQ-TRAIN OPTION ...]
# example: GPUS=4 examples/workers/torchrun.sh
#
# environment: the variables below; SMOKE=1 runs it small, as two processes on a CPU (README.md)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

DATA=${DATA:-$OUT/data/SST-2-bin} # what scl-preprocess --split paper wrote
ROBERTA=${ROBERTA:-roberta.large/model.pt}
GPUS=${GPUS:-4}
[ -z "$SMOKE" ] || GPUS=2
BATCH=${BATCH:-16}    # per GPU; contrast is over all
CHUNK=${CHUNK:-0}     # sentences at a time, where a GPU does not hold BATCH; 0: all
LAMBDA=${LAMBDA:-0.9} # 0: CE
TAU=${TAU:-0.3}
SEED=${SEED:-1}
SAVE_DIR=${SAVE_DIR:-$OUT/workers/SST-2-lambda$LAMBDA-tau$TAU-gpus$GPUS-batch$BATCH-seed$SEED}

EPOCHS=10
MODEL=(--arch roberta_large --max-positions 512)
TOKENS=(--init-token 0)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
set_up_glue SST-2 large
[ -z "$SMOKE" ] || GPUS=2 # a smoke run's model asks for one
share_batch $((GPUS * BATCH))
plan_updates $((GPUS * BATCH))
launch=(run torchrun --standalone --nproc_per_node "$GPUS" --no_python fairseq-train)
[ -z "$SMOKE" ] || launch=(on_cpu "$GPUS" fairseq-train)

"${launch[@]}" "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --scl-gather all --scl-chunk-size "$CHUNK" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes 2 "${TOKENS[@]}" \
    --ddp-backend legacy_ddp --batch-size "$BATCH" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --save-dir "$SAVE_DIR" --log-format simple --log-interval 100 "$@"
test_best 2
