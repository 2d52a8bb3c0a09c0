"""A session of a command: the files, the database, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from .history import place, table
from .history.place import History
from .model import Entry, Migration, Plan, Recorded, Repeatable, Status
from .planning import planner, repeatables, squash
from .planning.problems import outstanding_states
from .postgres import connection, waiting
from .postgres.cursor import Connection

if TYPE_CHECKING:
    from .embedded.home import Server
    from .events import Event, Notify
    from .history.overview import LogEntry, Overview


@dataclass(slots=True)
class Session:
    """An open connection, its history, and the migrations in the directories.

    The repeatable files come last.
    """

    settings: Settings
    database: Database
    conn: Connection
    history: History
    migrations: tuple[Migration, ...]

    @property
    def is_pooled(self) -> bool:
        """Whether the connection goes through a pooler: libpq then has a pid that it invented."""
        return self.conn.info.backend_pid != self.history.pid

    @property
    def server(self) -> str:
        """The server, as its users know it."""
        configured, info = self.settings.database, self.conn.info
        is_embedded = configured is not None and configured.embedded is not None
        return "the embedded PostgreSQL" if is_embedded else server_name(info.host, info.port)

    def entries(self, *, downs: bool = False) -> tuple[Entry, ...]:
        """Compare files and history; `downs` reads the stored down scripts, too."""
        return self.state(downs=downs)[0]

    def state(self, *, downs: bool = False) -> tuple[tuple[Entry, ...], tuple[Repeatable, ...]]:
        """Compare files and history, as `entries` does, repeatable files included."""
        return compared(self.migrations, self.recorded(downs=downs))

    def recorded(self, *, downs: bool = False) -> Recorded:
        """Read the history; `downs` reads the stored down scripts, too."""
        if not self.history.exists:
            return Recorded()
        known = frozenset(
            checksum
            for each in self.migrations
            for checksum in (each.up.checksum, *squash.replaced(each).values())
        )
        with connection.reported(self.history.schema):
            return table.read(self.conn, self.history, known=known, downs=downs)

    def plan(self, request: planner.Request) -> Plan:
        """Plan what a request asks for, as files and history are now.

        Raises:
            BlockedError: It may not run; the error holds every reason.
            MigratorError: As `planner.plan`.
        """
        plan = planner.plan(request, *self.state(downs=request.reverts))
        if plan.problems:
            raise BlockedError.of(plan.problems, "found; nothing was run")
        return plan


def compared(
    migrations: Iterable[Migration], recorded: Recorded
) -> tuple[tuple[Entry, ...], tuple[Repeatable, ...]]:
    """Compare files with the history: those with a number, and the repeatable ones."""
    files = tuple(migrations)
    repeatable = (file for file in files if file.is_repeatable)
    return (
        planner.reconcile(directory.numbered(files), recorded.versions),
        repeatables.compare(repeatable, recorded.repeatables),
    )


def server_name(host: str, port: int) -> str:
    """Name the server of a connection.

    >>> server_name("db.example.org", 5432), server_name("::1", 5432)
    ('db.example.org:5432', '[::1]:5432')
    >>> server_name("/run/postgresql", 5432)
    'socket /run/postgresql:5432'
    """
    if host.startswith(("/", "@")):
        return f"socket {host}:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def opened(
    settings: Settings, notify: Notify, *, read: Callable[[], tuple[Migration, ...]] | None = None
) -> Iterator[Session]:
    """Read the files, connect, and locate the history, for a `with`; write nothing.

    Args:
        read: Reads the files; None for the usual way, in which a problem of a file is an error.

    Raises:
        EmptyDirectoryError: There are no files, and the settings do not allow that.
        DirectoryError, BlockedError: The files have problems.
        ConfigurationError: No database is configured, or its URL cannot be read.
        EmbeddedServerError: The embedded server cannot be started.
        DatabaseConnectionError: The server cannot be reached.
        HistoryError: The history cannot be used.
    """
    read = read or partial(
        directory.read_required, *settings.directories, allow_empty=settings.allow_empty
    )
    is_embedded = settings.database is None or settings.database.embedded is not None
    # Read the files first, so that no embedded server is created next to a wrong directory.
    early = read() if is_embedded else None
    with (
        _reachable(settings, notify) as database,
        _connecting(settings, database, notify) as connecting,
    ):
        migrations = read() if early is None else early
        conn = connecting.result()
        with connection.reported(settings.schema):
            found = place.locate(conn, settings.schema, trusted=settings.trust_history_of)
        session = Session(settings, database, conn, found, migrations)
        if ignored := directory.ignored(*settings.directories):
            notify(_remark(f"warning: {ignored}"))
        if session.is_pooled:
            notify(_remark("connected through a connection pooler"))
        yield session


@contextmanager
def connected(settings: Settings, notify: Notify) -> Iterator[Connection]:
    """Connect without reading files or the history, for a `with`.

    Raises:
        ConfigurationError: No database is configured, or its URL cannot be read.
        EmbeddedServerError: The embedded server cannot be started.
        DatabaseConnectionError: The server cannot be reached.
    """
    with (
        _reachable(settings, notify) as database,
        waiting.connect(database, settings.connect_wait, notify) as conn,
    ):
        yield conn


@contextmanager
def _connecting(
    settings: Settings, database: Database, notify: Notify
) -> Iterator[Future[Connection]]:
    """Connect in the background, while the caller reads the files.

    The thread is a daemon: if the caller fails, the program ends without waiting for it.
    """
    future: Future[Connection] = Future()

    def connect() -> None:
        try:
            future.set_result(waiting.connect(database, settings.connect_wait, notify))
        except BaseException as error:  # noqa: BLE001  (`result` raises it)
            future.set_exception(error)

    Thread(target=connect, name="connect", daemon=True).start()
    try:
        yield future
    finally:
        future.add_done_callback(_close)


def _close(future: Future[Connection]) -> None:
    if not future.exception():
        future.result().close()


def overview(session: Session) -> Overview:
    """Return what `status` shows: the database, and the state of every version."""
    from .history.overview import Overview  # noqa: PLC0415  (start-up time)

    entries, repeatable = session.state()
    return Overview(
        database=session.conn.info.dbname,
        server_version=connection.version(session.conn),
        schema=session.history.schema,
        entries=entries,
        repeatables=repeatable,
        is_current=not (
            outstanding_states(entries) or repeatables.outstanding(repeatable, entries)
        ),
        runners=_runners(session, entries),
    )


def _runners(session: Session, entries: tuple[Entry, ...]) -> tuple[int, ...]:
    """Return the server processes of a run to which an interrupted migration may belong."""
    if all(entry.status is not Status.INTERRUPTED for entry in entries):
        return ()
    from .postgres import lock  # noqa: PLC0415  (start-up time)

    holders = lock.holders(session.conn, session.history.schema)
    return tuple(each.pid for each in holders if each.pid)


def log(session: Session, *, version: str | None, limit: int) -> tuple[LogEntry, ...]:
    """Return the newest rows of the log, oldest first; none before the first `up`."""
    if not session.history.exists:
        return ()
    with connection.reported(session.history.schema):
        schema = session.history.schema
        return table.read_log(session.conn, schema, version=version, limit=limit)


def _remark(text: str) -> Event:
    from .events import Remarked  # noqa: PLC0415  (start-up time)

    return Remarked(text)


@contextmanager
def _reachable(settings: Settings, notify: Notify) -> Iterator[Database]:
    """Return the configured database, for a `with`, as `reached` does."""
    if settings.database is None:
        raise ConfigurationError(
            "no database is configured",
            hint="set DATABASE_URL, or DATABASE_HOST, DATABASE_NAME, DATABASE_USER and "
            "DATABASE_PASSWORD, or database-url in migrator.toml;\n"
            "for an embedded PostgreSQL: DATABASE_URL=embedded:",
        )
    with reached(settings.database, notify) as database:
        yield database


@contextmanager
def reached(database: Database, notify: Notify) -> Iterator[Database]:
    """Return a database to connect to, for a `with`; run the embedded server if it is there.

    Raises:
        EmbeddedServerError: The embedded server cannot be started.
    """
    if database.embedded is None:
        yield database
        return

    from .embedded import server  # noqa: PLC0415  (start-up time)

    def announce(embedded: Server, outcome: server.Outcome) -> None:
        if outcome is server.Outcome.CREATED:
            where = f"{embedded.home}, for this project only"
            notify(_remark(f"created a PostgreSQL {embedded.version} in {where}"))

    with server.running(Path.cwd(), database.embedded, notify=announce) as url:
        yield Database(url=url)
