"""Each kind of statement is done once per row, though it is killed, or the table is rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database, Migrate, Postgres, Write
from tests.sessions import Runs, holding, wait_for

from .test_backfill import FAST, FILE, FILL, ROWS, TABLE, WRONG, check

pytestmark = pytest.mark.slow

COUNTED = """
create table copy (id int primary key, total int);
create function noted() returns trigger language plpgsql as
    'begin insert into changes values (coalesce(new.id, old.id)); return null; end';
create trigger noted after insert on copy for each row execute function noted();
"""
LOCK_ROW = f"select from orders where id = {ROWS} for update"
LOCK_COPY = f"insert into copy values ({ROWS})"
KINDS = {
    "insert … select": (
        "insert into copy select id, total from orders where total > 0 /* batch */"
        " on conflict do nothing",
        LOCK_COPY,
    ),
    "delete": (
        "with gone as (delete from orders where total > 0 /* batch */ returning id, total)"
        " insert into copy select * from gone",
        LOCK_ROW,
    ),
    "merge": (
        "merge into copy using (select id, total from orders where total > 0 /* batch */) as o"
        " on copy.id = o.id when not matched then insert values (o.id, o.total)",
        f"lock table copy in exclusive mode; {LOCK_COPY}",
    ),
}
SLOWLY = ("--batch-time", "1ms", "--batch-load", "10%")


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    database.execute(TABLE)
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def rows_done(database: Database) -> int:
    """Count what a backfill that is under way has done; 0 before and after it."""
    if database.rows("select to_regclass('migration_versions') is null") == [(True,)]:
        return 0
    done = database.rows(
        "select progress->>'rows' from migration_versions where progress is not null"
    )
    return int(done[0][0]) if done else 0


@pytest.mark.parametrize("option", ["backfill orders", "backfill orders by id"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_statement_that_was_killed_goes_on_with_the_next_batch(
    runs: Runs, write: Write, postgres: Postgres, kind: str, option: str
) -> None:
    database = runs.database
    if kind == "merge" and postgres.version < 15:
        pytest.skip("MERGE is there from version 15 on")
    database.execute(COUNTED)
    statement, lock = KINDS[kind]
    write({"01_a.up.sql": f"{FILE}-- migrator: {option}\n{statement};"})
    run = runs("up", *SLOWLY)
    wait_for(lambda: rows_done(database))
    with holding(database, lock):
        run.says("attempt 1 of")
        run.kill()
    ((done,),) = database.rows("select count(*) from copy")
    assert 0 < done < ROWS
    result = runs("up", *FAST).result()
    assert "resumes after its last batch" in result.stderr
    assert result.exit_code == 0, result.stderr
    assert database.rows("select count(*), sum(total) from copy") == [
        (ROWS, ROWS * (ROWS + 1) // 2)
    ]
    assert database.rows("select count(*), count(distinct id) from changes") == [(ROWS, ROWS)]


@pytest.mark.parametrize(
    "command",
    [
        "vacuum orders",
        "vacuum full orders",
        "cluster orders using orders_pkey",
        f"insert into orders select i, i from generate_series({ROWS + 1}, {2 * ROWS}) i",
    ],
)
def test_a_table_may_be_rewritten_or_grow_meanwhile(runs: Runs, write: Write, command: str) -> None:
    database = runs.database
    write({"01_a.up.sql": FILL})
    run = runs("up", *SLOWLY)
    wait_for(lambda: rows_done(database))
    database.execute(command)
    assert 0 < rows_done(database) < ROWS, "the run has ended before"
    assert run.result().exit_code == 0
    if command.startswith("insert"):
        assert database.rows(WRONG) == [(0,)]
        assert database.rows("select count(*), count(distinct id) from changes") == [
            (2 * ROWS, 2 * ROWS)
        ]
    else:
        check(database)


def test_a_foreign_table_is_refused_also_as_a_partition(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        """create foreign data wrapper w; create server s foreign data wrapper w;
        create foreign table away (total int, cents int) server s;
        create table orders (total int, cents int) partition by list (total);
        create table near partition of orders for values in (1, 2) partition by list (total);
        create foreign table far partition of near for values in (2) server s"""
    )
    write({"01_a.up.sql": FILL})
    result = migrate("up")
    assert result.exit_code == 1
    assert "orders has a partition that is a foreign table" in result.stderr
    write({"01_a.up.sql": FILL.replace("orders", "away")})
    result = migrate("up")
    assert result.exit_code == 1
    assert "away is a foreign table: only a table has batches" in result.stderr
