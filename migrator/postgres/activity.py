"""Ask the server about a process of its own: what blocks it, and how far its command has come.

The questions go through a third session, in a background thread.  The session that runs the
migration is busy, and the one that holds the runner's lock must not take a snapshot.  A full
connection pool makes the third session wait until the first is done, so a run never waits for
an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any

import psycopg
from psycopg.rows import class_row

from ..config import Database
from ..errors import DatabaseConnectionError
from ..events import Backend, Observed, Progress
from . import connection
from .cursor import Connection

Observe = Callable[[int], "Future[Observed]"]
"""Asks about a server process, by its pid."""

_LAST_ANSWER = 1.0  # seconds to wait at the end of a run for a question under way


def observe_nothing(_pid: int) -> Future[Observed]:
    """Answer at once that nothing blocks a process, and that it reports no progress."""
    future: Future[Observed] = Future()
    future.set_result(Observed())
    return future


@contextmanager
def watching(database: Database) -> Iterator[Observe]:
    """Connect a third session for a `with`, when the first question is asked.

    A question that is asked before the last answer has arrived gets that answer.  What cannot be
    asked (no connection, a missing privilege) is answered with nothing.
    """
    observer = _Observer(database)
    try:
        yield observer.observe
    finally:
        observer.close()


class _Observer:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: SimpleQueue[tuple[int, Future[Observed]] | None] = SimpleQueue()
        self._latest: Future[Observed] | None = None
        self._thread: Thread | None = None

    def observe(self, pid: int) -> Future[Observed]:
        if self._latest and not self._latest.done():
            return self._latest
        if not self._thread:
            # A daemon: an answer that never comes must not keep the program running.
            self._thread = Thread(target=self._work, name="observer", daemon=True)
            self._thread.start()
        self._latest = Future()
        self._asked.put((pid, self._latest))
        return self._latest

    def close(self) -> None:
        self._asked.put(None)
        if self._thread:
            self._thread.join(_LAST_ANSWER)

    def _work(self) -> None:
        conn: Connection | None = None
        while asked := self._asked.get():
            pid, future = asked
            try:
                conn = conn or connection.connect_own(self._database)
                future.set_result(Observed(blockers(conn, pid), progress(conn, pid)))
            except (psycopg.Error, DatabaseConnectionError):
                # The run has its own connection, and does not need the answer.
                future.set_result(Observed())
                if conn:
                    conn.close()
                conn = None
        if conn:
            conn.close()


# The age is by the server's clock.  The query is cut here, so that a huge one is not sent.
_BACKENDS = """
select pid,
       usename::text as user,
       nullif(application_name, '') as application,
       coalesce(client_hostname, host(client_addr)) as host,
       state,
       extract(epoch from clock_timestamp() - xact_start)::float8 as transaction_age,
       left(regexp_replace(query, '[[:space:]]+', ' ', 'g'), 200) as query
from pg_catalog.pg_stat_activity
where pid = any (%(pids)s)
order by xact_start nulls last, pid
"""

_BLOCKERS = """
select array(
    select distinct unnest(pg_catalog.pg_blocking_pids(pid))
    from unnest(%(pids)s::int[]) as waiting (pid)
)
"""

# The prepared transactions that hold a lock on what is waited for.  In pg_locks they have no pid;
# the lock on their transaction id leads to their other locks.
_PREPARED = """
select null as pid,
       p.owner::text as user,
       null as application,
       null as host,
       'prepared' as state,
       extract(epoch from clock_timestamp() - p.prepared)::float8 as transaction_age,
       null as query,
       p.gid
from pg_catalog.pg_prepared_xacts p
where exists (
    select
    from pg_catalog.pg_locks own
    join pg_catalog.pg_locks held
      on held.virtualtransaction = own.virtualtransaction
     and held.pid is null
     and held.granted
    join pg_catalog.pg_locks awaited
      on (held.locktype, held.database, held.relation, held.page, held.tuple,
          held.transactionid, held.classid, held.objid, held.objsubid)
         is not distinct from
         (awaited.locktype, awaited.database, awaited.relation, awaited.page, awaited.tuple,
          awaited.transactionid, awaited.classid, awaited.objid, awaited.objsubid)
    where own.locktype = 'transactionid'
      and own.transactionid = p.transaction
      and own.pid is null
      and not awaited.granted
      and awaited.pid = %(pid)s
)
order by p.prepared
"""


def backends(conn: psycopg.Connection[Any], pids: Iterable[int]) -> tuple[Backend, ...]:
    """Return the sessions of some server processes, the oldest transaction first.

    Source: `pg_stat_activity`.  A role without `pg_read_all_stats` sees the queries of other
    roles as `<insufficient privilege>`, and no state.
    """
    with conn.cursor(row_factory=class_row(Backend)) as cursor:
        return tuple(cursor.execute(_BACKENDS, {"pids": list(pids)}).fetchall())


def blockers(conn: psycopg.Connection[Any], pid: int) -> tuple[Backend, ...]:
    """Return the sessions that hold a lock that `pid` waits for; none if it does not wait.

    Source: `pg_blocking_pids()`.  A 0 in it is a prepared transaction, without saying which: those
    that hold a lock on the same object are returned.
    """
    row = conn.execute(_BLOCKERS, {"pids": [pid]}).fetchone()
    pids = row[0] if row else []
    found = backends(conn, [p for p in pids if p]) if pids else ()
    return (*found, *_prepared(conn, pid)) if 0 in pids else found


def termination(sessions: Iterable[Backend]) -> str | None:
    """Return the SQL that ends some sessions, for a hint; None if all are prepared transactions.

    >>> termination([Backend(7, *[None] * 6), Backend(8, *[None] * 6)])
    'select pg_terminate_backend(7), pg_terminate_backend(8);'
    """
    calls = [f"pg_terminate_backend({session.pid})" for session in sessions if session.pid]
    return f"select {', '.join(calls)};" if calls else None


def resolutions(sessions: Iterable[Backend]) -> Iterator[str]:
    """Yield for each prepared transaction how to end it, for a hint."""
    for each in sessions:
        if each.gid is not None:
            yield (
                f"to end the prepared transaction: rollback prepared {each.gid_sql}; "
                f"or, to keep its work: commit prepared {each.gid_sql};"
            )


def _prepared(conn: psycopg.Connection[Any], pid: int) -> tuple[Backend, ...]:
    with conn.cursor(row_factory=class_row(Backend)) as cursor:
        return tuple(cursor.execute(_PREPARED, {"pid": pid}).fetchall())


# Phases count other sessions, tuples or blocks, or nothing: then all columns are 0.
_CREATE_INDEX = """
select command,
       phase,
       case when phase like 'waiting%%' then lockers_done
            when phase like '%%tuples%%' then tuples_done
            else blocks_done end as done,
       case when phase like 'waiting%%' then lockers_total
            when phase like '%%tuples%%' then tuples_total
            else blocks_total end as total,
       case when phase like 'waiting%%' then 'sessions'
            when phase like '%%tuples%%' then 'rows'
            else 'blocks' end as unit
from pg_catalog.pg_stat_progress_create_index
where pid = %(pid)s
"""
_VACUUM = """
select 'VACUUM',
       phase,
       case when phase = 'vacuuming heap' then heap_blks_vacuumed else heap_blks_scanned end,
       heap_blks_total,
       'blocks'
from pg_catalog.pg_stat_progress_vacuum
where pid = %(pid)s
"""
_CLUSTER = """
select command,
       phase,
       case when phase like '%%scanning heap' then heap_blks_scanned else 0 end,
       case when phase like '%%scanning heap' then heap_blks_total else 0 end,
       'blocks'
from pg_catalog.pg_stat_progress_cluster
where pid = %(pid)s
"""
_ANALYZE = """
select 'ANALYZE', phase, sample_blks_scanned, sample_blks_total, 'blocks'
from pg_catalog.pg_stat_progress_analyze
where pid = %(pid)s
"""
_COPY = """
select command, 'copying', bytes_processed, bytes_total, 'bytes'
from pg_catalog.pg_stat_progress_copy
where pid = %(pid)s
"""
# By the major version that added the view.
_VIEWS = ((13, _CREATE_INDEX), (13, _VACUUM), (13, _CLUSTER), (13, _ANALYZE), (14, _COPY))


def progress(conn: psycopg.Connection[Any], pid: int) -> Progress | None:
    """Return how far the command of a server process has come; None if the server does not say.

    Source: "Progress Reporting" in PostgreSQL's manual.  A role sees the progress of its own
    processes only, unless it is a member of `pg_read_all_stats`.
    """
    major = conn.info.server_version // 10000
    query = "union all".join(view for since, view in _VIEWS if since <= major)
    with conn.cursor(row_factory=class_row(Progress)) as cursor:
        return cursor.execute(query.encode(), {"pid": pid}).fetchone()
