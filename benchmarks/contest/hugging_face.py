"""Fine-tuning as Hugging Face's documentation shows it, with the optimizer of its Trainer.

python -m benchmarks.contest.hugging_face ORDER
"""

import copy
import math
import sys

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
    set_seed,
)

from benchmarks.contest.rows import Rows, read_order, read_rows, write_answer

EVALUATION_BATCH = 32


class Tuning:
    """A model in training.

    Args:
        order: what is to be done.
    """

    def __init__(self, order: dict):
        set_seed(order["seed"])
        self.settings, self.max_length = order["settings"], order["max_length"]
        self.tokenizer = AutoTokenizer.from_pretrained(order["encoder"])
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            order["encoder"], num_labels=len(order["labels"])
        )

    def encode(self, rows: Rows) -> list[dict]:
        """Token ids of each row, with its label."""
        tokens = self.tokenizer(*rows.columns, truncation=True, max_length=self.max_length)
        return [
            {"labels": label, **{name: values[place] for name, values in tokens.items()}}
            for place, label in enumerate(rows.labels)
        ]

    @torch.no_grad()
    def predict(self, rows: list[dict]) -> Tensor:
        """The class of each row; batches are of like lengths, so that little of them is padding."""
        self.model.eval()
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]["input_ids"]))
        found = torch.empty(len(rows), dtype=torch.long)
        for places in torch.tensor(order).split(EVALUATION_BATCH):
            batch = self.collate([rows[place] for place in places])
            found[places] = self.model(**batch).logits.argmax(dim=1)
        return found

    def train(self, train: list[dict], dev: list[dict]) -> tuple[float, int]:
        """Leave the weights of the epoch that is best on dev; its accuracy and number."""
        epochs, batch = self.settings["epochs"], self.settings["batch_size"]
        updates = epochs * math.ceil(len(train) / batch)
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.settings["lr"], weight_decay=0, fused=True
        )
        schedule = get_linear_schedule_with_warmup(optimizer, 0, updates)
        labels = torch.tensor([row["labels"] for row in dev])
        between = max(1, epochs // self.settings["validations"])
        best, chosen, weights = -1.0, 0, None
        for epoch in range(1, epochs + 1):
            self.model.train()
            for places in torch.randperm(len(train)).split(batch):
                self.model(**self.collate([train[place] for place in places])).loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if epoch % between and epoch < epochs:
                continue
            accuracy = (self.predict(dev) == labels).double().mean().item()
            if accuracy > best:
                best, chosen = accuracy, epoch
                weights = copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(weights)
        return best, chosen


def main(path: str) -> None:
    """Train, and predict."""
    order = read_order(path)
    torch.set_num_threads(1)
    tuning = Tuning(order)
    train, dev, test = (tuning.encode(read_rows(order, name)) for name in ("train", "dev", "test"))
    accuracy, epoch = tuning.train(train, dev)
    write_answer(order, tuning.predict(test).tolist(), dev_accuracy=accuracy, epoch=epoch)


if __name__ == "__main__":
    main(sys.argv[1])
