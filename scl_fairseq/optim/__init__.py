"""Optimizers that fairseq registers when the plug-in is loaded."""

# At once: its import registers the optimizers, which import the modules of this room.
import fairseq  # noqa: F401
