"""Look at a server process from another session, in a thread that nobody waits for.

On the session that works nothing can be asked meanwhile, and the keeper's transaction must
never be seen with a snapshot.  A pooler that is full lets a third session wait, for a server
that only the first could give back: so the work does not wait for what is seen.
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

Look = Callable[[int], "Future[Observed]"]
"""Looks at a server process; what was seen comes when it comes."""

_PATIENCE = 1.0  # seconds for the end of a look when the run is over


def nobody(_pid: int) -> Future[Observed]:
    """See nothing."""
    future: Future[Observed] = Future()
    future.set_result(Observed())
    return future


@contextmanager
def watching(database: Database) -> Iterator[Look]:
    """Give a look at the processes of a server; the session for it is made when it is needed."""
    observer = _Observer(database)
    try:
        yield observer.look
    finally:
        observer.close()


class _Observer:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: SimpleQueue[tuple[int, Future[Observed]] | None] = SimpleQueue()
        self._latest: Future[Observed] | None = None
        self._thread: Thread | None = None

    def look(self, pid: int) -> Future[Observed]:
        if self._latest and not self._latest.done():
            return self._latest
        if not self._thread:
            # A daemon: a look that never ends must not keep the program.
            self._thread = Thread(target=self._work, name="observer", daemon=True)
            self._thread.start()
        self._latest = Future()
        self._asked.put((pid, self._latest))
        return self._latest

    def close(self) -> None:
        self._asked.put(None)
        if self._thread:
            self._thread.join(_PATIENCE)

    def _work(self) -> None:
        conn: connection.Connection | None = None
        while asked := self._asked.get():
            pid, future = asked
            try:
                conn = conn or connection.connect(self._database)
                future.set_result(Observed(blockers(conn, pid), progress(conn, pid)))
            except (psycopg.Error, DatabaseConnectionError):
                # To be seen is a courtesy; the work has its own connection.
                future.set_result(Observed())
                if conn:
                    conn.close()
                conn = None
        if conn:
            conn.close()


# Ages by the server's clock; the query is cut here so that a huge one is not sent.
_BACKENDS = """
select pid,
       usename::text as user,
       nullif(application_name, '') as application,
       coalesce(client_hostname, host(client_addr)) as host,
       state,
       extract(epoch from clock_timestamp() - xact_start)::float8 as transaction_age,
       left(regexp_replace(query, '\\s+', ' ', 'g'), 200) as query
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

_PREPARED = """
select 0 as pid,
       owner::text as user,
       null as application,
       null as host,
       'prepared transaction' as state,
       extract(epoch from clock_timestamp() - prepared)::float8 as transaction_age,
       format('prepare transaction %L', gid) as query
from pg_catalog.pg_prepared_xacts
where database = current_database()
order by prepared
"""


def backends(conn: psycopg.Connection[Any], pids: Iterable[int]) -> tuple[Backend, ...]:
    """Return what is known of some server processes, the oldest transaction first.

    Source: `pg_stat_activity`; a role without `pg_read_all_stats` sees others' queries
    as `<insufficient privilege>`.
    """
    with conn.cursor(row_factory=class_row(Backend)) as cursor:
        return tuple(cursor.execute(_BACKENDS, {"pids": list(pids)}).fetchall())


def blockers(conn: psycopg.Connection[Any], pid: int) -> tuple[Backend, ...]:
    """Return who holds what `pid` waits for, by `pg_blocking_pids()`; none if it does not wait."""
    row = conn.execute(_BLOCKERS, {"pids": [pid]}).fetchone()
    pids = row[0] if row else []
    found = backends(conn, [p for p in pids if p]) if pids else ()
    # 0 stands for a prepared transaction, which has no session; which one, nobody tells.
    return (*found, *_prepared(conn)) if 0 in pids else found


def _prepared(conn: psycopg.Connection[Any]) -> tuple[Backend, ...]:
    with conn.cursor(row_factory=class_row(Backend)) as cursor:
        return tuple(cursor.execute(_PREPARED).fetchall())


# What a phase counts: other sessions, tuples or blocks; 0 in all is one that counts nothing.
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
# From which version on there is such a view.
_VIEWS = ((13, _CREATE_INDEX), (13, _VACUUM), (13, _CLUSTER), (13, _ANALYZE), (14, _COPY))


def progress(conn: psycopg.Connection[Any], pid: int) -> Progress | None:
    """Return how far the command of a server process has come; None if the server does not tell.

    Source: "Progress Reporting", PostgreSQL's manual.  A role that is neither that of the
    process nor in `pg_read_all_stats` is told nothing.
    """
    major = conn.info.server_version // 10000
    query = "union all".join(view for since, view in _VIEWS if since <= major)
    with conn.cursor(row_factory=class_row(Progress)) as cursor:
        return cursor.execute(query.encode(), {"pid": pid}).fetchone()
