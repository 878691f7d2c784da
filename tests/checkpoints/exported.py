"""Fine-tuned checkpoints of small random models, and fairseq's own answers to compare with."""

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from scl_fairseq.checkpoints.huggingface import convert
from scl_fairseq.checkpoints.loading import allow_globals

allow_globals()  # these tests read what fairseq writes

KINDS = ("wordpiece", "gpt2", "sentencepiece")
HEAD = "classification_heads.sentence_classification_head."
SEPARATOR = {"wordpiece": None, "gpt2": 2, "sentencepiece": 2}


@dataclass(frozen=True)
class FineTuned:
    """A checkpoint with what belongs to it.

    ``source`` is the Hugging Face folder it began as, ``converted`` has ``model.pt`` and the BPE
    files, ``data`` the dictionaries as in binarised data.
    """

    source: Path
    converted: Path
    checkpoint: Path
    data: Path
    bpe: str

    def hub(self, checkpoint: Path | None = None):
        """The checkpoint in fairseq's own interface."""
        return load_hub(checkpoint or self.checkpoint, self.converted, self.data, self.bpe)


def load_hub(checkpoint: Path, bpe_files: Path, data: Path, bpe: str):
    from fairseq.models.roberta import RobertaModel

    files = {
        "wordpiece": {"wordpiece_vocab": "vocab.txt"},
        "gpt2": {"gpt2_encoder_json": "encoder.json", "gpt2_vocab_bpe": "vocab.bpe"},
        "sentencepiece": {"sentencepiece_model": "sentencepiece.bpe.model"},
    }[bpe]
    options = {name: str(bpe_files / file) for name, file in files.items()}
    return RobertaModel.from_pretrained(
        str(checkpoint.parent), checkpoint.name, str(data), bpe=bpe, **options
    ).eval()


def fine_tune(folder: Path, source: Path, labels=("no", "maybe", "yes"), **options) -> FineTuned:
    """Convert ``source``, give it a random head, and write it as a fine-tuned checkpoint.

    ``options`` are arguments of the saved task to replace.
    """
    done = convert(source, folder / "converted")
    data = folder / "data"
    (data / "input0").mkdir(parents=True)
    (data / "label").mkdir()
    dictionary = (folder / "converted" / "dict.txt").read_text(encoding="utf-8")
    (data / "input0" / "dict.txt").write_text(dictionary, encoding="utf-8")
    (data / "label" / "dict.txt").write_text("".join(f"{label} 1\n" for label in labels))
    state = torch.load(folder / "converted" / "model.pt", weights_only=True)
    write_checkpoint(
        folder / "run" / "checkpoint_best.pt",
        state,
        outputs=len(labels),
        separator_token=SEPARATOR[done.bpe],
        **options,
    )
    return FineTuned(
        source, folder / "converted", folder / "run" / "checkpoint_best.pt", data, done.bpe
    )


def write_checkpoint(
    path: Path, state: dict, outputs: int, inner=None, reads_mean=False, **options
) -> None:
    """Add a head to a converted ``model.pt`` and arguments of a ``sentence_prediction`` run."""
    args = copy.deepcopy(vars(state["args"]))
    args |= {
        "task": "sentence_prediction",
        "criterion": "sentence_prediction",
        "num_classes": outputs,
        "init_token": 0,
        "separator_token": None,
        "regression_target": False,
        "classification_head_name": "sentence_classification_head",
        "seed": 7,
        **options,
    }
    width = args["encoder_embed_dim"]
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    inner = inner or width
    head = {
        "dense.weight": draw(inner, width),
        "dense.bias": draw(inner),
        "out_proj.weight": draw(outputs, inner),
        "out_proj.bias": draw(outputs),
        **({"reads_mean": torch.ones(1)} if reads_mean else {}),
    }
    model = {**state["model"], **{HEAD + name: tensor for name, tensor in head.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**state, "args": argparse.Namespace(**args), "model": model}, path)


def batches(items, size=50):
    """Chunks of ``items``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def encode(hub, texts) -> torch.Tensor:
    """Ids from fairseq of one or two texts an example, joined as in its training, padded right."""
    no_separator = getattr(hub.task.cfg, "separator_token", None) is None
    rows = [hub.encode(*parts, no_separator=no_separator) for parts in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)


def head_logits(hub, texts, size=50) -> torch.Tensor:
    """What fairseq computes for one or two texts an example, in batches."""
    head = "sentence_classification_head"
    with torch.no_grad():
        rows = [hub.predict(head, encode(hub, c), return_logits=True) for c in batches(texts, size)]
    return torch.cat(rows)
