"""``--bpe wordpiece`` and ``gpt2_adjusted`` wherever fairseq takes a BPE, the hub included."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from fairseq.data.encoders import register_bpe
from fairseq.data.encoders.gpt2_bpe import GPT2BPE, GPT2BPEConfig
from fairseq.dataclass import FairseqDataclass

from scl_fairseq.text.bpe_files import ADJUSTED_GPT2
from scl_fairseq.text.gpt2_settings import AdjustedGPT2
from scl_fairseq.text.settings import read_settings
from scl_fairseq.text.wordpiece import WordPiece


@dataclass
class WordPieceConfig(FairseqDataclass):
    """Options of ``--bpe wordpiece``."""

    wordpiece_vocab: str = field(
        default="",
        metadata={"help": "path to WordPiece's vocab.txt; tokenizer_config.json beside it is read"},
    )


@register_bpe("wordpiece", dataclass=WordPieceConfig)
class WordPieceBPE:
    """:class:`WordPiece` with the methods that fairseq calls.

    Raises:
        ValueError: no vocabulary was named.
    """

    def __init__(self, cfg: WordPieceConfig):
        if not cfg.wordpiece_vocab:
            raise ValueError(
                "--bpe wordpiece needs --wordpiece-vocab, the path to vocab.txt "
                "(hub: wordpiece_vocab=…)"
            )
        self.bpe = WordPiece(cfg.wordpiece_vocab)

    def encode(self, x: str) -> str:
        """Tokens joined by spaces."""
        return self.bpe.encode(x)

    def decode(self, x: str) -> str:
        """Text of space-joined tokens."""
        return self.bpe.decode(x)

    @staticmethod
    def is_beginning_of_word(x: str) -> bool:
        """Whether the token starts a word; whole-word masking asks."""
        return not x.startswith("##")


@dataclass
class AdjustedGPT2Config(GPT2BPEConfig):
    """Options of ``--bpe gpt2_adjusted``: those of ``--bpe gpt2``."""


@register_bpe(ADJUSTED_GPT2, dataclass=AdjustedGPT2Config)
class AdjustedGPT2BPE:
    """:class:`AdjustedGPT2` with the methods that fairseq calls."""

    def __init__(self, cfg: AdjustedGPT2Config):
        self.bpe = AdjustedGPT2(Path(cfg.gpt2_encoder_json), Path(cfg.gpt2_vocab_bpe))

    def encode(self, x: str) -> str:
        """Symbols joined by spaces."""
        return self.bpe.encode_lines([x])[0]

    def decode(self, x: str) -> str:
        """Text of space-joined symbols."""
        return self.bpe.decode(x)

    def is_beginning_of_word(self, x: str) -> bool:
        """Whether the token starts a word; whole-word masking asks."""
        return self.bpe.begins_word(x)


def refuse_settings_in_stock() -> None:
    """Have fairseq's own ``--bpe gpt2`` refuse files whose settings it would not follow, once."""
    original = GPT2BPE.__init__
    if getattr(original, "_scl_fairseq", False):
        return

    @functools.wraps(original)
    def __init__(self, cfg):
        settings = read_settings(Path(cfg.gpt2_encoder_json))
        if settings.changes_bytes:
            raise ValueError(
                f"{settings.path} says more than fairseq's --bpe gpt2 does; --bpe {ADJUSTED_GPT2} "
                "follows it"
            )
        original(self, cfg)

    __init__._scl_fairseq = True
    GPT2BPE.__init__ = __init__
