#!/usr/bin/env bash
# The table of noisy training sets in one command: draw samples of N = 100, back-translate them at
# each temperature, binarise, train every trial, report.
#
# usage: examples/noise/run.sh [SCL-SWEEP OPTION ...]
#
# environment: the variables below; SMOKE=1 runs it small on a CPU, with translation models that it
# trains itself (README.md). An interrupted run is taken up where it stopped.
set -euo pipefail
SMOKE_TRAIN=${SMOKE_TRAIN:-112} # more than the 100 that are drawn
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

GPUS=${GPUS:-} # which, by number, e.g. 0,1; all by default
small=() title=()
if [ -n "$SMOKE" ]; then
    TASKS=${TASKS:-SST-2} NUM_SAMPLES=${NUM_SAMPLES:-1} TEMPERATURES=${TEMPERATURES:-0.9}
    RATIO=${RATIO:-1} KEEP=${KEEP:-best}
    MODELS=${SMOKE_MODELS:-$OUT/models}
    FORWARD="$MODELS/en-xx checkpoint_file=model1.pt:model2.pt tokenizer=moses bpe=fastbpe"
    BACKWARD="$MODELS/xx-en bpe=sentencepiece"
    AUGMENT_OPTIONS=${AUGMENT_OPTIONS:---device cpu}
    title=(--title "Smoke run on generated data, no result")
    small=(--set "grid.scl-lambda=[0,0.9]" --set "grid.scl-temperature=[0.3]" --set "overrides=[]")
fi
TASKS=${TASKS:-SST-2 QNLI MNLI}
TEMPERATURES=${TEMPERATURES:-0.3 0.5 0.7 0.9}
RATIO=${RATIO:-3} # back-translations of each sentence
NUM_SAMPLES=${NUM_SAMPLES:-10}
# Model, then arguments of fairseq's hub: a name of the hub is downloaded, a folder is used as it is.
ENSEMBLE=checkpoint_file=model1.pt:model2.pt:model3.pt:model4.pt
FORWARD=${FORWARD:-transformer.wmt19.en-de $ENSEMBLE tokenizer=moses bpe=fastbpe}
BACKWARD=${BACKWARD:-transformer.wmt19.de-en $ENSEMBLE tokenizer=moses bpe=fastbpe}
AUGMENT_OPTIONS=${AUGMENT_OPTIONS:---fp16}
KEEP=${KEEP:-none} # best: checkpoints for the figures, 1.4 GB a trial
GLUE=${GLUE:-glue}
BPE_DIR=${BPE_DIR:-gpt2_bpe}
ROBERTA=${ROBERTA:-roberta.large/model.pt}
IFS=$', \t\n' read -r -d '' -a tasks <<<"$TASKS" || true
IFS=$', \t\n' read -r -d '' -a temperatures <<<"$TEMPERATURES" || true
IFS=$' \t\n' read -r -d '' -a forward <<<"$FORWARD" || true
IFS=$' \t\n' read -r -d '' -a backward <<<"$BACKWARD" || true
IFS=$' \t\n' read -r -d '' -a augment_options <<<"$AUGMENT_OPTIONS" || true
whole_number NUM_SAMPLES
whole_number RATIO
[ -z "$GPUS" ] || export CUDA_VISIBLE_DEVICES=$GPUS

[ -n "$SMOKE" ] || need_checkpoint large
set_up_text "${tasks[@]}"
if [ -n "$SMOKE" ] && [ ! -e "$MODELS/xx-en/model.pt" ]; then
    PYTHONPATH=$ROOT run python "$ROOT/examples/noise/toy_models.py" "$MODELS"
fi

# binarize TASK TEXT DESTINATION: what is there stays, unless the text is newer or the BPE another.
binarize() {
    local made_as="in $BPE of $BPE_DIR"
    if [ -z "$SMOKE" ] && [ "$(cat "$3.made-as" 2>/dev/null)" = "$made_as" ] &&
        [ "$3.made-as" -nt "$2/manifest.json" ]; then
        echo "$3 is there, $made_as"
        return
    fi
    rm -f "$3.made-as"
    run scl-preprocess --task "$1" --data-dir "$2" --bpe "$BPE" --bpe-dir "$BPE_DIR" --destdir "$3"
    echo "$made_as" >"$3.made-as"
}

data=$OUT/noise/data
for task in "${tasks[@]}"; do
    draw_samples "$task" 100 "$NUM_SAMPLES"
    for ((sample = 0; sample < NUM_SAMPLES; sample++)); do
        original=$OUT/few-shot/data/$task/100/text/sample$sample
        text=$data/$task/text/sample$sample
        run scl-augment --task "$task" --sample "$original" --temperature "${temperatures[@]}" \
            --ratio "$RATIO" --seed 1 --out "$text" --forward "${forward[@]}" \
            --backward "${backward[@]}" "${augment_options[@]}"
        binarize "$task" "$original" "$data/$task/bin/T0/sample$sample"
        for temperature in "${temperatures[@]}"; do
            binarize "$task" "$text/T$temperature" "$data/$task/bin/T$temperature/sample$sample"
        done
    done
done
sweep_and_report "$ROOT/examples/noise/sweep.yaml" "$OUT/noise/sweep" \
    --set "data=$data/{task}/bin/T{noise}/sample{sample}" --keep "$KEEP" \
    --set "grid.task=$(listed "${tasks[@]}")" --set "grid.noise=$(listed 0 "${temperatures[@]}")" \
    --set "grid.sample=$(listed $(seq 0 $((NUM_SAMPLES - 1))))" \
    ${small[@]+"${small[@]}"} "$@"
if [ "$KEEP" != none ]; then
    for task in "${tasks[@]}"; do
        run scl-plot drift "$OUT/noise/sweep" --task "$task" --tsne "$OUT/noise/tsne-$task.png" \
            --out "$OUT/noise/drift-$task.png" ${title[@]+"${title[@]}"}
    done
fi
