"""Names with any character are names, in every command."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ..conftest import Database, Migrate, Postgres, Write, call

pytestmark = pytest.mark.slow

NAMES = (
    "a%b",
    "%s %(schema)s %%",
    'a"b',
    "a'b",
    "{a} {0} {schema}",
    "$migrator$ $$ $1",
    "a\nb",
    "a\\b",
    "back\\'slash",
    "select",
    "A b;--/*",
    ":a =b @c/?&#",
    "é" * 31,
    "x" * 63,
)


@pytest.fixture(params=NAMES)
def named(postgres: Postgres, directory: Path, request: pytest.FixtureRequest) -> Iterator[Migrate]:
    """The program on a database and as a role that have the name, with a number if it is short."""
    name: str = request.param
    unique = name if len(name.encode()) > 60 else f"{name}{uuid.uuid4().hex[:8]}"
    quoted = sql.Identifier(unique)
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(sql.SQL("create role {} createdb login password 'x'").format(quoted))
        conn.execute(sql.SQL("create database {0} owner {0}").format(quoted))
        try:
            database = Database(postgres, unique)
            with database.connect() as own:
                own.execute(sql.SQL("create schema {0} authorization {0}").format(quoted))
            yield Migrate(call, database, directory)
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(quoted))
            conn.execute(sql.SQL("drop role {}").format(quoted))


def test_a_schema_is_found_by_a_name_that_postgresql_cuts(migrate: Migrate, write: Write) -> None:
    migrate.database.execute(f"create schema {'x' * 63}")
    write({"01_a.up.sql": "select 1;"})
    for expected in ("applied 1 migration", "nothing to do"):
        result = migrate("--schema", "x" * 70, "up")
        assert (result.exit_code, result.stdout[: len(expected)]) == (0, expected), result.stderr


def test_every_command_takes_a_name_of_any_characters(
    named: Migrate, write: Write, tmp_path: Path
) -> None:
    name = named.database.name
    quoted = sql.Identifier(name).as_string(None)
    table = f"{quoted}.{quoted}"
    write(
        {
            "01_a.up.sql": f"create table {table} ({quoted} int);\n",
            "01_a.down.sql": f"drop table {table};\n",
            "02_b.up.sql": f"alter table {table} add b int;\n"
            f"create index if not exists i on {table} ({quoted});\n",
            "02_b.down.sql": f"drop index {quoted}.i;\nalter table {table} drop b;\n",
            "03_c.up.sql": f"create index concurrently if not exists j on {table} (b);\n",
            "03_c.down.sql": f"drop index concurrently {quoted}.j;\n",
        }
    )
    plan = tmp_path / "plan"
    commands: tuple[tuple[str, ...], ...] = (
        ("status",),
        ("up", "--to", "1", "--role", name),
        ("up", "--dry-run"),
        ("rehearse", "--save", str(plan)),
        ("rehearse", "--from-target"),
        ("rehearse", "--on-target"),
        ("up", "--plan", str(plan)),
        ("status", "--check"),
        ("verify",),
        ("drift",),
        ("doctor",),
        ("down",),
        ("up", "--trace"),
        ("redo", "--steps", "2"),
        ("repair", "3", "--reverted", "--reason", name),
        ("baseline", "3"),
        ("log", "--version", "3"),
        ("down", "--all"),
    )
    url = named.database.tcp_url(name, "x")
    for command in commands:
        result = named("--schema", name, *command, database=url)
        assert result.exit_code == 0, (command, result.stderr, result.stdout[-1000:])
        assert "not rehearsed" not in result.stderr
