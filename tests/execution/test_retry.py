"""Busy tables: a short wait, who is in the way, another try, and a clean end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, Migrate, Write
from tests.sessions import (
    Runs,
    applied,
    history,
    holding,
    invalid_indexes,
    wait_for,
    waiting_for_a_lock,
    working,
)

pytestmark = pytest.mark.slow

ADD = {"01_add.up.sql": "alter table a add b int;"}


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    database.execute("create table a (id int)")
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def columns(database: Database) -> list[str]:
    query = "select attname::text from pg_attribute where attrelid = 'a'::regclass and attnum > 0"
    return [name for (name,) in database.rows(f"{query} order by attnum")]


def timeouts_in_force(migrate: Migrate, write: Write, top: str, *options: str, **env: str) -> str:
    """Give the two timeouts that a migration sees, as a notice tells them."""
    write(
        {
            "01_see.up.sql": f"{top}do $$ begin raise notice 'lock % statement %',"
            " current_setting('lock_timeout'), current_setting('statement_timeout'); end $$;"
        }
    )
    result = migrate("up", *options, environ=env)
    assert result.exit_code == 0, result.stderr
    found = re.search(r"lock (\w+) statement (\w+)", result.stderr)
    assert found, result.stderr
    return f"{found[1]} {found[2]}"


@pytest.mark.parametrize(
    ("top", "options", "environ", "expected"),
    [
        ("", [], {}, "2s 0"),
        ("-- migrator: lock-timeout 3s\n", [], {}, "3s 0"),
        ("-- migrator: statement-timeout 15min\n", [], {}, "2s 15min"),
        ("", ["--lock-timeout", "250ms"], {}, "250ms 0"),
        ("", ["--statement-timeout", "1h"], {}, "2s 1h"),
        ("", [], {"MIGRATOR_LOCK_TIMEOUT": "700ms"}, "700ms 0"),
        ("", [], {"MIGRATOR_STATEMENT_TIMEOUT": "9s"}, "2s 9s"),
        ("", ["--lock-timeout", "1s"], {"MIGRATOR_LOCK_TIMEOUT": "7s"}, "1s 0"),
        ("-- migrator: lock-timeout 3s\n", ["--lock-timeout", "1s"], {}, "3s 0"),
        ("-- migrator: no-transaction\n", [], {}, "2s 0"),
        ("-- migrator: no-transaction\n-- migrator: lock-timeout 3s\n", [], {}, "3s 0"),
        ("-- migrator: no-transaction\n", ["--statement-timeout", "5s"], {}, "2s 5s"),
    ],
)
def test_the_file_says_the_timeouts_then_the_option_then_the_environment(
    migrate: Migrate,
    write: Write,
    top: str,
    options: list[str],
    environ: dict[str, str],
    expected: str,
) -> None:
    assert timeouts_in_force(migrate, write, top, *options, **environ) == expected


def test_each_try_names_who_is_in_the_way_and_the_last_one_ends_with_5(
    database: Database, write: Write, runs: Runs
) -> None:
    write({"00_first.up.sql": "create table first ();", **ADD})
    with holding(database, "select 'the nightly report' from a") as reader:
        pid = reader.info.backend_pid
        result = runs("up", "--lock-timeout", "200ms", "--lock-attempts", "2").result()
    assert result.exit_code == 5
    tried = r"01_add: attempt 1 of 2 failed: canceling .* lock timeout.*\n.*\n"
    (retry,) = re.findall(tried, result.stderr)
    last = "last query: select 'the nightly report' from a"
    seen = rf"pid {pid}  report, postgres, idle in transaction for \d+ s, {last}"
    assert re.search(seen, retry)
    assert "01_add.up.sql:1:1: canceling statement due to lock timeout" in result.stderr
    assert re.search(rf"blocked by\n    {seen}", result.stderr)
    undone = "01_add was rolled back completely. Already applied in this run, and kept: 00_first."
    assert f"Gave up after 2 attempts. {undone}" in result.stderr
    assert columns(database) == ["id"]
    assert history(database) == [("00_first", 0, False, True)]


def test_a_lock_timeout_of_a_tenth_of_a_second_is_time_enough_to_name_who_is_in_the_way(
    database: Database, write: Write, runs: Runs
) -> None:
    write(ADD)
    with holding(database, "select from a"):
        result = runs("up", "--lock-timeout", "100ms", "--lock-attempts", "2").result()
    assert result.exit_code == 5
    assert "report, postgres" in result.stderr


def test_the_next_try_succeeds_once_the_table_is_free(
    database: Database, write: Write, runs: Runs
) -> None:
    write({"01_add.up.sql": "create table before (); alter table a add b int;"})
    with holding(database, "select from a"):
        run = runs("up", "--lock-timeout", "100ms")
        run.says("01_add: attempt 1 of 10 failed")
        assert not working(database, "alter table"), "nothing queues behind the reader meanwhile"
    result = run.result()
    assert result.exit_code == 0, result.stderr
    assert columns(database) == ["id", "b"]
    assert applied(database) == ["01_add"]


def test_versions_before_a_busy_one_are_not_run_again(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("create sequence s")
    write({"00_s.up.sql": "select nextval('s');", **ADD, "02_s.up.sql": "select nextval('s');"})
    with holding(database, "select from a"):
        run = runs("up", "--lock-timeout", "100ms")
        run.says("01_add: attempt 1 of 10 failed")
    assert run.result().exit_code == 0
    assert database.rows("select last_value from s") == [(2,)]


def test_a_deadlock_is_tried_again(database: Database, write: Write, runs: Runs) -> None:
    database.execute("create table b ()")
    database.execute("alter system set deadlock_timeout = '100ms'; ")
    database.execute("select pg_reload_conf()")
    write({"01_ab.up.sql": "lock table a; do $$ begin perform 1; end $$; lock table b;"})
    other = psycopg.connect(database.url)
    try:
        other.execute("set deadlock_timeout = '1h'")  # it is always the other one who is told
        other.execute("lock table b")
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        thread = threading.Thread(target=lambda: other.execute("lock table a"))
        thread.start()
        run.says("01_ab: attempt 1 of 10 failed: deadlock detected")
        thread.join()
        other.rollback()
        assert run.result().exit_code == 0
    finally:
        other.close()
        database.execute("alter system reset deadlock_timeout")
        database.execute("select pg_reload_conf()")
    assert applied(database) == ["01_ab"]


def test_a_serialization_failure_is_tried_again(
    database: Database, write: Write, runs: Runs
) -> None:
    database.execute("insert into a values (1); create table gate ()")
    write(
        {
            "01_update.up.sql": "begin isolation level repeatable read;\n"
            "select from a;\nlock table gate;\nupdate a set id = id + 1;\ncommit;\n"
        }
    )
    with holding(database, "lock table gate") as other:
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        other.execute("update a set id = 10")
        other.commit()
    run.says("could not serialize access due to concurrent update")
    assert run.result().exit_code == 0
    assert database.rows("select id from a") == [(11,)]


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("select 1 / 0;", "22012"),
        ("do $$ begin raise 'mine' using errcode = '55006'; end $$;", "55006"),
        ("do $$ begin raise 'no memory' using errcode = '53200'; end $$;", "53200"),
        ("select pg_sleep(9);", "57014"),
    ],
)
def test_nothing_else_is_tried_again(
    migrate: Migrate, write: Write, statement: str, sqlstate: str
) -> None:
    write({"01_a.up.sql": statement})
    result = migrate("up", "--statement-timeout", "100ms")
    assert result.exit_code == 1
    assert f"SQLSTATE {sqlstate}" in result.stderr
    assert "attempt 1" not in result.stderr


def test_the_history_is_untouched_when_the_tries_of_a_resumable_file_are_used_up(
    database: Database, write: Write, runs: Runs
) -> None:
    write(
        {
            "01_add.up.sql": "-- migrator: no-transaction\n"
            "create table t ();\nalter table a add b int;"
        }
    )
    with holding(database, "select from a"):
        result = runs("up", "--lock-timeout", "100ms", "--lock-attempts", "2").result()
    assert result.exit_code == 5
    assert "report, postgres" in result.stderr
    assert history(database) == [("01_add", 1, False, False)]
    assert runs("up").result().exit_code == 0
    assert columns(database) == ["id", "b"]


def test_a_concurrent_index_waits_as_long_as_it_takes(
    database: Database, write: Write, runs: Runs
) -> None:
    write({"01_index.up.sql": "create index concurrently a_id on a (id);"})
    with holding(database, "insert into a values (1)"):
        run = runs("up", "--lock-timeout", "100ms")
        run.says("report, postgres")
    result = run.result()
    assert result.exit_code == 0
    assert "attempt 1" not in result.stderr


def test_a_concurrent_index_with_a_lock_timeout_of_its_own_leaves_nothing_between_tries(
    database: Database, write: Write, runs: Runs
) -> None:
    write(
        {
            "01_index.up.sql": "-- migrator: lock-timeout 100ms\n"
            "create index concurrently a_id on a (id);"
        }
    )
    with holding(database, "insert into a values (1)"):
        run = runs("up")
        run.says("attempt 2 of 10")
    result = run.result()
    assert result.exit_code == 0, result.stderr
    assert not invalid_indexes(database)
    assert database.rows("select count(*) from pg_index where indrelid = 'a'::regclass") == [(1,)]


def test_a_prepared_transaction_that_blocks_is_named_with_the_commands_that_end_it(
    database: Database, write: Write, runs: Runs
) -> None:
    write(ADD)
    database.execute("create table other ()")
    gids = {"it's forgotten": "insert into a values (1)", "innocent": "lock table other"}
    with database.connect() as conn:
        for gid, work in gids.items():
            for statement in (
                "begin",
                work,
                "prepare transaction '{}'".format(gid.replace("'", "''")),
            ):
                conn.execute(statement.encode())
    options = ("--lock-timeout", "200ms", "--lock-attempts", "1")
    plain, as_json = (runs("up", *options, *more).result() for more in ([], ["--json"]))
    for gid in gids:
        database.execute("rollback prepared '{}'".format(gid.replace("'", "''")))
    assert (plain.exit_code, as_json.exit_code) == (5, 5)
    assert "blocked by\n  prepared transaction 'it''s forgotten'  postgres, prepared for 0 s" in (
        re.sub(r"for \d+ s", "for 0 s", plain.stderr.replace("\n    ", "\n  "))
    )
    gid = "'it''s forgotten'"
    ends = f"rollback prepared {gid}; or, to keep its work: commit prepared {gid};"
    assert ends in plain.stderr
    assert "pid 0" not in plain.stderr
    assert "innocent" not in plain.stderr
    assert '"pid": null' in as_json.stderr
    assert '"gid": "it\'s forgotten"' in as_json.stderr
    assert ends in as_json.json["error"]["hint"]


def test_the_delay_between_tries_is_of_random_length(
    database: Database, write: Write, runs: Runs
) -> None:
    write(ADD)
    with holding(database, "select from a"):
        options = ("--lock-timeout", "50ms", "--lock-attempts", "3", "--json")
        results = [run.result() for run in (runs("up", *options), runs("up", *options))]
    delays = re.findall(r'"delay": ([0-9.]+)', "".join(r.stderr for r in results))
    assert len(set(delays)) == len(delays) > 1
    assert all(0.25 <= float(delay) <= 1 for delay in delays)


def test_who_ends_a_statement_of_ours_on_the_server_is_heard(
    database: Database, write: Write, runs: Runs
) -> None:
    write({"01_a.up.sql": "select 1;"})
    assert runs("up").result().exit_code == 0
    with holding(database, "lock table migration_versions"):
        run = runs("status")
        wait_for(lambda: waiting_for_a_lock(database))
        database.execute(
            "select pg_cancel_backend(pid) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        result = run.result()
    assert result.exit_code == 1
    assert "one of migrator's own statements was cancelled: canceling statement" in result.stderr
    assert "next: to see what was done, run: python -m migrator status" in result.stderr
