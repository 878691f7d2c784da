"""fastBPE codes, as fairseq's ``--bpe fastbpe`` applies them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class FastBPE:
    """Sub-words of the ``fastBPE`` library, ``@@`` at the end of those that continue.

    Args:
        codes: the file of merges.

    Raises:
        ValueError: the library is not installed, or the file is malformed.
    """

    def __init__(self, codes: Path):
        try:
            import fastBPE
        except ImportError:
            raise ValueError(
                "--bpe fastbpe needs the package fastBPE: pip install cython setuptools && "
                "pip install --no-build-isolation fastBPE"
            ) from None
        check_codes(codes)
        self._bpe = fastBPE.fastBPE(str(codes))

    def encode_lines(self, lines: Sequence[str]) -> list[str]:
        """Each line as space-separated sub-words."""
        return self._bpe.apply(list(lines))


def check_codes(path: Path) -> None:
    """Refuse what would end or crash the process inside the library.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not two sub-words and a count.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if not (len(fields) == 3 and fields[2].isdigit()):
                shown = line[:80].decode("utf-8", "replace").rstrip("\n")
                raise ValueError(f"{path}:{number}: {shown!r}, expected two sub-words and a count")
