"""Compare the queries that rehearsals call broken with those that then fail, along real histories.

The queries are made from the schema before: all columns of each table by a key, an INSERT of the
required ones, an UPDATE, a join over each foreign key, views and functions.

`python -m tests.rehearsal.broken_queries [FOLDER …] [--first N] [--last N]` prints the figures.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import psycopg

from tests.conftest import Migrate, serve, stop_ignoring_signals, variables_of_the_user
from tests.rehearsal import fill
from tests.rehearsal.predictions import FOLDERS, history, walk
from tests.test_corpora import OUR_TABLES

MOST = 500  # queries: a rehearsal checks no more
_PLACE = re.compile(r"queries\.sql:(\d+):")
_MORE = re.compile(r"(\d+) more quer(?:y fails|ies fail)")
_OTHERS = """
select format('select * from %I.%I', schemaname, viewname)
from pg_views where schemaname !~ '^pg_' and schemaname <> 'information_schema'
union all
select format('select %I.%I(%s)', n.nspname, p.proname, (
    select string_agg(format('$%s', i), ', ') from generate_series(1, p.pronargs) i
))
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and p.prokind = 'f'
    and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
    and not exists (select from pg_depend where objid = p.oid and deptype = 'e')
order by 1
"""
_PARAMETERS = "select parameter_types::text[] from pg_prepared_statements where name = 'q'"
# As a driver sends them: with their types.  All others are sent as text.
_VALUES: dict[str, object] = {
    "smallint": 1,
    "integer": 1,
    "bigint": 1,
    "numeric": Decimal(1),
    "boolean": True,
    "double precision": 1.0,
    "bytea": b"",
    "uuid": UUID(int=1),
    "real": 1.0,
    "interval": timedelta(1),
    "time without time zone": time(1),
    "time with time zone": time(1, tzinfo=UTC),
    "date": date(2024, 1, 1),
    "timestamp without time zone": datetime(2024, 1, 1),
    "timestamp with time zone": datetime(2024, 1, 1, tzinfo=UTC),
}
_UNUSABLE = ("53", "57", "58")


def queries(conn: fill.Connection) -> list[str]:
    """Write queries for everything in a schema, each in one line."""
    found = ["select 1"]
    found += [
        query
        for table in fill.described(conn)
        if table["name"] not in OUR_TABLES
        for query in _of_table(table)
    ]
    found += [query for (query,) in conn.execute(_OTHERS.encode()).fetchall()]
    return [" ".join(query.split()) for query in found][:MOST]


def _of_table(table: dict[str, Any]) -> Iterator[str]:
    name, columns = table["name"], table["columns"]
    if not columns:
        return
    by_number = {each["number"]: each["name"] for each in columns}
    key = columns[0]["name"]
    yield f"select {', '.join(by_number.values())} from {name} where {key} = $1"
    settable = [each["name"] for each in columns if not each["is_generated"]]
    required = [
        each["name"]
        for each in columns
        if each["not_null"] and not (each["default"] or each["sequence"] or each["is_generated"])
    ]
    into = f" ({', '.join(required)})" if required else ""
    values = f"values ({_parameters(required)})" if required else "default values"
    yield f"insert into {name}{into} {values}"
    changes = ", ".join(f"{each} = ${at}" for at, each in enumerate(settable[1:], 2))
    if changes and table["columns"][0]["sequence"] is None:
        yield f"update {name} set {changes} where {key} = $1"
    for reference in table["keys"]:
        pairs = zip(reference["columns"], reference["referenced"], strict=True)
        matches = " and ".join(f"a.{by_number[ours]} = b.{theirs}" for ours, theirs in pairs)
        if reference["other"]:
            yield f"select count(*) from {name} a join {reference['other']} b on {matches}"


def _parameters(names: Sequence[str]) -> str:
    return ", ".join(f"${at}" for at in range(1, len(names) + 1))


@dataclass(slots=True)
class Count:
    """What was found along a history: queries that were broken by migrations.

    Attributes:
        checked: Pairs of a query and a migration.
        left_out: Queries that did not work before.
    """

    migrations: int = 0
    checked: int = 0
    left_out: int = 0
    broken: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    stopped: str = ""

    def line(self) -> str:
        """Say the figures in one line."""
        return (
            f"{self.migrations} migrations, {self.checked} checks, {self.left_out} left out;"
            f" {self.broken} broken: {self.found} found, {len(self.missed)} missed;"
            f" {len(self.false)} false alarms" + (f"; stopped: {self.stopped}" * bool(self.stopped))
        )


def compare(
    program: Migrate, versions: Sequence[str], file: Path, window: int, count: Count
) -> None:
    """Rehearse some migrations at a time with queries, then apply and try them one by one.

    Args:
        versions: The pending ones.
        file: Where to write the queries.
    """
    at = 0
    while at < len(versions) and not count.stopped:
        part = versions[at : at + window]
        with program.database.connect() as conn:
            texts = queries(conn)
            values = [_values(conn, each) for each in texts]
            usable = [not _fails(conn, *each) for each in zip(texts, values, strict=True)]
        file.write_text(";\n".join([*texts, ""]), encoding="utf-8")
        predicted, more = _predicted(program, part[-1], file, count)
        if not predicted:
            # Such as one that creates a role.
            part = part[:1]
        count.left_out += usable.count(False)
        failing: set[int] = set()
        for version in part:
            result = program("up", "--steps", "1", "--json")
            if result.exit_code:
                count.stopped = f"{version}: {result.stderr or result.stdout}"
                return
            with program.database.connect() as conn:
                now = {
                    line: error
                    for line, (text, given, works) in enumerate(
                        zip(texts, values, usable, strict=True), 1
                    )
                    if works and (error := _fails(conn, text, given))
                }
            if version in predicted:
                _judge(
                    version, predicted[version], more.get(version, 0), failing, now, texts, count
                )
                count.checked += usable.count(True)
                count.migrations += 1
            failing = set(now)
        at += len(part)


def _judge(
    version: str,
    said: set[int],
    more: int,
    failing: set[int],
    now: dict[int, str],
    texts: Sequence[str],
    count: Count,
) -> None:
    """Compare the lines that a rehearsal names with those that fail newly."""
    broken = now.keys() - failing
    missed = sorted(broken - said)[more:]  # findings beyond the first twenty are only counted
    count.broken += len(broken)
    count.found += len(broken) - len(missed)
    count.missed += [f"{version}: {texts[line - 1]}: {now[line]}" for line in missed]
    count.false += [
        f"{version}: {texts[line - 1]}: {now.get(line, 'works')}" for line in sorted(said - broken)
    ]


def _predicted(
    program: Migrate, to: str, file: Path, count: Count
) -> tuple[dict[str, set[int]], dict[str, int]]:
    """Rehearse; return the lines that break by version, and how many more each one counts."""
    options = ("--from-target", "--data-checks", "0", "--queries", file, "--to", to, "--json")
    result = program("rehearse", *options)
    document: Any = result.json if result.stdout else {"error": {"message": result.stderr}}
    if "migrations" not in document:
        count.stopped = f"rehearse --to {to}: {document['error']['message']}"
        return {}, {}
    lines: dict[str, set[int]] = {}
    more: dict[str, int] = {}
    for each in document["migrations"]:
        if not each["error"]:
            found = [f["message"] for f in each["findings"] if f["hazard"] == "query-broken"]
            text = "\n".join(found)
            lines[each["version"]] = {int(line) for line in _PLACE.findall(text)}
            more[each["version"]] = sum(int(number) for number in _MORE.findall(text))
    return lines, more


def _values(conn: fill.Connection, query: str) -> list[object]:
    """Return a value for each parameter, of the type that the query wants."""
    try:
        conn.execute(f"prepare q as {query}".encode())
    except psycopg.Error:
        return []
    (types,) = conn.execute(_PARAMETERS).fetchall()[0]
    conn.execute("deallocate q")
    return [_VALUES.get(each) for each in types]


def _fails(conn: fill.Connection, query: str, values: Sequence[object]) -> str | None:
    """Return with which error a query cannot be planned or inserts no row; None if it can."""
    cursor = psycopg.RawCursor(conn)
    try:
        cursor.execute(f"explain (costs off) {query}".encode(), values)
    except psycopg.Error as error:
        if (error.sqlstate or "57").startswith(_UNUSABLE):
            raise
        return error.diag.message_primary or str(error)
    return _lacks(conn, query, values) if query.startswith("insert") else None


def _lacks(conn: fill.Connection, query: str, values: Sequence[object]) -> str | None:
    """Run an INSERT and roll it back; return the error if it lacks a column that is required.

    It may fail for other reasons, as the values are made up.
    """
    listed = re.findall(r'"(?:[^"]|"")+"|\w+', query.partition(" values ")[0])
    for text in ("1", str(UUID(int=1))):
        given = [text if each is None else each for each in values]
        try:
            with conn.transaction(force_rollback=True):
                psycopg.RawCursor(conn).execute(query.encode(), given)
        except psycopg.errors.NotNullViolation as error:
            if error.diag.column_name not in [each.strip('"') for each in listed]:
                return error.diag.message_primary
        except psycopg.Error:
            continue
    return None


def main() -> None:
    """Walk through histories, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=10_000)
    parser.add_argument("--window", type=int, default=8)
    arguments = parser.parse_args()
    stop_ignoring_signals()
    for name in variables_of_the_user():
        del os.environ[name]
    with serve() as postgres:
        for chosen in map(history, arguments.folders or FOLDERS):
            with postgres.database() as database, tempfile.TemporaryDirectory() as folder:
                began, count = monotonic(), Count()
                found = walk(chosen, database, Path(folder) / "copy")
                if arguments.first:
                    found.apply("--to", found.versions[arguments.first - 1])
                pending = found.versions[arguments.first : arguments.last]
                file = Path(folder) / "queries.sql"
                try:
                    compare(found.program, pending, file, arguments.window, count)
                except KeyboardInterrupt:
                    count.stopped = "interrupted"
                print(f"{chosen.folder}: {count.line()}; {monotonic() - began:.0f} s")
                for name in ("missed", "false"):
                    for each in getattr(count, name):
                        print(f"  {name}: {each}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
