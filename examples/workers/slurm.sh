#!/usr/bin/env bash
# SST-2 on the nodes of a Slurm job: RoBERTa-Large with CE+SCL, contrast over all GPUs' sentences.
#
# usage: examples/workers/slurm.sh [FAIRSEQ-TRAIN OPTION ...]
# example: sbatch --nodes 2 --gpus-per-node 4 --cpus-per-task 16 examples/workers/slurm.sh
#
# Within salloc it runs without sbatch. One task a node starts a process for each of its GPUs.
# environment: the variables below; SMOKE=1 runs it small, as two processes on a CPU, in a job of
# several nodes as a process on the CPU of each (README.md)
#SBATCH --job-name=scl
#SBATCH --ntasks-per-node=1
set -euo pipefail
# Slurm runs a copy of this file; the clone is where sbatch was called, or CLONE.
here=$(dirname "${BASH_SOURCE[0]}")
[ -e "$here/../common.sh" ] || here=${CLONE:-$SLURM_SUBMIT_DIR}/examples/workers
. "$here/../common.sh"

DATA=${DATA:-$OUT/data/SST-2-bin} # what scl-preprocess --split paper wrote
ROBERTA=${ROBERTA:-roberta.large/model.pt}
GPUS_PER_NODE=${GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-}}
PORT=${PORT:-29500}   # of the first node, for fairseq to meet at
BATCH=${BATCH:-16}    # per GPU; contrast is over all
CHUNK=${CHUNK:-0}     # sentences at a time, where a GPU does not hold BATCH; 0: all
LAMBDA=${LAMBDA:-0.9} # 0: CE
TAU=${TAU:-0.3}
SEED=${SEED:-1}
is_on_nodes=
if [ -n "$SMOKE" ]; then
    [ "${SLURM_NNODES:-1}" = 1 ] || is_on_nodes=1
    PROCESSES=${is_on_nodes:+$SLURM_NNODES}
    GPUS=${PROCESSES:=2}
else
    [ -n "${SLURM_JOB_ID:-}" ] || fail "this is no Slurm job; start it by sbatch, or within salloc"
    whole_number GPUS_PER_NODE
    GPUS=$((SLURM_NNODES * GPUS_PER_NODE))
fi
SAVE_DIR=${SAVE_DIR:-$OUT/workers/SST-2-lambda$LAMBDA-tau$TAU-gpus$GPUS-batch$BATCH-seed$SEED}

EPOCHS=10
MODEL=(--arch roberta_large --max-positions 512)
TOKENS=(--init-token 0)
PRECISION=(--fp16 --fp16-init-scale 4 --threshold-loss-scale 1 --fp16-scale-window 128)
set_up_glue SST-2 large
[ -z "$SMOKE" ] || GPUS=$PROCESSES # a smoke run's model asks for one
share_batch $((GPUS * BATCH))
plan_updates $((GPUS * BATCH))
# Since 22.05 srun does not look at what sbatch was told.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
launch=(run srun --ntasks-per-node=1 fairseq-train)
if [ -n "$is_on_nodes" ]; then
    # fairseq counts the GPUs of each node, of which there are none: each task is told its rank.
    first=$(scontrol show hostnames | head -n 1)
    launch=(run srun --ntasks-per-node=1 bash -c '"$@" --distributed-rank "$SLURM_PROCID"' task fairseq-train)
    set -- --distributed-backend gloo --distributed-no-spawn \
        --distributed-init-method "tcp://$first:$PORT" "$@"
elif [ -n "$SMOKE" ]; then
    launch=(on_cpu "$GPUS" fairseq-train)
fi

"${launch[@]}" "$DATA" --user-dir "$USER_DIR" \
    --criterion sentence_prediction_scl --scl-lambda "$LAMBDA" --scl-temperature "$TAU" \
    --scl-gather all --scl-chunk-size "$CHUNK" \
    --finetune-from-model "$ROBERTA" "${MODEL[@]}" \
    --task sentence_prediction --num-classes 2 "${TOKENS[@]}" \
    --distributed-world-size "$GPUS" --distributed-port "$PORT" \
    --ddp-backend legacy_ddp --batch-size "$BATCH" --required-batch-size-multiple 1 \
    "${PRECISION[@]}" \
    --optimizer adam --adam-betas "(0.9,0.98)" --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 \
    --lr 1e-05 --lr-scheduler polynomial_decay \
    --total-num-update "$UPDATES" --warmup-updates "$WARMUP" --max-epoch "$EPOCHS" \
    --dropout 0.1 --attention-dropout 0.1 --seed "$SEED" \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --no-epoch-checkpoints --save-dir "$SAVE_DIR" --log-format simple --log-interval 100 "$@"
# On this node alone: fairseq looks for the whole job otherwise.
unset SLURM_JOB_NODELIST SLURM_STEP_NODELIST
test_best 2
