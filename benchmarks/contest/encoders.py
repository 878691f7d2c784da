"""The encoder, as each contender reads it."""

from pathlib import Path

from scl_fairseq.checkpoints.embedded import convert_encoder, find_encoder


def encoders(out: Path) -> dict[str, str]:
    """Folders: Hugging Face's form as it was installed, and fairseq's, converted once."""
    folder = out.resolve() / "encoder"
    if not (folder / "model.pt").exists():
        convert_encoder(folder)
    return {"encoder": str(find_encoder()), "fairseq_encoder": str(folder)}
