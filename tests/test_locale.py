"""Every command in locales without the labels' characters: the same bytes as in UTF-8."""

import ast
import contextlib
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import runs

ROOT = Path(__file__).resolve().parent.parent
LOCALES = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
}
GOOD, BAD = "好", "坏"
TEXTS = [
    ("a film is charming é", GOOD),
    ("the story is charming 电影", GOOD),
    ("the film is dull", BAD),
    ("a dull film 😀", BAD),
]
CHECKPOINT = "checkpoint_best.pt"
NAME = "数据 é"
PARAPHRASER = "import sys\nfor line in sys.stdin:\n    print(line.strip(), '好')\n"


def environment(**variables):
    unset = (*LOCALES["C"], *LOCALES["latin-1"], "LANG")
    found = {name: value for name, value in runs.ENVIRONMENT.items() if name not in unset}
    return {**found, "LC_ALL": "C.UTF-8", **variables}


def words(*arguments):
    return [str(argument) for argument in arguments]


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """A folder of no ASCII name, with texts, data, an encoder, a classifier and scored pairs."""
    from scl_fairseq.cli import preprocess

    folder = tmp_path_factory.mktemp("locale") / NAME
    text = folder / "text"
    text.mkdir(parents=True)
    lines = ["sentence\tlabel", *("\t".join(row) for row in TEXTS * 8)]
    for split in ("train", "dev", "test"):
        (text / f"{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    encoder = shutil.copytree(tiny.encoder, folder / "encoder")
    shutil.copytree(tiny.encoder.parent / "huggingface", folder / "huggingface")
    (folder / "lines.txt").write_text("".join(f"{line}\n" for line, _ in TEXTS), "utf-8")
    (folder / "paraphrase.py").write_text(PARAPHRASER, "utf-8")
    scored = folder / "pairs" / "STSBenchmark"
    scored.mkdir(parents=True)
    pairs = "".join(f"g\tf\t0\t{i}\t{i}.0\t{a}\tfilm {b}\n" for i, (a, b) in enumerate(TEXTS))
    for split in ("dev", "test"):
        (scored / f"sts-{split}.csv").write_text(pairs, "utf-8")
    binarized = folder / "bin" / "custom" / "0"
    assert preprocess.main(words(*binarizing(folder), "--destdir", binarized)) == 0
    arguments = runs.command(tiny, folder / "run", "--max-epoch", 1, "--no-epoch-checkpoints")
    arguments[1] = str(binarized)
    runs.train(arguments)
    config = {
        "name": NAME,
        "data": f"{folder}/bin/{{task}}/{{sample}}",
        "grid": {"task": ["custom"], "sample": [0], "scl-lambda": [0.9]},
        "options": {
            "finetune-from-model": str(encoder / "model.pt"),
            "batch-size": 16,
            "lr": 1e-3,
            "max-epoch": 1,
        },
    }
    (folder / "网格.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")
    return folder


def binarizing(folder):
    return [
        "--task", "custom", "--data-dir", folder / "text", "--labels", GOOD, BAD,
        "--bpe", "wordpiece", "--bpe-dir", folder / "encoder", "--workers", 1,
    ]  # fmt: skip


def sampling(folder):
    return [
        "--task", "custom", "--data-dir", folder / "text", "--labels", GOOD, BAD,
        "--num-examples", 8, "--num-samples", 1, "--workers", 1,
    ]  # fmt: skip


# What each command is told, in the folder of ``place``; it writes below ``out``.
COMMANDS = {
    "preprocess": lambda f, out: [*binarizing(f), "--destdir", out / "数"],
    "sample": lambda f, out: [*sampling(f), "--out", out / "样"],
    "augment": lambda f, out: [
        "--sample", f / "sample" / "sample0", "--out", out / "更", "--ratio", 1,
        "--command", f"{sys.executable} {f / 'paraphrase.py'}".replace(" é", "\\ é"),
    ],
    "convert": lambda f, out: [f / "huggingface", out / "模型"],
    "convert --to": lambda f, out: ["--to", "huggingface", f / "run" / CHECKPOINT, out / "模型"],
    "predict": lambda f, out: [f / "run", "--input", f / "lines.txt", "--format", "jsonl"],
    "embed": lambda f, out: [f / "run", "--input", f / "lines.txt", "--output", out / "向.npy"],
    "evaluate": lambda f, out: [
        f / "run" / CHECKPOINT, "--data", f / "bin" / "custom" / "0", "--name", "模型", "--split",
        "valid", "--json", out / "分.json", "--predictions", out / "分.tsv", "--bootstrap", 10,
    ],
    "evaluate --sts": lambda f, out: [
        f / "encoder", "--sts", f / "pairs", "--json", out / "分.json"
    ],
    "plot": lambda f, out: [
        "tsne", f / "run" / CHECKPOINT, "--data", f / "bin" / "custom" / "0",
        "--perplexity", 3, "--out", out / "图.svg", "--embeddings-out", out / "图.npz",
    ],
    "sweep": lambda f, out: [f / "网格.yaml", "--out", out / "扫", "--cpu", "--threads", 1],
    "report": lambda f, out: [f / "swept", "--resamples", 10, "--title", "好 é"],
    "demo": lambda f, out: ["--out", out, "--glue-dir", f / "没有"],
}  # fmt: skip
# Numbers that are of the moment.
TIMES = re.compile(rb"\d+(\.\d+)? (ms|s|min|h)\b|\d{4}-\d\d-\d\d|\d\d:\d\d(:\d\d)?|\d+(\.\d+)? MB")
UNLIKE = ("results.jsonl", "result.json", "train.log", ".lock", "predictions.tsv")


def module(name):
    return importlib.import_module(f"scl_fairseq.cli.{name.split()[0]}")


def contents(out):
    return {
        str(path.relative_to(out)): b"" if path.name in UNLIKE or path.suffix == ".pt"
        else TIMES.sub(b"*", path.read_bytes())
        for path in sorted(out.rglob("*")) if path.is_file()
    }  # fmt: skip


@pytest.fixture(scope="module")
def in_utf8(place):
    """``in_utf8(name)``: what a command prints and writes here, where everything is UTF-8."""
    from scl_fairseq.cli import sample

    assert sample.main(words(*sampling(place), "--out", place / "sample")) == 0
    out, found = place / "out", {}

    def run(name):
        if name not in found:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
            with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
                code = module(name).main(words(*COMMANDS[name](place, out)))
            printed = []
            for stream in streams:
                stream.flush()
                printed.append(TIMES.sub(b"*", stream.buffer.getvalue()))
            found[name] = code, *printed, contents(out)
            if name == "sweep":
                shutil.copytree(out / "扫", place / "swept")
        return found[name]

    return run


# All in the locale that is harder, where the process begins again; those that start fast in both.
CASES = [(name, "C") for name in COMMANDS]
CASES += [(name, "latin-1") for name in ("preprocess", "sample", "augment", "predict", "report")]
LONG = ("sweep", "report", "plot")  # a minute together
CASES = [pytest.param(*case, marks=[pytest.mark.slow] if case[0] in LONG else []) for case in CASES]


@pytest.mark.parametrize(("name", "locale"), CASES)
def test_a_command_says_and_writes_the_same_bytes(name, locale, place, in_utf8):
    if name == "report":
        in_utf8("sweep")
    code, printed, said, files = in_utf8(name)
    assert code == (2 if name == "demo" else 0), said.decode()
    out = place / "out"
    shutil.rmtree(out)
    out.mkdir()
    command = [sys.executable, "-m", module(name).__name__, *words(*COMMANDS[name](place, out))]
    done = subprocess.run(
        command, capture_output=True, env=environment(**LOCALES[locale]), check=False
    )
    assert done.returncode == code, done.stderr.decode()
    assert TIMES.sub(b"*", done.stdout) == printed
    assert TIMES.sub(b"*", done.stderr) == said
    found = contents(out)
    assert found.keys() == files.keys()
    different = [path for path in found if found[path] != files[path]]
    assert not different


def test_names_that_are_no_utf8_are_printed_as_they_are(place):
    name = os.fsencode(place) + b"/caf\xe9"
    for locale in LOCALES.values():
        command = [sys.executable, "-m", "scl_fairseq.cli.report", name]
        done = subprocess.run(command, capture_output=True, env=environment(**locale), check=False)
        assert done.returncode == 2
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_fairseqs_training_with_the_plug_in(tiny, place):
    """Its log names folders; text.json and the dictionaries lie beside the checkpoints."""
    save = place / "trained"
    arguments = runs.command(tiny, save, "--max-epoch", 1, "--no-epoch-checkpoints")
    arguments[1] = str(place / "bin" / "custom" / "0")
    done = subprocess.run(
        arguments,
        capture_output=True,
        env=environment(**LOCALES["C"], **LOCALES["latin-1"]),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"Logging error" not in done.stdout + done.stderr
    assert f"Saved checkpoint {save}".encode() in done.stdout + done.stderr
    runs.assert_same_weights(save / "checkpoint_last.pt", place / "run" / "checkpoint_last.pt")
    for name in ("text.json", "label/dict.txt", "input0/dict.txt"):
        assert (save / name).read_bytes() == (place / "run" / name).read_bytes()
    assert GOOD in (save / "text.json").read_text("utf-8")


SOURCES = [
    path
    for folder in ("scl_fairseq", "scripts", "examples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def opened_as_text(call):
    """Why a call opens text in the locale's encoding, or None."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    told = {keyword.arg for keyword in call.keywords}
    at = {"open": 3, "fdopen": 3, "read_text": 0, "write_text": 1, "TextIOWrapper": 1}
    is_method = isinstance(call.func, ast.Attribute) and name == "open"
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if {"text", "universal_newlines"} & told and "encoding" not in told and name != "command":
        return f"{name}(text=True)"
    if name not in at or owner in ("tarfile", "webbrowser") or "encoding" in told:
        return None
    if owner == "os" and name == "open":
        return None
    if name in ("open", "fdopen"):
        place = 0 if is_method and owner not in ("gzip", "bz2", "lzma", "io") else 1
        mode = [k.value for k in call.keywords if k.arg == "mode"] + call.args[place : place + 1]
        shown = mode[0].value if mode and isinstance(mode[0], ast.Constant) else ""
        return None if "b" in str(shown) else name
    if len(call.args) > at[name] or (name == "write_text" and owner == ""):
        return None
    return name


def calls_in(source):
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def test_no_text_is_opened_in_the_locales_encoding():
    found = [
        f"{path}:{call.lineno}: {why}"
        for path in SOURCES
        for call in calls_in(path.read_text("utf-8"))
        if (why := opened_as_text(call))
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("open(p)", True),
        ("p.open('w')", True),
        ("p.read_text()", True),
        ("p.write_text(t)", True),
        ("os.fdopen(1, 'w')", True),
        ("subprocess.run(w, text=True)", True),
        ("open(p, 'rb')", False),
        ("p.open('w', encoding='utf-8')", False),
        ("p.read_text('utf-8')", False),
        ("p.write_text(t, 'utf-8')", False),
        ("write_text(p, t)", False),
        ("subprocess.run(w, encoding='utf-8')", False),
    ],
)
def test_what_is_taken_for_such_text(source, is_found):
    (call,) = calls_in(source)
    assert (opened_as_text(call) is not None) == is_found


def test_no_json_may_hold_nan():
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        in_messages = {id(node) for text in texts for node in ast.walk(text)}
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or id(call) in in_messages:
                continue
            name = ast.unparse(call.func)
            told = {keyword.arg for keyword in call.keywords}
            # Sorted ones are keys to compare by, not files.
            if name in ("json.dump", "json.dumps") and not told & {"allow_nan", "sort_keys"}:
                found.append(f"{path}:{call.lineno}")
    assert not found
