"""From raw sentences to labels, and every prediction is the one that validation counted."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from fairseq import checkpoint_utils

from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
from scl_fairseq.inference import hub
from tests import runs

TASK = TASKS["SST-2"]
# A process in which transformers cannot be imported and no name can be looked up.
PREDICT = """
import json, socket, sys
sys.modules["transformers"] = None
def offline(*args, **kwargs): raise OSError("offline")
socket.getaddrinfo = socket.create_connection = offline
import scl_fairseq
from fairseq.models.roberta import RobertaModel
folder, data, overrides, text = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
model = RobertaModel.from_pretrained(folder, "checkpoint_best.pt", data, **overrides).eval()
predictions = []
for line in open(text, encoding="utf-8").read().splitlines():
    log_probabilities = model.predict("sentence_classification_head", model.encode(line))
    predictions.append(log_probabilities.argmax().item())
print("PREDICTIONS", json.dumps(predictions))
"""


def validate(checkpoint):
    """Stored tokens in validation batches, as in training: predictions by row, and accuracy."""
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
    task.load_dataset("valid")
    dataset = task.dataset("valid")
    predictions, correct = {}, 0
    with torch.no_grad():
        for start in range(0, len(dataset), 8):
            rows = range(start, min(start + 8, len(dataset)))
            batch = dataset.collater([dataset[i] for i in rows])
            logits = model.eval()(
                **batch["net_input"], classification_head_name="sentence_classification_head"
            )[0]
            best = logits.argmax(dim=1)
            correct += best.eq(batch["target"].view(-1)).sum().item()
            predictions.update(zip(batch["id"].tolist(), best.tolist(), strict=True))
    return [predictions[i] for i in range(len(dataset))], 100 * correct / len(dataset)


@pytest.fixture(scope="module")
def small_gpt2(tiny, gpt2_files, tmp_path_factory):
    """GPT-2's kind of BPE, and data binarised with it."""
    folder = tmp_path_factory.mktemp("small_gpt2")
    shutil.copytree(gpt2_files, folder, dirs_exist_ok=True)
    preprocess(TASK, tiny.sample, folder / "data", Settings("gpt2", folder))
    return folder


@pytest.mark.parametrize("bpe", ["wordpiece", "gpt2"])
def test_raw_sentences_get_the_predictions_that_validation_counted(tiny, small_gpt2, tmp_path, bpe):
    options = [
        "--max-epoch",
        12,
        "--lr",
        "3e-3",
        "--best-checkpoint-metric",
        "accuracy",
        "--scl-lambda",
        0.5,
    ]
    options += ["--maximize-best-checkpoint-metric", "--no-epoch-checkpoints"]
    if bpe == "wordpiece":
        data, overrides = tiny.data, {"bpe": bpe, "wordpiece_vocab": tiny.encoder / "vocab.txt"}
        arguments = runs.command(tiny, tmp_path, *options)
    else:
        data = small_gpt2 / "data"
        files = {"encoder_json": "encoder.json", "vocab_bpe": "vocab.bpe"}
        overrides = {f"gpt2_{key}": small_gpt2 / name for key, name in files.items()}
        arguments = runs.command(tiny, tmp_path, *options, "--restore-file", "none.pt")
        arguments[1] = str(data)
    output = runs.train(arguments).stdout
    validated, accuracy = validate(tmp_path / "checkpoint_best.pt")
    valid = "\n".join(line for line in output.splitlines() if "valid on" in line)
    assert round(accuracy, 1) == max(runs.logged(valid, "accuracy"))
    assert len(set(validated)) == 2

    sentences = [row.sentences for row in read_rows(TASK, tiny.sample / "dev.tsv")]
    text = tmp_path / "sentences"
    text.write_text("".join(s[0] + "\n" for s in sentences), encoding="utf-8")
    settings = json.dumps({key: str(value) for key, value in overrides.items()})
    script = [sys.executable, "-c", PREDICT, str(tmp_path), str(data), settings, str(text)]
    done = subprocess.run(script, capture_output=True, text=True, env=runs.ENVIRONMENT, check=True)
    assert json.loads(done.stdout.split("PREDICTIONS")[1]) == validated

    model = hub.load(tmp_path / "checkpoint_best.pt", data, **json.loads(settings))
    batched = hub.predict(model, sentences, batch_size=7)
    assert batched.argmax(dim=1).tolist() == validated
    assert batched.exp().sum(dim=1).tolist() == pytest.approx([1] * len(sentences), abs=1e-5)
    assert hub.labels(model) == ["0", "1"]
    vectors = hub.embed(model, sentences[:3])
    alone = model.extract_features(model.encode(*sentences[1]))[0, 0]
    torch.testing.assert_close(vectors[1], alone, rtol=1e-4, atol=1e-5)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint_best.pt: no such checkpoint"):
        hub.load(tmp_path / "checkpoint_best.pt", tmp_path)
