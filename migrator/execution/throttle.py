"""Pause between the batches of a statement, so that others can work as well."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from ..config import Settings
from ..errors import duration
from ..postgres.cursor import Connection

_ASK_EVERY = 1.0  # seconds between two questions
_PAUSE = 1.0  # seconds until the question is asked again, while there is a reason to wait

_REMEMBERED = 3600  # answers; a longer lag is shown as this one

# `replay_lag` is as of a standby's last report.  A standby that no longer reports is recognised by
# its position, which does not move.  Both are null without the privilege to see them.  The slot of
# pg_receivewal moves by whole segments, so that two of them are allowed.
_STATE = """
select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
       (
           select coalesce(json_agg(json_build_array(name, position, seconds)), '[]')
           from (
               select 'a standby',
                      pg_wal_lsn_diff(replay_lsn, '0/0')::bigint,
                      extract(epoch from replay_lag)::float8
               from pg_stat_replication
               where state <> 'backup'
                 and replay_lsn is not null
               union all
               select format('the replication slot "%%s"', slot_name),
                      pg_wal_lsn_diff(coalesce(confirmed_flush_lsn, restart_lsn), '0/0')::bigint
                          + 2 * pg_size_bytes(current_setting('wal_segment_size')),
                      null
               from pg_replication_slots
               where wal_status <> 'lost'
                 and coalesce(confirmed_flush_lsn, restart_lsn) is not null
           ) as behind (name, position, seconds)
       ),
       (
           select min(v.relid::regclass::text)
           from pg_stat_progress_vacuum v
           join pg_stat_activity a on a.pid = v.pid
           where a.backend_type = 'autovacuum worker'
             and v.datname = current_database()
             and v.relid = any(%(tables)s::oid[])
       ),
       (
           select count(*)
           from pg_stat_activity
           where state = 'active'
             and backend_type = 'client backend'
             and pid <> pg_backend_pid()
       )
"""


class Throttle:
    """Says how long to pause after a batch, and why."""

    def __init__(self, conn: Connection, settings: Settings, tables: Sequence[int]) -> None:
        self._conn, self._settings, self._tables = conn, settings, list(tables)
        self._asked_at = 0.0
        self._written: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)  # when, how much WAL

    def share(self, seconds: float) -> float:
        """Return the pause after a batch that took so many seconds."""
        load = self._settings.batch_load
        return seconds * (100 - load) / load

    def reason(self) -> str | None:
        """Return why the next batch has to wait for `PAUSE`, before this is asked again."""
        now = time.monotonic()
        if now - self._asked_at < _ASK_EVERY:
            return None
        (row,) = self._conn.execute(_STATE, {"tables": self._tables}).fetchall()
        written, readers, vacuumed, active = row
        self._written.append((now, written))
        lags = [(self._lag(now, position, seconds), name) for name, position, seconds in readers]
        if found := _reason(self._settings, max(lags, default=(0.0, "")), vacuumed, active):
            return found
        self._asked_at = now
        return None

    def _lag(self, now: float, position: int, seconds: float | None) -> float:
        """Return for how many seconds there has been WAL that a standby or a slot has not read."""
        since = next((at for at, written in self._written if written > position), now)
        return max(now - since, seconds or 0.0)


PAUSE = _PAUSE


def _reason(
    settings: Settings, lag: tuple[float, str], vacuumed: str | None, active: int
) -> str | None:
    """Return what to wait for; None if there is nothing.

    >>> _reason(Settings(max_active=2), (12.0, "a standby"), "orders", 3)
    'a standby, which is 12.0 s behind (--max-lag)'
    >>> _reason(Settings(max_active=2), (0.0, ""), None, 3)
    'other sessions: 3 are at work (--max-active)'
    """
    seconds, name = lag
    if settings.max_lag and seconds * 1000 > settings.max_lag:
        return f"{name}, which is {duration(seconds)} behind (--max-lag)"
    if vacuumed is not None:
        return f"autovacuum, which is working on {vacuumed}"
    if settings.max_active and active > settings.max_active:
        verb = "is" if active == 1 else "are"
        return f"other sessions: {active} {verb} at work (--max-active)"
    return None
