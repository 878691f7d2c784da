#!/usr/bin/env bash
# SCL with a queue beside CE and CE+SCL, all in small batches, on the same few-shot samples.
#
# usage: examples/moco/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

small=()
if [ -n "$SMOKE" ]; then
    TASKS=${TASKS:-SST-2} NUM_EXAMPLES=${NUM_EXAMPLES:-20} NUM_SAMPLES=${NUM_SAMPLES:-1}
    small=(--set "grid.scl-queue-size=[16]")
fi
TASKS=${TASKS:-SST-2 QNLI MNLI}
NUM_EXAMPLES=${NUM_EXAMPLES:-100}
NUM_SAMPLES=${NUM_SAMPLES:-10}
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}

few_shot_table "$ROOT/examples/moco/sweep.yaml" "$OUT/moco/sweep" ${small[@]+"${small[@]}"} "$@"
