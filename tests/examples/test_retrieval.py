"""The recipe for BEIR: scores by the formula, from vectors of the checkpoint; it can go on."""

import json
import math
import shutil
import sys

import numpy as np
import pytest
import torch
from beir.datasets.data_loader import GenericDataLoader

import scl_fairseq
from examples.infocse import retrieval, retrieval_data
from scl_fairseq.cli import convert

# Relevance of documents to queries; d7 is a query too, for which the document d7 does not count.
JUDGED = {"q0": {"d0": 2, "d5": 1}, "q1": {"d1": 1, "d2": 1, "d3": 3}, "d7": {"d7": 1, "d4": 1}}


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """The encoder as a folder of sentence-transformers."""
    folder = tmp_path_factory.mktemp("model") / "exported"
    arguments = ["--to", "sentence-transformers", "--pooling", "mean"]
    assert convert.main([*arguments, str(tiny.encoder / "model.pt"), str(folder)]) == 0
    return folder


@pytest.fixture
def beir(tiny, tmp_path):
    """A data set of 20 documents and three queries, and one of two parts."""
    lines = (tiny.sample / "train.tsv").read_text("utf-8").splitlines()[1:]
    sentences = [line.split("\t")[2] for line in lines]
    for number, place in enumerate(("own", "parts/one", "parts/two")):
        write(tmp_path / "beir" / place, sentences[20 * number : 20 * number + 23])
    return tmp_path / "beir"


def write(folder, sentences):
    (folder / "qrels").mkdir(parents=True)
    documents = {f"d{place}": text for place, text in enumerate(sentences[:20])}
    queries = dict(zip(JUDGED, sentences[20:23], strict=True)) | {"q9": "not judged"}
    rows = [{"_id": name, "title": "", "text": text} for name, text in documents.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": name, "text": text} for name, text in queries.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [f"{q}\t{d}\t{value}\n" for q, found in JUDGED.items() for d, value in found.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))


def gain(values):
    return sum(value / math.log2(place + 2) for place, value in enumerate(values[:10]))


def formula(tiny, folder):
    """Mean nDCG@10 of vectors that this package makes of the checkpoint itself."""
    texts = {}
    for name in ("corpus", "queries"):
        rows = map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines())
        texts[name] = {row["_id"]: row["text"] for row in rows}
    model = scl_fairseq.load(tiny.encoder / "model.pt")

    def vectors(found):
        made = model.embed(list(found.values()), "mean").double()
        return torch.nn.functional.normalize(made).numpy()

    documents, queries = vectors(texts["corpus"]), vectors(texts["queries"])
    found = []
    for query, vector in zip(texts["queries"], queries, strict=True):
        if query in JUDGED:
            names = np.array(list(texts["corpus"]))[np.argsort(-(documents @ vector))]
            relevant = JUDGED[query]
            seen = gain([relevant.get(name, 0) for name in names if name != query])
            found.append(seen / gain(sorted(relevant.values(), reverse=True)))
    return sum(found) / len(found)


def test_questions_of_qnli(tmp_path):
    rows = [
        ("what ?", "an answer .", "entailment"),
        ("what ?", "no answer .", "not_entailment"),
        ("who ?", "an answer .", "entailment"),
        ("what ?", "another .", "entailment"),
        ("why ?", "no answer .", "not_entailment"),
    ]
    lines = [f"{i}\t{q}\t{s}\t{label}" for i, (q, s, label) in enumerate(rows)]
    (tmp_path / "dev.tsv").write_text("\n".join(["index\tquestion\tsentence\tlabel", *lines, ""]))
    retrieval_data.write_qnli(tmp_path, tmp_path / "qnli")
    corpus, queries, judged = GenericDataLoader(str(tmp_path / "qnli")).load("test")
    assert [row["text"] for row in corpus.values()] == ["an answer .", "no answer .", "another ."]
    assert queries == {"q0": "what ?", "q1": "who ?"}
    assert judged == {"q0": {"d0": 1, "d2": 1}, "q1": {"d0": 1}}


def test_generated_sets_leave_other_files_alone(tmp_path, monkeypatch, capsys):
    def make(folder):
        monkeypatch.setattr(sys, "argv", ["retrieval_data.py", "--smoke", str(folder)])
        retrieval_data.main()

    make(tmp_path / "beir")
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    make(tmp_path / "beir")
    assert {path: path.read_bytes() for path in first} == first
    assert "halves: 20 texts, 20 queries, 20 answers" in capsys.readouterr().out
    (tmp_path / "other" / "halves").mkdir(parents=True)
    (tmp_path / "other" / "halves" / "mine").touch()
    with pytest.raises(SystemExit) as stopped:
        make(tmp_path / "other")
    assert stopped.value.code == 2
    assert "halves holds other files, and is left as it is" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "other").rglob("*")] == ["halves", "mine"]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["retrieval.py", *map(str, arguments)])
    retrieval.main()


def test_scores_are_those_of_the_formula(tiny, model, beir, tmp_path, monkeypatch, capsys):
    scores = tmp_path / "out" / "beir.json"
    run(monkeypatch, scores, beir, f"mine={model}")
    record = json.loads(scores.read_text())
    found = record["beir"]["mine"]
    own, one, two = (formula(tiny, beir / place) for place in ("own", "parts/one", "parts/two"))
    assert len({own, one, two}) == 3
    assert found == {
        "own": pytest.approx(own, abs=1e-5),
        "parts": pytest.approx((one + two) / 2, abs=1e-5),
    }
    assert record["versions"]["beir"]
    assert f"mine, own: {own:.4f}" in capsys.readouterr().out


def test_what_is_scored_stays_and_what_changed_does_not(model, beir, tmp_path, monkeypatch):
    seen, scores = [], tmp_path / "beir.json"

    def ndcg(_, part):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(part.name)
        return len(seen) / 10

    monkeypatch.setattr(retrieval, "ndcg", ndcg)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, scores, beir, f"mine={model}")
    assert json.loads(scores.read_text())["beir"] == {"mine": {"own": 0.1}}
    seen.clear()
    run(monkeypatch, scores, beir, f"mine={model}")
    assert seen == ["one", "two"]
    expected = {"own": 0.1, "parts": pytest.approx(0.15)}
    assert json.loads(scores.read_text())["beir"] == {"mine": expected}
    seen.clear()
    with open(beir / "own" / "corpus.jsonl", "a") as file:
        file.write(json.dumps({"_id": "d99", "title": "", "text": "another"}) + "\n")
    run(monkeypatch, scores, beir, f"mine={model}")
    assert seen == ["own"]
    seen.clear()
    (tmp_path / "part").mkdir()
    shutil.copytree(beir / "own", tmp_path / "part" / "own")
    run(monkeypatch, scores, tmp_path / "part", f"mine={model}")
    assert seen == []
    assert json.loads(scores.read_text())["beir"]["mine"].keys() == {"own", "parts"}
    other = shutil.copytree(model, tmp_path / "other")
    (other / "README.md").write_text("another card")
    run(monkeypatch, scores, beir, f"mine={other}")
    assert seen == []
    (other / "1_Pooling" / "config.json").write_text("{}")
    monkeypatch.setattr(retrieval, "ndcg", lambda _, part: 0.9)
    monkeypatch.setattr("beir.retrieval.models.SentenceBERT", str)
    run(monkeypatch, scores, beir, f"mine={other}", f"second={model}")
    changed = {"own": 0.9, "parts": pytest.approx(0.9)}
    assert json.loads(scores.read_text())["beir"] == {"mine": changed, "second": changed}


def edit(path, change):
    path.write_text(change(path.read_text()))


def only_of_q1(judgements):
    lines = judgements.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("query-id", "q1\t")))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda beir: shutil.rmtree(beir), "has no data set of BEIR"),
        (lambda beir: (beir / "parts/two/queries.jsonl").unlink(), "two/queries.jsonl is missing"),
        (
            lambda beir: edit(beir / "own/qrels/test.tsv", lambda text: text.split("\n", 1)[1]),
            "test.tsv:1: expected query",
        ),
        (
            lambda beir: edit(beir / "own/corpus.jsonl", lambda text: text[1:]),
            "own: BEIR's package cannot work",
        ),
        (
            lambda beir: edit(beir / "own/corpus.jsonl", lambda t: t.replace('"title": "", ', "")),
            "a title in each row",
        ),
        (
            lambda beir: edit(beir / "own/qrels/test.tsv", only_of_q1),
            "wants two judged queries",
        ),
        (lambda beir: None, "mine=nowhere is no folder of sentence-transformers"),
        (lambda beir: (beir / ".." / "beir.json").write_text("{"), "beir.json is no JSON"),
        (lambda beir: (beir / ".." / "beir.json").write_text("[]"), "beir.json holds no scores"),
    ],
)
def test_bad_input(model, beir, tmp_path, monkeypatch, capsys, spoil, message):
    spoil(beir)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    given = "nowhere" if "nowhere" in message else model
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, tmp_path / "beir.json", beir, f"mine={given}")
    assert stopped.value.code == 2
    error = capsys.readouterr().err  # after transformers' progress, where a model was loaded
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error.splitlines()[-1]
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.json")}


def test_a_wrong_call_says_how_to_call(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "beir.json", "beir", "no-name")
    assert stopped.value.code == 2
    assert "retrieval.py SCORES BEIR NAME=MODEL" in capsys.readouterr().err


def empty_set(folder):
    (folder / "beir" / "empty").mkdir(parents=True)
    (folder / "beir" / "empty" / "corpus.jsonl").touch()


def test_the_recipe_takes_what_was_scored_on_sts(recipe, tmp_path):
    """Up to the scores, for which there are no models here."""
    (tmp_path / "one.pt").touch()
    checkpoints = [
        {"name": "no training", "path": "one.pt", "embedding": kind} for kind in ("cls", "mean")
    ]
    scores = tmp_path / "outputs" / "infocse" / "sts.json"
    scores.parent.mkdir(parents=True)
    scores.write_text(json.dumps({"checkpoints": checkpoints}))
    empty_set(tmp_path)
    done = recipe("infocse/retrieval.sh", EMBEDDING="mean")
    exported = "outputs/infocse/exported/no-training-mean"
    to = ["--to", "sentence-transformers", "--pooling", "mean"]
    assert done.calls == [["scl-convert", *to, "one.pt", exported]]
    assert done.code == 2
    assert "error: beir/empty/queries.jsonl is missing" in done.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "outputs/infocse/sts.json is missing; examples/infocse/run.sh writes it"),
        (["one.pt"], "beir has no data set; put those of BEIR there"),
    ],
)
def test_what_is_missing_is_one_line(recipe, arguments, message):
    done = recipe("infocse/retrieval.sh", *arguments)
    assert (done.code, done.calls) == (2, [])
    assert message in done.errors
    assert done.errors.count("\n") == 1


@pytest.mark.parametrize("names", [("a b", "a-b"), ("a", "a")])
def test_two_models_do_not_share_a_folder(recipe, tmp_path, names):
    empty_set(tmp_path)
    (tmp_path / "one.pt").touch()
    done = recipe("infocse/retrieval.sh", *(f"{name}=one.pt" for name in names))
    assert done.code == 2
    assert f"{names[1]}: another of the names stands for the folder" in done.errors
    assert len(done.calls) == 1
    done = recipe("infocse/retrieval.sh", "모델=one.pt", "실험=one.pt")
    assert [call[-1].split("/")[-1] for call in done.calls] == ["모델-cls", "실험-cls"]


def test_an_argument_without_a_checkpoint_is_refused(recipe, tmp_path):
    empty_set(tmp_path)
    done = recipe("infocse/retrieval.sh", "mine=nowhere.pt")
    assert (done.code, done.calls) == (2, [])
    assert "mine=nowhere.pt is not NAME=CHECKPOINT with a checkpoint that is there" in done.errors
