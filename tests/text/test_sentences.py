"""Sentences get the token ids that fairseq reads from binarised data."""

import pytest
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from omegaconf import OmegaConf

import scl_fairseq  # noqa: F401
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.tasks import custom_task
from scl_fairseq.text.encodings import load_encoder
from scl_fairseq.text.sentences import SentenceEncoder

LONG = "a long , long film " * 12
PAIRS = [
    ("a fine film", "a film"),
    (" spaces around\u3000", "none"),
    (LONG, "short"),
    ("short", LONG),
    (LONG, LONG + "and more"),
    ("emoji 😀 and Ünïcode", "x"),
]
POSITIONS = 40


def stored(data, **settings):
    """Token ids by fairseq's task."""
    values = {"data": str(data), "num_classes": 2, "no_shuffle": True, "seed": 1, **settings}
    values |= {"regression_target": False, "classification_head_name": "head"}
    cfg = OmegaConf.merge(OmegaConf.structured(SentencePredictionConfig), values)
    task = SentencePredictionTask.setup_task(cfg)
    dataset = task.load_dataset("train")
    return [dataset[i]["net_input.src_tokens"].tolist() for i in range(len(dataset))]


@pytest.mark.parametrize("num_inputs", [1, 2])
@pytest.mark.parametrize("bpe", ["gpt2", "wordpiece"])
def test_ids_are_those_of_binarised_data(bpe, num_inputs, gpt2_files, tiny, tmp_path):
    folder, separator = (gpt2_files, 2) if bpe == "gpt2" else (tiny.encoder, None)
    columns = ("a", "b")[:num_inputs]
    examples = [pair[:num_inputs] for pair in PAIRS]
    lines = ["\t".join(["label", *columns])]
    lines += ["\t".join(["no" if i else "yes", *example]) for i, example in enumerate(examples)]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = custom_task(["no", "yes"], sentence_columns=columns)
    expected = {}
    for limit in (POSITIONS, 512):
        settings = Settings(bpe, folder, max_positions=limit)
        preprocess(task, tmp_path, tmp_path / str(limit), settings, workers=1)
        expected[limit] = stored(tmp_path / str(limit), init_token=0, separator_token=separator)
    encoder = SentenceEncoder(load_encoder(bpe, folder), 0, separator, POSITIONS)
    rows, cut = encoder.encode(examples)
    assert [row.tolist() for row in rows] == expected[POSITIONS]
    assert cut == sum(len(row) > POSITIONS for row in expected[512]) > 0


def test_without_a_first_token(gpt2_files):
    encoder = load_encoder("gpt2", gpt2_files)
    ((plain,), _), ((first,), _) = (
        SentenceEncoder(encoder, init, None, 99).encode(["a film"]) for init in (None, 0)
    )
    assert first.tolist() == [0, *plain.tolist()]


@pytest.mark.parametrize("wrong", [(), ("a", "b", "c"), ("a", None), 5, ["a", 5]])
def test_what_is_no_sentence(gpt2_files, wrong):
    encoder = SentenceEncoder(load_encoder("gpt2", gpt2_files), 0, None, 99)
    with pytest.raises((ValueError, TypeError), match=r"expected a sentence|not iterable"):
        encoder.encode(["a film", wrong])
