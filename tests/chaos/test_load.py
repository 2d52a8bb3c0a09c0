"""What an application suffers from migrations that lock its tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database
from tests.sessions import Runs, applied, wait_for, waiting_for_a_lock

from . import load

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def test_with_a_plan_no_writer_fails_in_the_opposite_lock_order(
    database: Database, directory: Path
) -> None:
    load.write_files(directory, 4)
    suffered = load.migrate(database, directory, "--plan")
    assert suffered.result
    assert suffered.result.exit_code == 0, suffered.result.stderr
    assert not suffered.errors, suffered
    assert len(applied(database)) == 5


def test_without_a_plan_such_a_writer_and_the_migration_stand_in_each_others_way(
    database: Database, directory: Path, runs: Runs
) -> None:
    """What the plan is there for: the same two transactions, step by step."""
    load.write_files(directory, 1)
    assert runs("up", "--steps", "1").result().exit_code == 0
    with psycopg.connect(database.url) as writer:
        writer.execute("set deadlock_timeout = '10ms'")
        writer.execute("insert into b (id) values (1)")
        run = runs("up", "--lock-timeout", "60s")
        wait_for(lambda: waiting_for_a_lock(database))
        try:
            writer.execute("insert into a (id) values (1)")
        except psycopg.errors.DeadlockDetected:
            hit = "the application"
        else:
            hit = "the migration"  # which tries again
        writer.rollback()
    assert run.result().exit_code == 0
    assert hit == "the application"
