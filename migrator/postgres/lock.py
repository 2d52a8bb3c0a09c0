"""Hold the lock that lets one runner at a time work on a history."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from ..errors import CancelledError, RunnerLockError
from ..events import Backend, Event, Waiting
from ..interrupts import Interrupts
from . import activity
from .connection import KEEPALIVES, Connection, idle_limits, reported

_POLL = 0.25  # seconds between two tries for the runner's lock

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
        if worker:
            with reported():
                worker.execute("select")  # an idle_session_timeout must not end it meanwhile
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


def retake(worker: Connection, schema: str) -> None:
    """Take the lock of the session that does the work again, which DISCARD ALL has let go."""
    with reported():
        worker.execute(_TRY_SESSION_LOCK, {"key": f"migrator:{schema}"})


def _try_lock(conn: Connection, key: dict[str, str]) -> bool:
    """Begin a transaction that has the lock, and return True; or leave none behind.

    Each try has a transaction of its own, and is sent by the simple protocol: a CREATE
    INDEX CONCURRENTLY waits for the end of every transaction that it once saw with a
    snapshot, and the portal of an extended query keeps its snapshot when it is done.
    """
    # The transaction is meant to be idle for as long as the migrations take.
    limits = (f"set local {setting} = 0" for setting in idle_limits(conn))
    alive = (f"set local {setting} = {value}" for setting, value in KEEPALIVES.items())
    statements = ("begin isolation level read committed read only", *limits, *alive, _TRY_LOCK)
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
        return _Try(had=False, others=activity.backends(conn, (row and row[0]) or ()))
