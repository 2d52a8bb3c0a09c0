"""Look at a server process from another session, in a thread that nobody waits for.

On the session that works nothing can be asked meanwhile, and the keeper's transaction must
never be seen with a snapshot.  A pooler that is full lets a third session wait, for a server
that only the first could give back: so the work does not wait for what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread

import psycopg

from ..config import Database
from ..errors import DatabaseConnectionError
from ..events import Observed
from . import catalog, connection
from .progress import of

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
                future.set_result(Observed(catalog.blockers(conn, pid), of(conn, pid)))
            except (psycopg.Error, DatabaseConnectionError):
                # To be seen is a courtesy; the work has its own connection.
                future.set_result(Observed())
                if conn:
                    conn.close()
                conn = None
        if conn:
            conn.close()
