"""What the commands that only read return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import Entry, Repeatable


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of `migration_log`.

    Attributes:
        version: Empty for a backup.
        action: `up`, `down`, `repair`, `baseline`, `squash`, `backup` or `trace`.
        outcome: `done`, `failed`, `started` (a statement outside a transaction), or the decision
            of a repair.
        duration_ms: How long the server took, in milliseconds.
        reason: The reason given for a repair, or what a backup is.
    """

    logged_at: datetime
    version: str
    action: str
    outcome: str
    db_user: str
    os_user: str | None
    host: str | None
    tool_version: str
    duration_ms: int | None
    sqlstate: str | None
    message: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What `status` shows.

    Attributes:
        server_version: Such as `18.6`.
        schema: The schema of the history, which need not exist yet.
        entries: By ascending number.
        repeatables: By name.
        is_current: Whether every version and repeatable file is applied as its file is.  A
            database that is ahead of the files is current: it has everything that they need.
        runners: The server processes of a run that is under way, if a migration is interrupted.
    """

    database: str
    server_version: str
    schema: str
    entries: tuple[Entry, ...]
    repeatables: tuple[Repeatable, ...]
    is_current: bool
    runners: tuple[int, ...] = ()
