"""Compare states that are read where they changed with full readings, along real histories.

`python -m tests.rehearsal.readings [FOLDER …] [--first N] [--last N]` runs each migration up, down
and up again, as a rehearsal does, and prints the figures and each difference.  In the folder
`pgregress15` are PostgreSQL's own tests, of which each statement is a migration;
`pgregress15/NAME` stands for those with NAME in their name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import Any

import psycopg

from migrator.config import Database as Target
from migrator.config import Settings
from migrator.errors import MigratorError
from migrator.files.source import read_source
from migrator.hazards.catalogue import Facts, Made
from migrator.history import table
from migrator.interrupts import Interrupts
from migrator.model import Direction, Migration, Step
from migrator.postgres import connection
from migrator.rehearsal import facts
from migrator.rehearsal.schemas.reader import Reader, can_tell
from migrator.rehearsal.schemas.schema import compare, recreated
from migrator.rehearsal.schemas.state import State, changed, facts_after
from migrator.rehearsal.stage import Stage, carry_out, run
from migrator.sql import parser
from tests.conftest import Postgres, serve, stop_ignoring_signals, variables_of_the_user
from tests.test_corpora import (
    AFTER,
    BEFORE,
    CORPORA,
    HISTORIES,
    History,
    has_uuid_ossp,
    prepared,
    set_up,
)

SCHEMA = "migrator"
"""The schema of the history."""
REGRESS = "pgregress15"
_NO_DDL = ("select", "insert", "update", "delete", "explain", "show", "values", "table", "fetch")


@dataclass(slots=True)
class Tally:
    """What was found along a history.

    Attributes:
        scripts: How many were run, up and down.
        parts: After how many of them only a part was read.
        failed: Those that failed, with the reason.
        wrong: The differences, after the name of the script.
    """

    scripts: int = 0
    parts: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another one."""
        self.scripts += other.scripts
        self.parts += other.parts
        self.failed += other.failed
        self.wrong += other.wrong

    def line(self) -> str:
        """Say the figures in one line."""
        return (
            f"{self.scripts} scripts, {self.parts} read in part, {len(self.failed)} failed,"
            f" {len(self.wrong)} differences"
        )


_LOCKED = b"""
select distinct relation
from pg_catalog.pg_locks
where pid = pg_catalog.pg_backend_pid()
  and locktype = 'relation'
  and relation >= 16384
  and mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
               'AccessExclusiveLock')
"""


@dataclass(frozen=True, slots=True)
class Readings:
    """Reads the states of a database in both ways."""

    stage: Stage
    reader: Reader
    full: Reader

    def again(
        self, old: State, touched: Collection[int], *, in_part: bool = True
    ) -> tuple[State, bool, list[object]]:
        """Return the state, whether only a part was read, and what differs from a full reading.

        The full reading takes the place of a state that differs.
        """
        part = self.reader.part(old, touched) if in_part else None
        full = self.full.read()
        if part is None:
            return full, False, []
        found = [
            *differences(part, full),
            *self.other_facts(part),
            *_other_changes(old, part, full),
        ]
        return (full if found else part), True, found

    def change(self, script: str) -> Collection[int] | None:
        """Run a script in a transaction; return what it locked, or None if it fails."""
        conn = self.stage.conn
        try:
            conn.execute(b"begin")
            conn.execute(script.encode())
            locked = {oid for (oid,) in conn.execute(_LOCKED).fetchall()}
            conn.execute(b"reset role; reset session authorization; commit")
        except psycopg.Error:
            conn.rollback()
            return None
        return locked

    def other_facts(self, state: State) -> list[object]:
        """Return the facts by a state that differ from those that the database is asked for."""
        conn, snapshot = self.stage.conn, state.snapshot
        asked = facts.after(conn, facts.before(conn, {}, Made()), snapshot, snapshot, tables=None)
        indexes = {name: tuple(sorted(each)) for name, each in asked.indexes.items()}
        asked = replace(asked, indexes=indexes)
        known = facts_after(state.facts(Facts()), state, state)
        return [
            (field.name, *_unlike(getattr(known, field.name), getattr(asked, field.name)))
            for field in fields(Facts)
            if field.name != "made"
            and any(_unlike(getattr(known, field.name), getattr(asked, field.name)))
        ]


def _unlike(first: Any, second: Any) -> tuple[Any, Any]:
    """Return what is in only one of two collections, without our own and temporary tables."""
    sides = [set(each.items() if isinstance(each, dict) else each) for each in (first, second)]
    others = (f"{SCHEMA}.", "pg_temp_")
    kept = [{each for each in side if not str(each[0]).startswith(others)} for side in sides]
    return kept[0] - kept[1], kept[1] - kept[0]


def differences(first: State, second: State) -> list[object]:
    """Return what differs between two states of the same moment."""
    every = first.units.keys() | second.units.keys()
    units = [
        (first.units.get(oid), second.units.get(oid))
        for oid in sorted(every)
        if first.units.get(oid) != second.units.get(oid)
    ]
    return [
        *units,
        *([("relations",)] if first.snapshot.relations != second.snapshot.relations else []),
        *([("objects",)] if first.snapshot.objects != second.snapshot.objects else []),
        *([(first.totals, second.totals)] if first.totals != second.totals else []),
    ]


def _other_changes(old: State, part: State, full: State) -> list[object]:
    """Return what the report would say of a change that differs from two full comparisons."""
    small, large = changed(old, part), (tuple(old.objects()), tuple(full.objects()))
    return [
        (how.__name__, how(*small), how(*large))
        for how in (compare, recreated)
        if how(*small) != how(*large)
    ]


@contextmanager
def readings(url: str) -> Iterator[Readings]:
    """Open the sessions of a database, which has the tables of a history."""
    target = Target(url)
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        conn = stack.enter_context(closing(connection.connect(target)))
        watcher, other, third = (
            stack.enter_context(closing(connection.connect_own(target))) for _ in range(3)
        )
        conn.execute(f"create schema if not exists {SCHEMA}".encode())
        table.ensure(conn, SCHEMA)
        stage = Stage(
            conn=conn,
            watcher=watcher,
            schema=SCHEMA,
            settings=Settings(lock_attempts=1),
            small=0,
            interrupts=interrupts,
            notify=lambda _event: None,
            pid=connection.backend_pid(conn),
        )
        yield Readings(stage, Reader(conn, other, SCHEMA), Reader(conn, third, SCHEMA))


@dataclass(slots=True)
class Walk:
    """Runs scripts on a database, and reads its state in both ways after each."""

    both: Readings
    tally: Tally
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.both.full.read()

    def migrations(self, found: Sequence[Migration], first: int, last: int) -> int:
        """Run each up, down and up again, from one to another; those before only up.

        Returns:
            The first that is left: the database is of no use for it.
        """
        stage = self.both.stage
        for migration in found[:first]:
            error = run(stage, step(migration, Direction.UP))
            assert error is None, f"{migration.version}: {error}"
        self.state = self.both.full.read()
        for number, migration in enumerate(found[first:last], first):
            if not self._up_down_up(migration):
                return number + 1
        return last

    def _up_down_up(self, migration: Migration) -> bool:
        """Return whether the next migration can be run."""
        up = step(migration, Direction.UP)
        touched, error = self._run(up)
        if error or not migration.down:
            return not error
        down = step(migration, Direction.DOWN)
        _, error = self._run(down)
        if error:
            return down.script.transactional
        _, error = self._run(up, touched)
        return not error

    def _run(
        self, step: Step, known: Collection[int] | None = None
    ) -> tuple[Collection[int], MigratorError | None]:
        """Run a step, traced if its locks are not known, and compare the readings after it.

        Returns:
            What it locked, and the error that stopped it.
        """
        is_first = known is None
        traced, error = carry_out(
            self.both.stage, step, traced=is_first, known=self.state if is_first else None
        )
        touched = known or {t.relation.oid for each in traced for t in each.trace.touches}
        name = f"{step.direction} of {step.version}"
        if error:
            self.tally.failed.append(f"{name}: {str(error).splitlines()[0]}")
        self.compare(name, touched, in_part=can_tell(step.script))
        return touched, error

    def compare(self, name: str, touched: Collection[int], *, in_part: bool = True) -> None:
        """Compare the readings after a script."""
        self.state, was_part, found = self.both.again(self.state, touched, in_part=in_part)
        self.tally.scripts += 1
        self.tally.parts += was_part
        if found:
            self.tally.wrong.append(f"{name}: {found}")


def step(migration: Migration, direction: Direction) -> Step:
    """Return the step of a migration in one direction."""
    source = migration.up if direction is Direction.UP else migration.down
    assert source is not None
    script = parser.parse(source.path, source.text)
    return Step(migration.version, direction, script, migration)


def migrations(directory: Path) -> list[Migration]:
    """Return the pairs of a directory by their numbers."""
    found = []
    for path in sorted(directory.glob("*.up.sql"), key=lambda p: int(p.name.partition("_")[0])):
        version = path.name.removesuffix(".up.sql")
        down = path.with_name(f"{version}.down.sql")
        sources = [
            read_source(PurePath(each.name), each.read_bytes()) if each.exists() else None
            for each in (path, down)
        ]
        assert sources[0] is not None
        found.append(Migration(version, sources[0], sources[1]))
    return found


def walk(of: History, postgres: Postgres, copy: Path, first: int = 0, last: int = 10_000) -> Tally:
    """Walk through a history, on as many databases as that takes."""
    found, tally = migrations(prepared(of, copy)), Tally()
    at, last = first, min(last, len(found))
    while at < last:
        with postgres.database() as database:
            set_up(of, [database])
            with readings(database.url) as both:
                at = Walk(both, tally).migrations(found, at, last)
    return tally


def regress(name: str) -> list[Path]:
    """Return PostgreSQL's tests that have something in their name.

    The unsafe ones rename columns of the catalogs, so that nothing can read them.
    """
    found = (CORPORA / REGRESS).glob(f"*{name}*.json" if name else "*.json")
    return sorted(each for each in found if "unsafe_tests" not in each.name)


def statements(path: Path, postgres: Postgres) -> Tally:
    """Run the statements of one of PostgreSQL's tests, a transaction each.

    Many fail on purpose; others, because they need what cannot run in a transaction.
    """
    with postgres.database() as database, readings(database.url) as both:
        walk = Walk(both, Tally())
        for each in json.loads(path.read_text(encoding="utf-8")):
            text = str(each["text"])
            if text.lower().startswith("prepare transaction"):
                continue
            locked = both.change(text)
            if locked is None:
                walk.tally.failed.append(text)
            if not text.lower().startswith(_NO_DDL):
                walk.compare(f"{path.stem}:{each['line']} {text}", locked or ())
        return walk.tally


def main() -> None:
    """Walk through histories, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=10_000)
    arguments = parser.parse_args()
    stop_ignoring_signals()
    for name in variables_of_the_user():
        del os.environ[name]
    source = os.environ.get("MIGRATOR_PG_BINDIR")
    every = [*(each.folder for each in (*HISTORIES, BEFORE, AFTER)), REGRESS]
    with (
        serve(source=Path(source) if source else None) as postgres,
        tempfile.TemporaryDirectory() as folder,
    ):
        for number, name in enumerate(arguments.folders or every):
            if name == "hydra" and not _has_contrib(postgres):
                print("hydra: skipped, the server has no uuid-ossp")
                continue
            began = time.monotonic()
            copy = Path(folder) / str(number)
            if name.startswith(REGRESS):
                total = Tally()
                for path in regress(name.removeprefix(REGRESS).removeprefix("/")):
                    total.add(statements(path, postgres))
            else:
                total = walk(history(name), postgres, copy, arguments.first, arguments.last)
            print(f"{name}: {total.line()}; {time.monotonic() - began:.0f} s")
            for each in total.wrong:
                print(f"  difference after {each}")
            sys.stdout.flush()


def _has_contrib(postgres: Postgres) -> bool:
    with postgres.database() as database:
        return has_uuid_ossp(database)


def history(folder: str) -> History:
    return next(each for each in (*HISTORIES, BEFORE, AFTER) if each.folder == folder)


if __name__ == "__main__":
    main()
