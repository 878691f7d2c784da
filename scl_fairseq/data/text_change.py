"""How far paraphrases are from their originals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Paraphrases against the sentences that they were made from.

    Attributes:
        num_sentences: how many there are; those without a paraphrase are left out.
        bleu: BLEU of all of them, percent, with the originals as references; None of none.
        chrf: mean of the sentences' chrF, percent.
        unchanged: percent that are equal to their original but for case and white space, which
            tokenisers move.
        length_ratio: their words and punctuation marks over the originals', as BLEU counts them.
    """

    num_sentences: int
    bleu: float | None
    chrf: float | None
    unchanged: float | None
    length_ratio: float | None


def measure(originals: Sequence[str], paraphrases: Sequence[str]) -> Change:
    """Compare with sacrebleu, at its defaults (13a, exponential smoothing; chrF2).

    Raises:
        ValueError: sacrebleu is not installed.
    """
    try:
        import sacrebleu
    except ImportError:
        raise ValueError(
            'sacrebleu is missing: pip install ".[backtranslation]" in a clone of scl-fairseq'
        ) from None
    if not originals:
        return Change(0, None, None, None, None)
    chrf = sacrebleu.CHRF()
    scores = [
        chrf.sentence_score(new, [old]).score
        for old, new in zip(originals, paraphrases, strict=True)
    ]
    same = sum(_plain(old) == _plain(new) for old, new in zip(originals, paraphrases, strict=True))
    # Forced: GLUE's sentences look tokenised, which it would warn of.
    bleu = sacrebleu.corpus_bleu(list(paraphrases), [list(originals)], force=True)
    return Change(
        num_sentences=len(originals),
        bleu=bleu.score,
        chrf=statistics.mean(scores),
        unchanged=100 * same / len(originals),
        length_ratio=bleu.sys_len / max(bleu.ref_len, 1),
    )


def _plain(text: str) -> str:
    return "".join(text.casefold().split())
