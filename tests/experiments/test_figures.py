"""t-SNE figures, and what all figures share: colours, layout, files."""

import io
import itertools
import os
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from scl_fairseq.experiments import plot_style
from scl_fairseq.experiments.figures import project, tsne_figure, tsne_panels
from tests.experiments.drawn import footnote, overlaps

NAMES = ("negative", "positive")
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 60)
EMBEDDINGS = {
    "CE": RANDOM.normal(size=(60, 16)),
    "CE+SCL": RANDOM.normal(size=(60, 16)) + 9 * LABELS[:, None],
}
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
OKABE_ITO = {"000000", "e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7"}


@pytest.fixture(scope="module")
def figure():
    return tsne_figure(EMBEDDINGS, LABELS, NAMES, "Test sentences")


def linear(colour):
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB, D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


PAIRS = {
    "classes": plot_style.TWO_CLASSES,
    "losses": (plot_style.LOSSES["CE"], plot_style.LOSSES["CE+SCL"]),
}


@pytest.mark.parametrize("pair", list(PAIRS))
def test_the_main_pairs_differ_in_grey_in_shape_and_to_colour_blind_readers(pair):
    first, second = PAIRS[pair]
    assert first.marker != second.marker
    lightness = [lab(linear(style.colour))[0] for style in (first, second)]
    assert abs(lightness[0] - lightness[1]) >= 25  # of 100, from black to white
    grey = [
        Image.new("RGB", (1, 1), one.colour).convert("L").getpixel((0, 0)) for one in PAIRS[pair]
    ]
    assert abs(grey[0] - grey[1]) >= 50  # of 255
    for matrix in BLINDNESS.values():
        seen = [lab(np.array(matrix) @ linear(style.colour)) for style in (first, second)]
        assert np.linalg.norm(seen[0] - seen[1]) > 30  # 2.3 is just noticeable


def test_lines_differ_in_dashes():
    assert len({style.line for style in plot_style.LOSSES.values()}) == 2


def test_more_classes_have_okabe_and_itos_colours_and_shapes_of_their_own():
    styles = plot_style.class_styles(8)
    assert {style.colour.lower().lstrip("#") for style in styles} == OKABE_ITO
    assert len({style.marker for style in styles}) == 8
    lightness = [lab(linear(style.colour))[0] for style in styles[:3]]
    assert all(abs(a - b) >= 20 for a, b in itertools.combinations(lightness, 2))
    with pytest.raises(ValueError, match="9 classes"):
        plot_style.class_styles(9)


def test_negative_is_red_positive_is_blue_and_ce_is_on_the_left(figure):
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("CE", "CE+SCL")
    assert left.get_position().x1 <= right.get_position().x0
    for axis, vectors in zip((left, right), EMBEDDINGS.values(), strict=True):
        points = project(vectors)
        for index, scatter in enumerate(axis.collections):
            assert scatter.get_label() == NAMES[index]
            np.testing.assert_allclose(scatter.get_offsets(), points[index == LABELS])
            red, green, blue, _ = (
                scatter.get_edgecolor()[0] if index == 0 else scatter.get_facecolor()[0]
            )
            strong, weak = (red, blue) if index == 0 else (blue, red)
            assert strong > 0.5
            assert strong > 2 * max(green, weak)
    negative, positive = (scatter.get_paths()[0] for scatter in left.collections)
    assert len(negative.vertices) != len(positive.vertices)


def test_what_is_apart_stays_apart():
    points = project(EMBEDDINGS["CE+SCL"])
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (LABELS[distances.argmin(axis=1)] == LABELS).all()
    np.testing.assert_array_equal(points, project(EMBEDDINGS["CE+SCL"]))
    assert not np.allclose(points, project(EMBEDDINGS["CE+SCL"], perplexity=5), atol=0.1)
    assert not np.allclose(points, project(EMBEDDINGS["CE+SCL"], seed=1), atol=0.1)


@pytest.mark.parametrize(
    ("vectors", "perplexity", "message"),
    [
        (np.eye(3), 30, "3 sentences, t-SNE needs 4"),
        (np.ones((9, 4)), 30, "all 9 embeddings are the same"),
        (np.eye(9), 0, "perplexity 0, expected more"),
        (np.eye(9), float("nan"), "perplexity nan"),
        (np.full((9, 4), np.nan), 30, "NaN"),
    ],
)
def test_what_cannot_be_projected(vectors, perplexity, message):
    with pytest.raises(ValueError, match=message):
        project(vectors, perplexity)


def test_few_points_lower_the_perplexity_and_the_footnote_says_so():
    figure = tsne_figure({"CE": np.eye(7)}, [0, 0, 0, 1, 1, 1, 1], NAMES, "Seven")
    assert "perplexity 2," in footnote(figure)
    assert "7 examples (3 negative, 4 positive)" in footnote(figure)


def test_three_classes():
    labels = np.arange(60) % 3
    names = ("contradiction", "neutral", "entailment")
    figure = tsne_figure({"CE": EMBEDDINGS["CE"]}, labels, names, "Three")
    (axis,) = figure.axes
    assert [len(scatter.get_offsets()) for scatter in axis.collections] == [20, 20, 20]
    assert not overlaps(figure)


def test_nothing_overlaps():
    assert not overlaps(tsne_figure(EMBEDDINGS, LABELS, NAMES, "Test sentences"))


def test_overlaps_are_seen():
    broken = tsne_figure({"CE": np.eye(7)}, [0, 0, 0, 1, 1, 1, 1], NAMES, "Seven")
    broken.subfigs[1].texts[0].set_y(5)
    assert overlaps(broken)


def test_panels_are_written_as_the_demo_asks(tmp_path):
    path = tmp_path / "tsne.png"
    tsne_panels(EMBEDDINGS, LABELS.tolist(), NAMES, path, "Test sentences")
    with Image.open(path) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
    assert len(colours) > 100
    reds = sum(count for count, (r, g, b) in colours if r > 200 and g < 120 and b < 120)
    blues = sum(count for count, (r, g, b) in colours if b > 120 and r < 80 and g < 120)
    assert min(reds, blues) > 500
    assert [one.name for one in tmp_path.iterdir()] == ["tsne.png"]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_bytes_again_whatever_the_users_settings(kind, figure, tmp_path):
    plot_style.save(figure, tmp_path / f"first.{kind}")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.dpi": 20}):
        again = tsne_figure(EMBEDDINGS, LABELS, NAMES, "Test sentences")
        plot_style.save(again, tmp_path / f"second.{kind}")
    content = (tmp_path / f"first.{kind}").read_bytes()
    assert content == (tmp_path / f"second.{kind}").read_bytes() == plot_style.render(figure, kind)


def texts_of(figure):
    root = ElementTree.fromstring(plot_style.render(figure, "svg"))
    assert not list(root.iter("{http://purl.org/dc/elements/1.1/}date"))
    return {
        "".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")
    }


def test_an_svg_is_well_formed_and_its_text_is_text(figure):
    expected = {"Test sentences", "CE", "CE+SCL", "negative", "positive", "t-SNE 1"}
    assert expected <= texts_of(figure)


def test_names_are_shown_as_they_are():
    given = ("<5 $ & up", "$a_b$")
    figure = tsne_figure({"$1^2$": np.eye(7)}, [0, 0, 0, 1, 1, 1, 1], given, "From $5 to $6")
    shown = texts_of(figure)
    assert {*given, "$1^2$", "From $5 to $6"} <= shown


def test_a_png_is_large_enough_to_read(figure):
    with Image.open(io.BytesIO(plot_style.render(figure, "png"))) as image:
        assert image.width >= 1600
        low, high = image.convert("L").getextrema()
    assert (low < 50, high) == (True, 255)


def test_a_figure_is_written_whole_or_not_at_all(figure, tmp_path, monkeypatch):
    path = tmp_path / "new" / "figure.png"
    plot_style.save(figure, path)
    old = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_style.save(tsne_figure({"CE": np.eye(7)}, [0] * 7, NAMES, "Seven"), path)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_other_endings_are_refused(figure, tmp_path):
    with pytest.raises(ValueError, match=r"figure\.pdf: the name of a figure ends with \.png or"):
        plot_style.save(figure, tmp_path / "figure.pdf")


def test_long_titles_are_broken_into_lines():
    figure = tsne_figure({"CE": np.eye(7)}, [0] * 7, NAMES, "A title of many words, N = 20. " * 5)
    lines = figure.subfigs[0].get_suptitle().split("\n")
    assert len(lines) > 1
    assert not any(line.endswith(("=", "N")) for line in lines)
    assert not overlaps(figure)
