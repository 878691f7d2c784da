#!/usr/bin/env bash
# CE, CE+SCL, SupCon and SCL with a queue on the same few-shot samples, in one command.
#
# usage: examples/systems/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

if [ -n "$SMOKE" ]; then
    TASKS=${TASKS:-SST-2} NUM_EXAMPLES=${NUM_EXAMPLES:-20} NUM_SAMPLES=${NUM_SAMPLES:-1}
fi
TASKS=${TASKS:-SST-2 QNLI MNLI}
NUM_EXAMPLES=${NUM_EXAMPLES:-100}
NUM_SAMPLES=${NUM_SAMPLES:-10}
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}

few_shot_table "$ROOT/examples/systems/sweep.yaml" "$OUT/systems/sweep" "$@"
