"""Ctrl-C and SIGTERM: the server's statement ends, nothing stays half-done, the message is true."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database, Result, Write
from tests.sessions import (
    Run,
    Runs,
    applied,
    history,
    holding,
    strangers,
    wait_for,
    waiting_for_a_lock,
    working,
)

pytestmark = pytest.mark.slow

OPTION = "-- migrator: no-transaction\n"
BURST = 1.1  # seconds after which a second signal is meant
GRACE = 10.0  # seconds that a container leaves
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
SLEEP = "select pg_sleep(600)"
# A statement that traps its own cancellation.
STUBBORN = """do $$ begin loop begin perform pg_sleep(600);
exception when query_canceled then perform nextval('cancels'); end; end loop; end $$;
"""


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def interrupted(run: Run, number: int = signal.SIGTERM) -> Result:
    """Send a signal, and give what the run did within its grace."""
    started = time.monotonic()
    run.signal(number)
    result = run.result(bound=GRACE)
    assert time.monotonic() - started < GRACE
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize(("number", "code"), CODES)
def test_the_statement_is_cancelled_on_the_server_and_rolled_back(
    database: Database, runs: Runs, write: Write, number: int, code: int
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "02_b.up.sql": f"create table b ();\n{SLEEP};\n",
            "03_c.up.sql": "create table c ();",
        }
    )
    run = runs("up")
    wait_for(lambda: working(database, SLEEP))
    result = interrupted(run, number)
    assert result.exit_code == code
    assert "interrupted" in result.stderr
    assert "02_b was rolled back completely. Already applied in this run" in result.stderr
    assert "01_a" in result.stderr
    assert not working(database, SLEEP)
    wait_for(lambda: not strangers(database))
    assert applied(database) == ["01_a"]
    assert database.rows("select to_regclass('b'), to_regclass('c')") == [(None, None)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_step_outside_a_transaction_is_cancelled_and_those_before_it_stay(
    database: Database, runs: Runs, write: Write, number: int, code: int
) -> None:
    write({"01_a.up.sql": f"{OPTION}create table a ();\n{SLEEP};\ncreate table c ();\n"})
    run = runs("up")
    wait_for(lambda: working(database, SLEEP))
    result = interrupted(run, number)
    assert result.exit_code == code
    assert "01_a was interrupted; its finished statements are recorded" in result.stderr
    wait_for(lambda: not strangers(database))
    assert history(database) == [("01_a", 1, False, False)]


def test_a_down_is_interrupted_alike(database: Database, runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": "create table a ();", "01_a.down.sql": f"drop table a;\n{SLEEP};"})
    assert runs("up").result().exit_code == 0
    run = runs("down")
    wait_for(lambda: working(database, SLEEP))
    assert interrupted(run).exit_code == 143
    assert applied(database) == ["01_a"]
    assert database.rows("select to_regclass('a') is null") == [(False,)]


def test_while_it_waits_for_a_lock(database: Database, runs: Runs, write: Write) -> None:
    database.execute("create table a (id int)")
    write({"01_a.up.sql": "alter table a add b int;"})
    with holding(database, "select from a"):
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        result = interrupted(run)
        assert not waiting_for_a_lock(database), "no reader queues behind it any more"
    assert result.exit_code == 143
    assert history(database) == []


def test_while_it_pauses_before_the_next_try(database: Database, runs: Runs, write: Write) -> None:
    database.execute("create table a (id int)")
    write({"01_a.up.sql": "alter table a add b int;"})
    with holding(database, "select from a"):
        run = runs("up", "--lock-timeout", "100ms")
        run.says("attempt 3 of 10")
        result = interrupted(run)
    assert result.exit_code == 143
    assert "01_a was rolled back completely. Nothing" in result.stderr
    assert history(database) == []


def test_while_it_waits_for_another_runner(database: Database, runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": f"{SLEEP};"})
    first = runs("up")
    wait_for(lambda: working(database, SLEEP))
    second = runs("up")
    second.says("waiting for another migrator")
    result = interrupted(second, signal.SIGINT)
    assert result.exit_code == 130
    assert "interrupted while waiting for another runner; nothing was run" in result.stderr
    assert working(database, SLEEP), "the first one goes on"
    assert interrupted(first).exit_code == 143


def test_in_the_middle_of_copy_data(database: Database, runs: Runs, write: Write) -> None:
    database.execute("create table a (id int); create table gate ()")
    rows = "".join(f"{i}\n" for i in range(200_000))
    write({"01_a.up.sql": f"copy a from stdin;\n{rows}\\.\n"})
    # The first row waits, so that the server stops reading.
    database.execute(
        "create function wait() returns trigger language plpgsql as"
        " $$ begin perform from gate; return new; end $$;"
        "create trigger wait before insert on a for each row execute function wait()"
    )
    with holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        result = interrupted(run)
    assert result.exit_code == 143
    wait_for(lambda: not strangers(database))
    assert database.rows("select count(*) from a") == [(0,)]


def test_in_the_middle_of_many_inserts(database: Database, runs: Runs, write: Write) -> None:
    database.execute("create table a (id int)")
    lines = [f"insert into a values ({n});" for n in range(1000)]
    lines[500] = "insert into a select 500 from pg_sleep(60);"
    write({"01_a.up.sql": "\n".join(lines)})
    run = runs("up")
    wait_for(lambda: asleep(database))
    result = interrupted(run)
    assert result.exit_code == 143
    assert "01_a was rolled back completely" in result.stderr
    assert not asleep(database)
    assert database.rows("select count(*) from a") == [(0,)]


def asleep(database: Database) -> bool:
    """Whether a statement sleeps, of however many that were sent as one."""
    return bool(
        database.rows(
            "select from pg_stat_activity where datname = current_database()"
            " and wait_event = 'PgSleep'"
        )
    )


def test_between_many_small_statements(database: Database, runs: Runs, write: Write) -> None:
    database.execute("create sequence s")
    write({"01_a.up.sql": "select nextval('s');\n" * 50_000})
    run = runs("up")
    wait_for(lambda: database.rows("select is_called from s") == [(True,)])
    result = interrupted(run)
    assert result.exit_code == 143
    wait_for(lambda: not strangers(database))
    assert history(database) == []
    assert "01_a was rolled back completely" in result.stderr


def test_the_run_after_an_interrupted_one_needs_no_repair(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table gate ()")
    text = "create table a ();\nbegin;\nlock table gate;\ncommit;\ncreate table c ();\n"
    write({"01_a.up.sql": OPTION + text})
    with holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        assert interrupted(run).exit_code == 143
    assert runs("up").result().exit_code == 0
    assert applied(database) == ["01_a"]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_burst_of_signals_is_one(
    database: Database, runs: Runs, write: Write, number: int, code: int
) -> None:
    write({"01_a.up.sql": "create table a (); select pg_sleep(600);"})
    run = runs("up")
    wait_for(lambda: working(database, "pg_sleep"))
    for _ in range(20):
        run.signal(number)
        time.sleep(0.0005)
    result = run.result(bound=GRACE)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    assert "rolled back" in result.stderr
    assert not working(database, "pg_sleep")


def test_twice_means_now(database: Database, runs: Runs, write: Write) -> None:
    database.execute("create sequence cancels")
    write({"01_a.up.sql": STUBBORN})
    run = runs("up")
    pid = wait_for(lambda: working(database, "pg_sleep"))
    run.signal(signal.SIGINT)
    wait_for(lambda: database.rows("select is_called from cancels") == [(True,)])
    time.sleep(BURST)
    time_of_second = time.monotonic()
    run.signal(signal.SIGINT)
    result = run.result(bound=GRACE)
    assert time.monotonic() - time_of_second < 3
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    database.execute(f"select pg_terminate_backend({pid})")


def test_a_server_that_does_not_cancel_is_left_and_that_is_said(
    database: Database, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": f"{SLEEP};"})
    run = runs("up")
    pid = wait_for(lambda: working(database, SLEEP))
    assert pid
    os.kill(pid, signal.SIGSTOP)  # as one whose disk does not answer
    try:
        result = interrupted(run)
        assert result.exit_code == 143
        assert "rolled back" not in result.stderr
        assert "the server did not say what became of 01_a" in result.stderr
        assert "the server may still be working" in result.stderr
        again = runs("up")
        assert f"pid {pid} " in again.says("waiting for another migrator")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: working(database, SLEEP) not in (None, pid))
    assert interrupted(again).exit_code == 143


def test_while_a_record_of_ours_waits_for_the_history(
    database: Database, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": "select 1;"})
    assert runs("up").result().exit_code == 0
    write({"02_b.up.sql": f"{OPTION}select pg_sleep(1);\nvacuum;\n"})
    run = runs("up")
    wait_for(lambda: working(database, "pg_sleep"))
    with holding(database, "lock table migration_log in share mode"):
        wait_for(lambda: waiting_for_a_lock(database))
        assert interrupted(run).exit_code == 143
    assert applied(database) == ["01_a"]
