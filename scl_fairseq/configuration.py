"""fairseq's configuration as plain data."""

from __future__ import annotations

from typing import Any


def as_dict(cfg) -> dict[str, Any]:
    """A part of fairseq's configuration, in which a value that was never set does not raise."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(cfg):
        return OmegaConf.to_container(cfg)
    return vars(cfg) if hasattr(cfg, "__dict__") else {}
