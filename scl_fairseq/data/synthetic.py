"""A small, deterministic English sentiment corpus for when the real SST-2 is not at hand.

Sentences are made from templates, in the lower-case, space-separated style of SST-2. Plain praise
and blame is mixed with negation, contrast and hedging, where a word stands for the opposite of the
label, so that counting words says little while reading the sentence settles it.
"""

import random
import re
from collections.abc import Callable
from pathlib import Path

from scl_fairseq.files import write_text

MAX_SENTENCES = 100_000
"""The most sentences one call makes: far fewer than the templates hold, so drawing cannot stall."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split("/"))


# Words that carry sentiment: (negative, positive), so that a label indexes its own side.
ADJECTIVES = (
    _words("""
    dull tedious clumsy bland hollow lifeless boring awful dreadful terrible horrible shallow
    tiresome wooden stale flat sloppy lazy forgettable predictable trite contrived muddled
    incoherent painful miserable mediocre pointless lame witless humorless joyless charmless
    soulless listless plodding sluggish murky ugly cheap crude grating irritating annoying
    insufferable unbearable unconvincing unfunny uninspired unimaginative unremarkable
    disappointing disastrous dismal dreary drab feeble inept amateurish awkward absurd ridiculous
    silly stupid inane vapid vacuous pretentious pompous preachy heavy-handed mawkish manipulative
    overwrought overlong bloated tired hackneyed derivative generic formulaic clichéd soggy limp
    laughable embarrassing cringeworthy atrocious abysmal appalling wretched pathetic worthless
    frustrating exhausting monotonous repetitive confusing numbing stilted lackluster lousy
    """),
    _words("""
    superb brilliant moving gripping delightful charming witty funny hilarious clever inventive
    fresh original touching tender heartfelt warm graceful elegant gorgeous beautiful stunning
    dazzling radiant luminous lovely vivid lively vibrant energetic exciting thrilling riveting
    absorbing engrossing compelling captivating enchanting mesmerizing hypnotic haunting powerful
    potent poignant profound thoughtful intelligent smart sharp subtle nuanced insightful
    perceptive wise honest sincere authentic convincing believable masterful accomplished assured
    confident polished exquisite magnificent marvelous wonderful terrific fantastic fabulous
    excellent outstanding exceptional remarkable impressive memorable unforgettable rewarding
    satisfying enjoyable entertaining amusing playful joyous uplifting inspiring stirring
    splendid glorious sublime sensational first-rate delicious magical imaginative ingenious
    refreshing endearing appealing spectacular triumphant flawless perfect great
    """),
)
QUALITIES = (
    _words("""
    clichés boredom tedium clumsiness dullness silliness stupidity pretension sloppiness vulgarity
    bombast drivel nonsense confusion padding laziness blandness monotony awkwardness hokum
    schmaltz mediocrity self-indulgence contrivance banality
    """),
    _words("""
    charm wit warmth humor grace imagination tenderness intelligence energy beauty passion
    originality suspense excitement heart soul magic insight inspiration depth elegance sparkle
    honesty wonder style
    """),
)
VERBS = (
    _phrases("""
    drags / falls flat / stumbles / bores / disappoints / sputters / misfires / fizzles /
    irritates / collapses / plods along / goes nowhere / annoys / flounders / fails / grates /
    runs out of steam / sinks / flops / falls apart
    """),
    _phrases("""
    soars / shines / sparkles / delights / enchants / charms / dazzles / thrills / works wonders /
    succeeds / triumphs / hits the mark / captivates / excels / impresses / sings / inspires /
    casts a spell / glows / satisfies
    """),
)
VERDICTS = (
    _phrases("""
    disaster / bore / mess / failure / chore / flop / dud / waste of time / slog / letdown
    """),
    _phrases("""
    delight / triumph / gem / treat / joy / success / masterpiece / winner / classic / hit
    """),
)
FEELINGS = (_words("hate dislike despise loathe resent"), _words("love like enjoy adore admire"))
# Of the two wordings only the first is a wish, and only a wish for better sounds natural.
CONDITIONS = (("if only",), ("if",))

# Words that carry none.
FILMS = _words("""
    film movie picture comedy drama thriller romance western documentary sequel remake musical
    biopic fable satire mystery feature production
""")
ASPECTS = _words("""
    plot cast script score ending dialogue pacing acting direction camerawork editing premise
    story screenplay soundtrack humor setting narration finale opening heroine hero villain lead
    performance atmosphere storytelling cinematography
""")
DEGREES = _words("truly really utterly thoroughly consistently simply surprisingly often")
NEGATIONS = _phrases("""
    not at all / anything but / far from / never / by no means / hardly / in no way
""")
LACKING = _phrases("free of / devoid of / without / lacking in / short on / low on / empty of")
FULL = _phrases("full of / rich in / filled with / brimming with / packed with / overflowing with")

PAIRED = {"adj": ADJECTIVES, "noun": QUALITIES, "verb": VERBS, "verdict": VERDICTS}
PAIRED |= {"feel": FEELINGS, "if": CONDITIONS}
NEUTRAL = {"film": FILMS, "part": ASPECTS, "very": DEGREES, "not": NEGATIONS}
NEUTRAL |= {"without": LACKING, "full": FULL}

# In a slot "=" asks for a word of the label's own polarity and "!" for one of the opposite.
CONSTRUCTIONS = {
    "plain": (
        "a {adj=} , {adj=} and {adj=} {film}",
        "a {adj=} {film} that {verb=} again and again",
        "this {film} is {very} {adj=} , and the {part} {verb=}",
        "the {film} is a {verdict=} , {full} {noun=} and {noun=}",
        "i {feel=} this {adj=} {film} and its {adj=} {part}",
        "a {film} whose {part} is {adj=} and whose {part} {verb=}",
        "the {part} is {adj=} , the {part} is {adj=} and the {film} {verb=}",
        "what a {adj=} {verdict=} this {adj=} {film} is",
        "{very} {adj=} and {full} {noun=}",
    ),
    "negation": (
        "the {part} is {not} {adj!} , and the {film} is never {adj!}",
        "this {film} never manages to be {adj!} or {adj!}",
        "a {film} {without} {noun!} , and {not} {adj!}",
        "this {film} is no {verdict!} , and its {part} is {not} {adj!}",
        "i do not {feel!} this {film} , which is {not} {adj!}",
        "{not} {adj!} , and {without} {noun!}",
        "nobody could call this {film} {adj!} or {adj!}",
        "there is nothing {adj!} about this {film} , and its {part} is {not} {adj!}",
    ),
    "contrast": (
        "the {part} is {very} {adj!} , but the {film} {verb=}",
        "the {part} is {adj!} , but the {film} is a {verdict=}",
        "although the {part} is {adj!} , the {film} as a whole is {adj=}",
        "despite its {adj!} {part} , the {film} {verb=}",
        "despite its {adj!} {part} and {adj!} {part} , the {film} is a {verdict=}",
        "the {part} {verb!} , yet the {film} is {very} {adj=}",
        "while the {part} is {full} {noun!} , the {film} is {full} {noun=}",
        "yes , the {part} {verb!} , but in the end this is a {adj=} {film}",
    ),
    "hedge": (
        "a {film} that is almost {adj!} but ultimately {adj=}",
        "i wanted to {feel!} this {film} , but the {part} is {adj=}",
        "it could have been a {verdict!} , {if=} the {part} were not so {adj=}",
        "what looks like a {verdict!} turns out to be a {adj=} {verdict=}",
        "at first it seems {adj!} , but the {film} ends up {very} {adj=}",
        "i expected a {adj!} {verdict!} and got a {adj=} {film}",
    ),
}
# In per cent. More plain sentences would let word counts decide, fewer would leave too little to
# learn from a hundred examples.
SHARES = {"plain": 38, "negation": 20, "contrast": 28, "hedge": 14}
_SLOT = re.compile(r"\{(\w+)([=!]?)\}")
_A_BEFORE_VOWEL = re.compile(r"\ba (?=[aeiou]|honest\b)")


def _fill(template: str, label: int, draw: Callable[[], float]) -> str:
    """Put a word into every slot of ``template``, none of them twice."""
    used = set()

    def word(slot: re.Match[str]) -> str:
        name, side = slot.groups()
        options = PAIRED[name][label if side == "=" else 1 - label] if side else NEUTRAL[name]
        fresh = [option for option in options if option not in used]
        chosen = fresh[int(draw() * len(fresh))]
        used.add(chosen)
        return chosen

    return _A_BEFORE_VOWEL.sub("an ", _SLOT.sub(word, template)) + " ."


def generate(num_sentences: int, seed: int = 0) -> list[tuple[str, int]]:
    """Make distinct sentences with their labels, 0 for negative and 1 for positive.

    The same arguments give the same list on every machine and Python version. Every even number
    of leading sentences is exactly balanced, so any prefix is balanced within one; a longer list
    from the same seed begins with the shorter one.

    Args:
        num_sentences: how many, from 2 to ``MAX_SENTENCES``.
        seed: start of the random stream, 0 or more.

    Returns:
        Sentence and label, in random order.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 2 <= num_sentences <= MAX_SENTENCES:
        raise ValueError(f"num_sentences must lie in [2, {MAX_SENTENCES}], got {num_sentences}")
    if seed < 0:  # random.Random would silently take it for the positive seed
        raise ValueError(f"seed must be 0 or more, got {seed}")
    # Python promises a stable stream for random() only, not for choice() or shuffle().
    draw = random.Random(seed).random
    kinds = [CONSTRUCTIONS[name] for name, share in SHARES.items() for _ in range(share)]
    rows: dict[str, int] = {}
    label = 0
    while len(rows) < num_sentences:
        # Labels come in pairs, one of each in either order.
        label = int(draw() * 2) if len(rows) % 2 == 0 else 1 - label
        while True:
            templates = kinds[int(draw() * len(kinds))]
            sentence = _fill(templates[int(draw() * len(templates))], label, draw)
            if sentence not in rows:
                break
        rows[sentence] = label
    return list(rows.items())


def write_corpus(folder: Path, num_train: int = 10_000, num_dev: int = 872, seed: int = 0) -> None:
    """Write ``train.tsv`` and ``dev.tsv`` in the layout of the official SST-2 download.

    No sentence is in both files, and the labels of each are balanced within one. A file is
    replaced as a whole once it is complete; the default sizes are those of a small training set
    and of the SST-2 development set.

    Args:
        folder: where to write; made if it is not there.
        num_train: sentences in the training file, 2 or more.
        num_dev: sentences in the dev file, 2 or more; ``MAX_SENTENCES`` at most in all.
        seed: passed on to ``generate``.

    Raises:
        ValueError: a size or the seed is out of its range; nothing is written then.
        OSError: the folder cannot be made or a file cannot be written.
    """
    for name, value in (("num_train", num_train), ("num_dev", num_dev)):
        if value < 2:
            raise ValueError(f"{name} must be 2 or more, got {value}")
    start = num_dev + num_dev % 2  # a whole number of pairs, so that train is balanced too
    rows = generate(start + num_train, seed)
    for name, part in (("dev", rows[:num_dev]), ("train", rows[start:])):
        lines = ["sentence\tlabel\n", *(f"{sentence}\t{label}\n" for sentence, label in part)]
        write_text(folder / f"{name}.tsv", "".join(lines))
