"""Results as JSON for programs: the keys are stable, and documented in the README."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import BlockedError, MigratorError
from ..model import Entry, Plan, Step
from .text import reversible

if TYPE_CHECKING:
    from ..history.overview import LogEntry, Overview

Json = dict[str, Any]


def of_step(step: Step) -> Json:
    """Give what tells a step from the others: version and direction."""
    return {"version": step.version, "direction": step.direction.value}


def of_plan(plan: Plan) -> Json:
    """Give a plan: each step with its file and its statements."""
    steps = [
        {
            **of_step(step),
            "path": str(step.script.path),
            "transactional": step.script.transactional,
            "statements": [
                s.text for unit in step.script.units[step.start_at :] for s in unit.statements
            ],
        }
        for step in plan.steps
    ]
    return {"steps": steps, "notes": list(plan.notes), "dry_run": True}


def of_nothing(plan: Plan) -> Json:
    """Give a run that had nothing to do."""
    return {"steps": [], "notes": list(plan.notes)}


def of_status(overview: Overview) -> Json:
    """Give all that `status` knows."""
    return {
        "database": overview.database,
        "server_version": overview.server_version,
        "schema": overview.schema,
        "current": overview.is_current,
        "versions": [_entry(entry) for entry in overview.entries],
    }


def _entry(entry: Entry) -> Json:
    applied = entry.applied
    at = applied.applied_at if applied else None
    return {
        "number": entry.number,
        "version": entry.version,
        "name": entry.version.partition("_")[2],
        "state": entry.status.value,
        "reformatted": entry.reformatted,
        "applied_at": at.isoformat() if at else None,
        "applied_by": applied.applied_by if applied else None,
        "duration_ms": applied.duration_ms if applied else None,
        "reversible": reversible(entry) != "no file",
    }


# The log


def of_log(rows: Iterable[LogEntry]) -> list[Json]:
    """Give the log, an object a row."""
    columns = [{name: getattr(row, name) for name in row.__slots__} for row in rows]
    return [{**row, "logged_at": row["logged_at"].isoformat()} for row in columns]


def of_error(error: MigratorError) -> Json:
    """Give an error with its code; of several, each."""
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
    for name in ("version", "sqlstate", "server_hint", "context", "outcome"):
        if hasattr(error, name):
            row[name] = getattr(error, name)
    if isinstance(error, BlockedError):
        row["errors"] = [of_error(each) for each in error.errors]
    return row
