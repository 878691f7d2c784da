"""fastBPE codes, as fairseq's ``--bpe fastbpe`` applies them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class FastBPE:
    """Sub-words of the ``fastBPE`` library, ``@@`` at the end of those that continue.

    Args:
        codes: the file of merges.

    Raises:
        ValueError: the library is not installed.
    """

    def __init__(self, codes: Path):
        try:
            import fastBPE
        except ImportError:
            raise ValueError(
                "--bpe fastbpe needs the package fastBPE: pip install cython setuptools && "
                "pip install --no-build-isolation fastBPE"
            ) from None
        if not codes.is_file():  # the library would end the process
            raise FileNotFoundError(f"{codes} is not there")
        self._bpe = fastBPE.fastBPE(str(codes))

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Each line as space-separated sub-words."""
        return self._bpe.apply(list(lines))
