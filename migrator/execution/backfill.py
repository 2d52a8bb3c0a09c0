"""Run a statement in batches, each in a transaction with the record of how far it has come.

A pass over the table misses rows that concurrent updates move to blocks that it has done, and rows
that are inserted meanwhile.  So at the end the statement runs once as it is written: one snapshot
misses nothing.  The rows that this run changes are locked until it ends, so it has to be short and
to change few of them.  Otherwise it is rolled back, and another pass comes first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from ..errors import MigratorError, StatementError, counted
from ..events import Batches, Progress, Progressed, Remarked, StatementFinished, Subject
from ..history import table
from ..history.recorder import Command
from ..model import BatchProgress, Step
from ..postgres import connection
from ..postgres.inflight import Answer, Field, Message
from ..sql import parser
from ..sql.script import Backfill, Statement
from ..tracing import probe
from . import failure, ranges, record, throttle
from .cleanup import SessionPiece
from .context import Context
from .retry import Attempt, run, stop_if_interrupted
from .throttle import Throttle
from .transaction import commit, guard, of_statement, ours, run_statements

_LOCK_TIMEOUT = 500  # milliseconds; a batch is cheap to retry
_MOST_ROWS = 50_000  # changed by one batch
_GROWTH = 2.0  # from one batch to the next, at most
_FLUSHED = 100  # only each batch of this number waits for the disk: a crash repeats those after it
_SHORT = 10  # the statement as it is written may take this many times a batch's time
_FEW = 10  # it may change one row for this many that the first pass changed
_ENDLESS = 3  # from this pass on, it is an error to change half as many rows as the first

_BEGIN = "begin isolation level read committed read write"
# Values that the script has set are kept.
_SHORT_TIMEOUT = (
    "select pg_catalog.set_config('lock_timeout', '{new}ms', true)"
    " where pg_catalog.current_setting('lock_timeout')::pg_catalog.interval"
    " operator(pg_catalog.=) '{old}ms'::pg_catalog.interval"
)
_SHORT_STATEMENT = (
    "select pg_catalog.set_config('statement_timeout', '{new}ms', true)"
    " where pg_catalog.current_setting('statement_timeout')::pg_catalog.interval"
    " not between '1ms' and '{new}ms'"
)
_TIMED_OUT = "57014"  # query_canceled
_UNFLUSHED = "set local synchronous_commit = off"


def run_unit(context: Context, step: Step, index: int) -> None:
    """Run a unit that is one statement in batches, from where an earlier run stopped.

    Raises:
        StatementError: A batch failed; those before it are done and recorded.  Or the statement
            cannot be run in batches, or it changes the same rows in every pass.
        MigratorError: As `retry.run`.
    """
    with connection.reported(context.recorder.schema):
        _Backfill(context, step, index).run()


class _Batch(SessionPiece):
    """A batch: the statement for one range, and a record, in one transaction.

    Attributes:
        rows: How many rows it has changed.
        seconds: How long it took the server, without the round trip.
        started: What the log says about the run that this batch begins; None for a later one.
    """

    started: str | None = None

    def __init__(
        self, context: Context, step: Step, read: Backfill, condition: str, command: Command
    ) -> None:
        super().__init__(context, step)
        self.rows, self.tag, self.seconds = 0, "", 0.0
        self.is_flushed, self.is_traced = True, False
        assert read.statement is not None, "it has no problem"
        self._statement, self._read, self._command = read.statement, read, command
        self._made = _with_condition(read.statement, read, condition)

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Give the transaction."""
        context, step = self.context, self.step
        yield ours(step, _BEGIN)
        old = context.settings.lock_timeout
        if step.script.options.lock_timeout is None and not 0 < old < _LOCK_TIMEOUT:
            yield ours(step, _SHORT_TIMEOUT.format(old=old, new=_LOCK_TIMEOUT))
        yield from self._statements(attempt)
        yield from self._record(attempt)

    def _record(self, attempt: Attempt) -> Iterator[Message]:
        context, step = self.context, self.step
        for command in record.SETTINGS:
            yield ours(step, command)
        if not self.is_flushed:
            yield ours(step, _UNFLUSHED)
        yield from guard(context, step)
        yield ours(step, self._command, failure.of_record, on_answer=self._recorded, asks=True)
        if self.started:
            row = (step.version, step.direction.value, "started")
            yield ours(step, context.recorder.log(*row, message=self.started))
        yield commit(step, attempt.committed_piece)

    def _statements(self, attempt: Attempt) -> Iterator[Message]:
        step, subject = self.step, Subject(self.step, self._statement)
        if not self.is_traced:
            message = of_statement(step, self._made, self._ran, self._refused)
            yield replace(message, subject=subject)
            return
        for message in run_statements(self, [self._made], attempt):
            made = replace(message, subject=subject) if message.subject.statement else message
            is_statement = message.on_answer == attempt.ran
            yield (
                replace(made, on_answer=self._ran, on_refusal=self._refused)
                if is_statement
                else made
            )
        yield ours(step, (probe.DEALLOCATE, ()))

    def _recorded(self, answer: Answer) -> None:
        self.seconds = float(answer.value or 0)

    def _ran(self, answer: Answer) -> None:
        self.rows, self.tag = answer.rows or 0, answer.command

    def _refused(self, refusal: failure.Refusal) -> MigratorError:
        """Build the error; the place in the file is before what the batch has added."""
        fields = dict(refusal.fields)
        position = int(fields.get(Field.STATEMENT_POSITION, 0))
        if position and self._read.place:
            start = self._read.place[0] - self._statement.offset
            added = len(self._made.text) - len(self._statement.text)
            if position > start:
                position = max(start + 1, position - added)
            fields[Field.STATEMENT_POSITION] = str(position)
        return failure.of_statement(replace(refusal, fields=fields))


class _Closing(_Batch):
    """The statement as it is written, with the record of its end.

    Attributes:
        limit: How long the statement may take, in milliseconds; None for no limit.
        most: How many rows it may change, or it is rolled back; None for no limit.
        is_done: Whether it has been committed.
    """

    limit: int | None = None
    most: int | None = None
    is_done = True

    def _statements(self, attempt: Attempt) -> Iterator[Message]:
        if self.limit:
            yield ours(self.step, _SHORT_STATEMENT.format(new=self.limit))
        yield from super()._statements(attempt)

    def _record(self, attempt: Attempt) -> Iterator[Message]:
        # The answer to the statement is there once a message that goes alone has been sent.
        yield replace(ours(self.step, "select"), alone=True)
        self.is_done = self.most is None or self.rows <= self.most
        if self.is_done:
            yield from super()._record(attempt)
        else:
            yield ours(self.step, "rollback", on_answer=attempt.left_open)


def _with_condition(statement: Statement, read: Backfill, condition: str) -> Statement:
    """Put a condition in the place of `/* batch */`."""
    if not read.place or not condition:
        return statement
    start, end = read.place
    text = f"and {condition}"
    source = f"{statement.source[:start]}{text}{statement.source[end:]}"
    return replace(statement, source=source, end=statement.end + len(text) - (end - start))


class _Backfill:
    """One statement's batches, from the first to the last."""

    def __init__(self, context: Context, step: Step, index: int) -> None:
        self._context, self._step, self._index = context, step, index
        (self._statement,) = step.script.units[index].statements
        read = step.script.options.backfill(self._statement)
        assert read is not None, "the caller has looked"
        self._read = read
        self._ranges = self._find_ranges()
        name = self._ranges.table
        self._what = f"backfill {name}" if name else "repeated statement"
        self._throttle = Throttle(context.conn, context.settings, self._ranges.oids)
        self._started = time.monotonic()
        self._recorded = table.progress(context.conn, context.recorder.schema, step.version)
        self._batches = self._rows = 0  # of this run
        self._last = (0, 0.0)  # size and seconds of the last batch
        self._since = (0, self._started)  # where this run began its pass, and when
        self._tag = ""
        self._is_long = False  # the statement as it is written

    def run(self) -> None:
        """Run passes until the statement as it is written has little left to do."""
        progress = self._run_pass(self._resumed() or self._first())
        while (tag := self._finish(progress)) is None:
            progress = self._run_pass(self._next_turn(progress))
        seconds = time.monotonic() - self._started
        command, rows = f"{tag} {self._rows}", self._rows
        event = StatementFinished(self._step, self._statement, seconds, command, rows)
        self._context.notify(event)

    def _find_ranges(self) -> ranges.Ranges:
        try:
            return ranges.of(self._context.conn, self._read)
        except ranges.NoRangesError as error:
            message, hint = error.args
            self._fail(message, hint, error)

    def _fail(self, message: str, hint: str, error: Exception | None = None) -> NoReturn:
        fields = {Field.MESSAGE_PRIMARY: message}
        refusal = failure.Refusal(self._context, Subject(self._step, self._statement), fields)
        again = f"{hint}\nafter that, run: migrator {self._step.direction}"
        raise failure.of_statement(refusal, again) from error

    def _first(self) -> BatchProgress:
        meaning = "\0".join(parser.statement_tokens(self._statement))
        return BatchProgress(
            self._step.direction,
            self._index,
            hashlib.sha256(f"{self._read.option} {meaning}".encode()).hexdigest()[:16],
            self._ranges.table,
            end=self._ranges.end(),
            size=self._ranges.first,
        )

    def _resumed(self) -> BatchProgress | None:
        """Return how far an earlier run has come; None if there was none of this statement."""
        known, first = self._recorded, self._first()
        if known is None or (known.direction, known.unit) != (first.direction, first.unit):
            return None
        where = f"statement {self._index + 1} of {self._step.version}"
        if (known.checksum, known.table) != (first.checksum, first.table):
            self._context.notify(Remarked(f"{where} has been edited: its batches start over"))
            return None
        if known.turn >= _ENDLESS:  # others may have stopped writing such rows
            return replace(first, rows=known.rows)
        done = counted(known.rows, "row")
        self._context.notify(Remarked(f"{where} resumes after its last batch: {done} so far"))
        return known

    def _run_pass(self, progress: BatchProgress) -> BatchProgress:
        self._since = (progress.done, time.monotonic())
        while piece := self._ranges.next(progress):
            stop_if_interrupted(self._context, self._step)
            batch = self._run_batch(piece, progress)
            rows, seconds = batch.rows, batch.seconds
            self._last = (piece.after.done - progress.done, seconds)
            self._rows += rows
            progress = replace(
                piece.after,
                size=self._size(progress.size, seconds, rows),
                rows=piece.after.rows + rows,
                in_turn=piece.after.in_turn + rows,
            )
            if not self._read.place and not rows:
                return progress
            self._pause(progress, seconds)
        return progress

    def _run_batch(self, piece: ranges.Range, progress: BatchProgress) -> _Batch:
        context, step = self._context, self._step
        done = record.done(step, self._index)
        command = context.recorder.batch(step.version, done, self._recorded, piece.after)
        batch = _Batch(context, step, self._read, piece.condition, command)
        self._batches += 1
        batch.is_flushed = self._batches % _FLUSHED == 0
        batch.is_traced = context.tracer is not None and self._batches == 1
        if self._batches == 1:
            batch.started = f"{self._what}, after {counted(progress.rows, 'row')}"
        run(context, [batch])
        self._recorded, self._tag = piece.after, batch.tag.rstrip("0123456789 ")
        return batch

    def _size(self, size: int, seconds: float, rows: int) -> int:
        """Return the size of the next batch: towards the time that one is to take."""
        wanted = self._batch_time() / 1000
        factor = min(_GROWTH, max(1 / _GROWTH, wanted / max(seconds, 0.001)))
        factor = min(factor, _MOST_ROWS / max(rows, 1))
        return max(self._ranges.least, min(round(size * factor), self._ranges.most))

    def _batch_time(self) -> int:
        of_file = self._step.script.options.batch_time
        # Without a limit, the statement as it is written could hold its locks for hours.
        return max(self._context.settings.batch_time if of_file is None else of_file, 1)

    def _next_turn(self, progress: BatchProgress) -> BatchProgress:
        first = progress.in_first or progress.in_turn
        name = f"pass {progress.turn} over {progress.table}"
        if progress.turn >= _ENDLESS and progress.in_turn * 2 >= first:
            self._fail(
                f"{name} still changed {counted(progress.in_turn, 'row')}",
                "make the WHERE exclude the rows that the statement has changed; if other sessions "
                "keep writing such rows, stop them first",
            )
        if progress.turn >= _ENDLESS:
            changed = counted(progress.in_turn, "row")
            self._context.notify(Remarked(f"{name} changed {changed}; another pass follows"))
        return replace(
            progress,
            turn=progress.turn + 1,
            done=0,
            end=self._ranges.end(),
            key=None,
            in_turn=0,
            in_first=first,
        )

    def _finish(self, progress: BatchProgress) -> str | None:
        """Change the rows that the passes have missed, and record the end.

        Returns:
            The command tag without counts; None if another pass has to come first.
        """
        context, step = self._context, self._step
        end = record.end_unit(context, step, self._index)
        if not self._read.place:
            record.write(context, step, end)
            return self._tag
        closing = _Closing(context, step, self._read, "", end)
        closing.is_traced = context.tracer is not None and not self._batches
        if progress.in_turn:
            first = progress.in_first or progress.in_turn
            is_many = progress.turn > 1 and progress.in_turn > first // _FEW
            if self._is_long or is_many:
                return None
            closing.limit, closing.most = self._batch_time() * _SHORT, first // _FEW
        self._tell(progress, None, phase="final run of the whole statement")
        if not self._is_closed(closing):
            return None
        self._rows += closing.rows
        return closing.tag.rstrip("0123456789 ")

    def _is_closed(self, closing: _Closing) -> bool:
        started = time.monotonic()
        try:
            run(self._context, [closing])
        except StatementError as error:
            took = (time.monotonic() - started) * 1000
            is_limit = error.sqlstate == _TIMED_OUT and closing.limit and took >= closing.limit
            if not is_limit or self._context.conn.closed:
                raise
            self._is_long = True
            return False
        return closing.is_done

    def _pause(self, progress: BatchProgress, seconds: float) -> None:
        """Pause after a batch, longer while there is a reason to."""
        self._tell(progress, None)
        if self._context.outcome is not None:
            return  # in a scratch database nobody else is at work
        interrupts = self._context.interrupts
        interrupts.wait(self._throttle.share(seconds))
        while not interrupts.signal and (reason := self._throttle.reason()):
            self._tell(progress, reason)
            interrupts.wait(throttle.PAUSE)

    def _tell(self, progress: BatchProgress, reason: str | None, phase: str = "") -> None:
        took = time.monotonic() - self._started
        began, since = self._since
        here = progress.done - began if self._ranges.unit == "blocks" else 0
        left = (time.monotonic() - since) / here * (progress.end - progress.done) if here else None
        size, seconds = self._last
        batches = Batches(
            progress.rows, self._rows / took if took else 0.0, left, size, seconds, reason
        )
        phase = phase or f"pass {progress.turn}"
        phase += ", waiting" if reason else ""
        unit = "blocks" if self._ranges.unit == "blocks" else "batches"
        how_far = Progress(self._what, phase, progress.done, progress.end, unit, batches)
        self._context.notify(Progressed(self._step, self._statement, took, how_far))
