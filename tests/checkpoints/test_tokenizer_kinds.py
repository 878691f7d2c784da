"""Token ids of converted folders against the folders' own tokenizers."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scl_fairseq.checkpoints.loading import allow_globals
from scl_fairseq.cli.convert import main
from scl_fairseq.text.bpe_files import guess_bpe
from scl_fairseq.text.encodings import load_encoder

transformers = pytest.importorskip("transformers")

from tests.checkpoints import tokenizer_folders as folders  # noqa: E402 (after the check above)
from tests.checkpoints.tokenizer_folders import edit, odd_texts  # noqa: E402

allow_globals()  # these tests read what the command writes

SPECIALS = ("<s>", "</s>", "<mask>", "<pad>", "<unk>")
LOWER = {"type": "Lowercase"}
SEQUENCE = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, LOWER]}
REPLACE = {"type": "Replace", "pattern": {"String": "film"}, "content": "movie"}
KINDS = {
    "gpt2": lambda f, bpe, _: folders.byte_level(f, bpe),
    "gpt2, tokenizer.json": lambda f, bpe, _: (folders.byte_level(f, bpe), folders.saved(f)),
    "gpt2, prefix space told": lambda f, bpe, _: (
        folders.byte_level(f, bpe),
        edit(f, "tokenizer_config.json", lambda told: told.update(add_prefix_space=True)),
    ),
    "gpt2, prefix space": lambda f, bpe, _: (
        folders.byte_level(f, bpe),
        folders.saved(f, add_prefix_space=True),
    ),
    "gpt2, lower-cased": lambda f, bpe, _: folders.generic_with(f, bpe, LOWER),
    "gpt2, sequence": lambda f, bpe, _: folders.generic_with(f, bpe, SEQUENCE),
    "gpt2, NFKC": lambda f, bpe, _: folders.generic_with(f, bpe, {"type": "NFKC"}),
    "gpt2, replaced": lambda f, bpe, _: folders.generic_with(f, bpe, REPLACE),
    "gpt2, added": lambda f, bpe, _: folders.add_tokens(f, bpe, ["@USER", "<url>", "covid"]),
    "wordpiece, uncased": lambda f, *_: folders.word_piece(f),
    "wordpiece, cased": lambda f, *_: folders.word_piece(f, do_lower_case=False),
    "wordpiece, accents kept": lambda f, *_: folders.word_piece(f, strip_accents=False),
    "wordpiece, cased without accents": lambda f, *_: folders.word_piece(
        f, do_lower_case=False, strip_accents=True
    ),
    "wordpiece, tokenizer.json": lambda f, *_: (
        folders.word_piece(f, do_lower_case=False),
        folders.saved(f),
    ),
    "wordpiece, NFKC": lambda f, *_: folders.generic_with(f, None, {"type": "NFKC"}),
    "wordpiece, added": lambda f, *_: folders.add_tokens(f, None, ["@USER", "<url>", "covid"]),
    "sentencepiece": lambda f, _, lines: folders.sentence_piece(f, lines),
    "sentencepiece, tokenizer.json": lambda f, _, lines: (
        folders.sentence_piece(f, lines),
        folders.saved(f),
    ),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory, gpt2_files, sentences):
    """``converted(kind)``: the folder, and what ``scl-convert`` made of it; each once."""
    made = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            folder = tmp_path_factory.mktemp("kind")
            KINDS[kind](folder / "source", gpt2_files, sentences[:1000])
            assert main([str(folder / "source"), str(folder / "out")]) == 0
            made[kind] = folder / "source", folder / "out"
        return made[kind]

    return make


def source_ids(source: Path, out: Path) -> np.ndarray:
    """For each of fairseq's ids the source's, found by the token's embedding."""
    tensors = load_file(source / "model.safetensors")
    words = next(t for name, t in tensors.items() if name.endswith("word_embeddings.weight"))
    state = torch.load(out / "model.pt", weights_only=True)["model"]
    ours = state["encoder.sentence_encoder.embed_tokens.weight"]
    place = {row.numpy().tobytes(): number for number, row in enumerate(words)}
    return np.array([place[row.numpy().tobytes()] for row in ours])


def ids_of(out: Path, texts: list[str], to_source: np.ndarray) -> list[list[int]]:
    encoder = load_encoder(guess_bpe(out), out)
    rows = [np.frombuffer(row, encoder.dictionary.dtype)[:-1] for row in encoder.encode(texts)]
    return [to_source[row].tolist() for row in rows]


def own_ids(source: Path, texts: list[str]) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_real_lines_are_the_tokenizers_own(converted, sentences, kind):
    assert len(sentences) == 10_000
    source, out = converted(kind)
    lines = [f"@USER {line} <url>" if n % 10 == 0 else line for n, line in enumerate(sentences)]
    lines = [line.title() if n % 10 == 1 else line for n, line in enumerate(lines)]
    found = ids_of(out, lines, source_ids(source, out))
    expected = own_ids(source, lines)
    assert [n for n, ids in enumerate(found) if ids != expected[n]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_odd_texts_are_the_tokenizers_own(converted, kind):
    source, out = converted(kind)
    texts = odd_texts()
    assert len(texts) == 500
    if kind.startswith("sentencepiece"):  # its library in Rust reads these in its own way
        texts = [t for t in texts if not any(part in t for part in (*SPECIALS, "\x85"))]
    found, expected = ids_of(out, texts, source_ids(source, out)), own_ids(source, texts)
    wrong = [(t, f, e) for t, f, e in zip(texts, found, expected, strict=True) if f != e]
    assert wrong == []


def test_ids_of_odd_texts_are_those_of_sentence_piece_itself(converted):
    import sentencepiece

    source, out = converted("sentencepiece")
    slow = sentencepiece.SentencePieceProcessor(str(source / "sentencepiece.bpe.model"))
    # fairseq splits the line of pieces at this sign, which is none of SentencePiece's spaces.
    texts = [text for text in odd_texts() if "\x85" not in text]
    expected = [[n + 1 if n else 3 for n in slow.encode(text)] for text in texts]
    assert ids_of(out, texts, source_ids(source, out)) == expected


def change_json(**changes):
    return lambda folder: edit(folder, "tokenizer.json", lambda told: told.update(changes))


def change_model(**changes):
    return lambda folder: edit(folder, "tokenizer.json", lambda told: told["model"].update(changes))


def change_config(**changes):
    return lambda folder: edit(folder, "tokenizer_config.json", lambda told: told.update(changes))


def change_hugging_config(**changes):
    return lambda folder: edit(folder, "config.json", lambda told: told.update(changes))


def add(token: dict):
    def change(told):
        told["added_tokens"].append({"id": len(told["model"]["vocab"]), **token})

    return lambda folder: edit(folder, "tokenizer.json", change)


def rename_piece(folder: Path) -> None:
    edit(folder, "tokenizer.json", lambda told: told["model"]["vocab"][9].__setitem__(0, "other"))


PREFIXED = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
CASED = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
         "strip_accents": None, "lowercase": False}  # fmt: skip
OTHER_ENDS = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
GPT2, WORDS, PIECES = (f"{name}, tokenizer.json" for name in ("gpt2", "wordpiece", "sentencepiece"))
REFUSALS = {
    "prefix in one file alone": (GPT2, change_json(pre_tokenizer=PREFIXED), "add_prefix_space is"),
    "prefix in the other": (GPT2, change_config(add_prefix_space=True), "add_prefix_space is"),
    "a normalizer the class drops": (GPT2, change_json(normalizer=LOWER), "normalizer .*Lowercase"),
    "dropout": (GPT2, change_model(dropout=0.1), "model.dropout is 0.1"),
    "ignored merges": (GPT2, change_model(ignore_merges=True), "model.ignore_merges is true"),
    "bytes": (GPT2, change_model(byte_fallback=True), "model.byte_fallback is true"),
    "suffix": (GPT2, change_model(end_of_word_suffix="</w>"), "model.end_of_word_suffix"),
    "splitter": (GPT2, change_json(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
    "no regex": (
        GPT2,
        change_json(pre_tokenizer={**PREFIXED, "add_prefix_space": False, "use_regex": False}),
        "pre_tokenizer is .*use_regex",
    ),
    "special added token": (
        GPT2,
        add({"content": "<url>", "special": True}),
        "added token '<url>' is special",
    ),
    "a space in one": (GPT2, add({"content": "a b", "special": False}), "'a b'.* no spaces"),
    "other special tokens": (GPT2, change_json(post_processor=OTHER_ENDS), "post_processor makes"),
    "lower-casing that is not done": (GPT2, change_config(do_lower_case=True), "do_lower_case"),
    "a class of its own": (
        GPT2,
        change_config(tokenizer_class="BertweetTokenizer"),
        "tokenizer_class is 'BertweetTokenizer'",
    ),
    "code of its own": (
        GPT2,
        change_config(auto_map={"AutoTokenizer": ["tok.Mine", None]}),
        "auto_map",
    ),
    "class in config.json": (
        "wordpiece, uncased",
        change_hugging_config(tokenizer_class="BertJapaneseTokenizer"),
        "config.json: tokenizer_class is 'BertJapaneseTokenizer'",
    ),
    "case in two files": (WORDS, change_config(do_lower_case=True), "do_lower_case is false, and"),
    "case in one file": (
        "wordpiece, tokenizer.json",
        change_config(do_lower_case=None),
        "do_lower_case is false, and tokenizer_config.json does not say so",
    ),
    "accents in two files": (WORDS, change_config(strip_accents=True), "strip_accents is false"),
    "Chinese": (WORDS, change_config(tokenize_chinese_chars=False), "tokenize_chinese_chars is"),
    "basic": ("wordpiece, uncased", change_config(do_basic_tokenize=False), "do_basic_tokenize"),
    "never": ("wordpiece, uncased", change_config(never_split=["film"]), "never_split"),
    "prefix of pieces": (WORDS, change_model(continuing_subword_prefix="@@"), "subword_prefix"),
    "long words": (WORDS, change_model(max_input_chars_per_word=50), "max_input_chars_per_word"),
    "unknown": (WORDS, change_model(unk_token="[PAD]"), "model.unk_token is '\\[PAD\\]'"),
    "text not cleaned": (
        WORDS,
        change_json(normalizer={**CASED, "clean_text": False}),
        "normalizer is .*clean_text",
    ),
    "another vocabulary": (
        WORDS,
        lambda f: (f / "vocab.txt").write_text("\n".join(reversed(folders.WORDPIECES)) + "\n"),
        "vocab.txt: the id of",
    ),
    "sampling": (PIECES, change_config(sp_model_kwargs={"enable_sampling": True}), "sp_model_kw"),
    "no space in front": (PIECES, change_config(add_prefix_space=False), "add_prefix_space is fal"),
    "another piece": (PIECES, rename_piece, "the piece .* is not as"),
    "lower-cased pieces": (PIECES, change_json(normalizer=LOWER), "normalizer Lowercase"),
    "bytes of pieces": (PIECES, change_model(byte_fallback=True), "model.byte_fallback"),
    "word level": (GPT2, change_model(type="WordLevel"), "model.type is 'WordLevel'"),
    "tokens of old": (
        "gpt2",
        lambda f: (f / "added_tokens.json").write_text('{"@USER": 404}'),
        "added_tokens.json: '@USER'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_reproduced_is_refused_by_name(converted, tmp_path, capsys, case):
    kind, spoil, message = REFUSALS[case]
    source = shutil.copytree(converted(kind)[0], tmp_path / "source")
    spoil(source)
    capsys.readouterr()
    assert main([str(source), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("scl-convert: error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_no_list_names_is_found_by_its_ids(converted, tmp_path, capsys, monkeypatch):
    from scl_fairseq.checkpoints import source_tokenizer

    source = shutil.copytree(converted(GPT2)[0], tmp_path / "source")
    change_model(dropout=1.0)(source)  # no merge is made
    monkeypatch.setattr(source_tokenizer, "check_model", lambda *_: None)
    assert main([str(source), str(tmp_path / "out")]) == 2
    assert "has other ids there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


ADJUSTED = ("gpt2, prefix space", "gpt2, sequence", "gpt2, added")


@pytest.mark.parametrize("kind", ADJUSTED)
def test_fairseq_itself_encodes_so_and_its_own_bpe_refuses(converted, kind):
    from fairseq.models.roberta import RobertaModel

    import scl_fairseq

    source, out = converted(kind)
    to_source = source_ids(source, out)
    hub = scl_fairseq.load(out)
    files = {
        "gpt2_encoder_json": str(out / "encoder.json"),
        "gpt2_vocab_bpe": str(out / "vocab.bpe"),
    }
    stock = RobertaModel.from_pretrained(str(out), "model.pt", bpe="gpt2_adjusted", **files)
    texts = ["the film", "A Film of @USER <url> covid", "naïve 人"]
    for text, ids in zip(texts, own_ids(source, texts), strict=True):
        for one in (hub, stock):
            assert to_source[one.encode(text)[1:-1]].tolist() == ids
    decoded = hub.decode(hub.encode(texts[1]))
    assert decoded == ("a film of @user <url> covid" if kind == "gpt2, sequence" else texts[1])
    with pytest.raises(ValueError, match="--bpe gpt2_adjusted follows it"):
        RobertaModel.from_pretrained(str(out), "model.pt", bpe="gpt2", **files)


@pytest.mark.parametrize("kind", ADJUSTED)
def test_data_holds_these_ids(converted, tmp_path, kind):
    from fairseq.data.data_utils import load_indexed_dataset

    from scl_fairseq.cli import preprocess

    source, out = converted(kind)
    text, lines = tmp_path / "text", ["the film", "A Film of @USER <url> covid", "naïve 人"]
    text.mkdir()
    for name in ("train", "valid"):
        (text / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["--task", "lines", "--data-dir", text, "--destdir", tmp_path / "data"]
    arguments += ["--bpe", "gpt2", "--bpe-dir", out, "--workers", 1]
    assert preprocess.main(list(map(str, arguments))) == 0
    rows = load_indexed_dataset(str(tmp_path / "data" / "train"), None)
    to_source = source_ids(source, out)
    found = [to_source[row[:-1].numpy()].tolist() for row in rows]
    assert found == own_ids(source, lines)
    assert (tmp_path / "data" / "bpe" / "tokenizer_config.json").is_file()


@pytest.mark.parametrize("kind", [*ADJUSTED, "gpt2", "wordpiece, NFKC", "wordpiece, added"])
def test_what_goes_out_again_has_the_same_ids(converted, tmp_path, kind, sentences):
    source, out = converted(kind)
    back = tmp_path / "back"
    assert main(["--to", "huggingface", str(out / "model.pt"), str(back)]) == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(back)
    texts = [*odd_texts(), *sentences[:200]]
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    to_source = source_ids(source, out)
    assert [to_source[ids].tolist() for ids in found] == own_ids(source, texts)


def test_a_training_keeps_what_is_done_to_text(converted, tmp_path, capsys):
    """The printed options, real training, and text in its folder when all else is gone."""
    import shlex

    import scl_fairseq
    from scl_fairseq.cli import preprocess
    from tests import runs

    source, _ = converted("gpt2, prefix space")
    out, text, run = (tmp_path / name for name in ("out", "text", "run"))
    capsys.readouterr()
    assert main([str(source), str(out)]) == 0
    needs = capsys.readouterr().out.split("fairseq-train needs:\n")[1].splitlines()
    lines = [line.rstrip("\\") for line in needs if line.startswith("  ")]
    words = shlex.split(" ".join(lines))
    assert words[words.index("--bpe") + 1] == "gpt2_adjusted"
    text.mkdir()
    for name in ("train", "dev"):
        (text / f"{name}.tsv").write_text("sentence\tlabel\nthe film\t1\na film\t0\n")
    arguments = ["--task", "SST-2", "--data-dir", text, "--destdir", tmp_path / "data"]
    arguments += ["--bpe", "gpt2", "--bpe-dir", out, "--workers", 1]
    assert preprocess.main(list(map(str, arguments))) == 0
    options = ["--task", "sentence_prediction", "--num-classes", 2, "--init-token", 0, "--cpu"]
    options += ["--criterion", "sentence_prediction_scl", "--distributed-world-size", 1]
    options += ["--batch-size", 2, "--optimizer", "adam", "--max-update", 1, "--save-dir", run]
    options += ["--user-dir", runs.ROOT / "scl_fairseq", "--required-batch-size-multiple", 1]
    runs.train([runs.FAIRSEQ_TRAIN, tmp_path / "data", *words, *options])
    to_source = source_ids(source, out)
    for folder in (out, tmp_path / "data"):
        shutil.rmtree(folder)
    hub = scl_fairseq.load(run)
    texts = ["the film", "A film of note"]
    found = [to_source[hub.encode(one)[1:-1]].tolist() for one in texts]
    assert found == own_ids(source, texts)
    settings = run / "tokenizer_config.json"
    settings.write_text('{"add_prefix_space": false}')
    with pytest.raises(ValueError, match=r"tokenizer_config\.json is not the .* trained with"):
        scl_fairseq.load(run)
