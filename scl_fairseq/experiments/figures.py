"""Figures of experiments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Okabe and Ito's colours, told apart by colour-blind people; shapes differ for print in grey.
CLASS_STYLES = (("#D55E00", "x"), ("#0072B2", "o"), ("#009E73", "^"), ("#CC79A7", "s"))


def tsne_panels(
    embeddings: Mapping[str, object],
    labels: Sequence[int],
    class_names: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Draw one t-SNE panel for each model, side by side, as the paper does for CE and CE+SCL.

    Args:
        embeddings: panel title to (N, C) array, all of the same N sentences.
        labels: (N,), class indices, at most four classes.
        class_names: for the legend.
        path: PNG to write.
        title: says what is shown, over both panels.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    from sklearn.manifold import TSNE

    figure, axes = plt.subplots(1, len(embeddings), figsize=(5 * len(embeddings), 4.6))
    classes = np.asarray(labels)
    for axis, (name, vectors) in zip(np.atleast_1d(axes), embeddings.items(), strict=True):
        vectors = np.asarray(vectors)
        perplexity = min(30, (len(vectors) - 1) / 3)
        points = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(vectors)
        for index, class_name in enumerate(class_names):
            colour, marker = CLASS_STYLES[index]
            of_class = points[classes == index]
            axis.scatter(*of_class.T, s=14, c=colour, marker=marker, label=class_name, alpha=0.7)
        axis.set_title(name)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.legend(*axis.get_legend_handles_labels(), loc="lower center", ncols=len(class_names))
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=150, format="png")
    os.replace(temporary, path)
    plt.close(figure)
