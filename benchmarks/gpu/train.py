"""``fairseq-train`` of RoBERTa-Large's sizes, as the README has it, with random weights."""

from __future__ import annotations

import json
import re
import statistics

from benchmarks.cases import train_bpe
from benchmarks.gpu.check import Check
from benchmarks.gpu.prepare import texts
from benchmarks.gpu.smoke import report
from benchmarks.gpu.trainings import train
from benchmarks.pipelines import ROOT
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import TASKS

PLUGIN = ["--criterion", "sentence_prediction_scl", "--scl-lambda", "0.9"]
WAYS = {
    "stock CE": ["--criterion", "sentence_prediction"],
    "CE+SCL, packed": [*PLUGIN, "--scl-packed"],
    "CE+SCL": PLUGIN,
    "CE+SCL, packed, bf16": [*PLUGIN, "--scl-packed", "--bf16"],
}
FP16 = ["--fp16", "--fp16-init-scale", "4", "--threshold-loss-scale", "1"]
FP16 += ["--fp16-scale-window", "128"]
TINY = ["roberta", "--encoder-layers", "2", "--encoder-embed-dim", "64"]
TINY += ["--encoder-ffn-embed-dim", "64", "--encoder-attention-heads", "4"]


def run(check: Check) -> None:
    """Each way, as many updates, the first third of which warms up."""
    data = _data(check)
    updates, every = (4, 1) if check.dry else (60, 10)
    for name, own in WAYS.items():
        if not check.has_time("train", 2 if check.dry else 25, name=name):
            continue
        with check.part("train", name=name):
            arch = TINY if check.dry else ["roberta_large"]
            precision = [] if check.dry or "--bf16" in own else FP16
            words = f"""--task sentence_prediction --num-classes 2 --init-token 0
                --separator-token 2 --max-positions 512 --distributed-world-size 1 --batch-size 32
                --required-batch-size-multiple 1 --optimizer adam --adam-betas (0.9,0.98)
                --adam-eps 1e-06 --weight-decay 0.1 --clip-norm 0.0 --lr 1e-05
                --lr-scheduler polynomial_decay --total-num-update 20935 --warmup-updates 1256
                --dropout 0.1 --attention-dropout 0.1 --max-update {updates} --seed 1 --no-save
                --disable-validation --restore-file none.pt --log-format json
                --log-interval {every} --data-buffer-size 0""".split()
            words = [data, "--arch", *arch, "--user-dir", ROOT / "scl_fairseq", *words, *precision]
            words += [*own, "--save-dir", check.work / "runs" / "large"]
            if check.dry:
                words = [*(one for one in words if one != "--bf16"), "--cpu"]
            outcome = train(words, check.work / "train.log", min(120, check.left()))
            report(check, "train-log", name, outcome, words)
            lines = re.findall(r"train_inner \| (\{.*\})", outcome.text)
            rows = [json.loads(line) for line in lines]
            kept = rows[len(rows) // 3 :]
            speed = {
                key: statistics.median(float(row[key]) for row in kept)
                for key in ("ups", "wps")
                if kept and key in kept[0]
            }
            check.add("train", name=name, ok=outcome.is_fine, **speed)


def _data(check: Check):
    """SST-2's sentences by GPT-2's BPE."""
    bpe, target = check.bpe_dir, check.work / "SST-2-bin"
    if target.is_dir():
        return target
    if not (bpe / "encoder.json").is_file():
        bpe = check.work / "bpe"
        train_bpe(bpe, [one for (one,) in texts(check, "SST-2", 4000)])
    source = check.glue_dir / "SST-2"
    if not source.is_dir():
        source = check.work / ("20" if check.dry else "100") / "synthetic"
    preprocess(TASKS["SST-2"], source, target, Settings("gpt2", bpe))
    return target
