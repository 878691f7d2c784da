"""From raw sentences to labels, and every prediction is the one that validation counted."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models.roberta import RobertaModel

import scl_fairseq
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.records import read_rows
from scl_fairseq.data.tasks import TASKS
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

    model = scl_fairseq.load(tmp_path)  # what it needs lies beside
    found = model.predict(sentences, max_tokens=99)
    assert found.probabilities.argmax(dim=1).tolist() == validated
    assert found.labels == [TASK.labels[index] for index in validated]
    assert found.class_names == model.labels == ["0", "1"]
    assert found.probabilities.sum(dim=1).tolist() == pytest.approx([1] * len(sentences), abs=1e-5)


TEXTS = ["a fine film", "bad", "", "a long , long film and a longer one", "a fine film", "so good"]


@pytest.fixture(scope="module")
def model(classifier):
    return scl_fairseq.load(classifier)


@pytest.fixture(scope="module")
def stock(classifier):
    """Fairseq's own interface of the same checkpoint."""
    vocabulary = str(classifier / "vocab.txt")
    return RobertaModel.from_pretrained(
        str(classifier), "checkpoint_best.pt", ".", bpe="wordpiece", wordpiece_vocab=vocabulary
    ).eval()


@torch.no_grad()
def expected_vectors(stock, kind, texts=TEXTS):
    """One sentence at a time, by fairseq."""
    heads, found = stock.model.classification_heads, []
    for text in texts:
        features = stock.extract_features(stock.encode(text))[0]
        vector = features.mean(dim=0) if kind == "mean" else features[0]
        if kind == "pooled":
            vector = torch.tanh(heads["sentence_classification_head"].dense(vector))
        found.append(vector)
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["cls", "pooled", "mean"])
@pytest.mark.parametrize("max_tokens", [None, 1, 30])
def test_vectors_are_fairseqs(model, stock, kind, max_tokens):
    vectors = model.embed(TEXTS, kind, max_tokens=max_tokens)
    expected = expected_vectors(stock, kind)
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-2)
    assert (vectors.dtype, vectors.device.type) == (torch.float32, "cpu")
    assert model.truncated == 0


@torch.no_grad()
def test_probabilities_are_fairseqs_and_its_own_calls_go_on(model, stock):
    head = "sentence_classification_head"
    expected = torch.cat([stock.predict(head, stock.encode(text)) for text in TEXTS])
    found = model.predict([(text,) for text in TEXTS]).probabilities
    torch.testing.assert_close(found, expected.exp(), rtol=1e-4, atol=1e-5)
    for text, row in zip(TEXTS, expected, strict=True):
        tokens = model.encode(text)
        assert torch.equal(model.predict(head, tokens)[0], row)
        logits = model.predict(head=head, tokens=tokens, return_logits=True)
        assert torch.equal(logits[0].log_softmax(dim=-1), row)


def test_pairs_and_long_texts(model, stock):
    (paired,) = model.embed([("a film", "bad")])
    with torch.no_grad():
        tokens = stock.encode("a film", "bad", no_separator=True)
        expected = stock.extract_features(tokens)[0, 0]
    torch.testing.assert_close(paired, expected, rtol=1e-4, atol=1e-5)
    # 64 positions: <s>, 62 words and </s>
    cut, whole = model.embed(["film " * 90, "film " * 62])
    assert torch.equal(cut, whole)
    model.predict(["film " * 90, "bad", "film " * 63])
    assert model.truncated == 2


def test_no_sentences_and_no_list(model):
    assert model.embed([]).shape == (0, 32)
    assert model.predict([]).probabilities.shape == (0, 2)
    with pytest.raises(ValueError, match="expected a list of sentences"):
        model.embed("a fine film")
    with pytest.raises(ValueError, match="embedding 'max', expected one of cls, pooled, mean"):
        model.embed(TEXTS, "max")


def test_the_mode_is_left_as_it_was_and_vectors_train(model):
    vectors = model.train().embed(TEXTS)
    assert model.training
    assert torch.equal(vectors, model.eval().embed(TEXTS))
    assert not model.training
    weight = torch.ones(32, requires_grad=True)
    (vectors @ weight).sum().backward()  # vectors of inference mode could not be saved for it
    torch.testing.assert_close(weight.grad, vectors.sum(dim=0))


def test_an_encoder_that_is_not_fine_tuned(tiny):
    model = scl_fairseq.load(tiny.encoder)
    vocabulary = str(tiny.encoder / "vocab.txt")
    stock = RobertaModel.from_pretrained(
        str(tiny.encoder), "model.pt", ".", bpe="wordpiece", wordpiece_vocab=vocabulary
    ).eval()
    for kind in ("cls", "mean"):
        expected = expected_vectors(stock, kind)
        torch.testing.assert_close(model.embed(TEXTS, kind), expected, rtol=1e-4, atol=1e-5)
    assert model.labels == []
    for call in (lambda: model.predict(TEXTS), lambda: model.embed(TEXTS, "pooled")):
        with pytest.raises(ValueError, match="it is an encoder, not a classifier"):
            call()


def test_precision_and_device(classifier, model):
    half = scl_fairseq.load(classifier, device="cpu", dtype="bf16")
    assert next(half.model.parameters()).dtype == torch.bfloat16
    vectors, expected = half.embed(TEXTS), model.embed(TEXTS)
    assert vectors.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(vectors, expected).min() > 0.99
    wrong = [
        ({"device": "cpu", "dtype": "fp16"}, "fp16 needs a GPU"),
        ({"dtype": "int8"}, "dtype 'int8', expected one of fp32, bf16, fp16"),
        ({"device": "abacus"}, "device 'abacus', expected cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, r"device cuda:99: there are \d+ GPUs"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            scl_fairseq.load(classifier, **options)


@pytest.mark.gpu
def test_on_a_gpu(classifier, model):
    for dtype, least in ((None, 0.99999), ("bf16", 0.99), ("fp16", 0.999)):
        on_gpu = scl_fairseq.load(classifier, dtype=dtype)
        assert on_gpu.device.type == "cuda"
        for kind in ("cls", "pooled", "mean"):
            vectors, expected = on_gpu.embed(TEXTS, kind), model.cpu().embed(TEXTS, kind)
            assert vectors.device.type == "cpu"
            assert torch.nn.functional.cosine_similarity(vectors, expected).min() > least
