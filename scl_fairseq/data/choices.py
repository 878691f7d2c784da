"""Values of options, where commands find them without importing anything heavy."""

GLUE, PAPER = "glue", "paper"
SPLITS = (GLUE, PAPER)
GPT2, WORDPIECE, SENTENCEPIECE, FASTBPE = "gpt2", "wordpiece", "sentencepiece", "fastbpe"
BPES = (GPT2, WORDPIECE, SENTENCEPIECE, FASTBPE)
TRUNCATE, DROP, ERROR = "truncate", "drop", "error"
ON_LONG = (TRUNCATE, DROP, ERROR)
