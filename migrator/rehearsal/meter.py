"""Measure what a migration uses on a copy with rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from ..postgres import connection
from ..postgres.cursor import Connection
from ..tracing import probe
from .report import RehearsedMigration, TracedStatement, Usage

_CLOCK = "select extract(epoch from clock_timestamp())::double precision"
_FLUSH = "select pg_stat_force_next_flush()"  # from 15 on
_HAS_FLUSH = 150000
_WAIT = "select pg_sleep(0.6)"  # before 15, what is read may be half a second old
_TEMPORARY = "select temp_bytes from pg_stat_database where datname = current_database()"
_SIZES = """
select oid::bigint, pg_table_size(oid)
from pg_class
where oid = any (%s::oid[])
"""


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures migrations in the session that runs them.

    Attributes:
        max_lock: How long a blocking lock may be held, in seconds.
        has_wal: Whether the server tells how much WAL it has written.
    """

    conn: Connection
    max_lock: float
    has_wal: bool

    def begin(self) -> int:
        """Return how many bytes of temporary files were written before a migration."""
        with connection.reported():
            return int(self.conn.execute(_TEMPORARY).fetchall()[0][0])

    def end(self, rehearsed: RehearsedMigration, begin: int) -> RehearsedMigration:
        """Add what a migration used, right after its commit.

        Args:
            begin: What `begin` returned.
        """
        with connection.reported():
            committed = float(self.conn.execute(_CLOCK).fetchall()[0][0])
            has_flush = self.conn.info.server_version >= _HAS_FLUSH
            self.conn.execute(_FLUSH if has_flush else _WAIT)
        efforts = [each.effort for each in rehearsed.traced]
        commit = committed - efforts[-1].resumed if efforts else 0.0
        seconds = sum(each.seconds for each in efforts) + commit
        usage = Usage(seconds, commit, self.begin() - begin)
        return replace(rehearsed, traced=self._sized(rehearsed.traced), usage=usage)

    def _sized(self, traced: tuple[TracedStatement, ...]) -> tuple[TracedStatement, ...]:
        """Add the sizes of what the statements rewrote or built, as it is after all of them."""
        written = [_written(each) for each in traced]
        oids = sorted(set().union(*written))
        with connection.reported():
            sizes = dict(self.conn.execute(_SIZES, [oids]).fetchall())
        totals = (sum(sizes.get(oid, 0) for oid in each) for each in written)
        return tuple(
            replace(each, rewritten=total) for each, total in zip(traced, totals, strict=True)
        )


def has_wal(conn: Connection) -> bool:
    """Whether a server tells how much WAL it has written; some services do not."""
    try:
        conn.execute(sql.SQL("select ") + sql.SQL(probe.WAL))
    except psycopg.Error:
        return False
    return True


def _written(each: TracedStatement) -> set[int]:
    """Return the tables and indexes, by OID, that a statement gave new files with content."""
    trace, is_truncate = each.trace, each.statement.words[:1] == ("truncate",)
    rewritten = {t.relation.oid for t in trace.touches if t.rewritten and not is_truncate}
    return rewritten | {r.oid for r in trace.created if r.kind in "im"}
