"""Say why a run has stopped: what was refused, what was rolled back, what stays, what to type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import psycopg

from ..errors import (
    CancelledError,
    DatabaseConnectionError,
    LockTimeoutError,
    MigrationFileError,
    MigratorError,
    ScratchError,
    StatementError,
    TakenError,
)
from ..events import Backend
from ..model import Direction, Step
from ..postgres import connection
from ..postgres.inflight import Field, RefusedError
from ..sql.script import Statement
from . import diagnosis, recovery
from .messages import Context, Purpose, Tag

_LOG_LIMIT = "set local lock_timeout = '2s'"
_TAKEN = {Direction.UP: "23505", Direction.DOWN: "22012"}  # unique_violation, division_by_zero


def stop_if_interrupted(context: Context, step: Step | None = None) -> None:
    """Raise if a signal has arrived.

    Raises:
        CancelledError: It says what was done before.
    """
    if context.interrupts.signal:
        raise cancelled(context, step)


def of_refusal(
    context: Context, refused: RefusedError[Tag], attempt: int, blockers: tuple[Backend, ...]
) -> MigratorError:
    """Make the error of a run that the server, the network or the user stopped; log it.

    Args:
        attempt: The try that failed, from 1.
        blockers: Who was seen in the way.
    """
    tag, fields = refused.tag, refused.fields
    if context.conn.closed:
        return _lost(context, tag.step, fields)
    if context.interrupts.signal:
        return cancelled(context, tag.step)
    step = tag.step
    if refused.cause:
        return _unreadable(context, step, refused.cause)
    if tag.purpose is Purpose.CLAIM and fields.get(Field.SQLSTATE) == _TAKEN[step.direction]:
        return TakenError(f"another runner has dealt with {step.version} meanwhile")
    if tag.purpose is Purpose.GUARD:
        return of_shared(step)
    if tag.purpose is Purpose.VALID and tag.statement:
        return of_invalid_index(context, step, tag.statement)
    error = _failed(context, tag, fields)
    if isinstance(error, LockTimeoutError):
        error.detail = error.detail or "\n".join(f"held up by {each}" for each in blockers) or None
        error.outcome = f"Tries used up: {attempt}. {error.outcome}"
    return error


def _unreadable(context: Context, step: Step, cause: MigrationFileError) -> MigrationFileError:
    """Make the error of a step whose file was another one when its data were to be sent; log it."""
    log(context, step, None, cause.message)
    cause.detail = f"{_undone(step)} {_stays(context)}"
    if step.start_at or not step.script.transactional:
        cause.hint = f"put what has run back as it was, then run: migrator {step.direction}"
    else:
        cause.hint = f"leave the file as it is to be, then run: migrator {step.direction}"
    return cause


def _lost(context: Context, step: Step, fields: Mapping[Field, str]) -> MigratorError:
    """Say that nobody knows what became of a step: the server's last word is missing."""
    reason = " ".join(fields.get(Field.MESSAGE_PRIMARY, "").split())
    look = "see whether it was committed with: migrator status"
    if context.interrupts.signal:
        return CancelledError(
            f"interrupted, and the server did not say what became of {step.version}: {reason}",
            detail=_stays(context),
            hint=f"it may still be at work; {look}",
            signal=context.interrupts.signal,
        )
    return DatabaseConnectionError(
        f"the connection was lost while {step.version} was under way: {reason}",
        detail=_stays(context),
        hint=look,
    )


def of_shared(step: Step) -> ScratchError:
    """Make the error of a step that would change the server on which it is only rehearsed."""
    return ScratchError(
        f"{step.version} changes what all databases of the server share: roles, databases, "
        "tablespaces, their settings, or subscriptions",
        hint="rehearse on another server: --scratch-url URL, such as --scratch-url embedded:",
    )


def of_invalid_index(context: Context, step: Step, statement: Statement) -> MigratorError:
    """Make the error of a CREATE INDEX IF NOT EXISTS whose index exists and serves nobody."""
    name, table = recovery.created_if_absent(statement) or ("", "")
    schema, dot, _ = table.rpartition(".")
    index = schema + dot + (name if re.fullmatch("[a-z_][a-z0-9_$]*", name) else f'"{name}"')
    message = f"the index {index} exists, but it is invalid: PostgreSQL skipped the statement"
    hint = f"drop it, then go on: drop index concurrently {index};"
    fields = {Field.MESSAGE_PRIMARY: message, Field.MESSAGE_HINT: hint}
    return _failed(context, Tag(step, Purpose.STATEMENT, statement), fields)


def _failed(context: Context, tag: Tag, fields: Mapping[Field, str]) -> StatementError:
    at_end = tag.purpose in (Purpose.CHECK, Purpose.COMMIT, Purpose.LAST)
    error = (
        diagnosis.statement_error(fields, tag.step, tag.statement, "")
        if tag.statement or at_end
        else diagnosis.own_error(fields, tag.step, "")
    )
    log(context, tag.step, error.sqlstate, error.message)
    undone = _undone(tag.step)
    if tag.purpose in (Purpose.SETUP, Purpose.CLAIM) and not tag.step.script.transactional:
        undone = f"Nothing more of {tag.step.version} was run."
    error.outcome = f"{undone} {_stays(context)}"
    return error


def cancelled(context: Context, step: Step | None) -> CancelledError:
    """Make the error of a run that the user stopped, in a step or between two; log it."""
    if step and not context.conn.closed:
        log(context, step, None, "interrupted")
    return CancelledError(
        "interrupted",
        detail=f"{_undone(step)} {_stays(context)}".strip(),
        hint="see what is left with: migrator status"
        if step and step.direction is Direction.DOWN
        else "go on with: migrator up",
        signal=context.interrupts.signal or 0,
    )


def _undone(step: Step | None) -> str:
    if step is None:
        return ""
    if step.script.transactional:
        return f"{step.version} was rolled back whole."
    return f"{step.version} stops at this step; the steps before it are done and recorded."


def _stays(context: Context) -> str:
    if not context.finished:
        return "Nothing else was changed in this run."
    flushed = [step for step in context.finished if step not in context.unflushed]
    parts = (
        *_told("Applied in this run, and stays", flushed, Direction.UP),
        *_told("Reverted in this run", flushed, Direction.DOWN),
        *_told("Committed, but perhaps not on disk if the server crashed", context.unflushed, None),
    )
    return " ".join(parts)


def _told(what: str, steps: Sequence[Step], direction: Direction | None) -> Iterator[str]:
    versions = [step.version for step in steps if direction in (None, step.direction)]
    if versions:
        yield f"{what}: {', '.join(versions)}."


def log(context: Context, step: Step, sqlstate: str | None, message: str) -> None:
    """Add a failure to the log; the failure itself matters more than that it is logged."""
    if not context.is_logged:
        return
    text, parameters = context.recorder.log(
        step.version, step.direction, "failed", sqlstate=sqlstate, message=message
    )
    with suppress(psycopg.Error):
        connection.forget(context.conn)  # it may have left the session as another role
        with connection.writing(context.conn):
            context.conn.execute(_LOG_LIMIT)
            connection.send(context.conn, text, parameters)
        context.unflushed.clear()  # this commit has waited for the disk
