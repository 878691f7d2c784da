"""The embedded encoder in half the size, to carry to another machine, and wide again there.

    python -m benchmarks.gpu.small_encoder SOURCE TARGET

SOURCE is the package's folder ``model``. Needs numpy and safetensors alone.
"""

import hashlib
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load, load_file, save_file

ROOT = Path(__file__).resolve().parent.parent.parent
WEIGHTS = "model.safetensors"
FILES = ("config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


def _write(source: Path, target: Path, tensors: dict[str, np.ndarray]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def narrow(source: Path, target: Path) -> None:
    """Write it in float16.

    Raises:
        ValueError: these are other weights than the project's.
    """
    content = (source / WEIGHTS).read_bytes()
    # As a file: the package's other modules need what may not be installed here.
    known = runpy.run_path(str(ROOT / "scl_fairseq" / "checkpoints" / "embedded.py"))
    if hashlib.sha256(content).hexdigest() != known["ENCODER_SHA256"]:
        raise ValueError(f"{source / WEIGHTS}: these are other weights than the project's")
    wide = np.dtype(np.float32)
    narrowed = {
        name: tensor.astype(np.float16) if tensor.dtype == wide else tensor
        for name, tensor in load(content).items()
    }
    _write(source, target, narrowed)


def widen(source: Path, target: Path) -> None:
    """Write what ``narrow`` wrote in float32 again."""
    half = np.dtype(np.float16)
    widened = {
        name: tensor.astype(np.float32) if tensor.dtype == half else tensor
        for name, tensor in load_file(source / WEIGHTS).items()
    }
    _write(source, target, widened)


if __name__ == "__main__":
    narrow(*map(Path, sys.argv[1:]))
