"""The tests marked ``gpu``, which reach the kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from benchmarks.gpu.check import Check
from benchmarks.pipelines import ROOT

AT_A_TIME = "4"


def run(check: Check) -> None:
    """Run them, and record what failed."""
    files = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text("utf-8")
    ]  # fmt: skip
    report = check.work / "marked.xml"
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    words += ["--junitxml", str(report), *map(str, files)]
    # In a dry run they are collected and skipped.
    words += [] if check.dry else ["-n", AT_A_TIME, "--dist", "loadfile"]
    with open(check.out / "marked.log", "w", encoding="utf-8") as log:
        code: int | str
        try:
            code = subprocess.run(
                words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False,
                timeout=max(5, check.left()), env={**os.environ, "PYTHONWARNINGS": "ignore"},
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = "timeout"
    counts = {"passed": 0, "failed": 0, "left_out": 0}
    if report.is_file():
        for case in ElementTree.parse(report).iter("testcase"):
            bad = [child for child in case if child.tag in ("failure", "error")]
            kind = "failed" if bad else "passed"
            counts["left_out" if case.find("skipped") is not None else kind] += 1
            if bad:
                name = f"{case.get('classname')}::{case.get('name')}"
                said = f"{bad[0].get('message') or ''}\n{(bad[0].text or '')[-800:]}"
                check.add("test", name=name, ok=False, failed=said)
    check.add("tests", code=code, ok=code == 0 and not counts["failed"], **counts)
