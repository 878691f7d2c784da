"""Which batch and chunk fit which GPU: worked out from sizes, not measured.

    .venv/bin/python -m benchmarks.gpu.fits

Bytes of a training by fairseq's Adam. For each parameter, in fp16 and bf16: 2 of the weight and 2
of its gradient, 4 of the float32 copy, 4 of its gradient and 8 of Adam's moments; with
``--memory-efficient-fp16`` or ``-bf16`` without the copy and its gradient; in fp32 4, 4 and 8. What
backward keeps of a layer for each token is, with C the width, 16 C numbers and 2 C bytes of dropout
masks, and of attention with padding 2 numbers and a byte for each pair of positions and head
(Korthikanti et al., arXiv 2205.05198, section 4.1, where it is 34 C and 5 bytes in half precision).
A tenth on top for what the allocator cannot use, and a GB for CUDA and its libraries.
"""

from __future__ import annotations

import sys

from benchmarks.roberta import SIZES, VOCABULARY
from scl_fairseq.experiments.tables import markdown

CARDS = (8, 16, 24, 40, 80)  # GB of memory
MODELS = {"RoBERTa-Base": "base", "RoBERTa-Large": "large"}
POSITIONS = 514
OF_A_PARAMETER = {
    "fp16 or bf16": 2 + 2 + 4 + 4 + 8,
    "memory-efficient": 2 + 2 + 8,
    "fp32": 4 + 4 + 8,
}
OF_A_NUMBER = {"fp16 or bf16": 2, "memory-efficient": 2, "fp32": 4}
NUMBERS_OF_A_TOKEN, NUMBERS_OF_A_PAIR = 16, 2
MASKS_OF_A_TOKEN, MASKS_OF_A_PAIR = 2, 1
BASE, SPARE = 1e9, 1.1
# Tokens of a sentence, padding included: about the longest of a batch of GLUE's, and of all.
LENGTHS = (128, 512)


def parameters(size: str) -> int:
    """Of the encoder, its embeddings and its heads."""
    layers, width, inner, _ = SIZES[size]
    of_a_layer = 4 * width * (width + 1) + 2 * width * inner + inner + width + 4 * width
    embeddings = (VOCABULARY + POSITIONS) * width + 2 * width
    heads = 2 * width * (width + 1) + 2 * width + VOCABULARY
    return layers * of_a_layer + embeddings + heads


def fixed_bytes(size: str, precision: str) -> float:
    """What is there whatever the batch is."""
    return BASE + SPARE * parameters(size) * OF_A_PARAMETER[precision]


def sentence_bytes(size: str, precision: str, length: int) -> float:
    """What backward keeps of a sentence of so many tokens, padding included."""
    layers, width, _, heads = SIZES[size]
    number = OF_A_NUMBER[precision]
    of_tokens = length * width * (NUMBERS_OF_A_TOKEN * number + MASKS_OF_A_TOKEN)
    of_pairs = heads * length**2 * (NUMBERS_OF_A_PAIR * number + MASKS_OF_A_PAIR)
    return SPARE * layers * (of_tokens + of_pairs)


def most_sentences(size: str, precision: str, length: int, card: float) -> int:
    """That fit at once, of a card of so many GB; 0: not even the model does."""
    left = card * 1e9 - fixed_bytes(size, precision)
    return max(0, int(left // sentence_bytes(size, precision, length)))


def advised(number: int) -> str:
    """The greatest power of two that fits, up to 256."""
    if number < 1:
        return "—"
    return str(min(256, 2 ** (number.bit_length() - 1)))


def table() -> str:
    """A row for each model, precision and length, a column for each card."""
    rows = [
        [
            f"{name}, {precision}, {length} tokens",
            *(advised(most_sentences(size, precision, length, card)) for card in CARDS),
        ]
        for name, size in MODELS.items()
        for precision in OF_A_PARAMETER
        for length in LENGTHS
    ]
    return markdown(["sentences at once", *(f"{card} GB" for card in CARDS)], rows)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
