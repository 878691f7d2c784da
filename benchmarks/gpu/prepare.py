"""Data and the encoder that the stages share, made once, without a network."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from benchmarks.cases import SENTENCES, read_table, synthetic_rows
from benchmarks.few_shot_samples import write_binarised_samples
from benchmarks.gpu.check import PACKED, Check
from benchmarks.gpu.small_encoder import widen
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.checkpoints.huggingface import convert
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.sources import open_lines

CARRIED = PACKED / "encoder"
# Sentences of a sample: samples.
SAMPLES = {20: 2, 100: 3}


def run(check: Check) -> None:
    """Encoder, few-shot samples and plain lines."""
    with check.part("prepare", step="encoder"):
        found, about = _encoder(check)
        (check.work / "flags.json").write_text(
            json.dumps(list(found.flags), allow_nan=False), encoding="utf-8"
        )
        check.add("prepare", step="encoder", ok=True, encoder=about)
    for size, number in {20: 1}.items() if check.dry else SAMPLES.items():
        with check.part("prepare", step=f"samples of {size}"):
            place = check.work / str(size)
            encoder = check.work / "encoder"
            write_binarised_samples("SST-2", check.glue_dir, place, encoder, size, number)
            check.add("prepare", step=f"samples of {size}", ok=True)
    with check.part("prepare", step="lines"):
        _lines(check)
        check.add("prepare", step="lines", ok=True)


def texts(check: Check, task: str, number: int) -> list[tuple[str, ...]]:
    """Texts of a task's training set, or generated ones of about that length."""
    path = check.glue_dir / task / "train.tsv"
    rows = read_table(path, task) if path.is_file() else synthetic_rows(task, number)[0]
    return [tuple(row[part] for part in SENTENCES[task]) for row in rows[:number]]


def _encoder(check: Check):
    """The embedded encoder; one of its sizes, or in a dry run a tiny one, where it is not there."""
    target, source = check.work / "encoder", check.work / "hugging-face"
    if not check.dry:
        with contextlib.suppress(FileNotFoundError):
            return convert_encoder(target), "all-MiniLM-L6-v2"
        if CARRIED.is_dir():
            widen(CARRIED, source)
            return convert(source, target), "all-MiniLM-L6-v2, rounded to float16"
    _random_encoder(check, source)
    return convert(source, target), "random weights: accuracies say nothing"


def _random_encoder(check: Check, folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    words = {word for (text,) in texts(check, "SST-2", 4000) for word in text.split()}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    width, layers, heads = (32, 2, 2) if check.dry else (384, 6, 12)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")


def _lines(check: Check) -> None:
    text = check.work / "lines-text"
    text.mkdir(exist_ok=True)
    lines = [one for (one,) in texts(check, "SST-2", 40 if check.dry else 400)]
    for name, part in (("train", lines), ("valid", lines[:16])):
        (text / f"{name}.txt").write_text("".join(f"{one}\n" for one in part), encoding="utf-8")
    settings = Settings("wordpiece", check.work / "encoder")
    preprocess(open_lines(text), text, check.work / "lines", settings)
