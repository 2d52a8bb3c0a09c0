"""The locks that a rehearsed migration took, and how long it held them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..hazards.catalogue import Timing
from ..sql import classify
from ..tracing.trace import LockMode, Relation
from .report import RehearsedMigration


@dataclass(frozen=True, slots=True)
class Held:
    """A lock on an existing table, and the first and last statement during which it is held.

    Attributes:
        first: From 0.
        last: The last statement of the transaction, from 0.
        seconds: From the beginning of the first statement to the commit, without the time of
            the traces; None if it was not measured on a copy with rows.
    """

    relation: Relation
    mode: LockMode
    first: int
    last: int
    seconds: float | None = None


def held(rehearsed: RehearsedMigration) -> tuple[Held, ...]:
    """Return the locks on existing tables, by the time they begin.

    A lock is held to the end of its transaction.
    """
    return tuple(_held(rehearsed))


def timing(rehearsed: RehearsedMigration, limit: float) -> Timing:
    """Return for how long a migration held its blocking locks on a copy; `limit` is in seconds."""
    found: dict[int, dict[int, float]] = {}
    for lock in held(rehearsed):
        if lock.seconds is not None and lock.mode.blocks_writes:
            offset = rehearsed.traced[lock.first].statement.offset
            found.setdefault(offset, {})[lock.relation.oid] = lock.seconds
    return Timing(found, limit)


def _held(rehearsed: RehearsedMigration) -> Iterator[Held]:
    ends = _ends(rehearsed)
    for index, each in enumerate(rehearsed.traced):
        for touch in each.trace.touches:
            mode = touch.mode
            if mode is None or touch.is_ours or not touch.is_stronger:
                continue
            if mode >= LockMode.SHARE_UPDATE_EXCLUSIVE and touch.relation.kind not in "iIt":
                seconds = _seconds(rehearsed, index, ends[index])
                yield Held(touch.relation, mode, index, ends[index], seconds)


def _ends(rehearsed: RehearsedMigration) -> list[int]:
    """Return for each statement the index of the last one in its transaction."""
    ends: list[int] = []
    for unit in rehearsed.step.script.units[rehearsed.step.start_at :]:
        ends += [len(ends) + len(unit.statements) - 1] * len(unit.statements)
    return [min(end, len(rehearsed.traced) - 1) for end in ends]


def _seconds(rehearsed: RehearsedMigration, first: int, last: int) -> float | None:
    usage, each = rehearsed.usage, rehearsed.traced[first]
    # A concurrent command holds strong locks only briefly, and the samples do not tell how long.
    if usage is None or (each.trace.sampled and classify.is_concurrent(each.statement)):
        return None
    commit = usage.commit if rehearsed.step.script.transactional else 0.0
    return sum(e.effort.seconds for e in rehearsed.traced[first : last + 1]) + commit
