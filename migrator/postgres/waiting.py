"""Wait for a database that does not answer yet."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from ..config import Database
from ..errors import UnavailableError, duration
from ..events import Notify, Remarked
from . import connection
from .cursor import Connection

_PAUSE = 0.5  # seconds between two attempts


def connect(database: Database, limit: float, notify: Notify) -> Connection:
    """Connect as `connection.connect` does; retry while the database may still become available.

    That is if the server cannot be found or reached, or is starting, stopping or recovering, or if
    the database does not exist.  Any other error is final.

    Args:
        limit: How long to try, in seconds; 0 for one attempt.

    Raises:
        UnavailableError: It did not become available in time.
        MigratorError: As `connection.connect`.
    """
    if not limit:
        return connection.connect(database)
    end = time.monotonic() + limit
    told = ""
    while True:
        try:
            return connection.connect(_within(database, end - time.monotonic()))
        except UnavailableError as error:
            left = end - time.monotonic()
            if left <= 0:
                waited = f"gave up after {duration(limit)} (--wait)"
                raise UnavailableError(error.message, detail=waited, hint=error.hint) from None
            if error.message != told:
                text = f"waiting for the database, up to {duration(limit)}: {error.message}"
                notify(Remarked(text))
                told = error.message
            time.sleep(min(_PAUSE, left))


def _within(database: Database, seconds: float) -> Database:
    """Return the parameters with a `connect_timeout` for each address, unless there is one."""
    longest = min(math.ceil(seconds), connection.CONNECT_TIMEOUT)
    defaults = {"connect_timeout": str(max(longest, 1)), **database.defaults}
    return replace(database, defaults=defaults)
