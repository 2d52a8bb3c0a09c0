"""Pause between the batches of a statement, so that others can work as well."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..config import Settings
from ..errors import duration
from ..postgres.cursor import Connection

_ASK_EVERY = 1.0  # seconds between two questions
_PAUSE = 1.0  # seconds until the question is asked again, while there is a reason to wait

# A standby that has nothing to do reports no lag.  Without the privilege to see it, lag is null.
_STATE = """
select (
           select max(extract(epoch from replay_lag))::float8
           from pg_stat_replication
           where state <> 'backup'
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

    def share(self, seconds: float) -> float:
        """Return the pause after a batch that took so many seconds."""
        load = self._settings.batch_load
        return seconds * (100 - load) / load

    def reason(self) -> str | None:
        """Return why the next batch has to wait `PAUSE`, and is to be asked for again."""
        now = time.monotonic()
        if now - self._asked_at < _ASK_EVERY:
            return None
        (row,) = self._conn.execute(_STATE, {"tables": self._tables}).fetchall()
        lag, vacuumed, active = row
        if found := _reason(self._settings, lag, vacuumed, active):
            return found
        self._asked_at = now
        return None


PAUSE = _PAUSE


def _reason(settings: Settings, lag: float | None, vacuumed: str | None, active: int) -> str | None:
    """Return what to wait for; None if there is nothing.

    >>> _reason(Settings(max_active=2), 12.0, "orders", 3)
    'a standby, which is 12.0 s behind'
    >>> _reason(Settings(max_active=2), None, None, 3)
    'other sessions: 3 are at work'
    """
    if settings.max_lag and lag is not None and lag * 1000 > settings.max_lag:
        return f"a standby, which is {duration(lag)} behind"
    if vacuumed is not None:
        return f"autovacuum, which works on {vacuumed}"
    if settings.max_active and active > settings.max_active:
        return f"other sessions: {active} {'is' if active == 1 else 'are'} at work"
    return None
