"""Migrate under load, with a rehearsed plan and without: `python -m tests.chaos.load`.

Writers lock two tables in the order opposite to that of the migrations, and a reader is slow.
What the application suffers is counted: errors, and how long its transactions take.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.conftest import Database, Result, serve, spawn

WRITERS = 4
_GROUND = "create table a (id int, n int); create table b (id int, n int);"
_WORK = "alter table a add x{n} int;\nalter table b add x{n} int;\n"
_THINK = 0.02  # seconds at the most between two transactions of a writer
_READ = "select pg_sleep(0.1), count(*) from a"


@dataclass(slots=True)
class Suffered:
    """What an application met while migrations ran.

    Attributes:
        seconds: Of each transaction of a writer.
        errors: Of writers and reader, by SQLSTATE.
        migrated: Seconds that the run took.
    """

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    migrated: float = 0.0
    result: Result | None = None

    def __str__(self) -> str:
        slowest = sorted(self.seconds)
        p99 = slowest[int(len(slowest) * 0.99)]
        code = self.result.exit_code if self.result else None
        return (
            f"exit code {code} in {self.migrated:.2f} s; "
            f"{len(slowest)} transactions, median {statistics.median(slowest) * 1000:.1f} ms, "
            f"p99 {p99 * 1000:.1f} ms, longest {slowest[-1] * 1000:.0f} ms; "
            f"errors: {dict(self.errors) or 'none'}"
        )


def write_files(directory: Path, count: int) -> None:
    """Write a migration that makes the tables, and some that change both."""
    (directory / "01_ground.up.sql").write_text(_GROUND)
    for n in range(2, count + 2):
        (directory / f"{n:02}_work.up.sql").write_text(_WORK.format(n=n))


@contextmanager
def _load(database: Database) -> Iterator[Suffered]:
    suffered, stop = Suffered(), threading.Event()

    def write(conn: psycopg.Connection[tuple[object, ...]]) -> None:
        with conn.transaction():
            conn.execute("insert into b (id) values (1)")
            conn.execute("select pg_sleep(0.002)")
            conn.execute("insert into a (id) values (1)")

    def read(conn: psycopg.Connection[tuple[object, ...]]) -> None:
        conn.execute(_READ.encode())

    def work(once: Callable[[psycopg.Connection[tuple[object, ...]]], None], think: float) -> None:
        with psycopg.connect(database.url, autocommit=True) as conn:
            while not stop.is_set():
                started = time.monotonic()
                try:
                    once(conn)
                except psycopg.Error as error:
                    suffered.errors[error.sqlstate or ""] += 1
                if once is write:
                    suffered.seconds.append(time.monotonic() - started)
                stop.wait(random.uniform(0, think))

    threads = [threading.Thread(target=work, args=(write, _THINK)) for _ in range(WRITERS)]
    threads.append(threading.Thread(target=work, args=(read, 0.2)))
    for thread in threads:
        thread.start()
    try:
        yield suffered
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def migrate(database: Database, directory: Path, *options: str) -> Suffered:
    """Migrate under load, and tell what the application suffered."""

    def run(*arguments: str) -> Result:
        return spawn("--dir", directory, *arguments, environ={"DATABASE_URL": database.url})

    first = run("up", "--steps", "1")
    assert first.exit_code == 0, first.stderr
    plan = directory / "plan.json"
    if "--plan" in options:
        run("rehearse", "--save", str(plan))
        options = (*options, str(plan))
    with _load(database) as suffered:
        while len(suffered.seconds) < 5 * WRITERS:
            time.sleep(0.01)
        started = time.monotonic()
        suffered.result = run("up", *options)
        suffered.migrated = time.monotonic() - started
    return suffered


def main(rounds: int) -> None:
    """Print what every round cost, with a plan and without."""
    with serve(options=("deadlock_timeout=100ms",)) as postgres:
        for _ in range(rounds):
            for options in (("--plan",), ()):
                with postgres.database() as database, tempfile.TemporaryDirectory() as folder:
                    write_files(Path(folder), 4)
                    print(" ".join(["up", *options]), migrate(database, Path(folder), *options))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
