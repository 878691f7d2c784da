"""The machine, and the versions in an environment."""

import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    *("torch", "transformers", "sentence-transformers", "scikit-learn", "setfit"),
    *("fairseq", "fairseq-fixed", "scl-fairseq"),
)
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@functools.cache
def versions(python: Path) -> dict[str, str]:
    """Of what an interpreter has installed."""
    done = subprocess.run([python, "-c", _ASK, *PACKAGES], capture_output=True, check=True)
    return json.loads(done.stdout)


def processor() -> str:
    """Its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine(python: Path) -> dict[str, object]:
    """What a record says of where it was made."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions(python),
    }


def made_on() -> str:
    """The same for this process, as a sentence."""
    found = machine(Path(sys.executable))
    return ", ".join(f"{name} {value}" for name, value in found.items()) + "."
