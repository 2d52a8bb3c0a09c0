"""What a command works with: the files, the database, and both of them compared."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from .config import Database, Settings
from .errors import BlockedError, ConfigurationError
from .files import directory
from .history import table
from .history.table import History
from .model import Entry, Migration, Plan
from .planning import planner
from .planning.problems import unsettled
from .postgres import connection

if TYPE_CHECKING:
    from .embedded.home import Server
    from .events import Event, Notify
    from .history.overview import LogEntry, Overview


@dataclass(slots=True)
class Session:
    """An open connection, where its history is, and the migrations of the directory."""

    settings: Settings
    database: Database
    conn: connection.Connection
    history: History
    migrations: tuple[Migration, ...]

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler stands between: it invents the process that it tells libpq of."""
        return self.conn.info.backend_pid != self.history.pid

    def entries(self, *, downs: bool = False) -> tuple[Entry, ...]:
        """Compare files and history as they are now; `downs` reads the stored down scripts."""
        if not self.history.exists:
            return planner.reconcile(self.migrations, ())
        known = frozenset(migration.up.checksum for migration in self.migrations)
        schema = self.history.schema
        with connection.reported(schema):
            rows = table.read(self.conn, schema, known=known, downs=downs)
        return planner.reconcile(self.migrations, rows)

    def plan(self, request: planner.Request) -> Plan:
        """Plan what a request asks for, as files and history are now.

        Raises:
            BlockedError: It may not run; the error holds every reason.
            MigratorError: As `planner.plan`.
        """
        plan = planner.plan(request, self.entries(downs=request.reverts))
        if plan.blockers:
            raise BlockedError("nothing was run", errors=plan.blockers)
        return plan


@contextmanager
def opened(settings: Settings, notify: Notify) -> Iterator[Session]:
    """Read the files, connect and find the history; write nothing.

    Raises:
        DirectoryError, BlockedError: The files are not in order.
        ConfigurationError: No database is configured, or its URL cannot be read.
        DatabaseConnectionError: No connection was made.
        HistoryError: The history cannot be used.
    """
    read = partial(directory.read_migrations, settings.directory)
    is_embedded = settings.database is None or settings.database.embedded is not None
    # No server is set up beside a directory that turns out to be a wrong one.
    early = read() if is_embedded else None
    with _reachable(settings, notify) as database, _connecting(database) as connecting:
        migrations = read() if early is None else early
        conn = connecting.result()
        with connection.reported(settings.schema):
            found = table.locate(conn, settings.schema)
        session = Session(settings, database, conn, found, migrations)
        if session.is_pooled:
            notify(_remark("connected through a connection pooler"))
        yield session


@contextmanager
def _connecting(database: Database) -> Iterator[Future[connection.Connection]]:
    """Connect in the background, for the caller has something else to do that mostly waits.

    A daemon, which keeps nobody who has found an error meanwhile, or does not want to wait.
    """
    future: Future[connection.Connection] = Future()

    def connect() -> None:
        try:
            future.set_result(connection.connect(database))
        except BaseException as error:  # noqa: BLE001  (it is raised where the result is wanted)
            future.set_exception(error)

    Thread(target=connect, name="connect", daemon=True).start()
    try:
        yield future
    finally:
        future.add_done_callback(_close)


def _close(future: Future[connection.Connection]) -> None:
    if not future.exception():
        future.result().close()


def overview(session: Session) -> Overview:
    """Say what `status` shows: the database, and every version's state."""
    from .history.overview import Overview  # noqa: PLC0415  (a run shows none)

    entries = session.entries()
    return Overview(
        database=session.conn.info.dbname,
        server_version=connection.version(session.conn),
        schema=session.history.schema,
        entries=entries,
        is_current=not unsettled(entries),
    )


def log(session: Session, *, version: str | None, limit: int) -> tuple[LogEntry, ...]:
    """Read the newest rows of the log, the oldest of them first; none before the first `up`."""
    if not session.history.exists:
        return ()
    with connection.reported(session.history.schema):
        schema = session.history.schema
        return table.read_log(session.conn, schema, version=version, limit=limit)


def _remark(text: str) -> Event:
    from .events import Remarked  # noqa: PLC0415  (most sessions have nothing to say)

    return Remarked(text)


@contextmanager
def _reachable(settings: Settings, notify: Notify) -> Iterator[Database]:
    """Give the database to connect to."""
    if settings.database is None:
        raise ConfigurationError(
            "no database is configured",
            hint="set DATABASE_URL, or DATABASE_HOST, DATABASE_NAME, DATABASE_USER and "
            "DATABASE_PASSWORD; for a PostgreSQL of this project's own: DATABASE_URL=embedded:",
        )
    with reached(settings.database, notify) as database:
        yield database


@contextmanager
def reached(database: Database, notify: Notify) -> Iterator[Database]:
    """Give a database to connect to for a `with`; start the embedded server if that is meant.

    Raises:
        EmbeddedServerError: It cannot be found or started.
    """
    if database.embedded is None:
        yield database
        return

    from .embedded import server  # noqa: PLC0415  (who has a database pays for no server)

    def announce(embedded: Server, outcome: server.Outcome) -> None:
        if outcome is server.Outcome.CREATED:
            where = f"{embedded.home}, for this project alone"
            notify(_remark(f"made a PostgreSQL {embedded.version} in {where}"))

    with server.running(Path.cwd(), database.embedded, notify=announce) as url:
        yield Database(url=url)
