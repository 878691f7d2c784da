"""What benchmarks train: RoBERTa of roberta-base's size with random weights, on random words."""

import argparse
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import roberta_base_architecture

VOCABULARY = 50265
HEAD = "sentence_classification_head"


def make_task() -> SimpleNamespace:
    """As much of fairseq's task as model and criterions ask for; two classes."""
    dictionary = Dictionary()
    for index in range(VOCABULARY - len(dictionary)):
        dictionary.add_symbol(str(index))
    return SimpleNamespace(
        source_dictionary=dictionary,
        target_dictionary=dictionary,
        label_dictionary=dictionary,
        cfg=SimpleNamespace(num_classes=2),
        max_positions=lambda: 512,
        train_step=None,
    )


def make_model(task: SimpleNamespace) -> RobertaModel:
    """The model with its head, in training mode, the same one each time."""
    torch.manual_seed(0)
    args = argparse.Namespace(max_positions=512)
    roberta_base_architecture(args)
    model = RobertaModel.build_model(args, task)
    model.register_classification_head(HEAD, num_classes=2)
    return model.train()


def make_words(size: int, tokens: int) -> torch.Tensor:
    """(size, tokens), sentences without padding."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(4, VOCABULARY, (size, tokens), generator=generator)


def make_sample(words: torch.Tensor, labels: torch.Tensor) -> dict:
    """A batch as fairseq's task makes it."""
    return {
        "net_input": {
            "src_tokens": words,
            "src_lengths": torch.full((len(words),), words.size(1), device=words.device),
        },
        "target": labels.view(-1, 1),
        "ntokens": words.numel(),
    }
