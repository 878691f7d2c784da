"""What is said where torch or fairseq is not installed, by the commands and in Python."""

import ast
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.runs import ROOT

FAIRSEQ = "--no-build-isolation fairseq-fixed==0.12.3.1"
if sys.version_info < (3, 11):
    FAIRSEQ = "pip install --no-deps fairseq==0.12.2"
FORK = "fairseq-fixed"
TORCH = "pip install torch"


def entry_points():
    """Each command of setup.py and its module."""
    texts = [n.value for n in ast.walk(ast.parse((ROOT / "setup.py").read_text("utf-8")))
             if isinstance(n, ast.Constant) and isinstance(n.value, str)]  # fmt: skip
    found = (re.fullmatch(r"(scl-[a-z]+) = ([a-z_.]+):main", text) for text in texts)
    return {match[1]: match[2] for match in found if match}


COMMANDS = entry_points()


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes an environment with all that is installed here, less some packages."""

    def environment(*without):
        folder = tmp_path_factory.mktemp("without")
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob("lib/*/site-packages")
        for site in (Path(path) for path in sys.path if path.endswith("-packages")):
            for path in site.iterdir():
                if path.name not in without and not (packages / path.name).exists():
                    # What points elsewhere would bring the missing packages along.
                    if path.suffix == ".pth" or path.name.startswith("__editable__"):
                        continue
                    (packages / path.name).symlink_to(path)
        if not (packages / "scl_fairseq").exists():
            (packages / "scl_fairseq").symlink_to(ROOT / "scl_fairseq")
        for name, module in COMMANDS.items():  # as pip writes them
            script = folder / "bin" / name
            script.write_text(
                f"#!{folder}/bin/python\nimport sys\nfrom {module} import main\n"
                "if __name__ == '__main__':\n    sys.exit(main())\n"
            )
            script.chmod(0o755)
        return SimpleNamespace(bin=folder / "bin", packages=packages)

    return environment


@pytest.fixture(scope="module")
def no_fairseq(make):
    return make("fairseq")


def run(*words, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def check_refusal(done, program, *told):
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: error: ")
    for words in told:
        assert words in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("arguments", [[], ["--help"], ["file"]])
def test_each_command_names_the_line_in_one_sentence(no_fairseq, tmp_path, command, arguments):
    done = run(no_fairseq.bin / command, *arguments, cwd=tmp_path)
    check_refusal(done, command, "fairseq is not installed", FAIRSEQ)
    assert "torch is" not in done.stderr


def test_so_does_a_module_that_is_run(no_fairseq, tmp_path):
    done = run(no_fairseq.bin / "python", "-m", "scl_fairseq.cli.demo", "--help", cwd=tmp_path)
    check_refusal(done, "scl_fairseq.cli.demo", "fairseq is not installed", FAIRSEQ)


def test_python_raises_an_import_error_that_names_it(no_fairseq, tmp_path):
    code = "try:\n import scl_fairseq\nexcept ImportError as error: print(error)"
    done = run(no_fairseq.bin / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert FAIRSEQ in line


@pytest.mark.parametrize(
    ("without", "told"),
    [
        (["torch"], ["torch is not installed", TORCH]),
        (["torch", "fairseq"], ["torch and fairseq are not installed", TORCH, FAIRSEQ]),
    ],
)
def test_torch_is_named_too(make, tmp_path, without, told):
    done = run(make(*without).bin / "scl-predict", "--help", cwd=tmp_path)
    check_refusal(done, "scl-predict", *told)
    assert (FAIRSEQ in done.stderr) == ("fairseq" in without)


def test_a_clone_of_fairseq_in_the_folder_is_not_fairseq(no_fairseq, tmp_path):
    (tmp_path / "fairseq" / "fairseq").mkdir(parents=True)
    words = no_fairseq.bin / "python", "-m", "scl_fairseq.cli.predict", "model.pt"
    check_refusal(run(*words, cwd=tmp_path), "scl_fairseq.cli.predict", "fairseq is not installed")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="stock fairseq runs on Python 3.10")
def test_stock_fairseq_is_refused_where_it_cannot_be_imported(make, tmp_path):
    environment = make("fairseq")
    (environment.packages / "fairseq").mkdir()
    for name, text in {"__init__.py": "1 / 0\n", "version.py": '__version__ = "0.12.2"\n'}.items():
        (environment.packages / "fairseq" / name).write_text(text)
    done = run(environment.bin / "scl-predict", "--help", cwd=tmp_path)
    check_refusal(done, "scl-predict", "does not run on Python 3.11", "uninstall", FAIRSEQ)


def test_with_both_commands_run(make, tmp_path):
    done = run(make().bin / "scl-predict", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: scl-predict")


def test_the_package_itself_requires_neither():
    requirements = (ROOT / "setup.py").read_text("utf-8").split("extras_require")[0]
    names = re.findall(r'^ +"([A-Za-z0-9_-]+)', requirements, re.MULTILINE)
    assert "numpy" in names
    assert not {"torch", "fairseq", "fairseq-fixed", "torchaudio"}.intersection(names)


def lines_of_the_readme():
    """The commands under Installing, of this Python."""
    text = (ROOT / "README.md").read_text("utf-8").split("\n## Installing\n")[1].split("\n## ")[0]
    first, of_310 = (
        [line.split("  #")[0].strip() for line in block.strip().splitlines()]
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    )
    if sys.version_info < (3, 11):
        first[1:1] = of_310[:1]
        first[first.index(next(line for line in first if FORK in line))] = of_310[1]
    return first


def test_the_readme_pins_what_the_messages_name():
    assert any(FAIRSEQ.split()[-1] in line for line in lines_of_the_readme())


@pytest.mark.slow
def test_the_sequence_of_the_readme(tmp_path):
    """In a new environment.

    It downloads more than 300 MB and compiles for minutes.
    """
    lines = lines_of_the_readme()
    script = ["set -e", f"cd {ROOT}"]
    for line in lines:
        script.append(line.replace("python -m venv", f"{sys.executable} -m venv"))
        script[-1] = script[-1].replace(" scl", f" {tmp_path}/scl")
    script += ["scl-predict --help > /dev/null", "fairseq-train --help > /dev/null"]
    code = (
        "from scl_fairseq.checkpoints.embedded import convert_encoder as c; import pathlib; "
        f"c(pathlib.Path('{tmp_path}/encoder'))"
    )
    script += [f"cd {tmp_path}", f'python -c "{code}"', "pip list", f"du -sm {tmp_path}/scl"]
    done = run("bash", "-c", "\n".join(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "encoder" / "model.pt").is_file()
    packages = done.stdout.split("Package")[-1]
    assert "nvidia" not in packages
    assert "torchaudio" not in packages
    assert int(done.stdout.splitlines()[-1].split()[0]) < 2000
