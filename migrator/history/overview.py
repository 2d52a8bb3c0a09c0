"""The nouns of what a command that only looks gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import Entry


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of `migration_log`.

    Attributes:
        action: `up`, `down`, `repair` or `baseline`.
        outcome: `done`, `failed`, `started` (a step outside a transaction), or a decision.
        duration_ms: Of the server, in milliseconds.
        reason: Why a person decided so.
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
    """What `status` knows.

    Attributes:
        server_version: Such as `18.6`.
        schema: The one that holds the history, or will.
        entries: By ascending number.
        is_current: Nothing is pending, interrupted, or differs from what was applied.  A
            database that is ahead of the files is current: it has what they need.
    """

    database: str
    server_version: str
    schema: str
    entries: tuple[Entry, ...]
    is_current: bool
