"""Values of options, where commands find them without importing anything heavy."""

GLUE, PAPER = "glue", "paper"
SPLITS = (GLUE, PAPER)
GPT2, WORDPIECE, SENTENCEPIECE, FASTBPE = "gpt2", "wordpiece", "sentencepiece", "fastbpe"
BPES = (GPT2, WORDPIECE, SENTENCEPIECE, FASTBPE)
TRUNCATE, DROP, ERROR = "truncate", "drop", "error"
ON_LONG = (TRUNCATE, DROP, ERROR)


def has_separator(bpe: str) -> bool:
    """Whether training puts a token before a second sentence: RoBERTa and its kin, not BERT."""
    return bpe != WORDPIECE
