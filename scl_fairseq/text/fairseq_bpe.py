"""``--bpe wordpiece``: WordPiece wherever fairseq takes a BPE, the hub included."""

from dataclasses import dataclass, field

from fairseq.data.encoders import register_bpe
from fairseq.dataclass import FairseqDataclass

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
