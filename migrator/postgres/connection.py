"""Connect to PostgreSQL, reset a session, and turn errors of psycopg into ours."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict

from ..config import Database
from ..errors import (
    ConfigurationError,
    DatabaseConnectionError,
    HistoryError,
    LockTimeoutError,
    ReadOnlyError,
    StatementError,
)
from . import settings
from .cursor import Connection, OwnCursor, TimestampLoader
from .refusal import no_connection

CONNECT_TIMEOUT = 10  # `connect_timeout` in the URL overrides it
"""How long an attempt to connect may take for each address, in seconds."""

# A connection is silent while an index is built for hours, and firewalls drop silent connections.
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}

# Without a handler, psycopg's warnings go to stderr, and repeat what our errors say.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

FORGET = (
    b"close all",
    b"reset session authorization",
    b"reset role",
    b"reset all",
    b"deallocate all",
    b"unlisten *",
    b"discard temp",
    b"discard sequences",
    # Through a pooler, RESET ALL also resets the encoding that we connected with.
    b"set client_encoding to 'UTF8'",
)
"""Statements that remove what a migration may have left in its session.

Not DISCARD ALL: it cannot run in a transaction, and releases our advisory lock.
"""

_WRITABLE = """
select pg_is_in_recovery(), setting = 'on', source
from pg_settings
where name = 'default_transaction_read_only'
"""
# By `pg_settings.source`: for whom default_transaction_read_only is set, and how to reset it, even
# in a session that has the setting.
_RESET = "reset default_transaction_read_only;"
_FREEZERS = {
    "user": ("the role {user}", f"begin read write; alter role {{user}} {_RESET} commit;"),
    "database": (
        "the database {database}",
        f"begin read write; alter database {{database}} {_RESET} commit;",
    ),
    "database user": (
        "the role {user} in the database {database}",
        f"begin read write; alter role {{user}} in database {{database}} {_RESET} commit;",
    ),
    "global": ("all roles", f"begin read write; alter role all {_RESET} commit;"),
    "client": ("this connection", "remove it from PGOPTIONS or the URL"),
}
_FREEZER = ("the server", f"alter system {_RESET} select pg_reload_conf();")

_SAMPLES = 3  # of the processes behind two connections, to recognise a pooler that shares them


def connect(database: Database) -> Connection:
    """Connect a session for migrations, which run under the settings of the user.

    It is in autocommit mode, with client encoding UTF-8 and without prepared statements.

    Raises:
        ConfigurationError: The URL cannot be parsed.
        DatabaseConnectionError: The server cannot be reached, or refused the connection.
    """
    conn = _connect(database)
    conn.lasting = settings.of_idle(conn.info.server_version)
    return conn


def connect_own(database: Database) -> Connection:
    """Connect a session that runs only statements of our own; otherwise as `connect`."""
    conn = _connect(database)
    conn.lasting = settings.of_ours(conn.info.server_version)
    return conn


def parameters_of(database: Database) -> dict[str, Any]:
    """Return libpq's parameters of a database, with a password that its command prints now.

    Raises:
        ConfigurationError: The URL cannot be parsed.
        DatabaseConnectionError: The command failed.
    """
    given = given_parameters(database)
    if database.password_command and not given.get("password"):
        from .password import password_of  # noqa: PLC0415  (start-up time)

        given["password"] = password_of(database.password_command)
    return given


def given_parameters(database: Database, *, of_url_alone: bool = False) -> dict[str, Any]:
    """Return libpq's parameters of a database, as far as they are known without connecting.

    Raises:
        ConfigurationError: The URL cannot be parsed.
    """
    parsed = _parsed(database.url)
    return parsed if of_url_alone else {**database.defaults, **parsed, **database.parameters}


def _connect(database: Database) -> Connection:
    given = parameters_of(database)
    defaults = {"connect_timeout": CONNECT_TIMEOUT, "application_name": "migrator", **_KEEPALIVES}
    if "PGAPPNAME" in os.environ:
        del defaults["application_name"]
    parameters: dict[str, Any] = {**defaults, **given, "client_encoding": "utf8"}
    try:
        conn = Connection.connect(
            **parameters, autocommit=True, prepare_threshold=None, cursor_factory=OwnCursor
        )
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise no_connection(error) from None
    conn.adapters.register_loader("timestamptz", TimestampLoader)
    return conn


_OF_URL = (
    "write postgresql://user:password@host:5432/name, with special characters in the password as "
    "%40 (@), %3A (:), %2F (/), %25 (%)"
)
_OF_WORDS = "write host=… dbname=… user=…, with a value that contains spaces in single quotes"
_KEYWORD = re.compile(r"(?:^|\s)(\w+)\s*=")


def _parsed(url: str) -> dict[str, Any]:
    """Parse a URL or connection string; errors repeat no part of it."""
    try:
        given = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeDecodeError):
        given = {}
    if not given and (unknown := _unknown_parameter(url)):
        raise ConfigurationError(
            f'the database URL has an unknown parameter "{unknown}"', hint=_instead_of(unknown)
        )
    port = str(given.get("port", "0"))
    if (url and not given) or _is_cut(url) or not port.replace(",", "0").isdecimal():
        raise ConfigurationError(
            "the database URL cannot be read", hint=_OF_URL if "://" in url else _OF_WORDS
        )
    return given


def _unknown_parameter(url: str) -> str | None:
    """Return the first parameter that libpq does not know; None if it knows all.

    Of a connection string, only what comes before the password is looked at.
    """
    query = url.partition("?")[2]
    if _is_cut(url) or "@" in query:
        return None  # it may be a part of the password
    names = [part.partition("=")[0] for part in query.split("&") if part]
    if "://" not in url:
        names = _KEYWORD.findall(url.partition("password")[0])
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    return next((name for name in names if name not in known), None)


def _instead_of(parameter: str) -> str:
    if parameter.lower() in ("schema", "currentschema", "search_path"):
        return "remove it; the schema of the history is given with --schema NAME"
    import difflib  # noqa: PLC0415  (only an unknown parameter needs it)

    known = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
    near = difflib.get_close_matches(parameter, known, n=1)
    return f"did you mean {near[0]}?" if near else "remove it: libpq has no such parameter"


def _is_cut(url: str) -> bool:
    """Whether the password of a URL contains an unescaped "@" or "/", and so ends early.

    libpq takes the rest for the name of a host or database, and repeats that in its messages.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        return False
    authority, _, path = url.partition("://")[2].partition("/")
    host = authority.partition("@")[2]
    return any("@" in place.partition("?")[0] for place in (host, path))


_SEE_STATUS = "to see what was done, run: migrator status"
_POOL_TIMEOUT = "query_wait_timeout"  # PgBouncer's message when no server session became free
_POOL_IS_FULL = (
    "a run needs two sessions of the pool, and a third to see what blocks it: connect to\n"
    "PostgreSQL directly, enlarge the pool, or try again when the system is less busy"
)


@contextmanager
def reported(schema: str | None = None) -> Iterator[None]:
    """Turn the errors of migrator's own statements into ours; `schema` is that of the history.

    Raises:
        DatabaseConnectionError: The connection was lost.
        LockTimeoutError: Another session holds a lock on the history.
        StatementError: The statement was cancelled on the server.
        HistoryError: Any other error, such as a missing privilege.
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
                hint=_POOL_IS_FULL if _POOL_TIMEOUT in text else _SEE_STATUS,
            ) from error
        if isinstance(error, psycopg.errors.LockNotAvailable):
            what = f'the history in the schema "{schema}"' if schema else "a table"
            raise LockTimeoutError(
                f"could not acquire a lock on {what}: another session holds it",
                sqlstate=sqlstate,
                hint="find the session in pg_locks, wait for it or end it, and try again",
            ) from error
        if isinstance(error, psycopg.errors.QueryCanceled):
            raise StatementError(
                f"one of migrator's own statements was cancelled: {error.diag.message_primary}",
                sqlstate=sqlstate,
                hint=_SEE_STATUS,
            ) from error
        raise HistoryError(
            error.diag.message_primary or str(error),
            detail=error.diag.message_detail,
            hint=_hint(error, schema),
        ) from error


def _is_hidden(error: psycopg.Error) -> bool:
    """Whether PostgreSQL refuses a query because `row_security` is off."""
    return error.diag.source_function == "check_enable_rls"


def _hint(error: psycopg.Error, schema: str | None) -> str | None:
    match error:
        case psycopg.errors.InsufficientPrivilege() if _is_hidden(error):
            return (
                "row security would hide rows of the history: read it as the owner of its tables,\n"
                "or: alter role NAME bypassrls; or: alter table NAME disable row level security;"
            )
        case psycopg.errors.InsufficientPrivilege() if schema is None:
            return "grant that privilege to the role, or name a role that has it: --role NAME"
        case psycopg.errors.InsufficientPrivilege():
            return (
                f'to read the history, the role needs USAGE on the schema "{schema}" and '
                "SELECT on its tables migration_versions and migration_repeatables;\n"
                "to write it, CREATE on the schema, or all privileges on its tables "
                "migration_versions, migration_repeatables and migration_log"
            )
        case psycopg.errors.DuplicateTable() | psycopg.errors.DuplicateObject():
            return "another object has that name: use another schema for the history (--schema)"
        case psycopg.DataError() if not error.sqlstate:
            return (
                "correct the row: applied_at of migration_versions or migration_repeatables, "
                "or logged_at of migration_log"
            )
    return error.diag.message_hint


@contextmanager
def writing(conn: Connection) -> Iterator[None]:
    """Open a read-write transaction for a `with`, whatever the default of the database."""
    with conn.transaction():
        conn.execute("set transaction read write")
        yield


def backend_pid(conn: Connection) -> int:
    """Ask the server for the pid of its process; with a pooler, libpq's is an invented one."""
    return int(conn.execute("select pg_catalog.pg_backend_pid()").fetchall()[0][0])


def forget(conn: Connection) -> None:
    """Reset a session to the state in which it connected; must not be in a transaction."""
    conn.execute(b"; ".join(FORGET))
    conn.is_settled = False


def started_at(conn: Connection) -> Any:
    """Ask when the server was started; to the microsecond, this tells servers apart."""
    return conn.execute("select pg_catalog.pg_postmaster_start_time()").fetchall()[0][0]


def system_identifier(conn: Connection) -> str | None:
    """Ask for the identifier of a cluster and its standbys; None without the privilege."""
    try:
        query = "select system_identifier::text from pg_catalog.pg_control_system()"
        return str(conn.execute(query).fetchall()[0][0])
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
        return None


def check_writable(conn: Connection, *, override: bool) -> None:
    """Check that the server accepts writes, and that the database is not read-only by default.

    Args:
        override: Whether to write to a database that is read-only by default.

    Raises:
        DatabaseConnectionError: It is a standby.
        ReadOnlyError: Transactions are read-only by default.
    """
    is_standby, is_frozen, source = conn.execute(_WRITABLE).fetchall()[0]
    if is_standby:
        raise DatabaseConnectionError(
            "the server is a read-only standby",
            hint="connect to the primary; libpq finds it with ?target_session_attrs=read-write",
        )
    if is_frozen and not override:
        names = {
            "user": sql.Identifier(conn.info.user).as_string(conn),
            "database": sql.Identifier(conn.info.dbname).as_string(conn),
        }
        place, command = (text.format(**names) for text in _FREEZERS.get(source, _FREEZER))
        raise ReadOnlyError(
            "the database is read-only by default; nothing was run",
            detail=f"default_transaction_read_only is on, set for {place}",
            hint=f"if it is frozen on purpose, wait until it is not; to reset it: {command}\n"
            "to write all the same: --override-read-only",
        )


def shares_sessions(conn: Connection, other: Connection) -> bool:
    """Whether a pooler assigns server sessions by transaction, not by connection.

    Otherwise each connection always has the same server process, and never that of another.
    """
    mine: set[int] = set()
    others: set[int] = set()
    for _ in range(_SAMPLES):
        mine |= {backend_pid(conn), backend_pid(conn)}
        others.add(backend_pid(other))
    return len(mine) > 1 or len(others) > 1 or bool(mine & others)


def version(conn: Connection) -> str:
    """Return the version of the server, such as `18.6`."""
    return (conn.info.parameter_status("server_version") or "").partition(" ")[0]
