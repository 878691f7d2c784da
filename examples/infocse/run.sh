#!/usr/bin/env bash
# Sentence embeddings from unlabelled text in one command: no training, SimCSE, InfoCSE in two stages,
# and with ABLATIONS=1 what InfoCSE's tables leave out or change; each on STS, in one report.
#
# usage: examples/infocse/run.sh [FAIRSEQ-TRAIN OPTION ...]
#
# environment: the variables below, and those of train.sh; SMOKE=1 runs it small on a CPU (README.md). A
# training that has ended is not run again; OUT is for one encoder, text, seed and set of options. An
# option goes to all trainings, one that only InfoCSE has to those of InfoCSE.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

FOLDER=$OUT/infocse
TEXT=${TEXT:-}           # folder with train.txt, a sentence a line; without: sentences of GLUE
GLUE=${GLUE:-glue}
NUM_LINES=${NUM_LINES:-100000} # of GLUE's
HUGGINGFACE=${HUGGINGFACE:-bert-base-uncased} # a local folder; embedded: all-MiniLM-L6-v2
STS=${STS:-SentEval/data/downstream}
ABLATIONS=${ABLATIONS:-}
SEED=${SEED:-1}
export GPUS=${GPUS:-1} LAMBDA=${LAMBDA:-0.005} SEED OUT DATA=$FOLDER/text-bin ENCODER=$FOLDER/encoder

source=${TEXT:-"$NUM_LINES sentences of GLUE"}
if [ -n "$SMOKE" ]; then
    HUGGINGFACE=embedded TEXT=$FOLDER/text STS=$FOLDER/text/sts source="generated text"
    STAGE_1_EPOCHS=1 EPOCHS=1
    PYTHONPATH=$ROOT python "$ROOT/examples/infocse/text.py" --smoke "$TEXT"
fi
[ -e "$STS/STSBenchmark/sts-dev.csv" ] || [ -e "$STS/STS/STSBenchmark/sts-dev.csv" ] ||
    fail "$STS has no STSBenchmark/sts-dev.csv, by which checkpoints are chosen; STS=... names" \
        "SentEval's data/downstream"
made_as="encoder $HUGGINGFACE, $source, seed $SEED, lambda $LAMBDA, ${STAGE_1_EPOCHS:-8} epochs of stage 1,"
made_as+=" ${EPOCHS:-1} of the others${*:+, $*}"
[ "$(cat "$FOLDER/made-as" 2>/dev/null || echo "$made_as")" = "$made_as" ] ||
    fail "$FOLDER is of $(cat "$FOLDER/made-as"), and this call of $made_as; OUT=... names another folder"
if [ ! -e "$FOLDER/made-as" ] && compgen -G "$FOLDER/runs/*/ended" >/dev/null; then
    fail "$FOLDER has trainings, and no made-as that says of what; OUT=... names another folder"
fi

if [ "$HUGGINGFACE" = embedded ]; then
    embedded_encoder
fi
export ENCODER
if [ ! -e "$FOLDER/made-as" ]; then
    mkdir -p "$FOLDER"
    if [ "$HUGGINGFACE" != embedded ]; then
        run scl-convert "$HUGGINGFACE" "$ENCODER" | tee "$ENCODER.log"
        sed -n 's/^ *--arch/--arch/p' "$ENCODER.log" >"$ENCODER/options"
    fi
    if [ -z "$TEXT" ]; then
        TEXT=$FOLDER/text
        PYTHONPATH=$ROOT python "$ROOT/examples/infocse/text.py" "$GLUE" "$TEXT" "$NUM_LINES"
    fi
    BPE=gpt2
    [ ! -e "$ENCODER/vocab.txt" ] || BPE=wordpiece
    run scl-preprocess --task lines --data-dir "$TEXT" --bpe "$BPE" --bpe-dir "$ENCODER" \
        --destdir "$DATA"
    echo "$made_as" >"$FOLDER/made-as"
fi

# trained NAME STAGE FROM [OPTION ...]: train it, and see which checkpoint is best on STS-B's dev set
trained() {
    local name=$1 stage=$2 from=$3 folder=$FOLDER/runs/$1
    shift 3
    if [ ! -e "$folder/ended" ]; then
        case $stage in simcse) options_of simcse "$@" ;; *) options_of infocse "$@" ;; esac
        STAGE=$stage FROM=$from SMOKE_FROM=$from SAVE_DIR=$folder \
            "$ROOT/examples/infocse/train.sh" ${OWN[@]+"${OWN[@]}"}
        touch "$folder/ended"
    fi
    [ "$stage" = 1 ] && return
    local path found=()
    for path in "$folder"/checkpoint_*_*.pt "$folder/checkpoint_last.pt"; do
        [ ! -e "$path" ] || found+=("$path")
    done
    [ -e "$folder/dev.json" ] || run scl-evaluate "${found[@]}" --sts "$STS" --embedding cls \
        --json "$folder/dev.json"
    names+=("${label:-$name}")
    paths+=("$(PYTHONPATH=$ROOT python "$ROOT/examples/infocse/best.py" "$folder/dev.json" cls)")
}

# report TABLE: the trainings so far
report() {
    run scl-evaluate "${paths[@]}" --name "${names[@]}" --sts "$STS" --embedding cls mean \
        --json "$FOLDER/$1.json"
    run scl-report "$FOLDER/$1.json" --published "$1" ${title[@]+"${title[@]}"} --out "$FOLDER/$1.md"
    printf '\n- %s\n' "Ours: $made_as. The checkpoint of each training is the best on STS-B's dev set by CLS." \
        >>"$FOLDER/$1.md"
    [ "$HUGGINGFACE" != embedded ] || about_embedded "$FOLDER/$1.md"
    cat "$FOLDER/$1.md"
}

first=$FOLDER/runs/stage-1/checkpoint_last.pt
title=()
[ -z "$SMOKE" ] || title=(--title "Smoke run on generated data, no result")
names=("no training") paths=("$ENCODER/model.pt")
label=SimCSE trained simcse simcse "$ENCODER/model.pt" "$@"
trained stage-1 1 "$ENCODER/model.pt" "$@"
label=InfoCSE trained stage-2 2 "$first" "$@"
report sts
if [ -n "$ABLATIONS" ]; then
    label='without pre-training' trained without-stage-1 2 "$ENCODER/model.pt" "$@"
    label='without detach' trained without-detach 2 "$first" --infocse-no-detach "$@"
    label='without MLM' trained without-mlm 2 "$first" --infocse-lambda 0 "$@"
    label='without contrast' trained without-contrast 2 "$first" --infocse-contrast 0 "$@"
    label='with RTD (DiffCSE)' trained rtd 2 "$first" --infocse-lambda 0 --infocse-rtd "$LAMBDA" "$@"
    label='with RTD + MLM' trained rtd-and-mlm 2 "$first" --infocse-rtd "$LAMBDA" "$@"
    for rate in 10 15 20 25 30 35 45; do
        label="mask rate $rate %" trained "mask-rate-$rate" 2 "$first" --mask-rate "0.$rate" "$@"
    done
    report sts-ablation
fi
