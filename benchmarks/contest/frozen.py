"""Logistic regression on frozen vectors of sentence-transformers.

python -m benchmarks.contest.frozen ORDER
"""

import sys

import numpy as np
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

from benchmarks.contest.rows import Rows, read_order, read_rows, write_answer


def features(model: SentenceTransformer, rows: Rows) -> np.ndarray:
    """The vector of each sentence, of length 1; of pairs [u, v, |u - v|, u * v]."""
    vectors = [
        model.encode(column, normalize_embeddings=True, show_progress_bar=False)
        for column in rows.columns
    ]
    if len(vectors) == 1:
        return vectors[0]
    u, v = vectors
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)


def main(path: str) -> None:
    """Fit for each C, take the one that is best on dev (the smallest of equals), and predict."""
    order = read_order(path)
    model = SentenceTransformer(order["encoder"], device="cpu")
    model.max_seq_length = order["max_length"]
    splits = {name: read_rows(order, name) for name in ("train", "dev", "test")}
    vectors = {name: features(model, rows) for name, rows in splits.items()}
    best, chosen, classifier = -1.0, None, None
    for c in order["settings"]["C"]:
        fitted = LogisticRegression(C=c, max_iter=1000)
        fitted.fit(vectors["train"], splits["train"].labels)
        accuracy = fitted.score(vectors["dev"], splits["dev"].labels)
        if accuracy > best:
            best, chosen, classifier = accuracy, c, fitted
    write_answer(order, classifier.predict(vectors["test"]), dev_accuracy=best, C=chosen)


if __name__ == "__main__":
    main(sys.argv[1])
