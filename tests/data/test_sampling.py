import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scl_fairseq.data import sampling, splits, synthetic
from scl_fairseq.data.folders import open_folder
from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.sampling import Size
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.tasks import TASKS, custom_task
from tests import runs

TWO, THREE = TASKS["SST-2"], TASKS["MNLI"]


def class_ids(task, sizes, shuffle_seed=0):
    """Ids of each class, mixed as in a file."""
    ids = list(range(sum(sizes)))
    random.Random(shuffle_seed).shuffle(ids)
    found, start = {}, 0
    for label, size in zip(task.labels, sizes, strict=True):
        found[label] = ids[start : start + size]
        start += size
    return found


def counts(ids, classes):
    return {label: len(set(ids) & set(of_class)) for label, of_class in classes.items()}


def assert_stratified(ids, classes):
    """Within one row of the exact share, but for a class that would have no row at all."""
    sizes = {label: len(of_class) for label, of_class in classes.items()}
    found = counts(ids, classes)
    assert min(found.values()) >= 1
    exact = {c: Fraction(len(ids) * size, sum(sizes.values())) for c, size in sizes.items()}
    raised = sum(share < 1 for share in exact.values())
    for label, count in found.items():
        assert abs(count - exact[label]) < 1 + raised, (found, exact)


@st.composite
def problems(draw):
    task = draw(st.sampled_from([TWO, THREE]))
    few = st.integers(4, 900)
    train, dev = (draw(st.tuples(*[few] * len(task.labels))) for _ in range(2))
    num_examples = draw(st.integers(len(task.labels), sum(train)))
    return task, train, dev, num_examples, draw(st.integers(0, 2**40))


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(1, 4))
def test_sizes_strata_disjointness_and_determinism(problem, num_samples):
    task, train_sizes, dev_sizes, num_examples, seed = problem
    train, dev = class_ids(task, train_sizes), class_ids(task, dev_sizes)
    arguments = (Size(num_examples), num_samples, seed)
    try:
        drawn = sampling.draw_samples(task, train, dev, *arguments)
    except ValueError as error:  # a class of dev that fills the test set alone
        assume("no row of class" not in str(error))
        raise
    assert len(drawn.train) == num_samples
    assert len(drawn.test) == sum(dev_sizes) // 2
    assert len(drawn.validation) == min(500, sum(dev_sizes) - len(drawn.test))
    assert not set(drawn.test) & set(drawn.validation)
    parts = [*((ids, train) for ids in drawn.train), (drawn.test, dev), (drawn.validation, dev)]
    for ids, classes in parts:
        assert len(set(ids)) == len(ids)
        assert set(ids) <= {i for of_class in classes.values() for i in of_class}
        assert ids == sorted(ids)
        assert_stratified(ids, classes)
    assert all(len(ids) == num_examples for ids in drawn.train)
    assert sampling.draw_samples(task, train, dev, *arguments) == drawn
    # The order of the rows in the files plays no part.
    turned = [{c: ids[::-1] for c, ids in classes.items()} for classes in (train, dev)]
    assert sampling.draw_samples(task, *turned, *arguments) == drawn


def test_one_split_of_dev_serves_every_sample_and_every_n():
    train, dev = class_ids(TWO, (100, 150)), class_ids(TWO, (60, 70))
    few = sampling.draw_samples(TWO, train, dev, Size(20), 2, seed=5)
    more = sampling.draw_samples(TWO, train, dev, Size(100), 4, seed=5)
    assert (few.test, few.validation) == (more.test, more.validation)
    assert len(set(map(tuple, more.train))) == 4
    assert more.train[:2] == sampling.draw_samples(TWO, train, dev, Size(100), 2, seed=5).train
    other = sampling.draw_samples(TWO, train, dev, Size(20), 2, seed=6)
    assert few.train[0] != other.train[0]
    assert few.test != other.test


def test_per_class():
    train, dev = class_ids(TWO, (100, 30)), class_ids(TWO, (60, 70))
    drawn = sampling.draw_samples(TWO, train, dev, Size(per_class=20), 3, seed=0)
    assert [counts(ids, train) for ids in drawn.train] == [{"0": 20, "1": 20}] * 3
    assert_stratified(drawn.test, dev)


@pytest.mark.parametrize(
    ("total", "available", "expected"),
    [
        (10, {"a": 50, "b": 50}, {"a": 5, "b": 5}),
        (10, {"a": 1, "b": 2}, "cannot draw 10 examples"),
        (3, {"a": 1, "b": 1, "c": 98}, {"a": 1, "b": 1, "c": 1}),
        (20, {"a": 37569, "b": 29780}, {"a": 11, "b": 9}),  # SST-2: 11.16 and 8.84
        (5, {"a": 1, "b": 99}, {"a": 1, "b": 4}),
        (3, {"a": 10, "b": 10}, {"a": 2, "b": 1}),  # a tie goes to the first class
        (1, {"a": 1, "b": 99}, "cannot draw 1 examples"),
        (2, {"a": 5, "b": 0}, "no row of class b"),
    ],
)
def test_allocate(total, available, expected):
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            splits.allocate(total, available)
    else:
        assert splits.allocate(total, available) == expected


def test_rounding_up_needs_room():
    assert splits.allocate(5, {"a": 50, "b": 50}, {"a": 2, "b": 40}) == {"a": 2, "b": 3}


def test_every_sample_of_a_few_is_as_likely_as_another():
    """1,200 draws of 2 from 4: each of the 12 ordered pairs about 100 times."""
    seen = Counter(tuple(StableRandom(seed).sample(4, 2)) for seed in range(1200))
    assert len(seen) == 12
    assert max(abs(count - 100) for count in seen.values()) < 40
    assert sorted(StableRandom(0).sample(50, 50)) == list(range(50))


def test_the_draw_is_the_same_everywhere():
    """Recorded once; another value means that published samples can no longer be redrawn."""
    assert StableRandom(1, "x").sample(10, 4) == [6, 3, 8, 9]
    ids = {"0": range(0, 100, 3), "1": [i for i in range(100) if i % 3]}
    drawn = sampling.draw_samples(TWO, ids, ids, Size(6), 1, seed=1)
    assert drawn.train == [[24, 32, 38, 47, 58, 87]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    synthetic.write_corpus(folder, num_train=60, num_dev=40)
    return folder


def test_written_samples_are_valid_data_folders(corpus, tmp_path):
    written = sampling.write_samples(TWO, corpus, tmp_path / "out", Size(20), 2, seed=0)
    assert [folder.name for folder in written.folders] == ["sample0", "sample1"]
    first, second = written.folders
    official = read_rows(TWO, corpus / "train.tsv")
    rows = read_rows(TWO, second / "train.tsv")
    assert rows == [official[row.id] for row in rows]
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["row_ids"]["train"] == [row.id for row in rows]
    assert manifest["label_counts"]["train"] == {"0": 10, "1": 10}
    assert manifest["versions"]["scl-fairseq"]
    assert (first / "test.tsv").read_bytes() == (second / "test.tsv").read_bytes()
    # A sample is a data folder: a smaller sample can be drawn from it.
    again = sampling.write_samples(TWO, second, tmp_path / "again", Size(4), 1, seed=0)
    smaller = read_rows(TWO, again.folders[0] / "train.tsv")
    assert len(smaller) == 4
    assert set(smaller) <= set(rows)


def test_a_repeated_draw_replaces_the_old_one_whole(corpus, tmp_path):
    sampling.write_samples(TWO, corpus, tmp_path / "out", Size(20), 3, seed=0)
    sampling.write_samples(TWO, corpus, tmp_path / "out", Size(10), 1, seed=0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sample0"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_manifest_alone_reproduces_the_sample(corpus, tmp_path):
    written = sampling.write_samples(TWO, corpus, tmp_path / "out", Size(20), 2, seed=3)
    manifest = Manifest.read(written.folders[1] / "manifest.json")
    sampling.redraw(manifest, corpus, tmp_path / "again")
    for path in written.folders[1].iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path


def test_a_changed_source_file_is_refused(corpus, tmp_path):
    written = sampling.write_samples(TWO, corpus, tmp_path / "out", Size(20), 1, seed=3)
    manifest = Manifest.read(written.folders[0] / "manifest.json")
    changed = shutil.copytree(corpus, tmp_path / "changed")
    text = (changed / "dev.tsv").read_text()
    (changed / "dev.tsv").write_text(text.replace("\t1\n", "\t0\n", 1))
    with pytest.raises(ValueError, match=r"dev\.tsv: SHA-256 .*, expected .*: not the file"):
        sampling.redraw(manifest, changed, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"task": "SST-2"}'])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json: not a sample's manifest"):
        Manifest.read(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_sha256", {}),
        ("source_sha256", []),
        ("source_sha256", {"train.tsv": 5}),
        ("row_ids", [1]),
        ("row_ids", {"train": 5, "dev": [], "test": []}),
        ("row_ids", {"train": [1, 1], "dev": [], "test": []}),
        ("row_ids", {"train": [[1]], "dev": [], "test": []}),
        ("row_ids", {"train": [1], "dev": [2]}),
        ("task", 5),
        ("labels", ["0"]),
        ("columns", {"label_column": []}),
        ("seed", -1),
        ("reading", []),
        ("reading", {"columns": [], "quoting": "auto"}),
        ("reading", {"columns": [1], "quoting": "auto", "dev_share": None}),
        ("reading", {"columns": [], "quoting": ["csv"], "dev_share": None}),
        ("reading", {"columns": [], "quoting": "auto", "dev_share": 2.0}),
    ],
)
def test_a_manifest_that_was_changed_is_refused(corpus, tmp_path, name, value):
    written = sampling.write_samples(TWO, corpus, tmp_path / "out", Size(20), 1, seed=3)
    path = written.folders[0] / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match=rf"manifest\.json: {name} is not what"):
        Manifest.read(path)


def test_every_source_file_needs_its_checksum(corpus, tmp_path):
    written = sampling.write_samples(TWO, corpus, tmp_path / "out", Size(20), 1, seed=3)
    path = written.folders[0] / "manifest.json"
    values = json.loads(path.read_text())
    del values["source_sha256"]["dev.tsv"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"manifest\.json is not as it was written"):
        Manifest.read(path)
    del values["sha256"]  # as earlier versions wrote it
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"dev\.tsv: SHA-256 .*, expected no such file"):
        sampling.redraw(Manifest.read(path), corpus, tmp_path / "again")


def test_a_custom_tasks_manifest_has_its_columns(tmp_path):
    task = custom_task(("no", "yes"), "answer", ("left", "right"))
    rows = "".join(f"l{i}\t{'no' if i % 3 else 'yes'}\tr{i}\n" for i in range(30))
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("left\tanswer\tright\n" + rows)
    written = sampling.write_samples(task, tmp_path, tmp_path / "out", Size(9), 1, seed=0)
    manifest = Manifest.read(written.folders[0] / "manifest.json")
    assert manifest.find_task() == task
    sampling.redraw(manifest, tmp_path, tmp_path / "again")
    text = (tmp_path / "again" / "train.tsv").read_text()
    assert text == (written.folders[0] / "train.tsv").read_text()
    assert text.splitlines()[0] == "id\tlabel\tsentence1\tsentence2"


def test_ids_of_the_file_make_the_draw_independent_of_its_order(tmp_path):
    header = "index\tquestion\tsentence\tlabel\n"
    labels = TASKS["QNLI"].labels
    rows = [f"{i * 7}\tq{i}\ts{i}\t{labels[i % 2]}\n" for i in range(80)]
    turned = rows[:]
    random.Random(0).shuffle(turned)
    out = []
    for name, lines in (("one", rows), ("two", turned)):
        (tmp_path / name).mkdir()
        for file in ("train", "dev"):
            (tmp_path / name / f"{file}.tsv").write_text(header + "".join(lines))
        out.append(tmp_path / f"{name}-out")
        sampling.write_samples(TASKS["QNLI"], tmp_path / name, out[-1], Size(10), 2, seed=4)
    for path in out[0].rglob("*.tsv"):
        assert path.read_bytes() == (out[1] / path.relative_to(out[0])).read_bytes()


def test_mnli_draws_from_the_matched_dev_set(shared_data, tmp_path):
    source = shared_data / "glue" / "MNLI"
    if not source.exists():
        pytest.skip("MNLI is not on this machine")
    written = sampling.write_samples(THREE, source, tmp_path / "out", Size(20), 1, seed=0)
    manifest = Manifest.read(written.folders[0] / "manifest.json")
    assert set(manifest.source_sha256) == {"train.tsv", "dev_matched.tsv"}
    assert [len(manifest.row_ids[name]) for name in ("train", "dev", "test")] == [20, 500, 4907]


def test_sst2_leaves_436_rows_for_validation(shared_data, tmp_path):
    source = shared_data / "glue" / "SST-2"
    if not source.exists():
        pytest.skip("SST-2 is not on this machine")
    written = sampling.write_samples(TWO, source, tmp_path / "out", Size(20), 10, seed=1)
    assert written.label_counts == {
        "train": {"0": 9, "1": 11},
        "dev": {"0": 214, "1": 222},
        "test": {"0": 214, "1": 222},
    }


def test_the_command_and_its_workers_draw_the_same(corpus, tmp_path):
    command = [sys.executable, "-m", "scl_fairseq.cli.sample", "--task", "sst-2"]
    command += ["--data-dir", corpus, "--num-examples", "20", "--num-samples", "2", "--seed", "5"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "command", "--workers", "3"],
        capture_output=True,
        text=True,
        env=runs.ENVIRONMENT,
        check=True,
    )
    assert "train.tsv: 20 rows (0 10, 1 10)" in done.stdout
    sampling.write_samples(TWO, corpus, tmp_path / "here", Size(20), 2, seed=5, workers=1)
    for path in (tmp_path / "here").rglob("*.*"):
        other = tmp_path / "command" / path.relative_to(tmp_path / "here")
        assert path.read_bytes() == other.read_bytes()


def write_custom(folder, labels, sentence="sentence {}"):
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{label}\t{sentence.format(i)}\tb\n" for i in range(6) for label in labels)
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("label\tsentence\tsecond\n" + rows)


def test_many_labels(tmp_path):
    labels = tuple(f"class{i}" for i in range(150))
    write_custom(tmp_path / "data", labels)
    task = custom_task(labels)
    written = sampling.write_samples(
        task, tmp_path / "data", tmp_path / "out", Size(per_class=2), 1, seed=0
    )
    assert written.label_counts["train"] == dict.fromkeys(labels, 2)


def test_a_sample_of_other_labels_or_sentences_is_refused(tmp_path):
    write_custom(tmp_path / "data", ("no", "yes"))
    pairs = custom_task(("no", "yes"), sentence_columns=("sentence", "second"))
    written = sampling.write_samples(pairs, tmp_path / "data", tmp_path / "out", Size(4), 1, seed=0)
    assert open_folder(pairs, written.folders[0]).is_sample
    for other in (
        custom_task(("yes", "no"), sentence_columns=("a", "b")),
        custom_task(("no", "yes")),
    ):
        with pytest.raises(
            ValueError, match="is a few-shot sample of custom with the labels no, yes"
        ):
            open_folder(other, written.folders[0])


def test_a_tab_in_a_sentence_cannot_be_sampled(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.label").write_text("no\nyes\n" * 4)
        (tmp_path / f"{name}.input0").write_text("a\tb\n" * 8)
    with pytest.raises(ValueError, match=r"train\.input0:\d+: a tab in a sentence"):
        sampling.write_samples(
            custom_task(("no", "yes")), tmp_path, tmp_path / "out", Size(2), 1, 0
        )


def test_a_malformed_test_set_does_not_matter(corpus, tmp_path):
    source = shutil.copytree(corpus, tmp_path / "data")
    (source / "test.tsv").write_text("nonsense\n")
    assert sampling.write_samples(TWO, source, tmp_path / "out", Size(4), 1, 0).folders
