# shellcheck shell=bash
# What the recipes share; they source this file, and it gives them
#
#   ROOT, USER_DIR      the clone, and what to pass as --user-dir
#   OUT                 folder for everything they write (outputs)
#   set_up_glue, set_up_few_shot, share_batch, split_batch, plan_updates, run, on_cpu, test_best:
#                       for one training
#   options_of, is_trained: for several, one after another
#   set_up_text, binarize_glue, draw_samples, sweep_and_report, few_shot_table: for a whole table
#   about_embedded:     for a report on the embedded encoder
#
# SMOKE=1 in the environment runs a recipe whole but small: on a CPU, with generated data and the
# embedded encoder in place of DATA and ROBERTA, below OUT (outputs/smoke).
# shellcheck disable=SC2034  # much is used by the recipes alone

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
USER_DIR=$ROOT/scl_fairseq
SMOKE=${SMOKE:-}
[ "$SMOKE" != 0 ] || SMOKE=
OUT=${OUT:-outputs${SMOKE:+/smoke}}
# Half a minute on two cores. --split paper takes SMOKE_DEV rows of SMOKE_TRAIN for validation.
SMOKE_TRAIN=${SMOKE_TRAIN:-96}
SMOKE_DEV=${SMOKE_DEV:-32}
SMOKE_EPOCHS=${SMOKE_EPOCHS:-1}
# On two cores that are busy, threads wait for one another: half a minute becomes two.
[ -z "$SMOKE" ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Labels, texts and folders may be in any language, whatever the locale says.
export PYTHONUTF8=1 PYTHONIOENCODING=utf-8

fail() { echo "error: $*" >&2; exit 2; }

# The comment at the head of a recipe is its help text.
case ${1:-} in --help | -h) sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit ;; esac

# What is on the path comes first, then what make setup installs.
PATH=$PATH:$ROOT/.venv/bin
command -v fairseq-train >/dev/null || fail "fairseq-train was not found; 'make setup' installs it"

# Of a --user-dir that it does not find, fairseq says the path and no more.
before=
for word; do
    folder=$USER_DIR
    [ "$before" != --user-dir ] || folder=$word
    case $word in --user-dir=* | common.user_dir=*) folder=${word#*=} ;; esac
    [ -d "$folder" ] || fail "--user-dir $folder is no folder; this plug-in is $USER_DIR"
    before=$word
done
[ -d "$USER_DIR" ] || fail "$USER_DIR is no folder; the recipes run from a clone of scl-fairseq"
# It splits the paths of data and of checkpoints there.
for folder in "$OUT" "${DATA:-}" "${SAVE_DIR:-}" "${ROBERTA:-}"; do
    case $folder in *:*) fail "$folder: fairseq splits paths at ':'; name another folder" ;; esac
done

# Print a command as one would type it.
show() {
    printf '+ %s' "$1"
    printf ' %q' "${@:2}"
    printf '\n'
}

run() { resumes_its_own "$@"; show "$@"; "$@"; }

# resumes_its_own COMMAND [OPTION ...]: fairseq-train takes up what its folder holds. Refuse to take up
# a training of other options; nothing would be trained, or half of it.
resumes_its_own() {
    local folder='' made_as word before=''
    local -a line=()
    case " $* " in
        *' --no-last-checkpoints '*) return 0 ;; # it starts over
        *'fairseq-train '*) ;;
        *) return 0 ;;
    esac
    for word; do
        case $before in --save-dir) folder=$word ;; esac
        # Another place, start or number of GPUs makes no other training.
        case $before in
            --user-dir | --distributed-port | --distributed-world-size | --batch-size | --update-freq) ;;
            *) line+=("$word") ;;
        esac
        before=$word
    done
    [ -n "$folder" ] || return 0
    made_as=$(show "${line[@]}")
    if [ -e "$folder/checkpoint_last.pt" ] && [ -e "$folder/made-as" ] &&
        [ "$(cat "$folder/made-as")" != "$made_as" ]; then
        fail "$folder holds a training of other options ($folder/made-as is its command);" \
            "SAVE_DIR=... or OUT=... names another folder"
    fi
    mkdir -p "$folder"
    echo "$made_as" >"$folder/made-as"
}

# options_of CRITERION [OPTION ...]: sets OWN, the options without those, and their values, that only
# other criterions of this package have.
options_of() {
    local criterion=$1 has=" $1 " word is_own
    shift
    OWN=()
    for word; do
        case $word in
            --infocse-*) has=' infocse ' ;;
            --simcse-*) has=' simcse infocse ' ;;
            --supcon-*) has=' supcon ' ;;
            --scl-lambda | --scl-lambda=* | --scl-reduction | --scl-reduction=* | \
                --head-init | --head-init=* | --freeze-encoder | --keep-head | --report-mcc | --report-acc-and-f1 | \
                --f1-label | --f1-label=*)
                has=' sentence_prediction_scl '
                ;;
            --*) has=" $criterion " ;;
        esac
        case $has in *" $criterion "*) is_own=1 ;; *) is_own='' ;; esac
        [ -z "$is_own" ] || OWN+=("$word")
    done
}

# The python of the environment that fairseq-train belongs to.
python() { "$(dirname "$(type -P fairseq-train)")/python" "$@"; }

whole_number() {
    case ${!1} in '' | 0* | *[!0-9]*) fail "$1=${!1}, expected a whole number from 1 on" ;; esac
}

# Sets ENCODER, a folder with the embedded encoder, and ENCODER_OPTIONS, its architecture.
embedded_encoder() {
    local source
    ENCODER=${SMOKE_ENCODER:-$OUT/encoder}
    if [ ! -e "$ENCODER/options" ]; then
        source=$(cd "$ROOT" && python -c 'from scl_fairseq.checkpoints import embedded
print(embedded.ENCODER_SHA256, embedded.find_encoder())')
        mkdir -p "$(dirname "$ENCODER")"
        run scl-convert "${source#* }" "$ENCODER" --sha256 "${source%% *}" | tee "$ENCODER.log"
        sed -n 's/^ *--arch/--arch/p' "$ENCODER.log" >"$ENCODER/options"
    fi
    IFS=' ' read -r -a ENCODER_OPTIONS <"$ENCODER/options"
}

# about_embedded REPORT: add to a report how the embedded encoder was trained.
about_embedded() {
    printf '\n- %s\n' "$(cd "$ROOT" && python -c 'from scl_fairseq.checkpoints import embedded
print(embedded.ABOUT_ENCODER)')" >>"$1"
}

# is_trained FOLDER MADE-AS: whether a training has ended there; one of something else is refused.
# FOLDER/trained has what it is of, nothing where an earlier version trained.
is_trained() {
    local found
    [ -e "$1/trained" ] || return 1
    found=$(cat "$1/trained")
    [ "${found:-$2}" = "$2" ] || fail "$1 is of $found, and this call of $2; OUT=... names another folder"
}

# text_of TASK: the folder of a task's official files, in GLUE, of reviews in REVIEWS.
text_of() {
    case $1 in
        Amazon-2 | Yelp-2) echo "$REVIEWS/$1" ;;
        *) echo "$GLUE/$1" ;;
    esac
}

# set_up_text TASK...: look for the official files (text_of) and GPT-2's BPE in BPE_DIR; in a smoke run
# set them to generated data and the embedded encoder's WordPiece. Sets BPE.
set_up_text() {
    local task
    if [ -n "$SMOKE" ]; then
        embedded_encoder
        GLUE=$OUT/text REVIEWS=$OUT/text BPE=wordpiece BPE_DIR=$ENCODER
        for task; do
            PYTHONPATH=$ROOT python "$ROOT/examples/smoke_data.py" \
                "$task" "$GLUE/$task" "$SMOKE_TRAIN" "$SMOKE_DEV"
        done
        return
    fi
    BPE=gpt2
    for task; do
        case $task in
            Amazon-2 | Yelp-2)
                [ -e "$REVIEWS/$task/train.csv" ] || fail "$REVIEWS/$task/train.csv is missing; put the" \
                    "official train.csv and test.csv there, REVIEWS=... names another folder"
                ;;
            *)
                [ -d "$GLUE/$task" ] || fail "$GLUE/$task is missing; scripts/download_glue.sh" \
                    "--tasks $task $GLUE downloads it, GLUE=... names another folder"
                ;;
        esac
    done
    [ -e "$BPE_DIR/vocab.bpe" ] || fail "$BPE_DIR/vocab.bpe is missing;" \
        "scripts/download_bpe.sh $BPE_DIR downloads it, BPE_DIR=... names another folder"
}

# need_checkpoint base|large
need_checkpoint() {
    [ -e "$ROBERTA" ] || fail "$ROBERTA is missing; scripts/download_roberta.sh --model $1 ." \
        "downloads roberta.$1/model.pt, ROBERTA=... names another checkpoint"
}

# task_options TASK: sets NUM_CLASSES, and TOKENS, what RoBERTa puts before and between sentences.
task_options() {
    NUM_CLASSES=2 TOKENS=(--init-token 0)
    case $1 in
        SST-2 | CoLA) ;;
        MRPC | RTE | QNLI | MNLI) TOKENS+=(--separator-token 2) ;;
        *) fail "TASK=$1, expected SST-2, CoLA, MRPC, RTE, QNLI or MNLI" ;;
    esac
    [ "$1" != MNLI ] || NUM_CLASSES=3
}

# The model of a smoke run, by the same options as RoBERTa.
set_up_smoke_model() {
    GPUS=1 EPOCHS=$SMOKE_EPOCHS INTERVAL=1 ROBERTA=$ENCODER/model.pt
    MODEL=("${ENCODER_OPTIONS[@]}" --bpe wordpiece --wordpiece-vocab "$ENCODER/vocab.txt")
    TOKENS=(--init-token 0) # a converted BERT separates a pair by the first sentence's own end
    PRECISION=(--cpu)
}

# binarize_glue TASK: the whole of a task by --split paper, as OUT/data/TASK-bin. What is there, and
# is not known to be made otherwise, stays.
binarize_glue() {
    local folder=$OUT/data/$1-bin made_as="made from $GLUE/$1, in $BPE of $BPE_DIR"
    if [ -z "$SMOKE" ] && [ -e "$folder/label/test.idx" ] &&
        [ "$(cat "$folder.made-as" 2>/dev/null || echo "$made_as")" = "$made_as" ]; then
        echo "$folder is there"
        return
    fi
    rm -f "$folder.made-as"
    run scl-preprocess --task "$1" --data-dir "$GLUE/$1" --bpe "$BPE" --bpe-dir "$BPE_DIR" \
        --split paper --destdir "$folder"
    echo "$made_as" >"$folder.made-as"
}

# set_up_glue TASK base|large: look for DATA, the whole of a task by --split paper, and ROBERTA.
set_up_glue() {
    if [ -n "$SMOKE" ]; then
        DATA=$OUT/data/$1-bin
        set_up_text "$1"
        set_up_smoke_model
        binarize_glue "$1"
        return
    fi
    local make="scl-preprocess --task $1 --data-dir glue/$1 --bpe gpt2 --bpe-dir gpt2_bpe"
    make="$make --split paper --destdir $DATA"
    [ -e "$DATA/label/train.idx" ] || fail "$DATA holds no binarised data; make it with: $make"
    [ -e "$DATA/label/test.idx" ] ||
        fail "$DATA has no test set with labels, which --split paper makes: $make"
    need_checkpoint "$2"
}

# draw_samples TASK N COUNT [SCL-SAMPLE-OPTION ...]: the first COUNT samples of N examples of a task,
# text and binarised, in OUT/few-shot/data/TASK/N. What is there, made the same way, stays. The options
# say the size in another way than by N.
draw_samples() {
    local folder=$OUT/few-shot/data/$1/$2 text made_as index old size=(--num-examples "$2")
    text=$(text_of "$1")
    made_as="made from $text with seed 1, in $BPE of $BPE_DIR"
    if [ $# -gt 3 ]; then size=("${@:4}") made_as="$made_as, ${*:4}"; fi
    if [ -z "$SMOKE" ] && [ "$(cat "$folder/made-as" 2>/dev/null)" = "$made_as" ] &&
        [ -e "$folder/bin/sample$(($3 - 1))" ]; then
        echo "$folder is there, $made_as"
        return
    fi
    rm -f "$folder/made-as"
    run scl-sample --task "$1" --data-dir "$text" "${size[@]}" --num-samples "$3" \
        --seed 1 --out "$folder/text"
    for ((index = 0; index < $3; index++)); do
        run scl-preprocess --task "$1" --data-dir "$folder/text/sample$index" --bpe "$BPE" \
            --bpe-dir "$BPE_DIR" --destdir "$folder/bin/sample$index"
    done
    # Of an earlier draw of more samples.
    for old in "$folder"/bin/sample*; do
        [ -d "$folder/text/$(basename "$old")" ] || rm -r "$old"
    done
    echo "$made_as" >"$folder/made-as"
}

# set_up_few_shot TASK N SAMPLE: look for DATA, a few-shot sample, and ROBERTA.
set_up_few_shot() {
    if [ -n "$SMOKE" ]; then
        DATA=$OUT/few-shot/data/$1/$2/bin/sample$3
        set_up_text "$1"
        set_up_smoke_model
        draw_samples "$1" "$2" $(($3 + 1))
        return
    fi
    [ -e "$DATA/label/train.idx" ] || fail "$DATA holds no binarised data; make it with:" \
        "TASKS=$1 NUM_EXAMPLES=$2 scripts/preprocess_few_shot.sh glue gpt2_bpe $OUT/few-shot/data"
    need_checkpoint large
}

# share_batch TOTAL: sets UPDATE_FREQ so that GPUS with BATCH examples each make a total batch, and
# says what is contrasted.
share_batch() {
    whole_number GPUS
    whole_number BATCH
    [ $(($1 % (GPUS * BATCH))) = 0 ] ||
        fail "GPUS=$GPUS with BATCH=$BATCH cannot make a total batch of $1"
    UPDATE_FREQ=$(($1 / (GPUS * BATCH)))
    echo "contrast set: $((GPUS * BATCH)) examples (batch $BATCH per GPU, all GPUs together;" \
        "GPUS=$GPUS and --update-freq $UPDATE_FREQ make a total batch of $1)"
}

# split_batch TOTAL: sets BATCH, what each of the GPUS takes of a total batch.
split_batch() {
    BATCH=$1
    whole_number GPUS
    whole_number BATCH
    [ $(($1 % GPUS)) = 0 ] || fail "GPUS=$GPUS cannot share a batch of $1 evenly"
    BATCH=$(($1 / GPUS))
    share_batch "$1"
}

# plan_updates TOTAL: UPDATES of EPOCHS epochs over DATA by a total batch, and WARMUP, 6 % of them.
plan_updates() {
    local plan
    [ -e "$DATA/preprocess.json" ] ||
        fail "$DATA/preprocess.json, which says how many examples there are, is missing;" \
            "scl-preprocess writes it"
    plan=$(python -c 'import json, sys
path, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, encoding="utf-8") as file:
    rows = json.load(file)["splits"]["train"]["rows"]
updates = epochs * -(-rows // batch)
print(updates, round(0.06 * updates))' "$DATA/preprocess.json" "$EPOCHS" "$1")
    read -r UPDATES WARMUP <<<"$plan"
}

# on_cpu WORKERS COMMAND [OPTION ...]: fairseq's COMMAND as so many processes on this machine's CPU,
# which fairseq does not start by itself. Only the first one's output is shown; if one fails, all end.
on_cpu() {
    local workers=$1 port rank pid alive
    pids=()
    shift
    resumes_its_own "$@"
    port=$(python -c 'import socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    print(free.getsockname()[1])')
    set -- "$@" --cpu --ddp-backend legacy_ddp --distributed-backend gloo --distributed-no-spawn \
        --distributed-world-size "$workers" --distributed-init-method "tcp://127.0.0.1:$port"
    # Background processes of a script do not hear Ctrl-C.
    trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    show "$@" --distributed-rank 0
    "$@" --distributed-rank 0 &
    pids=($!)
    for ((rank = 1; rank < workers; rank++)); do
        "$@" --distributed-rank "$rank" >/dev/null &
        pids+=($!)
    done
    # One that failed is noticed while the others wait for it.
    while [ "${#pids[@]}" -gt 0 ]; do
        alive=()
        for pid in "${pids[@]}"; do
            if kill -0 "$pid" 2>/dev/null; then
                alive+=("$pid")
            else
                wait "$pid" || return
            fi
        done
        pids=(${alive[@]+"${alive[@]}"})
        sleep 0.2
    done
    trap - EXIT INT TERM
}

# test_best NUM_CLASSES: the accuracy of the best epoch on the test set, which took no part so far.
test_best() {
    run fairseq-validate "$DATA" --user-dir "$USER_DIR" --path "$SAVE_DIR/checkpoint_best.pt" \
        --task sentence_prediction --num-classes "$1" "${TOKENS[@]}" --max-positions 512 \
        --criterion sentence_prediction_scl --valid-subset test --batch-size "$BATCH" \
        --required-batch-size-multiple 1 "${PRECISION[@]}"
}

# few_shot_table CONFIG FOLDER SCL-SWEEP-OPTION...: draw NUM_SAMPLES samples of each of TASKS at each of
# NUM_EXAMPLES, binarise them, train every trial and report.
few_shot_table() {
    local config=$1 folder=$2 task size tasks sizes
    shift 2
    IFS=$', \t\n' read -r -d '' -a tasks <<<"$TASKS" || true
    IFS=$', \t\n' read -r -d '' -a sizes <<<"$NUM_EXAMPLES" || true
    whole_number NUM_SAMPLES
    [ -n "$SMOKE" ] || need_checkpoint large
    set_up_text "${tasks[@]}"
    for task in "${tasks[@]}"; do
        for size in "${sizes[@]}"; do draw_samples "$task" "$size" "$NUM_SAMPLES"; done
    done
    sweep_and_report "$config" "$folder" \
        --set "data=$OUT/few-shot/data/{task}/{N}/bin/sample{sample}" \
        --set "grid.task=$(listed "${tasks[@]}")" --set "grid.N=$(listed "${sizes[@]}")" \
        --set "grid.sample=$(listed $(seq 0 $((NUM_SAMPLES - 1))))" "$@"
}

# listed VALUE...: a YAML list
listed() { local IFS=,; echo "[$*]"; }

# sweep_and_report CONFIG FOLDER SCL-SWEEP-OPTION...: what is finished in FOLDER is not run again.
sweep_and_report() {
    local config=$1 folder=$2 status=0
    shift 2
    if [ -n "$SMOKE" ]; then
        set -- --cpu --threads 1 --set "name=Smoke run on generated data, no result" \
            --set encoder=embedded --set options.finetune-from-model=null \
            --set options.arch=null --set options.fp16=null --set "options.max-epoch=$SMOKE_EPOCHS" \
            --set warmup-ratio=0.06 "$@"
    else
        set -- --set "options.finetune-from-model=$ROBERTA" "$@"
    fi
    run scl-sweep "$config" --out "$folder" "$@" || status=$?
    [ "$status" -le 1 ] || exit "$status" # 1: some trials failed, and the report says which
    run scl-report "$folder" --out "$folder/report.md"
    cat "$folder/report.md"
    return "$status"
}
