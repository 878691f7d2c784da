"""A classification head that begins as a logistic regression on the encoder as it was loaded.

Linear probing, then fine-tuning (Kumar et al., arXiv 2202.10054): a head that was drawn at random
changes the encoder before it says anything of the classes, and in a few-shot training there is not
much time after that.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scl_fairseq.batching import batches_by_length
from scl_fairseq.criterions.capture import HeadCapture
from scl_fairseq.models.packed_encoder import packed, reads_first_position

logger = logging.getLogger(__name__)

# The penalty is weight² / (2 · 1000) beside the mean cross-entropy, of vectors of norm 1: of C
# from 0.1 to 100, this over N is near the best for 20, 100 and 500 examples of SST-2, on
# 400 sentences of its dev.tsv.
STRENGTH = 1000
TOKENS = 1024  # in a batch


def begin_as_probe(model: nn.Module, head_name: str, pooling: str, dataset: Any, pad: int) -> None:
    """Let a head start at the logistic regression of a data set's labels.

    Its first layer becomes a multiple of the identity, which makes what it reads 1 long on average,
    and its last one the regression on what the first one's activation makes of that. A class that
    no example has starts below all others.

    Args:
        model: bare, with its weights.
        head_name: of its classification heads, as wide as its input.
        pooling: what the head reads: ``cls`` or ``mean``.
        dataset: fairseq's, of the training examples.
        pad: index of ``<pad>``.

    Raises:
        ValueError: the head has another width; the examples are of one class.
    """
    head = model.classification_heads[head_name]
    vectors, targets = _read(model, head_name, pooling, dataset, pad)
    found = targets.unique()
    if len(found) < 2:
        raise ValueError("--head-init probe needs training examples of two classes or more")
    with torch.no_grad():
        _scale_first_layer(head, head_name, vectors)
        features = _features(head, vectors)
        coefficients, intercepts = _fit(features, targets.numpy())
        head.out_proj.weight.zero_()
        head.out_proj.bias.fill_(intercepts.min() - np.log(len(targets) + 1))
        head.out_proj.weight[found] = torch.from_numpy(coefficients).to(head.out_proj.weight)
        head.out_proj.bias[found] = torch.from_numpy(intercepts).to(head.out_proj.bias)
        right = (head.out_proj(features.to(head.out_proj.weight)).argmax(1).cpu() == targets).sum()
    if dist.is_available() and dist.is_initialized():  # sums differ between kinds of processors
        for parameter in head.parameters():
            dist.broadcast(parameter.data, 0)
    logger.info(
        "the classification head begins as a logistic regression on %d examples, %.1f %% of them "
        "right",
        len(targets), 100 * int(right) / len(targets),
    )  # fmt: skip


def _scale_first_layer(head: nn.Module, name: str, vectors: Tensor) -> None:
    dense = head.dense
    if not dense.weight.requires_grad:  # by --freeze-encoder: the identity
        return
    if dense.in_features != dense.out_features:
        raise ValueError(
            f"--head-init probe needs a head as wide as its input: {name} makes "
            f"{dense.out_features} of {dense.in_features}"
        )
    nn.init.eye_(dense.weight)
    dense.weight.div_(vectors.norm(dim=1).mean())
    nn.init.zeros_(dense.bias)


def _features(head: nn.Module, vectors: Tensor) -> Tensor:
    """What ``out_proj`` reads of vectors, without dropout: (N, C)."""
    return head.activation_fn(head.dense(vectors.to(head.dense.weight))).float()


def _fit(features: Tensor, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (classes, C) and biases (classes,), of the classes that there are, in order."""
    from sklearn.linear_model import LogisticRegression

    rows = features.double().cpu().numpy()
    length = np.linalg.norm(rows, axis=1).mean() or 1.0
    regression = LogisticRegression(C=STRENGTH / len(rows), max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a start: close enough is enough
        regression.fit(rows / length, targets)
    weights, biases = regression.coef_ / length, regression.intercept_
    if len(weights) == 1:  # of two classes scikit-learn has the difference
        weights, biases = (np.concatenate([-part / 2, part / 2]) for part in (weights, biases))
    return weights, biases


@torch.no_grad()
def _read(
    model: nn.Module, head_name: str, pooling: str, dataset: Any, pad: int
) -> tuple[Tensor, Tensor]:
    """What the head reads of all examples, (N, C) in float32, and their classes, (N,)."""
    device, was_training = next(model.parameters()).device, model.training
    first_only = reads_first_position(model.classification_heads[head_name])
    lengths = [dataset.num_tokens(index) for index in range(len(dataset))]
    vectors, targets = [], []
    model.eval()
    try:
        with packed(model, first_only):
            for chosen in batches_by_length(lengths, TOKENS):
                sample = dataset.collater([dataset[index] for index in chosen])
                net_input = tree_map(
                    lambda part: part.to(device) if torch.is_tensor(part) else part,
                    sample["net_input"],
                )
                with HeadCapture(model, head_name, pooling, net_input, pad) as captured:
                    model(**net_input, features_only=True, classification_head_name=head_name)
                vectors.append(captured.embedding().float())
                targets.append(sample["target"].view(-1))
    finally:
        model.train(was_training)
    return torch.cat(vectors), torch.cat(targets)
