"""Build the error of a run that stopped: what failed and where, what was rolled back, what to do.

PostgreSQL's diagnostics are explained under "Error and Notice Message Fields" in its manual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from ..errors import (
    CancelledError,
    DatabaseConnectionError,
    HistoryError,
    LockTimeoutError,
    MigrationFileError,
    MigratorError,
    ScratchError,
    StatementError,
    TakenError,
    listed,
)
from ..events import Backend, Subject
from ..model import Direction, Step
from ..postgres import connection
from ..postgres.cursor import send
from ..postgres.inflight import Field, RefusedError
from ..sql import classify, names, splitter
from . import advice, first_run
from .advice import NEEDS_NO_TRANSACTION, Advice
from .context import Context
from .place import call_stack, place

if TYPE_CHECKING:
    from ..sql.script import Statement

RETRIED = frozenset(["55P03", "40P01", "40001"])
"""lock_not_available, deadlock_detected, serialization_failure: the next attempt may succeed."""

_OWN_HINTS = {
    "22P05": "the database's encoding lacks this character, and the script is stored in the "
    "database:\nremove it from the file, comments included",
    "25006": "remove READ ONLY from the file: the record is written in its transaction",
    "42P01": "one of the history tables is missing: restore it from a backup",
    "42501": "grant the connecting role all privileges on the tables of the history",
}
_NOT_THE_FILE = "the statement is not in the file: fix what PostgreSQL's message says"
_MEANWHILE = frozenset(["22012", "23502"])  # division_by_zero, not_null_violation
_TAKEN = {Direction.UP: "23505", Direction.DOWN: "22012"}  # unique_violation, division_by_zero
_BY_SCRIPT = frozenset(["42P01", "3F000", "42501", "42703"])
"""undefined_table, invalid_schema_name, insufficient_privilege, undefined_column."""
_AT_THE_END = "deferred constraints are checked at the end of the file"


class NeedsNoTransactionError(StatementError):
    """PostgreSQL does not run the statement in a transaction; it has done nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Everything that the error of a refused statement is made of.

    Attributes:
        fields: PostgreSQL's diagnostics.
        attempts: How many attempts were made; 0 where the statement is not retried.
        blockers: The sessions that blocked the last attempt.
        left: What the statement left half-made, as a sentence; empty for nothing.
        undone: What was rolled back, as a sentence; empty for what is said of a statement.
    """

    context: Context
    subject: Subject
    fields: Mapping[Field, str]
    attempts: int = 0
    blockers: tuple[Backend, ...] = ()
    left: str = ""
    undone: str = ""

    @property
    def step(self) -> Step:
        """The step under way."""
        return self.subject.step

    @property
    def sqlstate(self) -> str | None:
        """PostgreSQL's five-character code; None where the connection broke."""
        return self.fields.get(Field.SQLSTATE)

    @property
    def message(self) -> str:
        """PostgreSQL's message."""
        return self.fields.get(Field.MESSAGE_PRIMARY, "PostgreSQL gave no message")


def of_refused(
    context: Context, refused: RefusedError, attempts: int, blockers: tuple[Backend, ...]
) -> MigratorError:
    """Build and log the error of a run that the server, the network or the user stopped."""
    refusal = Refusal(context, refused.subject, refused.fields, attempts, blockers)
    if context.conn.closed:
        return _lost(refusal)
    if context.interrupts.signal:
        return cancelled(context, refusal.step)
    if refused.cause:
        return _unreadable(refusal, refused.cause)
    return refused.message.on_refusal(refusal)


# Each of these is the `on_refusal` of some message.
def of_statement(refusal: Refusal, hint: str | None = None) -> StatementError:
    """Build the error of a statement of the script.

    Args:
        hint: What to do about it; None for what follows from the SQLSTATE.
    """
    return _statement_error(
        refusal, refusal.subject.statement, hint=hint, context=call_stack(refusal.fields)
    )


def of_trial(refusal: Refusal) -> MigratorError:
    """Build the error of a statement that is retried outside a transaction if it needs that."""
    statement = refusal.subject.statement
    is_query = statement is not None and statement.words[:1] in advice.QUERIES
    if refusal.sqlstate in NEEDS_NO_TRANSACTION and not is_query:
        return NeedsNoTransactionError(refusal.message)
    return of_statement(refusal)


def at_end(refusal: Refusal) -> StatementError:
    """Build the error of what PostgreSQL checks at the end of a transaction."""
    return _statement_error(refusal, None, hint=None, context=_AT_THE_END)


def of_own(refusal: Refusal) -> StatementError:
    """Build the error of a statement of migrator's own inside a migration's transaction."""
    if refusal.sqlstate in _BY_SCRIPT:
        schema = refusal.context.recorder.schema
        if statement := advice.against_history(refusal.step, schema):
            return _of_lost_history(refusal, statement)
    return _own_error(refusal, _undone(refusal.step))


def of_setup(refusal: Refusal) -> StatementError:
    """Build the error of a statement that prepares the session of a no-transaction script."""
    return _own_error(refusal, _not_run(refusal.step))


def of_role(refusal: Refusal) -> StatementError:
    """Build the error of a role that cannot be switched to."""
    step = refusal.step
    role = step.script.options.role or refusal.context.settings.role
    is_missing = refusal.sqlstate == "22023"  # invalid_parameter_value
    reason = "it does not exist" if is_missing else refusal.message
    hint = "check the name in --role NAME or -- migrator: role NAME"
    if refusal.sqlstate == "42501":  # insufficient_privilege
        hint = "make the connecting role a member of it"
    undone = _undone(step) if step.script.transactional else _not_run(step)
    return _own_error(refusal, undone, f'cannot switch to role "{role}": {reason}', hint)


def of_claim(refusal: Refusal) -> MigratorError:
    """Build the error of a version that could not be claimed in the history."""
    step = refusal.step
    if refusal.sqlstate == _TAKEN[step.direction]:
        done = "applied" if step.direction is Direction.UP else "reverted"
        return TakenError(f"another migrator has just {done} {step.version}")
    undone = _undone(step) if step.script.transactional else _not_run(step)
    return _own_error(refusal, undone)


def _of_lost_history(refusal: Refusal, statement: Statement) -> StatementError:
    schema = names.quoted([refusal.context.recorder.schema])
    message = f"the script removes migrator's own history in schema {schema}: {refusal.message}"
    error = _own_error(refusal, _undone(refusal.step), message)
    error.hint = error.hint and advice.of_lost_history(refusal.step, schema)
    error.location, error.excerpt = place({}, refusal.step.script, statement)
    return error


def of_record(refusal: Refusal) -> MigratorError:
    """Build the error of a record that another runner has made meanwhile."""
    if refusal.sqlstate in _MEANWHILE:
        return another_runner(refusal.step)
    return of_own(refusal)


def another_runner(step: Step) -> HistoryError:
    """Build the error of a step that another runner is at work on, or has finished."""
    message = f"another migrator is also running {step.version}: its progress has changed"
    return HistoryError(message, hint="to see what it has done, run: migrator status")


def of_invalid_index(refusal: Refusal) -> StatementError:
    """Build the error of a CREATE INDEX IF NOT EXISTS that skipped an invalid index."""
    statement = refusal.subject.statement
    assert statement is not None, "only a statement of the script creates an index"
    name, table = classify.index_if_not_exists(statement) or ("", "")
    schema = names.read(list(splitter.tokens(table)))[0][:-1]
    index = names.quoted((*schema, name))
    message = f"index {index} exists but is invalid, and PostgreSQL skipped the statement"
    fields = {Field.MESSAGE_PRIMARY: message}
    again = f"after that, run: migrator {refusal.step.direction}"
    hint = f"drop it: drop index concurrently {index};\n{again}"
    return of_statement(Refusal(refusal.context, refusal.subject, fields), hint)


def of_shared(refusal: Refusal) -> ScratchError:
    """Build the error of a rehearsed step that changes what all databases of a server share."""
    return ScratchError(
        f"{refusal.step.version} changes what all databases of the server share: roles, databases, "
        "tablespaces, their settings, or subscriptions",
        hint="rehearse on another server: --scratch-url URL, such as --scratch-url embedded:",
    )


def cancelled(context: Context, step: Step | None) -> CancelledError:
    """Build and log the error of a run that the user stopped.

    Args:
        step: The step that was under way; None between two.
    """
    if step and not context.conn.closed:
        log(context, step, None, "interrupted")
    is_down = step and step.direction is Direction.DOWN
    return CancelledError(
        "interrupted",
        detail=f"{_undone(step, is_cancelled=True) if step else ''} {_kept(context)}".strip(),
        hint="to see the state, run: migrator status" if is_down else "to resume, run: migrator up",
        signal=context.interrupts.signal or 0,
    )


def _unreadable(refusal: Refusal, cause: MigrationFileError) -> MigrationFileError:
    """Build and log the error of a file that changed before its data were sent."""
    context, step = refusal.context, refusal.step
    log(context, step, None, cause.message)
    is_partly_done = step.start_at or not step.script.transactional
    what = "restore what has run" if is_partly_done else "do not change the file during the run"
    return MigrationFileError(
        cause.message,
        location=cause.location,
        detail=f"{_undone(step)} {_kept(context)}",
        hint=f"{what}, then run: migrator {step.direction}",
    )


def _lost(refusal: Refusal) -> MigratorError:
    """Build the error of a step whose outcome is unknown: the server's last answer is missing."""
    context, version = refusal.context, refusal.step.version
    reason = " ".join(refusal.fields.get(Field.MESSAGE_PRIMARY, "").split())
    if context.interrupts.signal:
        return CancelledError(
            f"interrupted, and the server did not report the outcome of {version}: {reason}",
            detail=_kept(context),
            hint="the server may still be working; to see the state, run: migrator status",
            signal=context.interrupts.signal,
        )
    why = _advice(refusal, None).hint  # the server said why it ends the session
    return DatabaseConnectionError(
        f"the connection was lost while {version} was under way: {reason}",
        detail=_kept(context),
        hint=f"{why}\nto see whether it was committed, run: migrator status".lstrip(),
    )


def _statement_error(
    refusal: Refusal, statement: Statement | None, *, hint: str | None, context: str | None
) -> StatementError:
    advised = _advice(refusal, statement)
    hint = (
        hint
        or _busy(refusal)
        or first_run.hint(refusal.context, refusal.step, refusal.sqlstate, statement)
        or advised.with_next_step(refusal.step)
    )
    location, excerpt = place(refusal.fields, refusal.step.script, statement, advised.offset)
    undone = refusal.undone or _undone(refusal.step)
    return _kind(refusal)(
        refusal.message,
        location=location,
        detail=_detail(refusal),
        hint=None if refusal.context.outcome else hint,
        version=refusal.step.version,
        excerpt=excerpt,
        sqlstate=refusal.sqlstate,
        server_hint=refusal.fields.get(Field.MESSAGE_HINT),
        context=context,
        outcome=_outcome(refusal, refusal.message, undone + refusal.left),
    )


def _advice(refusal: Refusal, statement: Statement | None) -> Advice:
    context, step = refusal.context, refusal.step
    role = step.script.options.role or context.settings.role or context.conn.info.user
    dependents = advice.of_dependents(refusal.fields, step, context.repeatables)
    return dependents or advice.of(refusal.fields, step, statement, role=role)


def _own_error(
    refusal: Refusal, undone: str, message: str = "", specific: str | None = None
) -> StatementError:
    message = message or f"migrator's own SQL for {refusal.step.version} failed: {refusal.message}"
    specific = specific or _OWN_HINTS.get(refusal.sqlstate or "", _NOT_THE_FILE)
    hint = _busy(refusal) or f"{specific}\nafter that, run: migrator {refusal.step.direction}"
    return _kind(refusal)(
        message,
        detail=_detail(refusal),
        hint=None if refusal.context.outcome else hint,
        version=refusal.step.version,
        sqlstate=refusal.sqlstate,
        server_hint=refusal.fields.get(Field.MESSAGE_HINT),
        context=call_stack(refusal.fields),
        outcome=_outcome(refusal, message, undone),
    )


def _kind(refusal: Refusal) -> type[StatementError]:
    return LockTimeoutError if refusal.sqlstate in RETRIED else StatementError


def _detail(refusal: Refusal) -> str | None:
    detail = refusal.fields.get(Field.MESSAGE_DETAIL)
    if detail or refusal.sqlstate not in RETRIED or not refusal.blockers:
        return detail
    return "\n  ".join(["blocked by", *map(str, refusal.blockers)])


def _outcome(refusal: Refusal, message: str, undone: str) -> str:
    """Log a failure, and say what was rolled back and what is kept.

    The log's commit waits for the disk, so everything committed before is safe after it.
    """
    context = refusal.context
    if context.outcome:
        return context.outcome
    log(context, refusal.step, refusal.sqlstate, message)
    attempts = refusal.attempts if refusal.sqlstate in RETRIED else 0
    gave_up = f"Gave up after {attempts} attempt{'s' * (attempts > 1)}. " if attempts else ""
    return f"{gave_up}{undone} {_kept(context)}"


def _undone(step: Step, *, is_cancelled: bool = False) -> str:
    is_down = step.direction is Direction.DOWN
    if step.script.transactional and is_down:
        return f"The down script was rolled back; {step.version} is still applied."
    if step.script.transactional:
        return f"{step.version} was rolled back completely."
    script = f"The down script of {step.version}" if is_down else step.version
    statements = "statements and batches" if step.script.options.backfills else "statements"
    if is_cancelled:
        return f"{script} was interrupted; its finished {statements} are recorded."
    return f"{script} stopped at this statement; the {statements} before it are done and recorded."


def _not_run(step: Step) -> str:
    return f"No statement of {step.version} was run."


def _kept(context: Context) -> str:
    if not context.finished:
        return "Nothing else changed in this run."
    flushed = [step for step in context.finished if step not in context.unflushed]
    parts = (
        *_told("Already applied in this run, and kept", flushed, Direction.UP),
        *_told("Reverted in this run", flushed, Direction.DOWN),
        *_told("Committed, but lost if the server has crashed", context.unflushed, None),
    )
    return " ".join(parts)


def _told(what: str, steps: Sequence[Step], direction: Direction | None) -> Iterator[str]:
    versions = [step.version for step in steps if direction in (None, step.direction)]
    if versions:
        yield f"{what}: {listed(versions)}."


def _busy(refusal: Refusal) -> str | None:
    if refusal.sqlstate not in RETRIED:
        return None
    return advice.of_blockers(refusal.blockers, refusal.step)


def log(context: Context, step: Step, sqlstate: str | None, message: str) -> None:
    """Add a failure to the log.  An error in doing so is dropped: the failure matters more."""
    if context.outcome:
        return
    row, took = (step.version, step.direction, "failed"), context.seconds(step)
    text, parameters = context.recorder.log(*row, sqlstate=sqlstate, message=message, seconds=took)
    with suppress(psycopg.Error):
        connection.forget(context.conn)  # the script may have left another role
        with connection.writing(context.conn):
            context.conn.execute("set local lock_timeout = '2s'")
            send(context.conn, text, parameters)
        context.unflushed.clear()  # this commit has waited for the disk
