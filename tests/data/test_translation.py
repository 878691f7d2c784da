"""Translation models as fairseq's hub loads them, sampled from."""

import functools
import http.server
import os
import re
import shutil
import tarfile
import threading
from pathlib import Path

import pytest
import torch
from fairseq import file_utils
from fairseq.models.transformer import TransformerModel

from examples.noise import toy_models as toy
from scl_fairseq.data.back_translation import BackTranslation
from scl_fairseq.data.paraphrase import EMPTY, TOO_LONG, Request
from scl_fairseq.data.stable_random import StableRandom
from scl_fairseq.data.translation import TranslationModel
from scl_fairseq.data.translation_choice import ModelChoice
from tests.data.toy_sample import BACKWARD, FORWARD, choices, sentences

CPU = torch.device("cpu")
TEXTS = [text for text, _ in sentences(40)]


def draws(count, seed=0):
    return [StableRandom(seed, index).uniform for index in range(count)]


def load(place, batch_tokens=4096, **arguments):
    return TranslationModel(ModelChoice(str(place), arguments), CPU, batch_tokens=batch_tokens)


@pytest.fixture(scope="module")
def forward(toy_models):
    return TranslationModel(choices(toy_models)[0], CPU)


@pytest.fixture(scope="module")
def backward(toy_models):
    return TranslationModel(choices(toy_models)[1], CPU)


def joined(text):
    return "".join(text.split())  # Moses puts commas to their words


def test_the_models_have_learnt_their_language(forward, backward):
    foreign = [toy.to_foreign(text) for text in TEXTS]
    found = forward.sample(TEXTS, draws(40), 0.1)
    pairs = zip(found, foreign, strict=True)
    assert sum(joined(one.text) == joined(text) for one, text in pairs) >= 12
    back = backward.sample(foreign, draws(40), 0.1)
    words = [
        (set(one.text.split()), set(text.split())) for one, text in zip(back, TEXTS, strict=True)
    ]
    assert sum(len(a & b) / len(b) for a, b in words) / 40 > 0.6


def test_batches_do_not_change_the_texts(toy_models, forward):
    one_by_one = load(toy_models / "en-xx", 1, **FORWARD)
    few = load(toy_models / "en-xx", 60, **FORWARD)
    expected = forward.sample(TEXTS, draws(40), 0.9)
    assert one_by_one.sample(TEXTS, draws(40), 0.9) == expected
    assert few.sample(TEXTS, draws(40), 0.9) == expected
    some = forward.sample(TEXTS[10:13], draws(40)[10:13], 0.9)
    assert some == expected[10:13]
    assert forward.sample(TEXTS, draws(40, seed=1), 0.9) != expected


def test_samples_follow_the_models_distribution_at_the_temperature(toy_models):
    """The first word of many samples against a softmax worked out from the model's own logits."""
    model = load(toy_models / "xx-en", **BACKWARD)
    hub = TransformerModel.from_pretrained(str(toy_models / "xx-en"), **BACKWARD)
    source = toy.to_foreign(TEXTS[0])
    tokens = hub.encode(source).unsqueeze(0)
    start = torch.tensor([[hub.tgt_dict.eos()]])
    hub.eval()
    with torch.no_grad():
        logits = hub.models[0](tokens, torch.tensor([tokens.shape[1]]), start)[0][0, 0]
    # Neither padding, nor <unk>, nor the end of an empty sentence.
    logits[[hub.tgt_dict.pad(), hub.tgt_dict.unk(), hub.tgt_dict.eos()]] = -torch.inf
    count = 1500
    for temperature in (0.5, 2.0):
        expected = torch.softmax(logits.double() / temperature, dim=0)
        found = model.sample([source] * count, draws(count), temperature)
        # The first piece of a text: the longest one that begins it, by the model's own tokeniser.
        pieces = [hub.bpe.encode(one.text).split()[0] for one in found if one.text]
        best = int(expected.argmax())
        share = pieces.count(hub.tgt_dict[best]) / count
        assert share == pytest.approx(expected[best].item(), abs=0.05)


def test_an_ensemble_is_another_model_than_its_parts(toy_models, forward):
    folder = toy_models / "en-xx"
    parts = [
        load(folder, **{**FORWARD, "checkpoint_file": name}) for name in ("model1.pt", "model2.pt")
    ]
    texts = [[one.text for one in m.sample(TEXTS, draws(40), 0.9)] for m in (forward, *parts)]
    assert texts[0] != texts[1]
    assert texts[0] != texts[2]
    assert [*forward.describe()["checkpoints"]] == ["model1.pt", "model2.pt"]


def test_subword_nmt_takes_the_same_merges(toy_models, forward, tmp_path):
    codes = tmp_path / "codes"
    merges = [
        " ".join(line.split()[:2])
        for line in (toy_models / "en-xx" / "bpecodes").read_text("utf-8").splitlines()
    ]
    codes.write_text("#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges), "utf-8")
    folder = shutil.copytree(toy_models / "en-xx", tmp_path / "model")
    (folder / "bpecodes").unlink()
    other = load(folder, **{**FORWARD, "bpe": "subword_nmt", "bpe_codes": str(codes)})
    assert other.sample(TEXTS, draws(40), 0.5) == forward.sample(TEXTS, draws(40), 0.5)
    assert other.describe()["bpe"] == "subword_nmt"


def test_moses_keeps_its_options(toy_models):
    plain = load(toy_models / "en-xx", **FORWARD)
    option = {**FORWARD, "moses_no_dash_splits": "true"}
    other = load(toy_models / "en-xx", **option)
    assert plain._hub.tokenize("a first-rate film").split() == ["a", "first", "@-@", "rate", "film"]
    assert other._hub.tokenize("a first-rate film").split() == ["a", "first-rate", "film"]


@pytest.fixture
def archive(toy_models, tmp_path, monkeypatch):
    """A hub name whose archive a server of this machine has."""
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / "toy.en-xx.tar.gz", "w:gz") as file:
        file.add(toy_models / "en-xx", "toy.en-xx")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served")
    )
    handler_class = type(
        "Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}
    )
    handler = functools.partial(handler_class, directory=str(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/toy.en-xx.tar.gz"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(file_utils, "PYTORCH_FAIRSEQ_CACHE", str(tmp_path / "cache"))
    own = TransformerModel.hub_models()["transformer.wmt19.en-de"]
    models = {
        # As fairseq describes its own: where it is, and its tokenisation.
        "transformer.toy.en-xx": {**own, "path": url},
        "transformer.gone.en-xx": {**own, "path": url.replace("toy", "gone")},
    }
    monkeypatch.setattr(TransformerModel, "hub_models", classmethod(lambda cls: models))
    yield "transformer.toy.en-xx"
    server.shutdown()
    server.server_close()


def test_a_hub_name_is_downloaded_with_its_own_tokenisation(archive, forward, capsys):
    model = load(archive, checkpoint_file="model1.pt:model2.pt")
    assert model.name == archive
    assert (model.describe()["tokenizer"], model.describe()["bpe"]) == ("moses", "fastbpe")
    assert model.sample(TEXTS, draws(40), 0.5) == forward.sample(TEXTS, draws(40), 0.5)
    for _ in range(2):  # fairseq would keep the server's answer as the archive
        with pytest.raises(ValueError, match=r"transformer\.gone\.en-xx could not be downloaded"):
            load("transformer.gone.en-xx")
    assert not [
        path
        for path in Path(file_utils.PYTORCH_FAIRSEQ_CACHE).iterdir()
        if path.is_file() and path.suffix != ".json"
    ]


def test_the_hub_has_what_the_readme_says():
    names = set(TransformerModel.hub_models())
    assert {
        "transformer.wmt18.en-de",
        "transformer.wmt19.en-de",
        "transformer.wmt19.de-en",
    } <= names
    assert "transformer.wmt18.de-en" not in names


def test_a_missing_model(toy_models, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor a name of fairseq's hub"):
        load("transformer.wmt18.de-en")
    with pytest.raises(
        FileNotFoundError, match=r"model\.pt: no such checkpoint.*model1\.pt, model2\.pt"
    ):
        load(toy_models / "en-xx")
    folder = shutil.copytree(toy_models / "xx-en", tmp_path / "model")
    (folder / "sentencepiece.bpe.model").unlink()
    with pytest.raises(FileNotFoundError, match=r"no sentencepiece\.bpe\.model"):
        load(folder, **BACKWARD)
    (folder / "dict.xx.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"dict\.xx\.txt is not there"):
        load(folder)


def test_wrong_arguments(toy_models):
    for word, message in [
        ("user_dir=x", "expected KEY=VALUE with a key of checkpoint_file"),
        ("tokenizer", "expected KEY=VALUE"),
        ("moses_no_escape=yes", "expected true or false"),
    ]:
        with pytest.raises(ValueError, match=message):
            ModelChoice.parse(["folder", word])
    with pytest.raises(ValueError, match="bpe is given twice"):
        ModelChoice.parse(["folder", "bpe=a", "bpe=b"])
    ignored = {**BACKWARD, "sentencepiece_model": "other.model"}
    with pytest.raises(ValueError, match=r"other\.model: .*is there, and fairseq's hub takes"):
        load(toy_models / "xx-en", **ignored)
    with pytest.raises(ValueError, match="tokenizer=mosses: expected one of"):
        load(toy_models / "xx-en", tokenizer="mosses")


def test_vocabularies_of_another_model(toy_models, tmp_path):
    folder = shutil.copytree(toy_models / "xx-en", tmp_path / "model")
    lines = (folder / "dict.xx.txt").read_text("utf-8").splitlines(keepends=True)
    (folder / "dict.xx.txt").write_text("".join(lines[:-1]), "utf-8")
    with pytest.raises(ValueError, match=r"the dictionaries there are not those of model\.pt"):
        load(folder, **BACKWARD)


def test_codes_of_another_vocabulary(toy_models):
    # Without its BPE the words meet a dictionary of pieces that begin with another mark.
    model = load(toy_models / "xx-en")
    with pytest.raises(ValueError, match=r"dict\.xx\.txt lacks \d+% of the tokens"):
        model.sample([toy.to_foreign(text) for text in TEXTS], draws(40), 0.3)


def test_malformed_fastbpe_codes_do_not_end_the_process(toy_models, tmp_path):
    folder = shutil.copytree(toy_models / "en-xx", tmp_path / "model")
    (folder / "bpecodes").write_text("a b\n", "utf-8")
    with pytest.raises(ValueError, match="bpecodes:1: 'a b', expected two sub-words and a count"):
        load(folder, **FORWARD)


def test_the_languages_must_meet(forward, backward):
    with pytest.raises(ValueError, match=r"translates en-xx and --backward .* not xx-en"):
        BackTranslation(forward, forward)
    assert BackTranslation(forward, backward).name == "en-xx+xx-en"


def test_seed_row_copy_and_sentence_name_the_random_numbers(forward, backward):
    both = BackTranslation(forward, backward)
    keys = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]

    def texts(seed):
        # The same sentence everywhere: only the numbers differ.
        return [
            tuple(
                one.text for one in both.paraphrase([Request(text, key) for key in keys], 0.9, seed)
            )
            for text in TEXTS[:8]
        ]

    found = texts(1)
    for one in range(len(keys)):
        for other in range(one):
            assert sum(row[one] != row[other] for row in found) >= 4
    assert texts(1) == found
    assert sum(a != b for a, b in zip(texts(2), found, strict=True)) >= 6


class Trap:
    """Would make a folder as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_is_not_safe_is_refused_by_name(toy_models, tmp_path):
    folder = shutil.copytree(toy_models / "xx-en", tmp_path / "model")
    state = torch.load(folder / "model.pt", weights_only=True)
    state["extra_state"]["trap"] = Trap(tmp_path / "sprung")
    torch.save(state, folder / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt refers to \w+\.mkdir, .* not loaded"):
        load(folder, **BACKWARD)
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_checkpoint(toy_models, tmp_path):
    folder = shutil.copytree(toy_models / "xx-en", tmp_path / "model")
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(str(folder / "model.pt"))):
        load(folder, **BACKWARD)


@pytest.fixture(scope="module")
def silent(toy_models, tmp_path_factory):
    """The way back, but each word it says is the empty piece."""
    folder = shutil.copytree(toy_models / "xx-en", tmp_path_factory.mktemp("silent") / "model")
    state = torch.load(folder / "model.pt", weights_only=True)
    words = (folder / "dict.en.txt").read_text("utf-8").splitlines()
    piece = 4 + [line.split()[0] for line in words].index("\u2581")
    weights = state["model"]
    norm = "decoder.layers.0.final_layer_norm"
    weights[f"{norm}.weight"].zero_()
    weights[f"{norm}.bias"].fill_(1.0)  # what every step ends in, whatever it reads
    output = weights["decoder.output_projection.weight"]
    output.zero_()
    output[piece] = 1.0
    torch.save(state, folder / "model.pt")
    return TranslationModel(ModelChoice(str(folder), BACKWARD), CPU)


def test_empty_translations_and_long_sentences_have_no_text(forward, backward, silent):
    keys = [Request(text, (at, 0, 0)) for at, text in enumerate(TEXTS[:6])]
    found = BackTranslation(forward, silent).paraphrase(keys, 0.3, 0)
    assert [(one.text, one.note) for one in found] == [(None, EMPTY)] * 6
    long = Request(" ".join(TEXTS[:10]), (9, 0, 0))
    counts = []
    found = BackTranslation(forward, backward).paraphrase(
        [keys[0], long, keys[1]], 0.3, 0, counts.append
    )
    assert (found[1].text, found[1].note) == (None, TOO_LONG)
    assert found[0].text
    assert found[2].text
    assert sum(counts) == 3
    # The others are what they would be without it.
    plain = BackTranslation(forward, backward).paraphrase(keys[:2], 0.3, 0)
    assert [found[0], found[2]] == plain


@pytest.mark.gpu
def test_a_gpu_gives_the_same_texts(toy_models, forward):
    choice = choices(toy_models)[0]
    on_gpu = TranslationModel(choice, torch.device("cuda"))
    expected = forward.sample(TEXTS, draws(40), 0.5)
    same = sum(a == b for a, b in zip(on_gpu.sample(TEXTS, draws(40), 0.5), expected, strict=True))
    assert same >= 38  # rounding may turn a word
    half = TranslationModel(choice, torch.device("cuda"), fp16=True)
    assert all(outcome.text for outcome in half.sample(TEXTS, draws(40), 0.5))
