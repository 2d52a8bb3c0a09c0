"""The first run on a database that already has its schema, or another tool's history."""

from __future__ import annotations

import pytest

from migrator.history import other_tools

from ..conftest import Migrate, Write

BASELINE = "migrator baseline VERSION"
# Each as its tool creates it.
TABLES = {
    "golang-migrate": "schema_migrations (version bigint primary key, dirty boolean not null)",
    "dbmate or Rails": "schema_migrations (version varchar(255) primary key)",
    "tern": "schema_version (version int4 not null primary key)",
    "pgmigrate": "schema_version (version bigint primary key, description text, type text,"
    " installed_by text, installed_on timestamp)",
    "goose": "goose_db_version (id int primary key, version_id bigint not null,"
    " is_applied boolean not null, tstamp timestamp not null default now())",
    "Flyway": "flyway_schema_history (installed_rank int primary key, version varchar(50),"
    " description varchar(200), type varchar(20), script varchar(1000), checksum int,"
    " installed_by varchar(100), installed_on timestamp, execution_time int, success boolean)",
    "Liquibase": "databasechangelog (id varchar(255), author varchar(255), filename varchar(255),"
    " dateexecuted timestamp, orderexecuted int, exectype varchar(10), md5sum varchar(35))",
    "sqlx": "_sqlx_migrations (version bigint primary key, description text,"
    " installed_on timestamptz, success boolean, checksum bytea, execution_time bigint)",
    "Prisma": "_prisma_migrations (id varchar(36) primary key, checksum varchar(64),"
    " finished_at timestamptz, migration_name varchar(255), logs text,"
    " rolled_back_at timestamptz, started_at timestamptz, applied_steps_count int)",
    "Alembic": "alembic_version (version_num varchar(32) not null)",
    "yoyo": "_yoyo_migration (migration_hash varchar(64), migration_id varchar(255),"
    " applied_at_utc timestamp)",
    "node-pg-migrate": "pgmigrations (id serial primary key, name varchar(255), run_on timestamp)",
    "Knex": "knex_migrations (id serial, name varchar(255), batch int, migration_time timestamptz)",
    "sql-migrate": "gorp_migrations (id text primary key, applied_at timestamptz)",
    "Pop": "schema_migration (version varchar(14))",
    "refinery": "refinery_schema_history (version int4, name varchar(255), applied_on varchar(255),"
    " checksum varchar(255))",
    "postgrator": "schemaversion (version bigint, name text, md5 text, run_at timestamptz)",
    "graphile-migrate": "migrations (hash text primary key, previous_hash text, filename text,"
    " date timestamptz)",
    "sqitch": "changes (change_id text, script_hash text, change text, project text, note text,"
    " committed_at timestamptz, planned_at timestamptz)",
    "Atlas": "atlas_schema_revisions (version text, description text, type int, applied int,"
    " total int, executed_at timestamptz, hash text, partial_hashes jsonb)",
    "Django": "django_migrations (id int, app text, name text, applied timestamptz)",
}


@pytest.mark.parametrize(
    ("there", "file"),
    [
        ("create table t ()", "create table t ();"),
        ("create table t (a int)", "alter table t add a int;"),
        ("create schema s", "create schema s;"),
        ("create type e as enum ()", "create type e as enum ();"),
        ("create function f() returns int language sql return 1", ""),
        ("create table t ()", "-- migrator: no-transaction\nvacuum;\ncreate table t ();"),
        ("create table t ()", "set role pg_monitor; reset role; create table t ();"),
    ],
)
def test_the_first_run_on_a_database_that_has_its_schema_names_baseline(
    migrate: Migrate, write: Write, there: str, file: str
) -> None:
    write({"01_a.up.sql": "create extension if not exists plpgsql;"})
    write({"02_b.up.sql": file or f"{there};"})
    if "return 1" in there and migrate.database.postgres.version < 14:
        there = "create function f() returns int language sql as 'select 1'"
        write({"02_b.up.sql": f"{there};"})
    migrate.database.execute(there)
    result = migrate("up")
    assert result.exit_code == 1
    assert BASELINE in result.stderr


def test_a_later_run_and_a_down_do_not_name_baseline(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "create table a ();", "01_a.down.sql": "create table a ();"})
    assert migrate("up").exit_code == 0
    result = migrate("down")
    assert (result.exit_code, BASELINE in result.stderr) == (1, False)
    write({"02_b.up.sql": "create table a ();"})
    result = migrate("up")
    assert (result.exit_code, BASELINE in result.stderr) == (1, False)


def test_a_run_after_a_down_that_left_something_does_not_name_baseline(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create table a (); create table b ();"})
    write({"01_a.down.sql": "drop table a;"})
    assert migrate("up").exit_code == 0
    assert migrate("down").exit_code == 0
    result = migrate("up")
    assert (result.exit_code, BASELINE in result.stderr) == (1, False)


def test_a_first_run_that_fails_otherwise_does_not_name_baseline(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create table a (b nothing);"})
    result = migrate("up")
    assert (result.exit_code, BASELINE in result.stderr) == (1, False)


@pytest.mark.parametrize("tool", TABLES)
def test_the_history_of_another_tool_is_named(migrate: Migrate, write: Write, tool: str) -> None:
    write({"01_a.up.sql": "create table t ();"})
    migrate.database.execute(f"create schema old; create table old.{TABLES[tool]}")
    migrate.database.execute("create table t (); create table releases (version text, name text)")
    with migrate.database.connect() as conn:
        found = other_tools.find(conn)
    name = f"old.{TABLES[tool].partition(' ')[0]}"
    assert [(each.tool, each.table) for each in found] == [(tool, name)]
    result = migrate("up", "--beside-other-tool")
    assert f"the history of {tool} is in {name}" in result.stderr
    assert BASELINE in result.stderr
