"""t-SNE of sentence embeddings, a panel for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scl_fairseq.experiments.plot_style import (
    add_legend,
    class_styles,
    new_figure,
    save,
    styled,
)

FEWEST_POINTS = 4
START_SD = 1e-4  # customary: small beside the result


def tsne_panels(
    embeddings: Mapping[str, np.ndarray],
    labels: Sequence[int],
    class_names: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Draw ``tsne_figure`` into a file, PNG or SVG; arguments as there."""
    save(tsne_figure(embeddings, labels, class_names, title), path)


def project(vectors: np.ndarray, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """t-SNE to two dimensions, started from the principal components with a little noise.

    Args:
        vectors: (N, C).
        perplexity: about how many neighbours count; fewer where there are few points.
        seed: of the noise.

    Returns:
        (N, 2), float32; the same on every call on one machine.

    Raises:
        ValueError: too few points, points that are all the same, or a perplexity of 0 or less.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = np.asarray(vectors, dtype=np.float32)
    if len(vectors) < FEWEST_POINTS:
        raise ValueError(f"{len(vectors)} sentences, t-SNE needs {FEWEST_POINTS} or more")
    if not perplexity > 0:
        raise ValueError(f"perplexity {perplexity:g}, expected more than 0")
    if not np.ptp(vectors, axis=0).any():
        raise ValueError(f"all {len(vectors)} embeddings are the same vector")
    perplexity = usable_perplexity(perplexity, len(vectors))
    with threadpool_limits(1):  # sums of several threads differ in the last bits from run to run
        start = PCA(2, random_state=seed).fit_transform(vectors)
        start *= START_SD / start[:, 0].std()
        # Equal vectors would otherwise never part, and the seed would mean nothing.
        start += np.random.default_rng(seed).normal(scale=START_SD / 100, size=start.shape)
        tsne = TSNE(init=start, perplexity=perplexity, random_state=seed)
        return tsne.fit_transform(vectors)


def usable_perplexity(perplexity: float, num_points: int) -> float:
    """The perplexity, or the largest that so few points allow."""
    return min(perplexity, (num_points - 1) / 3)


@styled()
def tsne_figure(
    embeddings: Mapping[str, np.ndarray],
    labels: Sequence[int],
    class_names: Sequence[str],
    title: str,
    perplexity: float = 30,
    seed: int = 0,
) -> Figure:
    """One t-SNE panel for each model, side by side, as the paper does for CE and CE+SCL.

    Of two classes the first is red and the second blue: negative and positive in the paper.

    Args:
        embeddings: panel title to (N, C) array, all of the same N sentences.
        labels: (N,), class indices, at most eight classes.
        class_names: for the legend.
        title: says what is shown, over all panels.
        perplexity: of t-SNE, as in ``project``.
        seed: of t-SNE.

    Raises:
        ValueError: as ``project``, or too many classes.
    """
    classes = np.asarray(labels)
    styles = class_styles(len(class_names))
    counts = ", ".join(f"{np.sum(classes == i)} {name}" for i, name in enumerate(class_names))
    used = usable_perplexity(perplexity, len(classes))
    footnote = (
        f"t-SNE of the embeddings of {len(classes)} examples ({counts}); each panel by itself, "
        f"perplexity {used:.3g}, started from PCA with noise of seed {seed}. The axes have no "
        "units; distances between far groups mean little."
    )
    size = (max(4.5 * len(embeddings), 5), 4.6)
    figure, axes = new_figure(1, len(embeddings), size, title, footnote)
    for axis, (name, vectors) in zip(axes[0], embeddings.items(), strict=True):
        points = project(vectors, perplexity, seed)
        for index, (class_name, look) in enumerate(zip(class_names, styles, strict=True)):
            of_class = points[classes == index]
            axis.scatter(
                *of_class.T,
                s=16,
                c=look.colour,
                marker=look.marker,
                label=class_name,
                alpha=0.75,
                linewidths=1.0 if look.marker == "x" else 0,
                zorder=3 if look.marker == "x" else 2,  # a cross leaves a dot behind it visible
            )
        axis.set(title=name, xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    add_legend(figure, axes[0, :1])
    return figure
