"""What happens as JSON for programs: an object an event, and the sum of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..events import (
    Event,
    Noticed,
    Outcome,
    Progressed,
    Remarked,
    Retrying,
    StatementFinished,
    StepFinished,
    StepStarted,
    Traced,
    Waiting,
)
from ..tracing.trace import to_json
from .json import Json, of_step
from .text import line_of


def of_event(event: Event) -> Json:
    """Write an event as an object whose `event` says which it is."""
    match event:
        case StepStarted(step):
            return {"event": "step-started", **of_step(step)}
        case StepFinished(step, seconds):
            return {"event": "step-finished", **of_step(step), "seconds": round(seconds, 6)}
        case StatementFinished(step, statement, seconds, command, rows):
            result = {"command": command, "rows": rows, "seconds": round(seconds, 6)}
            where = {**of_step(step), "line": line_of(statement)}
            return {"event": "statement-finished", **where, **result}
        case Traced(step, statement, trace):
            where = {**of_step(step), "line": line_of(statement)}
            return {"event": "traced", **where, "trace": to_json(trace)}
        case Noticed(step, statement, notice):
            said = {name: getattr(notice, name) for name in notice.__slots__}
            where = {**of_step(step), "line": line_of(statement) if statement else None}
            return {"event": "notice", **where, **said}
        case Progressed(step, statement, seconds, progress):
            where = {**of_step(step), "line": line_of(statement), "seconds": round(seconds, 3)}
            said = {name: getattr(progress, name) for name in progress.__slots__}
            return {"event": "progress", **where, **said}
        case Waiting(what, blockers, seconds):
            waiting = {"for": what, "seconds": round(seconds, 3)}
            return {"event": "waiting", **waiting, "blockers": _backends(blockers)}
        case Retrying(step, attempt, attempts, delay, reason, blockers):
            again = {"attempt": attempt, "attempts": attempts, "delay": round(delay, 3)}
            reasons = {"reason": reason, "blockers": _backends(blockers)}
            return {"event": "retrying", **of_step(step), **again, **reasons}
        case Remarked(text):
            return {"event": "remark", "text": text}


def _backends(backends: Iterable[Any]) -> list[Json]:
    return [{name: getattr(b, name) for name in b.__slots__} for b in backends]


def of_outcome(outcome: Outcome, events: Iterable[Event]) -> Json:
    """Give what a run did: its steps, and the statements and notices of each."""
    details: dict[tuple[str, str], Json] = {}
    for event in events:
        row = of_event(event)
        if "version" not in row:
            continue
        key = (row.pop("version"), row.pop("direction"))
        step = details.setdefault(key, {"seconds": None, "statements": [], "notices": []})
        match row.pop("event"):
            case "statement-finished":
                step["statements"].append(row)
            case "notice":
                step["notices"].append(row)
            case "traced":
                step.setdefault("traces", []).append(row)
            case "step-finished":
                step["seconds"] = row["seconds"]
    steps = [
        {**of_step(s), **details.get((s.version, s.direction.value), {})} for s in outcome.finished
    ]
    return {"steps": steps, "notes": list(outcome.plan.notes)}
