"""The file in which a rehearsal keeps its plan, and what `up --plan` reads from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import PlanChangedError, UsageError
from ..events import Outcome
from ..model import Entry, Plan, Step
from ..tracing.trace import LockMode, Touch, Trace, from_json, to_json
from .report import Rehearsed, Report, first_names, strong_locks

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step as it was rehearsed.

    Attributes:
        checksum: Of the up file.
        down: The checksum of the down file; None without one.
        locks: Tables and the modes in which they are locked, by name: what can be taken
            before the step starts.
        traces: What each statement did, in their order.
    """

    version: str
    checksum: str
    down: str | None
    locks: tuple[tuple[str, LockMode], ...]
    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class RehearsedPlan:
    """A plan file: the history that it starts from, as version and checksum, and the steps."""

    history: tuple[tuple[str, str], ...]
    steps: tuple[PlannedStep, ...]

    @property
    def locks(self) -> dict[str, list[tuple[str, str]]]:
        """The tables and lock modes of each version, both as SQL writes them."""
        return {
            step.version: [(name, mode.sql) for name, mode in step.locks] for step in self.steps
        }

    def check(self, entries: Iterable[Entry], plan: Plan) -> None:
        """Compare a plan with the one that was rehearsed.

        What the rehearsed one has already finished may be missing: an interrupted run goes on.

        Raises:
            PlanChangedError: Files or history have changed since.
        """
        found: list[str] = []
        entries = tuple(entries)
        known = {step.version: step.checksum for step in self.steps}
        downs = {step.version: step.down for step in self.steps}
        before = dict(self.history) | known
        applied = dict(_history(entries))
        found += [
            f"{version} was applied since, with another content"
            if version in before
            else f"{version} was applied since, and was not rehearsed"
            for version, checksum in applied.items()
            if before.get(version) != checksum
        ]
        found += [
            f"{step.version} was edited since"
            if step.version in known
            else f"{step.version} is pending, and was not rehearsed to its end"
            for step in plan.steps
            if known.get(step.version) != _checksum(step)
        ]
        found += [
            f"the down of {step.version} was edited since"
            for step in plan.steps
            if step.version in downs and downs[step.version] != _down_checksum(step)
        ]
        found += [f"{v} was taken back since" for v, _ in self.history if v not in applied]
        files = {entry.version for entry in entries if entry.migration}
        found += [f"the file of {v} is gone" for v in known if v not in files | applied.keys()]
        if found:
            raise PlanChangedError(
                "files or history have changed since the plan was rehearsed; nothing was run",
                detail="\n".join(found),
                hint="rehearse again: migrator rehearse --save FILE",
            )


def dump(report: Report, entries: Iterable[Entry]) -> str:
    """Write the plan file of a rehearsal."""
    return (
        json.dumps(
            {
                "format": _FORMAT,
                "database": report.database,
                "history": _history(entries),
                "steps": [
                    {
                        "version": each.step.version,
                        "checksum": _checksum(each.step),
                        "down": _down_checksum(each.step),
                        "locks": _locks(each),
                        "traces": [to_json(one.trace) for one in each.traced],
                    }
                    for each in report.migrations
                    if not each.error
                ],
            },
            indent=1,
        )
        + "\n"
    )


def _locks(rehearsed: Rehearsed) -> list[tuple[str, str]]:
    """Return what can be taken at once: there is no one place outside a transaction."""
    if not rehearsed.step.script.transactional:
        return []
    return [(name, mode.sql) for name, mode in strong_locks(e.trace for e in rehearsed.traced)]


def load(text: str, path: str) -> RehearsedPlan:
    """Read a plan file.

    Raises:
        UsageError: It is none, or one of another version of this tool.
    """
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise UsageError(f"{path} has a format of another version of migrator")
        return RehearsedPlan(
            history=tuple((version, checksum) for version, checksum in document["history"]),
            steps=tuple(
                PlannedStep(
                    each["version"],
                    each["checksum"],
                    each["down"],
                    tuple((name, LockMode[mode.replace(" ", "_")]) for name, mode in each["locks"]),
                    tuple(from_json(trace) for trace in each["traces"]),
                )
                for each in document["steps"]
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no plan of a rehearsal", hint="make one with: migrator rehearse --save FILE"
        ) from error


def differences(plan: RehearsedPlan, outcome: Outcome) -> Iterator[str]:
    """Say in which locks and rewrites a run differed from its rehearsal, as sentences."""
    for step in plan.steps:
        if seen := outcome.traces.get(step.version):
            yield from step_differences(step, seen)


def step_differences(rehearsed: PlannedStep, seen: Mapping[int, Trace]) -> tuple[str, ...]:
    """Say in which locks and rewrites a run differed from its rehearsal, as sentences.

    A lock that was rehearsed is taken beforehand, so that only further ones are to be seen.

    Args:
        seen: By the number of the statement in its script, from 0; what an earlier run has
            finished is missing.
    """
    known = dict(strong_locks(rehearsed.traces))
    real_names = first_names(trace for _, trace in sorted(seen.items()))
    planned_names = first_names(rehearsed.traces)
    lines: list[str] = []
    for index, real in sorted(seen.items()):
        place = f"{rehearsed.version}, statement {index + 1}"
        planned = rehearsed.traces[index] if index < len(rehearsed.traces) else Trace()
        for name, mode in _blocking(real, real_names):
            if mode > known.get(name, 0):
                known[name] = mode
                lines.append(f"{place}: {mode.sql} on {name} was not rehearsed")
        expected, found = _rewrites(planned, planned_names), _rewrites(real, real_names)
        lines += [f"{place}: a rewrite of {n} was not rehearsed" for n in sorted(found - expected)]
        lines += [
            f"{place}: a rewrite of {name} was rehearsed, and did not happen"
            for name in sorted(expected - found)
        ]
    return tuple(lines)


def _blocking(trace: Trace, names: Mapping[int, str]) -> Iterator[tuple[str, LockMode]]:
    """Give the locks that block somebody; what was sampled shows some of them by chance only."""
    for touch in () if trace.sampled else trace.touches:
        if touch.mode and touch.mode.blocks_writes and _was_there(touch):
            yield names[touch.relation.oid], touch.mode


def _rewrites(trace: Trace, names: Mapping[int, str]) -> set[str]:
    touches = (touch for touch in trace.touches if touch.rewritten and _was_there(touch))
    return {names[touch.relation.oid] for touch in touches}


def _was_there(touch: Touch) -> bool:
    return not touch.is_ours and touch.relation.kind in "rpm"


def _history(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    rows = (entry.applied for entry in entries)
    return [(row.version, row.checksum) for row in rows if row and not row.under_way]


def _down_checksum(step: Step) -> str | None:
    down = step.migration.down if step.migration else None
    return down.checksum if down else None


def _checksum(step: Step) -> str:
    return step.migration.up.checksum if step.migration else ""
