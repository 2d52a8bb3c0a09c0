"""Put migrations that have no numbers of their own in order, and number them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from ..errors import DirectoryError
from . import texts


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
