"""Play the rounds of some seeds, one after the other, on a server of one's own."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from tests.conftest import PROJECT, serve

from .rounds import PER_HISTORY, Result, Ring

# An immediate shutdown must lose no commit, so a commit is on the system's own side at once.
_OPTIONS = (
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "autovacuum=off",
)


def rounds(seeds: Iterable[int], package: Path = PROJECT) -> Iterator[Result]:
    """Yield the result of every round."""
    with serve(options=_OPTIONS) as postgres:
        ring = Ring(postgres, package)
        for history, group in groupby(seeds, key=lambda seed: seed // PER_HISTORY):
            course = ring.learn(history)
            for seed in group:
                yield ring.play(course, seed)


def deal(seeds: Iterable[int], hands: int) -> list[list[int]]:
    """Give each hand whole histories in turn; none gets an empty one."""
    dealt: list[list[int]] = [[] for _ in range(hands)]
    groups = groupby(seeds, key=lambda seed: seed // PER_HISTORY)
    for number, (_, group) in enumerate(groups):
        dealt[number % hands] += group
    return [hand for hand in dealt if hand]


def work(seeds: Iterable[int], package: Path, queue: multiprocessing.Queue[Result | None]) -> None:
    """Put the results of all rounds into a queue, and None behind them; a process's whole job."""
    # Terminated, it must leave no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for result in rounds(seeds, package):
            queue.put(result)
    finally:
        queue.put(None)
