"""The made-up sentiment corpus: the same everywhere, balanced, and not solved by counting words."""

import hashlib
import itertools
import os
import re
import subprocess
import sys

import pytest

from scl_fairseq.data import synthetic
from scl_fairseq.data.synthetic import MAX_SENTENCES, generate, write_corpus

NUM_TRAIN, NUM_DEV = 10_000, 872


@pytest.fixture(scope="module")
def corpus():
    return generate(NUM_TRAIN + NUM_DEV)


def _read_tsv(path):
    text = path.read_bytes().decode("utf-8")
    assert "\r" not in text
    assert text.endswith("\n")
    header, *lines = text[:-1].split("\n")
    assert header == "sentence\tlabel"
    rows = [line.split("\t") for line in lines]
    assert all(len(row) == 2 for row in rows)
    return [(sentence, int(label)) for sentence, label in rows]


def _imbalance(rows):
    ones = sum(label for _, label in rows)
    return abs(len(rows) - 2 * ones)


def test_output_is_the_recorded_one():
    text = "".join(f"{sentence}\t{label}\n" for sentence, label in generate(200, seed=7))
    assert (
        hashlib.sha256(text.encode("utf-8")).hexdigest()
        == "9c139065d8ff561b61c608c9f1d992a8870eb2d037a602bffb09c1ce0c830aff"
    )


def test_output_does_not_depend_on_string_hashing():
    script = f"import runpy; print(runpy.run_path({synthetic.__file__!r})['generate'](50, 3))"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        assert done.stdout.strip() == str(generate(50, 3))


def test_needs_only_the_standard_library():
    script = (
        "import scl_fairseq, sys; before = set(sys.modules);"
        "import scl_fairseq.data.synthetic;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "assert new <= sys.stdlib_module_names | {'scl_fairseq'}, new"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_seeds_differ_and_longer_lists_begin_with_shorter_ones():
    assert generate(100, seed=0) != generate(100, seed=1)
    assert generate(101, seed=5) == generate(300, seed=5)[:101]


@pytest.mark.parametrize("num", [2, 3, 10, 101, 1000])
def test_size_balance_and_distinctness(num):
    rows = generate(num, seed=num)
    assert len(rows) == num
    assert _imbalance(rows) == num % 2
    assert len({sentence for sentence, _ in rows}) == num
    assert {label for _, label in rows} == {0, 1}


def test_sentences_are_lower_case_tokens(corpus):
    for sentence, _ in corpus:
        assert sentence == sentence.lower() == " ".join(sentence.split())
        assert not re.search(r"[{}=!/\t]|\w[,.]", sentence)
        assert sentence.endswith(" .")
        assert not re.search(r"\ba [aeiou]|\ban [^aeiouh]", sentence)


@pytest.mark.parametrize("pair", synthetic.PAIRED.values(), ids=synthetic.PAIRED)
def test_no_word_is_listed_twice_or_under_both_polarities(pair):
    words = list(itertools.chain(*pair))
    assert len(words) == len(set(words))


@pytest.mark.parametrize("words", synthetic.NEUTRAL.values(), ids=synthetic.NEUTRAL)
def test_no_neutral_word_is_listed_twice(words):
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    "cue",
    [
        # plain
        "again and again",
        "what an? ",
        # negation
        "is not at all ",
        "never manages to be ",
        "anything but ",
        "far from ",
        "(free|devoid) of ",
        # contrast
        r" , but the \w+ is a ",
        "^although ",
        "^despite its ",
        # hedging
        "almost .* but ultimately ",
        "i wanted to ",
        "it could have been an? ",
    ],
)
def test_each_construction_occurs_with_both_labels(corpus, cue):
    labels = [label for sentence, label in corpus if re.search(cue, sentence)]
    assert len(labels) >= 50
    assert 0.35 < sum(labels) / len(labels) < 0.65


def test_shares_cover_every_construction():
    assert set(synthetic.SHARES) == set(synthetic.CONSTRUCTIONS)
    assert sum(synthetic.SHARES.values()) == 100


def test_each_construction_makes_enough_of_its_share():
    """Drawing never stalls: at the largest size no template is close to being used up."""
    rows = generate(MAX_SENTENCES)
    assert len({sentence for sentence, _ in rows}) == MAX_SENTENCES
    for name, templates in synthetic.CONSTRUCTIONS.items():
        for template in templates:
            choices = 1
            for slot, side in re.findall(r"\{(\w+)([=!]?)\}", template):
                lists = synthetic.PAIRED[slot] if side else [synthetic.NEUTRAL[slot]]
                choices *= min(map(len, lists))
            drawn = MAX_SENTENCES * synthetic.SHARES[name] / 100 / len(templates) / 2
            assert choices > 5 * drawn, template


def test_main_clause_decides():
    side = {word: y for y in (0, 1) for word in synthetic.VERBS[y]}
    found = 0
    for sentence, label in generate(5000):
        if match := re.fullmatch(r"despite its (\S+) \w+ , the \w+ (.+) \.", sentence):
            if match[2] not in side:
                continue
            found += 1
            assert side[match[2]] == label
            assert match[1] in synthetic.ADJECTIVES[1 - label]
    assert found > 50


def test_negation_flips_the_word():
    found = 0
    for sentence, label in generate(5000):
        if match := re.fullmatch(r"this \w+ never manages to be (\S+) or (\S+) \.", sentence):
            found += 1
            assert {match[1], match[2]} <= set(synthetic.ADJECTIVES[1 - label])
    assert found > 50


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_word_counts_alone_stay_below_seventy_per_cent(seed):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    rows = generate(NUM_DEV + NUM_TRAIN, seed)
    sentences, labels = zip(*rows, strict=True)
    counter = text.CountVectorizer()
    train = counter.fit_transform(sentences[NUM_DEV:])
    model = linear.LogisticRegression(max_iter=2000).fit(train, labels[NUM_DEV:])
    accuracy = model.score(counter.transform(sentences[:NUM_DEV]), labels[:NUM_DEV])
    # Well over chance as well, or there would be nothing to learn from a few examples.
    assert 0.58 < accuracy < 0.70


def test_written_files_read_back(tmp_path):
    folder = tmp_path / "new" / "corpus"
    write_corpus(folder, seed=4)
    assert sorted(path.name for path in folder.iterdir()) == ["dev.tsv", "train.tsv"]
    train, dev = _read_tsv(folder / "train.tsv"), _read_tsv(folder / "dev.tsv")
    assert (len(train), len(dev)) == (NUM_TRAIN, NUM_DEV)
    assert dev + train == generate(NUM_DEV + NUM_TRAIN, seed=4)
    assert any(not sentence.isascii() for sentence, _ in train)


@pytest.mark.parametrize(("num_train", "num_dev"), [(2, 2), (50, 21), (51, 20), (51, 21)])
def test_files_are_disjoint_and_balanced(tmp_path, num_train, num_dev):
    write_corpus(tmp_path, num_train, num_dev)
    train, dev = _read_tsv(tmp_path / "train.tsv"), _read_tsv(tmp_path / "dev.tsv")
    assert (len(train), len(dev)) == (num_train, num_dev)
    assert not {sentence for sentence, _ in train} & {sentence for sentence, _ in dev}
    assert _imbalance(train) <= 1
    assert _imbalance(dev) <= 1


def test_files_are_replaced_as_a_whole(tmp_path, monkeypatch):
    write_corpus(tmp_path, 20, 10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def no_replace(source, target):
        raise OSError("disk trouble")

    monkeypatch.setattr(os, "replace", no_replace)
    with pytest.raises(OSError, match="disk trouble"):
        write_corpus(tmp_path, 30, 15, seed=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("num", [-1, 0, 1, MAX_SENTENCES + 1, 10**12])
def test_bad_number_of_sentences(num):
    with pytest.raises(ValueError, match=rf"num_sentences .* got {num}$"):
        generate(num)


def test_bad_seed():
    with pytest.raises(ValueError, match=r"seed .* got -1$"):
        generate(10, seed=-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train": 1}, "num_train .* got 1$"),
        ({"num_dev": 0}, "num_dev .* got 0$"),
        ({"num_train": MAX_SENTENCES}, f"got {MAX_SENTENCES + 872}$"),
        ({"seed": -2}, "seed .* got -2$"),
    ],
)
def test_bad_corpus_arguments_write_nothing(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_corpus(tmp_path / "corpus", **arguments)
    assert not (tmp_path / "corpus").exists()
