"""What a loop of trainings runs after each: a checkpoint's predictions for a test set.

    python -m benchmarks.evaluate_checkpoint CHECKPOINT DATA SAMPLE TASK VOCABULARY

Loads the checkpoint through fairseq's hub interface and prints the predicted label of each raw
sentence of the sample's ``test.tsv``, a line each.
"""

import sys
from pathlib import Path

from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import find_task
from scl_fairseq.inference import hub


def main(checkpoint: str, data: str, sample: str, task: str, vocabulary: str) -> None:
    """Predict and print."""
    model = hub.load(Path(checkpoint), Path(data), bpe="wordpiece", wordpiece_vocab=vocabulary)
    rows = read_rows(find_task(task), Path(sample) / "test.tsv")
    names = hub.labels(model)
    for index in hub.predict(model, [row.sentences for row in rows]).argmax(dim=1).tolist():
        print("prediction", names[index])


if __name__ == "__main__":
    main(*sys.argv[1:])
