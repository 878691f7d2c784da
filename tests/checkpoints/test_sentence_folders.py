"""Folders of sentence-transformers, brought in: the pooling, and what fairseq has no part for."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import scl_fairseq
from scl_fairseq.checkpoints.loading import allow_globals
from scl_fairseq.checkpoints.training_state import KEY
from scl_fairseq.cli.convert import main
from tests import runs

transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

from tests.checkpoints.random_models import save_bert  # noqa: E402 (after the checks)

allow_globals()

TEXTS = ["the film is a story", "x", "no story of the film"]
OLDER = {  # as versions 2 to 5 write it
    "word_embedding_dimension": 32,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
    "pooling_mode_weightedmean_tokens": False,
    "pooling_mode_lasttoken": False,
    "include_prompt": True,
}
OF_CLS = {**OLDER, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def modules(*kinds, encoder="") -> list:
    return [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else encoder,
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(("Transformer", *kinds))
    ]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    save_bert(folder, transformers.BertModel, layer_norm_eps=1e-5)
    return folder


@pytest.fixture
def source(encoder, tmp_path) -> Path:
    """The encoder as an older version writes it, with mean pooling."""
    folder = shutil.copytree(encoder, tmp_path / "source")
    write(folder / "modules.json", modules("Pooling"))
    write(folder / "1_Pooling" / "config.json", OLDER)
    return folder


def bring_in(source: Path, capsys) -> tuple[Path, str]:
    out = source.parent / "out"
    capsys.readouterr()
    assert main([str(source), str(out)]) == 0
    return out, capsys.readouterr().out


def noted(out: Path):
    state = torch.load(out / "model.pt", weights_only=True)
    return state["extra_state"].get(KEY, {}).get("pooling")


def assert_vectors_are_the_sources_own(source: Path, out: Path, kind: str) -> None:
    own = sentence_transformers.SentenceTransformer(str(source), device="cpu")
    found, expected = scl_fairseq.load(out).embed(TEXTS, kind), torch.tensor(own.encode(TEXTS))
    assert expected.std(dim=0).min() > 0.01
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("older", "mean"),
        ("older", "cls"),
        ("older, in a folder", "mean"),
        ("oldest", "cls"),
        ("6", "mean"),
        ("6", "cls"),
    ],
)
def test_the_pooling_is_read_kept_and_said(source, encoder, capsys, version, kind):
    config = source / "1_Pooling" / "config.json"
    write(config, OLDER if kind == "mean" else OF_CLS)
    if version == "older, in a folder":
        inner = source / "0_Transformer"
        inner.mkdir()
        for path in [path for path in source.iterdir() if path.is_file()]:
            path.rename(inner / path.name)
        write(source / "modules.json", modules("Pooling", encoder="0_Transformer"))
    elif version == "oldest":
        told = json.loads(config.read_text())
        keys = [key for key in told if not key.endswith(("weightedmean_tokens", "lasttoken"))]
        write(config, {key: told[key] for key in keys if key != "include_prompt"})
    elif version == "6":
        shutil.rmtree(source)
        parts = sentence_transformers.sentence_transformer.modules
        transformer = parts.Transformer(str(encoder))
        pooling = parts.Pooling(32, pooling_mode=kind)
        made = sentence_transformers.SentenceTransformer(modules=[transformer, pooling])
        made.save_pretrained(str(source))
        assert json.loads(config.read_text())["pooling_mode"] == kind
    out, output = bring_in(source, capsys)
    assert f"pooling: {kind} (1_Pooling/config.json)" in output
    assert ("--head-pooling mean" in output) == (kind == "mean")
    assert "--head-pooling cls" not in output
    assert noted(out) == kind
    assert json.loads((out / "pooling.json").read_text())["pooling"] == kind
    assert_vectors_are_the_sources_own(source, out, kind)


def test_a_folder_without_modules_is_brought_in_as_ever(encoder, tmp_path, capsys):
    out, output = bring_in(shutil.copytree(encoder, tmp_path / "bare"), capsys)
    assert "pooling" not in output
    assert noted(out) is None
    assert not (out / "pooling.json").exists()


def test_goes_out_again_with_the_pooling_that_it_came_with(source, tmp_path, capsys):
    out, _ = bring_in(source, capsys)
    assert main(["--to", "sentence-transformers", str(out), str(tmp_path / "again")]) == 0
    assert_vectors_are_the_sources_own(tmp_path / "again", out, "mean")


def test_the_embedded_encoder_is_pooled_by_its_mean(tmp_path):
    from scl_fairseq.checkpoints import embedded

    try:
        embedded.find_encoder()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    done = embedded.convert_encoder(tmp_path / "out")
    assert (done.pooling, done.pooling_file) == ("mean", "1_Pooling/config.json")
    assert noted(tmp_path / "out") == "mean"
    assert any("Normalize" in note for note in done.notes)
    assert "--head-pooling" not in done.flags  # which stock criterions take too


def setting(name, **told):
    return lambda folder: write(folder / name, told)


def layout(*kinds):
    return lambda folder: write(folder / "modules.json", modules(*kinds))


NOTES = {
    "Normalize": (layout("Pooling", "Normalize"), r"length 1 \(Normalize\)"),
    "lower case": (setting("sentence_bert_config.json", do_lower_case=True), "do_lower_case"),
    "lower case of old": (
        setting("sentence_roberta_config.json", do_lower_case=True),
        "lower_case",
    ),
    "a prompt": (
        setting(
            "config_sentence_transformers.json",
            prompts={"query": "query: "},
            default_prompt_name="query",
        ),
        "puts 'query: ' before",
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_is_not_done_here_is_said(source, capsys, case):
    change, message = NOTES[case]
    change(source)
    out, output = bring_in(source, capsys)
    notes = [line for line in output.splitlines() if line.startswith("note: ")]
    assert sum(bool(re.search(message, note)) for note in notes) == 1
    assert noted(out) == "mean"


def test_what_only_training_does_changes_nothing(source, capsys):
    layout("Pooling", "Dropout")(source)
    assert noted(bring_in(source, capsys)[0]) == "mean"


def pooled(**told):
    return lambda folder: write(folder / "1_Pooling" / "config.json", told)


def of_code(folder):
    write(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": "own.Transformer"}])


def leading_out(folder):
    listed = modules("Pooling")
    write(folder / "modules.json", [listed[0], {**listed[1], "path": "../1_Pooling"}])


def all_tokens(folder):
    layout("Pooling", "Normalize")(folder)
    write(folder / "2_Normalize" / "config.json", {"module_input_name": "token_embeddings"})


def without(name):
    return lambda folder: (folder / name).unlink()


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


MODES = ("max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")
OLDER_KEYS = {
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}
OTHER_KINDS = ("Dense", "CNN", "LSTM", "LayerNorm", "WordWeights", "WeightedLayerPooling")
REFUSALS = {
    **{
        mode: (pooled(pooling_mode=mode), f"the pooling is {mode}; .* cls or mean")
        for mode in MODES
    },
    **{
        f"{mode}, older": (
            pooled(**{**OLDER, "pooling_mode_mean_tokens": False, key: True}),
            f"1_Pooling/config.json: the pooling is {mode};",
        )
        for mode, key in OLDER_KEYS.items()
    },
    "two": (pooled(pooling_mode=["cls", "mean"]), "cls and mean together"),
    "two, older": (pooled(**{**OLDER, "pooling_mode_max_tokens": True}), "mean and max together"),
    "no prompt": (pooled(pooling_mode="mean", include_prompt=False), "include_prompt is false"),
    "a number": (pooled(pooling_mode=3), "pooling_mode is 3"),
    **{
        kind: (layout("Pooling", kind), rf"modules.json: module {kind} \(2_{kind}\)")
        for kind in OTHER_KINDS
    },
    "Dense before": (layout("Dense", "Pooling"), "module Dense"),
    "two Dense of no classifier": (
        layout("Pooling", "Dense", "Dense"),
        "module Dense .* more than",
    ),
    "two poolings": (layout("Pooling", "Pooling"), "Pooling .* more than once"),
    "normalised first": (layout("Normalize", "Pooling"), "after Transformer is Normalize"),
    "normalised tokens": (all_tokens, "Normalize scales token_embeddings"),
    "no Transformer": (
        lambda folder: write(folder / "modules.json", modules("Pooling")[1:]),
        "first module is Pooling",
    ),
    "nothing": (text("modules.json", "[]"), "first module is missing"),
    "code": (of_code, "module own.Transformer has code of its own"),
    "outside": (leading_out, "'../1_Pooling' leads out"),
    "no list": (text("modules.json", "{}"), "holds no list of modules"),
    "no JSON": (text("modules.json", "["), "modules.json is not valid JSON"),
    "no type": (text("modules.json", '[{"path": ""}]'), "names no type or no path"),
    "no modules": (without("modules.json"), "1_Pooling is there, and modules.json"),
    "no configuration": (without("1_Pooling/config.json"), "1_Pooling/config.json is missing"),
    "other states": (
        setting(
            "sentence_bert_config.json",
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
        ),
        "modality_config.text is .*pooler_output",
    ),
    "another task": (
        setting("sentence_bert_config.json", transformer_task="fill-mask"),
        "transformer_task is 'fill-mask'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_fairseq_has_no_part_for_is_refused_by_name(source, capsys, case):
    change, message = REFUSALS[case]
    change(source)
    capsys.readouterr()
    assert main([str(source), str(source.parent / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scl-convert: error: ")
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err), captured.err
    assert captured.out == ""
    assert not (source.parent / "out").exists()


def test_a_classifier_of_hugging_face_reads_cls_whatever_is_pooled(source, capsys):
    """Transformers' head is in the weights; sentence-transformers leaves it out and pools."""
    for name in ("config.json", "model.safetensors"):
        (source / name).unlink()
    save_bert(source, transformers.BertForSequenceClassification, num_labels=3)
    model = transformers.BertForSequenceClassification.from_pretrained(source).eval()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(source)
    out, output = bring_in(source, capsys)
    assert "--head-pooling" not in output
    assert "1_Pooling/config.json says mean" in output
    assert noted(out) == "cls"
    with torch.no_grad():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]
    found = scl_fairseq.load(out).predict(TEXTS).probabilities
    assert (found - torch.cat(rows).softmax(dim=1)).abs().max() < 1e-5


def pipeline(folder: Path, **changes) -> Path:
    """Two Dense modules, of sentence-transformers' own making, behind a pooling."""
    parts = sentence_transformers.sentence_transformer.modules
    dense = sentence_transformers.base.modules.dense.Dense
    sizes = {"inner": 32, "bias": True, "last": torch.nn.Identity(), **changes}
    layers = [
        parts.Transformer(str(folder)),
        parts.Pooling(32, pooling_mode="mean"),
        dense(32, sizes["inner"], bias=sizes["bias"]),
        dense(sizes["inner"], 2, activation_function=sizes["last"]),
    ]
    for layer in layers[2:]:
        torch.nn.init.normal_(layer.linear.weight, std=0.3)
    layers[0].auto_model.config.problem_type = "single_label_classification"
    layers[0].auto_model.config.id2label = {0: "bad", 1: "good"}
    layers[0].auto_model.config.label2id = {"bad": 0, "good": 1}
    made = sentence_transformers.SentenceTransformer(modules=layers, device="cpu")
    made.save_pretrained(str(folder.parent / "pipeline"))
    return folder.parent / "pipeline"


def test_layers_without_biases_come_in_too(source, capsys):
    folder = pipeline(source, bias=False)
    own = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    out, output = bring_in(folder, capsys)
    assert "labels: bad, good" in output
    expected = torch.tensor(own.encode(TEXTS)).softmax(dim=1)
    assert (scl_fairseq.load(out).predict(TEXTS).probabilities - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"inner": 16}, "2_Dense is 16 wide"), ({"last": torch.nn.Tanh()}, "3_Dense is the last")],
)
def test_layers_that_are_no_head_of_fairseqs_are_refused(source, capsys, changes, message):
    folder = pipeline(source, **changes)
    capsys.readouterr()
    assert main([str(folder), str(source.parent / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (source.parent / "out").exists()


def test_training_takes_the_printed_options(tiny, tmp_path, capsys):
    words = (tiny.encoder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    source = tmp_path / "source"
    save_bert(source, transformers.BertModel, tokens=words, max_position_embeddings=64, **sizes)
    write(source / "modules.json", modules("Pooling"))
    write(source / "1_Pooling" / "config.json", OLDER)
    _, output = bring_in(source, capsys)
    lines = output[output.index("fairseq-train needs:") :].splitlines()[1:]
    printed = [line for line in lines if line.startswith("  --")]
    options = shlex.split(" ".join(line.rstrip("\\") for line in printed))
    assert options[options.index("--head-pooling") :][:2] == ["--head-pooling", "mean"]
    runs.train(runs.command(tiny, tmp_path / "run", *options, "--max-update", 1))
    saved = runs.weights(tmp_path / "run" / "checkpoint_last.pt")
    assert "classification_heads.sentence_classification_head.reads_mean" in saved
