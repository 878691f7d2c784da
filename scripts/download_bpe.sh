#!/usr/bin/env bash
# Download the byte-pair encoding of GPT-2 and RoBERTa; --help says more.
set -euo pipefail
# shellcheck source=scripts/download.sh
. "$(dirname "${BASH_SOURCE[0]}")/download.sh"

GPT2_BPE_URL=${GPT2_BPE_URL:-https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe}

usage() {
    cat <<END
usage: scripts/download_bpe.sh [DIR]

Download the byte-pair encoding of GPT-2 and RoBERTa, encoder.json and vocab.bpe, and RoBERTa's
dictionary, dict.txt, to DIR (gpt2_bpe; 2 MB). What is there already is checked and left as it is.

environment, for mirrors:
  GPT2_BPE_URL      folder of the three files
$download_variables

example:
  scripts/download_bpe.sh gpt2_bpe
END
}

dir=
for argument; do
    case $argument in
        --help | -h) usage; exit ;;
        -*) fail "unknown option $argument (see scripts/download_bpe.sh --help)" ;;
        *) [ -z "$dir" ] || fail "one DIR is expected, not also $argument"; dir=$argument ;;
    esac
done
dir=${dir:-gpt2_bpe}

for file in encoder.json vocab.bpe dict.txt; do
    fetch "$GPT2_BPE_URL/$file" "$dir/$file"
    echo "$dir/$file is complete"
done
