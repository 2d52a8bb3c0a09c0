"""Compare what rehearsals say of rows with what the ups then do, along real histories.

`python -m tests.rehearsal.predictions [FOLDER …] [--seed N] [--first N] [--last N]` walks through
them and prints the figures, and each miss and false alarm.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.conftest import (
    Database,
    Migrate,
    Result,
    call,
    serve,
    stop_ignoring_signals,
    variables_of_the_user,
)
from tests.rehearsal import fill
from tests.test_corpora import BEFORE, HISTORIES, OUR_TABLES, History, prepared, set_up

FOLDERS = ("authelia", "chirpstack_as", "cif", "harbor", "hatchet")
WINDOW = 8  # migrations to rehearse at a time
_BY_ROWS = re.compile(r"23502|23503|23505|23514|23P01|22...")
_NOTHING: Any = {"findings": [], "data_checks": [], "statements": []}
_ROW_STATEMENTS = ("insert", "update", "delete", "with", "select", "do", "merge", "call")
_TRIES = 12  # repairs of one migration


@dataclass(slots=True)
class Tally:
    """What was found along a history.

    Attributes:
        tried: Migrations.
        unrehearsed: Those that cannot be rehearsed, with the reason.
        failed: Ups that failed because of rows: a migration may fail several times, and is
            repaired each time.
        checks: Answers of rehearsals.
        found: Ups that failed where the rehearsal said so.
        open_failed: Ups that failed where the rehearsal said that it cannot tell.
        open_passed: Answers that it cannot tell, of migrations that passed.
        own: Ups that failed in a statement that reads or writes rows itself: no data check is
            about those.
        missed: Ups that failed without a word of the rehearsal.
        false: Findings of migrations that passed.
        skipped: Tables that could not be filled.
        stopped: Why the walk ended early; empty if it did not.
    """

    tried: int = 0
    unrehearsed: list[str] = field(default_factory=list)
    failed: int = 0
    checks: int = 0
    found: list[str] = field(default_factory=list)
    open_failed: list[str] = field(default_factory=list)
    open_passed: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)
    stopped: str = ""

    def line(self) -> str:
        """Say the figures in one line."""
        return (
            f"{self.tried} migrations ({len(self.unrehearsed)} not rehearsed),"
            f" {self.checks} checks; {self.failed} ups failed on rows:"
            f" {len(self.found)} found, {len(self.missed)} missed,"
            f" {len(self.open_failed)} could not be checked,"
            f" {len(self.own)} in statements that write rows; {len(self.false)} false alarms,"
            f" {len(self.open_passed)} unchecked that passed;"
            f" {len(self.skipped)} tables not filled"
            + (f"; stopped: {self.stopped}" if self.stopped else "")
        )


@dataclass(slots=True)
class Walk:
    """A history on a database of its own, and what was found so far."""

    program: Migrate
    versions: Sequence[str]
    seed: int = 0
    rows: int = 60
    tally: Tally = field(default_factory=Tally)
    _columns: dict[str, int] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        return self.program.database

    def run(self, first: int, last: int, window: int = WINDOW) -> Tally:
        """Apply the migrations before the first without rows, then try those up to the last."""
        if first:
            self.apply("--to", self.versions[first - 1])
        at = first
        while at < last and not self.tally.stopped:
            self._fill()
            at = self._window(at, min(at + window, last))
        return self.tally

    def _window(self, at: int, end: int) -> int:
        """Rehearse some migrations, then apply one after the other.

        After an up that failed the rest is rehearsed anew, on the repaired rows.
        """
        tries = 0
        predicted = self._rehearse(self.versions[end - 1])
        while at < end and not self.tally.stopped:
            version = self.versions[at]
            if version not in predicted:
                # An earlier one of these migrations could not be rehearsed.
                predicted = self._rehearse(self.versions[end - 1])
            expected = predicted.get(version, _NOTHING)
            code, document = self._up("--steps", "1")
            if code == 0:
                self._passed(version, expected)
                at, tries = at + 1, 0
                continue
            error = document["error"]
            if not _BY_ROWS.fullmatch(error.get("sqlstate") or "") or tries == _TRIES:
                self.tally.stopped = f"{version}: {error['message']}"
                break
            self._failed(version, expected, error)
            self._repair(expected, error, tries)
            tries += 1
            predicted = self._rehearse(self.versions[end - 1])
        return at

    def _passed(self, version: str, expected: Any) -> None:
        tally = self.tally
        tally.tried += 1
        tally.checks += len(expected["data_checks"])
        tally.false += [f"{version}: {each['message']}" for each in _alarms(expected)]
        tally.open_passed += [f"{version}: {_said(each)}" for each in _open(expected)]

    def _failed(self, version: str, expected: Any, error: Any) -> None:
        tally = self.tally
        tally.failed += 1
        text = f"{version}:{error['line']}: {error['sqlstate']} {error['message']}"
        if any(each["line"] == error["line"] for each in _alarms(expected)):
            tally.found.append(text)
        elif any(each["line"] == error["line"] for each in _open(expected)):
            unknown = {_said(each) for each in _open(expected) if each["line"] == error["line"]}
            tally.open_failed.append(f"{text}: {', '.join(sorted(unknown))}")
        elif _sql(expected, error["line"]).lower().startswith(_ROW_STATEMENTS):
            tally.own.append(text)
        else:
            others = [each["message"] for each in _alarms(expected)]
            tally.missed.append(f"{text}" + (f" (instead: {others})" if others else ""))

    def _repair(self, expected: Any, error: Any, tries: int) -> None:
        """Remove the rows of the tables that the failed statement names."""
        with self.database.connect() as conn:
            tables = self._tables(conn)
            text = _sql(expected, error["line"])
            words = set(re.findall(r"\w+", f"{text} {error['message']}".lower()))
            named = [each for each in tables if each.split(".")[1].strip('"').lower() in words]
            if tries >= _TRIES // 2 or not named:
                named = tables
            conn.execute(f"truncate {', '.join(named)} restart identity cascade".encode())

    def _fill(self) -> None:
        """Fill what is empty, and some of the tables whose columns have changed once more."""
        with self.database.connect() as conn:
            tables = self._tables(conn)
            columns = {
                name: len(conn.execute(f"table {name} limit 0".encode()).description or ())
                for name in tables
            }
            again = [
                name
                for name, number in columns.items()
                if self._columns.get(name, number) != number and (number + self.seed) % 2
            ]
            if again:
                conn.execute(f"truncate {', '.join(again)} restart identity cascade".encode())
            seed = self.seed * 1000 + self.tally.tried
            filled = fill.fill(conn, self.rows, seed=seed, leave_out=OUR_TABLES)
            self._columns = columns
            self.tally.skipped |= {f"{name}: {why}" for name, why in filled.skipped.items()}

    def _tables(self, conn: psycopg.Connection[Any]) -> list[str]:
        return [each for each in fill.tables(conn) if each not in OUR_TABLES]

    def _rehearse(self, to: str) -> dict[str, Any]:
        result = self.program("rehearse", "--from-target", "--to", to, "--json")
        document: Any = result.json if result.stdout else _without_document(result)
        if "migrations" not in document:
            self.tally.stopped = f"rehearse --to {to}: {document['error']['message']}"
            return {}
        done = [each for each in document["migrations"] if not each["error"]]
        if not done:
            failed = document["migrations"][0]
            self.tally.unrehearsed.append(f"{failed['version']}: {failed['error']['message']}")
        return {each["version"]: each for each in done}

    def _up(self, *options: str) -> tuple[int, Any]:
        # A table of golang-migrate's is part of Harbor's schema.
        result = self.program("up", "--beside-other-tool", *options, "--json")
        return result.exit_code, result.json if result.stdout else _without_document(result)

    def apply(self, *options: str) -> None:
        """Run `up`, which is to succeed."""
        code, document = self._up(*options)
        assert code == 0, document


def _without_document(result: Result) -> Any:
    return {"error": {"message": result.stderr}}


def _alarms(expected: Any) -> list[Any]:
    return [each for each in expected["findings"] if each["hazard"] == "breaks-on-data"]


def _open(expected: Any) -> list[Any]:
    answers = ("unknown", "timed-out")
    return [each for each in expected["data_checks"] if each["answer"] in answers]


def _sql(expected: Any, line: int) -> str:
    """Return the statement at a line; nothing if none was rehearsed there."""
    return " ".join(each["sql"] for each in expected["statements"] if each["line"] == line)


def _said(check: Any) -> str:
    return f"{check['what']}: {check['reason']}"


def versions(program: Migrate) -> list[str]:
    """Name the migrations of a history in order."""
    return [each["version"] for each in program("status", "--json").json["versions"]]


def walk(of: History, database: Database, copy: Path, seed: int = 0) -> Walk:
    """Begin the walk through a history."""
    set_up(of, [database])
    program = Migrate(call, database, prepared(of, copy))
    return Walk(program, versions(program), seed)


def history(folder: str) -> History:
    """Return a history by its folder."""
    return next(each for each in (*HISTORIES, BEFORE) if each.folder == folder)


def main() -> None:
    """Walk through histories, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=10_000)
    parser.add_argument("--window", type=int, default=WINDOW)
    arguments = parser.parse_args()
    stop_ignoring_signals()
    for name in variables_of_the_user():
        del os.environ[name]
    source = os.environ.get("MIGRATOR_PG_BINDIR")
    with serve(source=Path(source) if source else None) as postgres:
        for chosen in map(history, arguments.folders or FOLDERS):
            with postgres.database() as database, tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                found = walk(chosen, database, Path(folder) / "copy", arguments.seed)
                last = min(arguments.last, len(found.versions))
                tally = found.tally
                try:
                    found.run(arguments.first, last, arguments.window)
                except KeyboardInterrupt:
                    tally.stopped = "interrupted"
                print(f"{chosen.folder}: {tally.line()}; {time.monotonic() - began:.0f} s")
                for name in (
                    "unrehearsed",
                    "found",
                    "missed",
                    "false",
                    "open_failed",
                    "open_passed",
                    "skipped",
                ):
                    for each in sorted(set(getattr(tally, name))):
                        print(f"  {name}: {each}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
