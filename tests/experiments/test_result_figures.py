"""What the figures of results draw, read back from the figures."""

import io
import itertools
import statistics

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.container import ErrorbarContainer
from PIL import Image

from scl_fairseq.experiments import published, result_figures
from scl_fairseq.experiments.result_places import comparable, find_place, make_places
from scl_fairseq.experiments.results import read_results
from tests.experiments import example_results as example
from tests.experiments.drawn import footnote, legend, overlaps

LOSSES = ("CE", "CE+SCL")


def read(tmp_path, lines, **options):
    return read_results(example.write(tmp_path / "results", lines, **options)).results


def line(valid, test=50.0, others=None, grid_keys=example.GRID_KEYS, **setting):
    """A run whose validation accuracy is that of each epoch, or of the only one."""
    curve = valid if isinstance(valid, list) else [valid]
    given = example.setting(**setting)
    return example.line(given, curve, test, grid_keys=grid_keys, **(others or {}))


@pytest.fixture(scope="module")
def few_shot(tmp_path_factory):
    lines = example.few_shot(tasks=("QNLI", "SST-2"), sizes=(20, 100), samples=4, epochs=6)
    return read_results(example.write(tmp_path_factory.mktemp("few-shot"), lines)).results


@pytest.fixture(scope="module")
def batch_sizes(tmp_path_factory):
    lines = example.batch_sizes(tasks=("SST-2", "CoLA"), seeds=4)
    return read_results(example.write(tmp_path_factory.mktemp("batch-sizes"), lines)).results


# Learning curves


def curves_of(axis):
    """Name, epochs, means, and lower and upper edge of the band, of each line."""
    lines = [one for one in axis.get_lines() if not one.get_label().startswith("_")]
    for drawn, band in zip(lines, axis.collections, strict=True):
        edges = {}
        for x, y in band.get_paths()[0].vertices:
            edges.setdefault(x, []).append(y)
        low, high = zip(*((min(edges[x]), max(edges[x])) for x in drawn.get_xdata()), strict=True)
        yield drawn.get_label(), list(drawn.get_xdata()), list(drawn.get_ydata()), low, high


def test_learning_curves_are_mean_and_standard_deviation_over_runs(tmp_path):
    scl = {"scl_lambda": 0.9, "scl_temperature": 0.3}
    lines = [
        line([50.0, 60.0], others={"train_loss": [1.0, 0.5]}, sample=0),
        line([54.0, 64.0], others={"train_loss": [1.2, 0.7]}, sample=1),
        line([55.0, 65.0], others={"train_loss": [3.0, 2.0]}, sample=0, **scl),
        line([57.0, 71.0], others={"train_loss": [3.4, 2.0]}, sample=1, **scl),
    ]
    (place,) = make_places(read(tmp_path, lines))
    figure = result_figures.learning_curves(place)
    accuracy, loss = figure.axes
    root2 = 2**0.5  # sd of two values is their distance over the root of two
    expected = {
        "CE": ([52, 62], [4 / root2, 4 / root2], [1.1, 0.6], [0.2 / root2] * 2),
        "CE+SCL (λ = 0.9, τ = 0.3)": (
            [56, 68],
            [2 / root2, 6 / root2],
            [3.2, 2.0],
            [0.4 / root2, 0],
        ),
    }
    for axis, first in ((accuracy, 0), (loss, 2)):
        curves = list(curves_of(axis))
        assert [one[0] for one in curves] == list(expected)
        for name, epochs, means, low, high in curves:
            mean, sd = map(np.array, expected[name][first : first + 2])
            assert epochs == [1, 2]
            np.testing.assert_allclose(means, mean)
            np.testing.assert_allclose(low, mean - sd)
            np.testing.assert_allclose(high, mean + sd)
        assert len({one.get_linestyle() for one in axis.get_lines()[:2]}) == 2
        assert len({one.get_marker() for one in axis.get_lines()[:2]}) == 2
    assert accuracy.get_lines()[2].get_ydata() == [50.9, 50.9]
    assert legend(figure) == list(expected)
    assert (accuracy.get_ylabel(), accuracy.get_xlabel()) == ("validation accuracy (%)", "epoch")
    assert loss.get_ylabel() == "training loss (bits per example)"
    assert "2 of CE and 2 of CE+SCL" in footnote(figure)
    assert not overlaps(figure)


def test_learning_curves_of_runs_of_different_length_and_of_rare_validations(tmp_path):
    lines = [
        line([50.0, 60.0, 70.0], others={"valid_epochs": [5, 10, 15]}, sample=0),
        line([52.0, 64.0], others={"valid_epochs": [5, 10]}, sample=1),
        # Twice in the tenth epoch: the later one counts.
        line([54.0, 1.0, 68.0], others={"valid_epochs": [5, 10, 10]}, sample=2),
    ]
    (place,) = make_places(read(tmp_path, lines))
    figure = result_figures.learning_curves(place)
    ((name, epochs, means, low, high),) = curves_of(figure.axes[0])
    assert (name, epochs, means) == ("CE", [5, 10, 15], [52, 64, 70])
    np.testing.assert_allclose(low, [50, 60, 70])
    np.testing.assert_allclose(high, [54, 68, 70])


def test_learning_curves_are_of_the_setting_that_validation_chooses(tmp_path):
    lines = [
        line([60.0, 60.0], 90.0, scl_lambda=0.5, scl_temperature=0.1),
        line([70.0, 70.0], 50.0, scl_lambda=0.9, scl_temperature=0.7),
    ]
    (place,) = make_places(read(tmp_path, lines))
    ((name, *_),) = curves_of(result_figures.learning_curves(place).axes[0])
    assert name == "CE+SCL (λ = 0.9, τ = 0.7)"


def test_the_spread_of_a_single_epoch_is_a_bar(tmp_path):
    lines = [line(50.0, sample=0), line(54.0, sample=1)]
    (place,) = make_places(read(tmp_path, lines))
    *_, bar = result_figures.learning_curves(place).axes[0].collections
    ((below, above),) = bar.get_segments()
    np.testing.assert_allclose([below[1], above[1]], [52 - 8**0.5, 52 + 8**0.5])


@pytest.mark.parametrize("epochs", [1, 2, 10, 30])
def test_the_epoch_axis_has_whole_numbers_of_epochs_that_there_are(epochs, tmp_path):
    (place,) = make_places(read(tmp_path, [line([50.0 + i for i in range(epochs)])]))
    figure = result_figures.learning_curves(place)
    assert not overlaps(figure)
    for axis in figure.axes:
        low, high = axis.get_xlim()
        ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == int(tick) and 1 <= tick <= epochs for tick in ticks)


# Heat maps


def cells_of(figure):
    """(lambda, tau) as the axes name them -> (text, colour), the row of lambda 0 under tau None."""
    axis = figure.axes[0]
    columns, rows = (
        dict(
            zip(one.get_majorticklocs(), (t.get_text() for t in one.get_ticklabels()), strict=True)
        )
        for one in (axis.xaxis, axis.yaxis)
    )
    filled = [patch for patch in axis.patches if patch.get_fill() and not patch.get_hatch()]
    cells = {}
    for text in axis.texts:
        x, y = text.get_position()
        (patch,) = [one for one in filled if one.get_bbox().contains(x, y)]
        row = rows[y]
        cells[row, None if row == "0" else columns[x]] = (text, patch)
    return cells


def framed(figure):
    axis = figure.axes[0]
    columns = [label.get_text() for label in axis.get_xticklabels()]
    rows = [label.get_text() for label in axis.get_yticklabels() if label.get_text() != "0"]
    corners = {patch.get_xy() for patch in axis.patches if not patch.get_fill()}
    ((x, y),) = corners
    return rows[int(y)], columns[int(x)]


@pytest.fixture
def small_grid(tmp_path):
    """Two lambdas, two taus, one of the four without runs, and CE."""
    runs = {
        (0, None): ([60.0, 62.0], [61.0, 61.0]),
        (0.5, 0.1): ([64.0, 70.0], [90.0, 92.0]),
        (0.5, 0.3): ([71.0, 72.0], [60.0, 66.0]),
        (0.9, 0.1): ([66.0, 66.0], [55.0, 55.0]),
    }
    lines = [
        line(valid, test, sample=sample, scl_lambda=weight, scl_temperature=temperature)
        for (weight, temperature), values in runs.items()
        for sample, (valid, test) in enumerate(zip(*values, strict=True))
    ]
    (place,) = make_places(read(tmp_path, lines))
    return place


def test_heat_map_cells_hold_mean_and_standard_deviation(small_grid):
    figure = result_figures.heat_map(small_grid)
    texts = {key: text.get_text() for key, (text, _) in cells_of(figure).items()}
    assert texts == {
        ("0", None): "CE: 61.0 ± 1.4",
        ("0.5", "0.1"): "67.0 ± 4.2",
        ("0.5", "0.3"): "71.5 ± 0.7",
        ("0.9", "0.1"): "66.0 ± 0.0",
    }
    axis, bar = figure.axes
    (hole,) = [patch for patch in axis.patches if patch.get_hatch()]
    assert hole.get_xy() == (1, 1)  # tau 0.3, lambda 0.9
    assert framed(figure) == ("0.5", "0.3")
    assert bar.get_ylabel() == "mean validation accuracy (%)"
    assert bar.get_ylim() == (61, 71.5)
    assert axis.get_xlabel() == "temperature τ"
    assert "λ" in axis.get_ylabel()
    assert "over 2 runs in each cell" in footnote(figure)
    assert "Hatched: no runs" in footnote(figure)
    assert result_figures.title_of(figure).endswith("SST-2, N = 20")
    assert not overlaps(figure)


def test_heat_map_of_test_accuracies_warns_and_frames_what_validation_chose(small_grid):
    figure = result_figures.heat_map(small_grid, "test")
    texts = {key: text.get_text() for key, (text, _) in cells_of(figure).items()}
    assert texts["0.5", "0.1"] == "91.0 ± 1.4"  # the best of all
    assert framed(figure) == ("0.5", "0.3")
    assert "must not be chosen by test accuracy" in footnote(figure)
    assert "must not be chosen" not in footnote(result_figures.heat_map(small_grid))
    assert figure.axes[1].get_ylabel() == "mean test accuracy (%)"


def luminance(colour):
    values = np.array(colour[:3])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_heat_map_is_lighter_where_accuracy_is_higher_and_its_text_is_readable(few_shot):
    place = find_place(make_places(few_shot), "SST-2", 20)
    cells = cells_of(result_figures.heat_map(place))
    assert len(cells) == 5 * 4 + 1
    values, lights = [], []
    for text, patch in cells.values():
        values.append(float(text.get_text().removeprefix("CE: ").split()[0]))
        lights.append(luminance(patch.get_facecolor()))
        pair = sorted([lights[-1], luminance(to_rgba(text.get_color()))])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5  # WCAG AA
    for (a, light), (b, other) in itertools.combinations(zip(values, lights, strict=True), 2):
        if abs(a - b) > 0.1:
            assert (a < b) == (light < other)


def test_heat_map_says_how_many_runs_where_cells_differ_in_it(tmp_path):
    lines = [line(60.0, sample=i, scl_lambda=0.9, scl_temperature=0.1) for i in range(3)]
    lines += [line(61.0, sample=i, scl_lambda=0.9, scl_temperature=0.3) for i in range(1)]
    (place,) = make_places(read(tmp_path, lines))
    figure = result_figures.heat_map(place)
    texts = {key: text.get_text() for key, (text, _) in cells_of(figure).items()}
    assert texts == {("0.9", "0.1"): "60.0 ± 0.0\nn = 3", ("0.9", "0.3"): "61.0\nn = 1"}
    assert "λ = 0" not in footnote(figure)
    assert not overlaps(figure)


def test_heat_map_shows_of_further_hyperparameters_the_best_by_validation(tmp_path):
    keys = [*example.GRID_KEYS, "lr"]
    lines = [
        line(valid, test, grid_keys=keys, scl_lambda=0.9, scl_temperature=tau, lr=lr)
        for tau, lr, valid, test in (
            (0.1, 1e-5, 60.0, 99.0),
            (0.1, "5e-5", 70.0, 50.0),
            (0.3, 1e-5, 65.0, 50.0),
        )
    ]
    (place,) = make_places(read(tmp_path, lines))
    texts = {
        key: text.get_text() for key, (text, _) in cells_of(result_figures.heat_map(place)).items()
    }
    assert texts == {("0.9", "0.1"): "70.0", ("0.9", "0.3"): "65.0"}


def test_heat_map_counts_collapsed_runs(tmp_path):
    lines = [line(valid, sample=i) for i, valid in enumerate((50.9, 60.0, 50.2))]
    lines += [line(70.0, scl_lambda=0.9, scl_temperature=0.3)]
    (place,) = make_places(read(tmp_path, lines))
    assert "2 of 4 runs collapsed" in footnote(result_figures.heat_map(place))


def test_heat_map_without_contrast(tmp_path):
    (place,) = make_places(read(tmp_path, [line(60.0)]))
    with pytest.raises(ValueError, match=r"SST-2, N = 20: no run of CE\+SCL"):
        result_figures.heat_map(place)


# Accuracy by N and by batch size


def points_of(axis):
    """Label -> x, y, lower and upper end of the bars; and the marker's face colour."""
    found = {}
    for container in axis.containers:
        assert isinstance(container, ErrorbarContainer)
        drawn, _, (bars,) = container.lines
        ends = [(segment[0][1], segment[1][1]) for segment in bars.get_segments()]
        found[container.get_label()] = (
            [float(x) for x in drawn.get_xdata()],
            list(drawn.get_ydata()),
            ends,
            drawn,
        )
    return found


def test_accuracy_is_of_the_top_runs_by_validation(tmp_path):
    valid = [60.0, 70.0, 50.0, 80.0]
    test = [61.0, 69.0, 99.0, 77.0]  # the last but one is best in test, worst in validation
    lines = [
        line(v, t + shift, sample=i, size=size, scl_lambda=weight, scl_temperature=0.3)
        for size, shift in ((20, 0), (100, 10))
        for weight in (0, 0.9)
        for i, (v, t) in enumerate(zip(valid, (t - 20 + 5 * weight for t in test), strict=True))
    ]
    places = make_places(read(tmp_path, lines))
    figure = result_figures.accuracy_by_size(places)
    (axis,) = figure.axes
    points = points_of(axis)
    assert list(points) == ["CE", "CE+SCL", "CE, published", "CE+SCL, published"]
    top = [41.0, 49.0, 57.0]
    for loss, more in (("CE", 0), ("CE+SCL", 4.5)):
        x, y, ends, _ = points[loss]
        np.testing.assert_allclose(x, [20, 100], rtol=0.06)
        means = np.array([statistics.mean(top) + more, statistics.mean(top) + more + 10])
        np.testing.assert_allclose(y, means)
        np.testing.assert_allclose(np.array(ends), np.stack([means - 8, means + 8], axis=1))
    x, y, ends, _ = points["CE, published"]
    np.testing.assert_allclose(x, [20, 100], rtol=0.2)
    np.testing.assert_allclose(y, [85.9, 91.1])
    np.testing.assert_allclose(ends, [[83.8, 88.0], [89.8, 92.4]])
    x, y, ends, _ = points["CE+SCL, published"]
    np.testing.assert_allclose(y, [88.1, 92.8])
    np.testing.assert_allclose(ends, [[84.8, 91.4], [91.5, 94.1]])

    looks = {name: drawn for name, (*_, drawn) in points.items()}
    for loss in LOSSES:
        hollow, filled = looks[f"{loss}, published"], looks[loss]
        assert to_hex(hollow.get_markerfacecolor()) == "#ffffff"
        assert to_hex(filled.get_markerfacecolor()) == to_hex(filled.get_color())
        assert (hollow.get_marker(), hollow.get_color()) == (
            filled.get_marker(),
            filled.get_color(),
        )
        assert hollow.get_linestyle() == "None"
    assert looks["CE"].get_marker() != looks["CE+SCL"].get_marker()
    assert looks["CE"].get_linestyle() != looks["CE+SCL"].get_linestyle()
    assert axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["20", "100"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == (
        "labelled training examples N",
        "test accuracy (%)",
    )
    assert "the top 3 of 4 runs" in footnote(figure)
    assert "RoBERTa-Large" in footnote(figure)
    assert legend(figure) == list(points)
    assert not overlaps(figure)

    without = result_figures.accuracy_by_size(places, top=1, table=None)
    assert legend(without) == list(LOSSES)
    assert points_of(without.axes[0])["CE"][1] == pytest.approx([57, 67])
    assert "ublished" not in footnote(without)


def test_tasks_have_panels_in_the_papers_order(few_shot):
    (places,) = comparable(make_places(few_shot), "N")
    figure = result_figures.accuracy_by_size(places, table=None)
    assert [axis.get_title() for axis in figure.axes] == ["SST-2", "QNLI"]
    assert not overlaps(figure)


def test_accuracy_and_speed_by_batch_size(batch_sizes):
    (places,) = comparable(make_places(batch_sizes), "batch-size")
    figure = result_figures.accuracy_by_batch_size(places, top=4)
    upper, speed = figure.axes[0], figure.axes[2]
    assert upper.get_title() == "SST-2"
    for loss in LOSSES:
        accuracies, speeds = points_of(upper)[loss], points_of(speed)[loss]
        for i, size in enumerate((16, 64, 256)):
            runs = [
                run
                for run in batch_sizes
                if run.loss == loss
                and (run.setting["task"], run.setting["batch-size"]) == ("SST-2", size)
            ]
            assert len(runs) == 4
            tests = [run.test_accuracy for run in runs]
            assert accuracies[1][i] == pytest.approx(statistics.mean(tests))
            bar = accuracies[2][i][1] - accuracies[1][i]
            assert bar == pytest.approx(statistics.stdev(tests))
            rates = sorted(run.updates_per_second for run in runs)
            assert speeds[1][i] == pytest.approx((rates[1] + rates[2]) / 2)
            assert speeds[2][i] == pytest.approx((rates[0], rates[3]))
    assert points_of(upper)["CE+SCL, published"][1] == [93.9, 94.2, 94.3]
    assert "CE, published" not in points_of(upper)
    assert speed.get_ylim()[0] == 0
    assert (speed.get_ylabel(), speed.get_xlabel()) == (
        "updates per second",
        "batch size (examples)",
    )
    assert [label.get_text() for label in speed.get_xticklabels()] == ["16", "64", "256"]
    assert "RoBERTa-Base" in footnote(figure)
    assert "cpu: a test, 1 thread" in footnote(figure)
    assert not overlaps(figure)


def test_numbers_of_whole_training_sets_do_not_stand_beside_few_shot_results(tmp_path):
    keys = [*example.GRID_KEYS, "batch-size"]
    lines = [
        line(60.0, grid_keys=keys, scl_lambda=0.9, scl_temperature=0.3, **{"batch-size": size})
        for size in (16, 64)
    ]
    figure = result_figures.accuracy_by_batch_size(make_places(read(tmp_path, lines)))
    assert legend(figure) == ["CE+SCL"]
    assert "ublished" not in footnote(figure)


# All figures


def test_every_figure_that_few_shot_results_allow(few_shot):
    figures = result_figures.figures_for(list(few_shot))
    places = [f"{task}, N = {size}" for task in ("QNLI", "SST-2") for size in (20, 100)]
    assert list(figures) == [
        "Test accuracy by number of labelled examples",
        *(f"Mean validation accuracy over λ and τ: {place}" for place in places),
        *(f"Learning curves: {place}" for place in places),
    ]
    for title in list(figures)[::4]:  # one of each kind
        figure = figures[title]
        with Image.open(io.BytesIO(result_figures.render(figure, "png"))) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 20, title


def test_a_figures_bytes_do_not_depend_on_what_was_drawn_before(small_grid):
    def drawn():
        return [
            result_figures.heat_map(small_grid),
            result_figures.learning_curves(small_grid),
            result_figures.accuracy_by_size([small_grid]),
        ]

    for one, other in zip(drawn(), drawn(), strict=True):
        svg = [result_figures.render(one, kind) for kind in ("svg", "png", "svg")][::2]
        png = [result_figures.render(other, kind) for kind in ("png", "svg", "png")][::2]
        assert svg[0] == svg[1] == result_figures.render(other, "svg")
        assert png[0] == png[1] == result_figures.render(one, "png")


def test_every_figure_that_results_on_batch_size_allow(batch_sizes):
    figures = result_figures.figures_for(batch_sizes)
    assert next(iter(figures)) == "Accuracy and speed by batch size, whole training set"
    assert len(figures) == 1 + 2 * 3  # curves of each task and batch size, no heat map
    assert all(title.startswith("Learning curves: ") for title in list(figures)[1:])
    assert not any(map(overlaps, figures.values()))


def test_only_what_there_is_enough_for_is_drawn(tmp_path):
    lines = [line(60.0), line(61.0, scl_lambda=0.9, scl_temperature=0.3)]
    assert list(result_figures.figures_for(read(tmp_path, lines))) == [
        "Learning curves: SST-2, N = 20"
    ]


@pytest.mark.parametrize(("name", "is_shown"), [("few-shot", True), ("none", False)])
def test_published_numbers_are_shown_where_the_config_names_them(name, is_shown, tmp_path):
    lines = [line(60.0, size=size) for size in (20, 100)]
    folder = example.write(tmp_path, lines, published=name)
    results = read_results(folder)
    figures = result_figures.figures_for(results.results, [results.config])
    assert ("CE, published" in legend(next(iter(figures.values())))) == is_shown
    assert result_figures.named_table(published.FEW_SHOT, [None]) is None


# Places


def test_places_are_found_by_task_n_and_further_keys(few_shot, batch_sizes):
    places = make_places(few_shot)
    assert find_place(places, "sst-2", 100).name == "SST-2, N = 100"
    with pytest.raises(ValueError, match="several: SST-2, N = 20; SST-2, N = 100; choose with"):
        find_place(places, "SST-2")
    with pytest.raises(ValueError, match="no such results; there are QNLI, N = 20; "):
        find_place(places, "RTE")
    places = make_places(batch_sizes)
    found = find_place(places, "CoLA", "full", {"batch-size": "64"})
    assert found.name == "CoLA, whole training set, batch size 64"
    with pytest.raises(ValueError, match="no such results"):
        find_place(places, "CoLA", "full", {"colour": "64"})


def test_data_that_differs_is_never_averaged(tmp_path):
    config = example.CONFIG.format(published="none").replace("{task}", "{task}/{noise}")
    config = config.replace("  N: [20]", "  N: [20]\n  noise: [0.3, 0.9]")
    keys = [*example.GRID_KEYS, "noise"]
    lines = [
        line(
            valid, grid_keys=keys, noise=noise, others={"data": {"path": "d", "sha256": str(noise)}}
        )
        for noise, valid in ((0.3, 60.0), (0.9, 50.0))
    ]
    folder = example.write(tmp_path, lines)
    (folder / "config.yaml").write_text(config)
    results = read_results(folder)
    places = make_places(results.results, [results.config])
    assert [place.name for place in places] == [
        "SST-2, N = 20, noise 0.3",
        "SST-2, N = 20, noise 0.9",
    ]
