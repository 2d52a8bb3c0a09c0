"""Many runners at once: one works, the others wait and say for whom, and nothing happens twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.embedded import server
from tests.conftest import Database, Migrate, Write, call, serve
from tests.sessions import (
    Runs,
    applied,
    holding,
    invalid_indexes,
    strangers,
    wait_for,
    waiting_for_a_lock,
    working,
)

pytestmark = pytest.mark.slow

COUNTED = {
    "01_a.up.sql": "create table a (id int);",
    "02_b.up.sql": "insert into a values (2); select pg_sleep(0.2);",
    "03_c.up.sql": "-- migrator: no-transaction\ninsert into a values (3);\n"
    "create index concurrently a_id on a (id);\ninsert into a values (4);\n",
    "04_d.up.sql": "insert into a values (5);",
}
COUNTED_ROWS = [(2,), (3,), (4,), (5,)]
ALL = ["01_a", "02_b", "03_c", "04_d"]

KEEPER = """
select pid from pg_locks
where locktype = 'advisory' and database = (
    select oid from pg_database where datname = current_database()
) and pid in (select pid from pg_stat_activity where state = 'idle in transaction')
"""


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def end_keeper(database: Database) -> None:
    """End the connection that holds the runner's lock, as a network would."""
    (pid,) = wait_for(lambda: database.rows(KEEPER))[0]
    database.execute(f"select pg_terminate_backend({pid})")
    wait_for(lambda: not database.rows(KEEPER))


def test_ten_runners_at_once_on_a_fresh_database_apply_each_version_once(
    database: Database, write: Write, runs: Runs
) -> None:
    write(COUNTED)
    results = [run.result() for run in [runs("up") for _ in range(10)]]
    assert [result.exit_code for result in results] == [0] * 10, results
    assert applied(database) == ALL
    assert database.rows("select id from a order by id") == COUNTED_ROWS
    log = "select version from migration_log where action = 'up' and outcome = 'done' order by id"
    assert [version for (version,) in database.rows(log)] == ALL
    assert not invalid_indexes(database)
    wait_for(lambda: not strangers(database))


def test_a_waiting_runner_says_for_whom_and_then_finds_nothing_to_do(
    database: Database, write: Write, runs: Runs
) -> None:
    write({"01_a.up.sql": "create table a (); lock table busy; select 'the long one';"})
    database.execute("create table busy ()")
    with holding(database, "lock table busy"):
        first = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        second = runs("up")
        said = second.says("waiting for another migrator")
        assert "migrator, postgres" in said
        assert "lock table busy" in said, "what the other runner does is named"
    assert first.result().exit_code == 0
    result = second.result()
    assert (result.exit_code, result.stdout[:13]) == (0, "nothing to do")
    assert applied(database) == ["01_a"]


def test_lock_wait_bounds_the_wait_for_another_runner(
    database: Database, write: Write, runs: Runs, migrate: Migrate
) -> None:
    write({"01_a.up.sql": "lock table busy;"})
    database.execute("create table busy ()")
    with holding(database, "lock table busy"):
        runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        result = migrate("up", "--lock-wait", "300ms")
    assert result.exit_code == 5
    assert "another migrator is still running; gave up after 0.3 s (--lock-wait)" in result.stderr
    assert re.search(
        r"wait for it to finish, or end it: select pg_terminate_backend\(\d+\),? .*\);",
        result.stderr,
    )
    assert "lock table busy" in result.stderr


def test_a_waiting_runner_does_not_hold_up_a_concurrent_index_of_the_working_one(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("create table a (id int); insert into a select generate_series(1, 1000)")
    write(
        {
            "01_index.up.sql": "-- migrator: no-transaction\nbegin; lock table busy; commit;\n"
            "create index concurrently a_id on a (id);\n"
        }
    )
    database.execute("create table busy ()")
    with holding(database, "lock table busy"):
        first = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        others = [runs("up") for _ in range(2)]
        for other in others:
            other.says("waiting for another migrator")
    results = [run.result(bound=20) for run in (first, *others)]
    assert [result.exit_code for result in results] == [0, 0, 0], results
    assert not invalid_indexes(database)


def test_a_killed_runner_leaves_no_lock(database: Database, write: Write, runs: Runs) -> None:
    write({"01_a.up.sql": "create table a (); lock table busy;"})
    database.execute("create table busy ()")
    with holding(database, "lock table busy"):
        first = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        first.kill()
        assert database.rows("select to_regclass('a')") == [(None,)]
    # Its server process saw nothing of the kill while it waited for a lock.
    wait_for(lambda: not strangers(database))
    second = runs("up").result()
    assert second.exit_code == 0, second.stderr
    assert applied(database) == ["01_a"]


@pytest.mark.parametrize("option", ["", "-- migrator: no-transaction\n"])
def test_the_next_runner_waits_for_what_a_killed_one_left_at_work_and_names_it(
    database: Database, write: Write, runs: Runs, option: str
) -> None:
    """The server goes on with a statement whose client is dead."""
    database.execute("create sequence calls; create table gate (); create table b (n int)")
    write(
        {
            "01_a.up.sql": f"{option}create table a ();\n"
            "do $$ begin perform nextval('calls'); lock table gate; end $$;\n"
            "insert into b values (1);\n"
        }
    )
    with holding(database, "lock table gate"):
        first = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        pid = working(database, "nextval('calls')")
        first.kill()
        second = runs("up")
        said = second.says("waiting for another migrator")
        assert f"pid {pid} " in said
        assert "perform nextval('calls')" in said
        assert working(database, "nextval('calls')") == pid, "nothing runs beside it"
    result = second.result()
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_a"]
    assert database.rows("select n from b") == [(1,)]


def test_an_index_that_a_killed_runner_left_to_the_server_is_not_built_twice(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": "create index concurrently a_id on a (id);"})
    # CREATE INDEX CONCURRENTLY waits for the end of every older transaction that writes there.
    with holding(database, "insert into a values (1)"):
        first = runs("up")
        pid = wait_for(lambda: waiting_for_a_lock(database) and working(database, "concurrently"))
        first.kill()
        second = runs("up")
        said = second.says("waiting for another migrator")
        assert f"pid {pid} " in said
        assert "create index concurrently a_id" in said
    result = second.result()
    assert result.exit_code == 0, result.stderr
    assert "statement 1 of 01_index had already finished" in result.stderr
    assert "dropping" not in result.stderr
    assert applied(database) == ["01_index"]
    assert not invalid_indexes(database)


def test_an_index_of_somebody_else_is_not_taken_for_the_one_that_was_interrupted(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("create table a (id int); create table b (id int)")
    write({"01_index.up.sql": "create index concurrently a_id on a (id);"})
    with holding(database, "insert into a values (1)"):
        first = runs("up")
        pid = wait_for(lambda: waiting_for_a_lock(database) and working(database, "concurrently"))
        first.kill()
        database.execute(f"select pg_terminate_backend({pid})")
        wait_for(lambda: not working(database, "concurrently"))
        database.execute("create index b_id on b (id)")
    assert invalid_indexes(database) == ["a_id"]
    result = runs("up").result()
    assert result.exit_code == 0, result.stderr
    assert "dropping the invalid index public.a_id" in result.stderr
    assert database.rows("select indexrelid::regclass::text from pg_index where indisvalid and "
                         "indrelid = 'a'::regclass") == [("a_id",)]  # fmt: skip


@pytest.mark.parametrize("option", ["", "-- migrator: no-transaction\n"])
def test_without_the_runners_lock_a_version_is_still_not_applied_twice(
    database: Database, write: Write, runs: Runs, option: str
) -> None:
    database.execute("create table n (i int); create table gate ()")
    wait = "begin; lock table gate; commit;" if option else "lock table gate;"
    write(
        {
            f"0{i}_n.up.sql": f"{option}insert into n values ({i});\n{wait}\n"
            f"insert into n values (10 * {i});\n"
            for i in range(1, 7)
        }
    )
    with holding(database, "lock table gate"):
        first = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        end_keeper(database)
        second = runs("up", "--lock-timeout", "60s")
        second.says("waiting for")
    results = [first.result(), second.result()]
    assert [result.exit_code for result in results] == [0, 0], results
    assert applied(database) == [f"0{i}_n" for i in range(1, 7)]
    expected = sorted([*range(1, 7), *range(10, 70, 10)])
    assert [i for (i,) in database.rows("select i from n order by i")] == expected


def test_without_any_lock_two_runners_take_the_versions_in_turns(
    database: Database, write: Write, runs: Runs
) -> None:
    """Even a migration that gives up every lock of its session leaves the primary key."""
    database.execute("create table n (i int); create table gate ()")
    write(
        {
            f"{i:02}_n.up.sql": "select pg_advisory_unlock_all();\n"
            f"select from gate; insert into n values ({i}); select pg_sleep(0.05);\n"
            for i in range(1, 13)
        }
    )
    with holding(database, "lock table gate"):
        first = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        end_keeper(database)
        second = runs("up", "--lock-timeout", "60s")
        second.says("01_n is waiting for a lock")
    results = [first.result(), second.result()]
    assert [result.exit_code for result in results] == [0, 0], results
    assert "another migrator has just" in results[0].stderr + results[1].stderr
    assert len(applied(database)) == 12
    assert [i for (i,) in database.rows("select i from n order by i")] == list(range(1, 13))


def test_a_version_that_row_security_hides_is_not_tried_for_ever(
    database: Database, write: Write, migrate: Migrate
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    assert migrate("up").exit_code == 0
    database.execute(
        "create role blind login password 'x';"
        "grant all on all tables in schema public to blind; grant create on schema public to blind;"
        "alter table migration_versions enable row level security;"
        "create policy hidden on migration_versions for select using (false);"
        "create policy added on migration_versions for insert with check (true);"
    )
    try:
        url = database.tcp_url("blind", "x")
        result = migrate("up", "--trust-history-of", "postgres", database=url)
        assert result.exit_code == 4
        assert "query would be affected by row-level security policy" in result.stderr
        assert "alter role NAME bypassrls" in result.stderr
    finally:
        database.execute("drop owned by blind; drop role blind")


def test_one_reverts_while_another_waits_to_do_the_same(
    database: Database, write: Write, runs: Runs, migrate: Migrate
) -> None:
    database.execute("create table gate ()")
    write({"01_a.up.sql": "create table a ();", "01_a.down.sql": "lock table gate; drop table a;"})
    assert migrate("up").exit_code == 0
    with holding(database, "lock table gate"):
        first = runs("down", "--yes", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        second = runs("down", "--yes")
        second.says("waiting for another migrator")
    assert first.result().exit_code == 0
    result = second.result()
    assert result.exit_code == 4
    assert "another migrator has changed the history" in result.stderr
    assert not applied(database)


def test_a_runner_that_waits_longer_than_a_session_may_be_idle(
    database: Database, write: Write, runs: Runs
) -> None:
    if database.postgres.version < 14:
        pytest.skip("idle_session_timeout is new in 14")
    database.execute(f"alter database {database.name} set idle_session_timeout = '500ms'")
    write({"01_a.up.sql": "select pg_sleep(2);"})
    first = runs("up")
    wait_for(lambda: working(database, "pg_sleep"))
    second = runs("up")
    assert first.result().exit_code == 0
    result = second.result()
    assert (result.exit_code, result.stdout[:13]) == (0, "nothing to do"), result.stderr


@pytest.mark.parametrize("option", ["", "-- migrator: no-transaction\n"])
def test_a_pause_between_two_attempts_may_be_longer_than_a_session_may_be_idle(
    database: Database, write: Write, migrate: Migrate, option: str
) -> None:
    if database.postgres.version < 14:
        pytest.skip("idle_session_timeout is new in 14")
    database.execute("create table t (n int)")
    database.execute(f"alter database {database.name} set idle_session_timeout = '400ms'")
    # The script resets what the session has started with.
    write(
        {"01_a.up.sql": f"{option}reset all;\nset lock_timeout = '50ms';\nalter table t add m int;"}
    )
    with holding(database, "lock table t"):
        result = migrate("up", "--lock-attempts", "3")  # pauses of up to 0.5 s and 1 s
    assert result.exit_code == 5, result.stderr
    assert "after 3 attempts" in result.stderr


def test_the_lock_of_the_session_that_works_outlives_discard_all(
    database: Database, write: Write, runs: Runs
) -> None:
    write({"01_a.up.sql": "-- migrator: no-transaction\ndiscard all;\nselect pg_sleep(600);\n"})
    run = runs("up")
    pid = wait_for(lambda: working(database, "pg_sleep"))
    run.kill()
    second = runs("up")
    assert f"pid {pid} " in second.says("waiting for another migrator")
    database.execute(f"select pg_terminate_backend({pid})")


def test_a_standby_is_read_and_not_migrated(write: Write, directory: Path) -> None:
    write({"01_a.up.sql": "select 1;"})
    with serve() as postgres:
        server.stop(postgres.server)
        (postgres.server.data / "standby.signal").touch()
        server.start(postgres.server)
        migrate = Migrate(call, Database(postgres, "postgres"), directory)
        assert migrate("status").exit_code == 0
        for arguments in (("up",), ("repair", "1", "--applied", "--reason", "x")):
            result = migrate(*arguments)
            assert result.exit_code == 6
            assert "the server is a read-only standby" in result.stderr
