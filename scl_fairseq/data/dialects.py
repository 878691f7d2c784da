"""How the fields of a table stand apart: by which delimiter, and whether in quotes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scl_fairseq.data.choices import QUOTED, UNQUOTED
from scl_fairseq.data.csv_records import LONGEST_RECORD, WRAPPED, whole_records
from scl_fairseq.data.streams import open_bytes

CHUNK_BYTES = 1 << 19
# What R and pandas leave without quotes where they quote everything else.
_BARE = re.compile(
    rb"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|NA|NaN|nan|-?[Ii]nf|TRUE|FALSE|True|False|)\r?"
)


@dataclass(frozen=True)
class Dialect:
    r"""How a line becomes fields.

    Attributes:
        delimiter: between fields.
        quoting: ``csv``: fields may be wrapped in quotes; ``text``: a quote is text.
        escaped: inner quotes are ``\"``, as R writes them, and not doubled.
        found: fields in quotes by which CSV quoting was recognised; 0 where it was not looked for.
    """

    delimiter: str = "\t"
    quoting: str = UNQUOTED
    escaped: bool = False
    found: int = 0


TABS, COMMAS = Dialect(), Dialect(",", QUOTED)

# Whether the fields of a line, in bytes, can be a row of the table.
IsRow = Callable[[Sequence[bytes]], bool]


@dataclass
class _Seen:
    """Fields of a well-formed CSV file.

    Attributes:
        wrapped: how many are in quotes.
        needless: those that would not need them: no delimiter, newline or quote is inside.
        needed: those that do.
        is_all: every field is in quotes.
        is_all_text: the first record's are, and of the others all but numbers and the like.
        misfits: fields with a quote inside that are not in quotes, and records with another number
            of fields than the first: so read, somebody wrote the file by hand.
    """

    wrapped: int = 0
    needless: int = 0
    needed: int = 0
    is_all: bool = True
    is_all_text: bool = True
    misfits: int = 0

    @property
    def is_quoted(self) -> bool:
        """Whether a writer of CSV put the quotes there."""
        by_rule = self.is_all or self.is_all_text or (self.needed > 0 and not self.needless)
        return self.wrapped > 0 and by_rule


def find_quoting(path: Path, offset: int, has_header: bool, is_row: IsRow | None) -> Dialect:
    r"""Tell CSV quoting of a tab-separated file from quotes that are text.

    It is CSV where every field is in quotes, the header's included (numbers may be without), or
    where each field in quotes needs them: it holds a tab, a newline or a doubled quote. An inner
    quote may also be ``\"``. The whole file is read.

    Args:
        path: the file.
        offset: bytes before the first line: a byte order mark.
        has_header: whether its first line names the columns.
        is_row: tells that the fields of a line are a row. A "field" over several lines of which
            each is a row was opened by one quote of the text and closed by another.
    """
    seen, escaped = _scan_both(path, offset, has_header, is_row, "\t")
    if seen and seen.is_quoted:
        return Dialect("\t", QUOTED, escaped, seen.wrapped)
    return TABS


def find_escaping(path: Path, offset: int, delimiter: str) -> bool:
    r"""Whether a CSV file has ``\"`` for inner quotes: only so are all its quotes in place."""
    return _scan_both(path, offset, True, None, delimiter)[1]


def _scan_both(
    path: Path, offset: int, has_header: bool, is_row: IsRow | None, delimiter: str
) -> tuple[_Seen | None, bool]:
    r"""What the quotes of a file tell, and whether inner ones are ``\"``: as fits better."""
    doubled = _scan(path, offset, False, has_header, is_row, delimiter)
    if not _holds(path, b'\\"'):
        return doubled, False
    escaped = _scan(path, offset, True, has_header, is_row, delimiter)
    if escaped is None or (doubled is not None and doubled.misfits <= escaped.misfits):
        return doubled, False
    return escaped, True


def _scan(
    path: Path,
    offset: int,
    escaped: bool,
    has_header: bool,
    is_row: IsRow | None,
    delimiter: str = "\t",
) -> _Seen | None:
    """What the quotes of a file tell; None where a field in quotes does not end as CSV has it."""
    seen, mark = _Seen(), delimiter.encode()
    ends = re.escape(mark)
    field = re.compile(rb"(%b|[^\"%b\n][^%b\n]*|)(%b|\r?\n|\r?\Z)" % (WRAPPED, ends, ends, ends))
    is_first, width, count = has_header, 0, 0
    for data in _blocks(path, offset, escaped, mark):
        if data is None:
            return None
        at = start = 0  # start: of the record
        while at < len(data):
            if not seen.is_all and not seen.is_all_text and at == start:
                quote = data.find(b'"', at)
                if quote < 0:
                    break
                at = start = data.rfind(b"\n", at, quote) + 1 or at
            match = field.match(data, at)
            if not match:
                return None
            value, end = match.groups()
            if value[:1] == b'"':
                is_row_of_text = b"\n" in value and _spans_rows(data, start, match, mark, is_row)
                _count(seen, value[1:-1], mark, is_row_of_text)
            else:
                seen.is_all = False
                seen.misfits += b'"' in value
                seen.is_all_text &= not is_first and bool(_BARE.fullmatch(value))
            at = match.end()
            count += 1
            if end != mark:
                width = width or count
                seen.misfits += count != width
                start, is_first, count = at, False, 0
    # Without a header nothing but the rows themselves could tell; a sentence is often a quote.
    seen.is_all_text &= has_header
    return seen


def _count(seen: _Seen, inner: bytes, mark: bytes, is_accident: bool) -> None:
    seen.wrapped += 1
    if is_accident:
        seen.needless += 1
    elif any(sign in inner for sign in (mark, b"\n", b"\r", b'"')):
        seen.needed += 1
    elif inner:
        seen.needless += 1


def _spans_rows(
    data: bytes, start: int, match: re.Match, mark: bytes, is_row: IsRow | None
) -> bool:
    """Whether each line that a field touches is a row by itself."""
    if is_row is None:
        return False
    end = data.find(b"\n", match.end(1))
    lines = data[start : len(data) if end < 0 else end].split(b"\n")
    return all(is_row(line.removesuffix(b"\r").split(mark)) for line in lines)


def _blocks(path: Path, offset: int, escaped: bool, mark: bytes) -> Iterator[bytes | None]:
    """Whole records; None where one does not end."""
    with open_bytes(path, escaped=escaped) as file:
        file.read(offset)
        rest = b""
        while data := file.read(CHUNK_BYTES):
            rest += data
            end, _ = whole_records(rest, mark)
            if end:
                yield rest[:end]
                rest = rest[end:]
            elif len(rest) > LONGEST_RECORD:
                yield None
                return
        yield rest


def _holds(path: Path, sign: bytes) -> bool:
    with open_bytes(path) as file:
        before = b""
        while data := file.read(CHUNK_BYTES):
            if sign in before + data:
                return True
            before = data[-len(sign) :]
    return False
