"""Send a run's messages, tell what happens as events, and try again where a lock was missing."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

import psycopg
from psycopg import pq

from . import answers, diagnosis, pipeline, postgres, probes
from .answers import Snapshot
from .config import Settings
from .errors import (
    CancelledError,
    DatabaseConnectionError,
    LockTimeoutError,
    MigratorError,
    TakenError,
)
from .interrupts import Interrupts
from .model import (
    Backend,
    Direction,
    Event,
    Notice,
    Noticed,
    Retrying,
    Statement,
    StatementFinished,
    Step,
    StepFinished,
    StepStarted,
    Traced,
    Unit,
    Waiting,
)
from .pipeline import Answer, Field, Message, RefusedError
from .recorder import Command, Recorder
from .traces import LockMode

_LOOK_AFTER = 0.5  # seconds without an answer after which somebody may be in the way
_LOOKS = 4  # in the time of a lock timeout: who is in the way of a short one is to be seen, too
_FORGETTING = (("deallocate",), ("discard",))  # it takes our prepared statement, too
_FEW = 100  # statements of a script
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0  # seconds between two tries
_LOG_LIMIT = "set local lock_timeout = '2s'"
# For locks that are not waited for: many tries, some of them right behind a transaction's end.
_NOWAIT_ATTEMPTS, _NOWAIT_TOLD = 150, 25
_NOWAIT_DELAY, _NOWAIT_GROWTH, _NOWAIT_LONGEST = 0.05, 1.04, 2.0
_TAKEN = {Direction.UP: "23505", Direction.DOWN: "22012"}  # unique_violation, division_by_zero


class Purpose(enum.Enum):
    """What a message is for."""

    BEGIN = enum.auto()  # it starts a step
    LIMITS = enum.auto()  # it sets the timeouts, and answers with the server process
    CLAIM = enum.auto()  # it takes the version, or finds it taken
    STATEMENT = enum.auto()  # the migration's own
    TRACE = enum.auto()  # it asks what the statement did; what there is, if of no statement
    ALONE = enum.auto()  # the same, and it commits by itself
    CHECK = enum.auto()  # it brings out what was deferred to the end
    OURS = enum.auto()
    COMMIT = enum.auto()  # it makes a piece of work last
    LAST = enum.auto()  # the same, and the step is finished by it


@dataclass(frozen=True, slots=True)
class Tag:
    """What a message belongs to; `waits` if its commit waits for the disk."""

    step: Step
    purpose: Purpose
    statement: Statement | None = None
    waits: bool = True


Piece = Callable[[], Iterable[Message[Tag]]]
"""Work that is tried as a whole: its messages, of which one is a `COMMIT` or `LAST`."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """The questions of `probes`, for this server and history.

    Attributes:
        prepare: Prepares the one that is asked after each statement.
        watcher: Another session of the database, to watch what runs outside a transaction.
    """

    start: bytes
    prepare: bytes
    schema: str
    watcher: postgres.Connection


@dataclass(frozen=True, slots=True)
class Context:
    """What a run works with.

    Attributes:
        conn: The session that the migrations run in.
        blockers: Tells who is in the way of a server process, from another session;
            of that of `conn` if it is told none.
        idle_limits: The settings of this server that end a session in its transaction.
        locks: By version, what a rehearsal has shown that it locks: tables, as SQL takes
            them, and modes.  They are taken at once, before the work begins, or not at all.
        tracer: None if nobody wants to know what each statement does.
        finished: The steps finished so far, in order; it grows.
        unflushed: Those of them that a crash of the server could take back: no commit behind
            them has waited for the disk.
    """

    conn: postgres.Connection
    recorder: Recorder
    settings: Settings
    interrupts: Interrupts
    notify: Callable[[Event], None]
    blockers: Callable[[int | None], tuple[Backend, ...]]
    idle_limits: tuple[str, ...] = ()
    locks: Mapping[str, tuple[tuple[str, LockMode], ...]] = field(default_factory=dict)
    tracer: Tracer | None = None
    finished: list[Step] = field(default_factory=list)
    unflushed: list[Step] = field(default_factory=list)


def begin(step: Step, unit: Unit, purpose: Purpose = Purpose.BEGIN) -> Message[Tag]:
    """Make the message that begins a unit's transaction: the file's own BEGIN if it has one."""
    text = unit.begin.text if unit.begin else "begin read write"
    return Message(Tag(step, purpose, unit.begin), text.encode())


def ours(
    step: Step,
    command: Command | str,
    purpose: Purpose = Purpose.OURS,
    *,
    waits: bool = True,
) -> Message[Tag]:
    """Make a message of a statement of our own; `waits` if its commit waits for the disk."""
    text, parameters = (command.encode(), ()) if isinstance(command, str) else command
    asks = purpose in (Purpose.LIMITS, Purpose.COMMIT, Purpose.LAST)
    return Message(Tag(step, purpose, waits=waits), text, parameters, asks=asks)


def of_locks(context: Context, step: Step) -> Iterator[Message[Tag]]:
    """Make the messages that take every lock of a step without waiting for one.

    Nobody queues up behind a lock that is not waited for, and none of ours is in anybody's
    way until all of them are had: there is no deadlock.
    """
    for table, mode in context.locks.get(step.version, ()):
        yield ours(step, f"lock table only {table} in {mode.sql} mode nowait")


def of_statement(step: Step, statement: Statement, *, asks: bool = True) -> Message[Tag]:
    """Make a message of a statement of the migration, with its data if it has some."""
    tag = Tag(step, Purpose.STATEMENT, statement)
    data = statement.source[slice(*statement.data)] if statement.data else None
    return Message(tag, statement.text.encode(), data=data, asks=asks)


def of_statements(
    context: Context, step: Step, statements: Sequence[Statement]
) -> Iterator[Message[Tag]]:
    """Make the messages of a transaction's statements, each with the question what it did."""
    if context.tracer:
        yield ours(step, (context.tracer.prepare, ()))
        yield Message(Tag(step, Purpose.TRACE), context.tracer.start)
    # Whoever waits for one of a few wants to see what is done; thousands answer in heaps.
    asks = len(statements) <= _FEW
    for statement in statements:
        yield of_statement(step, statement, asks=asks)
        if context.tracer:
            if statement.words[:1] in _FORGETTING:
                yield ours(step, (context.tracer.prepare, ()))
            yield Message(Tag(step, Purpose.TRACE, statement), probes.EXECUTE)


def timeouts(context: Context, step: Step) -> tuple[bytes, bytes]:
    """Give the lock timeout and the statement timeout of a step, as PostgreSQL takes them."""
    statement = step.script.options.statement_timeout
    if statement is None:
        statement = context.settings.statement_timeout
    return b"%d" % _lock_timeout(context, step), b"%d" % statement


def _lock_timeout(context: Context, step: Step) -> int:
    asked = step.script.options.lock_timeout
    return context.settings.lock_timeout if asked is None else asked


def last_records(context: Context, step: Step) -> tuple[Command, ...]:
    """Give the statements that record the end of a step."""
    if step.direction is Direction.UP:
        done = 0 if step.script.transactional else len(step.script.units)
        return (context.recorder.finish(step.version, done),)
    timed = step.script.transactional
    log = context.recorder.log(step.version, Direction.DOWN, "done", timed=timed)
    if step.script.transactional:
        return (log,)
    return (context.recorder.release(step.version), log)


def stop_if_interrupted(context: Context, step: Step | None = None) -> None:
    """Raise if a signal has arrived.

    Raises:
        CancelledError: It says what was done before.
    """
    if context.interrupts.signal:
        raise _cancelled(context, step)


def run(context: Context, pieces: Sequence[Piece], recover: Callable[[], None]) -> None:
    """Run the pieces in order, sent without waiting for one another.

    Args:
        recover: Called after a rollback, before the next try.

    Raises:
        StatementError: PostgreSQL refused a statement; pieces before it stay.
        LockTimeoutError: It did so for a lock's sake, in every try.
        TakenError: Another runner has the version.
        DatabaseConnectionError: The connection broke.
        CancelledError: The user stopped the run.
    """
    done, attempt = 0, 1
    while done < len(pieces):
        progress = _Progress(context)
        listener = pipeline.Listener(progress.answer, progress.notice, progress.idle)
        messages = chain.from_iterable(piece() for piece in pieces[done:])
        try:
            pipeline.run(context.conn, messages, listener, context.interrupts)
        except RefusedError as refused:
            attempt = 1 if progress.committed else attempt
            done += progress.committed
            if done == len(pieces):
                return  # the connection broke behind the last commit: whoever uses it next will say
            _roll_back(context.conn)
            if not _tries_again(context, refused, attempt, progress.blockers):
                raise _error(context, refused, attempt, progress.blockers) from None
            recover()
            attempt += 1
        else:
            done += progress.committed
            if context.interrupts.signal and done < len(pieces):
                _roll_back(context.conn)
                raise _cancelled(context, progress.step)


class _Progress:
    """What has been answered of one try.

    Attributes:
        committed: How many pieces have been.
        step: The one that is under way; None between two.
    """

    def __init__(self, context: Context) -> None:
        self.committed = 0
        self.step: Step | None = None
        self.blockers: tuple[Backend, ...] = ()
        self._context = context
        self._started = time.monotonic()
        self._looked_at = 0.0
        self._start = self._before = Snapshot()
        self._pid: int | None = None  # behind a pooler each transaction has another one

    def answer(self, answer: Answer[Tag]) -> None:
        step, notify = answer.tag.step, self._context.notify
        self._looked_at = 0.0
        self.step = None if answer.tag.purpose is Purpose.LAST else step
        match answer.tag.purpose:
            case Purpose.BEGIN:
                self._started = time.monotonic()
                notify(StepStarted(step))
            case Purpose.LIMITS:
                self._pid = int(answer.value or 0) or None
            case Purpose.STATEMENT | Purpose.ALONE:
                self.committed += answer.tag.purpose is Purpose.ALONE
                assert answer.tag.statement is not None, "these are the migration's own"
                seconds, command, rows = answer.seconds, answer.command, answer.rows
                notify(StatementFinished(step, answer.tag.statement, seconds, command, rows))
            case Purpose.TRACE:
                self._trace(answer)
            case Purpose.COMMIT | Purpose.LAST:
                # A transaction that had failed answers COMMIT with ROLLBACK.
                assert answer.command != "ROLLBACK", "a failed statement ends the run before"
                self.committed += 1
                if answer.tag.purpose is Purpose.LAST:
                    self._context.finished.append(step)
                    self._context.unflushed.append(step)
                if answer.tag.waits:
                    self._context.unflushed.clear()
                if answer.tag.purpose is Purpose.LAST:
                    notify(StepFinished(step, time.monotonic() - self._started))

    def _trace(self, answer: Answer[Tag]) -> None:
        tag, seen = answer.tag, answers.read(answer.value or b"")
        if tag.statement is None:
            self._start = seen
        else:
            trace = answers.difference(self._before, seen, self._start)
            self._context.notify(Traced(tag.step, tag.statement, trace))
        self._before = seen

    def notice(self, tag: Tag, notice: Notice) -> None:
        self._context.notify(Noticed(tag.step, tag.statement, notice))

    def idle(self, tag: Tag, seconds: float) -> None:
        lock_timeout = _lock_timeout(self._context, tag.step) / 1000
        often = min(_LOOK_AFTER, lock_timeout / _LOOKS) if lock_timeout else _LOOK_AFTER
        if seconds - self._looked_at < often:
            return
        self._looked_at = seconds
        blockers = self._context.blockers(self._pid)
        if {b.pid for b in blockers} - {b.pid for b in self.blockers}:
            self._context.notify(Waiting(tag.step.version, blockers, seconds))
        self.blockers = blockers or self.blockers


def _roll_back(conn: postgres.Connection) -> None:
    if not conn.closed and conn.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        with postgres.reported():
            conn.rollback()


def _tries_again(
    context: Context,
    refused: RefusedError[Tag],
    attempt: int,
    blockers: tuple[Backend, ...],
) -> bool:
    """Wait before the next try; return False if there is to be none."""
    step = refused.tag.step
    locks = context.locks.get(step.version, ())
    attempts = _NOWAIT_ATTEMPTS if locks else context.settings.lock_attempts
    if (
        context.conn.closed
        or context.interrupts.signal
        or refused.fields.get(Field.SQLSTATE) not in diagnosis.RETRIED
        or attempt >= attempts
    ):
        return False
    delay = _delay(attempt, is_nowait=bool(locks))
    reason = refused.fields.get(Field.MESSAGE_PRIMARY, "")
    if not locks or attempt % _NOWAIT_TOLD == 1:
        context.notify(Retrying(step, attempt, attempts, delay, reason, blockers))
    return not context.interrupts.wait(delay)


def _delay(attempt: int, *, is_nowait: bool) -> float:
    """Draw the pause behind a try, in seconds; it grows, so that a busy table gets its rest."""
    if is_nowait:
        longest = min(_NOWAIT_DELAY * _NOWAIT_GROWTH**attempt, _NOWAIT_LONGEST)
        return random.uniform(longest / 5, longest)  # noqa: S311  (jitter, not a secret)
    longest = min(_FIRST_DELAY * 2 ** (attempt - 1), _LONGEST_DELAY)
    return random.uniform(longest / 2, longest)  # noqa: S311  (jitter, not a secret)


def _error(
    context: Context, refused: RefusedError[Tag], attempt: int, blockers: tuple[Backend, ...]
) -> MigratorError:
    tag, fields = refused.tag, refused.fields
    step, sqlstate = tag.step, fields.get(Field.SQLSTATE)
    if context.interrupts.signal and not context.conn.closed:
        return _cancelled(context, step)
    if context.conn.closed and context.interrupts.signal:
        return CancelledError(
            f"interrupted, and the server did not say what became of {step.version}: "
            + " ".join(fields.get(Field.MESSAGE_PRIMARY, "").split()),
            detail=_stays(context),
            hint="it may still be at work; see whether it was committed with: migrator status",
            signal=context.interrupts.signal,
        )
    if context.conn.closed:
        return DatabaseConnectionError(
            f"the connection was lost while {step.version} was under way: "
            + " ".join(fields.get(Field.MESSAGE_PRIMARY, "").split()),
            detail=_stays(context),
            hint="see whether it was committed with: migrator status",
        )
    if tag.purpose is Purpose.CLAIM and sqlstate == _TAKEN[step.direction]:
        return TakenError(f"another runner has dealt with {step.version} meanwhile")
    error = _failed(context, tag, fields)
    if isinstance(error, LockTimeoutError):
        error.detail = error.detail or "\n".join(f"held up by {each}" for each in blockers) or None
        error.outcome = f"Tries used up: {attempt}. {error.outcome}"
    return error


def refused(
    context: Context, step: Step, statement: Statement, message: str, hint: str
) -> MigratorError:
    """Make the error of a statement that PostgreSQL let pass and we do not."""
    fields = {Field.MESSAGE_PRIMARY: message, Field.MESSAGE_HINT: hint}
    return _failed(context, Tag(step, Purpose.STATEMENT, statement), fields)


def _failed(context: Context, tag: Tag, fields: Mapping[Field, str]) -> MigratorError:
    at_end = tag.purpose in (Purpose.CHECK, Purpose.COMMIT, Purpose.LAST)
    error = (
        diagnosis.statement_error(fields, tag.step, tag.statement, "")
        if tag.statement or at_end
        else diagnosis.own_error(fields, tag.step, "")
    )
    _log_failure(context, tag.step, error.sqlstate, error.message)
    error.outcome = f"{_undone(tag.step)} {_stays(context)}"
    return error


def _cancelled(context: Context, step: Step | None) -> CancelledError:
    if step and not context.conn.closed:
        _log_failure(context, step, None, "interrupted")
    return CancelledError(
        "interrupted",
        detail=f"{_undone(step)} {_stays(context)}".strip(),
        hint=f"go on with: migrator {step.direction if step else Direction.UP}",
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
    unflushed = ", ".join(step.version for step in context.unflushed)
    flushed = ", ".join(s.version for s in context.finished if s not in context.unflushed)
    parts = (
        f"Finished in this run, and stays: {flushed}." if flushed else "",
        f"Committed, but perhaps not on disk if the server crashed: {unflushed}."
        if unflushed
        else "",
    )
    return " ".join(filter(None, parts))


def _log_failure(context: Context, step: Step, sqlstate: str | None, message: str) -> None:
    """Add the failure to the log; the failure itself matters more than that it is logged."""
    text, parameters = context.recorder.log(
        step.version, step.direction, "failed", sqlstate=sqlstate, message=message
    )
    with suppress(psycopg.Error):
        postgres.forget(context.conn)  # it may have left the session as another role
        with context.conn.transaction():
            context.conn.execute(_LOG_LIMIT)
            postgres.send(context.conn, text, parameters)
        context.unflushed.clear()  # this commit has waited for the disk
