"""The room ``text`` alone opens dictionaries, label lists, BPE files, and what lies beside them."""

import ast

import pytest

from tests.test_plugin import MODULES, PACKAGE, imports, room_of

FILES = {
    *("dict.txt", "label/dict.txt", "input0/dict.txt", "text.json", "preprocess.json"),
    *("encoder.json", "vocab.bpe", "vocab.txt", "sentencepiece.bpe.model", "bpecodes"),
}
# Who names such a file without opening it, or opens one of another program.
MAY_NAME = {
    "checkpoints/huggingface.py": "lists what a conversion writes",
    "checkpoints/source_tokenizer.py": "reads Hugging Face's own folders",
    "checkpoints/vocabulary.py": "makes the files that a conversion writes",
    "data/preprocess.py": "writes the dictionaries of binarised data",
    "data/translation_loading.py": "names the files of fairseq's translation models",
    "experiments/sweep.py": "an option of fairseq-train names the file",
    "tasks/pairs.py": "asks whether a folder is of unlabelled data",
    "tasks/sentence_embedding.py": "a task of fairseq, whose own reader it uses",
}
# What reads such files; fairseq's own reader is for its tasks.
READERS = {"sentencepiece", "fastBPE", "fairseq.data.Dictionary", "fairseq.data.dictionary"}
MAY_READ = {"tasks/sentence_embedding.py", "data/translation_loading.py"}


def place(path):
    return path.relative_to(PACKAGE).as_posix()


OUTSIDE = [path for path in MODULES if room_of(path) != "text"]


@pytest.mark.parametrize("path", OUTSIDE, ids=place)
def test_no_other_room_names_such_a_file(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    named = FILES & {text for text in texts if isinstance(text, str)}
    assert not named or place(path) in MAY_NAME, f"{path} names {named}"


@pytest.mark.parametrize("path", OUTSIDE, ids=place)
def test_no_other_room_has_a_reader(path):
    found = READERS & set(imports(path))
    assert not found or place(path) in MAY_READ, f"{path} imports {found}"


def test_the_lists_are_no_longer_than_they_need_be():
    for name in [*MAY_NAME, *MAY_READ]:
        text = (PACKAGE / name).read_text(encoding="utf-8")
        assert any(f'"{file}"' in text for file in FILES) or "Dictionary" in text, name
