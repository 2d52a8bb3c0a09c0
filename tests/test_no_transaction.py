"""Files outside a transaction: each step recorded, and every interruption gone on from."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database, Migrate, Postgres, Write
from tests.sessions import (
    Run,
    Runs,
    applied,
    history,
    holding,
    invalid_indexes,
    strangers,
    wait_for,
    waiting_for_a_lock,
    working,
)

OPTION = "-- migrator: no-transaction\n"
INDEX = "create index concurrently a_id on a (id);\n"


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def interrupt(database: Database, run: Run, how: str) -> None:
    """End a run that waits for a lock, in one of the ways that there are."""
    pid = wait_for(lambda: waiting_for_a_lock(database) and working(database, "concurrently"))
    match how:
        case "cancelled":
            database.execute(f"select pg_cancel_backend({pid})")
        case "terminated":
            database.execute(f"select pg_terminate_backend({pid})")
        case "signalled":
            run.signal(signal.SIGTERM)
        case "killed":
            run.kill()
            database.execute(f"select pg_terminate_backend({pid})")
    run.process.wait(20)
    wait_for(lambda: not working(database, "concurrently"))


INTERRUPTIONS = [("cancelled", 1), ("terminated", 6), ("signalled", 143), ("killed", -9)]


# Steps


def test_a_failed_step_stays_undone_and_the_next_run_goes_on_with_it(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create sequence s")
    text = (
        f"{OPTION}create table a (id int);\nselect nextval('s');\nselect 1 / 0;\ncreate table c ();"
    )
    write({"01_a.up.sql": text})
    result = migrate("up")
    assert result.exit_code == 1
    assert "01_a.up.sql:4:1: division by zero" in result.stderr
    assert "the steps before it are done and recorded" in result.stderr
    assert history(database) == [("01_a", 2, False, False)]
    assert migrate("status", "--check").exit_code == 7

    write({"01_a.up.sql": text.replace("1 / 0", "1 / 1") + "\ncreate table d ();"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert "goes on behind step 2 of 5" in result.stdout + result.stderr
    assert history(database) == [("01_a", 5, False, True)]
    assert database.rows("select last_value from s") == [(1,)]
    assert database.rows("select to_regclass('c') is not null, to_regclass('d') is not null") == [
        (True, True)
    ]


def test_each_step_is_recorded_as_begun_and_as_done(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table a (id int)")
    write({"01_a.up.sql": f"{OPTION}create table b ();\n{INDEX}create table c ();"})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        wait_for(lambda: working(database, "concurrently"))
        assert history(database) == [("01_a", 1, True, False)]
    assert run.result().exit_code == 0
    assert history(database) == [("01_a", 3, False, True)]


def test_the_time_that_is_told_is_that_of_all_steps(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": f"{OPTION}select pg_sleep(0.1);\nselect pg_sleep(0.1);\n"})
    (step,) = migrate("up", "--json").json["steps"]
    assert step["seconds"] >= 0.2


def test_a_finished_step_that_was_edited_since_stops_with_the_difference(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": f"{OPTION}create table a ();\nselect 1 / 0;\n"})
    migrate("up")
    write({"01_a.up.sql": f"{OPTION}create table a (id int);\nselect 1;\n"})
    result = migrate("up")
    assert result.exit_code == 7
    assert "-create table a ();" in result.stderr
    assert "+create table a (id int);" in result.stderr
    assert history(database) == [("01_a", 1, False, False)]
    write({"01_a.up.sql": f"{OPTION}/* the same */ create  table a ( );\nselect 1;\n"})
    assert migrate("up").exit_code == 0


def test_what_an_earlier_step_has_set_is_in_force_after_a_resume(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create schema here; create role maker; grant all on schema here to maker")
    text = (
        f"{OPTION}set search_path = here;\nset role maker;\n"
        "select set_config('my.x', 'y', false);\n"
        "create table a (id int);\nselect 1 / 0;\n"
        "create table b as select current_user::text as who, current_setting('my.x') as x;\n"
        "create index concurrently on b (who);\n"
    )
    write({"01_a.up.sql": text})
    assert migrate("up").exit_code == 1
    write({"01_a.up.sql": text.replace("1 / 0", "1"), "02_b.up.sql": "create table c ();"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    try:
        assert database.rows("select * from here.b") == [("maker", "y")]
        assert database.rows("select to_regclass('public.c') is null") == [(False,)]
    finally:
        database.execute("drop owned by maker; drop role maker")


def test_a_block_is_one_step(database: Database, migrate: Migrate, write: Write) -> None:
    text = (
        f"{OPTION}create table a (id int);\nbegin;\ninsert into a values (1);\n"
        "insert into a values (1 / 0);\ncommit;\ninsert into a values (3);\n"
    )
    write({"01_a.up.sql": text})
    result = migrate("up")
    assert result.exit_code == 1
    assert "01_a.up.sql:5:" in result.stderr
    assert history(database) == [("01_a", 1, False, False)]
    assert database.rows("select * from a") == []
    write({"01_a.up.sql": text.replace("1 / 0", "2")})
    assert migrate("up").exit_code == 0
    assert history(database) == [("01_a", 3, False, True)]
    assert database.rows("select id from a order by id") == [(1,), (2,), (3,)]


def test_a_run_killed_behind_its_last_step_only_has_to_finish(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": f"{OPTION}create table a ();\ncreate table b ();"})
    assert migrate("up").exit_code == 0
    database.execute("update migration_versions set applied_at = null")
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_a"]


# What is left behind


@pytest.mark.parametrize(("how", "code"), INTERRUPTIONS)
def test_an_index_that_was_interrupted_is_dropped_and_built_again(
    database: Database, runs: Runs, write: Write, how: str, code: int
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": INDEX})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        interrupt(database, run, how)
    assert run.result().exit_code == code, run.stderr
    assert invalid_indexes(database) == ["a_id"]
    wait_for(lambda: not strangers(database))
    again = runs("up").result()
    assert again.exit_code == 0, again.stderr
    assert "dropping the invalid index public.a_id, left by an earlier try" in again.stderr
    assert not invalid_indexes(database)
    assert history(database) == [("01_index", 1, False, True)]


def test_a_unique_index_over_duplicates_is_built_once_they_are_gone(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create table a (id int); insert into a values (1), (1)")
    write({"01_index.up.sql": "create unique index concurrently if not exists a_id on a (id);"})
    result = migrate("up")
    assert result.exit_code == 1
    assert "SQLSTATE 23505" in result.stderr
    assert invalid_indexes(database) == ["a_id"]
    database.execute("delete from a where ctid = '(0,1)'")
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert "dropping the invalid index public.a_id" in result.stderr
    assert not invalid_indexes(database)


def test_clearing_up_waits_for_who_uses_the_table_and_names_them(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table a (id int); insert into a values (1), (1)")
    write({"01_index.up.sql": "create unique index concurrently a_id on a (id);"})
    assert runs("up").result().exit_code == 1
    database.execute("delete from a where ctid = '(0,1)'")
    with holding(database, "insert into a values (2)"):
        run = runs("up", "--lock-timeout", "100ms")
        assert "application report" in run.says("waiting for 01_index")
        wait_for(lambda: working(database, "drop index concurrently"))
    result = run.result()
    assert result.exit_code == 0, result.stderr
    assert not invalid_indexes(database)


def test_exists_already_over_an_invalid_index_is_a_failure(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create table a (id int); insert into a values (1), (1)")
    with database.connect() as conn, pytest.raises(Exception, match="could not create"):
        conn.execute("create unique index concurrently a_id on a (id)")
    database.execute("delete from a where ctid = '(0,1)'")
    write({"01_index.up.sql": "create unique index concurrently if not exists a_id on a (id);"})
    result = migrate("up")
    assert result.exit_code == 1
    assert "public.a_id exists, but it is invalid" in result.stderr
    assert "drop index concurrently public.a_id;" in result.stderr
    assert history(database) == [("01_index", 0, False, False)]
    with database.connect() as conn:
        conn.execute("drop index concurrently a_id")
    assert migrate("up").exit_code == 0
    assert not invalid_indexes(database)


def test_exists_already_over_a_valid_index_is_none_whatever_others_are_called(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create table a (id int); insert into a values (1), (1)")
    with database.connect() as conn, pytest.raises(Exception, match="could not create"):
        conn.execute("create unique index concurrently a_i on a (id)")
    database.execute("create index a_i_d on a (id)")
    write({"01_index.up.sql": "create index concurrently if not exists a_i_d on a (id);"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert "already exists, skipping" in result.stderr
    assert invalid_indexes(database) == ["a_i"], "it is somebody else's"


def test_the_invalid_index_of_somebody_else_is_left_alone(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create table a (id int); create table b (id int)")
    database.execute("insert into a values (1), (1); insert into b values (1), (1)")
    write({"01_index.up.sql": "create unique index concurrently a_id on a (id);"})
    assert migrate("up").exit_code == 1
    with database.connect() as conn, pytest.raises(Exception, match="could not create"):
        conn.execute("create unique index concurrently b_id on b (id)")
    database.execute("delete from a where ctid = '(0,1)'")
    assert migrate("up").exit_code == 0
    assert invalid_indexes(database) == ["b_id"]


@pytest.mark.parametrize(("how", "code"), INTERRUPTIONS)
@pytest.mark.parametrize("what", ["table a", "index a_id"])
def test_what_an_interrupted_reindex_leaves_is_dropped(
    database: Database, runs: Runs, write: Write, how: str, code: int, what: str
) -> None:
    kind, _, name = what.partition(" ")
    database.execute("create table a (id int); create index a_id on a (id)")
    write({"01_reindex.up.sql": f"reindex {kind} concurrently {name};"})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        interrupt(database, run, how)
    assert run.result().exit_code == code, run.stderr
    assert invalid_indexes(database) == ["a_id_ccnew"]
    wait_for(lambda: not strangers(database))
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert "dropping the invalid index public.a_id_ccnew" in result.stderr
    query = "select indexrelid::regclass::text from pg_index where indrelid = 'a'::regclass"
    assert database.rows(query) == [("a_id",)]


@pytest.mark.parametrize(("how", "code"), INTERRUPTIONS)
def test_a_drop_that_was_interrupted_is_finished(
    database: Database, runs: Runs, write: Write, how: str, code: int
) -> None:
    database.execute("create table a (id int); create index a_id on a (id)")
    write({"01_drop.up.sql": "drop index concurrently a_id;"})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        interrupt(database, run, how)
    assert run.result().exit_code == code, run.stderr
    wait_for(lambda: not strangers(database))
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert database.rows("select from pg_index where indrelid = 'a'::regclass") == []


@pytest.mark.parametrize(("how", "code"), INTERRUPTIONS)
def test_a_pending_detach_is_finished(
    database: Database, postgres: Postgres, runs: Runs, write: Write, how: str, code: int
) -> None:
    if postgres.version < 14:
        pytest.skip("DETACH PARTITION CONCURRENTLY is new in PostgreSQL 14")
    database.execute(
        "create table p (id int) partition by range (id);"
        'create table "P 1" partition of p for values from (0) to (10);'
    )
    write({"01_detach.up.sql": 'alter table p detach partition "P 1" concurrently;'})
    with holding(database, "select from p"):
        run = runs("up")
        interrupt(database, run, how)
    assert run.result().exit_code == code, run.stderr
    assert database.rows("select inhdetachpending from pg_inherits") == [(True,)]
    wait_for(lambda: not strangers(database))
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert 'finishing the detaching of public."P 1" from public.p' in result.stderr
    assert database.rows("select from pg_inherits") == []
    assert applied(database) == ["01_detach"]


@pytest.mark.parametrize(
    ("before", "statement", "after"),
    [
        ("select 1", INDEX, [("a_id", True)]),
        ("create index old on a (id)", "drop index concurrently old;", []),
    ],
)
def test_what_the_server_finished_without_a_record_does_not_run_again(
    database: Database,
    runs: Runs,
    write: Write,
    before: str,
    statement: str,
    after: list[tuple[str, bool]],
) -> None:
    database.execute("create table a (id int)")
    database.execute(before)
    write({"01_a.up.sql": statement})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        wait_for(lambda: waiting_for_a_lock(database) and working(database, "concurrently"))
        run.kill()
    wait_for(lambda: not strangers(database))
    assert history(database) == [("01_a", 0, True, False)]
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert "step 1 of 01_a had finished already" in result.stderr
    left = (
        "select indexrelid::regclass::text, indisvalid from pg_index where indrelid = 'a'::regclass"
    )
    assert database.rows(left) == after


def test_an_earlier_round_of_the_same_down_does_not_count(
    database: Database, migrate: Migrate, runs: Runs, write: Write
) -> None:
    """What the log says of a down of last month is not what became of this one."""
    database.execute("create table a (id int)")
    write({"01_index.up.sql": INDEX, "01_index.down.sql": "drop index concurrently a_id;"})
    for command in ("up", "down", "up"):
        assert migrate(command).exit_code == 0
    # The moment between the record that a down has begun and that of its first step.
    database.execute("update migration_versions set in_step = now(), statements_done = 0")
    result = migrate("down")
    assert result.exit_code == 0, result.stderr
    assert database.rows("select from pg_index where indrelid = 'a'::regclass") == []


# Down


def test_an_interrupted_down_is_finished_by_down_and_stops_up(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a (id int); create table b ();"
            "create index a_id on a (id);",
            "01_a.down.sql": f"{OPTION}drop index concurrently a_id;\ndrop table b;\n"
            "select from keep;\ndrop table a;\n",
        }
    )
    assert migrate("up").exit_code == 0
    result = migrate("down")
    assert result.exit_code == 1
    assert history(database) == [("01_a", -2, False, True)]
    result = migrate("up")
    assert result.exit_code == 7
    assert "01_a is half taken back" in result.stderr
    database.execute("create table keep ()")
    result = migrate("down")
    assert result.exit_code == 0, result.stderr
    assert history(database) == []
    assert database.rows("select to_regclass('a') is null and to_regclass('b') is null") == [
        (True,)
    ]
    assert migrate("up").exit_code == 0


@pytest.mark.parametrize(("how", "code"), INTERRUPTIONS)
def test_a_down_that_was_interrupted_in_its_statement_goes_on(
    database: Database, runs: Runs, write: Write, how: str, code: int
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": INDEX, "01_index.down.sql": "drop index concurrently a_id;"})
    assert runs("up").result().exit_code == 0
    with holding(database, "insert into a values (1)"):
        run = runs("down")
        interrupt(database, run, how)
    assert run.result().exit_code == code, run.stderr
    wait_for(lambda: not strangers(database))
    result = runs("down").result()
    assert result.exit_code == 0, result.stderr
    assert history(database) == []
    assert not database.rows("select from pg_index where indrelid = 'a'::regclass")


# What runs so


def test_a_single_concurrent_statement_needs_no_option(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": f"-- no option here\n{INDEX}"})
    assert migrate("up").exit_code == 0
    assert history(database) == [("01_index", 1, False, True)]


@pytest.mark.parametrize(
    "statement",
    [
        "vacuum a;",
        "vacuum (analyze) a;",
        "alter system set work_mem = '5MB';\nalter system reset work_mem;",
        "reindex table concurrently a;",
        "reindex (concurrently) index a_pkey;",
        "reindex schema public;",
        "call in_pieces();",
        "do $$ begin insert into a values (1); commit; insert into a values (2); end $$;",
        "cluster;",
        "drop index concurrently if exists none;",
        "discard all;\ninsert into a values (8);",
    ],
)
def test_what_cannot_run_in_a_transaction_runs_here(
    postgres: Postgres, database: Database, migrate: Migrate, write: Write, statement: str
) -> None:
    if postgres.version < 14 and statement.startswith("reindex ("):
        pytest.skip("REINDEX takes CONCURRENTLY in parentheses from 14 on")
    database.execute(
        "create table a (id int primary key);"
        "create procedure in_pieces() language plpgsql as $$ begin"
        " for i in 1..3 loop insert into a values (i); commit; end loop; end $$;"
    )
    write({"01_a.up.sql": f"{OPTION}{statement}\n", "02_b.up.sql": "create table b ();"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_a", "02_b"]


def test_a_procedure_that_was_under_way_runs_again_and_that_is_said(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute(
        "create table a (id int); create table gate ();"
        "create procedure in_pieces() language plpgsql as $$ begin"
        " insert into a values (1); commit; lock table gate; commit; end $$;"
    )
    write({"01_a.up.sql": f"{OPTION}call in_pieces();"})
    with holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        run.kill()
        database.execute(f"select pg_terminate_backend({working(database, 'in_pieces')})")
        wait_for(lambda: not working(database, "in_pieces"))
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert "step 1 of 01_a was under way, and runs again" in result.stderr
    assert database.rows("select count(*) from a") == [(2,)]


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("call in_pieces();", "2D000"),
        ("do $$ begin commit; end $$;", "2D000"),
        ("do $$ begin execute 'vacuum'; end $$;", "25001"),
        ("reindex table p;", "25001"),
    ],
)
def test_where_the_server_refuses_a_transaction_the_error_says_which_option_to_add(
    postgres: Postgres,
    database: Database,
    migrate: Migrate,
    write: Write,
    statement: str,
    sqlstate: str,
) -> None:
    if postgres.version < 14 and statement.startswith("reindex"):
        pytest.skip("REINDEX takes partitioned tables from 14 on")
    database.execute(
        "create table p (id int primary key) partition by range (id);"
        "create procedure in_pieces() language plpgsql as 'begin commit; end';"
    )
    write({"01_a.up.sql": f"create table a ();\n{statement}"})
    result = migrate("up")
    assert result.exit_code == 1
    assert f"SQLSTATE {sqlstate}" in result.stderr
    assert "begin the file with: -- migrator: no-transaction" in result.stderr
    assert "01_a was rolled back whole" in result.stderr
    assert history(database) == []


def test_a_connection_lost_while_the_catalog_is_asked_is_an_error_of_its_own(
    database: Database, runs: Runs, write: Write
) -> None:
    """What the tool asks between two steps ends as clearly as a step does."""
    database.execute("create table a (id int)")
    write(
        {
            "01_a.up.sql": f"{OPTION}create table b ();\n"
            "do $$ begin perform pg_terminate_backend(pg_backend_pid()); end $$;\n{INDEX}"
        }
    )
    result = runs("up").result()
    assert result.exit_code == 6, result.stderr
    assert "Traceback" not in result.stderr
    assert "the connection was lost while 01_a was under way" in result.stderr
