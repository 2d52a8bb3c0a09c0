"""Files outside a transaction: each step recorded, and every interruption gone on from."""

from __future__ import annotations

import json
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

pytestmark = pytest.mark.slow

OPTION = "-- migrator: no-transaction\n"
INDEX = "create index concurrently a_id on a (id);\n"
INDEX_IF_ABSENT = "create index concurrently if not exists a_id on a (id);"


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


@pytest.mark.parametrize("name", ['U&"\\0061bc"', "U&\"!0061bc\" UESCAPE '!'", '"abc"', "ABC"])
def test_an_index_with_any_form_of_name_is_built_again_after_an_interruption(
    database: Database, runs: Runs, write: Write, name: str
) -> None:
    database.execute("create table t (a int)")
    write({"01_i.up.sql": f"create index concurrently if not exists {name} on t (a);"})
    with holding(database, "insert into t values (1)"):
        interrupt(database, runs("up"), "killed")
    assert invalid_indexes(database) == ["abc"]
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert "dropping the invalid index public.abc" in result.stderr
    assert not invalid_indexes(database)


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
    assert "the statements before it are done and recorded" in result.stderr
    assert history(database) == [("01_a", 2, False, False)]
    assert migrate("status", "--check").exit_code == 7

    write({"01_a.up.sql": text.replace("1 / 0", "1 / 1") + "\ncreate table d ();"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert "was interrupted after statement 2 of 5" in result.stdout + result.stderr
    assert history(database) == [("01_a", 5, False, True)]
    assert database.rows("select last_value from s") == [(1,)]
    assert database.rows("select to_regclass('c') is not null, to_regclass('d') is not null") == [
        (True, True)
    ]


def test_a_block_without_statements_is_run(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": f"{OPTION}begin;\ncommit;\ncreate table a ();"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr


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
    assert "dropping the invalid index public.a_id, left by an earlier attempt" in again.stderr
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
        assert "report, postgres" in run.says("01_index is waiting for a lock")
        wait_for(lambda: working(database, "drop index concurrently"))
    result = run.result()
    assert result.exit_code == 0, result.stderr
    assert not invalid_indexes(database)


@pytest.mark.parametrize(
    ("create", "index"),
    [
        ("create unique index concurrently if not exists a_id on a (id);", "a_id"),
        ("create unique index if not exists a_id on only public.a (id);", "public.a_id"),
        (f"{OPTION}set client_min_messages = error;\n{INDEX_IF_ABSENT}", "a_id"),
        ('create unique index concurrently if not exists U&"\\0061_id" on a (id);', "a_id"),
        (
            'create unique index if not exists "a_id" on U&"p!0075blic" UESCAPE \'!\' . A (id);',
            "public.a_id",
        ),
        (
            f"set client_min_messages = error;\n{INDEX_IF_ABSENT.replace('concurrently', '')}",
            "a_id",
        ),
    ],
)
def test_exists_already_over_an_invalid_index_is_a_failure(
    database: Database, migrate: Migrate, write: Write, create: str, index: str
) -> None:
    database.execute("create table a (id int); insert into a values (1), (1)")
    with database.connect() as conn, pytest.raises(Exception, match="could not create"):
        conn.execute("create unique index concurrently a_id on a (id)")
    database.execute("delete from a where ctid = '(0,1)'")
    write({"01_index.up.sql": create})
    result = migrate("up")
    assert result.exit_code == 1
    assert f"index {index} exists but is invalid" in result.stderr
    assert f"drop index concurrently {index};" in result.stderr
    assert applied(database) == []
    with database.connect() as conn:
        conn.execute("drop index concurrently a_id")
    assert migrate("up").exit_code == 0
    assert not invalid_indexes(database)


def test_exists_already_looks_at_the_index_of_the_same_schema(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        "create table a (id int); insert into a values (1), (1);"
        "create schema s; create table s.a (id int); create index a_id on s.a (id)"
    )
    with database.connect() as conn, pytest.raises(Exception, match="could not create"):
        conn.execute("create unique index concurrently a_id on a (id)")
    write({"01_index.up.sql": "create index concurrently if not exists a_id on s.a (id);"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr


def test_the_index_of_a_partitioned_table_may_be_there_without_those_of_its_partitions(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        "create table p (id int) partition by range (id);"
        "create table p1 partition of p for values from (1) to (2);"
        "create index p_id on only p (id)"
    )
    write({"01_index.up.sql": "create index if not exists p_id on only p (id);"})
    assert migrate("up").exit_code == 0


def test_an_index_that_a_forgotten_try_left_is_said_to_be_invalid(
    database: Database, migrate: Migrate, write: Write
) -> None:
    """As after the manual recovery: nothing is known of the try that left it."""
    database.execute("create table a (id int); insert into a values (1), (1)")
    write({"01_index.up.sql": "create unique index concurrently a_id on a (id);"})
    assert migrate("up").exit_code == 1
    database.execute("delete from migration_versions; delete from a")
    database.execute("truncate migration_log")
    result = migrate("up")
    assert result.exit_code == 1
    assert 'relation "a_id" already exists' in result.stderr
    assert "the index is invalid, as an interrupted CREATE INDEX leaves it" in result.stderr
    assert "drop index concurrently public.a_id;" in result.stderr


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
    assert "statement 1 of 01_a had already finished" in result.stderr
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
    assert "01_a is partly reverted" in result.stderr
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


def test_a_down_that_fails_leaves_an_interrupted_up_interrupted(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create table a (id int)")
    write(
        {
            "01_a.up.sql": f"{OPTION}{INDEX}create index concurrently b_id on b (id);\n",
            "01_a.down.sql": f"{OPTION}drop index concurrently b_id;\ndrop index a_id;\n",
        }
    )
    assert migrate("up").exit_code == 1
    assert migrate("down").exit_code == 1
    assert history(database) == [("01_a", 1, True, False)]
    assert migrate("status", "--check").exit_code == 7
    database.execute("create table b (id int)")
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_a"]
    assert migrate("down").exit_code == 0


def test_a_down_that_fails_in_its_first_transaction_changes_nothing(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": f"{OPTION}create table a ();\ncreate table b ();\nselect 1 / 0;\n",
            "01_a.down.sql": f"{OPTION}drop table c;\nvacuum;\n",
        }
    )
    assert migrate("up").exit_code == 1
    before = history(database)
    assert migrate("down").exit_code == 1
    assert history(database) == before == [("01_a", 2, False, False)]
    write({"01_a.up.sql": f"{OPTION}create table a ();\ncreate table b ();\nselect 1;\n"})
    assert migrate("up").exit_code == 0


def test_a_down_that_is_cancelled_in_its_statement_is_under_way(
    database: Database, migrate: Migrate, runs: Runs, write: Write
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": INDEX, "01_index.down.sql": "drop index concurrently a_id;"})
    assert migrate("up").exit_code == 0
    with holding(database, "insert into a values (1)"):
        run = runs("down")
        interrupt(database, run, "signalled")
    assert invalid_indexes(database) == ["a_id"]
    assert migrate("status", "--check").exit_code == 7
    assert migrate("up").exit_code == 7
    assert migrate("down").exit_code == 0
    assert history(database) == []


def test_a_down_of_what_somebody_else_has_reverted_runs_nothing(
    database: Database, migrate: Migrate, runs: Runs, write: Write
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": INDEX, "01_index.down.sql": f"{OPTION}select pg_sleep(1);vacuum;"})
    assert migrate("up").exit_code == 0
    with holding(database, "delete from migration_versions") as other:
        run = runs("down")
        wait_for(lambda: waiting_for_a_lock(database))
        other.commit()
    result = run.result()
    assert result.exit_code == 4
    assert "another migrator has changed the history" in result.stderr


def test_a_detach_that_is_finished_between_two_tries_is_done(
    database: Database, runs: Runs, write: Write
) -> None:
    if database.postgres.version < 14:
        pytest.skip("DETACH CONCURRENTLY is new in 14")
    database.execute(
        "create table p (id int) partition by range (id);"
        "create table p1 partition of p for values from (1) to (2)"
    )
    detach = "-- migrator: lock-timeout 300ms\nalter table p detach partition p1 concurrently;"
    write({"01_detach.up.sql": detach})
    with holding(database, "select from p"):
        run = runs("up")
        run.says("attempt 1 of 10")
    result = run.result()
    assert result.exit_code == 0, result.stderr
    assert not database.rows("select from pg_inherits where inhparent = 'p'::regclass")


# Edited on the way


@pytest.mark.parametrize(
    ("ran", "edited"),
    [
        ("drop index concurrently old;", "drop index concurrently other;"),
        (INDEX, "create index concurrently a_id on a (id, n);"),
        (INDEX, "create index a_id on a (id, n);"),
    ],
)
def test_a_step_that_finished_without_a_record_and_was_edited_stops_with_the_difference(
    database: Database, runs: Runs, write: Write, ran: str, edited: str
) -> None:
    database.execute("create table a (id int, n int)")
    database.execute("create index old on a (id); create index other on a (n)")
    write({"01_a.up.sql": ran})
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        wait_for(lambda: waiting_for_a_lock(database) and working(database, "concurrently"))
        run.kill()
    wait_for(lambda: not strangers(database))
    write({"01_a.up.sql": edited})
    result = runs("up").result()
    assert result.exit_code == 7, result.stderr
    assert "a statement of 01_a finished on the server, and has been edited since" in result.stderr
    assert f"-{ran.strip()}" in result.stderr
    assert f"+{edited}" in result.stderr
    assert applied(database) == []
    write({"01_a.up.sql": ran})
    assert runs("up").result().exit_code == 0


@pytest.mark.parametrize(
    "mended",
    [
        "create index concurrently a_x on a (id);",
        "create index a_id on a (id);",
        "create table b (id int);\ncreate index a_id on a (id);",
    ],
)
def test_what_a_step_has_left_is_cleared_whatever_stands_in_its_place(
    database: Database, migrate: Migrate, write: Write, mended: str
) -> None:
    database.execute("create table a (id int); insert into a values (1), (1)")
    write({"01_a.up.sql": "create unique index concurrently a_id on a (id);"})
    assert migrate("up").exit_code == 1
    assert invalid_indexes(database) == ["a_id"]
    write({"01_a.up.sql": mended})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert invalid_indexes(database) == []
    assert applied(database) == ["01_a"]


# Rights


def test_an_interrupted_file_of_another_role_goes_on(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        "create role builder; create schema workshop authorization builder;"
        "create table workshop.a (id int); insert into workshop.a values (1), (1);"
        "alter table workshop.a owner to builder"
    )
    index = "create unique index concurrently a_id on workshop.a (id);"
    write({"01_a.up.sql": f"-- migrator: role builder\n{index}"})
    try:
        assert migrate("up").exit_code == 1
        database.execute("delete from workshop.a")
        result = migrate("up")
        assert result.exit_code == 0, result.stderr
    finally:
        database.execute("drop owned by builder; drop role builder")


def test_the_role_of_a_record_is_the_one_that_the_session_began_with(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        "create role owner_p; create role deploy login noinherit password 'secret';"
        "grant owner_p to deploy; alter role deploy set role = owner_p;"
        "grant all on schema public to owner_p"
    )
    url = database.tcp_url("deploy", "secret")
    write({"01_a.up.sql": "create table a (id int);", "02_i.up.sql": INDEX})
    try:
        result = migrate("up", database=url)
        assert result.exit_code == 0, result.stderr
        assert applied(database) == ["01_a", "02_i"]
    finally:
        database.execute("drop owned by owner_p, deploy; drop role owner_p, deploy")


def test_the_index_of_a_toast_table_that_an_owner_may_not_drop_stops_nothing(
    database: Database, runs: Runs, write: Write
) -> None:
    if database.postgres.version < 14:
        pytest.skip("13 leaves nothing of a TOAST table behind")
    database.execute(
        "create role owner_t login password 'secret'; grant all on schema public to owner_t;"
        "create table a (id int primary key, note text); alter table a owner to owner_t"
    )
    url = database.tcp_url("owner_t", "secret")
    write({"01_a.up.sql": "reindex table concurrently a;"})
    try:
        with holding(database, "insert into a values (1)"):
            run = runs("up", url=url)
            interrupt(database, run, "cancelled")
        assert any("pg_toast" in name for name in invalid_indexes(database))
        result = runs("up", url=url).result()
        assert result.exit_code == 0, result.stderr
        assert "is left; a superuser can drop it: drop index" in result.stderr
        assert not any("_ccnew" in i and "toast" not in i for i in invalid_indexes(database))
    finally:
        database.execute("drop owned by owner_t; drop role owner_t")


# In one transaction with its record, where the server lets it


def test_a_do_block_that_does_not_commit_is_whole_with_its_record(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table done (id int)")
    block = "do $$ begin insert into done values (1); perform pg_sleep(600); end $$;"
    write({"01_a.up.sql": f"{OPTION}{block}\nvacuum done;\n"})
    run = runs("up")
    pid = wait_for(lambda: working(database, "pg_sleep"))
    run.kill()
    database.execute(f"select pg_terminate_backend({pid})")
    wait_for(lambda: not strangers(database))
    assert history(database) == [("01_a", 0, False, False)]
    write({"01_a.up.sql": f"{OPTION}{block.replace('600', '0')}\nvacuum done;\n"})
    assert runs("up").result().exit_code == 0
    assert database.rows("select count(*) from done") == [(1,)]


def test_a_procedure_that_commits_is_not_tried_again_for_a_lock(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        "create table done (id int); create table busy (id int);"
        "create procedure in_pieces() language plpgsql as $$ begin"
        " insert into done values (1); commit; alter table busy add x int; end $$;"
    )
    write({"01_a.up.sql": f"{OPTION}call in_pieces();"})
    with holding(database, "select from busy"):
        result = migrate("up", "--lock-timeout", "50ms")
    assert result.exit_code == 5
    assert database.rows("select count(*) from done") == [(1,)]


def test_what_only_the_server_knows_to_commit_by_itself_runs_with_the_option(
    database: Database, migrate: Migrate, write: Write
) -> None:
    if database.postgres.version < 15:
        pytest.skip("CLUSTER takes partitioned tables from 15 on")
    database.execute("create table p (id int) partition by range (id); create index pi on p (id);")
    write({"01_a.up.sql": "cluster p using pi;"})
    result = migrate("up")
    assert "begin the file with: -- migrator: no-transaction" in result.stderr
    write({"01_a.up.sql": f"{OPTION}cluster p using pi;\ncreate table b ();\n"})
    result = migrate("up", "--trace")
    assert result.exit_code == 0, result.stderr


def test_what_a_block_cannot_hold_is_to_be_moved_out_of_it(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": f"{OPTION}begin;\ndo $$ begin commit; end $$;\ncommit;\nvacuum;\n"})
    result = migrate("up")
    assert result.exit_code == 1
    assert "move it out of its BEGIN … COMMIT" in result.stderr


def test_a_traced_block_that_waits_for_a_lock_is_tried_again(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table a (id int)")
    write({"01_a.up.sql": f"{OPTION}alter table a add x int;\nvacuum a;\n"})
    with holding(database, "select from a"):
        run = runs("up", "--trace", "--lock-timeout", "50ms")
        run.says("retrying in")
    result = run.result()
    assert result.exit_code == 0, result.stderr


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
    assert "statement 1 of 01_a was interrupted, and runs again" in result.stderr
    assert database.rows("select count(*) from a") == [(2,)]


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("call in_pieces();", "2D000"),
        ("do $$ begin commit; end $$;", "2D000"),
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
    assert "01_a was rolled back completely" in result.stderr
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


@pytest.mark.parametrize(
    "text",
    [
        f"{OPTION}update migration_versions set statements_done = 7;\ncreate table c ();",
        f"{OPTION}do $$ begin commit; update migration_versions set statements_done = 7; end $$;",
        "update migration_versions set applied_at = now();\ncreate table c ();",
    ],
    ids=["in a block", "alone", "transactional"],
)
def test_a_record_that_another_runner_has_changed_is_not_overwritten(
    text: str, database: Database, migrate: Migrate, write: Write
) -> None:
    """The script does what a second runner would do, if both had lost their locks."""
    write({"01_a.up.sql": text})
    result = migrate("up")
    assert result.exit_code == 4
    assert "another migrator is also running 01_a" in result.stderr
    assert "migrator status" in result.stderr
    assert not database.rows("select from migration_log where outcome = 'done'")
    assert not database.rows("select from pg_class where relname = 'c'")


def notices(migrate: Migrate) -> list[str]:
    """Run `up`, and return the messages of its notices."""
    lines = (json.loads(line) for line in migrate("up", "--json").stderr.splitlines())
    return [line["message"] for line in lines if line["event"] == "notice"]


NOTICE = "do $$ begin raise notice 'one'; commit; raise notice 'two'; end $$;"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (NOTICE, ["one", "two"]),
        (NOTICE.replace(" commit;", ""), ["one", "two"]),
        (NOTICE.replace(" commit;", " perform 1 / 0;"), ["one"]),
        (NOTICE.replace("'two'", "'two'; perform 1 / 0"), ["one", "two"]),
        ("call p();", ["one", "two"]),
        ("select f();", ["one"]),  # no statement but CALL and DO can commit
    ],
)
def test_a_notice_of_an_attempt_in_vain_is_not_told(
    migrate: Migrate, write: Write, statement: str, expected: list[str]
) -> None:
    body = NOTICE.removeprefix("do ").removesuffix(";")
    migrate.database.execute(
        f"create procedure p() language plpgsql as {body};"
        f"create function f() returns void language plpgsql as {body};"
    )
    write({"01_a.up.sql": f"{OPTION}{statement}\nselect 1;\n"})
    assert notices(migrate) == expected
