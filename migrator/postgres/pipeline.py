"""Send statements without waiting for each answer, and match every answer with its statement.

This is libpq's pipeline mode.  After an error the server skips everything up to the next
synchronisation point, and that point is set only at the end of a run: nothing sent after a failed
statement is ever executed.  See "Pipeline Mode" in the chapter on libpq of PostgreSQL's manual.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from ..errors import MigrationFileError
from ..events import Notice, Subject
from .cursor import log_statement
from .inflight import Answer, BatchError, Field, InFlight, Message, RefusedError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from ..interrupts import Interrupts

_Status = pq.ExecStatus

_MESSAGES_A_FLUSH = 64  # a flush request for each message would cost a system call on both sides
_LONG = 1 << 18  # bytes; the simple protocol, outside the pipeline, copies a statement less often
_BUFFER = 1 << 22  # bytes
_TICK = 0.05  # seconds between two checks for a signal while no answer comes
_LAST_CANCEL = 1.0  # seconds for the server to take a request before the connection is closed
_PATIENCE = 5.0  # seconds for the server to confirm a cancel; a container is killed after ten


@dataclass(frozen=True, slots=True)
class Listener:
    """What is called during a run; an exception in a callback ends the run and the connection.

    Attributes:
        answer: A statement has run.  The message's own `on_answer` is called after it.
        notice: The server sent a notice about a statement.
        idle: The server has worked on a statement for so many seconds; called often.
    """

    answer: Callable[[Answer], None]
    notice: Callable[[Subject, Notice], None]
    idle: Callable[[Subject, float], None]


def run(
    conn: psycopg.Connection[Any],
    messages: Iterable[Message],
    listener: Listener,
    interrupts: Interrupts,
) -> None:
    """Send the messages in order, and handle their answers in order.

    When a signal arrives, nothing more is sent and the running statement is cancelled.  This
    returns or raises when the server has answered everything that was sent.

    Raises:
        RefusedError: Nothing after the message was run.  A transaction that was open
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
        with suppress(psycopg.Error):
            conn.cancel_safe(timeout=_LAST_CANCEL)
        # Answers that are still due could be taken for those of the next run.
        conn.close()
        raise
    finally:
        if not conn.closed:
            conn.pgconn.nonblocking = 0
            conn.pgconn.notice_handler = before
    if sender.failure:
        raise sender.failure


class _Sender:
    """One run: sends the messages and reads what comes back."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        listener: Listener,
        interrupts: Interrupts,
        first: Message,
    ) -> None:
        self.failure: RefusedError | None = None
        self._conn = conn
        self._pgconn = conn.pgconn
        self._listener = listener
        self._interrupts = interrupts
        self._in_flight = InFlight(first)
        self._notices: deque[tuple[Subject, Notice]] = deque()
        self._unrequested = 0  # messages sent since the last flush request
        self._answered_at = self._moved_at = time.monotonic()
        self._cancelled_at: float | None = None
        self._cause: MigrationFileError | None = None  # why COPY data were not sent

    def send_all(self, messages: Iterable[Message]) -> None:
        for message in messages:  # the next one is made while the server works
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
        """Keep the first failure; later ones are its consequences."""
        if self.failure is None:
            self.failure = self._in_flight.refused(fields, self._cause)

    def on_notice(self, result: PGresult) -> None:
        """Keep a notice with the statement that it is about; libpq drops exceptions from here."""
        fields = _fields(result)
        subject = self._in_flight.noticed(fields, self._has_answer)
        if subject is not None:
            notice = Notice(
                fields.get(Field.SEVERITY_NONLOCALIZED, "NOTICE"),
                fields.get(Field.SQLSTATE, "00000"),
                fields.get(Field.MESSAGE_PRIMARY, ""),
                fields.get(Field.MESSAGE_DETAIL),
                fields.get(Field.MESSAGE_HINT),
            )
            self._notices.append((subject, notice))

    def _has_answer(self) -> bool:
        """Whether libpq has read an answer that we have not; called while libpq is reading.

        libpq reads a notice that comes after an answer before it returns that answer.  For a
        batch, only this tells which statement the notice belongs to: single-row mode can be set
        as long as no answer has begun, and changes nothing for INSERTs without RETURNING.
        """
        try:
            self._pgconn.set_single_row_mode()
        except psycopg.OperationalError:
            return True
        return False

    def _send(self, message: Message) -> None:
        if not self._in_flight:
            self._answered_at = self._moved_at = time.monotonic()
        is_alone = self._is_off()
        if len(message.sql) > _BUFFER:
            self._widen()
        if is_alone and not message.parameters:
            self._pgconn.send_query(message.sql)
        else:
            self._pgconn.send_query_params(message.sql, message.parameters)
            for sql in message.more:
                self._pgconn.send_query_params(sql, ())
        self._in_flight.add(message)
        self._unrequested += 1
        if is_alone:
            self._unrequested = 0
            self._pgconn.flush()
        elif message.asks or self._unrequested >= _MESSAGES_A_FLUSH:
            self._request_answers()
            self._pgconn.consume_input()
            self._read_answers()
        if self._in_flight.load > 1:
            # Refill in large pieces, not with one message for each answer.
            self._read_until(lambda: self.failure is not None or self._in_flight.load <= 1 / 2)

    def _widen(self) -> None:
        """Enlarge the socket's buffer: libpq moves the unsent rest in memory at each send."""
        with socket.socket(fileno=os.dup(self._pgconn.socket)) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def _request_answers(self) -> None:
        """Request the answers to all that was sent; otherwise the server collects them."""
        self._pgconn.send_flush_request()
        self._pgconn.flush()
        self._unrequested = 0

    def _is_off(self) -> bool:
        """Whether the pipeline is off, and a message is sent alone, by the simple protocol."""
        return self._pgconn.pipeline_status == pq.PipelineStatus.OFF

    def _finish(self) -> None:
        """Wait for all that is in flight, and end the pipeline."""
        if not self._is_off():
            self._pgconn.pipeline_sync()
            self._unrequested = 0
        self._read_until(lambda: not self._in_flight and self._is_off())

    def _read_until(self, is_enough: Callable[[], bool]) -> None:
        while True:
            self._read_answers()
            if is_enough():
                return
            self._wait()

    def _read_answers(self) -> None:
        """Read every answer that has arrived."""
        while self._in_flight or not self._is_off():
            is_busy = self._pgconn.is_busy()
            self._pass_on_notices()
            if is_busy:
                return
            answered, self._in_flight.is_answered = self._in_flight.is_answered, True
            result = self._pgconn.get_result()
            self._pass_on_notices()
            if result is None:
                self._in_flight.is_answered = False
                if not answered:
                    return
                self._end_answer()
            elif result.status == _Status.PIPELINE_SYNC:
                self._in_flight.is_answered = False
                self._pgconn.exit_pipeline_mode()
            else:
                self._read(result)

    def _end_answer(self) -> None:
        self._in_flight.due -= 1
        if not self._in_flight.due:
            if self._in_flight.left and self.failure is None:
                self.failure = self._in_flight.not_a_batch()
            self._in_flight.drop_first()
            self._pass_on_notices()

    def _pass_on_notices(self) -> None:
        if isinstance(self.failure, BatchError):
            self._notices.clear()  # the statements are sent again, and raise them again
        elif self._in_flight and self._in_flight.first.parts:
            return  # it may become a BatchError
        while self._notices:
            self._listener.notice(*self._notices.popleft())

    def _read(self, result: PGresult) -> None:
        match result.status:
            case _Status.COMMAND_OK | _Status.TUPLES_OK | _Status.EMPTY_QUERY if (
                self._in_flight.due > 1
            ):
                pass  # one of `more` is still to come
            case _Status.COMMAND_OK if self._in_flight.left > 1:
                self._in_flight.left -= 1
                self._in_flight.rows += result.command_tuples or 0
                self._moved_at = time.monotonic()
            case _Status.COMMAND_OK if self._in_flight.left:
                self._in_flight.left = 0
                self._answer(result)
            case _Status.COMMAND_OK | _Status.TUPLES_OK | _Status.SINGLE_TUPLE if (
                self._in_flight.first.parts
            ):
                self.failure = self.failure or self._in_flight.not_a_batch()
            case _Status.COMMAND_OK | _Status.TUPLES_OK | _Status.EMPTY_QUERY:
                self._answer(result)
            case _Status.COPY_IN:
                self._in_flight.is_answered = False
                self._copy()
            case _Status.PIPELINE_ABORTED:
                pass
            case _:
                fields = _fields(result) or {Field.MESSAGE_PRIMARY: f"unexpected {result.status}"}
                self.fail(fields)
                if self._pgconn.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError(fields.get(Field.MESSAGE_PRIMARY, ""))

    def _answer(self, result: PGresult) -> None:
        message = self._in_flight.first
        now = time.monotonic()
        seconds, self._answered_at = now - self._answered_at, now
        self._moved_at = now
        log_statement(b"; ".join((message.sql, *message.more)), seconds)
        rows = result.command_tuples
        answer = Answer(
            message.subject,
            (result.command_status or b"").decode(),
            rows if rows is None else rows + self._in_flight.rows,
            seconds,
            result.get_value(0, 0) if result.ntuples and result.nfields else None,
            len(message.parts) or 1,
        )
        self._listener.answer(answer)
        if message.on_answer:
            message.on_answer(answer)

    def _copy(self) -> None:
        data = self._in_flight.first.data
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
            while self._pgconn.flush():  # otherwise libpq keeps in memory what is not sent yet
                self._wait()
            if self._interrupts.signal:
                return

    def _wait(self) -> None:
        """Wait until data can be sent or read, for one tick; cancel on a signal."""
        if self._unrequested:
            self._request_answers()
        unsent = [self._pgconn.socket] if self._pgconn.flush() else []
        arrived, _, _ = select.select(
            [self._pgconn.socket, self._interrupts.fileno()], unsent, [], _TICK
        )
        if self._pgconn.socket in arrived:
            self._pgconn.consume_input()
        if self._interrupts.signal:
            self._cancel()
        elif not arrived and self._in_flight:
            waited = time.monotonic() - self._moved_at
            self._listener.idle(self._in_flight.subject, waited)

    def _cancel(self) -> None:
        """Cancel the running statement, repeatedly: a request between two statements is lost."""
        now = time.monotonic()
        self._cancelled_at = self._cancelled_at or now
        left = self._cancelled_at + _PATIENCE - now
        if left <= 0:
            raise psycopg.OperationalError("the server did not answer a request to cancel")
        self._conn.cancel_safe(timeout=left)
        time.sleep(_TICK / 10)


def _goes_alone(message: Message) -> bool:
    is_long = len(message.sql) > _LONG
    return message.alone or message.data is not None or bool(message.parts) or is_long


def _fields(result: PGresult) -> dict[Field, str]:
    values = ((field, result.error_field(field)) for field in Field)
    return {field: value.decode(errors="replace") for field, value in values if value is not None}
