"""What a loop of trainings runs after each: a checkpoint's predictions for a test set.

    python -m benchmarks.evaluate_checkpoint CHECKPOINT DATA SAMPLE TASK VOCABULARY

Loads the checkpoint through fairseq's hub interface and prints the predicted label of each raw
sentence of the sample's ``test.tsv``, a line each.
"""

import sys
from pathlib import Path

import scl_fairseq
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import find_task


def main(checkpoint: str, data: str, sample: str, task: str, vocabulary: str) -> None:
    """Predict and print."""
    model = scl_fairseq.load(checkpoint, data, bpe="wordpiece", bpe_dir=Path(vocabulary).parent)
    rows = read_rows(find_task(task), Path(sample) / "test.tsv")
    for label in model.predict([row.sentences for row in rows]).labels:
        print("prediction", label)


if __name__ == "__main__":
    main(*sys.argv[1:])
