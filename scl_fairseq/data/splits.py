"""Stratified draws: how many rows of each class, and which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scl_fairseq.data.stable_random import StableRandom


def allocate(
    total: int, sizes: Mapping[str, int], room: Mapping[str, int] | None = None
) -> dict[str, int]:
    """How many examples of each class, by the largest remainder, at least one each.

    Args:
        total: how many in all.
        sizes: examples of each class whose distribution is followed; its order breaks ties.
        room: examples of each class that can be taken, where they are fewer than ``sizes``.

    Raises:
        ValueError: a class is empty, ``total`` is smaller than the number of classes or larger
            than what there is.
    """
    room = sizes if room is None else room
    empty = [label for label, count in room.items() if count == 0]
    if empty:
        left = " is left" if any(sizes[label] for label in empty) else ""
        raise ValueError(f"no row of class {', '.join(empty)}{left}")
    if not len(sizes) <= total <= sum(room.values()):
        raise ValueError(
            f"cannot draw {total} examples from {sum(room.values())} rows of {len(sizes)} classes"
        )
    # In whole numbers: a quota's remainder in floating point could break a tie either way.
    all_rows = sum(sizes.values())
    share = {label: min(total * sizes[label] // all_rows, room[label]) for label in sizes}
    remainder = {label: total * sizes[label] % all_rows for label in sizes}
    while sum(share.values()) < total:
        with_room = [label for label in sizes if share[label] < room[label]]
        label = max(with_room, key=remainder.__getitem__)
        share[label] += 1
        remainder[label] -= all_rows
    for label in share:
        if share[label] == 0:
            share[max(share, key=share.__getitem__)] -= 1
            share[label] = 1
    return share


def draw_share(ids: Mapping[str, Sequence[int]], share: float, random: StableRandom) -> list[int]:
    """Draw a share of the rows that follows their distribution, at least one of each class.

    Returns:
        The drawn ids, ascending; each class keeps at least one row.

    Raises:
        ValueError: a class has fewer than two rows.
    """
    sizes = {label: len(of_class) for label, of_class in ids.items()}
    for label, size in sizes.items():
        if size < 2:
            raise ValueError(f"{size} rows of class {label}, expected 2 or more to draw dev from")
    room = {label: size - 1 for label, size in sizes.items()}
    wanted = max(len(sizes), int(share * sum(sizes.values()) + 0.5))
    return draw(ids, allocate(min(wanted, sum(room.values())), sizes, room), random)


def draw(
    ids: Mapping[str, Sequence[int]], counts: Mapping[str, int], random: StableRandom
) -> list[int]:
    """Draw ``counts`` ids of each class; the order in which the ids come does not matter.

    Returns:
        The drawn ids, ascending.
    """
    drawn = []
    for label, count in counts.items():
        ordered = sorted(ids[label])
        drawn += [ordered[place] for place in random.sample(len(ordered), count)]
    return sorted(drawn)
