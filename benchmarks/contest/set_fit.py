"""SetFit with its authors' settings; in an environment that has it.

python -m benchmarks.contest.set_fit ORDER
"""

import sys
import tempfile
from collections import Counter

from benchmarks.contest.rows import Rows, read_order, read_rows, write_answer


def texts(rows: Rows, separator: str) -> list[str]:
    """A text for each row: SetFit knows no pairs, so the second follows the separator token."""
    return [f" {separator} ".join(sentences) for sentences in rows.sentences]


def steps_of_an_epoch(labels: list[int], batch_size: int) -> int:
    """Batches of SetFit's default sampling: each pair once, the rarer kind of pair repeated."""
    sizes = Counter(labels).values()
    alike = sum(size * (size + 1) // 2 for size in sizes)
    unlike = len(labels) * (len(labels) + 1) // 2 - alike
    return -(-2 * max(alike, unlike) // batch_size)


def steps_allowed(rows: Rows, settings: dict) -> int:
    """``most_steps``, or as many as have ``most_words``, but not fewer than ``least_steps``."""
    words = sum(len(sentence.split()) for sentences in rows.sentences for sentence in sentences)
    of_a_step = 2 * settings["batch_size"] * words / len(rows.labels)  # two texts of a pair
    allowed = max(settings["least_steps"], int(settings["most_words"] / of_a_step))
    return min(settings["most_steps"], allowed)


def main(path: str) -> None:
    """Train an epoch, or as many steps as are allowed, and predict."""
    # Here, so that what stands above can be imported where there is no SetFit.
    import setfit
    import torch
    from datasets import Dataset

    order = read_order(path)
    settings = order["settings"]
    torch.set_num_threads(1)
    model = setfit.SetFitModel.from_pretrained(order["encoder"], device="cpu")
    model.model_body.max_seq_length = order["max_length"]
    separator = model.model_body.tokenizer.sep_token
    train, test = read_rows(order, "train"), read_rows(order, "test")
    epoch = steps_of_an_epoch(train.labels, settings["batch_size"])
    steps = min(epoch, steps_allowed(train, settings))
    with tempfile.TemporaryDirectory() as folder:
        arguments = setfit.TrainingArguments(
            output_dir=folder,
            batch_size=settings["batch_size"],
            num_epochs=settings["epochs"],
            body_learning_rate=settings["lr"],
            max_steps=steps if steps < epoch else -1,
            seed=order["seed"],
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": texts(train, separator), "label": train.labels})
        setfit.Trainer(model=model, args=arguments, train_dataset=data).train()
    found = model.predict(texts(test, separator), use_labels=False, show_progress_bar=False)
    write_answer(order, [int(place) for place in found], steps=steps, epoch_steps=epoch)


if __name__ == "__main__":
    main(sys.argv[1])
