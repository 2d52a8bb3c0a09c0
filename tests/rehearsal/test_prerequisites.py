"""A scratch database gets what the scripts need, the target has and no script creates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Database, Migrate, Write
from tests.sessions import ordinary_role

pytestmark = pytest.mark.slow

SHOP = {"01_a.up.sql": "create table a (id int);", "02_b.up.sql": "create table b (tags hstore);"}
NOTE = "created the extension hstore on the scratch database: no migration creates it"
TOOL = "create table schema_migrations (version bigint primary key, dirty boolean not null)"


@pytest.fixture
def extended(database: Database) -> Database:
    """A database that was given an extension by hand."""
    database.execute("create schema extensions; create extension hstore schema extensions")
    path = f"alter database {database.name} set search_path = public, extensions"
    database.execute(path)
    return database


def test_an_extension_of_the_target_is_there_for_baseline_drift_and_rehearse(
    migrate: Migrate, extended: Database, write: Write
) -> None:
    extended.execute("create table a (id int); create table b (tags extensions.hstore)")
    write(SHOP)
    result = migrate("baseline", "02")
    assert (result.exit_code, NOTE in result.stderr) == (0, True), result.stderr
    assert migrate("drift").exit_code == 0
    write({"03_c.up.sql": "alter table b add more hstore;"})
    write({"03_c.down.sql": "alter table b drop more;"})
    result = migrate("rehearse")
    assert (result.exit_code, "replaying the history" in result.stdout) == (0, True)
    assert NOTE in result.stderr


def test_an_extension_that_only_a_pending_migration_needs_is_there_for_it(
    migrate: Migrate, extended: Database, write: Write
) -> None:
    write({"01_a.up.sql": SHOP["01_a.up.sql"]})
    assert migrate("up").exit_code == 0
    write({"02_b.up.sql": SHOP["02_b.up.sql"], "02_b.down.sql": "drop table b;"})
    result = migrate("rehearse", "--json")
    (rehearsed,) = result.json["migrations"]
    assert rehearsed["error"] is None
    assert rehearsed["down"]["left"] == []
    assert NOTE in result.stderr
    assert extended.rows("select to_regclass('public.b')") == [(None,)]


def test_an_extension_that_no_script_needs_is_still_drift(
    migrate: Migrate, extended: Database, write: Write
) -> None:
    write({"01_a.up.sql": SHOP["01_a.up.sql"]})
    assert migrate("up").exit_code == 0
    result = migrate("drift")
    assert (result.exit_code, "+ extension hstore" in result.stdout) == (4, True)


def test_an_extension_that_a_later_script_creates_is_left_to_it(
    migrate: Migrate, database: Database, write: Write
) -> None:
    database.execute("create extension hstore; create table b (tags hstore)")
    write(
        {"01_b.up.sql": "create table b (tags hstore);", "02_x.up.sql": "create extension hstore"}
    )
    result = migrate("baseline", "02")
    assert (result.exit_code, 'type "hstore" does not exist' in result.stderr) == (4, True)


def test_an_extension_that_may_not_be_created_is_reported_by_the_script_that_needs_it(
    migrate: Migrate, database: Database, write: Write
) -> None:
    database.execute("create extension file_fdw; create server s foreign data wrapper file_fdw")
    database.execute("create table a (id int)")
    write({"01_s.up.sql": "create server s foreign data wrapper file_fdw;"})
    with ordinary_role(database, "createdb") as url:
        result = migrate("baseline", "01", database=url)
    assert result.exit_code == 4
    refusal = "could not create the extension file_fdw on the scratch database: permission denied"
    assert refusal in result.stderr
    assert 'wrapper "file_fdw" does not exist' in result.stderr


@pytest.mark.parametrize("is_there", [False, True])
def test_another_tools_table_is_as_that_tool_creates_it(
    migrate: Migrate, database: Database, write: Write, *, is_there: bool
) -> None:
    database.execute(f"{TOOL}; create table a (id int)")
    if is_there:
        database.execute("alter table schema_migrations add data_version int")
    write(
        {
            "01_a.up.sql": "create table a (id int);",
            "02_b.up.sql": "alter table schema_migrations add data_version int;",
        }
    )
    write({"02_b.down.sql": "alter table schema_migrations drop data_version;"})
    result = migrate("baseline", "02" if is_there else "01")
    assert result.exit_code == 0, result.stderr
    migrations = migrate("rehearse", "--json").json["migrations"]
    assert [each["error"] for each in migrations] == ([] if is_there else [None])
    if is_there:
        note = "created the table public.schema_migrations of golang-migrate on the scratch"
        assert note in result.stderr
        assert migrate("drift").exit_code == 0


def test_an_extension_that_a_pending_migration_needs_is_there_on_each_scratch_database(
    migrate: Migrate, extended: Database, write: Write, tmp_path: Path
) -> None:
    write({"01_a.up.sql": SHOP["01_a.up.sql"]})
    assert migrate("up").exit_code == 0
    # The second up of 02_b fails after its down, so 03_c gets another scratch database.
    write({"02_b.up.sql": SHOP["02_b.up.sql"], "02_b.down.sql": "select 1;"})
    write({"03_c.up.sql": "alter table b add more hstore;"})
    queries = tmp_path / "queries.sql"
    queries.write_text("select id from a;")
    result = migrate("rehearse", "--json", "--queries", queries)
    rehearsed = result.json["migrations"]
    assert [each["error"] for each in rehearsed] == [None, None], result.stderr


def test_an_ordinary_error_creates_nothing_on_the_scratch_database(
    migrate: Migrate, extended: Database, write: Write
) -> None:
    write({"01_a.up.sql": SHOP["01_a.up.sql"]})
    assert migrate("up").exit_code == 0
    write({"02_b.up.sql": "create table a ();"})
    assert "created the extension" not in migrate("rehearse").stderr
    assert extended.rows("select count(*) from a") == [(0,)]
