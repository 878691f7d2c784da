"""How far paraphrases are from their originals: values worked out by hand."""

import pytest

from scl_fairseq.data.text_change import Change, measure


def test_equal_texts_and_none():
    found = measure(["a fine film ."], ["A fine film."])
    assert (found.num_sentences, found.unchanged, found.length_ratio) == (1, 100.0, 1.0)
    same = measure(["a fine film .", "so bad"], ["a fine film .", "so bad"])
    assert same.bleu == pytest.approx(100)
    assert same.chrf == pytest.approx(100)
    assert measure([], []) == Change(0, None, None, None, None)


def test_shares_and_lengths():
    found = measure(["a b c d", "e f"], ["a b c d", "x y z w u v"])
    assert found.unchanged == 50
    assert found.length_ratio == pytest.approx(10 / 6)
    # chrF is a mean over sentences: one is equal, one has nothing in common.
    assert found.chrf == pytest.approx(50)


def test_bleu_takes_the_originals_as_references():
    # 4 of 5, 3 of 4, 2 of 3 and 1 of 2 n-grams; the paraphrase is longer: no brevity penalty.
    found = measure(["a b c d"], ["a b c d e"])
    assert found.bleu == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
