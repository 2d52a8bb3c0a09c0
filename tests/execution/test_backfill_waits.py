"""A backfill waits for what others have to do, says so, and goes on after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, Postgres, Write, serve
from tests.replication import copied, serving_standbys
from tests.sessions import Runs, wait_for

from .test_backfill import FILL, SLOW, TABLE, check

pytestmark = pytest.mark.slow

# Three batches of half a second, with pauses of more than a second.
SLOWLY = ("up", "--batch-time", "500ms", "--batch-load", "30%")
LAG = (*SLOWLY, "--max-lag", "500ms")
WRITE = "create table filler as select repeat('x', 1000) from generate_series(1, 45000)"
VACUUMS = """
select pid from pg_stat_progress_vacuum where relid = to_regclass('orders')
"""


@pytest.fixture(scope="module")
def primary() -> Iterator[Postgres]:
    with serving_standbys() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def busy() -> Iterator[Postgres]:
    """A server on which autovacuum looks at the tables each second."""
    with serve(options=("autovacuum_naptime=1",)) as postgres:
        yield postgres


@pytest.fixture
def started(directory: Path, tmp_path: Path, write: Write) -> Iterator[list[Runs]]:
    """What has been started; it is ended after the test."""
    write({"01_a.up.sql": FILL.replace("cents is null", SLOW)})
    started: list[Runs] = []
    yield started
    for runs in started:
        runs.end()


@pytest.fixture
def on_primary(
    primary: Postgres, directory: Path, tmp_path: Path, started: list[Runs]
) -> Iterator[Runs]:
    with primary.database() as database:
        database.execute(TABLE)
        started.append(Runs(database, directory, tmp_path))
        yield started[-1]


@pytest.fixture
def on_busy(busy: Postgres, directory: Path, tmp_path: Path, started: list[Runs]) -> Iterator[Runs]:
    with busy.database() as database:
        database.execute(TABLE)
        started.append(Runs(database, directory, tmp_path))
        yield started[-1]


def test_it_waits_while_a_standby_stands_still(primary: Postgres, on_primary: Runs) -> None:
    with copied(primary, "-R") as url, closing(psycopg.connect(f"{url}postgres")) as standby:
        standby.autocommit = True
        standby.execute("select pg_wal_replay_pause()")
        run = on_primary(*LAG)
        run.says("waiting for a standby, which is ")
        assert run.process.poll() is None
        standby.execute("select pg_wal_replay_resume()")
        assert run.result().exit_code == 0
        check(on_primary.database)


def test_it_waits_while_a_replication_slot_is_not_read(primary: Postgres, on_primary: Runs) -> None:
    database = on_primary.database
    database.execute("select pg_create_physical_replication_slot('consumer', true)")
    try:
        database.execute(WRITE)
        run = on_primary(*LAG)
        run.says('waiting for the replication slot "consumer", which is ')
        assert run.process.poll() is None
    finally:
        database.execute("select pg_drop_replication_slot('consumer')")
    assert run.result().exit_code == 0
    check(database)


def test_a_slot_that_was_just_read_is_not_waited_for(on_primary: Runs) -> None:
    """One that moves by segments is always a part of one behind."""
    database = on_primary.database
    database.execute("select pg_create_physical_replication_slot('consumer', true)")
    try:
        result = on_primary(*LAG).result()
    finally:
        database.execute("select pg_drop_replication_slot('consumer')")
    assert result.exit_code == 0
    assert "waiting for" not in result.stderr


def test_no_lag_is_waited_for_without_a_limit(on_primary: Runs) -> None:
    database = on_primary.database
    database.execute("select pg_create_physical_replication_slot('consumer', true)")
    try:
        database.execute(WRITE)
        result = on_primary(*SLOWLY, "--max-lag", "0").result()
    finally:
        database.execute("select pg_drop_replication_slot('consumer')")
    assert result.exit_code == 0
    assert "waiting for" not in result.stderr


def test_it_waits_while_autovacuum_works_on_the_table(on_busy: Runs) -> None:
    database = on_busy.database
    vacuum_slowly(database)
    wait_for(lambda: database.rows(VACUUMS), bound=60)
    run = on_busy(*SLOWLY)
    run.says("waiting for autovacuum, which is working on public.orders")
    assert run.process.poll() is None
    # The lock for it ends the worker.
    database.execute("alter table orders set (autovacuum_enabled = false)")
    assert run.result().exit_code == 0
    check(database)


def vacuum_slowly(database: Database) -> None:
    """Leave dead rows in the table that autovacuum takes a minute to remove."""
    database.execute(
        "alter table orders set (autovacuum_vacuum_threshold = 1,"
        " autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,"
        " autovacuum_vacuum_cost_limit = 1)"
    )
    database.execute("insert into orders select i, i from generate_series(-1000, -1) i")
    database.execute("delete from orders where id < 0")
