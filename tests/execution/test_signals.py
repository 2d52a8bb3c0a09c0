"""Ctrl-C and SIGTERM: the server's statement ends, nothing stays half-done, the message is true."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Database, Result, Write, process_environment
from tests.proxy import losing_the_first_cancel
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
    stop_at_once(run)
    database.execute(f"select pg_terminate_backend({pid})")


def stop_at_once(run: Run) -> None:
    """Send a second signal that is meant, and wait for the end."""
    time.sleep(BURST)
    time_of_second = time.monotonic()
    run.signal(signal.SIGINT)
    result = run.result(bound=GRACE)
    assert time.monotonic() - time_of_second < 3
    assert result.exit_code == 130
    assert "interrupted at once" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_second_signal_cancels_the_statement_if_the_first_one_could_not(
    database: Database, runs: Runs, write: Write
) -> None:
    database.execute("create table gate ()")
    write({"01_a.up.sql": "create table a ();\nlock table gate;\n"})
    with losing_the_first_cancel(database.url) as proxy, holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "60s", url=proxy.url)
        wait_for(lambda: waiting_for_a_lock(database))
        run.signal(signal.SIGINT)
        stop_at_once(run)
        wait_for(lambda: not waiting_for_a_lock(database))
    wait_for(lambda: not strangers(database))
    assert history(database) == []


def test_the_second_signal_cancels_a_statement_of_ours(
    database: Database, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": f"{OPTION}{SLEEP};"})
    first = runs("up")
    pid = wait_for(lambda: working(database, SLEEP))
    run = runs("up")
    run.says("waiting for another migrator")
    with holding(database, "lock table migration_versions"):
        first.kill()
        database.execute(f"select pg_terminate_backend({pid})")
        wait_for(lambda: waiting_for_a_lock(database))
        run.signal(signal.SIGINT)
        stop_at_once(run)
        # Its own lock_timeout ends it after 10 s.
        wait_for(lambda: not waiting_for_a_lock(database), bound=3)
    wait_for(lambda: not strangers(database))


# Before the run, and after it


def test_while_it_connects(runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": "select 1;"})
    for number, code in CODES:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
            run = runs("up", url=f"postgresql://{host}:{port}/a")
            client, _ = server.accept()
            with client:
                for _ in range(20):
                    run.signal(number)
                result = run.result(bound=GRACE)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("error: interrupted\n")
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["status", "down"])
def test_while_it_reads_the_history(
    database: Database, runs: Runs, write: Write, command: str
) -> None:
    write({"01_a.up.sql": "select 1;", "01_a.down.sql": "select 1;"})
    assert runs("up").result().exit_code == 0
    for number, code in CODES:
        with holding(database, "lock table migration_versions"):
            run = runs("--json", command)
            wait_for(lambda: waiting_for_a_lock(database))
            result = interrupted(run, number)
        assert result.exit_code == code
        assert result.json["error"]["message"] == "interrupted"
    assert applied(database) == ["01_a"]


# Imported before the program: it stops where the test wants to send its signals.
LOADING = """
import pathlib, sys, time
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            pathlib.Path("PLACE").touch()
            time.sleep(60)
sys.meta_path.insert(0, Finder())
"""
ENDING = """
import atexit, pathlib, time
def end():
    place = pathlib.Path("PLACE")
    place.touch()
    while place.exists():
        time.sleep(0.01)
atexit.register(end)
"""


@pytest.fixture
def pausing(
    database: Database, directory: Path, tmp_path: Path
) -> Callable[[str], tuple[subprocess.Popen[str], Path]]:
    """Start `up` with a sitecustomize, and wait until it has made the file in its `PLACE`."""

    def start(text: str) -> tuple[subprocess.Popen[str], Path]:
        place = tmp_path / "place"
        place.unlink(missing_ok=True)
        (tmp_path / "sitecustomize.py").write_text(text.replace("PLACE", str(place)))
        environ = process_environment({"DATABASE_URL": database.url})
        process = subprocess.Popen(
            [sys.executable, "-m", "migrator", "--dir", directory, "up"],
            env={**environ, "PYTHONPATH": f"{tmp_path}:{environ['PYTHONPATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(place.exists)
        return process, place

    return start


Pausing = Callable[[str], tuple[subprocess.Popen[str], Path]]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_while_it_is_loaded(pausing: Pausing, write: Write, number: int, code: int) -> None:
    write({"01_a.up.sql": "select 1;"})
    process, _ = pausing(LOADING)
    for _ in range(20):
        process.send_signal(number)
    assert process.communicate(timeout=GRACE) == ("", "error: interrupted\n")
    assert process.returncode == code


@pytest.mark.parametrize("number", [number for number, _ in CODES])
def test_a_signal_after_the_work_changes_nothing(
    database: Database, pausing: Pausing, write: Write, number: int
) -> None:
    write({"01_a.up.sql": "select 1;"})
    process, place = pausing(ENDING)
    for _ in range(20):
        process.send_signal(number)
    place.unlink()
    out, err = process.communicate(timeout=GRACE)
    assert out.startswith("applied 1 migration")
    assert "Traceback" not in err
    assert process.returncode == 0
    assert applied(database) == ["01_a"]


def test_while_nobody_reads_what_it_prints(
    database: Database, directory: Path, write: Write
) -> None:
    write({"01_a.up.sql": "select 1;"})
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "migrator", "--dir", directory, "up"],
        env=process_environment({"DATABASE_URL": database.url}),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        has_history = "select from pg_class where relname = 'migration_versions'"
        wait_for(lambda: database.rows(has_history) and applied(database))
        wait_for(lambda: not strangers(database))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=GRACE)
    finally:
        process.kill()
        os.close(reader)
        os.close(writer)
    assert process.returncode == 143
    assert "to see what was done, run:" in err
    assert applied(database) == ["01_a"]


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
        assert "the server did not report the outcome of 01_a" in result.stderr
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
