"""The tables of the history: where they are, and what they contain."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from migrator.errors import HistoryError
from migrator.history import layout, place, table

from ..conftest import Database, Migrate, Write

FILES = {"01_a.up.sql": "create table a (id int);\n", "01_a.down.sql": "drop table a;\n"}


@pytest.fixture
def files(write: Write) -> Path:
    """A directory of one migration."""
    return write(FILES)


def test_the_row_contains_both_scripts_as_they_were(migrate: Migrate, files: Path) -> None:
    assert migrate("up").exit_code == 0
    query = """
    select version, up_script, down_script, applied_by, statements_done,
           length(checksum), duration_ms >= 0, applied_at <= now(), in_step
    from migration_versions
    """
    scripts = (FILES["01_a.up.sql"], FILES["01_a.down.sql"])
    assert migrate.database.rows(query) == [("01_a", *scripts, "postgres", 0, 64, True, True, None)]


def test_a_script_above_a_mebibyte_is_not_stored_but_read_from_its_file(
    migrate: Migrate, write: Write
) -> None:
    padding = f"select '{'x' * (1 << 20)}';\n"
    write({name: text + padding for name, text in FILES.items()})
    assert migrate("up").exit_code == 0
    stored = "select up_script, down_script from migration_versions"
    assert migrate.database.rows(stored) == [(None, None)]
    assert migrate("status", "--check").exit_code == 0
    result = migrate("down")
    assert result.exit_code == 0
    assert "01_a has no stored down script" in result.stderr


def test_the_tables_are_in_the_first_schema_of_the_path_unless_another_is_set(
    migrate: Migrate, files: Path
) -> None:
    migrate.database.execute("create schema app; create schema ops")
    database = f"alter database {migrate.database.name} set search_path to app, public"
    migrate.database.execute(database)
    assert migrate("up").exit_code == 0
    assert migrate("--schema", "ops", "status", "--check").exit_code == 3
    found = "select schemaname from pg_tables where tablename ~ '^migration_' order by 1"
    assert migrate.database.rows(found) == [("app",)] * 3


def test_two_histories_on_the_search_path_are_an_error_until_one_is_chosen(
    migrate: Migrate, files: Path
) -> None:
    migrate.database.execute("create schema app")
    assert migrate("up").exit_code == 0
    migrate.database.execute(
        f"alter database {migrate.database.name} set search_path to app, public"
    )
    for command in ("up", "status", "down", "verify"):
        result = migrate(command)
        assert result.exit_code == 4
        assert 'schema "app" has no history, but schema "public" has one' in result.stderr
    assert migrate("--schema", "public", "status", "--check").exit_code == 0


def test_a_script_that_moves_the_search_path_does_not_move_the_history(
    migrate: Migrate, write: Write
) -> None:
    migrate.database.execute("create schema app")
    write(
        {
            "01_a.up.sql": "set search_path to app; create table a (id int);",
            "02_b.up.sql": "create table b (id int);",
        }
    )
    assert migrate("up").exit_code == 0
    assert migrate.database.rows("select to_regclass('app.a')::text, to_regclass('b')::text") == [
        ("app.a", "b")
    ]
    assert migrate.database.rows("select count(*) from public.migration_versions") == [(2,)]


def test_a_history_of_a_newer_format_is_not_touched(migrate: Migrate, files: Path) -> None:
    assert migrate("up").exit_code == 0
    newer = layout.FORMAT + 1
    migrate.database.execute(
        f"comment on table migration_versions is 'The history of migrator, format {newer}'"
    )
    for command in ("up", "down", "status", "log"):
        result = migrate(command)
        assert result.exit_code == 4
        assert (
            f"has format {newer}, but this version supports only {layout.FORMAT}" in result.stderr
        )


def test_the_comment_on_the_table_contains_its_format(migrate: Migrate, files: Path) -> None:
    assert migrate("up").exit_code == 0
    query = "select obj_description('migration_versions'::regclass)"
    assert migrate.database.rows(query) == [(f"The history of migrator, format {layout.FORMAT}",)]


def test_a_row_without_a_number_is_reported(migrate: Migrate, files: Path) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute(
        "insert into migration_versions (version, checksum, statements_done, ordinal)"
        " values ('x', '', 0, 2)"
    )
    result = migrate("status")
    assert result.exit_code == 4
    assert 'has a version without a number: "x"' in result.stderr


def test_rows_of_the_log_are_only_added(migrate: Migrate, files: Path) -> None:
    for command in ("up", "down", "up"):
        assert migrate(command).exit_code == 0
    query = "select id, action, outcome from migration_log order by id"
    assert migrate.database.rows(query) == [
        (1, "up", "done"),
        (2, "down", "done"),
        (3, "up", "done"),
    ]


def test_reading_creates_nothing(database: Database) -> None:
    with database.connect() as conn:
        found = place.locate(conn, None)
        assert (found.schema, found.exists) == ("public", False)
    assert database.rows("select to_regclass('migration_versions')") == [(None,)]


def test_both_tables_are_created_or_neither(database: Database) -> None:
    database.execute("create view migration_log as select 1")
    with database.connect() as conn, pytest.raises(Exception, match="already exists"):
        table.ensure(conn, "public")
    assert database.rows("select to_regclass('migration_versions')") == [(None,)]


def test_a_search_path_without_a_schema_is_reported(database: Database) -> None:
    conn = psycopg.connect(database.url, options="-c search_path=''")
    with conn, pytest.raises(HistoryError, match="the search path contains no schema"):
        place.locate(conn, None)
