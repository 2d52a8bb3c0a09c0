"""Put migrations in order, and number those that have no numbers of their own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from ..errors import DirectoryError
from . import texts
from .dialect import Piece


def by_dependency(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Return names in an order that keeps to what they need, else by name.

    >>> by_dependency({"c": [], "a": ["b"], "b": ["gone"]})
    ['b', 'a', 'c']

    Raises:
        DirectoryError: They need each other.
    """
    sorter = TopologicalSorter({name: set(needs[name]) & needs.keys() for name in sorted(needs)})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = ", ".join(error.args[1])
        raise DirectoryError(f"these migrations depend on each other: {circle}") from error
    names: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        name = ready.pop(0)
        names.append(name)
        sorter.done(name)
    return names


def versions(names: Sequence[str]) -> list[str]:
    """Return versions: the numbers of the names, if they grow in this order; else new ones.

    >>> versions(["3-users", "12-posts"]), versions(["3-users", "1-posts"])
    (['3_users', '12_posts'], ['01_3-users', '02_1-posts'])
    """
    parts = [re.match(r"(?P<number>[0-9]+)[_.-]?(?P<name>.*)", name) for name in names]
    numbers = [int(part["number"]) for part in parts if part]
    if len(numbers) == len(names) and numbers == sorted(set(numbers)):
        return [texts.named(part["number"], part["name"]) for part in parts if part]
    return texts.numbered(names)


def growing(pieces: Sequence[Piece]) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
    """Return pieces in the order of their names, with growing numbers, and notes on new ones.

    Args:
        pieces: In the order of the tool.
    """
    old = [piece.version for piece in pieces]
    new = list(_growing(old))
    notes = tuple(
        f"{one} becomes {other}: numbers have to grow in the order of the files"
        for one, other in zip(old, new, strict=True)
        if one != other
    )
    named = zip(pieces, new, strict=True)
    return tuple(replace(piece, version=version) for piece, version in named), notes


def _growing(versions: Sequence[str]) -> Iterator[str]:
    """Yield versions with growing numbers; those that do not grow are changed.

    >>> list(_growing(["07_a", "07_b", "08_c"]))
    ['07_a', '08_b', '09_c']
    >>> list(_growing(["2024_a", "20240105_b", "20240107_c", "202401071_d", "20240108_e"]))
    ['20240000_a', '20240105_b', '20240107_c', '20240108_d', '20240109_e']
    """
    parts = [version.partition("_") for version in versions]
    digits = [number for number, *_ in parts]
    if any(int(one) > int(other) for one, other in pairwise(digits)):
        # In the order of names, 10 comes before 9, as if 9 were 90.
        width = Counter(map(len, digits)).most_common(1)[0][0]
        digits = [number.ljust(width, "0")[:width] for number in digits]
    last = -1
    for number, (_, _, name) in zip(digits, parts, strict=True):
        last = max(int(number), last + 1)
        yield f"{str(last).zfill(len(number))}_{name}"
