"""Make GLUE's MRPC of its source files: ``python assemble_mrpc.py SOURCE_DIR OUT_DIR``.

SOURCE_DIR holds ``msr_paraphrase_train.txt``, ``msr_paraphrase_test.txt`` and ``mrpc_dev_ids.tsv``,
the pairs of ids that GLUE took out of the training set as its development set.
"""

import os
import sys
from pathlib import Path

SOURCE_HEADER = b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
TEST_HEADER = b"index\t#1 ID\t#2 ID\t#1 String\t#2 String"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BAD_INPUT = 2


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file, without byte order mark and line ends."""
    content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    # Not splitlines(): sentences may hold what it takes for the end of a line.
    return [line.removesuffix(b"\r") for line in content.removesuffix(b"\n").split(b"\n")]


def read_source(path: Path) -> list[list[bytes]]:
    """The rows of a source file, without its header.

    Raises:
        ValueError: the header is another one, or a row has not five fields.
    """
    header, *lines = read_lines(path)
    if header != SOURCE_HEADER:
        raise ValueError(f"{path}: line 1 is not the header of the MRPC source files")
    rows = [line.split(b"\t") for line in lines]
    for number, row in enumerate(rows, start=2):
        if len(row) != 5:
            raise ValueError(f"{path}: line {number} has {len(row)} fields, expected 5")
    return rows


def read_ids(path: Path) -> set[tuple[bytes, ...]]:
    """The pairs of ids in a file.

    Raises:
        ValueError: a line is not a pair of numbers.
    """
    pairs = [tuple(line.split(b"\t")) for line in read_lines(path)]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2 or not all(part.isdigit() for part in pair):
            raise ValueError(f"{path}: line {number} is not a pair of ids")
    return set(pairs)


def write(path: Path, header: bytes, rows: list[list[bytes]]) -> None:
    """Write a table, under its name only when it is complete."""
    temporary = path.with_name(f"{path.name}.part")
    lines = [header, *(b"\t".join(row) for row in rows)]
    temporary.write_bytes(b"".join(line + b"\n" for line in lines))
    os.replace(temporary, path)


def assemble(sources: Path, out: Path) -> None:
    """Write ``train.tsv``, ``dev.tsv`` and ``test.tsv`` to ``out``, as GLUE's own script does.

    Raises:
        ValueError: a source is malformed, or the training set lacks a row of the development set.
    """
    ids = read_ids(sources / "mrpc_dev_ids.tsv")
    rows = read_source(sources / "msr_paraphrase_train.txt")
    test = read_source(sources / "msr_paraphrase_test.txt")
    missing = sorted(ids - {tuple(row[1:3]) for row in rows})
    if missing:
        first = " ".join(part.decode() for part in missing[0])
        raise ValueError(
            f"{sources / 'msr_paraphrase_train.txt'}: {len(missing)} of the {len(ids)} rows of the "
            f"development set are missing, the first is {first}"
        )
    out.mkdir(parents=True, exist_ok=True)
    write(out / "train.tsv", SOURCE_HEADER, [row for row in rows if tuple(row[1:3]) not in ids])
    write(out / "dev.tsv", SOURCE_HEADER, [row for row in rows if tuple(row[1:3]) in ids])
    numbered = [[b"%d" % index, *row[1:]] for index, row in enumerate(test)]
    write(out / "test.tsv", TEST_HEADER, numbered)


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    if len(arguments) != 2 or arguments[0].startswith("-"):
        print("usage: python assemble_mrpc.py SOURCE_DIR OUT_DIR", file=sys.stderr)
        return BAD_INPUT
    try:
        assemble(*map(Path, arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
