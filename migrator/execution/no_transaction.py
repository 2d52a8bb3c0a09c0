"""Run a no-transaction script statement by statement, and resume where an earlier run stopped.

Each statement that PostgreSQL can run in a transaction commits together with its record.  One that
it cannot is recorded as started before, and as done after; what an interruption left of it is
cleared first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..errors import MigratorError
from ..events import Event, Noticed, Remarked, Subject, Traced
from ..history import table
from ..model import Direction, Step
from ..planning.problems import edited_statement
from ..postgres import catalog, connection
from ..postgres.cursor import run_plainly
from ..postgres.inflight import Message
from ..postgres.lock import retake
from ..sql import classify, parser
from ..sql.script import Statement, Unit
from ..tracing import diff, probe
from . import backfill, cleanup, conditions, failure, record, shared
from .cleanup import SessionPiece
from .context import Context
from .recovery import Begun
from .retry import Attempt, Recovered, run, stop_if_interrupted
from .transaction import (
    begin,
    claim,
    commit,
    guard,
    invalid_index,
    limits,
    of_statement,
    ours,
    record_end,
    run_statements,
    set_config,
    set_role,
)

# A lock timeout would leave an invalid index, and the wait for the lock blocks no reads or writes.
# A value that the file sets is kept.
_EXCHANGE_LOCK_TIMEOUT = """
select set_config('lock_timeout', %(new)s, false)
where current_setting('lock_timeout')::interval = %(old)s::interval
"""
_MAY_COMMIT = frozenset([("call",), ("do",)])  # a second attempt would repeat what it committed
_DUPLICATE_TABLE = "42P07"


def run_step(context: Context, step: Step) -> None:
    """Run the rest of a no-transaction script, and record every statement.

    Raises:
        StatementError: A statement failed; those before it are done and recorded.
        MigratorError: As `retry.run`.
    """
    started = time.monotonic()
    schema = context.recorder.schema
    with connection.reported(schema):
        # Before the script's role is set: it may not be allowed to read the log.
        noted = table.begun(context.conn, schema, step.version, step.direction)
        begun = Begun.load(noted)
        run(context, [_Opening(context, step)])
        if step.resumes:
            _restore_session(context, step)
            conditions.ask_again(context, step)
        for index in range(step.start_at, len(step.script.units)):
            stop_if_interrupted(context, step)
            _run_unit(context, step, index, begun)
        run(context, [_End(context, step)], started=started)
        connection.forget(context.conn)


def clear_left(context: Context, step: Step) -> None:
    """Clear what an interrupted script has left, which is one transaction in its present form.

    Raises:
        InterruptedMigrationError: The interrupted statement has finished.
    """
    schema = context.recorder.schema
    with connection.reported(schema):
        begun = Begun.load(table.begun(context.conn, schema, step.version, step.direction))
        if begun and begun.unit == 0 and cleanup.clear_up(context, step, 0, begun).is_done:
            raise edited_statement(step, None, begun.statement or "")


class _Opening(SessionPiece):
    """The claim of the version, and the settings of the session."""

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Give the transaction of the claim; the settings outlast it."""
        context, step = self.context, self.step
        yield replace(begin(step, Unit(()), attempt), on_refusal=failure.of_setup)
        yield claim(context, step)
        # Outside a transaction there is no `begin read write`.
        settings = {**limits(context, step), "default_transaction_read_only": "off"}
        yield ours(step, f"select {set_config(settings, is_local=False)}", failure.of_setup)
        yield from set_role(context, step)
        if not step.resumes:
            yield from conditions.required(context, step)
        yield commit(step, attempt.committed_piece)


class _Block(SessionPiece):
    """A `BEGIN … COMMIT` block, or one statement, in a transaction with its record."""

    def __init__(self, context: Context, step: Step, index: int) -> None:
        super().__init__(context, step)
        self.index = index

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Give the transaction: the work and its record."""
        context, step = self.context, self.step
        unit = step.script.units[self.index]
        yield begin(step, unit)
        yield from self._statements(unit, attempt)
        if context.tracer:
            yield ours(step, (probe.DEALLOCATE, ()))
        for command in record.SETTINGS:
            yield ours(step, command)
        yield from guard(context, step)
        yield ours(step, record.end_unit(context, step, self.index), failure.of_record)
        yield commit(step, attempt.committed_piece)

    def _statements(self, unit: Unit, attempt: Attempt) -> Iterator[Message]:
        yield from run_statements(self, unit.statements, attempt)


class _TriedBlock(_Block):
    """One statement in a transaction, unless PostgreSQL refuses to run it in one.

    Only the server knows what a CALL or DO does, and which utility commands commit by themselves.
    """

    def _statements(self, unit: Unit, attempt: Attempt) -> Iterator[Message]:
        for message in super()._statements(unit, attempt):
            is_script = message.on_refusal is failure.of_statement
            yield replace(message, on_refusal=failure.of_trial) if is_script else message


class _Single(SessionPiece):
    """One statement that commits by itself.

    Attributes:
        begun: What was there before the first attempt; None for a statement that leaves nothing.
    """

    def __init__(
        self, context: Context, step: Step, statement: Statement, begun: Begun | None
    ) -> None:
        super().__init__(context, step)
        self.statement, self.begun = statement, begun

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Give the statement."""
        answered = attempt.ran_and_committed
        yield of_statement(self.step, self.statement, answered, self._refused, alone=True)

    def recover(self) -> Recovered:
        """Clear what the last attempt left."""
        if self.begun is None:
            return super().recover()
        found = cleanup.look_again(self.context, self.statement, self.begun, unsure=False)
        cleanup.clear(self.context, self.step, self.statement, found)
        return Recovered.DONE if found.is_done else Recovered.RUN_AGAIN

    def _refused(self, refusal: failure.Refusal) -> MigratorError:
        is_duplicate = refusal.sqlstate == _DUPLICATE_TABLE
        refusal = replace(refusal, left=self._left())
        return failure.of_statement(refusal, self._invalid_hint() if is_duplicate else None)

    def _left(self) -> str:
        """Return what the statement left half-made, as a sentence; the next run removes it."""
        if self.begun is None:
            return ""
        conn = self.context.conn
        found = cleanup.look_again(self.context, self.statement, self.begun, unsure=False)
        what = [
            *(f"the invalid index {name}" for name in catalog.names(conn, found.drop)),
            *(f"the pending DETACH of {name}" for name in catalog.names(conn, found.finalize)),
        ]
        return f" It left {', '.join(what)}; the next run removes it." if what else ""

    def _invalid_hint(self) -> str | None:
        """Return what to do about an index that already exists, if it is invalid."""
        found = (
            cleanup.own_indexes(self.context, self.statement)
            if classify.index_name(self.statement)
            else None
        )
        invalid = found and found & catalog.objects(self.context.conn, None).invalid_indexes
        for index in catalog.names(self.context.conn, invalid or ()):
            return (
                "the index is invalid, as an interrupted CREATE INDEX leaves it: drop it, then "
                f"resume\ndrop index concurrently {index};"
            )
        return None


class _End(SessionPiece):
    """What the script ensures, and the record of its end."""

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Give the transaction of the record."""
        yield ours(self.step, "begin read write")
        yield from conditions.ensured(self.context, self.step)
        for command in record.SETTINGS:
            yield ours(self.step, command)
        yield from record_end(self.context, self.step, attempt)
        yield commit(self.step, attempt.finished)


def _run_unit(context: Context, step: Step, index: int, begun: Begun | None) -> None:
    """Run a unit in a transaction with its record, if PostgreSQL can."""
    unit = step.script.units[index]
    if unit.statements and step.script.options.backfill(unit.statements[0]):
        backfill.run_unit(context, step, index)
        return
    was_single = begun is not None and begun.unit == index
    if unit.transactional and (unit.begin or len(unit.statements) != 1):
        run(context, [_Block(context, step, index)])
        return
    if unit.transactional and not was_single and _run_tried(context, step, index):
        return
    _run_single(context, step, index, begun)


def _run_tried(context: Context, step: Step, index: int) -> bool:
    """Run a unit's one statement in a transaction; return whether PostgreSQL can.

    Notices of a CALL or DO are held until that is known: a second attempt sends them again.
    """
    (statement,) = step.script.units[index].statements
    held: list[Event] = []

    def notify(event: Event) -> None:
        if isinstance(event, Noticed):
            held.append(event)
        else:
            context.notify(event)

    may_commit = statement.words[:1] in _MAY_COMMIT
    trial = replace(context, notify=notify) if may_commit else context
    try:
        run(trial, [_TriedBlock(trial, step, index)])
    except failure.NeedsNoTransactionError:
        held.clear()
        if context.tracer:
            probe.forget(context.conn)
        return False
    finally:
        for event in held:
            context.notify(event)
    return True


def _run_single(context: Context, step: Step, index: int, begun: Begun | None) -> None:
    """Run a unit's one statement by itself, recorded as started before and as done after.

    Args:
        begun: What an earlier run has started last; None if none did.
    """
    (statement,) = step.script.units[index].statements
    if context.is_guarded and shared.changes_shared(context.conn, statement):
        raise failure.of_shared(failure.Refusal(context, Subject(step), {}))
    if statement.words[:1] in _MAY_COMMIT:
        context = replace(context, settings=replace(context.settings, lock_attempts=1))
    _retake_lock(context, step)
    with _long_lock_timeout(context, step, statement):
        if not _was_finished(context, step, index, begun):
            _run_recorded(context, step, index)
    if statement.words[:1] == ("discard",):
        _retake_lock(context, step)
    record.write(context, step, record.end_unit(context, step, index))


def _retake_lock(context: Context, step: Step) -> None:
    """Take the lock that keeps other runners out again, if the script released it (DISCARD ALL)."""
    if not retake(context.conn, context.recorder.schema):
        raise failure.another_runner(step)


def _run_recorded(context: Context, step: Step, index: int) -> None:
    (statement,) = step.script.units[index].statements
    begun = cleanup.look(context, index, statement)
    done = record.done(step, index)
    note = context.recorder.begin_unit(step.version, step.direction, done, begun.dump())
    record.write(context, step, note)
    try:
        with _sampled(context, step, statement):
            run(context, [_Single(context, step, statement, begun)])
        _check_index(context, step, statement)
    except MigratorError:
        # A down that has started is under way, however its statement ended.
        if not context.conn.closed and step.direction is Direction.UP:
            record.write(context, step, context.recorder.fail_unit(step.version))
        raise


def _check_index(context: Context, step: Step, statement: Statement) -> None:
    """Raise if a CREATE INDEX IF NOT EXISTS skipped an invalid index."""
    if made := classify.index_if_not_exists(statement):
        query = invalid_index(*made)
        if run_plainly(context.conn, *query).fetchone() is not None:
            skipped = failure.Refusal(context, Subject(step, statement), {})
            raise failure.of_invalid_index(skipped)


def _was_finished(context: Context, step: Step, index: int, begun: Begun | None) -> bool:
    """Clear what an earlier run left, and return whether that run has finished the statement."""
    if index != step.start_at or not begun or begun.unit != index:
        return False
    (statement,) = step.script.units[index].statements
    name = f"statement {index + 1} of {step.version}"
    found = cleanup.clear_up(context, step, index, begun)
    earlier = begun.parsed()
    if found.is_done and earlier:
        if parser.statement_tokens(earlier) != parser.statement_tokens(statement):
            raise edited_statement(step, statement, earlier.text)
        context.notify(Remarked(f"{name} had already finished"))
    elif step.unsure and not earlier:
        context.notify(Remarked(f"{name} was interrupted, and runs again"))
    return found.is_done


def _restore_session(context: Context, step: Step) -> None:
    """Repeat what finished statements have set: their session has ended."""
    for unit in step.script.units[: step.start_at]:
        for statement in unit.statements:
            if classify.sets_session(statement) and not _ends_with_block(statement):
                run(context, [_Single(context, step, statement, None)])


def _ends_with_block(statement: Statement) -> bool:
    return statement.words[1:2] in (("local",), ("transaction",), ("constraints",))


@contextmanager
def _long_lock_timeout(context: Context, step: Step, statement: Statement) -> Iterator[None]:
    """Let a statement that blocks no other session wait for its locks without a limit."""
    if not classify.is_concurrent(statement) or step.script.options.lock_timeout is not None:
        yield
        return
    default = f"{context.settings.lock_timeout}ms"
    exchanged = context.conn.execute(_EXCHANGE_LOCK_TIMEOUT, {"old": default, "new": "0"})
    yield
    if exchanged.rowcount:
        context.conn.execute(_EXCHANGE_LOCK_TIMEOUT, {"old": "0", "new": default})


@contextmanager
def _sampled(context: Context, step: Step, statement: Statement) -> Iterator[None]:
    """Watch a statement from another session, if statements are traced."""
    tracer = context.tracer
    if not tracer:
        yield
        return
    row = tracer.watcher.execute(tracer.start).fetchone()
    before = diff.read(row[0] if row else "")
    with probe.sampling(tracer.watcher, context.pid, tracer.start) as future:
        yield
    after = future.result()
    trace, effort = diff.difference(before, after, before), diff.effort(before, after)
    context.notify(Traced(step, statement, trace, effort))
