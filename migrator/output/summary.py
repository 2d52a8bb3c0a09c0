"""What a rehearsal found, one line for each migration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import counted
from ..rehearsal.report import RehearsedMigration, Report
from ..tracing.trace import LockMode

TITLES = ("migration", "findings", "longest blocking lock")
"""The columns of a summary."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lock on an existing table, and the first and last statement during which it is held.

    Attributes:
        first: From 0.
        last: The last statement of the transaction, from 0.
    """

    relation: str
    mode: LockMode
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Line:
    """One migration of a summary, as text.

    Attributes:
        is_good: Whether nothing is left to decide.
    """

    version: str
    findings: str
    lock: str
    is_good: bool


def summary(report: Report) -> tuple[Line, ...]:
    """Sum up each migration, those that were not rehearsed too."""
    lines = [_line(each) for each in report.migrations]
    lines += [Line(each, "not rehearsed", "", is_good=False) for each in report.not_rehearsed]
    return tuple(lines)


def held(rehearsed: RehearsedMigration) -> tuple[Held, ...]:
    """Return the locks on existing tables, by the time they begin.

    A lock is held to the end of its transaction.
    """
    return tuple(_held(rehearsed))


def _line(rehearsed: RehearsedMigration) -> Line:
    findings = rehearsed.findings
    accepted = sum(each.accepted is not None for each in findings)
    is_open = sum(each.is_open for each in findings)
    notes = len(findings) - accepted - is_open
    parts = (
        "failed" if rehearsed.error else "",
        counted(is_open, "finding") if is_open else "",
        f"{accepted} accepted" if accepted else "",
        counted(notes, "note") if notes else "",
    )
    is_good = not (is_open or rehearsed.error)
    text = ", ".join(filter(None, parts)) or "none"
    return Line(rehearsed.step.version, text, _longest(rehearsed), is_good=is_good)


def _longest(rehearsed: RehearsedMigration) -> str:
    """Name the lock that blocks most: reads before writes, then for the most statements."""
    blocking = [each for each in _held(rehearsed) if each.mode.blocks_writes]
    if not blocking:
        return "none"
    worst = max(blocking, key=lambda each: (each.mode.blocks_reads, each.last - each.first))
    during = counted(worst.last - worst.first + 1, "statement")
    return f"{worst.mode.sql} on {worst.relation}, {during}"


def _held(rehearsed: RehearsedMigration) -> Iterator[Held]:
    ends = _ends(rehearsed)
    for index, each in enumerate(rehearsed.traced):
        for touch in each.trace.touches:
            mode = touch.mode
            if mode is None or touch.is_ours or not touch.is_stronger:
                continue
            if mode >= LockMode.SHARE_UPDATE_EXCLUSIVE and touch.relation.kind not in "iIt":
                yield Held(touch.relation.name, mode, index, ends[index])


def _ends(rehearsed: RehearsedMigration) -> list[int]:
    """Return for each statement the index of the last one in its transaction."""
    ends: list[int] = []
    for unit in rehearsed.step.script.units:
        ends += [len(ends) + len(unit.statements) - 1] * len(unit.statements)
    return [min(end, len(rehearsed.traced) - 1) for end in ends]
