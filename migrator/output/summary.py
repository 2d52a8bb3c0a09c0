"""What a rehearsal found, one line for each migration."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import counted, duration
from ..rehearsal.locks import Held, held
from ..rehearsal.report import RehearsedMigration, Report

TITLES = ("migration", "findings", "longest blocking lock")
"""The columns of a summary."""


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
    """Name the lock that blocks most: reads before writes, then for the longest time."""
    blocking = [each for each in held(rehearsed) if each.mode.blocks_writes]
    if not blocking:
        return "none"
    worst = max(blocking, key=_weight)
    during = counted(worst.last - worst.first + 1, "statement")
    time = during if worst.seconds is None else duration(worst.seconds)
    return f"{worst.mode.sql} on {worst.relation.name}, {time}"


def _weight(lock: Held) -> tuple[float, bool, int]:
    """Weigh a lock by its time, or, where it was not measured, by what it blocks."""
    return (lock.seconds or 0.0, lock.mode.blocks_reads, lock.last - lock.first)
