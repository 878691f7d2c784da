#!/usr/bin/env bash
# The batch-size ablation in one command: binarise the tasks, train every trial, report.
#
# usage: examples/batch_size/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). An interrupted run is
# taken up where it stopped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

if [ -n "$SMOKE" ]; then TASKS=${TASKS:-CoLA} BATCHES=${BATCHES:-16 64}; fi
TASKS=${TASKS:-SST-2 CoLA QNLI}
BATCHES=${BATCHES:-16 64 256}
SEEDS=${SEEDS:-1}
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.base/model.pt}
IFS=$', \t\n' read -r -d '' -a tasks <<<"$TASKS" || true
IFS=$', \t\n' read -r -d '' -a batches <<<"$BATCHES" || true
IFS=$', \t\n' read -r -d '' -a seeds <<<"$SEEDS" || true

[ -n "$SMOKE" ] || need_checkpoint base
set_up_text "${tasks[@]}"
for task in "${tasks[@]}"; do binarize_glue "$task"; done
sweep_and_report "$ROOT/examples/batch_size/sweep.yaml" "$OUT/batch-size/sweep" \
    --set "data=$OUT/data/{task}-bin" --set "grid.task=$(listed "${tasks[@]}")" \
    --set "grid.batch-size=$(listed "${batches[@]}")" --set "grid.seed=$(listed "${seeds[@]}")" "$@"
