"""Models, as far as they are needed beyond fairseq's own."""

# At once: its import registers the criterions, which import the modules of this room.
import fairseq  # noqa: F401
