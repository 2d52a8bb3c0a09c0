"""A rehearsal shows what `up` would do, checks the downs, and leaves the target untouched."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import (
    PROJECT,
    Database,
    Migrate,
    Postgres,
    Result,
    ScratchDatabases,
    Write,
    call,
    new_scratch_databases,
)
from tests.sessions import Runs, holding, wait_for
from tests.test_corpora import CORPORA, HISTORIES, History, prepared, scripts, set_up

pytestmark = pytest.mark.slow

SCHEMA = """
select c.oid::int, n.nspname, c.relname, c.relfilenode::int, c.reltuples
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by 1
"""
LARGE = "insert into t select g, repeat('x', 100) from generate_series(1, 1000) g; analyze t"
TABLE = {
    "01_t.up.sql": "create table t (id int primary key, phone text);\n",
    "01_t.down.sql": "drop table t;\n",
}


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def state(database: Database) -> list[Any]:
    """Return everything of the target that a rehearsal could have changed."""
    rows: list[Any] = database.rows(SCHEMA)
    if database.rows("select to_regclass('migration_versions')") != [(None,)]:
        rows += database.rows("select * from migration_versions order by 1")
        rows += database.rows("select count(*) from migration_log")
    return rows


def start(migrate: Migrate, write: Write, pending: dict[str, str], setup: str = LARGE) -> None:
    """Create a table with 1,000 rows, and write the migrations to rehearse."""
    write(TABLE)
    assert migrate("up").exit_code == 0
    migrate.database.execute(setup)
    write(dict(pending))


def rehearse(migrate: Migrate, *options: str | Path) -> Result:
    """Rehearse with no table too small, and check that the target is untouched."""
    before = state(migrate.database)
    with new_scratch_databases(migrate.database.postgres) as scratch_databases:
        result = migrate("rehearse", "--small", "0", *options)
        assert "internal error" not in result.stderr
        assert state(migrate.database) == before
        assert scratch_databases() == []
    return result


def hazards(result: Result) -> list[tuple[str, str, str]]:
    return [
        (migration["version"], finding["hazard"], finding["severity"])
        for migration in result.json["migrations"]
        for finding in migration["findings"]
    ]


def the_down(result: Result) -> Any:
    """Return the down check of the last migration."""
    return result.json["migrations"][-1]["down"]


# What the databases of a server share


def shared(database: Database) -> list[Any]:
    """Return what a migration can change outside its database."""
    return (
        database.rows("select rolname, rolpassword, rolcreatedb, rolconnlimit from pg_authid")
        + database.rows("select roleid::regrole, member::regrole from pg_auth_members")
        + database.rows("select datname, datconnlimit from pg_database")
        + database.rows("select setdatabase, setrole, setconfig from pg_db_role_setting")
        + database.rows("select name, setting from pg_file_settings")
    )


OUTSIDE = "-- migrator: no-transaction\n"
SHARED = [
    "create role rehearsed;",
    "alter role app password 'initial';",
    "alter role app createdb connection limit 3;",
    "grant pg_monitor to app;",
    "drop role app;",
    "comment on role app is 'x';",
    "alter database postgres set work_mem = '5MB';",
    "do $$ begin execute 'alter role app nologin'; end $$;",
    "create database sidecar;",
    "-- migrator: no-transaction\nalter system set work_mem = '5MB';",
    "-- migrator: no-transaction\ncreate table a ();\nalter role app nologin;\nvacuum;",
    f"{OUTSIDE}do $$ begin alter role app nologin; commit; end $$;",
    f"{OUTSIDE}do $$ begin execute 'grant pg_monitor to app'; commit; end $$;",
    f"{OUTSIDE}create procedure p() language plpgsql as 'begin drop role app; commit; end';\n"
    "create procedure q() language plpgsql as 'begin call p(); end';\ncall q();",
]


@pytest.fixture
def app(database: Database) -> Iterator[str]:
    """A role that a migration may try to change."""
    database.execute("create role app login password 'rotated'")
    yield "app"
    database.execute("drop owned by app; drop role app")


@pytest.mark.parametrize("sql", SHARED)
def test_a_change_of_the_server_is_refused_on_the_server_of_the_target(
    migrate: Migrate, write: Write, app: str, sql: str
) -> None:
    start(migrate, write, {"02_b.up.sql": sql})
    before = shared(migrate.database)
    result = rehearse(migrate)
    assert result.exit_code == 4
    assert "02_b changes what all databases of the server share" in result.stdout
    assert "--scratch-url" in result.stdout
    assert shared(migrate.database) == before


def test_a_block_that_commits_and_changes_no_role_is_rehearsed(
    migrate: Migrate, write: Write, app: str
) -> None:
    sql = (
        f"{OUTSIDE}create table b (x int);\n"
        "do $$ begin insert into b values (1); commit; grant select on b to app; commit; end $$;"
    )
    start(migrate, write, {"02_b.up.sql": sql})
    result = rehearse(migrate, "--json")
    assert [each["error"] for each in result.json["migrations"]] == [None]


def test_the_schema_is_read_as_the_role_that_a_login_does_not_inherit(
    migrate: Migrate, write: Write
) -> None:
    database = migrate.database
    if database.postgres.version == 15:
        pytest.skip("an owner that does not inherit may not create in its own schema public")
    database.execute(
        "create role owner_t; create role deploy login createdb noinherit password 'x'"
    )
    database.execute("grant owner_t to deploy; grant all on schema public to owner_t, deploy")
    database.execute("create table a (id int); alter table a owner to owner_t")
    try:
        write({"01_b.up.sql": "alter table a add x int;"})
        url = database.tcp_url("deploy", "x")
        arguments = ("rehearse", "--from-target", "--json", "--small", "0")
        result = migrate(*arguments, "--role", "owner_t", database=url)
        assert result.exit_code == 0, result.stdout
        refused = migrate(*arguments, database=url)
        assert "pg_dump could not read" in refused.stdout
        assert "--role" in refused.stdout
    finally:
        database.execute("drop owned by deploy, owner_t; drop role deploy, owner_t")


def test_a_history_that_changes_the_server_is_not_replayed_on_it(
    migrate: Migrate, write: Write, app: str
) -> None:
    write({"01_r.up.sql": "alter role app password 'initial'; create table a (id int);"})
    assert migrate("up").exit_code == 0
    migrate.database.execute("alter role app password 'rotated'")
    write({"02_b.up.sql": "alter table a add b int;"})
    before = shared(migrate.database)
    result = rehearse(migrate)
    assert result.exit_code == 0, result.stderr
    assert "with a copy of the schema, without rows, because" in result.stdout
    drift = migrate("drift")
    assert drift.exit_code == 4
    assert "--scratch-url" in drift.stderr
    assert shared(migrate.database) == before


def test_a_down_that_changes_the_server_is_refused_too(
    migrate: Migrate, write: Write, app: str
) -> None:
    start(migrate, write, {"02_b.up.sql": "create table b ();", "02_b.down.sql": "drop role app;"})
    before = shared(migrate.database)
    result = rehearse(migrate)
    assert result.exit_code == 4
    assert "down: fails: 02_b changes what all databases" in result.stdout
    assert shared(migrate.database) == before


def test_a_change_within_the_database_is_not_refused(
    migrate: Migrate, write: Write, app: str
) -> None:
    sql = """
    create table b (id int); grant select on b to app; alter table b owner to app;
    create schema s authorization app; create function f() returns int language sql as 'select 1';
    alter default privileges grant select on tables to app; create policy p on b to app;
    comment on table b is 'x'; create extension pg_trgm; drop owned by app cascade;
    """
    start(migrate, write, {"02_b.up.sql": sql})
    result = rehearse(migrate)
    assert "changes what all databases" not in result.stdout, result.stdout


def test_another_server_may_be_changed(
    migrate: Migrate, write: Write, contrib_postgres: Postgres
) -> None:
    start(migrate, write, {"02_b.up.sql": "create role rehearsed_elsewhere;"})
    url = contrib_postgres.url()
    try:
        result = rehearse(migrate, "--scratch-url", url)
        assert result.exit_code == 0, result.stdout
    finally:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("drop role if exists rehearsed_elsewhere")


# The target


def test_a_fresh_database_stays_empty(migrate: Migrate, write: Write) -> None:
    write({**TABLE, "02_u.up.sql": "create table u (id int);", "02_u.down.sql": "drop table u;"})
    result = rehearse(migrate)
    assert (result.exit_code, result.stderr) == (0, "")
    assert state(migrate.database) == []
    assert result.stdout.endswith("2 migrations, 0 findings\n")


def test_the_target_is_untouched_when_there_are_findings(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table t alter id type bigint;"})
    assert rehearse(migrate).exit_code == 4


def test_the_target_is_untouched_when_an_up_fails(migrate: Migrate, write: Write) -> None:
    pending = {"02_b.up.sql": "create table b ();\nselect 1 / 0;\n", "03_c.up.sql": "select 1;"}
    start(migrate, write, pending)
    result = rehearse(migrate)
    assert result.exit_code == 4
    assert "02_b.up.sql:2:1: division by zero" in result.stdout
    assert "SQLSTATE 22012" in result.stdout
    assert "the target database was not touched" in result.stdout
    assert "migrator up" not in result.stdout, "there is nothing to resume"
    assert "not rehearsed, because 02_b failed: 03_c" in result.stdout
    assert result.stdout.endswith("1 failed, 1 not rehearsed\n")
    document = rehearse(migrate, "--json").json
    assert document["migrations"][-1]["error"]["code"] == "statement"
    assert document["not_rehearsed"] == ["03_c"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_target_is_untouched_and_the_scratch_database_dropped_after_a_signal(
    scratch_databases: ScratchDatabases,
    database: Database,
    runs: Runs,
    migrate: Migrate,
    write: Write,
    number: int,
    code: int,
) -> None:
    start(migrate, write, {"02_b.up.sql": "create table b ();\nselect pg_sleep(600);\n"})
    before = state(database)
    run = runs("rehearse")
    (name,) = wait_for(scratch_databases)
    sleeping = (
        f"select from pg_stat_activity where datname = '{name}' and query ^@ 'select pg_sleep'"
    )
    wait_for(lambda: database.rows(f"{sleeping} and state = 'active'"))
    run.signal(number)
    result = run.result()
    assert (result.exit_code, result.stdout) == (code, "")
    assert "interrupted; the target database was not touched" in result.stderr
    assert "Traceback" not in result.stderr
    assert "migrator up" not in result.stderr
    assert scratch_databases() == []
    assert state(database) == before
    assert not database.rows(sleeping)


def test_the_history_is_replayed_first(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table t add b int;"})
    assert "scratch database built by replaying the history" in rehearse(migrate).stdout


def test_with_from_target_the_schema_is_copied(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table by_hand add b int;"})
    assert rehearse(migrate).exit_code == 4, "the history does not create this table"
    migrate.database.execute("create table by_hand ()")
    result = rehearse(migrate, "--from-target")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "with a copy of the schema, without rows\n" in result.stdout
    assert "drift: not compared" in result.stdout


def test_a_history_that_cannot_be_replayed_is_replaced_by_a_copy(
    migrate: Migrate, write: Write
) -> None:
    migrate.database.execute("create table outside (id int)")
    write({"01_a.up.sql": "alter table outside add a int;"})
    assert migrate("up").exit_code == 0
    write({"02_b.up.sql": "alter table outside add b int;"})
    result = rehearse(migrate)
    assert result.exit_code == 0, result.stdout
    assert (
        "with a copy of the schema, without rows, because the script of 01_a cannot be replayed"
        in result.stderr
    )
    assert "the script of 01_a cannot be replayed: " in result.stdout
    assert migrate.database.rows("select count(*) from outside") == [(0,)]
    drift = migrate("drift")
    assert (drift.exit_code, drift.stdout) == (4, "")
    assert "cannot compare the database with its history: the script of 01_a" in drift.stderr


def test_a_rehearsal_can_end_at_a_version(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_b.up.sql": "select 1;", "03_c.up.sql": "select 1 / 0;"})
    result = rehearse(migrate, "--to", "02", "--json")
    assert result.exit_code == 0
    assert [each["version"] for each in result.json["migrations"]] == ["02_b"]


# Findings


def test_a_finding_names_the_size_in_the_target_and_exits_with_4(
    migrate: Migrate, write: Write
) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table t alter id type bigint;"})
    result = rehearse(migrate)
    ((size,),) = migrate.database.rows("select pg_table_size('t') / 1024")
    assert result.exit_code == 4
    rewrite = f"rewrites public.t ({size} kB, 1000 rows) under ACCESS EXCLUSIVE"
    assert f"FINDING table-rewrite line 1: {rewrite} (blocks reads and writes)" in result.stdout
    assert "instead: Add a new column of the type you want" in result.stdout
    assert result.stdout.endswith("1 migration, 1 finding\n")


def test_a_small_table_is_a_note_and_exits_with_0(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table t alter id type bigint;"})
    result = migrate("rehearse", "--json")
    assert hazards(result) == [("02_b", "table-rewrite", "information")]
    assert (result.exit_code, result.json["clean"]) == (0, True)
    assert migrate("rehearse", "--small", "1kB").exit_code == 4
    assert migrate("rehearse", environ={"MIGRATOR_REHEARSE_SMALL": "1kB"}).exit_code == 4
    assert migrate("rehearse", "--small", "much").exit_code == 2


def test_a_finding_that_is_accepted_with_a_reason_exits_with_0(
    migrate: Migrate, write: Write
) -> None:
    drop = "-- migrator: allow column-dropped nobody reads it\nalter table t drop column phone;\n"
    start(migrate, write, {"02_b.up.sql": drop})
    result = rehearse(migrate)
    assert result.exit_code == 0, result.stdout
    assert "accepted column-dropped line 2" in result.stdout
    assert "(accepted: nobody reads it)" in result.stdout
    assert "0 findings, 1 more accepted" in result.stdout
    write({"02_b.up.sql": drop.partition("\n")[2]})
    assert rehearse(migrate).exit_code == 4


def test_an_enum_value_that_is_used_too_early_is_a_finding(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {}, setup="select 1")
    write({"02_m.up.sql": "create type mood as enum ('a'); alter table t add m mood;"})
    assert migrate("up").exit_code == 0
    early = "alter type mood add value 'b';\nupdate t set m = 'b';\n"
    write({"03_n.up.sql": early})
    result = rehearse(migrate, "--json")
    assert result.exit_code == 4
    assert hazards(result) == [("03_n", "enum-value-used-early", "finding")]
    assert result.json["migrations"][0]["findings"][0]["line"] == 2
    assert migrate("up").exit_code == 1, "PostgreSQL says the same"


def test_a_statement_outside_a_transaction_is_sampled(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_i.up.sql": "create index concurrently i on t (phone);"})
    result = rehearse(migrate, "--json")
    assert result.exit_code == 0
    (statement,) = result.json["migrations"][0]["statements"]
    assert statement["trace"]["sampled"] is True
    assert hazards(result) == [("02_i", "outside-transaction", "information")]
    assert "(sampled: brief locks may be missing)" in rehearse(migrate).stdout


def test_a_table_keeps_its_size_when_an_earlier_migration_renames_it(
    migrate: Migrate, write: Write
) -> None:
    pending = {
        "02_b.up.sql": "alter table t rename to s;",
        "03_c.up.sql": "alter table s add x xml",
    }
    start(migrate, write, pending)
    stdout = rehearse(migrate).stdout
    assert (
        ", 1000 rows): renamed to public.s; ACCESS EXCLUSIVE lock (blocks reads and writes)"
        in stdout
    )


# The downs


@pytest.mark.parametrize(
    ("up", "down", "said"),
    [
        (
            "alter table t add a int;",
            "alter table t drop a;",
            "down: restores the schema, and the up can be applied again",
        ),
        ("alter table t add a int;", None, "no down script: the migration is irreversible"),
        (
            "create table a (); create table b ();",
            "drop table a; drop table if exists nix; alter table b rename to c;",
            "down: does not restore the schema (+ left over, - not restored, ~ different):"
            "\n    + table public.c",
        ),
        (
            "alter table t drop phone;",
            "alter table t add phone text;",
            "down: restores column public.t.phone, but not its data",
        ),
        (
            "create table a (); create table b ();",
            "drop table a;",
            "down: succeeds, but a second up fails: ",
        ),
        ("create table a ();", "drop table nix;", "down: fails: "),
        (
            "alter table t drop phone;",
            "-- migrator: irreversible they are gone\n",
            "down: marked irreversible: they are gone",
        ),
        (
            "alter table t drop phone;",
            "-- migrator: irreversible they are gone\nalter table t add phone text;\n",
            "down: marked irreversible: they are gone",
        ),
    ],
    ids=["undoes", "none", "leaves", "data", "leftover", "fails", "irreversible", "partly"],
)
def test_the_report_says_whether_the_down_undoes_the_up(
    migrate: Migrate, write: Write, up: str, down: str | None, said: str
) -> None:
    start(migrate, write, {"02_b.up.sql": up, **({"02_b.down.sql": down} if down else {})})
    assert said in rehearse(migrate).stdout


def test_a_down_may_leave_a_constraint_validated(migrate: Migrate, write: Write) -> None:
    pending = {
        "02_a.up.sql": "alter table t add constraint c check (phone <> '') not valid;",
        "02_a.down.sql": "alter table t drop constraint c;",
        "03_b.up.sql": "alter table t validate constraint c;",
        "03_b.down.sql": "-- it stays valid",
    }
    start(migrate, write, pending)
    result = rehearse(migrate)
    assert result.exit_code == 0, result.stdout
    changed = "alter table t drop constraint c; alter table t add constraint c check (phone > '');"
    write({"03_b.down.sql": changed})
    assert rehearse(migrate).exit_code == 4


LEAVES = ("create table a (x int); create table b ();", "drop table b; alter table a rename to c;")
ALLOW = "-- migrator: allow down-does-not-undo c is kept\n"
IRREVERSIBLE = "-- migrator: irreversible c is kept\n"


@pytest.mark.parametrize(
    ("up", "down", "message"),
    [
        (*LEAVES, "after the down, the schema is not as before: + table public.c"),
        ("create table a (); create type b as enum ();", "drop table a;", "a second up fails: "),
        ("create table a ();", "drop table nix;", "the down script fails: "),
        (
            "create table if not exists a (); alter table a add if not exists b int;",
            "alter table a drop b; alter table a add c int;",
            "a second up gives a different schema: + column public.a.c integer",
        ),
    ],
)
def test_a_down_that_does_not_undo_the_up_is_a_finding(
    migrate: Migrate, write: Write, up: str, down: str, message: str
) -> None:
    start(migrate, write, {"02_b.up.sql": up, "02_b.down.sql": down})
    result = rehearse(migrate, "--json")
    assert (result.exit_code, result.json["clean"]) == (4, False)
    found = result.json["migrations"][0]["findings"]
    assert {each["hazard"] for each in found} == {"down-does-not-undo"}
    assert any(message in each["message"] for each in found)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (LEAVES[0], IRREVERSIBLE + LEAVES[1]),
        (LEAVES[0], ALLOW + LEAVES[1]),
        (ALLOW + LEAVES[0], LEAVES[1]),
        (LEAVES[0], IRREVERSIBLE),
    ],
)
def test_a_down_that_does_not_undo_the_up_can_be_accepted(
    migrate: Migrate, write: Write, up: str, down: str
) -> None:
    start(migrate, write, {"02_b.up.sql": up, "02_b.down.sql": down})
    result = rehearse(migrate, "--json")
    assert (result.exit_code, result.json["clean"]) == (0, True)
    found = result.json["migrations"][0]["findings"]
    assert {each["accepted"] for each in found} <= {"c is kept"}


def test_a_comment_that_accepts_nothing_is_a_note_with_its_place(
    migrate: Migrate, write: Write
) -> None:
    up = "select 1;\n-- migrator: allow table-dropped it is old\nalter table t add a int;"
    down = "\n-- migrator: allow lock-held at night\nalter table t drop a;"
    start(migrate, write, {"02_b.up.sql": up, "02_b.down.sql": down})
    result = rehearse(migrate, "--json")
    assert result.exit_code == 0
    found = result.json["migrations"][0]["findings"]
    assert [(f["hazard"], f["severity"], f["line"], f["message"]) for f in found] == [
        (
            "allow-unused",
            "information",
            3,
            "allow table-dropped is not needed: there is no such finding",
        ),
        (
            "allow-unused",
            "information",
            None,
            "02_b.down.sql:2: allow lock-held is not needed: there is no such finding",
        ),
    ]


def test_a_comment_that_accepts_a_note_is_needed(migrate: Migrate, write: Write) -> None:
    up = "-- migrator: allow rows-deleted it is a test\ndelete from t where id = 1;"
    start(migrate, write, {"02_b.up.sql": up})
    result = rehearse(migrate, "--json", "--small", "8MB")
    (found,) = result.json["migrations"][0]["findings"]
    assert (found["hazard"], found["accepted"]) == ("rows-deleted", "it is a test")


def test_the_down_check_in_json(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "create table a (x int);", "01_a.down.sql": "drop table a;"})
    assert the_down(rehearse(migrate, "--json")) == {
        "undoes": True,
        "left": [],
        "lost": [],
        "again": [],
        "irreversible": None,
        "error": None,
    }


def test_migrations_after_a_second_up_that_fails_are_rehearsed(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a (); create type b as enum ('x');",
            "01_a.down.sql": "drop table a;",
            "02_c.up.sql": "alter table a add c b;",
        }
    )
    result = rehearse(migrate, "--json")
    assert (result.exit_code, result.json["clean"]) == (4, False)
    down = result.json["migrations"][0]["down"]
    assert (down["undoes"], "already exists" in down["error"]["message"]) == (False, True)
    assert [each["version"] for each in result.json["migrations"]] == ["01_a", "02_c"]
    assert result.json["not_rehearsed"] == []
    assert (
        "using a new scratch database: after its down, 01_a cannot be applied again"
        in result.stderr
    )


def test_migrations_after_a_down_that_was_rolled_back_are_rehearsed(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": "drop table a; drop table nix;",
            "02_c.up.sql": "alter table a add c int;",
        }
    )
    result = rehearse(migrate, "--json")
    assert (result.exit_code, len(result.json["migrations"])) == (4, 2)


def test_migrations_after_a_down_that_failed_halfway_are_rehearsed(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": "-- migrator: no-transaction\ndrop table a;\ndrop table nix;\n",
            "02_c.up.sql": "alter table a add c int;",
            "02_c.down.sql": "alter table a drop c;",
        }
    )
    result = rehearse(migrate, "--json")
    assert (result.exit_code, len(result.json["migrations"])) == (4, 2)
    assert the_down(result)["undoes"]


def test_migrations_after_an_irreversible_one_are_rehearsed(migrate: Migrate, write: Write) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": "-- migrator: irreversible it is the first one\n",
            "02_c.up.sql": "alter table a add c int;",
        }
    )
    result = rehearse(migrate, "--json")
    assert (result.exit_code, len(result.json["migrations"])) == (0, 2)
    assert result.json["migrations"][0]["down"]["irreversible"] == "it is the first one"


# Drift


def test_drift_is_shown_by_rehearse_and_by_drift(
    migrate: Migrate, write: Write, scratch_databases: ScratchDatabases
) -> None:
    pending = {"02_b.up.sql": "alter table t add b int;", "02_b.down.sql": "alter table t drop b;"}
    start(migrate, write, pending)
    clean = migrate("drift")
    assert (clean.exit_code, clean.stdout) == (
        0,
        "no drift: the schema matches its history\n",
    )
    assert "no drift: the schema matches its history" in rehearse(migrate).stdout
    migrate.database.execute(
        "create index by_hand on t (phone); alter table t alter id type bigint"
    )
    before = state(migrate.database)
    found = migrate("drift")
    assert state(migrate.database) == before
    assert scratch_databases() == []
    assert found.exit_code == 4
    assert found.stdout.splitlines() == [
        "drift: the schema does not match its history",
        "--- the history",
        f"+++ the database {migrate.database.name}",
        "~ column public.t.id",
        "  - integer not null",
        "  + bigint not null",
        "+ index public.by_hand ON public.t USING btree (phone)",
        "",
        "2 differences",
    ]
    result = rehearse(migrate)
    assert result.exit_code == 4
    assert "drift: the schema does not match its history\n" in result.stdout
    assert result.stdout.endswith("drift in 2 objects\n")


def test_a_table_in_a_fresh_database_is_drift(migrate: Migrate) -> None:
    migrate.database.execute("create table strange ()")
    assert "+ table public.strange" in migrate("drift", "--allow-empty").stdout


# Entire histories


def test_the_worked_example_is_rehearsed_completely(migrate: Migrate) -> None:
    result = migrate("rehearse", "--json", dir=PROJECT / "migrations")
    assert result.exit_code in (0, 4), result.stderr
    files = [*PROJECT.glob("migrations/*.up.sql"), *PROJECT.glob("migrations/R__*.sql")]
    assert len(result.json["migrations"]) == len(files)
    assert result.json["not_rehearsed"] == []
    assert all(each["down"]["undoes"] or each["down"]["lost"] for each in result.json["migrations"])
    assert state(migrate.database) == []


@pytest.mark.corpora
@pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no migration histories in {CORPORA}")
@pytest.mark.parametrize(
    "history",
    [
        each
        for each in HISTORIES
        if each.folder in ("authelia", "chirpstack_as", "river", "quickwit")
    ],
    ids=lambda history: history.folder,
)
def test_the_last_third_of_a_real_history_is_rehearsed_completely(
    history: History, database: Database, tmp_path: Path
) -> None:
    set_up(history, [database])
    migrate = Migrate(call, database, prepared(history, tmp_path / "migrations"))
    versions = [path.name.removesuffix(".up.sql") for path in scripts(history, "up")]
    applied = versions[: len(versions) * 2 // 3]
    assert migrate("up", "--to", applied[-1]).exit_code == 0
    before = state(database)
    result = migrate("rehearse", "--small", "0", "--json")
    assert result.exit_code in (0, 4), result.stderr
    assert state(database) == before
    seen = [each["version"] for each in result.json["migrations"]]
    assert seen + result.json["not_rehearsed"] == versions[len(applied) :]
    assert not any(each["error"] for each in result.json["migrations"])


# What is told


@pytest.mark.parametrize(
    "command",
    [["rehearse"], ["rehearse", "--from-target"], ["drift"], ["baseline", "01"]],
    ids=" ".join,
)
def test_notices_of_scripts_that_ran_before_are_shown_with_v_only(
    migrate: Migrate, write: Write, command: list[str]
) -> None:
    warn = "do $$ begin raise notice 'an old notice'; raise warning 'an old warning'; end $$;"
    write({"01_a.up.sql": f"create table a (); {warn}"})
    assert migrate("up").exit_code == 0
    if command[0] == "baseline":
        migrate.database.execute("delete from migration_versions")
    is_replayed = "--from-target" not in command
    for verbose in ([], ["-v"]) if command[0] != "baseline" else ([],):
        result = migrate(*verbose, *command)
        assert result.exit_code == 0, result.stderr
        assert ("an old" in result.stderr) == (bool(verbose) and is_replayed)
        assert "an old" not in migrate(*command, "--json").stderr


def test_the_notice_of_a_pending_migration_is_shown_once(migrate: Migrate, write: Write) -> None:
    def notice(text: str) -> str:
        return f"do $$ begin raise notice '{text}'; end $$;"

    write({"01_a.up.sql": notice("from up"), "01_a.down.sql": notice("from down")})
    result = migrate("rehearse")
    for text in ("from up", "from down"):
        assert result.stderr.count(text) == 1
    assert migrate("rehearse", "-v").stderr.count("from up") == 2


def test_many_migrations_that_were_not_rehearsed_are_counted(
    migrate: Migrate, write: Write
) -> None:
    write({f"{number:02}_x.up.sql": "select 1;" for number in range(2, 31)})
    write({"01_x.up.sql": "select 1 / 0;"})
    result = migrate("rehearse")
    assert "because 01_x failed: 29 migrations, 02_x to 30_x" in result.stdout


# Where the scratch database is


def test_versions_with_the_same_text_are_each_replayed(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "-- nothing here\n", "02_b.up.sql": "-- nothing here\n"})
    assert migrate("up").exit_code == 0
    write({"03_c.up.sql": "create table c ();"})
    result = rehearse(migrate)
    assert result.exit_code == 0
    assert "scratch database built by replaying the history" in result.stdout


@pytest.mark.usefixtures("project_folder")
def test_the_embedded_server_is_used_if_the_role_may_not_create_databases(
    migrate: Migrate, write: Write
) -> None:
    database = migrate.database
    database.execute(
        "create role modest login password 'secret'; grant all on schema public to modest"
    )
    url = database.tcp_url("modest", "secret")
    write({"01_a.up.sql": "create table a (id int);"})
    try:
        for options in ([], ["--scratch-url", "embedded:"]):
            result = migrate("rehearse", *options, database=url)
            assert result.exit_code == 0, result.stderr
            assert ("on this server; using the embedded PostgreSQL" in result.stderr) == (
                not options
            )
        assert database.rows("select to_regclass('a')") == [(None,)]
    finally:
        database.execute("drop owned by modest; drop role modest")


LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
SHOW_ENVIRONMENT = """
do $$
declare
    own text := encode(pg_read_binary_file('/proc/self/environ'), 'escape');
    postmaster text := split_part(pg_read_file('postmaster.pid'), chr(10), 1);
    parents text := encode(pg_read_binary_file('/proc/' || postmaster || '/environ'), 'escape');
begin
    raise exception 'the environment is %', own || parents;
end $$;
"""


@LINUX
@pytest.mark.usefixtures("project_folder")
def test_rehearsed_sql_finds_no_secret_in_the_environment_of_the_embedded_server(
    migrate_process: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": SHOW_ENVIRONMENT})
    secrets = {
        "DATABASE_PASSWORD": "hidden 1",
        "PGPASSWORD": "hidden 2",
        "GITHUB_TOKEN": "hidden 3",
        "MIGRATOR_X": "hidden 4",
    }
    result = migrate_process("rehearse", "--scratch-url", "embedded:", environ=secrets)
    assert "LC_ALL=C" in result.stdout
    for text in ("hidden", "postgresql://", "DATABASE_", "MIGRATOR_", "HOME="):
        assert text not in result.stdout


def test_a_locked_table_of_the_target_is_a_lock_timeout(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {"02_b.up.sql": "select 1;"})
    with holding(migrate.database, "lock table t"):
        result = migrate("rehearse")
    assert result.exit_code == 5
    assert "could not acquire a lock on a table: another session holds it" in result.stderr
