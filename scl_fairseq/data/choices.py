"""Values of options, where commands find them without importing anything heavy."""

GLUE, PAPER = "glue", "paper"
SPLITS = (GLUE, PAPER)
# What becomes of a task's files: fairseq's names, those that --valid-subset and --gen-subset take.
# PAPER draws its "valid" from train.
OUTPUTS = {
    GLUE: {
        "train": "train",
        "dev": "valid",
        "dev_mismatched": "valid1",
        "test": "test",
        "test_mismatched": "test1",
    },
    PAPER: {"train": "train", "dev": "test", "dev_mismatched": "test1"},
}
TRUNCATE, DROP, ERROR = "truncate", "drop", "error"
ON_LONG = (TRUNCATE, DROP, ERROR)
# How the fields of a table are quoted.
AUTO, QUOTED, UNQUOTED = "auto", "csv", "text"
QUOTINGS = (AUTO, QUOTED, UNQUOTED)
