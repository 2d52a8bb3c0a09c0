"""Run candidates in turn, again and again, and compare their medians."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum

from .measure import Program, ProgramFailedError, Sample, run, typical

Entrant = Callable[[], AbstractContextManager[Program]]
"""Make all ready for one run, give the program, and clear up after it."""


class Measure(StrEnum):
    """What is compared."""

    TIME = "time"
    PEAK = "peak memory"
    ROUND_TRIPS = "round trips"
    SPEED = "MB/s"


@dataclass(frozen=True, slots=True)
class Target:
    """What a candidate is to reach.

    Attributes:
        reference: The candidate that it is divided by; None for what is absolute.
        bound: The most; of a speed, the least.
        size: What to divide by: bytes, for memory and speed.
    """

    candidate: str
    reference: str | None
    bound: float
    measure: Measure = Measure.TIME
    size: int = 1


@dataclass(frozen=True, slots=True)
class Contest:
    """One workload, its candidates, and what is to be reached."""

    name: str
    entrants: Mapping[str, Entrant]
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a contest came to.

    Attributes:
        samples: The medians, by candidate.
        failed: Why a candidate has none.
    """

    contest: Contest
    samples: Mapping[str, Sample]
    failed: Mapping[str, str] = field(default_factory=dict)

    def value(self, target: Target) -> float | None:
        """Give what a target speaks of; None if one of its candidates failed."""
        ours = self.samples.get(target.candidate)
        theirs = self.samples.get(target.reference) if target.reference else None
        if ours is None or (target.reference and theirs is None):
            return None
        if target.measure is Measure.SPEED:
            return target.size / ours.seconds / 1e6
        if target.measure is Measure.PEAK:
            return ours.peak / (theirs.peak if theirs else target.size)
        return ours.seconds / (theirs.seconds if theirs else 1)


def hold(contest: Contest, rounds: int) -> Result:
    """Run every candidate once a round, each round beginning with another one."""
    samples: dict[str, list[Sample]] = {name: [] for name in contest.entrants}
    failed: dict[str, str] = {}
    for name in _in_turn(tuple(contest.entrants), rounds):
        if name in failed:
            continue
        try:
            with contest.entrants[name]() as program:
                samples[name].append(run(program))
        except ProgramFailedError as error:
            failed[name] = str(error)
    medians = {n: typical(taken) for n, taken in samples.items() if taken and n not in failed}
    return Result(contest, medians, failed)


def _in_turn(names: tuple[str, ...], rounds: int) -> Iterator[str]:
    for number in range(rounds):
        start = number % len(names)
        yield from (*names[start:], *names[:start])
