"""Run work attempt by attempt: send it, report what happens, and retry after a lock timeout."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from psycopg import pq

from ..events import (
    Backend,
    Notice,
    Noticed,
    Observed,
    Progress,
    Progressed,
    Remarked,
    Retrying,
    StatementFinished,
    StepFinished,
    StepStarted,
    Subject,
    Traced,
    Waiting,
)
from ..model import Step
from ..postgres import connection, pipeline
from ..postgres.cursor import Connection, settle
from ..postgres.inflight import Answer, BatchError, Field, Message, RefusedError
from ..sql.script import Statement
from ..tracing import diff
from . import failure
from .context import Context

_LOOK_AFTER = 0.5  # seconds without an answer, then another session looks for the reason
_LAST_LOOK = 0.2  # seconds to wait for a look that is under way when a statement fails
_LOOKS = 4  # in the time of a lock timeout, so that a short one shows its blockers as well
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0  # seconds between two attempts
# For locks that are not waited for: many attempts, some of them right after a transaction ends.
_NOWAIT_ATTEMPTS, _NOWAIT_TOLD = 150, 25
_NOWAIT_DELAY, _NOWAIT_GROWTH, _NOWAIT_LONGEST = 0.05, 1.04, 2.0


class Recovered(enum.Enum):
    """What the catalog shows about a piece that was rolled back."""

    RUN_AGAIN = enum.auto()
    DONE = enum.auto()


class Piece:
    """Work that is retried as one: a transaction, or one statement that commits by itself."""

    def __init__(self, context: Context, step: Step) -> None:
        self.context = context
        self.step = step

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Yield the messages in order; the last one commits, and reports that to `attempt`."""
        raise NotImplementedError

    def recover(self) -> Recovered:
        """Prepare the next attempt, after a rollback."""
        return Recovered.RUN_AGAIN

    def postponed(self, _sqlstate: str | None) -> Piece | None:
        """Return what to run after the other pieces, as one of them may be the reason for an error.

        Returns:
            None if they cannot.
        """
        return None

    def without_batches(self) -> Piece:
        """Return the same work, with every statement in a message of its own."""
        return self


class Attempt:
    """One attempt at some pieces: what was answered, and which sessions block it.

    Attributes:
        committed: How many pieces are committed, or are done and left open.
        step: The step that is under way; None between two.
    """

    def __init__(self, context: Context, started: float | None) -> None:
        self.committed = 0
        self.step: Step | None = None
        self.listener = pipeline.Listener(self._answered, self._noticed, self._idle)
        self._blockers: tuple[Backend, ...] = ()
        self._context = context
        self._started = started or time.monotonic()
        self._looked_at = 0.0
        self._at_start = self._before = diff.Snapshot()
        self._look: Future[Observed] | None = None
        self._watched: Subject | None = None  # what was under way when the look began
        self._pid = context.pid
        self._recorded: float | None = None  # the duration of the step, in seconds

    # What an answer means: each of these is the `on_answer` of some message.

    def began(self, answer: Answer) -> None:
        """Note that a step has begun."""
        step, self._started = answer.subject.step, time.monotonic()
        self._context.started.setdefault((step.version, step.direction), self._started)
        self._context.notify(StepStarted(step))

    def learned_pid(self, answer: Answer) -> None:
        """Note the server process from an answer: with a pooler, each transaction has its own."""
        self._pid = int(answer.value or 0)

    def ran(self, answer: Answer) -> None:
        """Report that a statement has run, or a batch."""
        subject = answer.subject
        assert subject.statement is not None, "only statements of the script are reported"
        seen = (answer.seconds, answer.command, answer.rows, answer.count)
        self._context.notify(StatementFinished(subject.step, subject.statement, *seen))

    def ran_and_committed(self, answer: Answer) -> None:
        """Report that a statement has run that is a piece of its own."""
        self.committed += 1
        self.ran(answer)

    def looked(self, answer: Answer) -> None:
        """Note the state before the first statement."""
        seen, tracer = diff.read(answer.value or b""), self._context.tracer
        if tracer and tracer.known:
            seen = replace(tracer.known, asked=seen.asked, answered=seen.answered, wal=seen.wal)
        self._at_start = self._before = seen

    def traced(self, answer: Answer) -> None:
        """Report what a statement did, by the state after it."""
        subject, seen = answer.subject, diff.read(answer.value or b"")
        assert subject.statement is not None, "only statements of the script are traced"
        trace = diff.difference(self._before, seen, self._at_start)
        effort = diff.effort(self._before, seen)
        self._context.notify(Traced(subject.step, subject.statement, trace, effort))
        self._before = seen

    def recorded(self, answer: Answer) -> None:
        """Note the duration that the history has recorded, in milliseconds."""
        self._recorded = None if answer.value is None else int(answer.value) / 1000

    def left_open(self, _answer: Answer) -> None:
        """Note that a piece is done, and that its transaction stays open."""
        self.committed += 1

    def committed_piece(self, answer: Answer) -> None:
        """Note that a piece is committed and on disk, and with it all before it."""
        # A transaction that had failed answers COMMIT with ROLLBACK.
        assert answer.command != "ROLLBACK", "a failed statement ends the run before"
        self.committed += 1
        self._context.unflushed.clear()

    def finished(self, answer: Answer) -> None:
        """Note that a step is committed and on disk, and with it all before it."""
        self._finish(answer)
        self._context.unflushed.clear()
        self._report_finished(answer)

    def finished_unflushed(self, answer: Answer) -> None:
        """Note that a step is committed, and that a crash of the server could undo it."""
        self._finish(answer)
        self._context.unflushed.append(answer.subject.step)
        self._report_finished(answer)

    def _finish(self, answer: Answer) -> None:
        assert answer.command != "ROLLBACK", "a failed statement ends the run before"
        self.committed += 1
        self.step = None
        self._context.finished.append(answer.subject.step)

    def _report_finished(self, answer: Answer) -> None:
        waited = time.monotonic() - self._started
        seconds = waited if self._recorded is None else self._recorded
        self._context.notify(StepFinished(answer.subject.step, seconds))

    # What else the pipeline reports

    def _answered(self, answer: Answer) -> None:
        self._looked_at = 0.0
        self.step = answer.subject.step

    def _noticed(self, subject: Subject, notice: Notice) -> None:
        self._context.notify(Noticed(subject.step, subject.statement, notice))

    def _idle(self, subject: Subject, seconds: float) -> None:
        self._looked_at = min(self._looked_at, seconds)  # a batch goes on to its next statement
        if self._look and self._look.done():
            self._see(self._look.result(), seconds)
            self._look = None
        timeout = lock_timeout(self._context, subject.step) / 1000
        often = min(_LOOK_AFTER, timeout / _LOOKS) if timeout else _LOOK_AFTER
        if seconds - self._looked_at >= often:
            self._looked_at, self._watched = seconds, subject
            self._look = self._context.observe(self._pid)

    def blockers(self) -> tuple[Backend, ...]:
        """Return the last blockers seen, waiting up to 0.2 s for a look that is under way."""
        if self._look:
            with suppress(TimeoutError):
                self._see(self._look.result(_LAST_LOOK), self._looked_at)
        return self._blockers

    def _see(self, seen: Observed, seconds: float) -> None:
        subject, notify = self._watched, self._context.notify
        assert subject is not None, "a look has a subject"
        known = {(b.pid, b.gid) for b in self._blockers}
        if {(b.pid, b.gid) for b in seen.blockers} - known:
            notify(Waiting(subject.step.version, seen.blockers, seconds))
        self._blockers = seen.blockers or self._blockers
        if seen.progress and subject.statement:
            progress = _with_total(seen.progress, subject.statement)
            notify(Progressed(subject.step, subject.statement, seconds, progress))


def run(context: Context, pieces: Sequence[Piece], *, started: float | None = None) -> None:
    """Run pieces in order, sent without waiting for one another.

    A piece that needs what a later one makes runs again after the others, until none of them
    succeeds any more.

    Args:
        started: When the step of the pieces began, by the monotonic clock; None if it begins
            with them.

    Raises:
        StatementError: PostgreSQL refused a statement; the pieces before it are kept.
        LockTimeoutError: A lock was not acquired in any attempt.
        TakenError: Another runner has the version.
        DatabaseConnectionError: The connection broke.
        CancelledError: The user stopped the run.
    """
    left, attempts, early = list(pieces), 1, 0
    while left:
        attempt = Attempt(context, started)
        sent = chain.from_iterable(piece.messages(attempt) for piece in tuple(left))
        refused: RefusedError | None = None
        try:
            pipeline.run(context.conn, sent, attempt.listener, context.interrupts)
        except RefusedError as error:
            refused = error
        del left[: attempt.committed]
        early = 0 if attempt.committed else early
        if not left:
            return  # a connection that broke after the last commit fails at its next use
        _roll_back(context.conn)
        if refused is None:
            if context.interrupts.signal:
                raise failure.cancelled(context, attempt.step)
            continue
        if isinstance(refused, BatchError):
            left[0] = left[0].without_batches()
        elif early < len(left) - 1 and (later := _postponed(context, left[0], refused)):
            left = [*left[1:], later]
            attempts, early = 1, early + 1
        else:
            attempts = 1 if attempt.committed else attempts
            blockers = attempt.blockers()
            if not _waits_for_retry(context, refused, attempts, blockers):
                raise failure.of_refused(context, refused, attempts, blockers) from None
            attempts += 1
        if left[0].recover() is Recovered.DONE:
            del left[0]


def _postponed(context: Context, piece: Piece, refused: RefusedError) -> Piece | None:
    """Return what to run later in place of a refused piece; None if that cannot help."""
    later = piece.postponed(refused.fields.get(Field.SQLSTATE))
    if not later or not refused.subject.statement or context.interrupts.signal:
        return None
    reason = refused.fields.get(Field.MESSAGE_PRIMARY, "")
    context.notify(Remarked(f"{piece.step.version} will be applied after the others: {reason}"))
    return later


def stop_if_interrupted(context: Context, step: Step | None = None) -> None:
    """Raise if a signal has arrived.

    Raises:
        CancelledError: The user stopped the run.
    """
    if context.interrupts.signal:
        raise failure.cancelled(context, step)


def lock_timeout(context: Context, step: Step) -> int:
    """Return the lock timeout of a step, in milliseconds; 0 for none."""
    asked = step.script.options.lock_timeout
    return context.settings.lock_timeout if asked is None else asked


def _with_total(progress: Progress, statement: Statement) -> Progress:
    """Add what the server does not know: how much COPY data there is."""
    if progress.total or not statement.data:
        return progress
    block = statement.block
    first, end = (block.start, block.end) if block else statement.data
    return replace(progress, total=end - first)  # in bytes, or in characters, which are not more


def _roll_back(conn: Connection) -> None:
    if not conn.closed and conn.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        with connection.reported():
            conn.rollback()


def _waits_for_retry(
    context: Context, refused: RefusedError, attempts: int, blockers: tuple[Backend, ...]
) -> bool:
    """Wait before the next attempt; return False if there is none."""
    step = refused.subject.step
    is_nowait = bool(context.locks.get(step.version))
    most = _NOWAIT_ATTEMPTS if is_nowait else context.settings.lock_attempts
    if (
        context.conn.closed
        or context.interrupts.signal
        or refused.fields.get(Field.SQLSTATE) not in failure.RETRIED
        or attempts >= most
    ):
        return False
    delay = _delay(attempts, is_nowait=is_nowait)
    reason = refused.fields.get(Field.MESSAGE_PRIMARY, "")
    if not is_nowait or attempts % _NOWAIT_TOLD == 1:
        context.notify(Retrying(step, attempts, most, delay, reason, blockers))
    with connection.reported():
        settle(context.conn)  # the script may have reset it, and no idle limit may end it
    return not context.interrupts.wait(delay)


def _delay(attempts: int, *, is_nowait: bool) -> float:
    """Draw the pause after an attempt, in seconds; it grows with the number of attempts."""
    if is_nowait:
        longest = min(_NOWAIT_DELAY * _NOWAIT_GROWTH**attempts, _NOWAIT_LONGEST)
        return random.uniform(longest / 5, longest)  # noqa: S311  (jitter, not a secret)
    longest = min(_FIRST_DELAY * 2 ** (attempts - 1), _LONGEST_DELAY)
    return random.uniform(longest / 2, longest)  # noqa: S311  (jitter, not a secret)
