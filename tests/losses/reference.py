"""The printed formula, one pair at a time, in Python floats; no code of the package is used."""

import math


def normalized(row):
    norm = math.sqrt(math.fsum(x * x for x in row))
    return [x / norm for x in row] if norm > 0 else list(row)


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def anchor_losses(features, labels, temperature, average="out"):
    """-1/(N_y - 1) sum_{j != i, y_j = y_i} log(exp(s_ij/t) / sum_{k != i} exp(s_ik/t)), per i.

    With "in", -log(1/(N_y - 1) sum_{j != i, y_j = y_i} exp(s_ij/t) / sum_{k != i} exp(s_ik/t)).
    """
    n = len(features)
    losses = []
    for i in range(n):
        positives = [j for j in range(n) if j != i and labels[j] == labels[i]]
        if not positives:
            losses.append(0.0)
            continue
        scores = {k: dot(features[i], features[k]) / temperature for k in range(n) if k != i}
        largest = max(scores.values())  # exp(100) squared still fits, exp(1000) would not
        denominator = math.fsum(math.exp(s - largest) for s in scores.values())
        if average == "in":
            shares = [math.exp(scores[j] - largest) / denominator for j in positives]
            losses.append(-math.log(math.fsum(shares) / len(positives)))
            continue
        terms = [scores[j] - largest - math.log(denominator) for j in positives]
        losses.append(-math.fsum(terms) / len(positives))
    return losses


def loss_and_gradient(embeddings, labels, temperature, anchors=None, average="out"):
    """Sum of the anchors' losses (by default of all) and its gradient, both by explicit loops.

    d loss / d s_ik is softmax_ik - [k is a positive] / (N_y - 1), times 1 / t; it reaches z_i and
    z_k, and each z through the projection (g - (g . z) z) / norm. With "in", what is subtracted
    for a positive is its share among the positives.
    """
    z = [normalized(row) for row in embeddings]
    n, d = len(z), len(z[0])
    gradient = [[0.0] * d for _ in range(n)]
    anchors = range(n) if anchors is None else anchors
    for i in anchors:
        positives = [j for j in range(n) if j != i and labels[j] == labels[i]]
        if not positives:
            continue
        others = [k for k in range(n) if k != i]
        scores = [dot(z[i], z[k]) / temperature for k in others]
        largest = max(scores)
        weights = [math.exp(s - largest) for s in scores]
        total = math.fsum(weights)
        of_positives = math.fsum(w for k, w in zip(others, weights, strict=True) if k in positives)
        for k, weight in zip(others, weights, strict=True):
            pull = weight / of_positives if average == "in" else 1 / len(positives)
            share = weight / total - (pull if k in positives else 0.0)
            for c in range(d):
                gradient[i][c] += share * z[k][c] / temperature
                gradient[k][c] += share * z[i][c] / temperature
    projected = []
    for row, unit, g in zip(embeddings, z, gradient, strict=True):
        norm = math.sqrt(math.fsum(x * x for x in row))
        along = dot(g, unit)
        projected.append(
            [(gc - along * uc) / norm for gc, uc in zip(g, unit, strict=True)]
            if norm > 0
            else [0.0] * d
        )
    each = anchor_losses(z, labels, temperature, average)
    return math.fsum(each[i] for i in anchors), projected
