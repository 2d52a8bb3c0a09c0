"""The cursors that run migrator's own statements, apart from the settings of the user."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg import pq, sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from ..passwords import without_passwords
from . import settings

LOG = logging.getLogger("migrator")
"""Logs every statement that is sent, at level DEBUG."""

_LOGGED = 2000  # characters of a statement


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A session; `execute` runs a statement of our own, under settings of our own.

    Attributes:
        lasting: The settings for the time of the session; the first statement sets them, in the
            same message.
        is_settled: Whether it has them.
    """

    lasting: Mapping[str, str] = {}
    is_settled = False

    def starting(self) -> tuple[bytes, ...]:
        """Return the statements for the session's initial settings, until they have been sent."""
        is_idle = self.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if self.is_settled or not is_idle:
            return ()
        return settings.starting(self.lasting, self.info.backend_pid)


class OwnCursor(psycopg.ClientCursor[Any]):
    """Runs our own statements, and logs each with how long its answer took.

    The settings go in the same message: they cost no round trip, and end with the statement's
    transaction.
    """

    def execute(self, query: Any, params: Any = None, **kwargs: Any) -> Self:
        """Run a statement, or several; the cursor is at the result of the first.

        Raises:
            psycopg.Error: PostgreSQL refused it; OperationalError if the connection was lost.
        """
        assert isinstance(self.connection, Connection), "`connect` makes it"
        text = _text(query, self.connection, has_parameters=params is not None)
        before = (*self.connection.starting(), *settings.SET_OWN)
        started = time.monotonic()
        try:
            super().execute(b"; ".join((*before, text)), params, **kwargs)
        finally:
            log_statement(text, time.monotonic() - started)
        self.connection.is_settled = True
        for _ in before:
            self.nextset()
        return self


class _PlainCursor(psycopg.Cursor[Any]):
    """Runs a statement as it is, and logs it."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Self:
        started = time.monotonic()
        try:
            return super().execute(query, *args, **kwargs)
        finally:
            log_statement(_text(query, self.connection), time.monotonic() - started)


class _RawCursor(_PlainCursor, psycopg.RawCursor[Any]):
    """The same, for parameters written as `$1`, `$2`, …."""


class TimestampLoader(Loader):
    """Reads what `datestyle = iso` writes; psycopg's own loader expects the session's setting."""

    def load(self, data: Buffer) -> datetime:
        """Read a time with the server's offset.

        Raises:
            psycopg.DataError: Python has no such time, as `infinity`.
        """
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError as error:
            raise psycopg.DataError(f"cannot read the time {text}") from error


def _text(query: Any, conn: psycopg.Connection[Any], *, has_parameters: bool = False) -> bytes:
    """Return a query as bytes; a `%` in a name that was put into it is not a placeholder."""
    if isinstance(query, str):
        return query.encode()
    if isinstance(query, sql.Composed):
        return b"".join(_text(part, conn, has_parameters=has_parameters) for part in query)
    if isinstance(query, sql.Composable):
        text = query.as_bytes(conn)
        is_name = has_parameters and not isinstance(query, sql.SQL)
        return text.replace(b"%", b"%%") if is_name else text
    return bytes(query)


def log_statement(text: bytes | str, seconds: float) -> None:
    """Log a statement without its passwords; its answer took `seconds`."""
    if LOG.isEnabledFor(logging.DEBUG):
        readable = text[:_LOGGED].decode(errors="replace") if isinstance(text, bytes) else text
        shown = without_passwords(readable[:_LOGGED])
        LOG.debug("%8.1f ms  %s", seconds * 1000, " ".join(shown.split()))


def send(conn: Connection, text: bytes, parameters: tuple[bytes | None, ...]) -> None:
    """Run one statement with parameters in text form, written as `$1`, `$2`, ….

    It is one of our own, in a transaction that `writing` has begun.  Signals interrupt the wait,
    unlike a blocking call of libpq.

    Raises:
        psycopg.Error: PostgreSQL refused it; OperationalError if the connection was lost.
    """
    values = [value if value is None else value.decode() for value in parameters]
    _RawCursor(conn).execute(text, values)


def run_plainly(conn: psycopg.Connection[Any], query: Any, parameters: Any = None) -> Any:
    """Run a statement under the settings of the session, and return its cursor.

    For what cannot run in a transaction, and for names as a script's search path finds them.
    Every function, operator and type in it has its schema.

    Raises:
        psycopg.Error: As `send`.
    """
    if isinstance(conn, Connection) and conn.starting():
        settle(conn)
    return _PlainCursor(conn).execute(query, parameters)


def explain(conn: psycopg.Connection[Any], statement: str) -> Any:
    """Return the plan of a statement of a script, without running it, under its settings.

    Raises:
        psycopg.Error: PostgreSQL refused it, or it is more than one statement.
    """
    text = b"explain (format json, verbose) " + statement.encode()
    # In the binary format the server accepts one statement only.
    row = _PlainCursor(conn).execute(text, binary=True).fetchone()
    assert row is not None, "a plan is one row"
    return row[0][0]["Plan"]


def prepare(conn: psycopg.Connection[Any], name: str, types: Sequence[str], query: str) -> None:
    """Prepare a query under a name, without running it, under the settings of the session.

    Args:
        types: Of its first parameters; `unknown` for one that PostgreSQL is to infer.

    Raises:
        psycopg.Error: PostgreSQL refused it, or it is more than one statement.
    """
    declared = f"({', '.join(types)})" if types else ""
    # In the binary format the server accepts one statement only.
    _PlainCursor(conn).execute(f"prepare {name} {declared} as {query}".encode(), binary=True)


def settle(conn: Connection) -> None:
    """Apply the session's initial settings again, after a script that may have reset them."""
    conn.is_settled = False
    conn.execute("select")
