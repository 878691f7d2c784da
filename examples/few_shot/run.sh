#!/usr/bin/env bash
# The few-shot table in one command: draw samples, binarise them, train every trial, report.
#
# usage: examples/few_shot/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

small=()
if [ -n "$SMOKE" ]; then
    TASKS=${TASKS:-SST-2 QNLI} NUM_EXAMPLES=${NUM_EXAMPLES:-20} NUM_SAMPLES=${NUM_SAMPLES:-1}
    small=(--set "grid.scl-lambda=[0,0.9]" --set "grid.scl-temperature=[0.3]" --set "overrides=[]")
fi
TASKS=${TASKS:-SST-2 QNLI MNLI}
NUM_EXAMPLES=${NUM_EXAMPLES:-20 100 1000}
NUM_SAMPLES=${NUM_SAMPLES:-10}
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}

few_shot_table "$ROOT/examples/few_shot/sweep.yaml" "$OUT/few-shot/sweep" ${small[@]+"${small[@]}"} "$@"
