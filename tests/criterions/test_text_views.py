"""Paraphrases as views: from scl-augment's files to the batches of ``fairseq-train``."""

import csv
import math
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import TASKS
from tests import runs
from tests.criterions import test_sentence_prediction_scl as scl
from tests.criterions.test_supcon import HEAD, NO_DROPOUT, loop_loss

# A row's copies come one after the other.
PARAPHRASE = """
import sys
for number, line in enumerate(sys.stdin):
    words = line.split()
    print(" ".join(words[::-1] if number % 2 else words + words[:2]))
"""
TEXT = ["--supcon-view-source", "text"]


@pytest.fixture(scope="module")
def augmented(tiny, tmp_path_factory):
    """Two paraphrases of each sentence: the words the other way round, and some of them twice."""
    from scl_fairseq.cli.augment import main

    folder = tmp_path_factory.mktemp("augmented")
    script = folder / "paraphrase.py"
    script.write_text(PARAPHRASE, encoding="utf-8")
    command = f"{sys.executable} {script}"
    out = folder / "sample"
    main(["--sample", str(tiny.sample), "--out", str(out), "--ratio", "2", "--command", command])
    settings = Settings("wordpiece", tiny.encoder)
    preprocess(TASKS["SST-2"], out / "paraphrased", folder / "data", settings)
    return folder


def rows_of(folder):
    path = folder / "sample" / "paraphrased" / "train.tsv"
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def built_on(data, *flags):
    return scl.build(SimpleNamespace(data=data), "roberta", *flags, criterion="supcon")


def test_preprocessing_says_what_each_row_was_made_of(augmented, tiny):
    rows = rows_of(augmented)
    assert len(rows) == 192
    made_of = [re.match(r"row=(\d+)", row["source"])[1] for row in rows]
    found = (augmented / "data" / "source" / "train.txt").read_text().split()
    assert found == made_of
    assert not (tiny.data / "source").exists()  # nothing was made of anything


def test_preprocessing_again_replaces_it(augmented, tiny):
    settings = Settings("wordpiece", tiny.encoder)
    sample = augmented / "sample" / "paraphrased"
    again = augmented / "again"
    for _ in range(2):
        preprocess(TASKS["SST-2"], sample, again, settings)
    preprocess(TASKS["SST-2"], tiny.sample, again, settings)
    assert not (again / "source").exists()


@pytest.mark.parametrize("views", [2, 3, 5])
def test_a_sentences_views_are_its_own_texts(augmented, tiny, views):
    """The original first; one of two paraphrases, both, or both and the original again."""
    task = load(augmented, *TEXT, "--supcon-views", views)
    data, rows = task.dataset("train"), rows_of(augmented)
    plain = load(augmented).dataset("train")
    assert (len(data), len(plain)) == (64, 192)
    texts = [tuple(plain[i]["net_input.src_tokens"].tolist()) for i in range(192)]
    ids = [row["id"] for row in rows]
    seen = set()
    for epoch in (1, 2, 3):
        data.set_epoch(epoch)
        for i in range(64):
            found = [tuple(row["net_input.src_tokens"].tolist()) for row in data[i]]
            own = [text for text, of in zip(texts, ids, strict=True) if of == ids[i]]
            assert found[0] == own[0]
            expected = {2: 1, 3: 2, 5: 2}[views]
            assert len(found) == views
            assert len(set(found[1:]) - {own[0]}) == len(set(found) & set(own[1:])) == expected
            assert found.count(own[0]) == views - expected
            seen.add(tuple(found))
            assert data.size(i) >= max(map(len, found))
            assert data.num_tokens(i) >= sum(map(len, found))
    assert (len(seen) > 64) == (views == 2)  # other epochs draw others where there is a choice
    batch = data.collater([data[0], data[9]])
    assert len(batch["net_input"]["src_tokens"]) == 2 * views
    targets = batch["target"].view(-1).tolist()
    assert targets == [targets[0]] * views + [targets[-1]] * views


def test_a_process_of_a_data_loader_draws_others_in_each_epoch_too(augmented):
    """Fairseq's data loaders keep their processes, with the data set as it was at first."""
    rows_of_epochs = []
    for num_workers in (0, 1):
        task = load(augmented, *TEXT, "--supcon-views", 2)
        rows_of_epochs.append(runs.rows_of_epochs(task, (1, 2, 3), num_workers))
    alone, by_another = rows_of_epochs
    assert by_another == alone
    assert len({tuple(sorted(rows)) for rows in alone}) == 3


def load(folder, *flags):
    """The task with its data, through the criterion."""
    return built_on_task(folder / "data", *flags)


def built_on_task(data, *flags):
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    arguments = [
        str(data),
        *["--task", "sentence_prediction", "--num-classes", "2", "--init-token", "0"],
    ]
    arguments += ["--criterion", "supcon", "--arch", "roberta", *scl.SIZES["roberta"].split()]
    arguments += ["--max-positions", "64", "--batch-size", "8", *map(str, flags)]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    task = tasks.setup_task(cfg.task)
    criterion = task.build_criterion(cfg.criterion)
    task.load_dataset("train")
    task.load_dataset("valid")
    task.criterion, task.model_cfg = criterion, cfg.model
    return task


@pytest.mark.parametrize("unsupervised", [False, True])
def test_the_loss_is_that_of_the_texts(augmented, unsupervised):
    flags = [*TEXT, "--supcon-views", 3, *["--supcon-unsupervised"] * unsupervised]
    task = load(augmented, *flags)
    torch.manual_seed(1)
    model = task.build_model(task.model_cfg)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    task.criterion.prepare_model(model)
    data = task.dataset("train")
    batch = data.collater([data[i] for i in range(6)])
    model.train()
    torch.manual_seed(5)
    rows = model(**batch["net_input"], features_only=True)[0][:, 0]
    head = model.classification_heads[HEAD]
    rows = head.out_proj(head.dense(rows).clamp(min=0))
    labels = batch["target"].view(-1).tolist()
    labels = [i for i in range(6) for _ in range(3)] if unsupervised else labels
    torch.manual_seed(5)
    loss, sample_size, log = task.criterion(model, batch)
    assert loss.item() == pytest.approx(loop_loss(rows, labels, 0.3), rel=1e-4)
    assert (sample_size, log["nsentences"]) == (18, 6)
    # Validation's sentences have no paraphrases.
    valid = task.dataset("valid")
    batch = valid.collater([valid[i] for i in range(6)])
    loss, sample_size, log = task.criterion(model.eval(), batch)
    assert (sample_size, log["nsentences"], log["_knn_count"]) == (18, 6, 6)


def test_it_trains_and_the_order_is_new_in_each_epoch(augmented, tmp_path, tiny):
    words = [*TEXT, "--supcon-views", 2, *NO_DROPOUT, "--max-epoch", 3, "--no-save"]
    queue = ["--scl-queue-size", 20, "--scl-momentum", 0.9]
    arguments = runs.command(tiny, tmp_path, *words, *queue, criterion="supcon")
    arguments[1] = str(augmented / "data")
    output = runs.train(arguments).stdout
    losses = runs.logged(output, "loss")
    assert len(losses) >= 6
    assert all(map(math.isfinite, losses))
    assert "num_updates 24" in output  # 64 sentences, 8 a batch


def test_data_without_paraphrases_is_refused(tiny):
    with pytest.raises(ValueError, match=r"--supcon-view-source text needs .* no .*source"):
        built_on(tiny.data, *TEXT)


def test_data_of_another_length_is_refused(augmented, tmp_path):
    data = shutil.copytree(augmented / "data", tmp_path / "data")
    path = data / "source" / "train.txt"
    path.write_text(path.read_text() + "7\n")
    with pytest.raises(ValueError, match="193 lines for 192 rows"):
        built_on_task(data, *TEXT)


def test_one_view_of_texts_is_refused(augmented):
    with pytest.raises(ValueError, match="needs --supcon-views 2 or more, got 1"):
        built_on(augmented / "data", *TEXT, "--supcon-views", 1)
