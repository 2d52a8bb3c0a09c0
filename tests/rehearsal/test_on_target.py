"""`rehearse --on-target` runs the next migration on the target itself, and rolls it back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Database, Migrate, Result, Write
from ..sessions import Runs, holding, strangers, wait_for, waiting_for_a_lock, working

pytestmark = pytest.mark.slow

GROUND = {
    "01_t.up.sql": "create table t (id int, name text);\ncreate sequence s;\n",
    "01_t.down.sql": "drop table t; drop sequence s;\n",
}
RISKY = {
    "02_b.up.sql": "alter table t alter id type bigint;\nalter table t drop column name;\n"
    "create table u (id int primary key);\n",
    "02_b.down.sql": "drop table u;\n",
}


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def state(database: Database) -> list[Any]:
    """Return the schema, the history and the log, once no other session is left."""
    schema = """
    select c.oid, c.relname, c.relfilenode, array_agg((a.attname, a.atttypid) order by a.attnum)
    from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = 'public'::regnamespace group by 1, 2, 3 order by 1
    """
    wait_for(lambda: not strangers(database))
    found = database.rows(schema)
    if database.rows("select from pg_tables where tablename = 'migration_log'"):
        found += database.rows("table migration_versions") + database.rows("table migration_log")
    return found


def tried(migrate: Migrate, *options: str) -> Result:
    """Rehearse on the target, and check that nothing has changed."""
    before = state(migrate.database)
    result = migrate("rehearse", "--on-target", "--small", "0", *options)
    assert "Traceback" not in result.stderr
    assert state(migrate.database) == before
    return result


def start(migrate: Migrate, write: Write, pending: dict[str, str]) -> None:
    """Create a table, and write pending migrations."""
    write(GROUND)
    assert migrate("up").exit_code == 0
    write(pending)


def findings(result: Result) -> list[tuple[str, str, int, str]]:
    (migration,) = result.json["migrations"]
    return [(f["hazard"], f["severity"], f["line"], f["message"]) for f in migration["findings"]]


def without_oids(trace: Any) -> Any:
    if isinstance(trace, dict):
        return {key: without_oids(each) for key, each in trace.items() if key != "oid"}
    return [without_oids(each) for each in trace] if isinstance(trace, list) else trace


def test_the_findings_are_those_of_a_scratch_database(migrate: Migrate, write: Write) -> None:
    start(migrate, write, RISKY)
    here = tried(migrate, "--json")
    there = migrate("rehearse", "--small", "0", "--json")
    assert (here.exit_code, there.exit_code) == (4, 4)
    # No down is run on the target.
    of_up = [each for each in findings(there) if each[2] is not None]
    assert findings(here) == of_up
    assert {hazard for hazard, *_ in findings(here)} >= {"table-rewrite", "column-dropped"}
    traces = [
        [without_oids(s["trace"]) for s in result.json["migrations"][0]["statements"]]
        for result in (here, there)
    ]
    assert traces[0] == traces[1]


def test_only_the_next_migration_is_run(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {**RISKY, "03_c.up.sql": "select 1;", "04_d.up.sql": "select 1;"})
    result = tried(migrate)
    assert result.exit_code == 4
    assert result.stderr == (
        "only the next migration can be run on the database itself, not 03_c, 04_d\n"
        "no queries look for rows that break it: it stops at the first such row itself\n"
    )
    assert "rehearsed on the database itself, and rolled back" in result.stdout
    assert "down: not run" in result.stdout
    assert "1 migration, " in result.stdout


def test_a_fresh_database_stays_empty(migrate: Migrate, write: Write) -> None:
    write(GROUND)
    result = tried(migrate)
    assert result.exit_code == 0
    assert result.stderr.startswith("no queries look for rows that break it: ")
    assert state(migrate.database) == []


def test_nothing_is_run_if_nothing_is_pending(migrate: Migrate, write: Write) -> None:
    start(migrate, write, {})
    result = tried(migrate)
    assert result.exit_code == 0
    assert result.stdout.endswith("0 migrations, 0 findings\n")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("create table b ();\nselect 1 / 0;", "02_b.up.sql:2:1: division by zero"),
        (
            "create table k (id int primary key);\n"
            "create table l (k int references k deferrable initially deferred);\n"
            "insert into l values (1);",
            "violates foreign key constraint",
        ),
    ],
)
def test_an_up_that_fails_is_reported_and_not_logged(
    migrate: Migrate, write: Write, sql: str, message: str
) -> None:
    start(migrate, write, {"02_b.up.sql": sql})
    result = tried(migrate)
    assert result.exit_code == 4
    assert message in result.stdout
    assert "it was rolled back, and nothing has changed" in result.stdout


def test_the_role_of_the_file_runs_it(migrate: Migrate, write: Write) -> None:
    migrate.database.execute(
        "create role trial_owner; grant create on schema public to trial_owner"
    )
    sql = "-- migrator: role trial_owner\ncreate table b ();\nselect current_user::int;"
    start(migrate, write, {"02_b.up.sql": sql})
    try:
        assert '"trial_owner"' in tried(migrate).stdout
    finally:
        migrate.database.execute("drop owned by trial_owner; drop role trial_owner")


def test_a_lock_is_waited_for_briefly_and_its_blockers_are_named(
    database: Database, migrate: Migrate, write: Write, runs: Runs
) -> None:
    sql = "-- migrator: lock-timeout 10min\nalter table t add x int;"
    start(migrate, write, {"02_b.up.sql": sql})
    with holding(database, "select from t") as other:
        run = runs("rehearse", "--on-target")
        stderr = run.says(f"pid {other.info.backend_pid}")
        assert "02_b is waiting for a lock, " in stderr
        run.says("02_b: attempt 2 of 3 failed: canceling statement due to lock timeout")
    result = run.result()
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("timeout", ["0", "'20s'"])
def test_a_longer_lock_timeout_of_the_script_is_ignored(
    database: Database, migrate: Migrate, write: Write, timeout: str
) -> None:
    sql = f"set lock_timeout = {timeout};\nalter table t add x int;"
    start(migrate, write, {"02_b.up.sql": sql})
    with holding(database, "select from t"):
        assert migrate("rehearse", "--on-target").exit_code == 5


def test_a_lock_that_is_not_released_exits_with_5(
    database: Database, migrate: Migrate, write: Write
) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table t add x int;"})
    with holding(database, "select from t"):
        result = migrate("rehearse", "--on-target")
    assert result.exit_code == 5
    assert "try again when the system is less busy" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_trial_run_and_rolls_it_back(
    database: Database, migrate: Migrate, write: Write, runs: Runs, number: int
) -> None:
    start(migrate, write, {"02_b.up.sql": "alter table t add x int;\nselect pg_sleep(600);\n"})
    before = state(database)
    run = runs("rehearse", "--on-target")
    wait_for(lambda: working(database, "pg_sleep"))
    run.signal(number)
    result = run.result()
    assert result.exit_code == 128 + number
    assert "the trial run was rolled back, and nothing has changed" in result.stderr
    assert state(database) == before


def test_no_lock_is_left_afterwards(database: Database, migrate: Migrate, write: Write) -> None:
    start(migrate, write, RISKY)
    tried(migrate)
    database.execute("set lock_timeout = '1ms'; alter table t add y int")
    assert not waiting_for_a_lock(database)


@pytest.mark.parametrize(
    ("pending", "options", "message"),
    [
        ("vacuum t;", [], "02_b runs outside a transaction, so it cannot be rolled back"),
        ("select 1;", ["--from-target"], "--on-target cannot be combined with --scratch-url"),
        (
            "select 1;",
            ["--scratch-url", "embedded:"],
            "--on-target cannot be combined with --scratch-url",
        ),
    ],
)
def test_a_migration_that_cannot_be_rolled_back_is_a_usage_error(
    migrate: Migrate, write: Write, pending: str, options: list[str], message: str
) -> None:
    start(migrate, write, {"02_b.up.sql": pending})
    result = tried(migrate, *options)
    assert result.exit_code == 2
    assert message in result.stderr
