"""Record squashed files in place of the versions that they replace."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import listed
from ..events import Notify, Remarked
from ..history import recorder
from ..model import Entry
from ..postgres import connection
from ..postgres.cursor import send
from ..session import Session

ACTION = "squash"
"""What the log calls it."""


def record(work: Session, entries: Iterable[Entry], notify: Notify) -> None:
    """Record each file in place of the rows that it replaces, in a transaction; run nothing.

    Raises:
        psycopg.Error: The rows are no longer there; nothing was recorded.
    """
    write = recorder.recorder(work.history.schema)
    for entry in entries:
        assert entry.migration is not None, "it is the file that replaces"
        versions = [row.version for row in entry.replaces]
        message = f"in place of {listed(versions)}, which were applied"
        with connection.reported(work.history.schema), connection.writing(work.conn):
            send(work.conn, *write.squash(entry.migration, versions))
            send(work.conn, *write.log(entry.version, ACTION, "done", message=message))
        notify(Remarked(f"recorded {entry.version} {message}"))
