"""Two sessions where two matter: runs in the background, and who stands in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg.rows import TupleRow

from tests.conftest import Database, Result, process_environment

T = TypeVar("T")
BOUND = 30.0  # seconds for a state to come about


def wait_for(state: Callable[[], T], *, bound: float = BOUND) -> T:
    """Ask until the answer is true, and give it; fail after `bound` seconds."""
    end = time.monotonic() + bound
    while not (answer := state()):
        assert time.monotonic() < end, f"this state did not come about within {bound} s"
        time.sleep(0.01)
    return answer


class Run:
    """The program as a process in the background; its stderr can be read meanwhile."""

    def __init__(self, url: str, directory: Path, *arguments: str, log: Path) -> None:
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        command = [sys.executable, "-m", "migrator", "--dir", str(directory), *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                env=process_environment({"DATABASE_URL": url}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def says(self, text: str) -> str:
        """Wait until stderr has a text, and give all of it."""
        return wait_for(lambda: self.stderr if text in self.stderr else "")

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it so that it can do nothing more."""
        self.signal(signal.SIGKILL)
        self.process.wait(BOUND)

    def result(self, *, bound: float = 60) -> Result:
        code = self.process.wait(bound)
        return Result(code, self._out.read_text(), self.stderr)


class Runs:
    """Starts runs, and ends those that a test leaves."""

    def __init__(self, database: Database, directory: Path, logs: Path) -> None:
        self.database = database
        self.directory = directory
        self._logs = logs
        self._started: list[Run] = []

    def __call__(self, *arguments: str, url: str | None = None) -> Run:
        log = self._logs / f"run{len(self._started)}"
        run = Run(url or self.database.url, self.directory, *arguments, log=log)
        self._started.append(run)
        return run

    def end(self) -> None:
        for run in self._started:
            if run.process.poll() is None:
                run.kill()


def working(database: Database, query: str) -> int | None:
    """Give the process that runs a statement with this text in it; None while there is none."""
    with database.connect() as conn:
        row = conn.execute(
            "select pid from pg_stat_activity where datname = current_database()"
            " and state = 'active' and position(%s in query) > 0 and pid <> pg_backend_pid()",
            [query],
        ).fetchone()
    return row[0] if row else None


def waiting_for_a_lock(database: Database) -> bool:
    """Whether a session of the database waits for a lock."""
    return bool(
        database.rows(
            "select from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        )
    )


def strangers(database: Database) -> list[TupleRow]:
    """Give the other sessions of the database and the advisory locks in it."""
    return database.rows(
        "select pid, state, query from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid() and backend_type = 'client backend'"
        " union all select pid, locktype, mode from pg_locks where locktype = 'advisory'"
        " and database = (select oid from pg_database where datname = current_database())"
    )


@contextmanager
def holding(database: Database, *statements: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """Keep a transaction open in which these statements were run."""
    with psycopg.connect(database.url, application_name="report") as conn:
        for statement in statements:
            conn.execute(statement.encode())
        yield conn
        conn.rollback()


@contextmanager
def ordinary_role(database: Database, *attributes: str) -> Iterator[str]:
    """Create a role that may use the schema public, give its URL, and drop it."""
    name = f"ordinary_{uuid.uuid4().hex}"
    database.execute(
        f"create role {name} login password 'secret' {' '.join(attributes)};"
        f"grant all on schema public to {name}"
    )
    try:
        yield database.tcp_url(name, "secret")
    finally:
        database.execute(f"drop owned by {name}; drop role {name}")


def applied(database: Database) -> list[str]:
    """Give the versions that are recorded as applied whole, in order."""
    query = "select version from migration_versions where applied_at is not null order by 1"
    return [version for (version,) in database.rows(query)]


def history(database: Database) -> list[TupleRow]:
    """Give what the history says of each version: steps done, whether one is under way, whole."""
    return database.rows(
        "select version, statements_done, in_step is not null, applied_at is not null"
        " from migration_versions order by 1"
    )


def invalid_indexes(database: Database) -> list[str]:
    """Give the names of the indexes that serve no query."""
    query = "select indexrelid::regclass::text from pg_index where not indisvalid order by 1"
    return [name for (name,) in database.rows(query)]
