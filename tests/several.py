"""Many short trainings in one process, which starts once: most of them are to be refused."""

import contextlib
import io
import json
import logging
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

from tests import forked, runs

CODE = "import sys\nfrom tests.several import main\nmain(*sys.argv[1:])"
COMMON = [
    *["--user-dir", str(runs.ROOT / "scl_fairseq"), "--cpu", "--distributed-world-size", "1"],
    *["--optimizer", "adam", "--lr", "1e-3", "--batch-size", "8", "--max-update", "1"],
    *["--required-batch-size-multiple", "1", "--data-buffer-size", "0", "--num-workers", "0"],
    *["--seed", "3", "--log-format", "simple", "--max-positions", "64"],
]


def train_all(cases, folder):
    """One ``fairseq-train`` after the other; of one update, where its options say no other.

    Args:
        cases: name to arguments beside ``COMMON``.
        folder: an empty one.

    Returns:
        For each name ``code``, its exit code; ``stderr``, its own lines there; ``log``.
    """
    wanted, found = folder / "cases.json", folder / "found.json"
    wanted.write_text(json.dumps({name: list(map(str, case)) for name, case in cases.items()}))
    done = forked.run_code(CODE, wanted, found)
    assert done.returncode == 0, done.stdout[-6000:]
    read = json.loads(found.read_text())
    return {name: SimpleNamespace(**result) for name, result in read.items()}


def main(wanted, found):
    """In the process."""
    cases = json.loads(Path(wanted).read_text())
    Path(found).write_text(json.dumps({name: _train(case) for name, case in cases.items()}))


def _train(case):
    from fairseq_cli.train import cli_main

    log, stderr = [], io.StringIO()
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    sys.argv = ["fairseq-train", *case, *COMMON]
    code = 0
    try:
        with contextlib.redirect_stderr(stderr):
            cli_main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = 1
        traceback.print_exc(file=stderr)
    finally:
        logging.getLogger().removeHandler(handler)
    return {"code": code, "stderr": stderr.getvalue(), "log": "\n".join(log)}


def assert_refused(result, *parts):
    """One line, exit code 2, and no update."""
    assert result.code == 2, result.stderr[-3000:]
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line, line
    assert "begin training epoch" not in result.log.lower()


def assert_trained(result):
    """To the end."""
    assert result.code == 0, result.stderr[-3000:]
    assert "done training" in result.log
    assert "Traceback" not in result.stderr
