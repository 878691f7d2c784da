"""The table of ``scl-augment``: a line for each temperature."""

from __future__ import annotations

from collections.abc import Sequence

from scl_fairseq.data.augmented_sample import Augmented

HEADER = ("T", "sentences", "kept", "BLEU", "chrF", "unchanged %", "length ratio")


def change_table(results: Sequence[Augmented]) -> str:
    """How far each set's paraphrases are from their originals, columns lined up.

    ``kept`` counts the sentences without a paraphrase; the other numbers leave them out.
    """
    rows = [HEADER, *map(_row, results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _row(result: Augmented) -> tuple[str, ...]:
    change = result.change
    values = (change.bleu, change.chrf, change.unchanged)
    return (
        "-" if result.temperature is None else f"{result.temperature:g}",
        str(change.num_sentences),
        str(sum(result.kept.values())),
        *("-" if value is None else f"{value:.1f}" for value in values),
        "-" if change.length_ratio is None else f"{change.length_ratio:.2f}",
    )
