import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_fairseq.data import sampling
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.tasks import TASKS, Row, read_rows

TASK = TASKS["SST-2"]


def make_rows(negative, positive):
    labels = ["0"] * negative + ["1"] * positive
    return [
        Row(i, label, (f"sentence {i}",))
        for i, label in enumerate(StableRandom("rows").shuffled(labels))
    ]


@settings(max_examples=60, deadline=None)
@given(
    train=st.tuples(st.integers(5, 200), st.integers(5, 200)),
    dev=st.tuples(st.integers(4, 700), st.integers(4, 700)),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**40),
)
def test_sizes_strata_and_disjointness(train, dev, share, seed):
    num_examples = 2 + int(share * (sum(train) - 2))
    rows = make_rows(*train), make_rows(*dev)
    drawn = sampling.draw(TASK, *rows, num_examples, 3, seed)
    test, validation = drawn.test, drawn.validation
    assert len(test) == sum(dev) // 2
    assert len(validation) == min(500, sum(dev) - len(test))
    assert not {r.id for r in test} & {r.id for r in validation}
    parts = [*((sample, train) for sample in drawn.train), (test, dev), (validation, dev)]
    for sample, (negative, positive) in parts:
        counts = Counter(row.label for row in sample)
        assert min(counts["0"], counts["1"]) >= 1
        # Within one row; the validation set follows what the test set left of dev.
        exact = len(sample) * positive / (negative + positive)
        assert abs(counts["1"] - exact) <= 2
        assert len({row.id for row in sample}) == len(sample)
    for sample in drawn.train:
        assert len(sample) == num_examples
    again = sampling.draw(TASK, *rows, num_examples, 3, seed)
    assert again == drawn


def test_one_split_of_dev_serves_every_sample_and_every_n():
    rows = make_rows(100, 150), make_rows(60, 70)
    few = sampling.draw(TASK, *rows, 20, 2, seed=5)
    more = sampling.draw(TASK, *rows, 100, 4, seed=5)
    assert (few.test, few.validation) == (more.test, more.validation)
    assert len({tuple(row.id for row in sample) for sample in more.train}) == 4
    assert few.train[0] != sampling.draw(TASK, *rows, 20, 2, seed=6).train[0]


def test_order_of_the_file_does_not_matter_where_ids_are_given():
    train, dev = make_rows(50, 50), make_rows(30, 30)
    drawn = sampling.draw(TASK, train, dev, 20, 1, seed=0)
    assert sampling.draw(TASK, train[::-1], dev[::-1], 20, 1, seed=0) == drawn


@pytest.mark.parametrize(
    ("total", "available", "expected"),
    [
        (10, {"a": 50, "b": 50}, {"a": 5, "b": 5}),
        (10, {"a": 1, "b": 2}, None),
        (3, {"a": 1, "b": 1, "c": 98}, {"a": 1, "b": 1, "c": 1}),
        (20, {"a": 37569, "b": 29780}, {"a": 11, "b": 9}),  # SST-2: 11.16 and 8.84
        (5, {"a": 1, "b": 99}, {"a": 1, "b": 4}),
        (1, {"a": 1, "b": 99}, None),
    ],
)
def test_allocate(total, available, expected):
    if expected is None:
        with pytest.raises(ValueError, match=f"cannot draw {total} examples"):
            sampling.allocate(total, available)
    else:
        assert sampling.allocate(total, available) == expected


def test_a_class_without_rows_is_named():
    with pytest.raises(ValueError, match="no example of class b"):
        sampling.allocate(2, {"a": 5, "b": 0})


def test_the_draw_is_the_same_everywhere():
    """Recorded once; another value means that published samples can no longer be redrawn."""
    assert StableRandom(1, "x").shuffled(range(10)) == [5, 0, 3, 8, 4, 1, 7, 9, 2, 6]
    drawn = sampling.draw(TASK, make_rows(40, 60), make_rows(10, 10), 6, 1, seed=1)
    assert [row.id for row in drawn.train[0]] == [22, 23, 24, 55, 57, 92]


def test_written_samples_are_valid_data_folders(tmp_path):
    from scl_fairseq.data import synthetic

    synthetic.write_corpus(tmp_path / "corpus", num_train=60, num_dev=40)
    folders = sampling.write_samples(TASK, tmp_path / "corpus", tmp_path / "out", 20, 2, seed=0)
    assert [folder.name for folder in folders] == ["sample0", "sample1"]
    official = read_rows(TASK, tmp_path / "corpus" / "train.tsv")
    rows = read_rows(TASK, folders[1] / "train.tsv")
    assert rows == [official[row.id] for row in rows]
    manifest = json.loads((folders[1] / "manifest.json").read_text())
    assert manifest["row_ids"]["train"] == [row.id for row in rows]
    assert manifest["label_counts"]["train"] == {"0": 10, "1": 10}
    assert (folders[0] / "test.tsv").read_bytes() == (folders[1] / "test.tsv").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sentence\nfine\n", r"train.tsv:1: no column label"),
        (b"sentence\tlabel\nfine\t1\textra\n", r"train.tsv:2: 3 fields, expected 2"),
        (b"sentence\tlabel\nfine\t1\nbad\t2\n", r"train.tsv:3: label '2', expected one of 0, 1"),
        (b"sentence\tlabel\nfine\t1\n\n", r"train.tsv:3: 1 fields, expected 2"),
        (b"sentence\tlabel\n\xff\t1\n", r"train.tsv: not UTF-8"),
        (b"id\tlabel\tsentence1\nx\t1\tfine\n", r"train.tsv:2: id 'x', expected a row number"),
    ],
)
def test_malformed_files_are_refused_by_line(tmp_path, content, message):
    (tmp_path / "train.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_rows(TASK, tmp_path / "train.tsv")


def test_real_sst2_is_read_whole(shared_data):
    folder = shared_data / "glue" / "SST-2"
    if not folder.exists():
        pytest.skip("GLUE is not on this machine")
    sizes = [len(read_rows(TASK, folder / f"{name}.tsv")) for name in ("train", "dev")]
    assert sizes == [67349, 872]
