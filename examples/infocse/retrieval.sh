#!/usr/bin/env bash
# Sentence vectors on BEIR: each checkpoint as a sentence-transformers folder, which BEIR's own package
# scores, and a report beside InfoCSE's table.
#
# usage: examples/infocse/retrieval.sh [NAME=CHECKPOINT ...]
#
# Without any: what run.sh scored on STS, as OUT/infocse/sts.json has it.
#
# environment: the variables below; SMOKE=1 runs it small on a CPU (README.md). What was scored is not
# scored again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

FOLDER=$OUT/infocse
BEIR=${BEIR:-beir}           # a folder of data sets, as BEIR's archives unpack: beir/scifact, ...
EMBEDDING=${EMBEDDING:-cls}  # or mean
HUGGINGFACE=${HUGGINGFACE:-} # embedded: the report says how that encoder was trained

if [ -n "$SMOKE" ]; then
    BEIR=$FOLDER/beir HUGGINGFACE=embedded
    PYTHONPATH=$ROOT python "$ROOT/examples/infocse/retrieval_data.py" --smoke "$BEIR"
    if [ $# = 0 ] && [ ! -e "$FOLDER/sts.json" ]; then
        embedded_encoder
        set -- "no training=$ENCODER/model.pt"
    fi
fi
if [ $# = 0 ]; then
    [ -e "$FOLDER/sts.json" ] || fail "$FOLDER/sts.json is missing; examples/infocse/run.sh writes" \
        "it, or name checkpoints: examples/infocse/retrieval.sh NAME=CHECKPOINT"
    while IFS= read -r given; do set -- "$@" "$given"; done < <(python -c 'import json, sys
for one in json.load(open(sys.argv[1], encoding="utf-8"))["checkpoints"]:
    if one["embedding"] == "cls":
        print(one["name"], one["path"], sep="=")' "$FOLDER/sts.json")
fi
[ -n "$(find "$BEIR" -maxdepth 3 -name corpus.jsonl -print -quit 2>/dev/null)" ] ||
    fail "$BEIR has no data set; put those of BEIR there, BEIR=... names another folder"

models=() folders=' '
for given; do
    name=${given%%=*} checkpoint=${given#*=}
    if [ -z "$name" ] || [ "$name" = "$given" ] || [ ! -e "$checkpoint" ]; then
        fail "$given is not NAME=CHECKPOINT with a checkpoint that is there"
    fi
    exported=${name//[\/[:space:]]/-}-$EMBEDDING
    [[ $folders != *" $exported "* ]] ||
        fail "$name: another of the names stands for the folder $exported too; choose another name"
    folders+="$exported "
    exported=$FOLDER/exported/$exported
    run scl-convert --to sentence-transformers --pooling "$EMBEDDING" "$checkpoint" "$exported"
    models+=("$name ($EMBEDDING)=$exported")
done
PYTHONPATH=$ROOT python "$ROOT/examples/infocse/retrieval.py" "$FOLDER/beir.json" "$BEIR" "${models[@]}"
title=()
[ -z "$SMOKE" ] || title=(--title "Smoke run on generated data, no result")
run scl-report "$FOLDER/beir.json" --published beir ${title[@]+"${title[@]}"} \
    --out "$FOLDER/beir.md"
[ "$HUGGINGFACE" != embedded ] || about_embedded "$FOLDER/beir.md"
cat "$FOLDER/beir.md"
