"""Send a run's messages, tell what happens as events, and try again where a lock was missing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain

from psycopg import pq

from ..events import (
    Backend,
    Notice,
    Noticed,
    Observed,
    Progress,
    Progressed,
    Retrying,
    StatementFinished,
    StepFinished,
    StepStarted,
    Traced,
    Waiting,
)
from ..model import Step
from ..postgres import connection, pipeline
from ..postgres.inflight import Field, HeapError, RefusedError
from ..postgres.pipeline import Answer
from ..sql.script import Statement
from ..tracing import diff, probe
from ..tracing.diff import Snapshot
from . import diagnosis, messages
from .failure import cancelled, of_refusal
from .messages import Context, Piece, Purpose, Tag

_LOOK_AFTER = 0.5  # seconds without an answer after which somebody may be in the way
_LAST_LOOK = 0.2  # seconds for what was asked before a statement failed
_LOOKS = 4  # in the time of a lock timeout: who is in the way of a short one is to be seen, too
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0  # seconds between two tries
# For locks that are not waited for: many tries, some of them right behind a transaction's end.
_NOWAIT_ATTEMPTS, _NOWAIT_TOLD = 150, 25
_NOWAIT_DELAY, _NOWAIT_GROWTH, _NOWAIT_LONGEST = 0.05, 1.04, 2.0


def run(
    context: Context,
    pieces: Sequence[Piece],
    recover: Callable[[], bool],
    *,
    started: float | None = None,
) -> None:
    """Run the pieces in order, sent without waiting for one another.

    Args:
        recover: Called after a rollback, before the next try; it tells whether the piece that
            failed turns out to be done.
        started: When the step began that the pieces finish, by the monotonic clock; None if
            it begins with them.

    Raises:
        StatementError: PostgreSQL refused a statement; pieces before it stay.
        LockTimeoutError: It did so for a lock's sake, in every try.
        TakenError: Another runner has the version.
        DatabaseConnectionError: The connection broke.
        CancelledError: The user stopped the run.
    """
    done, attempt = 0, 1
    while done < len(pieces):
        progress = _Progress(context, started)
        listener = pipeline.Listener(progress.answer, progress.notice, progress.idle)
        sent = chain.from_iterable(piece() for piece in pieces[done:])
        try:
            pipeline.run(context.conn, sent, listener, context.interrupts)
        except HeapError as refused:
            done += progress.committed
            _roll_back(context.conn)
            context.in_heaps.discard(refused.tag.step.version)
            done += recover()
        except RefusedError as refused:
            attempt = 1 if progress.committed else attempt
            done += progress.committed
            if done == len(pieces):
                return  # the connection broke behind the last commit: whoever uses it next will say
            _roll_back(context.conn)
            blockers = progress.seen_last()
            if not _tries_again(context, refused, attempt, blockers):
                raise of_refusal(context, refused, attempt, blockers) from None
            done += recover()
            attempt += 1
        else:
            done += progress.committed
            if context.interrupts.signal and done < len(pieces):
                _roll_back(context.conn)
                raise cancelled(context, progress.step)


def run_one(context: Context, piece: Piece, *, started: float | None = None) -> None:
    """Run one piece in a session that keeps what it has; as `run`."""
    run(context, [piece], recover=partial(_forget_question, context), started=started)


def _forget_question(context: Context) -> bool:
    """Forget the question that the piece has prepared: a rollback does not take it back."""
    if context.tracer:
        with connection.reported():
            probe.forget(context.conn)
    return False


class _Progress:
    """What has been answered of one try.

    Attributes:
        committed: How many pieces have been, or are done and left open.
        step: The one that is under way; None between two.
    """

    def __init__(self, context: Context, started: float | None) -> None:
        self.committed = 0
        self.step: Step | None = None
        self._blockers: tuple[Backend, ...] = ()
        self._context = context
        self._started = started or time.monotonic()
        self._looked_at = 0.0
        self._start = self._before = Snapshot()
        self._look: Future[Observed] | None = None
        self._watched: Tag | None = None  # what was under way when the look began
        self._pid = context.pid

    def answer(self, answer: Answer[Tag]) -> None:
        step, notify = answer.tag.step, self._context.notify
        self._looked_at = 0.0
        self.step = None if answer.tag.purpose is Purpose.LAST else step
        match answer.tag.purpose:
            case Purpose.OURS:
                pass  # most of them are
            case Purpose.BEGIN:
                self._started = time.monotonic()
                notify(StepStarted(step))
            case Purpose.LIMITS:
                # Behind a pooler each transaction has another one.
                self._pid = int(answer.value or 0)
            case Purpose.STATEMENT | Purpose.ALONE:
                self.committed += answer.tag.purpose is Purpose.ALONE
                assert answer.tag.statement is not None, "these are the migration's own"
                seconds, command, rows = answer.seconds, answer.command, answer.rows
                notify(StatementFinished(step, answer.tag.statement, seconds, command, rows))
            case Purpose.TRACE:
                self._trace(answer)
            case Purpose.OPEN:
                self.committed += 1
            case Purpose.COMMIT | Purpose.LAST:
                self._commit(answer)

    def _commit(self, answer: Answer[Tag]) -> None:
        # A transaction that had failed answers COMMIT with ROLLBACK.
        assert answer.command != "ROLLBACK", "a failed statement ends the run before"
        step, is_last = answer.tag.step, answer.tag.purpose is Purpose.LAST
        self.committed += 1
        if is_last:
            self._context.finished.append(step)
            self._context.unflushed.append(step)
        if answer.tag.waits:
            self._context.unflushed.clear()
        if is_last:
            self._context.notify(StepFinished(step, time.monotonic() - self._started))

    def _trace(self, answer: Answer[Tag]) -> None:
        tag, seen = answer.tag, diff.read(answer.value or b"")
        if tag.statement is None:
            self._start = seen
        else:
            trace = diff.difference(self._before, seen, self._start)
            self._context.notify(Traced(tag.step, tag.statement, trace))
        self._before = seen

    def notice(self, tag: Tag, notice: Notice) -> None:
        self._context.notify(Noticed(tag.step, tag.statement, notice))

    def idle(self, tag: Tag, seconds: float) -> None:
        self._looked_at = min(self._looked_at, seconds)  # of a heap, another one may be at work
        if self._look and self._look.done():
            self._see(self._look.result(), seconds)
            self._look = None
        lock_timeout = messages.lock_timeout(self._context, tag.step) / 1000
        often = min(_LOOK_AFTER, lock_timeout / _LOOKS) if lock_timeout else _LOOK_AFTER
        if seconds - self._looked_at >= often:
            self._looked_at, self._watched = seconds, tag
            self._look = self._context.observe(self._pid)

    def seen_last(self) -> tuple[Backend, ...]:
        """Give who was in the way when somebody was, with what a last look may still tell."""
        if self._look:
            with suppress(TimeoutError):
                self._see(self._look.result(_LAST_LOOK), self._looked_at)
        return self._blockers

    def _see(self, seen: Observed, seconds: float) -> None:
        tag, notify = self._watched, self._context.notify
        assert tag is not None, "only what was looked for is seen"
        if {b.pid for b in seen.blockers} - {b.pid for b in self._blockers}:
            notify(Waiting(tag.step.version, seen.blockers, seconds))
        self._blockers = seen.blockers or self._blockers
        if seen.progress and tag.statement:
            progress = _of_copy(seen.progress, tag.statement)
            notify(Progressed(tag.step, tag.statement, seconds, progress))


def _of_copy(progress: Progress, statement: Statement) -> Progress:
    """Tell the server's progress with what only we know: how much COPY data there is."""
    if progress.total or not statement.data:
        return progress
    block = statement.block
    first, end = (block.start, block.end) if block else statement.data
    return replace(progress, total=end - first)  # bytes, or characters, which are not more


def _roll_back(conn: connection.Connection) -> None:
    if not conn.closed and conn.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        with connection.reported():
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
