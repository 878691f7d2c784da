"""Sentence similarity: SentEval's files, and scores against scipy on vectors got one by one."""

import json

import numpy as np
import pytest
from scipy import stats

import scl_fairseq
from scl_fairseq.cli import evaluate
from scl_fairseq.inference import sts
from scl_fairseq.inference.sts_files import TEST_SETS, read_sts

PAIRS = 12  # of each file
# As SentEval's archive has them.
YEARS = {
    "STS12": ["MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"],
    "STS13": ["FNWN", "headlines", "OnWN"],
    "STS14": ["deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"],
    "STS15": ["answers-forums", "answers-students", "belief", "headlines", "images"],
    "STS16": ["answer-answer", "headlines", "plagiarism", "postediting", "question-question"],
}
NOT_FREE = ("STS13", "SMT")  # SentEval reads it nowhere, but the task had it


@pytest.fixture(scope="module")
def words(tiny):
    return (tiny.encoder / "vocab.txt").read_text().split()[5:]


@pytest.fixture(scope="module")
def folder(words, tmp_path_factory):
    """All sets in SentEval's layout; in STS16 every fourth pair has no score."""
    folder = tmp_path_factory.mktemp("downstream")
    rng = np.random.default_rng(0)

    def pair():
        first = rng.choice(words, rng.integers(2, 9)).tolist()
        second = [word if rng.random() < 0.5 else rng.choice(words) for word in first]
        second.append(rng.choice(words))  # equal sentences would be ranked by rounding
        return " ".join(first), " ".join(second), round(float(rng.uniform(0, 5)), 1)

    for year, subsets in YEARS.items():
        place = folder / "STS" / f"{year}-en-test"
        place.mkdir(parents=True)
        for subset in [*subsets, *([NOT_FREE[1]] if year == NOT_FREE[0] else [])]:
            rows = [pair() for _ in range(PAIRS)]
            scores = [
                "" if year == "STS16" and at % 4 == 3 else row[2] for at, row in enumerate(rows)
            ]
            text = "".join(f" {first}\t{second} \tsource\n" for first, second, _ in rows)
            (place / f"STS.input.{subset}.txt").write_text(text)
            (place / f"STS.gs.{subset}.txt").write_text("".join(f"{s}\n" for s in scores))
    benchmark = folder / "STS" / "STSBenchmark"
    benchmark.mkdir()
    for split in ("dev", "test"):
        rows = [pair() for _ in range(PAIRS)]
        text = "".join(f"g\tf\t2012\t{n}\t{r[2]}\t{r[0]}\t{r[1]}\n" for n, r in enumerate(rows))
        (benchmark / f"sts-{split}.csv").write_text(text)
    (folder / "SICK").mkdir()
    text = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
    rows = [pair() for _ in range(PAIRS)]
    text += "".join(f"{n}\t{r[0]}\t{r[1]}\t{r[2]}\tNEUTRAL\n" for n, r in enumerate(rows))
    (folder / "SICK" / "SICK_test_annotated.txt").write_text(text)
    return folder


def read_by_hand(folder, name):
    """(first, second, score) of a set, from the files alone."""
    found = []
    if name in YEARS:
        place = folder / "STS" / f"{name}-en-test"
        for subset in YEARS[name]:
            texts = (place / f"STS.input.{subset}.txt").read_text().splitlines()
            scores = (place / f"STS.gs.{subset}.txt").read_text().splitlines()
            for text, score in zip(texts, scores, strict=True):
                if score:
                    found.append((*map(str.strip, text.split("\t")[:2]), float(score)))
    elif name == "SICK-R":
        lines = (folder / "SICK" / "SICK_test_annotated.txt").read_text().splitlines()[1:]
        found = [(f[1], f[2], float(f[3])) for f in (line.split("\t") for line in lines)]
    else:
        split = "dev" if name.endswith("dev") else "test"
        path = folder / "STS" / "STSBenchmark" / f"sts-{split}.csv"
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        found = [(f[5], f[6], float(f[4])) for f in lines]
    return found


def test_scores_are_scipys(tiny, folder, tmp_path, capsys):
    model = tiny.encoder / "model.pt"
    written = tmp_path / "scores.json"
    arguments = [str(model), "--sts", str(folder), "--embedding", "cls", "mean"]
    assert evaluate.main([*arguments, "--name", "tiny", "--json", str(written)]) == 0
    found = {one["embedding"]: one for one in json.loads(written.read_text())["checkpoints"]}
    hub = scl_fairseq.load(model)
    shown = capsys.readouterr().out
    for kind in ("cls", "mean"):
        expected = {}
        for name in (*TEST_SETS, "STS-B dev"):
            similarities, scores = [], []
            for first, second, score in read_by_hand(folder, name):
                x, y = (hub.embed([text], kind)[0].double() for text in (first, second))
                similarities.append(float(x @ y / x.norm() / y.norm()))
                scores.append(score)
            expected[name] = 100 * stats.spearmanr(similarities, scores).statistic
        assert found[kind]["spearman"] == pytest.approx(expected, abs=0.01)
        average = np.mean([expected[name] for name in TEST_SETS])
        assert found[kind]["average"] == pytest.approx(average, abs=0.01)
        line = next(line for line in shown.splitlines() if f"| {kind} " in line)
        values = [float(cell) for cell in line.split("|")[3:-1]]
        in_order = [*(expected[name] for name in TEST_SETS), average, expected["STS-B dev"]]
        assert values == pytest.approx(in_order, abs=0.011)
    assert "missing" not in shown.casefold()


def test_what_is_missing_is_named(tiny, folder, tmp_path, capsys):
    (tmp_path / "STSBenchmark").symlink_to(folder / "STS" / "STSBenchmark")
    (tmp_path / "STS13-en-test").symlink_to(folder / "STS" / "STS13-en-test")
    assert evaluate.main([str(tiny.encoder), "--sts", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Missing: STS12, STS14, STS15, STS16, SICK-R." in shown
    assert "The average is over 2 of 7 test sets." in shown


@pytest.mark.parametrize("place", ["", "STS"])
def test_sentevals_folders_are_found_from_either(folder, place):
    found, missing = read_sts(folder / place)
    assert missing == []
    assert [one.name for one in found] == [*TEST_SETS, "STS-B dev"]
    sizes = {one.name: len(one.pairs) for one in found}
    for year in ("STS12", "STS13", "STS14", "STS15"):
        assert sizes[year] == len(YEARS[year]) * PAIRS
    assert sizes["STS16"] == 5 * PAIRS * 3 // 4


def test_a_set_of_equal_scores_is_zero_and_ties_share_ranks():
    assert sts.spearman([0.5, 0.5, 0.5], [1.0, 2.0, 3.0]) == 0.0
    similarities, scores = [0.1, 0.4, 0.4, 0.9], [0.0, 1.0, 2.0, 2.0]
    ranks = [1, 2.5, 2.5, 4], [1, 2, 3.5, 3.5]
    assert sts.spearman(similarities, scores) == pytest.approx(100 * np.corrcoef(*ranks)[0, 1])


def test_words_have_one_space_between(folder, tmp_path):
    place = damaged(
        folder,
        tmp_path,
        "STS/STSBenchmark/sts-test.csv",
        lambda text: text.replace(" ", " \u00a0 "),
    )
    (found,), _ = read_sts(place)
    (other, *_) = (one for one in read_sts(folder)[0] if one.name == "STS-B")
    assert found.pairs == other.pairs


def test_a_zero_vector_is_alike_nothing():
    first, second = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    assert sts.cosines(first, second) == pytest.approx([0.0, 0.6])


def test_equal_sentences_tie():
    rows = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    assert set(sts.cosines(rows, rows).tolist()) == {1.0}


def damaged(folder, to, name, change):
    path = to / name
    path.parent.mkdir(parents=True)
    path.write_text(change((folder / name).read_text()))
    return to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\t2012\t3\t", "\t2012\t3\tmany", 1), ":4: score 'many"),
        (lambda text: text.replace("g\tf\t2012\t2\t", "2\t", 1), ":3: 4 fields, expected genre"),
        (lambda text: "", ":1: 0 pairs, expected several"),
    ],
)
def test_bad_files_are_one_line(tiny, folder, tmp_path, capsys, change, message):
    place = damaged(folder, tmp_path, "STS/STSBenchmark/sts-test.csv", change)
    assert evaluate.main([str(tiny.encoder), "--sts", str(place)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_year_is_all_of_its_subsets(folder, tmp_path):
    year = tmp_path / "STS12-en-test"
    year.mkdir()
    for path in (folder / "STS" / "STS12-en-test").iterdir():
        if "OnWN" not in path.name:
            (year / path.name).symlink_to(path)
    with pytest.raises(FileNotFoundError, match=r"surprise\.OnWN\.txt is missing: STS12 is all"):
        read_sts(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sts", "nowhere"], "--sts nowhere is no folder"),
        (["--sts", "."], "has no STS12-en-test"),
        (["--embedding", "cls", "--data", "d"], "--embedding goes with --sts"),
        (["--sts", ".", "--predictions", "p"], "--predictions goes with labels"),
        ([], "--data OUT is required, or --sts DIR"),
    ],
)
def test_bad_options(tiny, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([str(tiny.encoder), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_embedded_encoder_on_the_benchmark(shared_data, tmp_path):
    """What all-MiniLM-L6-v2 is known to reach: sentence-transformers' own mean is 82.03."""
    if not (shared_data / "sts").is_dir():
        pytest.skip("no STS benchmark beside the checkout")
    from scl_fairseq.checkpoints.embedded import convert_encoder

    convert_encoder(tmp_path / "encoder")
    hub = scl_fairseq.load(tmp_path / "encoder")
    sets, _ = read_sts(shared_data / "sts")
    for kind, test, dev in (("cls", 73.5, 79.7), ("mean", 82.0, 86.7)):
        found = sts.evaluate_sts(hub, "encoder", tmp_path / "encoder", kind, sets).spearman
        assert found == pytest.approx({"STS-B": test, "STS-B dev": dev}, abs=0.06)
