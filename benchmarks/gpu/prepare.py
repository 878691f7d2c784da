"""Data and the encoder that the stages share, made once, without a network."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.cases import SENTENCES, read_table, synthetic_rows
from benchmarks.few_shot_samples import write_binarised_samples
from benchmarks.gpu.check import Check
from scl_fairseq.checkpoints.embedded import convert_encoder
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.sources import open_lines

# Sentences of a sample: samples.
SAMPLES = {20: 2, 100: 3}


def run(check: Check) -> None:
    """Encoder, few-shot samples and plain lines."""
    with check.part("prepare", step="encoder"):
        found, about = _encoder(check)
        (check.work / "flags.json").write_text(json.dumps(list(found.flags)), encoding="utf-8")
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
    target = check.work / "encoder"
    if not check.dry:
        try:
            return convert_encoder(target), "all-MiniLM-L6-v2"
        except FileNotFoundError:
            pass
    source = _random_encoder(check, check.work / "hugging-face")
    from scl_fairseq.checkpoints.huggingface import convert

    return convert(source, target), "random weights: accuracies say nothing"


def _random_encoder(check: Check, folder: Path) -> Path:
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
    return folder


def _lines(check: Check) -> None:
    text = check.work / "lines-text"
    text.mkdir(exist_ok=True)
    lines = [one for (one,) in texts(check, "SST-2", 40 if check.dry else 400)]
    for name, part in (("train", lines), ("valid", lines[:16])):
        (text / f"{name}.txt").write_text("".join(f"{one}\n" for one in part), encoding="utf-8")
    settings = Settings("wordpiece", check.work / "encoder")
    preprocess(open_lines(text), text, check.work / "lines", settings)
