#!/usr/bin/env bash
# One training of sentence embeddings on unlabelled lines: SimCSE, or a stage of InfoCSE.
#
# usage: examples/infocse/train.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). A further option takes
# the place of the same one here: --infocse-no-detach, --mask-rate 0.15, --text-columns 3.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

STAGE=${STAGE:-simcse} # simcse; 1: InfoCSE's auxiliary network and the encoder learn to fill masks; 2
DATA=${DATA:-$OUT/infocse/text-bin}      # what scl-preprocess --task lines wrote
ENCODER=${ENCODER:-$OUT/infocse/encoder} # model.pt and options, as run.sh has scl-convert write them
FROM=${FROM:-$ENCODER/model.pt}          # stage 2: what stage 1 left
GPUS=${GPUS:-1}                          # 0: a CPU
SEED=${SEED:-1}
LAMBDA=${LAMBDA:-0.005} # of L_aux, in stage 2
SAVE_DIR=${SAVE_DIR:-$OUT/infocse/runs/$STAGE-seed$SEED}

TOTAL_BATCH=64 EPOCHS=${EPOCHS:-1} LR=3e-05 WARM=0 OBJECTIVE=(--criterion simcse)
# All checkpoints are kept, for STS-B's dev set to choose among them.
SAVE=(--save-interval-updates "${SAVE_EVERY:-250}")
case $STAGE in
    simcse) ;;
    1)
        TOTAL_BATCH=1024 EPOCHS=${STAGE_1_EPOCHS:-8} LR=1e-04 WARM=1
        OBJECTIVE=(--criterion infocse --infocse-contrast 0 --infocse-lambda 1 --infocse-mlm 1)
        SAVE=(--save-interval-updates "${SAVE_EVERY:-25}" --keep-interval-updates 1)
        ;;
    2) OBJECTIVE=(--criterion infocse --infocse-lambda "$LAMBDA") ;;
    *) fail "STAGE=$STAGE, expected simcse, 1 or 2" ;;
esac
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
if [ -n "$SMOKE" ]; then
    embedded_encoder
    GPUS=0 TOTAL_BATCH=32 EPOCHS=1 FROM=${SMOKE_FROM:-$ENCODER/model.pt} DATA=$OUT/infocse/text-bin
    if [ ! -e "$DATA/train.idx" ]; then
        PYTHONPATH=$ROOT python "$ROOT/examples/infocse/text.py" --smoke "$OUT/infocse/text"
        run scl-preprocess --task lines --data-dir "$OUT/infocse/text" --bpe wordpiece \
            --bpe-dir "$ENCODER" --destdir "$DATA"
    fi
fi
[ -e "$DATA/train.idx" ] || fail "$DATA holds no binarised lines; make it with: scl-preprocess" \
    "--task lines --data-dir FOLDER --bpe wordpiece --bpe-dir $ENCODER --destdir $DATA"
[ -e "$FROM" ] || fail "$FROM is missing; examples/infocse/run.sh converts an encoder to it," \
    "FROM=... names another checkpoint"
[ -e "$ENCODER/options" ] || fail "$ENCODER/options, the encoder's sizes, is missing; run.sh writes it"
IFS=' ' read -r -a MODEL <"$ENCODER/options"
if [ "$GPUS" = 0 ]; then
    GPUS=1 PRECISION=(--cpu --scl-packed)
fi
# One GPU takes a large batch in parts. L_aux and L_mlm are means over the masked tokens of a part,
# which weigh as much as its sentences; nothing is contrasted in stage 1.
BATCH=$((TOTAL_BATCH / GPUS < 128 ? TOTAL_BATCH / GPUS : 128))
share_batch "$TOTAL_BATCH"
plan_updates "$TOTAL_BATCH"
[ "$WARM" = 1 ] || WARMUP=0

run fairseq-train "$DATA" --user-dir "$USER_DIR" --task sentence_embedding --max-length 32 \
    "${OBJECTIVE[@]}" --finetune-from-model "$FROM" "${MODEL[@]}" \
    --distributed-world-size "$GPUS" --ddp-backend legacy_ddp \
    --batch-size "$BATCH" --update-freq "$UPDATE_FREQ" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.999)" --adam-eps 1e-08 --weight-decay 0.0 --clip-norm 1.0 \
    --lr "$LR" --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    "${SAVE[@]}" --no-epoch-checkpoints --save-dir "$SAVE_DIR" --log-format simple --log-interval 50 "$@"
