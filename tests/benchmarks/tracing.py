"""What a trace costs on a large schema, in milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg

from migrator.tracing import diff, probe

from ..conftest import Database, Postgres

_TABLES = """
do $$
begin
    for i in {first}..{last} loop
        execute format(
            'create table table_%1$s (
                 id bigint generated always as identity primary key,
                 parent bigint,
                 name text not null,
                 note text,
                 amount numeric(10, 2) check (amount > 0),
                 created_at timestamptz not null default now()
             );
             create index on table_%1$s (parent)',
            i
        );
    end loop;
end $$
"""
_STEP = 500  # tables; the locks of many more in one transaction do not fit


ASKED = "after a statement"
"""The question that is asked most often."""

BOUND = 1.0


def costs(postgres: Postgres, tables: int) -> dict[str, float]:
    """Give the median time of each question on a schema of so many tables."""
    with postgres.database() as database:
        fill(database, tables)
        return measure(database)


def fill(database: Database, tables: int) -> None:
    for first in range(1, tables + 1, _STEP):
        last = min(tables, first + _STEP - 1)
        database.execute(_TABLES.format(first=first, last=last))
    database.execute("vacuum analyze pg_catalog.pg_class")
    database.execute("vacuum analyze pg_catalog.pg_attribute")


def measure(database: Database) -> dict[str, float]:
    found: dict[str, float] = {}
    with database.connect() as conn:
        conn.prepare_threshold = None
        version = conn.info.server_version
        start, question = probe.start("migrator"), probe.after_statement("migrator", version)
        conn.execute("begin")
        found["start, once a transaction"] = median(lambda: ask(conn, start), 5)
        conn.execute("alter table table_1 add column extra integer")
        found["after a statement, a trivial query"] = median(lambda: ask(conn, b"select '{}'"), 200)
        found["after a statement, not prepared"] = median(lambda: ask(conn, question), 200)
        conn.execute(probe.prepare("migrator", version))
        found[ASKED] = median(lambda: ask(conn, probe.EXECUTE), 200)
        at_start = diff.read(ask(conn, start))
        seen = ask(conn, probe.EXECUTE)
        found["to tell the difference"] = median(
            lambda: diff.difference(at_start, diff.read(seen), at_start), 200
        )
        for count in (10, 100, 500):
            conn.execute(_TABLES.replace("table_", f"made_{count}_").format(first=1, last=count))
            name = f"after a statement, with {count} more tables of its own"
            found[name] = median(lambda: ask(conn, probe.EXECUTE), 20)
        conn.execute("rollback")
    return found


def ask(conn: psycopg.Connection[Any], question: bytes) -> str:
    return str(conn.execute(question).fetchall()[0][0])


def median(work: Callable[[], Any], times: int) -> float:
    """Return how long it takes, in milliseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)
