"""What was special about a source file, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scl_fairseq.data.records import Records
from scl_fairseq.data.sources import Source
from scl_fairseq.data.table_files import CSV, TSV

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
        format: ``tsv``, ``csv`` (fields may be in quotes), ``jsonl`` or ``lines``.
        delimiter: between fields, of the first two.
        columns: names of the label column, where there is one, and of the sentence columns.
        quoted_fields: fields by whose quotes CSV quoting of a tab-separated file was recognised.
        backslashes: inner quotes have a backslash in front instead of being doubled.
        looks_quoted: fields of unquoted text that begin and end with a quote.
        line_breaks: line breaks inside fields, each of which became a space.
        tabbed_rows: rows with a tab inside a field.
        unlabelled: it is a test set whose labels say that there is none.
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
    format: str = TSV
    delimiter: str = ""
    columns: list[str] = field(default_factory=list)
    quoted_fields: int = 0
    backslashes: bool = False
    looks_quoted: int = 0
    line_breaks: int = 0
    tabbed_rows: int = 0
    unlabelled: bool = False

    @classmethod
    def of(cls, source: Source) -> FileReport:
        """The report of a file of which only the beginning is known."""
        spellings = (f"{other!r} for {own!r}" for other, own in source.respellings.items())
        used = [*([] if source.label_at is None else [source.label_at]), *source.sentences_at]
        return cls(
            source.name,
            byte_order_mark=source.has_bom,
            respelling=", ".join(spellings),
            drops_empty=source.drops_empty,
            format=source.format,
            delimiter=source.dialect.delimiter if source.format in (TSV, CSV) else "",
            columns=[source.columns[at] for at in used],
            quoted_fields=source.dialect.found,
            backslashes=source.dialect.escaped,
            unlabelled=source.unlabelled_at is not None,
        )

    def note(self, records: Records) -> None:
        """Take up what is special about a block of the file."""
        self.crlf |= records.crlf
        self.dropped_lines += records.dropped
        self.respelled_lines += records.respelled
        self.empty_lines += records.empty
        self.looks_quoted += records.looks_quoted
        self.line_breaks += records.line_breaks
        self.tabbed_rows += records.tabbed

    def lists(self) -> tuple[list[int], ...]:
        """Its lists of line numbers."""
        return self.dropped_lines, self.long_lines, self.respelled_lines, self.empty_lines

    def lines(
        self, on_long: str = "", max_positions: int = 0, is_sampled: bool = False
    ) -> Iterator[str]:
        """Sentences for the user, none where nothing was special.

        Args:
            on_long: what becomes of long rows.
            max_positions: which rows are long.
            is_sampled: rows go into the columns of a sample.
        """
        name = self.path
        if self.quoted_fields:
            how = r" with \" for a quote inside" if self.backslashes else ""
            yield (
                f"{name} has CSV quoting ({_count(self.quoted_fields, 'field')} in quotes{how}), "
                "which was taken off; --quoting text leaves it"
            )
        if self.looks_quoted:
            yield (
                f"{name}: {_count(self.looks_quoted, 'field')} in quotes that "
                f"{_are(self.looks_quoted)} text, as the file has no CSV quoting throughout; "
                "--quoting csv takes them off"
            )
        if self.line_breaks:
            became = "became a space" if self.line_breaks == 1 else "became spaces"
            yield f"{name}: {_count(self.line_breaks, 'line break')} inside fields {became}"
        if self.tabbed_rows and is_sampled:
            yield f"{name}: {_count(self.tabbed_rows, 'row')} with tabs, in samples they are spaces"
        if self.unlabelled:
            yield f"{name}: every label is -1 or empty, which in a test set says that there is none"
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


def told_repeated(count: int, split: str) -> str:
    """That rows of a split stand in train too."""
    stand = "stands" if count == 1 else "stand"
    return f"{_count(count, 'row')} of {split} {stand} in train too, with the same text"


def _rows(lines: Sequence[int]) -> str:
    return _count(len(lines), "row")


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:LISTED]))
    more = f" and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
    return f" (line{'s' if len(lines) > 1 else ''} {shown}{more})"
