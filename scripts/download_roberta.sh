#!/usr/bin/env bash
# Download fairseq's pre-trained RoBERTa; --help says more.
set -euo pipefail
# shellcheck source=scripts/download.sh
. "$(dirname "${BASH_SOURCE[0]}")/download.sh"

ROBERTA_URL=${ROBERTA_URL:-https://dl.fbaipublicfiles.com/fairseq/models}

usage() {
    cat <<END
usage: scripts/download_roberta.sh [--model base|large] [DIR]

Download fairseq's RoBERTa to DIR/roberta.large (DIR is the current folder), with model.pt and
dict.txt in it. What is there already is left as it is; an interrupted download is taken up again.

  --model base|large  which size (large)
  --help              show this text

environment, for mirrors:
  ROBERTA_URL       folder of roberta.base.tar.gz and roberta.large.tar.gz
$download_variables

example:
  scripts/download_roberta.sh --model base checkpoints
END
}

dir=
model=large
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --model) [ $# -gt 1 ] || fail "--model needs base or large"; model=$2; shift ;;
        --model=*) model=${1#*=} ;;
        -*) fail "unknown option $1 (see scripts/download_roberta.sh --help)" ;;
        *) [ -z "$dir" ] || fail "one DIR is expected, not also $1"; dir=$1 ;;
    esac
    shift
done
dir=${dir:-.}
case $model in base | large) ;; *) fail "--model $model: expected base or large" ;; esac
need tar

name=roberta.$model
if there "$dir/$name" model.pt dict.txt; then
    echo "$dir/$name is there"
    exit
fi
echo "downloading $name"
fetch "$ROBERTA_URL/$name.tar.gz" "$dir/$name.tar.gz"
unpack "$dir/$name.tar.gz" "$name" "$dir" model.pt dict.txt
echo "$dir/$name is complete"
