#!/usr/bin/env bash
# Train by one of the hydra configurations, which want absolute paths.
#
# usage: examples/hydra_train.sh CONFIG.yaml [KEY=VALUE ...]
#
# environment: DATA, ROBERTA, SAVE_DIR as in the recipe beside it; SMOKE=1 runs two updates on a CPU
#
# example:
#   examples/hydra_train.sh examples/glue/config/rte.yaml criterion.scl_lambda=0
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

config=${1:-}
[ -f "$config" ] || fail "one of examples/*/config/*.yaml is expected (see $0 --help), got '$config'"
shift
name=$(basename "$config" .yaml)
case $name in
    sst2) task=SST-2 ;;
    cola) task=CoLA ;;
    *) task=$(tr '[:lower:]' '[:upper:]' <<<"$name") ;;
esac
size=$(sed -n 's/^  _name: roberta_\(base\|large\)$/\1/p' "$config")
family=$(basename "$(dirname "$(dirname "$config")")")
SAVE_DIR=${SAVE_DIR:-$OUT/hydra/$family/$name}
ROBERTA=${ROBERTA:-roberta.$size/model.pt}
smoke=()
case $family in
    few_shot) DATA=${DATA:-$OUT/few-shot/data/$task/20/bin/sample0}; set_up_few_shot "$task" 20 0 ;;
    *) DATA=${DATA:-$OUT/data/$task-bin}; set_up_glue "$task" "$size" ;;
esac

if [ -n "$SMOKE" ]; then
    smoke=(common.fp16=false common.cpu=true optimization.max_update=2 dataset.data_buffer_size=0)
    ! grep -q separator_token "$config" || smoke+=(task.separator_token=null)
    for ((index = 0; index < ${#ENCODER_OPTIONS[@]}; index += 2)); do
        option=${ENCODER_OPTIONS[index]#--} value=${ENCODER_OPTIONS[index + 1]}
        case $option in arch | max-positions) continue ;; esac
        smoke+=("+model.${option//-/_}=$value")
    done
fi
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac }
run fairseq-hydra-train --config-dir "$(absolute "$(dirname "$config")")" --config-name "$name" \
    hydra.run.dir="$(absolute "$SAVE_DIR")" common.user_dir="$USER_DIR" \
    task.data="$(absolute "$DATA")" \
    checkpoint.finetune_from_model="$(absolute "$ROBERTA")" ${smoke[@]+"${smoke[@]}"} "$@"
