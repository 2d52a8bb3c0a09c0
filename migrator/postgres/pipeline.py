"""Send statements without waiting for each answer, and match every answer with its statement.

On libpq's pipeline mode: after an error the server skips whatever was sent behind it, up to
the next synchronisation point, and that point is set only at the end of a run.  So nothing
that was sent behind a failed statement is ever executed.  See "Pipeline Mode" in the chapter
on libpq of PostgreSQL's manual.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic

import psycopg
from psycopg import pq

from ..errors import MigrationFileError
from ..events import Notice
from .connection import log_statement
from .inflight import Field, Flight, HeapError, Message, RefusedError, Tag

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from ..interrupts import Interrupts

_Status = pq.ExecStatus

_MESSAGES_A_FLUSH = 64  # to ask for every answer by itself costs a system call on both sides
_LONG = 1 << 18  # bytes; the simple protocol, outside the pipeline, copies a statement less often
_BUFFER = 1 << 22  # bytes
_TICK = 0.05  # seconds between two looks around while no answer comes
_PATIENCE = 5.0  # seconds that a cancelled server may take to say so; a container grants ten


@dataclass(frozen=True, slots=True)
class Answer(Generic[Tag]):
    """A statement succeeded.

    Attributes:
        command: The server's command tag, such as `INSERT 0 3`.
        rows: How many rows the tag counts; None if it counts none.
        seconds: Since the answer before it.
        value: The first column of the first row, in text form; None without a row.
    """

    tag: Tag
    command: str
    rows: int | None
    seconds: float
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Listener(Generic[Tag]):
    """Who is told what; whatever a callback raises ends the run and closes the connection.

    Attributes:
        answer: A statement succeeded.
        notice: The server remarked on a statement.
        idle: The server has been at work on a statement for so many seconds; called often.
    """

    answer: Callable[[Answer[Tag]], None]
    notice: Callable[[Tag, Notice], None]
    idle: Callable[[Tag, float], None]


def run(
    conn: psycopg.Connection[Any],
    messages: Iterable[Message[Tag]],
    listener: Listener[Tag],
    interrupts: Interrupts,
) -> None:
    """Send the messages in order, and hand on the answers in order.

    When a signal arrives, nothing more is sent and what runs is cancelled; this returns
    or raises when the server has said what became of everything that was sent.

    Raises:
        RefusedError: Nothing behind the message was run.  A transaction that was open
            is open and failed; after a broken connection, `conn` is closed.
    """
    messages = iter(messages)
    first = next(messages, None)
    if first is None:
        return
    sender = _Sender(conn, listener, interrupts, first)
    before = conn.pgconn.notice_handler
    conn.pgconn.notice_handler = sender.on_notice
    try:
        conn.pgconn.nonblocking = 1
        sender.send_all(chain([first], messages))
    except psycopg.OperationalError as error:
        sender.fail({Field.MESSAGE_PRIMARY: str(error).strip()})
        conn.close()
    except BaseException:
        # Nobody could tell the answers that are still to come from those of a next run.
        conn.close()
        raise
    finally:
        if not conn.closed:
            conn.pgconn.nonblocking = 0
            conn.pgconn.notice_handler = before
    if sender.failure:
        raise sender.failure


class _Sender(Generic[Tag]):
    """The one who sends, and takes what comes back."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        listener: Listener[Tag],
        interrupts: Interrupts,
        first: Message[Tag],
    ) -> None:
        self.failure: RefusedError[Tag] | None = None
        self._conn = conn
        self._pgconn = conn.pgconn
        self._listener = listener
        self._interrupts = interrupts
        self._flight = Flight(first)
        self._notices: deque[tuple[Tag, Notice]] = deque()
        self._unasked = 0
        self._answered_at = time.monotonic()
        self._cancelled_at: float | None = None
        self._cause: MigrationFileError | None = None  # why COPY data were not sent

    def send_all(self, messages: Iterable[Message[Tag]]) -> None:
        for message in messages:  # the next one is made while the server is at work
            goes_alone = _goes_alone(message)
            if goes_alone or self._is_off():
                self._finish()
            if self.failure or self._interrupts.signal:
                break
            if self._is_off() and not goes_alone:
                self._pgconn.enter_pipeline_mode()
            self._send(message)
        self._finish()

    def fail(self, fields: Mapping[Field, str]) -> None:
        """Note the first failure; what fails behind it fails because of it."""
        if self.failure is None:
            self.failure = self._flight.refused(fields)
            self.failure.cause = self._cause

    def on_notice(self, result: PGresult) -> None:
        """Keep a notice with the statement that it is about; what raises in here is lost."""
        fields = _fields(result)
        tag = self._flight.remarked(fields, self._has_answer)
        if tag is not None:
            notice = Notice(
                fields.get(Field.SEVERITY_NONLOCALIZED, "NOTICE"),
                fields.get(Field.SQLSTATE, "00000"),
                fields.get(Field.MESSAGE_PRIMARY, ""),
                fields.get(Field.MESSAGE_DETAIL),
                fields.get(Field.MESSAGE_HINT),
            )
            self._notices.append((tag, notice))

    def _has_answer(self) -> bool:
        """Whether libpq has an answer that we have not taken; asked in the middle of its reading.

        It reads a notice that stands behind an answer before it hands that out.  Of several
        statements, nothing but this tells whose the notice is: rows one by one, which INSERTs
        without RETURNING have not, can be asked for as long as no answer has begun.
        """
        try:
            self._pgconn.set_single_row_mode()
        except psycopg.OperationalError:
            return True
        return False

    def _send(self, message: Message[Tag]) -> None:
        if not self._flight:
            self._answered_at = time.monotonic()
        is_alone = self._is_off()
        if len(message.sql) > _BUFFER:
            self._widen()
        if is_alone and not message.parameters:
            self._pgconn.send_query(message.sql)
        else:
            self._pgconn.send_query_params(message.sql, message.parameters)
            for sql in message.more:
                self._pgconn.send_query_params(sql, ())
        self._flight.add(message)
        self._unasked += 1
        if is_alone:
            self._unasked = 0
            self._pgconn.flush()
        elif message.asks or self._unasked >= _MESSAGES_A_FLUSH:
            self._ask()
            self._pgconn.consume_input()
            self._take_answers()
        if self._flight.load > 1:
            # What fits in is sent in large pieces, not a message for each answer.
            self._take_until(lambda: self.failure is not None or self._flight.load <= 1 / 2)

    def _widen(self) -> None:
        """Let the system take more at once: libpq moves what is left each time that it sends."""
        with socket.socket(fileno=os.dup(self._pgconn.socket)) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def _ask(self) -> None:
        """Ask for the answers to all that was sent; the server collects them otherwise."""
        self._pgconn.send_flush_request()
        self._pgconn.flush()
        self._unasked = 0

    def _is_off(self) -> bool:
        """Whether what is sent goes by itself, in the simple protocol if that can be."""
        return self._pgconn.pipeline_status == pq.PipelineStatus.OFF

    def _finish(self) -> None:
        """Wait for all that is in flight, and end the pipeline."""
        if not self._is_off():
            self._pgconn.pipeline_sync()
            self._unasked = 0
        self._take_until(lambda: not self._flight and self._is_off())

    def _take_until(self, is_enough: Callable[[], bool]) -> None:
        while True:
            self._take_answers()
            if is_enough():
                return
            self._wait()

    def _take_answers(self) -> None:
        """Take every answer that has arrived."""
        while self._flight or not self._is_off():
            is_busy = self._pgconn.is_busy()
            self._hand_on_notices()
            if is_busy:
                return
            answered, self._flight.is_answered = self._flight.is_answered, True
            result = self._pgconn.get_result()
            self._hand_on_notices()
            if result is None:
                self._flight.is_answered = False
                if not answered:
                    return
                self._flight.due -= 1
                if not self._flight.due:
                    if self._flight.left and self.failure is None:
                        self.failure = HeapError(self._flight.tag, {})
                    self._flight.drop_first()
                    self._hand_on_notices()
            elif result.status == _Status.PIPELINE_SYNC:
                self._flight.is_answered = False
                self._pgconn.exit_pipeline_mode()
            else:
                self._take(result)

    def _hand_on_notices(self) -> None:
        if isinstance(self.failure, HeapError):
            self._notices.clear()  # what is sent again is remarked on again
        elif self._flight and self._flight.first.parts:
            return  # it may turn out to be one
        while self._notices:
            self._listener.notice(*self._notices.popleft())

    def _take(self, result: PGresult) -> None:
        match result.status:
            case _Status.COMMAND_OK | _Status.TUPLES_OK | _Status.EMPTY_QUERY if (
                self._flight.due > 1
            ):
                pass
            case _Status.COMMAND_OK if self._flight.left > 1:
                self._flight.left -= 1
                self._answered_at = time.monotonic()
            case _Status.COMMAND_OK if self._flight.left:
                self._flight.left = 0
                self._answer(result)
            case _Status.COMMAND_OK | _Status.TUPLES_OK | _Status.SINGLE_TUPLE if (
                self._flight.first.parts
            ):
                self.failure = self.failure or HeapError(self._flight.tag, {})
            case _Status.COMMAND_OK | _Status.TUPLES_OK | _Status.EMPTY_QUERY:
                self._answer(result)
            case _Status.COPY_IN:
                self._flight.is_answered = False
                self._copy()
            case _Status.PIPELINE_ABORTED:
                pass
            case _:
                fields = _fields(result) or {Field.MESSAGE_PRIMARY: f"unexpected {result.status}"}
                self.fail(fields)
                if self._pgconn.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError(fields.get(Field.MESSAGE_PRIMARY, ""))

    def _answer(self, result: PGresult) -> None:
        message = self._flight.first
        now = time.monotonic()
        seconds, self._answered_at = now - self._answered_at, now
        log_statement(b"; ".join((message.sql, *message.more)), seconds)
        command = (result.command_status or b"").decode()
        rows = result.command_tuples
        value = result.get_value(0, 0) if result.ntuples and result.nfields else None
        self._listener.answer(Answer(self._flight.tag, command, rows, seconds, value))

    def _copy(self) -> None:
        data = self._flight.first.data
        reason = None
        try:
            if data is None:
                reason = "the statement has no data"
            else:
                self._send_data(data())
        except MigrationFileError as error:
            self._cause, reason = error, str(error)
        if self._interrupts.signal:
            reason = "interrupted"
        while not self._pgconn.put_copy_end(reason.encode() if reason else None):
            self._wait()

    def _send_data(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            while not self._pgconn.put_copy_data(piece):
                self._wait()
            while self._pgconn.flush():  # libpq would keep in memory what the server is yet to read
                self._wait()
            if self._interrupts.signal:
                return

    def _wait(self) -> None:
        """Wait until something moves, and look around while nothing does."""
        if self._unasked:
            self._ask()
        unsent = [self._pgconn.socket] if self._pgconn.flush() else []
        arrived, _, _ = select.select(
            [self._pgconn.socket, self._interrupts.fileno()], unsent, [], _TICK
        )
        if self._pgconn.socket in arrived:
            self._pgconn.consume_input()
        if self._interrupts.signal:
            self._cancel()
        elif not arrived and self._flight:
            waited = time.monotonic() - self._answered_at
            self._listener.idle(self._flight.tag, waited)

    def _cancel(self) -> None:
        """Cancel what runs; again and again, for a request between two statements is lost."""
        now = time.monotonic()
        self._cancelled_at = self._cancelled_at or now
        left = self._cancelled_at + _PATIENCE - now
        if left <= 0:
            raise psycopg.OperationalError("the server did not answer a request to cancel")
        self._conn.cancel_safe(timeout=left)
        time.sleep(_TICK / 10)


def _goes_alone(message: Message[Tag]) -> bool:
    is_long = len(message.sql) > _LONG
    return message.alone or message.data is not None or bool(message.parts) or is_long


def _fields(result: PGresult) -> dict[Field, str]:
    values = ((field, result.error_field(field)) for field in Field)
    return {field: value.decode(errors="replace") for field, value in values if value is not None}
