"""Run a migration in one transaction, together with its record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from psycopg import sql

from ..errors import MigratorError
from ..events import Subject
from ..files import copydata
from ..history.recorder import Command
from ..model import Direction, Step
from ..planning import repeatables
from ..postgres import connection, settings
from ..postgres.inflight import Answer, Message
from ..sql import classify, effects
from ..sql.script import Statement, Unit
from ..tracing import probe
from . import batch, conditions, failure
from .context import Context
from .retry import Attempt, Piece, Recovered, lock_timeout, run

_FORGETTING = (("deallocate",), ("discard",))  # they remove the tracer's prepared statement, too
_FEW = 100  # statements of a script
# Deferred constraints are checked before the commit, while an error can still name the file.
_CHECK_DEFERRED = "set constraints all immediate"
_SET_ROLE = "select pg_catalog.set_config('role', $1, {is_local})"
_LOCK = """
begin
    if pg_catalog.has_table_privilege({name}, 'update, delete, truncate') then
        lock table only {table} in {mode} mode nowait;
    end if;
end
"""
# A change of roles, databases, tablespaces, their settings or subscriptions holds these locks
# until the commit.  Every CREATE TABLE locks pg_shdepend (1214).
_FAIL_IF_SHARED = b"""
select 1 / (
    not exists (
        select
        from pg_catalog.pg_locks
        where pid = pg_catalog.pg_backend_pid()
          and locktype = 'relation'
          and database = 0
          and relation <> 1214
          and mode not in ('AccessShareLock', 'RowShareLock')
    )
)::integer
"""
# An index of a partitioned table is rightly invalid until its partitions have theirs.
# It runs under the script's search path, which finds the table.
_INVALID = """
select
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) i.indexrelid
where not i.indisvalid
  and c.relkind operator(pg_catalog.=) 'i'
  and c.relname operator(pg_catalog.=) {name}
  and c.relnamespace operator(pg_catalog.=) (
      select relnamespace
      from pg_catalog.pg_class
      where oid operator(pg_catalog.=) pg_catalog.to_regclass({table})::pg_catalog.oid
  )
"""
_FAIL_IF_INVALID = (
    f"select 1 operator(pg_catalog./) (not exists ({_INVALID.format(name='$1', table='$2')}))"
    "::integer".encode()
)


class Transaction(Piece):
    """A migration that is one transaction.

    Attributes:
        waits: Whether the commit waits for the disk.  The flush of a later commit makes the
            earlier ones durable as well, so only the last one of a run has to wait.
        in_batches: Whether many INSERTs go in one message.
    """

    def __init__(self, context: Context, step: Step, *, waits: bool, in_batches: bool) -> None:
        super().__init__(context, step)
        self.waits, self.in_batches = waits, in_batches

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Yield the complete transaction: the claim of the version, the work, the record."""
        context, step = self.context, self.step
        (unit,) = step.script.units
        yield begin(step, unit, attempt)
        yield from set_limits(context, step, unit, attempt)
        yield claim(context, step)
        yield from set_role(context, step)
        yield from take_locks(context, step)
        yield from conditions.required(context, step)
        yield from run_statements(self, unit.statements, attempt, in_batches=self.in_batches)
        yield check_deferred(step)
        yield from conditions.ensured(context, step)
        yield self._reset_session()
        yield from guard(context, step)
        yield from record_end(context, step, attempt)
        on_answer = attempt.finished if self.waits else attempt.finished_unflushed
        yield commit(step, on_answer)

    def recover(self) -> Recovered:
        """Reset the session: a statement may have left a role or settings."""
        with connection.reported():
            connection.forget(self.context.conn)
        return Recovered.RUN_AGAIN

    def postponed(self, sqlstate: str | None) -> Piece | None:
        """Return the same transaction to run as the last one, if it may succeed there."""
        if not repeatables.may_succeed_later(self.step, sqlstate):
            return None
        return Transaction(self.context, self.step, waits=True, in_batches=self.in_batches)

    def without_batches(self) -> Piece:
        """Return the same transaction, with every statement in a message of its own."""
        return Transaction(self.context, self.step, waits=self.waits, in_batches=False)

    def _reset_session(self) -> Message:
        """Undo what the script has set: neither the record nor the next migration may see it."""
        first, *more = connection.FORGET
        own = {**settings.OWN, "lock_timeout": str(lock_timeout(self.context, self.step))}
        if not self.waits:
            own["synchronous_commit"] = "off"
        more.append(f"select {set_config(own, is_local=True)}".encode())
        return ours(self.step, (first, ()), more=tuple(more))


class Trial(Piece):
    """A migration's transaction up to its commit, left open and without a record."""

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Give the transaction; its lock timeout holds, whatever the script sets."""
        context, step = self.context, self.step
        (unit,) = step.script.units
        yield begin(step, unit, attempt)
        yield from set_limits(context, step, unit, attempt)
        yield from set_role(context, step)
        yield from conditions.required(context, step)
        for message in run_statements(self, unit.statements, attempt):
            yield message
            if message.on_answer == attempt.ran:
                yield ours(step, f"set local lock_timeout = {lock_timeout(context, step)}")
        yield check_deferred(step)
        yield from conditions.ensured(context, step)
        yield ours(step, "reset role", on_answer=attempt.left_open)

    def recover(self) -> Recovered:
        """Reset the session."""
        with connection.reported():
            connection.forget(self.context.conn)
        return Recovered.RUN_AGAIN


def try_out(context: Context, step: Step) -> None:
    """Run a transactional step up to its commit, and leave its transaction open, unrecorded.

    Raises:
        MigratorError: As `retry.run`; the transaction was rolled back.
    """
    run(context, [Trial(context, step)])


# The messages around a migration's statements, as a no-transaction script uses them too


def ours(
    step: Step,
    command: Command | str,
    on_refusal: Callable[[Any], MigratorError] = failure.of_own,
    *,
    on_answer: Callable[[Answer], None] | None = None,
    asks: bool = False,
    more: tuple[bytes, ...] = (),
) -> Message:
    """Make the message of a statement of migrator's own."""
    text, parameters = (command.encode(), ()) if isinstance(command, str) else command
    return Message(Subject(step), text, on_refusal, on_answer, parameters, asks=asks, more=more)


def begin(step: Step, unit: Unit, attempt: Attempt | None = None) -> Message:
    """Begin a unit's transaction: with the file's own BEGIN if it has one.

    Args:
        attempt: Told that the step has begun; None if it had begun before.
    """
    text = effects.begin_text(unit)
    refusal = failure.of_statement if text else failure.of_own
    on_answer = attempt.began if attempt else None
    subject = Subject(step, unit.modes[0] if unit.modes else unit.begin)
    return Message(subject, (text or "begin read write").encode(), refusal, on_answer)


def set_limits(context: Context, step: Step, unit: Unit, attempt: Attempt) -> Iterator[Message]:
    """Set the timeouts of a transaction, and learn the server process."""
    begin = effects.begin_text(unit)
    if begin and not {"only", "write"} & set(re.findall("[a-z]+", begin.lower())):
        yield ours(step, "set transaction read write")
    settings = limits(context, step)
    text = f"select pg_catalog.pg_backend_pid(), {set_config(settings, is_local=True)}"
    yield ours(step, text, on_answer=attempt.learned_pid, asks=True)


def limits(context: Context, step: Step) -> dict[str, str]:
    """Return the settings that a step runs with, by name."""
    statement_timeout = step.script.options.statement_timeout
    if statement_timeout is None:
        statement_timeout = context.settings.statement_timeout
    return {
        "lock_timeout": str(lock_timeout(context, step)),
        "statement_timeout": str(statement_timeout),
        **dict.fromkeys(settings.unlimited(context.conn.info.server_version), "0"),
        **settings.KEEPALIVES,
    }


def set_config(settings: dict[str, str], *, is_local: bool) -> str:
    """Return calls that set settings, in one select list.

    >>> set_config({"lock_timeout": "0"}, is_local=True)
    "pg_catalog.set_config('lock_timeout', '0', true)"
    """
    local = str(is_local).lower()
    return ", ".join(
        f"pg_catalog.set_config('{name}', '{value}', {local})" for name, value in settings.items()
    )


def claim(context: Context, step: Step) -> Message:
    """Claim the version in the history; this fails if another runner has done so."""
    if step.direction is Direction.DOWN:
        record = context.recorder
        release = record.delete if step.script.transactional else record.lock
        return ours(step, release(step.version), failure.of_claim)
    assert step.migration is not None, "an up has a migration"
    command = context.recorder.claim(step.migration, again=step.resumes)
    return ours(step, command, failure.of_claim)


def set_role(context: Context, step: Step) -> Iterator[Message]:
    """Switch to the role of the file or of the run, if there is one."""
    if role := step.script.options.role or context.settings.role:
        text = _SET_ROLE.format(is_local=str(step.script.transactional).lower())
        yield ours(step, (text.encode(), (role.encode(),)), failure.of_role)


def take_locks(context: Context, step: Step) -> Iterator[Message]:
    """Take every lock that a rehearsal has shown, without waiting for one.

    No session queues after a request that does not wait, and we never wait while we hold a lock, so
    there is no deadlock.  LOCK TABLE needs more privileges than some
    statements that take the same lock; without them it is left to the statement.
    """
    if step.direction is Direction.UP:
        for table, mode in context.locks.get(step.version, ()):
            body = _LOCK.format(name=_literal(table), table=table, mode=mode)
            yield ours(step, f"do {_literal(body)}")


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


def run_statements(
    piece: Piece, statements: Sequence[Statement], attempt: Attempt, *, in_batches: bool = False
) -> Iterator[Message]:
    """Run the script's statements, and ask after each what it did if they are traced."""
    step, tracer = piece.step, piece.context.tracer
    if tracer:
        start = ours(step, (tracer.start, ()), on_answer=attempt.looked)
        yield from _aside(step, ours(step, (tracer.prepare, ())), start)
    # The answers to a few statements are shown as they come; thousands are answered together.
    asks = len(statements) <= _FEW
    cut = batch.cut if in_batches and not tracer else batch.one_by_one
    for group in cut(statements):
        statement = group[0]
        if len(group) > 1:
            yield _batch(step, group, attempt)
            continue
        yield of_statement(step, statement, attempt.ran, asks=asks)
        if made := classify.index_if_not_exists(statement):
            names = tuple(name.encode() for name in made)
            subject = Subject(step, statement)
            yield Message(subject, _FAIL_IF_INVALID, failure.of_invalid_index, parameters=names)
        if tracer:
            is_gone = statement.words[:1] in _FORGETTING
            subject = Subject(step, statement)
            yield from _aside(
                step,
                *([ours(step, (tracer.prepare, ()))] if is_gone else []),
                Message(subject, probe.EXECUTE, failure.of_statement, attempt.traced),
            )


def _aside(step: Step, *messages: Message) -> Iterator[Message]:
    """Send messages of our own between a script's statements, under settings of our own.

    Only a savepoint can restore what the script has set so far.
    """
    savepoint, *more = (b"savepoint migrator", *settings.SET_OWN)
    yield ours(step, (savepoint, ()), more=tuple(more))
    yield from messages
    restore, *more = (b"rollback to savepoint migrator", b"release savepoint migrator")
    yield ours(step, (restore, ()), more=tuple(more))


def of_statement(
    step: Step,
    statement: Statement,
    on_answer: Callable[[Answer], None],
    on_refusal: Callable[[Any], MigratorError] = failure.of_statement,
    *,
    asks: bool = True,
    alone: bool = False,
) -> Message:
    """Make the message of a statement of the script, with its data if it has some."""
    return Message(
        Subject(step, statement),
        statement.text.encode(),
        on_refusal,
        on_answer,
        data=partial(copydata.data, statement) if statement.data else None,
        asks=asks,
        alone=alone,
    )


def _batch(step: Step, group: Sequence[Statement], attempt: Attempt) -> Message:
    parts = batch.Parts(step, group)
    subject = Subject(step, group[0])
    return Message(subject, batch.text(group), failure.of_statement, attempt.ran, parts=parts)


def check_deferred(step: Step) -> Message:
    """Check the deferred constraints before the commit."""
    return ours(step, _CHECK_DEFERRED, failure.at_end)


def guard(context: Context, step: Step) -> Iterator[Message]:
    """Fail before a guarded transaction commits a change of what all databases share."""
    if context.is_guarded:
        yield ours(step, (_FAIL_IF_SHARED, ()), failure.of_shared)


def record_end(context: Context, step: Step, attempt: Attempt) -> Iterator[Message]:
    """Record the end of a step; the answer is its duration."""
    record, is_transactional = context.recorder, step.script.transactional
    yield from (ours(step, record.forget(name)) for name in step.forgets)
    if step.direction is Direction.UP:
        done = 0 if is_transactional else len(step.script.units)
        end = record.finish(step.version, done)
    else:
        if not is_transactional:
            yield ours(step, record.delete(step.version))
        remark = context.remarks.get(step.version)
        end = record.log(
            step.version, Direction.DOWN, "done", message=remark, timed=is_transactional
        )
    yield ours(step, end, failure.of_record, on_answer=attempt.recorded)


def commit(step: Step, on_answer: Callable[[Answer], None]) -> Message:
    """Commit, and request the answer at once."""
    return ours(step, "commit", failure.at_end, on_answer=on_answer, asks=True)


def invalid_index(name: str, table: str) -> tuple[str, dict[str, str]]:
    """Return the query that has a row if an index is invalid that could be of a table.

    Args:
        name: As the catalog has it.
        table: As SQL writes it; the index is looked for in its schema.
    """
    return _INVALID.format(name="%(name)s", table="%(table)s"), {"name": name, "table": table}
