# shellcheck shell=bash
# What the preprocess_*.sh scripts share; they source this file.

# Labels, texts and folders may be in any language, whatever the locale says.
export PYTHONUTF8=1 PYTHONIOENCODING=utf-8

fail() { echo "error: $*" >&2; exit 2; }

find_command() {
    command -v "$1" || command -v "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/$1" ||
        fail "$1 was not found; 'make setup' installs it"
}

# need_inputs GLUE_DIR BPE_DIR TASK...: before anything starts, name all that is missing.
need_inputs() {
    local glue=$1 bpe=$2 missing='' task file
    shift 2
    [ $# -gt 0 ] || fail "TASKS names no task"
    for task; do
        [ -d "$glue/$task" ] || missing="$missing $glue/$task"
    done
    [ -z "$missing" ] || fail "missing:$missing; scripts/download_glue.sh downloads tasks, TASKS=... narrows them"
    for file in encoder.json vocab.bpe dict.txt; do
        [ -f "$bpe/$file" ] || fail "$bpe/$file is missing; scripts/download_bpe.sh downloads it"
    done
}
