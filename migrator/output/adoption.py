"""What `adopt` shows, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..adoption.adopt import Adoption
from ..adoption.tools import START, Trace
from ..errors import MigratorError, counted

Json = dict[str, Any]


def found_text(found: Sequence[Trace], table: str | None) -> str:
    """Return which tools have a table, of that name if there is one, and what to type."""
    if not found:
        named = f' named "{table}"' if table else ""
        return f"no table of another migration tool{named} was found"
    return "\n".join(line for trace in found for line in _trace_lines(trace))


def _trace_lines(trace: Trace) -> Iterator[str]:
    state = trace.state
    yield f"{trace.tool} in {trace.table}: {_applied(trace)}"
    if state and state.stop:
        yield f"  cannot be taken over now: {state.stop}"
        yield f"  hint: {state.hint}"
    elif trace.dialect:
        yield f"  to take it over: migrator adopt {trace.dialect.name} --files DIR"
    else:
        yield "  its files cannot be converted"
        yield from (f"  {line}" for line in START.splitlines())


def _applied(trace: Trace) -> str:
    if trace.state is None:
        return trace.unread or "not read"
    if trace.state.up_to is not None:
        return f"applied up to {trace.state.up_to}"
    return f"{counted(len(trace.state.rows), 'migration')} applied"


def of_found(found: Iterable[Trace]) -> Json:
    """Return which tools have a table."""
    return {
        "found": [
            {
                "tool": trace.dialect.name if trace.dialect else trace.tool,
                "table": trace.table,
                "can_adopt": trace.dialect is not None,
                "applied": len(trace.state.rows) if trace.state else None,
                "up_to": trace.state.up_to if trace.state else None,
                "problem": trace.state.stop if trace.state else trace.unread,
            }
            for trace in found
        ]
    }


def adopted_text(plan: Adoption, retired: str | None, *, dry_run: bool) -> str:
    """Return what was taken over, or would be."""
    would = "would be " if dry_run else ""
    lines = [f"{migration.version}: {would}recorded as applied" for migration, _ in plan.applied]
    lines += [f"{migration.version}: pending" for migration in plan.pending]
    lines += [f"left out: {error}" for error in plan.left]
    if plan.verified:
        lines.append(f"{counted(plan.verified, 'checksum')} verified")
    lines += [f"note: {note}" for note in plan.notes]
    if plan.is_in_place:
        lines.append(f"the files {would or 'are '}used where they are: {plan.files}")
    else:
        number = counted(len(plan.migrations), "migration")
        lines.append(f"{number} {would}converted into {plan.into}")
    if retired:
        lines.append(f"{plan.table} was renamed to {retired}")
    return "\n".join(lines)


def of_adoption(plan: Adoption, retired: str | None, *, dry_run: bool) -> Json:
    """Return what was taken over, or would be."""
    return {
        "tool": plan.dialect.name,
        "table": str(plan.table),
        "files": str(plan.files),
        "into": str(plan.into),
        "applied": [migration.version for migration, _ in plan.applied],
        "pending": [migration.version for migration in plan.pending],
        "left_out": [_of_problem(error) for error in plan.left],
        "verified": plan.verified,
        "notes": list(plan.notes),
        "retired_to": retired,
        "dry_run": dry_run,
    }


def _of_problem(error: MigratorError) -> Json:
    place = error.location
    return {
        "message": error.message,
        "file": str(place.path) if place else None,
        "line": place.line if place else None,
    }
