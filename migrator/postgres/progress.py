"""Ask the server how far a long command has come, by its views `pg_stat_progress_*`."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import class_row

from ..events import Progress

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


def of(conn: psycopg.Connection[Any], pid: int) -> Progress | None:
    """Return how far the command of a server process has come; None if the server does not tell.

    Source: "Progress Reporting", PostgreSQL's manual.  A role that is neither that of the
    process nor in `pg_read_all_stats` is told nothing.
    """
    major = conn.info.server_version // 10000
    query = "union all".join(view for since, view in _VIEWS if since <= major)
    with conn.cursor(row_factory=class_row(Progress)) as cursor:
        return cursor.execute(query.encode(), {"pid": pid}).fetchone()
