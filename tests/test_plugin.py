"""How the plug-in gets into fairseq, and who imports whom."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "scl_fairseq"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Which rooms a room may import, besides itself. Whatever is not named here may not be imported.
BASE = {"batching", "files", "refusals", "versions", "configuration", "embeddings"}
ARROWS = {
    "losses": {"products", "kernels"},
    "kernels": set(),
    "products": set(),
    "batching": set(),
    "files": set(),
    "refusals": set(),
    "versions": set(),
    "configuration": set(),
    "embeddings": set(),
    "metrics": {"refusals"},
    "distributed": set(),
    "models": {"products", "embeddings"},
    "optim": {"losses", "distributed"},
    "criterions": {"losses", "distributed", "metrics", "models", "text", *BASE},
    "tasks": {"text", *BASE},
    "text": BASE,
    "data": {"text", *BASE},
    "checkpoints": {"text", "models", *BASE},
    "inference": {"text", "data", "checkpoints", "metrics", "models", *BASE},
    "experiments": {"inference", "text", "data", "checkpoints", *BASE},
    "training": {"experiments", "inference", "text", "data", "checkpoints", *BASE},
    "demo": {"training", "experiments", "inference", "text", "data", "checkpoints", *BASE},
    "cli": {
        "demo",
        "training",
        "experiments",
        "inference",
        "text",
        "data",
        "checkpoints",
        "metrics",
        *BASE,
    },
    "plugin": {"criterions", "optim", "tasks", "text", "checkpoints"},
    "__init__": {"plugin", "inference", "training"},
}
MAY_IMPORT_FAIRSEQ = {
    "criterions",
    "tasks",
    "models",
    "optim",
    "checkpoints",
    "inference",
    "plugin",
    "text",
    "data",
    "experiments",
    "training",
}


def python(code, **kwargs):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=runs.ENVIRONMENT,
        check=False,
        **kwargs,
    )


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    """Dotted names of everything the file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_arrows(path):
    room = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "fairseq":
            assert room in MAY_IMPORT_FAIRSEQ, f"{path} imports {name}"
        if parts[0] != "scl_fairseq" or len(parts) == 1:
            continue
        if parts[1] in ARROWS:
            assert parts[1] == room or parts[1] in ARROWS[room], f"{path} imports {name}"
        assert parts[1] != "cli" or room == "cli", f"{path} imports {name}"


def test_losses_and_gather_import_torch_alone():
    alone = [PACKAGE / "distributed.py", PACKAGE / "products.py"]
    for path in [*(PACKAGE / "losses").glob("*.py"), *alone]:
        outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert outside <= {"torch", "scl_fairseq"}


CHECK = (
    "from fairseq.criterions import CRITERION_REGISTRY as c; "
    "from fairseq.data.encoders import BPE_REGISTRY as b; "
    "from fairseq.optim import OPTIMIZER_REGISTRY as o; "
    "assert 'sentence_prediction_scl' in c and 'wordpiece' in b and 'fused_adamw' in o"
)


@pytest.mark.parametrize(
    "first",
    [
        "import scl_fairseq; import fairseq",
        "import fairseq; import scl_fairseq",
        "import scl_fairseq.losses; import fairseq.criterions",
        "import scl_fairseq.criterions.sentence_prediction_scl",
        "import scl_fairseq.optim.fused_adamw",
        "import scl_fairseq.inference.hub; from fairseq import options",
    ],
)
def test_registers_in_any_order(first):
    done = python(f"{first}; {CHECK}")
    assert done.returncode == 0, done.stderr[-3000:]


def test_importing_the_package_is_light():
    heavy = "{'torch', 'fairseq', 'numpy', 'tokenizers', 'transformers'}"
    done = python(f"import sys, scl_fairseq; print({heavy} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "augment",
        "convert",
        "demo",
        "embed",
        "evaluate",
        "plot",
        "predict",
        "preprocess",
        "report",
        "sample",
        "sweep",
    ],
)
def test_help_needs_no_torch(module):
    code = (
        f"import sys\nfrom scl_fairseq.cli.{module} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('torch' in sys.modules or 'fairseq' in sys.modules)"
    )
    done = python(code)
    assert "example:" in done.stdout
    assert done.stdout.strip().endswith("False"), done.stdout + done.stderr


def test_user_dir_after_an_import_of_the_package(tiny, tmp_path):
    arguments = runs.command(tiny, tmp_path, "--max-update", 1, "--no-save")[1:]
    code = "import scl_fairseq; from fairseq_cli.train import cli_main; cli_main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=runs.ENVIRONMENT,
        check=False,
        cwd=ROOT,
    )
    assert "done training" in done.stdout + done.stderr, done.stderr[-3000:]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which fairseq and this package are installed side by side, without a clone."""
    import fairseq
    import fairseq_cli

    site = tmp_path_factory.mktemp("site")
    for module in (fairseq, fairseq_cli):
        source = Path(module.__file__).parent
        shutil.copytree(source, site / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    build = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, build)
    shutil.copytree(PACKAGE, build / "scl_fairseq")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(build)], check=True, capture_output=True)
    return site


@pytest.mark.parametrize("imported_before", [False, True])
def test_installed_it_works_from_any_folder(tiny, site, tmp_path, imported_before):
    arguments = runs.command(tiny, tmp_path / "run", "--max-update", 1, "--no-save")[1:]
    arguments[arguments.index("--user-dir") + 1] = "scl_fairseq"
    code = "from fairseq_cli.train import cli_main; cli_main()"
    if imported_before:
        code = "import scl_fairseq; " + code
    code += "; import scl_fairseq; print('from', scl_fairseq.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**runs.ENVIRONMENT, "PYTHONPATH": str(site)},
        check=False,
        cwd=tmp_path,
    )
    output = done.stdout + done.stderr
    assert "done training" in output, output[-3000:]
    loaded = Path(done.stdout.split("from ")[-1].splitlines()[0])
    assert loaded.resolve() == (site / "scl_fairseq" / "__init__.py").resolve()
