"""Connect, know the session, take the runner's lock; errors with a place, no password printed."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from ..config import Database
from ..errors import (
    ConfigurationError,
    DatabaseConnectionError,
    HistoryError,
    LockTimeoutError,
    StatementError,
)

Connection = psycopg.Connection[tuple[Any, ...]]
Field = pq.DiagnosticField

_CONNECT_TIMEOUT = "10"  # seconds, for one address; `connect_timeout` in the URL overrides it
# While an index is built for hours nothing is sent, and a firewall forgets such a connection.
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}
KEEPALIVES = {f"tcp_{name}": value for name, value in _KEEPALIVES.items()}
"""The same as settings of the server, which would wait two hours for a client that is gone."""


LOG = logging.getLogger("migrator")
"""Every statement that is sent, at the level DEBUG."""

# psycopg tells stderr of its own what we tell the user in our words.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_LOGGED = 2000  # characters of a statement
_PASSWORD = re.compile(  # a literal of any kind, cut short perhaps, or a part of a conninfo
    r"(?i)(password\s*=?\s*)(?:(?:e|u&)?'(?:[^'\\]|''|\\.)*'?|(\$\w*\$).*?(?:\2|$)|(?<==)[^\s']+)",
    re.DOTALL,
)

# In a URL that was given as the name of a host or database.
_CREDENTIALS = re.compile(r":(?!//)[^\s\"']*@")

_HINTS = (
    ("password authentication failed", "check the user and the password{}USER, _PASSWORD"),
    ("no password supplied", "give a password, or use a passfile{}PASSWORD"),
    ("no pg_hba.conf entry", "allow this user and host in pg_hba.conf, or check{}USER, _SSL"),
    ("SSL", "check whether the server takes SSL{}SSL"),
    ("does not exist", "create it, or check its name{}NAME, _USER"),
    ("resolve host", "check the host's name{}HOST"),
    ("translate host name", "check the host's name{}HOST"),
    (" value", "check this parameter of the connection: DATABASE_URL, or libpq's PG* variables"),
    ("", "check that the server runs there{}HOST, _PORT"),
)
_VARIABLES = ": DATABASE_URL, or DATABASE_"
# What psycopg and Python put before a message of libpq or of the system.
_PREFIXES = re.compile(r"^(?:connection failed|connection is bad): |\[Errno -?[0-9]+\] ")

FORGET = (
    b"close all",
    b"reset session authorization",
    b"reset role",
    b"reset all",
    b"deallocate all",
    b"unlisten *",
    b"discard temp",
    b"discard sequences",
    # Behind a pooler, RESET ALL resets the encoding that we connected with, too.
    b"set client_encoding to 'UTF8'",
)
"""Statements that remove what a migration can leave in its session.

DISCARD ALL would do the same, but cannot run in a transaction, and releases advisory locks; one
of those is ours.
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
        shown = _PASSWORD.sub(r"\1****", readable[:_LOGGED])
        LOG.debug("%8.1f ms  %s", seconds * 1000, " ".join(shown.split()))


def connect(database: Database) -> Connection:
    """Connect, in autocommit, without prepared statements, in UTF-8.

    Raises:
        ConfigurationError: The URL cannot be read.
        DatabaseConnectionError: No connection was made.
    """
    given = {**database.defaults, **_parsed(database.url), **database.parameters}
    defaults = {"connect_timeout": _CONNECT_TIMEOUT, "application_name": "migrator", **_KEEPALIVES}
    if "PGAPPNAME" in os.environ:
        del defaults["application_name"]
    parameters: dict[str, Any] = {**defaults, **given, "client_encoding": "utf8"}
    try:
        return psycopg.connect(
            **parameters, autocommit=True, prepare_threshold=None, cursor_factory=_LoggingCursor
        )
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise _no_connection(error) from None


def _parsed(url: str) -> dict[str, Any]:
    """Read a URL or connection string, without ever repeating a part of it."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = {}
    port = str(given.get("port", "0"))
    if (url and not given) or _is_cut(url) or not port.replace(",", "0").isdecimal():
        raise ConfigurationError(
            "the database URL cannot be read",
            hint="write postgresql://user:password@host:5432/name, with special characters "
            "in the password as %40 (@), %3A (:), %2F (/), %25 (%)",
        )
    return given


def _is_cut(url: str) -> bool:
    """Whether a password ends early, at a "@" or "/" of its own.

    libpq takes the rest of it for the name of a host or database, and repeats that in messages.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        return False
    authority, _, path = url.partition("://")[2].partition("/")
    host = authority.partition("@")[2]
    return any("@" in place.partition("?")[0] for place in (host, path))


def _no_connection(error: psycopg.Error) -> DatabaseConnectionError:
    text = _PREFIXES.sub("", " ".join(str(error).split()))
    hint = next(hint for part, hint in _HINTS if part in text)
    # The server and libpq never repeat a password that they were given as one.
    masked = _PASSWORD.sub(r"\1****", _CREDENTIALS.sub(":****@", text))
    return DatabaseConnectionError(masked, hint=hint.format(_VARIABLES))


_SEE_STATUS = "see how far it came with: migrator status"
_NO_SERVER = "query_wait_timeout"  # PgBouncer's word for it
_POOL_IS_FULL = (
    "a run needs two sessions of the pool, and a third to see who is in its way: connect to\n"
    "PostgreSQL itself, make the pool larger, or try again when it is less busy"
)


@contextmanager
def reported(schema: str | None = None) -> Iterator[None]:
    """Turn what PostgreSQL refuses of our own statements into errors for the user.

    Raises:
        DatabaseConnectionError: The connection broke.
        LockTimeoutError: Somebody holds a lock on the history.
        StatementError: Somebody has cancelled it on the server.
        HistoryError: Everything else, such as a missing privilege.
    """
    try:
        yield
    except psycopg.Error as error:
        sqlstate = error.sqlstate or ""
        if isinstance(error, psycopg.OperationalError) and (
            sqlstate[:2] in ("", "08") or sqlstate[:3] == "57P"
        ):
            text = " ".join(str(error).split())
            raise DatabaseConnectionError(
                f"the connection was lost: {text}",
                hint=_POOL_IS_FULL if _NO_SERVER in text else _SEE_STATUS,
            ) from error
        if isinstance(error, psycopg.errors.LockNotAvailable):
            what = f'the history in the schema "{schema}"' if schema else "a table"
            raise LockTimeoutError(
                f"somebody holds a lock on {what} that is to be looked at",
                sqlstate=sqlstate,
                hint="see who in pg_locks, wait for it or end it, and try again",
            ) from error
        if isinstance(error, psycopg.errors.QueryCanceled):
            raise StatementError(
                f"a statement of migrator's own was ended: {error.diag.message_primary}",
                sqlstate=sqlstate,
                hint=_SEE_STATUS,
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


@contextmanager
def writing(conn: Connection) -> Iterator[None]:
    """Be in a transaction that may write, whatever is the default of the database."""
    with conn.transaction():
        conn.execute("set transaction read write")
        yield


def backend_pid(conn: Connection) -> int:
    """Ask which process of the server works for a session; libpq knows what a pooler invents."""
    return int(conn.execute("select pg_catalog.pg_backend_pid()").fetchall()[0][0])


def forget(conn: Connection) -> None:
    """Put a session into the state in which it connected; not inside a transaction."""
    conn.execute(b"; ".join(FORGET))


def started_at(conn: Connection) -> Any:
    """Ask when the server began to run: to the microsecond, no two have the same."""
    return conn.execute("select pg_catalog.pg_postmaster_start_time()").fetchall()[0][0]


def refuse_standby(conn: Connection) -> None:
    """Raise if the server only replays what another one does.

    Raises:
        DatabaseConnectionError: It does.
    """
    if conn.execute("select pg_catalog.pg_is_in_recovery()").fetchall()[0][0]:
        raise DatabaseConnectionError(
            "the server is a standby: it can be read, and not be migrated",
            hint="connect to the primary; libpq finds it: ?target_session_attrs=read-write",
        )


def shares_sessions(conn: Connection, other: Connection) -> bool:
    """Whether a pooler gives each transaction whatever session is free.

    A session that stays with its client is always the same, and never the other one's.
    """
    mine: set[int] = set()
    others: set[int] = set()
    for _ in range(_LOOKS):
        mine |= {backend_pid(conn), backend_pid(conn)}
        others.add(backend_pid(other))
    return len(mine) > 1 or len(others) > 1 or bool(mine & others)


def version(conn: Connection) -> str:
    """Return the server's version, such as `18.6`."""
    return (conn.info.parameter_status("server_version") or "").partition(" ")[0]


def idle_limits(conn: Connection) -> tuple[str, ...]:
    """Name the settings that end a session for the length of its transaction."""
    newer = ("transaction_timeout",) if conn.info.server_version >= 170000 else ()
    return ("idle_in_transaction_session_timeout", *newer)
