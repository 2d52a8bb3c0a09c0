"""The plan file that `rehearse --save` writes and `up --plan` reads."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PlanChangedError, UsageError
from ..events import Outcome
from ..model import Plan, Step, is_repeatable
from ..postgres import connection
from ..session import Session
from ..tracing.trace import LockMode, Touch, Trace, from_json, names_before, to_json
from .report import RehearsedMigration, Report

_FORMAT = 2
_LONGEST = 64 << 20  # bytes
# As PostgreSQL quotes it: the name becomes a part of a LOCK TABLE.
_TABLE = re.compile(r"""(?:(?:^|\.)(?:[a-z_][a-z0-9_]*|"(?:[^"]|"")+")){2}""")


@dataclass(frozen=True, slots=True)
class Target:
    """The database that was rehearsed for; `system` is its server's identifier, None if unknown."""

    database: str
    system: str | None

    def __str__(self) -> str:
        return f'database "{self.database}" of the system {self.system or "(unknown)"}'


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step as it was rehearsed.

    Attributes:
        checksum: Of the up file.
        down: The checksum of the down file; None without one.
        locks: The tables that can be locked before the step starts, and in which mode, by name.
        traces: What each statement did, in order.
    """

    version: str
    checksum: str
    down: str | None
    locks: tuple[tuple[str, LockMode], ...]
    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class RehearsedPlan:
    """A plan file: the history that it starts from, as version and checksum, and the steps.

    Attributes:
        target: None if it may be run on any database.
    """

    target: Target | None
    history: tuple[tuple[str, str], ...]
    steps: tuple[PlannedStep, ...]

    @property
    def locks(self) -> dict[str, list[tuple[str, str]]]:
        """The tables and lock modes of each version, both as SQL writes them."""
        return {
            step.version: [(name, mode.sql) for name, mode in step.locks] for step in self.steps
        }

    def check_target(self, target: Target) -> None:
        """Check that a plan was rehearsed for a database.

        Raises:
            PlanChangedError: It was rehearsed for another one.
        """
        if self.target and self.target != target:
            raise PlanChangedError(
                "the plan was rehearsed for another database; nothing was run",
                detail=f"rehearsed for: {self.target}\nconnected to:  {target}",
                hint="rehearse on this one: migrator rehearse --save FILE\n"
                "or, if both have the same schema: --plan-of-another",
            )

    def check(self, plan: Plan) -> None:
        """Check that a plan is the one that was rehearsed.

        Steps that have been applied since may be missing, so that an interrupted run can resume.

        Raises:
            PlanChangedError: Files or history have changed since the rehearsal.
        """
        if changes := tuple(self._changes(plan)):
            raise PlanChangedError(
                "files or history have changed since the plan was rehearsed; nothing was run",
                detail="\n".join(changes),
                hint="rehearse again: migrator rehearse --save FILE",
            )

    def _changes(self, plan: Plan) -> Iterator[str]:
        rehearsed = {step.version: step for step in self.steps}
        # A repeatable file is in both: with its old text, and with the one that was rehearsed.
        known = {*self.history, *((step.version, step.checksum) for step in self.steps)}
        versions = {version for version, _ in known}
        applied = dict(_history(plan))
        for version, checksum in applied.items():
            if version not in versions:
                yield f"{version} has been applied since, and was not rehearsed"
            elif (version, checksum) not in known:
                yield f"{version} has been applied since, with different content"
        for step in plan.steps:
            if step.version not in rehearsed:
                yield f"{step.version} is pending, but was not rehearsed to the end"
                continue
            if rehearsed[step.version].checksum != _checksum(step):
                yield f"the up file of {step.version} has been edited since"
            if not is_repeatable(step.version) and (
                rehearsed[step.version].down != _down_checksum(step)
            ):
                yield f"the down file of {step.version} has been edited since"
        gone = (v for v, _ in self.history if v not in applied and not is_repeatable(v))
        yield from (f"{version} has been reverted since" for version in gone)
        present = applied.keys() | {e.version for e in plan.entries if e.migration}
        present |= {each.name for each in plan.repeatables if each.migration}
        yield from (f"the file of {v} is missing" for v in rehearsed if v not in present)


def dump(report: Report, plan: Plan, target: Target) -> str:
    """Return the text of the plan file of a rehearsal."""
    return (
        json.dumps(
            {
                "format": _FORMAT,
                "database": target.database,
                "system": target.system,
                "history": _history(plan),
                "steps": [
                    {
                        "version": each.step.version,
                        "checksum": _checksum(each.step),
                        "down": _down_checksum(each.step),
                        "locks": _locks(each),
                        "traces": [to_json(trace) for trace in _traces(each)],
                    }
                    for each in report.migrations
                    if not each.error
                ],
            },
            indent=1,
        )
        + "\n"
    )


def _traces(rehearsed: RehearsedMigration) -> Iterator[Trace]:
    """Yield a trace for each statement; an empty one for what an interrupted run had finished."""
    known = {each.statement.offset: each.trace for each in rehearsed.traced}
    for unit in rehearsed.step.script.units:
        for statement in unit.statements:
            yield known.get(statement.offset, Trace())


def _locks(rehearsed: RehearsedMigration) -> list[tuple[str, str]]:
    """Return the locks to take first; none without a transaction that could hold them."""
    if not rehearsed.step.script.transactional:
        return []
    return [(name, mode.sql) for name, mode in _strong_locks(e.trace for e in rehearsed.traced)]


def _strong_locks(traces: Iterable[Trace]) -> tuple[tuple[str, LockMode], ...]:
    """Return the locks of a script that can be taken before it starts, by table.

    These are the locks from SHARE UPDATE EXCLUSIVE up on existing tables, as LOCK TABLE takes
    tables only, each in the strongest mode of the script and under the name before the script.
    """
    traces = tuple(traces)
    names, modes = names_before(traces), dict[int, LockMode]()
    for touch in (touch for trace in traces for touch in trace.touches):
        oid = touch.relation.oid
        if touch.mode and not touch.is_ours and touch.relation.kind in "rp":
            modes[oid] = max(touch.mode, modes.get(oid, touch.mode))
    strong = LockMode.SHARE_UPDATE_EXCLUSIVE
    return tuple(sorted((names[oid], mode) for oid, mode in modes.items() if mode >= strong))


def target_of(work: Session) -> Target:
    """Ask which database a command works with."""
    with connection.reported():
        return Target(work.conn.info.dbname, connection.system_identifier(work.conn))


def load(path: Path) -> RehearsedPlan:
    """Read a plan file.

    Raises:
        UsageError: It cannot be read, is not a plan file, or one of another version of migrator.
    """
    text = _read(path)
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise UsageError(
                f"{path} was written by another version of migrator",
                hint="rehearse again: migrator rehearse --save FILE",
            )
        return RehearsedPlan(
            target=Target(_text(document["database"]), document["system"]),
            history=tuple((_text(version), _text(sum_)) for version, sum_ in document["history"]),
            steps=tuple(
                PlannedStep(
                    _text(each["version"]),
                    _text(each["checksum"]),
                    each["down"],
                    tuple(_lock(name, mode) for name, mode in each["locks"]),
                    tuple(from_json(trace) for trace in each["traces"]),
                )
                for each in document["steps"]
            ),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a rehearsal plan", hint="create one with: migrator rehearse --save FILE"
        ) from error


def _read(path: Path) -> str:
    """Read a regular file of a sensible size: reading any other might never end."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the plan {path}: {reason}") from error
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot read the plan {path}: it is not a regular file")
        if status.st_size > _LONGEST:
            raise UsageError(f"cannot read the plan {path}: it is larger than {_LONGEST >> 20} MiB")
        try:
            return opened.read(_LONGEST).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the plan {path}: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _lock(table: Any, mode: str) -> tuple[str, LockMode]:
    if not _TABLE.fullmatch(_text(table)):
        raise ValueError(table)
    return table, LockMode[mode.replace(" ", "_")]


def differences(plan: RehearsedPlan, outcome: Outcome) -> Iterator[str]:
    """Say, in sentences, which locks and rewrites of a run differ from its rehearsal."""
    for step in plan.steps:
        if seen := outcome.traces.get(step.version):
            yield from _step_differences(step, seen)


def _step_differences(rehearsed: PlannedStep, seen: Mapping[int, Trace]) -> Iterator[str]:
    """Compare a step with its rehearsal.

    The rehearsed locks are taken before the step, so only additional ones are in its traces.

    Args:
        seen: By the number of the statement in its script, from 0; statements that an earlier
            run finished are missing.
    """
    known = dict(_strong_locks(rehearsed.traces))
    real_names = names_before(trace for _, trace in sorted(seen.items()))
    planned_names = names_before(rehearsed.traces)
    for index, real in sorted(seen.items()):
        place = f"{rehearsed.version}, statement {index + 1}"
        planned = rehearsed.traces[index] if index < len(rehearsed.traces) else Trace()
        for name, mode in _blocking_locks(real, real_names):
            if mode > known.get(name, 0):
                known[name] = mode
                yield f"{place}: {mode.sql} on {name} was not rehearsed"
        expected, found = _rewrites(planned, planned_names), _rewrites(real, real_names)
        for name in sorted(found - expected):
            yield f"{place}: a rewrite of {name} was not rehearsed"
        for name in sorted(expected - found):
            yield f"{place}: a rewrite of {name} was rehearsed, but did not happen"


def _blocking_locks(trace: Trace, names: Mapping[int, str]) -> Iterator[tuple[str, LockMode]]:
    """Yield the locks that block writes; none of a sampled trace, which sees some by chance."""
    for touch in () if trace.sampled else trace.touches:
        if touch.mode and touch.mode.blocks_writes and _existed(touch):
            yield names[touch.relation.oid], touch.mode


def _rewrites(trace: Trace, names: Mapping[int, str]) -> set[str]:
    touches = (touch for touch in trace.touches if touch.rewritten and _existed(touch))
    return {names[touch.relation.oid] for touch in touches}


def _existed(touch: Touch) -> bool:
    return not touch.is_ours and touch.relation.kind in "rpm"


def _history(plan: Plan) -> list[tuple[str, str]]:
    rows = (entry.applied for entry in plan.entries)
    return [
        *((row.version, row.checksum) for row in rows if row and not row.interrupted),
        *((each.name, each.applied.checksum) for each in plan.repeatables if each.applied),
    ]


def _down_checksum(step: Step) -> str | None:
    down = step.migration.down if step.migration else None
    return down.checksum if down else None


def _checksum(step: Step) -> str:
    return step.migration.up.checksum if step.migration else ""
