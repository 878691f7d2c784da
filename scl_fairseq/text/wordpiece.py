"""BERT's WordPiece over the ``tokenizers`` library, in the spelling of a fairseq dictionary."""

from collections.abc import Sequence
from pathlib import Path

from scl_fairseq.text.settings import SWITCHES, Settings, read_settings

UNKNOWN = "<unk>"
LONGEST_WORD = 100


class WordPiece:
    """Split text into WordPiece tokens as BERT does (Devlin et al., 2019).

    The ids that a converted ``dict.txt`` gives to the tokens stand for those of Hugging Face's
    ``BertTokenizer``, with one difference: text is only text. ``[MASK]`` or ``</s>`` in a
    sentence is split like any other word and never becomes a special token.

    Args:
        vocab_path: ``vocab.txt``, one token a line.
        lowercase: lower-case the text and strip its accents. By default, what
            ``do_lower_case`` says in a ``tokenizer_config.json`` beside ``vocab_path``, else True.
            The further settings of ``text.settings`` are read there too.

    Raises:
        ValueError: the vocabulary has no ``[UNK]``, or ``tokenizer_config.json`` is no JSON.
        OSError: there is no such file.

    Example:
        >>> pieces = WordPiece("encoder/vocab.txt")
        >>> pieces.encode("Unaffable!")
        'una ##ffa ##ble !'
    """

    def __init__(self, vocab_path: str | Path, lowercase: bool | None = None):
        from tokenizers import Tokenizer, models, pre_tokenizers

        path = Path(vocab_path)
        vocabulary = {piece: index for index, piece in enumerate(read_pieces(path))}
        if "[UNK]" not in vocabulary:
            raise ValueError(f"{path} is no WordPiece vocabulary: it has no [UNK]")
        settings = read_settings(path)
        if lowercase is not None:
            told = {**settings.content, SWITCHES[0]: lowercase}
            settings = Settings(settings.path, told)
        self._tokenizer = Tokenizer(
            models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
        )
        normalizer = settings.word_normalizer()
        if normalizer is not None:
            self._tokenizer.normalizer = normalizer
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._tokenizer.add_tokens(settings.added())
        # By id: an added token that is found in normalised text is spelled as it was found. The
        # pre-tokenizer splits at brackets, so [UNK] can only be the model's own.
        self._symbols = {
            number: UNKNOWN if token == "[UNK]" else token
            for token, number in self._tokenizer.get_vocab().items()
        }

    def encode(self, text: str) -> str:
        """Tokens of ``text`` joined by spaces; ``<unk>`` for a word that has none."""
        return self._joined(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Encode many texts at once, on all cores; one string of tokens each."""
        batch = self._tokenizer.encode_batch(list(lines), add_special_tokens=False)
        return [self._joined(encoding.ids) for encoding in batch]

    @staticmethod
    def decode(tokens: str) -> str:
        """Text of space-joined tokens: pieces are joined to words, words keep single spaces.

        What normalisation removed (case, accents, runs of white space) does not come back.
        """
        return tokens.replace(" ##", "")

    def _joined(self, ids: Sequence[int]) -> str:
        return " ".join(map(self._symbols.__getitem__, ids))


def read_pieces(path: Path) -> list[str]:
    """The tokens of a ``vocab.txt`` in the order of their ids.

    Raises:
        ValueError: it is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason})") from None
    return [line.rstrip("\r") for line in lines]
