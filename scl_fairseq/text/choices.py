"""The encodings that ``--bpe`` names, where commands find them without importing anything heavy."""

GPT2, WORDPIECE, SENTENCEPIECE, FASTBPE = "gpt2", "wordpiece", "sentencepiece", "fastbpe"
BPES = (GPT2, WORDPIECE, SENTENCEPIECE, FASTBPE)


def has_separator(bpe: str) -> bool:
    """Whether training puts a token before a second sentence: RoBERTa and its kin, not BERT."""
    return bpe != WORDPIECE
