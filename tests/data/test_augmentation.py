"""Augmented samples: what is in them, that more temperature is more noise, and interruptions."""

import itertools
import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from scl_fairseq.data.augmentation import augment
from scl_fairseq.data.augmented_sample import Settings
from scl_fairseq.data.back_translation import BackTranslation
from scl_fairseq.data.encode import Settings as Encoding
from scl_fairseq.data.manifest import Manifest
from scl_fairseq.data.paraphrase_command import ParaphraseCommand
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.sampling import redraw
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.data.translation import TranslationModel
from tests import runs
from tests.data.toy_sample import BACKWARD, FORWARD, choices, sample

TEMPERATURES = (0.3, 0.5, 0.7, 0.9)
UPPER = ParaphraseCommand(
    f'{sys.executable} -c "import sys; [print(line.strip().upper()) for line in sys.stdin]"'
)


@pytest.fixture(scope="module")
def back_translation(toy_models):
    return BackTranslation(
        *(TranslationModel(one, torch.device("cpu")) for one in choices(toy_models))
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("small"), 12)


def table(path):
    header, *lines = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def fields(source):
    return dict(part.split("=", 1) for part in source.split())


@pytest.mark.slow
def test_more_temperature_is_more_noise(back_translation, tmp_path):
    folder = sample(tmp_path, 400)
    for seed in (1, 2, 3):
        settings = Settings(TEMPERATURES, 1, seed)
        made = augment(folder, tmp_path / str(seed), back_translation, settings, shard_rows=400)
        assert [one.temperature for one in made] == list(TEMPERATURES)
        # How the toy models train depends on the processor; one may repeat itself, without an end,
        # on a sentence or two, which then have no paraphrase.
        assert all(one.change.num_sentences >= 396 for one in made)
        chrf = [one.change.chrf for one in made]
        assert all(a > b for a, b in itertools.pairwise(chrf)), (seed, chrf)
        assert made[0].change.bleu > made[-1].change.bleu
        assert made[0].change.unchanged >= made[-1].change.unchanged


def test_rows_labels_ids_and_sources(back_translation, small, tmp_path):
    (made,) = augment(small, tmp_path / "out", back_translation, Settings((0.7,), 3, 1))
    assert made.folder == tmp_path / "out" / "T0.7"
    assert (made.num_originals, made.num_copies) == (12, 36)
    before, after = table(small / "train.tsv"), table(made.folder / "train.tsv")
    assert len(after) == 48
    originals, copies = after[:12], after[12:]
    assert [{k: row[k] for k in before[0]} for row in originals] == before
    assert [row["source"] for row in originals] == [f"row={row['id']}" for row in before]
    for at, row in enumerate(copies):
        original = before[at // 3]
        assert (row["id"], row["label"]) == (original["id"], original["label"])
        assert fields(row["source"]) == {
            "row": original["id"], "T": "0.7", "copy": str(at % 3), "by": "en-xx+xx-en"
        }  # fmt: skip
    assert len({row["sentence1"] for row in copies}) > 20  # the copies of a row differ
    for name in ("dev.tsv", "test.tsv"):
        assert (made.folder / name).read_bytes() == (small / name).read_bytes()
    manifest = Manifest.read(made.folder / "manifest.json")
    about = manifest.augmentation
    assert (about["temperature"], about["ratio"], about["seed"]) == (0.7, 3, 1)
    models = about["paraphraser"]
    assert [*models["forward"]["checkpoints"]] == ["model1.pt", "model2.pt"]
    assert (models["forward"]["tokenizer"], models["forward"]["bpe"]) == ("moses", "fastbpe")
    assert models["backward"]["bpe"] == "sentencepiece"
    assert {"torch", "sacremoses", "sentencepiece", "fastBPE"} <= {*manifest.versions}
    assert manifest.row_ids == Manifest.read(small / "manifest.json").row_ids
    assert sum(manifest.label_counts["train"].values()) == 48
    assert str(tmp_path) not in (made.folder / "manifest.json").read_text("utf-8")


def test_both_sentences_of_a_pair(back_translation, tmp_path):
    folder = sample(tmp_path, 8, task="RTE")
    (made,) = augment(folder, tmp_path / "out", back_translation, Settings((0.9,), 3, 1), "rte")
    before, after = table(folder / "train.tsv"), table(made.folder / "train.tsv")
    assert {row["label"] for row in after} == {"entailment", "not_entailment"}
    assert [row["id"] for row in after[8:]] == [row["id"] for row in before for _ in range(3)]
    changed = [
        sum(copy[name] != before[at // 3][name] for at, copy in enumerate(after[8:]))
        for name in ("sentence1", "sentence2")
    ]
    assert min(changed) > 16


def text_of(folder):
    return (folder / "train.tsv").read_bytes()


def test_the_same_seed_gives_the_same_text_in_any_shards_and_batches(
    back_translation, toy_models, small, tmp_path
):
    settings = Settings((0.9,), 2, 5)
    (first,) = augment(small, tmp_path / "one", back_translation, settings)
    tiny = BackTranslation(
        *(
            TranslationModel(one, torch.device("cpu"), batch_tokens=40)
            for one in choices(toy_models)
        )
    )
    (second,) = augment(small, tmp_path / "two", tiny, settings, shard_rows=5)
    assert text_of(first.folder) == text_of(second.folder)
    (third,) = augment(small, tmp_path / "three", back_translation, Settings((0.9,), 2, 6))
    assert text_of(third.folder) != text_of(first.folder)
    # More copies leave those that there were.
    (more,) = augment(small, tmp_path / "four", back_translation, Settings((0.9,), 3, 5))
    own = {row["source"]: row["sentence1"] for row in table(first.folder / "train.tsv")}
    assert (
        own.items()
        <= {r["source"]: r["sentence1"] for r in table(more.folder / "train.tsv")}.items()
    )


def arguments(models, folder, out, *others):
    named = [
        [str(choice.place), *(f"{key}={value}" for key, value in choice.arguments.items())]
        for choice in choices(models)
    ]
    words = ["--sample", folder, "--out", out, "--seed", 1, "--device", "cpu", *others]
    words += ["--forward", *named[0], "--backward", *named[1]]
    return [sys.executable, "-m", "scl_fairseq.cli.augment", *map(str, words)]


def test_a_killed_run_goes_on_and_gives_the_same_file(toy_models, back_translation, tmp_path):
    folder = sample(tmp_path, 40)
    options = ["--temperature", 0.5, 0.9, "--ratio", 2, "--shard-size", 4]
    run = {"env": runs.ENVIRONMENT, "cwd": runs.ROOT, "stdout": subprocess.DEVNULL}
    settings = Settings((0.5, 0.9), 2, 1)
    augment(folder, tmp_path / "whole", back_translation, settings, shard_rows=40)
    killed = arguments(toy_models, folder, tmp_path / "killed", *options)
    process = subprocess.Popen(killed, **run)
    deadline = time.monotonic() + 600
    while not (shards := sorted((tmp_path / "killed").glob("partial/*/T0.5/shard*.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "T0.5" / "train.tsv").exists()
    kept = shards[0]
    # A mark in what was kept shows that the second run takes it up.
    pairs = json.loads(kept.read_text("utf-8"))
    marked = [["marked by the test", ""], *pairs[1:]]
    kept.write_text(json.dumps(marked), "utf-8")
    subprocess.run(killed, check=True, **run)
    for name in ("T0.5", "T0.9"):
        one, other = (table(tmp_path / where / name / "train.tsv") for where in ("whole", "killed"))
        differ = [at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
        assert differ == ([40] if name == "T0.5" else [])
    assert other[40]["sentence1"] != "marked by the test"
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["T0.5", "T0.9"]


def test_what_is_there_stays_unless_it_was_made_in_another_way(small, tmp_path):
    out = tmp_path / "out"
    (first,) = augment(small, out, UPPER, Settings((None,), 2, 1))
    assert first.folder.name == "paraphrased"
    before = (first.folder / "train.tsv").stat().st_mtime_ns
    (again,) = augment(small, out, UPPER, Settings((None,), 2, 1))
    assert again.was_there
    assert again.change == first.change
    assert (first.folder / "train.tsv").stat().st_mtime_ns == before
    (other,) = augment(small, out, UPPER, Settings((None,), 1, 1))
    assert not other.was_there
    assert len(table(other.folder / "train.tsv")) == 24


def test_sentences_without_a_paraphrase_stand_for_it_and_are_counted(tmp_path):
    folder = sample(tmp_path, 8, task="RTE")
    # Every fifth line is left empty.
    code = "import sys; [print('' if at % 5 == 0 else 'x') for at, _ in enumerate(sys.stdin)]"
    command = ParaphraseCommand(f'{sys.executable} -c "{code}"')
    (made,) = augment(folder, tmp_path / "out", command, Settings((None,), 2, 1))
    before, after = table(folder / "train.tsv"), table(made.folder / "train.tsv")
    assert len(after) == 24
    assert made.kept == {"the paraphrase was empty": 7}  # of 32 sentences: 0, 5, …, 30
    kept = 0
    for at, row in enumerate(after[8:]):
        said = fields(row["source"]).get("kept", "").split(",")
        for place, name in enumerate(("sentence1", "sentence2")):
            is_kept = (2 * at + place) % 5 == 0
            assert (name in said) == is_kept
            assert row[name] == (before[at // 2][name] if is_kept else "x")
            kept += is_kept
    assert kept == 7
    assert made.change.num_sentences == 25


def test_breaks_in_a_paraphrase_do_not_break_the_file(small, tmp_path):
    code = "import sys; [print('a' + chr(9) + 'b' + chr(13) + 'c') for _ in sys.stdin]"
    command = ParaphraseCommand(f'{sys.executable} -c "{code}"')
    (made,) = augment(small, tmp_path / "out", command, Settings((None,), 1, 1))
    assert {row.sentences for row in read_rows(TASKS["SST-2"], made.folder / "train.tsv")[12:]} == {
        ("a b c",)
    }


def test_an_augmented_sample_is_data_for_preprocess(tiny, tmp_path):
    folder = tiny.sample
    (made,) = augment(folder, tmp_path / "out", UPPER, Settings((None,), 3, 1))
    settings = Encoding("wordpiece", tiny.encoder)
    report = preprocess(TASKS["SST-2"], made.folder, tmp_path / "bin", settings)
    plain = preprocess(TASKS["SST-2"], folder, tmp_path / "plain", settings)
    assert report.splits["train"].rows == 4 * plain.splits["train"].rows
    for name, count in plain.splits["train"].label_counts.items():
        assert report.splits["train"].label_counts[name] == 4 * count
    assert report.splits["test"] == plain.splits["test"]


def test_bad_samples(small, tmp_path):
    def refused(folder, message, out=tmp_path / "out", kind=ValueError, **others):
        with pytest.raises(kind, match=message):
            augment(folder, out, UPPER, Settings((None,), 1, 1), **others)
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "no", "is no folder", kind=FileNotFoundError)
    refused(small.parent, "has no manifest.json.*sample0", kind=FileNotFoundError)
    refused(small, "is a sample of SST-2, not of RTE", task="RTE")
    refused(small, "lies within --sample", out=small / "out")
    (made,) = augment(small, tmp_path / "made", UPPER, Settings((None,), 1, 1))
    refused(made.folder, "is augmented already")
    with pytest.raises(ValueError, match="of an augmented sample"):
        redraw(
            Manifest.read(made.folder / "manifest.json"),
            small.parent.parent / "corpus",
            tmp_path / "x",
        )
    other = tmp_path / "other"
    other.mkdir()
    for path in small.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    lines = (other / "train.tsv").read_text("utf-8").splitlines(keepends=True)
    (other / "train.tsv").write_text("".join(lines[:-1]), "utf-8")
    refused(other, "has other rows than")


def test_what_is_in_the_way_stays(small, tmp_path):
    place = tmp_path / "out" / "paraphrased"
    place.mkdir(parents=True)
    (place / "mine").touch()
    with pytest.raises(ValueError, match="holds something else"):
        augment(small, tmp_path / "out", UPPER, Settings((None,), 1, 1))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["paraphrased", "mine"]


def test_wrong_settings():
    for values, message in [
        (((0.0,), 1, 0), "--temperature 0, expected more than 0"),
        (((float("nan"),), 1, 0), "--temperature nan"),
        (((0.3, 0.3), 1, 0), "there twice"),
        (((0.3,), 0, 0), "--ratio 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            Settings(*values)


def test_the_command_reports_and_shows(toy_models, small, tmp_path):
    def run(*others):
        command = arguments(toy_models, small, tmp_path / "out", *others)
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=runs.ENVIRONMENT,
            cwd=runs.ROOT,
            check=False,
        )

    done = run("--temperature", 0.3, 0.9, "--task", "SST-2")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "T",
        "sentences",
        "kept",
        "BLEU",
        "chrF",
        "unchanged",
        "%",
        "length",
        "ratio",
    ]
    assert [line.split()[:3] for line in lines[1:3]] == [["0.3", "36", "0"], ["0.9", "36", "0"]]
    assert sum(line.startswith("  before: ") for line in lines) == 6
    assert lines[-1] == f"wrote {tmp_path / 'out' / 'T0.9'} (12 originals, 36 paraphrases)"
    again = run("--temperature", 0.3, 0.9)
    assert again.stdout.count("is there already (12 originals, 36 paraphrases)") == 2
    assert again.stdout.splitlines()[:3] == lines[:3]


def refused(tmp_path, *words):
    from scl_fairseq.cli.augment import main

    code = main(["--out", str(tmp_path / "out"), *map(str, words)])
    assert not (tmp_path / "out").exists()
    return code


def test_bad_requests_take_one_line(toy_models, small, tmp_path, capsys):
    own = ["--sample", small]
    forward = ["--forward", toy_models / "en-xx", *(f"{k}={v}" for k, v in FORWARD.items())]
    backward = ["--backward", toy_models / "xx-en", *(f"{k}={v}" for k, v in BACKWARD.items())]
    at = ["--temperature", "0.3"]
    for words, message in [
        ([*own, *backward, *at], "--forward is required"),
        ([*own, *forward, *backward], "--temperature is required"),
        ([*own, "--command", "cat", *forward], "--forward is for back-translation"),
        ([*own, "--command", "cat", *at], "does not say {temperature}"),
        ([*own, "--command", "x {temperature}"], "--temperature is required"),
        ([*own, "--task", "RTE", "--command", "cat"], "is a sample of SST-2, not of RTE"),
        ([*own, *forward, *backward, "--temperature", "0"], "expected more than 0"),
        ([*own, *forward, *backward, *at, "--fp16", "--device", "cpu"], "--fp16 needs a GPU"),
        ([*own, *forward, "--backward", "no-model", *at], "no-model: neither a folder nor a name"),
        ([*own, *forward, "--backward", *forward[1:], *at], "vocabularies do not match"),
        ([*own, *forward, *backward, "user_dir=x", *at], "expected KEY=VALUE"),
    ]:
        assert refused(tmp_path, *words) == 2, message
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1
