#!/usr/bin/env bash
# SupCon beside CE on the same few-shot samples: temperature and views chosen on validation.
#
# usage: examples/supcon/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

small=()
if [ -n "$SMOKE" ]; then
    TASKS=${TASKS:-SST-2} NUM_EXAMPLES=${NUM_EXAMPLES:-20} NUM_SAMPLES=${NUM_SAMPLES:-1}
    small=(--set "grid.first-stage.scl-temperature=[0.3]" --set "grid.first-stage.supcon-views=[2]")
fi
TASKS=${TASKS:-SST-2 QNLI MNLI}
NUM_EXAMPLES=${NUM_EXAMPLES:-100}
NUM_SAMPLES=${NUM_SAMPLES:-10}
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}

few_shot_table "$ROOT/examples/supcon/sweep.yaml" "$OUT/supcon/sweep" ${small[@]+"${small[@]}"} "$@"
