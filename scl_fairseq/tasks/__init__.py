"""Tasks that fairseq registers when the plug-in is loaded."""

# At once: its import registers the tasks.
import fairseq  # noqa: F401
