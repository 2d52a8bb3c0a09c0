"""The runner's lock: one runner at a time for each history."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from ..errors import CancelledError, RunnerLockError
from ..events import Backend, Event, Waiting
from ..interrupts import Interrupts
from . import activity
from .connection import reported
from .cursor import Connection, settle
from .settings import of_ours

_POLL = 0.25  # seconds between two attempts to take the runner's lock

_TRY_LOCK = "select pg_try_advisory_xact_lock(hashtextextended(%(key)s, 0))"
_TRY_SESSION_LOCK = "select pg_try_advisory_lock(hashtextextended(%(key)s, 1))"
_UNLOCK_SESSION = "select pg_advisory_unlock(hashtextextended(%(key)s, 1))"
_IS_LOCK = """
    locktype = 'advisory'
    and granted
    and database = (select oid from pg_catalog.pg_database where datname = current_database())
    and objsubid = 1
    and classid = ((key >> 32) & 4294967295)::oid
    and objid = (key & 4294967295)::oid
"""
_RETAKE = """
select case
    when exists (select from pg_catalog.pg_locks where {_IS_LOCK} and pid = pg_backend_pid())
    then true
    else pg_try_advisory_lock(key)
end
from (values (hashtextextended(%(key)s, 1))) as k (key)
""".replace("{_IS_LOCK}", _IS_LOCK)
_HOLDERS = """
select array_agg(distinct pid)
from pg_catalog.pg_locks,
     (values (hashtextextended(%(key)s, 0)), (hashtextextended(%(key)s, 1))) as k (key)
where {_IS_LOCK}
  and pid <> pg_backend_pid()
""".replace("{_IS_LOCK}", _IS_LOCK)

_IS_HELD = """
select exists (
    select from pg_catalog.pg_locks, (values (%(key)s::bigint)) as k (key) where {_IS_LOCK}
)
""".replace("{_IS_LOCK}", _IS_LOCK)


def share_database(conn: Connection, other: Connection) -> bool:
    """Whether two sessions are in the same database of one server, whatever their URLs say.

    A physical copy has the identifiers of its original, so they cannot tell.  One session takes
    an advisory lock with a random key, and the other looks for it.
    """
    key = {"key": secrets.randbits(63)}
    with conn.transaction():
        conn.execute("select pg_catalog.pg_advisory_xact_lock(%(key)s::bigint)", key)
        row = other.execute(_IS_HELD, key).fetchone()
    return bool(row and row[0])


@contextmanager
def runner_lock(
    conn: Connection,
    schema: str,
    *,
    worker: Connection | None,
    timeout: float | None,
    notify: Callable[[Event], None],
    interrupts: Interrupts,
) -> Iterator[None]:
    """Hold the runner's lock of a history for a `with`.

    The lock is an advisory lock in an open READ COMMITTED transaction on `conn`, which is used
    for nothing else.  The session that runs the migrations holds a second one: if the client is
    killed, the server finishes the running statement, and the next runner waits until then.
    The lock is polled.  A wait inside the server would hold a snapshot, and CREATE INDEX
    CONCURRENTLY waits for all older snapshots.

    Args:
        worker: The session that runs the migrations; None if a pooler shares sessions.
        timeout: How long to wait for another runner, in seconds; None for no limit.

    Raises:
        RunnerLockError: Another runner held the lock all the time.
        CancelledError: The user stopped the wait.
    """
    key = {"key": f"migrator:{schema}"}
    started = time.monotonic()
    announced: set[int | None] = set()
    while not (attempt := _take_both(conn, worker, key)).succeeded:
        waited = time.monotonic() - started
        if timeout is not None and waited >= timeout:
            end = activity.termination(attempt.holders)
            raise RunnerLockError(
                f"another migrator is still running; gave up after {timeout:g} s (--lock-wait)",
                detail="\n".join(map(str, attempt.holders)) or None,
                hint=f"wait for it to finish, or end it: {end}" if end else "wait for it to finish",
            )
        pids = {holder.pid for holder in attempt.holders}
        if pids - announced:
            notify(Waiting("another runner", attempt.holders, waited))
            announced = pids
        if worker:
            with reported():
                settle(worker)  # so that no idle_session_timeout ends it
        if interrupts.wait(_POLL):
            raise CancelledError(
                "interrupted while waiting for another runner; nothing was run",
                signal=interrupts.signal or 0,
            )
    try:
        yield
    finally:
        # A lost session has lost its locks as well.
        with suppress(psycopg.OperationalError):
            if worker and not worker.closed:
                worker.rollback()
                worker.execute(_UNLOCK_SESSION, key)
        with suppress(psycopg.OperationalError):
            conn.rollback()


def retake(worker: Connection, schema: str) -> bool:
    """Take the lock of the working session again if a script has released it.

    Returns:
        Whether the session has it.
    """
    with reported():
        row = worker.execute(_RETAKE, {"key": f"migrator:{schema}"}).fetchone()
    return bool(row and row[0])


def holders(conn: Connection, schema: str) -> tuple[Backend, ...]:
    """Return the other sessions that hold the runner's lock of a history."""
    with reported():
        return _holders(conn, {"key": f"migrator:{schema}"})


def _try_lock(conn: Connection, key: dict[str, str]) -> bool:
    """Begin a transaction that holds the lock, and return whether that worked; else end it.

    Each attempt has a transaction of its own, and uses the simple protocol: CREATE INDEX
    CONCURRENTLY waits for every transaction that it has seen with a snapshot, and the portal
    of the extended protocol keeps its snapshot after it is done.
    """
    # The transaction is idle for as long as the migrations run.
    limits = of_ours(conn.info.server_version).items()
    local = (f"set local {setting} = {value}" for setting, value in limits)
    statements = ("begin isolation level read committed read only", *local, _TRY_LOCK)
    cursor = conn.execute("; ".join(statements).encode(), key)
    while cursor.nextset():
        pass  # the last result is that of the lock
    row = cursor.fetchone()
    if row and row[0]:
        return True
    conn.rollback()
    return False


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Whether both locks were taken, and the other sessions that hold them if not."""

    succeeded: bool
    holders: tuple[Backend, ...] = ()


def _take_both(conn: Connection, worker: Connection | None, key: dict[str, str]) -> _Attempt:
    """Take the locks of both sessions, or neither."""
    with reported():
        if _try_lock(conn, key):
            if worker is None or worker.execute(_TRY_SESSION_LOCK, key).fetchall()[0][0]:
                return _Attempt(succeeded=True)
            conn.rollback()
        return _Attempt(succeeded=False, holders=_holders(conn, key))


def _holders(conn: Connection, key: dict[str, str]) -> tuple[Backend, ...]:
    row = conn.execute(_HOLDERS, key).fetchone()
    return activity.backends(conn, (row and row[0]) or ())
