"""Keep a tool out of its database, and name the sessions that hold its locks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from ..errors import HistoryError, LockTimeoutError, RunnerLockError
from ..events import Backend
from ..postgres import activity
from ..postgres.cursor import Connection
from .dialect import Dialect, Table

TIMEOUT = "5s"
"""How long to wait for a lock on the tool's table."""

_TAKE = "select pg_catalog.pg_try_advisory_xact_lock({key})"
_HOLDERS_OF_KEY = """
select pid
from pg_catalog.pg_locks
where locktype = 'advisory'
  and (classid::int8 << 32) | objid::int8 = {key}
  and database = (select oid from pg_catalog.pg_database where datname = current_database())
  and granted
"""
# A session that only reads the table blocks nothing but its renaming, so it comes last.
_HOLDERS_OF_TABLE = """
select l.pid
from pg_catalog.pg_locks l
join pg_catalog.pg_class c on c.oid = l.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = {schema}
  and c.relname = {name}
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.granted
  and l.pid <> pg_catalog.pg_backend_pid()
order by l.mode = 'AccessShareLock', l.pid
"""


def take(conn: Connection, dialect: Dialect, place: Table) -> None:
    """Take a tool's advisory locks until the end of the transaction.

    Raises:
        RunnerLockError: The tool is running.
    """
    for key in map(sql.Literal, dialect.locks(place)):
        if not conn.execute(sql.SQL(_TAKE).format(key=key)).fetchall()[0][0]:
            holders = conn.execute(sql.SQL(_HOLDERS_OF_KEY).format(key=key)).fetchall()
            sessions = activity.backends(conn, [pid for (pid,) in holders])
            raise RunnerLockError(
                f"{dialect.name} is running: it holds its lock",
                detail=_detail(sessions),
                hint=_hint("wait for it to finish, then try again", sessions),
            )


@contextmanager
def named(conn: Connection, place: Table) -> Iterator[None]:
    """Name the sessions that block a lock on a tool's table; goes around the transaction.

    Raises:
        LockTimeoutError: There was no lock within `TIMEOUT`.
    """
    try:
        yield
    except LockTimeoutError as error:
        query = sql.SQL(_HOLDERS_OF_TABLE).format(
            schema=sql.Literal(place.schema), name=sql.Literal(place.name)
        )
        sessions = activity.backends(conn, [pid for (pid,) in conn.execute(query).fetchall()])
        if not sessions:
            raise
        raise LockTimeoutError(
            f"could not acquire a lock on {place}: another session holds it",
            detail=_detail(sessions),
            hint=_hint("stop the other tool, or wait for that session, then try again", sessions),
            sqlstate=error.sqlstate,
        ) from error


@contextmanager
def permitted(place: Table) -> Iterator[None]:
    """Say what `adopt` does with a tool's table, if our role may not do that.

    Raises:
        HistoryError: It may not.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise HistoryError(
            error.diag.message_primary or str(error),
            hint=f"adopt reads and locks {place}, and renames it with --retire: "
            "connect as its owner",
        ) from error


def _detail(sessions: Sequence[Backend]) -> str | None:
    return "\n  ".join(["blocked by", *map(str, sessions)]) if sessions else None


def _hint(first: str, sessions: Sequence[Backend]) -> str:
    ending = activity.termination(sessions)
    return f"{first}\nto end the session: {ending}" if ending else first
