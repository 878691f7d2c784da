"""The package installed from a wheel, used inside a clone, beside one, and in odd folders."""

import json
import shutil
import subprocess
import sys
import venv
from types import SimpleNamespace

import pytest
import yaml

from scl_fairseq.cli import preprocess, sweep
from tests import runs

OF_A_CLONE = ("scl_fairseq", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """``bin`` of an environment with a wheel of this clone, and ``clone``: a broken copy of it.

    What else the package needs is found where the tests find it.
    """
    folder = tmp_path_factory.mktemp("installed")
    clone = folder / "clone"
    clone.mkdir()
    for name in OF_A_CLONE:
        source, skipped = runs.ROOT / name, shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, clone / name, ignore=skipped)
        else:
            shutil.copy(source, clone / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", folder, clone]
    subprocess.run([*pip, *map(str, build)], check=True)
    (wheel,) = folder.glob("*.whl")
    own = folder / "environment"
    venv.create(own, symlinks=True)
    python = ["--python", own / "bin" / "python"]  # before it sees what is installed elsewhere
    install = [*python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *map(str, install)], check=True)
    (packages,) = own.glob("lib/*/site-packages")
    elsewhere = [path for path in sys.path if path.endswith("-packages")]
    (packages / "elsewhere.pth").write_text("\n".join(elsewhere) + "\n")
    # Whoever imports the clone's copy fails, and it is the first that is found there.
    for name in ("build", "scl_fairseq.egg-info"):
        shutil.rmtree(clone / name, ignore_errors=True)
    (clone / "scl_fairseq" / "__init__.py").write_text("raise ImportError('of the clone')\n")
    return SimpleNamespace(bin=own / "bin", clone=clone, packages=packages)


def write(folder, tiny, data=None, **options):
    values = {
        "data": str(data or tiny.data),
        "grid": {"scl-lambda": [0.9]},
        "options": {
            "finetune-from-model": str(tiny.encoder / "model.pt"),
            **{"batch-size": 16, "lr": 1e-3, "seed": 3, "max-epoch": 1, "lr-scheduler": "fixed"},
            **options,
        },
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


def run(installed, folder, *arguments):
    environment = {k: v for k, v in runs.ENVIRONMENT.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [installed.bin / "scl-sweep", *map(str, arguments), "--cpu", "--threads", "1"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def result(done, out):
    failures = out / "failures.jsonl"
    assert done.returncode == 0, done.stderr + (failures.read_text() if failures.exists() else "")
    (line,) = (out / "results.jsonl").read_text("utf-8").splitlines()
    return json.loads(line)


@pytest.mark.parametrize("how", [[], ["--cluster", "local"]], ids=["workers", "jobs"])
def test_inside_a_clone_trials_run_what_is_installed(installed, tiny, tmp_path, how):
    if how:
        pytest.importorskip("submitit")
    path = write(tmp_path, tiny)
    out = installed.clone / f"out-{len(how)}"
    record = result(run(installed, installed.clone, path, "--out", out.name, *how), out)
    assert f"--user-dir {installed.packages}/scl_fairseq" in record["command"]


def test_in_a_folder_with_spaces_and_a_colon(installed, tiny, tmp_path):
    odd = tmp_path / "two words: 1"
    odd.mkdir()
    path = write(odd, tiny)
    result(run(installed, odd, path.name, "--out", "out here"), odd / "out here")


def test_data_in_a_folder_that_fairseq_would_split_is_refused(tiny, tmp_path, capsys):
    data = tmp_path / "a b:c"
    shutil.copytree(tiny.data, data)
    out = tmp_path / "out"
    message = f"{data}: fairseq splits paths of data at ':'"
    assert sweep.main([str(write(tmp_path, tiny, data)), "--out", str(out), "--cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not out.exists()

    made = ["--task", "SST-2", "--data-dir", str(tiny.sample), "--bpe", "wordpiece"]
    made += ["--bpe-dir", str(tiny.encoder), "--destdir", str(data)]
    before = sorted(path.stat().st_mtime_ns for path in data.rglob("*"))
    assert preprocess.main(made) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(path.stat().st_mtime_ns for path in data.rglob("*")) == before

    arguments = runs.command(tiny, out)
    arguments[1] = str(data)
    done = runs.train(arguments, check=False)
    assert done.returncode == 2
    assert f"error: {message}" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list(tmp_path.glob("out/*.pt"))


def test_a_folder_with_spaces_is_trained_from(tiny, tmp_path):
    data = tmp_path / "two words"
    shutil.copytree(tiny.data, data)
    arguments = runs.command(tiny, tmp_path / "saved here", "--max-update", 1)
    arguments[1] = str(data)
    runs.train([*arguments, "--no-epoch-checkpoints"])
    assert (tmp_path / "saved here" / "checkpoint_last.pt").exists()


def test_inference_reads_any_path(classifier, tmp_path):
    """Nothing of fairseq splits paths there."""
    import scl_fairseq

    odd = tmp_path / "a b:c"
    shutil.copytree(classifier, odd)
    expected = scl_fairseq.load(classifier).predict(["a fine film"]).probabilities
    found = scl_fairseq.load(odd, odd).predict(["a fine film"]).probabilities
    assert found.tolist() == expected.tolist()
