"""What benchmarks train: RoBERTa with random weights, by default of roberta-base's size."""

import argparse
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import roberta_base_architecture

VOCABULARY = 50265
# layers, width, width of the feed-forward, heads
SIZES = {
    "MiniLM": (6, 384, 1536, 12),
    "base": (12, 768, 3072, 12),
    "large": (24, 1024, 4096, 16),
}
PAD = 1
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


def make_model(task: SimpleNamespace, size: str = "base") -> RobertaModel:
    """The model with its head, in training mode, the same one each time."""
    torch.manual_seed(0)
    layers, width, inner, heads = SIZES[size]
    args = argparse.Namespace(
        max_positions=512,
        encoder_layers=layers,
        encoder_embed_dim=width,
        encoder_ffn_embed_dim=inner,
        encoder_attention_heads=heads,
    )
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
        "net_input": {"src_tokens": words, "src_lengths": words.ne(PAD).sum(dim=1)},
        "target": labels.view(-1, 1),
        "ntokens": words.numel(),
    }
