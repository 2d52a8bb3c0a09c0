"""Results and events as JSON for programs; the README documents the keys, which are stable."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import BlockedError, MigratorError
from ..events import (
    Event,
    Losing,
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
from ..model import Entry, Plan, Repeatable, Step
from ..passwords import without_passwords
from ..tracing.trace import to_json
from .text import line_of, reversible

if TYPE_CHECKING:
    from ..history.overview import LogEntry, Overview
    from ..sql.script import Statement

Json = dict[str, Any]


def dumps(document: Json | list[Json], *, indent: int | None = None) -> str:
    r"""Write a document in ASCII, without control characters and passwords.

    >>> dumps({"sql": "alter role r password 'x'"})
    '{"sql": "alter role r password \'****\'"}'
    """
    # JSON need not escape DEL.
    return json.dumps(_hidden(document), indent=indent).replace("\x7f", "\\u007f")


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, dict):
        return {key: _hidden(each) for key, each in value.items()}
    return [_hidden(each) for each in value] if isinstance(value, list | tuple) else value


def of_step(step: Step) -> Json:
    """Return the keys that identify a step."""
    return {"version": step.version, "direction": step.direction.value}


def of_plan(plan: Plan, removed: Iterable[Losing] = ()) -> Json:
    """Return a plan: each step with its file, its statements and what it removes."""
    removed = tuple(removed)
    steps = [
        {
            **of_step(step),
            "path": str(step.script.path),
            "transactional": step.script.transactional,
            "statements": [
                s.text for unit in step.script.units[step.start_at :] for s in unit.statements
            ],
            "losses": [_loss(each) for each in removed if each.step is step],
        }
        for step in plan.steps
    ]
    return {"steps": steps, "notes": list(plan.notes), "dry_run": True}


def of_status(overview: Overview) -> Json:
    """Return all that `status` knows."""
    return {
        "database": overview.database,
        "server_version": overview.server_version,
        "schema": overview.schema,
        "current": overview.is_current,
        "runners": list(overview.runners),
        "versions": [_entry(entry) for entry in overview.entries],
        "repeatables": [_repeatable(each) for each in overview.repeatables],
    }


def _repeatable(repeatable: Repeatable) -> Json:
    applied = repeatable.applied
    return {
        "name": repeatable.name,
        "state": repeatable.status.value,
        "reformatted": repeatable.reformatted,
        "applied_at": applied.applied_at.isoformat() if applied else None,
        "applied_by": applied.applied_by if applied else None,
        "duration_ms": applied.duration_ms if applied else None,
    }


def _entry(entry: Entry) -> Json:
    applied = entry.applied
    at = applied.applied_at if applied else None
    return {
        "number": entry.number,
        "version": entry.version,
        "name": entry.version.partition("_")[2],
        "state": entry.status.value,
        "renamed_to": entry.new_name,
        "reformatted": entry.reformatted,
        "applied_at": at.isoformat() if at else None,
        "applied_by": applied.applied_by if applied else None,
        "duration_ms": applied.duration_ms if applied else None,
        "progress": _fields(applied.progress) if applied and applied.progress else None,
        "reversible": reversible(entry) != "no file",
    }


# The log


def of_log(rows: Iterable[LogEntry]) -> list[Json]:
    """Return the log, one object for each row."""
    return [{**_fields(row), "logged_at": row.logged_at.isoformat()} for row in rows]


def of_error(error: MigratorError) -> Json:
    """Return an error, with its `errors` if there are several."""
    location = error.location
    row: Json = {
        "code": error.code,
        "message": error.message,
        "file": str(location.path) if location else None,
        "line": location.line if location else None,
        "column": location.column if location else None,
        "detail": error.detail,
        "hint": error.hint,
    }
    for name in ("version", "sqlstate", "server_hint", "context", "outcome", "query", "gave"):
        if hasattr(error, name):
            row[name] = getattr(error, name)
    if isinstance(error, BlockedError):
        row["errors"] = [of_error(each) for each in error.errors]
    return row


# Events


def of_event(event: Event) -> Json:
    """Return an event as an object; its `event` says which one."""
    match event:
        case StepStarted(step):
            return {"event": "step-started", **of_step(step)}
        case StepFinished(step, seconds):
            return {"event": "step-finished", **of_step(step), "seconds": round(seconds, 6)}
        case StatementFinished(step, statement, seconds, command, rows, count):
            result = {"command": command, "rows": rows, "count": count}
            took = {"seconds": round(seconds, 6)}
            return {"event": "statement-finished", **_place(step, statement), **result, **took}
        case Traced(step, statement, trace):
            return {"event": "traced", **_place(step, statement), "trace": to_json(trace)}
        case Noticed(step, statement, notice):
            return {"event": "notice", **_place(step, statement), **_fields(notice)}
        case Progressed(step, statement, seconds, progress):
            place = {**_place(step, statement), "seconds": round(seconds, 3)}
            batches = _fields(progress.batches) if progress.batches else None
            return {"event": "progress", **place, **_fields(progress), "batches": batches}
        case Waiting(what, blockers, seconds, lock, relation, statement):
            awaited = {"for": what, "lock": lock, "relation": relation, "line": _line(statement)}
            waiting = {**awaited, "seconds": round(seconds, 3)}
            return {"event": "waiting", **waiting, "blockers": [*map(_fields, blockers)]}
        case Retrying(step, attempt, attempts, delay, reason, blockers):
            again = {"attempt": attempt, "attempts": attempts, "delay": round(delay, 3)}
            reasons = {"reason": reason, "blockers": [*map(_fields, blockers)]}
            return {"event": "retrying", **of_step(step), **again, **reasons}
        case Losing() | Remarked():
            return _announced(event)


def _place(step: Step, statement: Statement | None) -> Json:
    return {**of_step(step), "line": _line(statement)}


def _announced(event: Losing | Remarked) -> Json:
    if isinstance(event, Remarked):
        return {"event": "remark", "text": event.text}
    return {"event": "losing", **of_step(event.step), **_loss(event)}


def _loss(event: Losing) -> Json:
    return {
        "line": line_of(event.statement),
        "text": event.text,
        "rows": event.rows,
        "bytes": event.bytes,
    }


def _line(statement: Statement | None) -> int | None:
    return line_of(statement) if statement else None


def _fields(value: Any) -> Json:
    return {name: getattr(value, name) for name in value.__slots__}


def of_outcome(outcome: Outcome, events: Iterable[Event]) -> Json:
    """Return what a run did: its steps, each with its statements and notices."""
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
            case "losing":
                step.setdefault("losses", []).append(row)
            case "traced":
                step.setdefault("traces", []).append(row)
            case "step-finished":
                step["seconds"] = row["seconds"]
    steps = [
        {**of_step(s), **details.get((s.version, s.direction.value), {})} for s in outcome.finished
    ]
    return {"steps": steps, "notes": list(outcome.plan.notes)}
