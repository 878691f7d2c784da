#!/usr/bin/env bash
# Download GLUE tasks in their official layout; --help says more.
set -euo pipefail
# shellcheck source=scripts/download.sh
. "$(dirname "${BASH_SOURCE[0]}")/download.sh"

known="SST-2 CoLA MRPC RTE QNLI MNLI QQP WNLI"
tasks="SST-2 CoLA MRPC RTE QNLI MNLI"
GLUE_URL=${GLUE_URL:-https://dl.fbaipublicfiles.com/glue/data}
SENTEVAL_URL=${SENTEVAL_URL:-https://dl.fbaipublicfiles.com/senteval/senteval_data}
# GLUE's own place for the ids of MRPC's development set, and a copy of it beside the archives.
firebase=https://firebasestorage.googleapis.com/v0/b/mtl-sentence-representations.appspot.com/o
firebase="$firebase/data%2Fmrpc_dev_ids.tsv?alt=media&token=ec5c0836-31d5-48f4-b431-7480817f1adc"
MRPC_DEV_IDS_URL=${MRPC_DEV_IDS_URL:-$GLUE_URL/mrpc_dev_ids.tsv $firebase}

usage() {
    cat <<END
usage: scripts/download_glue.sh [--tasks "TASK ..."] [DIR]

Download GLUE tasks to DIR (glue), each into a folder of its name with the official train.tsv,
dev.tsv and test.tsv (MNLI: dev_matched.tsv, dev_mismatched.tsv and so on). What is there already is
left as it is; an interrupted download is taken up again.

  --tasks "TASK ..."  some of: $known
                      (without it: $tasks; 330 MB, nearly all of it MNLI)
  --help              show this text

environment, for mirrors:
  GLUE_URL          folder of the archives, CoLA.zip and so on
  SENTEVAL_URL      folder of MRPC's source, msr_paraphrase_train.txt and msr_paraphrase_test.txt
  MRPC_DEV_IDS_URL  the ids of MRPC's development set; several addresses are tried in turn
$download_variables

example:
  scripts/download_glue.sh --tasks "SST-2 RTE" glue
END
}

dir=
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --tasks) [ $# -gt 1 ] || fail "--tasks needs names"; tasks=$2; shift ;;
        --tasks=*) tasks=${1#*=} ;;
        -*) fail "unknown option $1 (see scripts/download_glue.sh --help)" ;;
        *) [ -z "$dir" ] || fail "one DIR is expected, not also $1"; dir=$1 ;;
    esac
    shift
done
dir=${dir:-glue}
IFS=$', \t\n' read -r -d '' -a tasks <<<"$tasks" || true
[ "${#tasks[@]}" -gt 0 ] || fail "--tasks needs names"
for task in "${tasks[@]}"; do
    case " $known " in
        *" $task "*) ;;
        *) fail "unknown task $task, expected some of: $known" ;;
    esac
done
need_python

fetch_mrpc() {
    fetch "$SENTEVAL_URL/msr_paraphrase_train.txt" "$dir/msr_paraphrase_train.txt"
    fetch "$SENTEVAL_URL/msr_paraphrase_test.txt" "$dir/msr_paraphrase_test.txt"
    fetch "$MRPC_DEV_IDS_URL" "$dir/mrpc_dev_ids.tsv"
    new_scratch "$dir" MRPC
    "$python" "$scripts/assemble_mrpc.py" "$dir" "$scratch/MRPC"
    move_in MRPC "$dir" "$@"
    rm "$dir"/msr_paraphrase_{train,test}.txt "$dir/mrpc_dev_ids.tsv"
}

for task in "${tasks[@]}"; do
    case $task in
        MNLI) files="train dev_matched dev_mismatched test_matched test_mismatched" ;;
        *) files="train dev test" ;;
    esac
    case $task in
        QNLI) archive=QNLIv2.zip ;; # what replaced QNLI.zip
        QQP) archive=QQP-clean.zip ;;
        *) archive=$task.zip ;;
    esac
    IFS=' ' read -r -a files <<<"$files"
    files=("${files[@]/%/.tsv}")
    if there "$dir/$task" "${files[@]}"; then
        echo "$task: $dir/$task is there"
        continue
    fi
    echo "$task: downloading"
    if [ "$task" = MRPC ]; then
        fetch_mrpc "${files[@]}"
    else
        fetch "$GLUE_URL/$archive" "$dir/$archive"
        unpack "$dir/$archive" "$task" "$dir" "${files[@]}"
    fi
    echo "$task: $dir/$task is complete"
done
