#!/usr/bin/env bash
# The table of full GLUE tasks in one command: binarise the tasks, train every trial, report.
#
# usage: examples/glue/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

small=()
if [ -n "$SMOKE" ]; then TASKS=${TASKS:-MNLI} SEEDS=${SEEDS:-1 2} small=(--set "overrides=[]"); fi
TASKS=${TASKS:-SST-2 CoLA MRPC RTE QNLI MNLI}
SEEDS=${SEEDS:-1 2 3 4 5 6 7 8 9 10}
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}
IFS=$', \t\n' read -r -d '' -a tasks <<<"$TASKS" || true
IFS=$', \t\n' read -r -d '' -a seeds <<<"$SEEDS" || true

[ -n "$SMOKE" ] || need_checkpoint large
set_up_text "${tasks[@]}"
for task in "${tasks[@]}"; do binarize_glue "$task"; done
sweep_and_report "$ROOT/examples/glue/sweep.yaml" "$OUT/glue/sweep" \
    --set "data=$OUT/data/{task}-bin" --set "grid.task=$(listed "${tasks[@]}")" \
    --set "grid.seed=$(listed "${seeds[@]}")" ${small[@]+"${small[@]}"} "$@"
