"""What was special about a source file, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scl_fairseq.data.records import Records
from scl_fairseq.data.sources import Source

LISTED = 10


@dataclass
class FileReport:
    """Peculiarities of a file that were accepted; lists hold line numbers.

    Attributes:
        path: name of the file; line-aligned files are listed.
        sha256: checksum of each file by its name.
        crlf: lines end in CR LF.
        byte_order_mark: it starts with one.
        dropped_lines: left out for a wrong number of fields.
        long_lines: rows with more positions than allowed.
        respelling: another spelling of a label, and the task's.
        respelled_lines: rows whose label has another spelling than the task's.
        empty_lines: rows with an empty sentence.
        drops_empty: those were left out.
    """

    path: str
    sha256: dict[str, str] = field(default_factory=dict)
    crlf: bool = False
    byte_order_mark: bool = False
    dropped_lines: list[int] = field(default_factory=list)
    long_lines: list[int] = field(default_factory=list)
    respelling: str = ""
    respelled_lines: list[int] = field(default_factory=list)
    empty_lines: list[int] = field(default_factory=list)
    drops_empty: bool = False

    @classmethod
    def of(cls, source: Source) -> FileReport:
        """The report of a file of which only the beginning is known."""
        spellings = (f"{other!r} for {own!r}" for other, own in source.respellings.items())
        return cls(
            source.name,
            byte_order_mark=source.has_bom,
            respelling=", ".join(spellings),
            drops_empty=source.drops_empty,
        )

    def note(self, records: Records) -> None:
        """Take up what is special about a block of the file."""
        self.crlf |= records.crlf
        self.dropped_lines += records.dropped
        self.respelled_lines += records.respelled
        self.empty_lines += records.empty

    def lists(self) -> tuple[list[int], ...]:
        """Its lists of line numbers."""
        return self.dropped_lines, self.long_lines, self.respelled_lines, self.empty_lines

    def lines(self, on_long: str = "", max_positions: int = 0) -> Iterator[str]:
        """Sentences for the user, none where nothing was special."""
        name = self.path
        if self.byte_order_mark:
            yield f"{name} starts with a byte order mark; it was skipped"
        if self.crlf:
            yield f"{name} has CR LF line ends; they were read as line ends"
        if self.dropped_lines:
            yield (
                f"{name}: {_rows(self.dropped_lines)} without the expected number of fields left "
                f"out{_listed(self.dropped_lines)}; --strict refuses them"
            )
        if self.respelled_lines:
            rows = _rows(self.respelled_lines)
            yield (
                f"{name}: {rows} with the label {self.respelling} accepted"
                f"{_listed(self.respelled_lines)}"
            )
        if self.empty_lines:
            rows = _rows(self.empty_lines)
            became = "left out" if self.drops_empty else "kept"
            yield f"{name}: {rows} with an empty sentence {became}{_listed(self.empty_lines)}"
        if self.long_lines:
            yield (
                f"{name}: {_rows(self.long_lines)} longer than {max_positions} positions, "
                f"--on-long {on_long}{_listed(self.long_lines)}"
            )


def _rows(lines: Sequence[int]) -> str:
    return "1 row" if len(lines) == 1 else f"{len(lines)} rows"


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:LISTED]))
    more = f" and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
    return f" (line{'s' if len(lines) > 1 else ''} {shown}{more})"
