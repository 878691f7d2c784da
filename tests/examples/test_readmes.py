"""What the READMEs of the examples name is there, and the commands are accepted."""

import re
import shlex

import pytest

from tests import runs
from tests.examples.conftest import EXAMPLES

FOLDERS = (
    *("glue", "few_shot", "batch_size", "noise", "transfer", "tsne", "workers"),
    *("systems", "supcon", "moco", "infocse"),
)


def blocks(folder):
    text = (EXAMPLES / folder / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = "".join(found).replace("\\\n", " ").splitlines()
    return text, [re.sub(r"\s+#.*", "", line) for line in lines]


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_exist_and_commands_are_accepted(folder):
    from scl_fairseq.cli import plot

    text, lines = blocks(folder)
    for path in re.findall(r"(?:scripts|examples)/[\w./-]+\.(?:sh|yaml|py)", text):
        assert (runs.ROOT / path).is_file(), path
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (EXAMPLES / folder / link).exists(), link
    assert any(line.startswith("SMOKE=1 examples/") for line in lines)
    for line in lines:
        if line.startswith("scl-plot"):
            plot._parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("folder", FOLDERS)
def test_variables_are_those_of_the_recipes(folder):
    _, lines = blocks(folder)
    shared = (EXAMPLES / "common.sh").read_text("utf-8")
    for line in lines:
        file = re.search(r"examples/[\w/]+\.sh", line)
        for name in re.findall(r"\b([A-Z_]+)=", line):
            recipe = (runs.ROOT / file[0]).read_text("utf-8")
            assert f"{name}=${{{name}:-" in recipe + shared, line
