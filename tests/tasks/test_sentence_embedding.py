"""The task of unlabelled sentences: what it reads, how it cuts and what it masks."""

import gc
import multiprocessing
import threading

import numpy as np
import pytest
import torch
from fairseq.data.iterators import BackgroundConsumer
from fairseq.tasks import TASK_REGISTRY
from omegaconf import OmegaConf

import scl_fairseq  # noqa: F401 (registers the task)
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.sources import open_lines
from tests import runs
from tests.data.test_preprocess import stored

Task = TASK_REGISTRY["sentence_embedding"]
BOS, PAD, EOS = 0, 1, 2


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """400 lines of 1 to 40 words, binarised."""
    words = (tiny.encoder / "vocab.txt").read_text().split()[5:]
    rng = np.random.default_rng(0)
    source = tmp_path_factory.mktemp("text")
    lines = [" ".join(rng.choice(words, rng.integers(1, 41))) for _ in range(400)]
    (source / "train.txt").write_text("\n".join(lines))
    (source / "valid.txt").write_text("\n".join(lines[:20]))
    preprocess(open_lines(source), source, source / "bin", Settings("wordpiece", tiny.encoder))
    return source / "bin"


def make(data, **options):
    given = {"text_columns": 1, "max_length": 32, "max_positions": 64, "mask_rate": 0.4}
    given |= {"mask_views": "all", "seed": 3, **options}
    cfg = OmegaConf.create({"data": str(data), **given})
    OmegaConf.set_struct(cfg, True)  # as fairseq has it
    return Task.setup_task(cfg)


def loaded(data, copies=0, split="train", **options):
    task = make(data, **options)
    task.want_masked_copies(copies)
    return task.load_dataset(split)


def test_a_batch_is_the_rows_cut_and_padded(data):
    rows = loaded(data, max_length=10)
    written = stored(data, "train")
    batch = rows.collater([rows[i] for i in (3, 0, 7)])
    assert batch["id"].tolist() == [3, 0, 7]
    expected = [[BOS, *written[i][:-1][:8], EOS] for i in (3, 0, 7)]
    tokens = batch["net_input"]["src_tokens"]
    longest = max(map(len, expected))
    assert tokens.tolist() == [row + [PAD] * (longest - len(row)) for row in expected]
    assert batch["net_input"]["src_lengths"].tolist() == list(map(len, expected))
    assert (batch["nsentences"], batch["ntokens"]) == (3, sum(map(len, expected)))
    assert "masked" not in batch
    assert "target" not in batch
    assert [rows.num_tokens(i) for i in (3, 0, 7)] == list(map(len, expected))
    assert rows.collater([]) == {}


def masks_of(rows):
    """(original, masked, target) of every sentence's first copy."""
    for index in range(len(rows)):
        item = rows[index]
        yield item["texts"][0], *item["masked"][0]


@pytest.mark.parametrize("rate", [0.15, 0.4, 0.45])
def test_masking_statistics(data, rate):
    """Over 10 epochs: the rate of all maskable tokens, and BERT's shares of those."""
    rows = loaded(data, 1, mask_rate=rate)
    mask = make(data).dictionary.index("<mask>")
    count = dict.fromkeys(("maskable", "chosen", "masked", "random", "kept"), 0)
    drawn = set()
    for epoch in range(1, 11):
        rows.set_epoch(epoch)
        for original, masked, target in masks_of(rows):
            chosen = target != PAD
            assert masked[0] == BOS
            assert masked[-1] == EOS
            assert not chosen[0]
            assert not chosen[-1]
            assert (target[chosen] == original[chosen]).all()
            assert (masked[~chosen] == original[~chosen]).all()
            changed = masked[chosen]
            # A random word may be the original by chance, but is no special symbol.
            assert (changed[changed != original[chosen]] >= 4).all()
            drawn.update(changed[(changed != original[chosen]) & (changed != mask)].tolist())
            count["maskable"] += len(original) - 2
            count["chosen"] += chosen.sum()
            count["masked"] += (changed == mask).sum()
            count["kept"] += (changed == original[chosen]).sum()
    chosen = count["chosen"]
    count["random"] = chosen - count["masked"] - count["kept"]
    assert chosen / count["maskable"] == pytest.approx(rate, rel=0.01)
    assert drawn <= set(range(4, mask))
    assert len(drawn) > 0.8 * (mask - 4)  # of at least 1,100 draws among 444 words
    by_chance = 0.1 / (mask - 4)
    for name, share in (("masked", 0.8), ("kept", 0.1 + by_chance), ("random", 0.1 - by_chance)):
        spread = (share * (1 - share) / chosen) ** 0.5
        assert abs(count[name] / chosen - share) < 3 * spread, name


def test_every_word_is_as_likely_to_be_masked(data):
    """Also the first and last: a mean over sentences of ten words."""
    rows = loaded(data, 1)
    totals, seen = np.zeros(10), 0
    for epoch in range(1, 101):
        rows.set_epoch(epoch)
        for index in np.flatnonzero(rows.sizes == 12):
            totals += rows[int(index)]["masked"][0][1][1:-1] != PAD
            seen += 1
    assert np.abs(totals / seen - 0.4).max() < 4 * (0.24 / seen) ** 0.5


def test_masks_are_those_of_seed_epoch_and_sentence(data):
    def targets(rows, epoch):
        rows.set_epoch(epoch)
        return [item.tolist() for _, _, item in masks_of(rows)]

    first, again, other = (loaded(data, 1, seed=seed) for seed in (3, 3, 4))
    assert targets(first, 2) == targets(again, 2)
    assert targets(first, 2) != targets(first, 3)
    assert targets(first, 2) != targets(other, 2)
    assert first.ordered_indices().tolist() == again.ordered_indices().tolist()
    before = first.ordered_indices().tolist()
    first.set_epoch(5)
    assert first.ordered_indices().tolist() != before
    assert sorted(before) == list(range(400))


@pytest.fixture
def no_garbage_collection():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("buffer", [10, 0])
def test_a_data_loaders_process_masks_the_same_and_ends_by_itself(
    data, no_garbage_collection, buffer
):
    """Ended by the garbage collector it would hold up the training for 5 seconds."""
    before, rows_of_epochs = set(multiprocessing.active_children()), []
    for num_workers in (0, 1):
        task = make(data)
        task.want_masked_copies(1)
        task.load_dataset("train")
        found = []
        for epoch in (1, 2, 3):
            found += runs.rows_of_epochs(task, [epoch], num_workers, buffer)
            for thread in threading.enumerate():
                if isinstance(thread, BackgroundConsumer):
                    thread.join()
            assert set(multiprocessing.active_children()) == before
        rows_of_epochs.append(found)
    alone, by_another = rows_of_epochs
    assert by_another == alone
    assert len({tuple(sorted(rows)) for rows in alone}) == 3


def test_copies_of_a_sentence_differ_and_stand_in_a_row(data):
    rows = loaded(data, 2)
    batch = rows.collater([rows[i] for i in range(6)])
    tokens, targets = batch["masked"]["src_tokens"], batch["masked"]["target"]
    assert tokens.shape == (12, batch["net_input"]["src_tokens"].size(1))
    for copy in (slice(0, 12, 2), slice(1, 12, 2)):
        original = torch.where(targets[copy] != PAD, targets[copy], tokens[copy])
        assert torch.equal(original, batch["net_input"]["src_tokens"])
    assert not torch.equal(targets[::2], targets[1::2])
    one = loaded(data, 2, mask_views="one")
    assert len(one.collater([one[i] for i in range(6)])["masked"]["target"]) == 6


def test_the_first_sentence_of_labelled_data(tiny):
    rows = loaded(tiny.data)
    expected = stored(tiny.data / "input0", "train")
    assert rows[5]["texts"][0].tolist() == [BOS, *expected[5][:-1][:30], EOS]


def test_triples(tiny, tmp_path):
    words = (tiny.encoder / "vocab.txt").read_text().split()[5:]
    text = f"{words[0]}\t{words[1]} {words[2]}\t{words[3]}\n{words[4]}\t{words[5]}\t{words[6]}\n"
    (tmp_path / "train.txt").write_text(text)
    preprocess(
        open_lines(tmp_path), tmp_path, tmp_path / "bin", Settings("wordpiece", tiny.encoder)
    )
    rows = loaded(tmp_path / "bin", text_columns=3)
    batch = rows.collater([rows[0], rows[1]])
    for place, name in enumerate(("net_input", "positive", "negative")):
        written = stored(tmp_path / "bin" / f"input{place}", "train")
        tokens = batch[name]["src_tokens"]
        assert [row[row != PAD].tolist() for row in tokens] == [[BOS, *row] for row in written]
    assert "negative" not in loaded(tmp_path / "bin", text_columns=2).collater([rows[0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_columns": 4}, "--text-columns must be 1 to 3, got 4"),
        ({"max_length": 2}, "--max-length must be 3 to --max-positions 64, got 2"),
        ({"max_length": 65}, "--max-length must be 3 to --max-positions 64, got 65"),
        ({"mask_rate": 0.0}, "--mask-rate must be greater than 0 and at most 1, got 0.0"),
        ({"mask_rate": float("nan")}, "--mask-rate must be greater than 0"),
    ],
)
def test_bad_options(data, options, message):
    with pytest.raises(ValueError, match=message):
        make(data, **options)


def test_a_missing_column(data):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make(data).load_dataset("nowhere")
