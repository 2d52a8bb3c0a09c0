"""Connect, know the session, take the runner's lock; errors with a place, no password printed."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from . import catalog
from .config import Database
from .errors import (
    CancelledError,
    ConfigurationError,
    DatabaseConnectionError,
    HistoryError,
    LockTimeoutError,
    RunnerLockError,
)
from .events import Event, Waiting
from .interrupts import Interrupts
from .model import Backend

Connection = psycopg.Connection[tuple[Any, ...]]
Field = pq.DiagnosticField

_CONNECT_TIMEOUT = "10"  # seconds, for one address; `connect_timeout` in the URL overrides it
# While an index is built for hours nothing is sent, and a firewall forgets such a connection.
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}
_POLL = 0.25  # seconds between two tries for the runner's lock

LOG = logging.getLogger("migrator")
"""Every statement that is sent, at the level DEBUG."""

# psycopg tells stderr of its own what we tell the user in our words.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_LOGGED = 2000  # characters of a statement
_PASSWORD = re.compile(r"(?i)(password\s+)'(?:[^']|'')*'?")

_HINTS = (
    ("password authentication failed", "check the user and the password{}USER, _PASSWORD"),
    ("no password supplied", "give a password, or use a passfile{}PASSWORD"),
    ("no pg_hba.conf entry", "allow this user and host in pg_hba.conf, or check{}USER, _SSL"),
    ("SSL", "check whether the server takes SSL{}SSL"),
    ("does not exist", "create it, or check its name{}NAME, _USER"),
    ("resolve host", "check the host's name{}HOST"),
    ("translate host name", "check the host's name{}HOST"),
    ("", "check that the server runs there{}HOST, _PORT"),
)
_VARIABLES = ": DATABASE_URL, or DATABASE_"
# What psycopg and Python put before a message of libpq or of the system.
_PREFIXES = re.compile(r"^(?:connection failed|connection is bad): |\[Errno -?[0-9]+\] ")

_TRY_LOCK = "select pg_try_advisory_xact_lock(hashtextextended(%(key)s, 0))"
_TRY_SESSION_LOCK = "select pg_try_advisory_lock(hashtextextended(%(key)s, 1))"
_UNLOCK_SESSION = "select pg_advisory_unlock(hashtextextended(%(key)s, 1))"
_HOLDERS = """
select array_agg(distinct pid)
from pg_catalog.pg_locks,
     (values (hashtextextended(%(key)s, 0)), (hashtextextended(%(key)s, 1))) as k (key)
where locktype = 'advisory'
  and granted
  and database = (select oid from pg_catalog.pg_database where datname = current_database())
  and objsubid = 1
  and classid = ((key >> 32) & 4294967295)::oid
  and objid = (key & 4294967295)::oid
  and pid <> pg_backend_pid()
"""
# DISCARD ALL but for the advisory locks: one of them is ours.
_FORGET = """
close all;
set session authorization default;
reset all;
deallocate all;
unlisten *;
discard plans;
discard temp;
discard sequences;
set client_encoding to 'UTF8'
"""
_LOOKS = 3  # at which sessions a pooler gives us, before we believe that they are our own


class _LoggingCursor(psycopg.Cursor[Any]):
    """A cursor that logs what it sends, and how long the answer took."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Self:
        started = time.monotonic()
        try:
            return super().execute(query, *args, **kwargs)
        finally:
            if LOG.isEnabledFor(logging.DEBUG):
                text = query if isinstance(query, bytes | str) else query.as_string(None)
                log_statement(text, time.monotonic() - started)


class _LoggingRawCursor(_LoggingCursor, psycopg.RawCursor[Any]):
    """The same, with parameters as the server numbers them."""


def log_statement(text: bytes | str, seconds: float) -> None:
    """Log a statement that was sent, without passwords; `seconds` until its answer."""
    if LOG.isEnabledFor(logging.DEBUG):
        readable = text[:_LOGGED].decode(errors="replace") if isinstance(text, bytes) else text
        shown = _PASSWORD.sub(r"\1'****'", readable[:_LOGGED])
        LOG.debug("%8.1f ms  %s", seconds * 1000, " ".join(shown.split()))


def connect(database: Database) -> Connection:
    """Connect, in autocommit, without prepared statements, in UTF-8.

    Raises:
        ConfigurationError: The URL cannot be read.
        DatabaseConnectionError: No connection was made.
    """
    given = {**_parsed(database.url), **database.parameters}
    defaults = {"connect_timeout": _CONNECT_TIMEOUT, "application_name": "migrator", **_KEEPALIVES}
    if "PGAPPNAME" in os.environ:
        del defaults["application_name"]
    parameters: dict[str, Any] = {**defaults, **given, "client_encoding": "utf8"}
    try:
        return psycopg.connect(
            **parameters, autocommit=True, prepare_threshold=None, cursor_factory=_LoggingCursor
        )
    except psycopg.OperationalError as error:
        raise _no_connection(error, parameters.get("password")) from None


def _parsed(url: str) -> dict[str, Any]:
    """Read a URL or connection string, without ever repeating a part of it.

    A "@" or "/" in a password cuts it in two, and libpq takes the rest of it for the host's
    or the database's name: every later message would show it.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = {}
    port = str(given.get("port", "0"))
    places = (str(given.get(name, "")) for name in ("host", "dbname"))
    cut = "://" in url and any("@" in place and place in url for place in places)
    if (url and not given) or cut or not port.replace(",", "0").isdecimal():
        raise ConfigurationError(
            "the database URL cannot be read",
            hint="write postgresql://user:password@host:5432/name, with special characters "
            "in the password as %40 (@), %3A (:), %2F (/), %25 (%)",
        )
    return given


def _no_connection(error: psycopg.Error, password: Any) -> DatabaseConnectionError:
    text = _PREFIXES.sub("", " ".join(str(error).split()))
    for secret in (password, os.environ.get("PGPASSWORD")):
        text = text.replace(str(secret), "****") if secret else text
    hint = next(hint for part, hint in _HINTS if part in text)
    return DatabaseConnectionError(text, hint=hint.format(_VARIABLES))


@contextmanager
def reported(schema: str | None = None) -> Iterator[None]:
    """Turn what PostgreSQL refuses of our own statements into errors for the user.

    Raises:
        DatabaseConnectionError: The connection broke.
        HistoryError: Everything else, such as a missing privilege.
    """
    try:
        yield
    except psycopg.Error as error:
        sqlstate = error.sqlstate or ""
        if isinstance(error, psycopg.OperationalError) and sqlstate[:3] in ("", "080", "57P"):
            raise DatabaseConnectionError(
                "the connection was lost: " + " ".join(str(error).split()),
                hint="see how far it came with: migrator status",
            ) from error
        if isinstance(error, psycopg.errors.LockNotAvailable):
            raise LockTimeoutError(
                f'somebody holds a lock on the history in the schema "{schema}"',
                sqlstate=sqlstate,
                hint="see who in pg_locks, wait for it or end it, and try again",
            ) from error
        raise HistoryError(
            error.diag.message_primary or str(error),
            detail=error.diag.message_detail,
            hint=_hint(error, schema),
        ) from error


def _hint(error: psycopg.Error, schema: str | None) -> str | None:
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return (
                f'to read the history, the role needs "usage" on the schema "{schema}" and '
                '"select" on its table migration_versions;\n'
                'to write it, "create" on the schema, or all rights on its tables '
                "migration_versions and migration_log"
            )
        case psycopg.errors.DuplicateTable() | psycopg.errors.DuplicateObject():
            return "something else has that name: put the history elsewhere with --schema"
    return error.diag.message_hint


def send(conn: Connection, text: bytes, parameters: tuple[bytes | None, ...]) -> None:
    """Send one statement with its parameters in text form, as `$1`, `$2`, …, and wait for it.

    The wait can be interrupted, as no call of libpq's own can be.

    Raises:
        psycopg.Error: As PostgreSQL has it; OperationalError if the connection broke.
    """
    values = [value if value is None else value.decode() for value in parameters]
    _LoggingRawCursor(conn).execute(text, values)


def forget(conn: Connection) -> None:
    """Put a session into the state in which it connected; not inside a transaction.

    Behind a pooler RESET ALL does not bring back the encoding that we connected with.
    """
    conn.execute(_FORGET)


def shares_sessions(conn: Connection, other: Connection) -> bool:
    """Whether a pooler gives each transaction whatever session is free.

    A session that stays with its client is always the same, and never the other one's.
    """
    mine: set[int] = set()
    others: set[int] = set()
    for _ in range(_LOOKS):
        mine |= {_pid(conn), _pid(conn)}
        others.add(_pid(other))
    return len(mine) > 1 or len(others) > 1 or bool(mine & others)


def _pid(conn: Connection) -> int:
    return int(conn.execute("select pg_backend_pid()").fetchall()[0][0])


def _try_lock(conn: Connection, key: dict[str, str]) -> bool:
    """Begin a transaction that has the lock, and return True; or leave none behind.

    Each try has a transaction of its own, and is sent by the simple protocol: a CREATE
    INDEX CONCURRENTLY waits for the end of every transaction that it once saw with a
    snapshot, and the portal of an extended query keeps its snapshot when it is done.
    """
    # The transaction is meant to be idle for as long as the migrations take.
    limits = (f"set local {setting} = 0" for setting in idle_limits(conn))
    statements = ("begin isolation level read committed read only", *limits, _TRY_LOCK)
    cursor = psycopg.ClientCursor(conn).execute("; ".join(statements).encode(), key)
    while cursor.nextset():
        pass  # the last result is that of the try
    row = cursor.fetchone()
    if row and row[0]:
        return True
    conn.rollback()
    return False


@dataclass(frozen=True, slots=True)
class _Try:
    """Whether the runner's lock was had, and which other sessions hold it if not."""

    had: bool
    others: tuple[Backend, ...] = ()


def _tried(conn: Connection, worker: Connection | None, key: dict[str, str]) -> _Try:
    """Take the lock of the keeper and that of the worker, both or neither."""
    with reported():
        if _try_lock(conn, key):
            if worker is None or worker.execute(_TRY_SESSION_LOCK, key).fetchall()[0][0]:
                return _Try(had=True)
            conn.rollback()
        row = conn.execute(_HOLDERS, key).fetchone()
        return _Try(had=False, others=catalog.backends(conn, (row and row[0]) or ()))


def version(conn: Connection) -> str:
    """Return the server's version, such as `18.6`."""
    return (conn.info.parameter_status("server_version") or "").partition(" ")[0]


def idle_limits(conn: Connection) -> tuple[str, ...]:
    """Name the settings that end a session for the length of its transaction."""
    newer = ("transaction_timeout",) if conn.info.server_version >= 170000 else ()
    return ("idle_in_transaction_session_timeout", *newer)


@contextmanager
def runner_lock(
    conn: Connection,
    schema: str,
    *,
    worker: Connection | None,
    patience: float | None,
    notify: Callable[[Event], None],
    interrupts: Interrupts,
) -> Iterator[None]:
    """Hold the lock that lets one runner at a time work on a history.

    It is an advisory lock of an open READ COMMITTED transaction on `conn`, which serves
    nothing else.  The session that does the work has one, too: where only the client was
    killed, the server goes on with its statement, and the next runner waits for that.
    The tries are polled, never waited for inside the server: a waiter's snapshot would
    stop a CREATE INDEX CONCURRENTLY.

    Args:
        worker: The session that does the work; None where a pooler has no session to hold.
        patience: How long to wait for another runner, in seconds; None for ever.

    Raises:
        RunnerLockError: Another runner had the lock all that time.
        CancelledError: The user stopped the wait.
    """
    key = {"key": f"migrator:{schema}"}
    started = time.monotonic()
    announced: set[int] = set()
    while not (holders := _tried(conn, worker, key)).had:
        waited = time.monotonic() - started
        if patience is not None and waited >= patience:
            raise RunnerLockError(
                f"another runner is at work, and --lock-wait ends after {patience:g} s",
                detail="\n".join(map(str, holders.others)) or None,
                hint="wait for it, or end it with: select pg_terminate_backend(PID);",
            )
        pids = {holder.pid for holder in holders.others}
        if pids - announced:
            notify(Waiting("another runner", holders.others, waited))
            announced = pids
        if interrupts.wait(_POLL):
            raise CancelledError(
                "interrupted while waiting for another runner; nothing was run",
                signal=interrupts.signal or 0,
            )
    try:
        yield
    finally:
        # A session that is lost has lost its lock as well.
        with suppress(psycopg.OperationalError):
            if worker and not worker.closed:
                worker.rollback()
                worker.execute(_UNLOCK_SESSION, key)
        with suppress(psycopg.OperationalError):
            conn.rollback()
