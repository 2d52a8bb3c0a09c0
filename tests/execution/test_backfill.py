"""Statements in batches: every row once, whatever interrupts the run or moves the rows."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from random import Random
from threading import Event

import psycopg
import pytest

from tests.conftest import Database, Migrate, Result, Write
from tests.sessions import Run, Runs, applied, history, holding, wait_for, working

FILE = "-- migrator: no-transaction\n"
FILL = f"""{FILE}
-- migrator: backfill orders
update orders set cents = total * 100 where cents is null /* batch */;
"""
ROWS = 3000
# Some 130 blocks.  A trigger counts how often each row is changed.
TABLE = f"""
create table orders (id int primary key, total int not null, cents int) with (fillfactor = 10);
insert into orders select i, i from generate_series(1, {ROWS}) i;
create table changes (id int);
create function note() returns trigger language plpgsql as $$
begin
    if new.cents is distinct from old.cents then insert into changes values (new.id); end if;
    return new;
end $$;
create trigger note after update on orders for each row execute function note();
"""
WRONG = "select count(*) from orders where cents is distinct from total * 100"
TWICE = "select id from changes group by id having count(*) > 1"
SLOW = "case when pg_sleep(0.0005) is not null then cents is null end"  # some 2 s in all
FAST = ("--batch-load", "100%")
SMALL = (*FAST, "--batch-time", "1ms")  # many batches


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


@pytest.fixture
def orders(database: Database) -> Database:
    database.execute(TABLE)
    return database


def check(database: Database) -> None:
    """Check that every row was changed once."""
    assert database.rows(WRONG) == [(0,)]
    assert database.rows(TWICE) == []
    assert database.rows("select count(*) from changes") == [(ROWS,)]


def batches(database: Database) -> int:
    """Count the transactions that have changed the rows."""
    return len(database.rows("select xmin from orders group by 1"))


# What a backfill does


def test_every_row_is_changed_once_in_several_transactions(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": f"{FILL}create table b ();"})
    result = migrate("up", *SMALL)
    assert result.exit_code == 0, result.stderr
    check(orders)
    assert batches(orders) > 2
    assert history(orders) == [("01_a", 2, False, True)]
    assert orders.rows("select progress from migration_versions") == [(None,)]


@pytest.mark.parametrize("command", ["analyze", "truncate nothing"])
def test_a_batch_stays_small_behind_rows_that_need_no_change(
    database: Database, migrate: Migrate, write: Write, command: str
) -> None:
    database.execute(
        "create table nothing (); create table orders (total int, cents int);"
        "insert into orders select i, case when i <= 150000 then i * 100 end"
        " from generate_series(1, 250000) i"
    )
    database.execute(command)
    write({"01_a.up.sql": FILL})
    assert migrate("up", *FAST, "--batch-time", "1min").exit_code == 0
    assert database.rows(WRONG) == [(0,)]
    sizes = database.rows("select count(*) from orders where total > 150000 group by xmin")
    assert max(sizes) <= (50_000,)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_may_be_empty_or_have_one_row(
    database: Database, migrate: Migrate, write: Write, rows: int
) -> None:
    database.execute(f"create table orders as select 1 total, null::int cents limit {rows}")
    write({"01_a.up.sql": FILL})
    assert migrate("up", *FAST).exit_code == 0
    assert database.rows("select cents from orders") == [(100,)] * rows


def test_an_alias_and_a_name_with_capitals_are_those_of_the_statement(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute(
        'create schema app; create table app."Orders" as select i, null::int j'
        " from generate_series(1, 9) i"
    )
    text = """-- migrator: backfill app."Orders" as "order"
update app."Orders" as "order" set j = i from (values (1)) v (x) where j is null /* batch */;"""
    write({"01_a.up.sql": FILE + text})
    result = migrate("up", *FAST)
    assert result.exit_code == 0, result.stderr
    assert database.rows('select count(*) from app."Orders" where i = j') == [(9,)]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into copy select id from orders where total > 5 /* batch */ on conflict do nothing",
        "with gone as (delete from orders where total > 5 /* batch */ returning id)"
        " insert into copy select id from gone",
    ],
)
def test_rows_are_copied_and_moved(
    orders: Database, migrate: Migrate, write: Write, statement: str
) -> None:
    orders.execute("create table copy (id int primary key)")
    write({"01_a.up.sql": f"{FILE}-- migrator: backfill orders\n{statement};"})
    result = migrate("up", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert orders.rows("select count(*) from copy") == [(ROWS - 5,)]


def test_all_partitions_are_walked(database: Database, migrate: Migrate, write: Write) -> None:
    database.execute(
        """create table orders (id int, total int, cents int) partition by hash (id);
        create table o1 partition of orders for values with (modulus 2, remainder 0);
        create table o2 partition of orders for values with (modulus 2, remainder 1)
            partition by hash (id);
        create table o3 partition of o2 for values with (modulus 1, remainder 0);
        insert into orders select i, i from generate_series(1, 20000) i"""
    )
    write({"01_a.up.sql": FILL})
    assert migrate("up", *SMALL).exit_code == 0
    assert database.rows(WRONG) == [(0,)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bigint", "i"),
        ("text", "'é''' || i"),
        ("uuid", "md5(i::text)::uuid"),
        ("timestamptz", "timestamptz '2024-01-01 00:00+02' + i * interval '1 hour'"),
    ],
)
def test_the_values_of_a_column_can_be_walked_by_a_partial_index(
    database: Database, migrate: Migrate, write: Write, kind: str, value: str
) -> None:
    database.execute(
        f"""create table orders as select ({value})::{kind} as k, i as total, null::int as cents
        from generate_series(1, 5000) i;
        alter table orders alter k set not null;
        create index on orders (k) where cents is null"""
    )
    write({"01_a.up.sql": FILL.replace("backfill orders", "backfill orders by k")})
    result = migrate("up", *FAST)
    assert result.exit_code == 0, result.stderr
    assert database.rows(WRONG) == [(0,)]
    assert batches(database) > 2


def test_a_statement_that_limits_itself_is_repeated_until_it_changes_no_row(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    text = """-- migrator: repeat
update orders set cents = total * 100
where id in (select id from orders where cents is null limit 700);"""
    write({"01_a.up.sql": FILE + text})
    result = migrate("up", *FAST)
    assert result.exit_code == 0, result.stderr
    check(orders)
    assert batches(orders) == 5


def test_a_down_script_may_have_batches(orders: Database, migrate: Migrate, write: Write) -> None:
    down = f"""{FILE}-- migrator: backfill orders
update orders set cents = null where cents is not null /* batch */;"""
    write({"01_a.up.sql": FILL, "01_a.down.sql": down})
    assert migrate("up", *SMALL).exit_code == 0
    assert migrate("down", "--yes", *SMALL).exit_code == 0
    assert applied(orders) == []
    assert orders.rows("select count(cents) from orders") == [(0,)]


# Passes


def phases(result: Result) -> list[str]:
    """Name what a run did, without what came several times in turn."""
    events = (json.loads(line) for line in result.stderr.splitlines() if line.startswith("{"))
    said = [event["phase"] for event in events if event["event"] == "progress"]
    return [phase for phase, _ in groupby(said)]


@pytest.mark.parametrize("option", ["backfill orders", "backfill orders by id"])
def test_one_pass_is_enough_where_the_statement_as_written_finds_no_row(
    orders: Database, migrate: Migrate, write: Write, option: str
) -> None:
    write({"01_a.up.sql": FILL.replace("backfill orders", option)})
    result = migrate("up", "--json", *FAST)
    assert result.exit_code == 0, result.stderr
    assert phases(result) == ["pass 1", "final run of the whole statement"]
    check(orders)


def test_another_pass_comes_first_where_the_statement_as_written_takes_long(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": FILL.replace("cents is null", SLOW)})
    result = migrate("up", "--json", *FAST, "--batch-time", "20ms")
    assert result.exit_code == 0, result.stderr
    once_more = "final run of the whole statement"
    assert phases(result) == ["pass 1", once_more, "pass 2", once_more]
    check(orders)


def test_a_statement_timeout_of_the_file_ends_the_statement_as_written(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    text = FILE + "-- migrator: statement-timeout 400ms\n" + FILL.removeprefix(FILE)
    write({"01_a.up.sql": text.replace("cents is null", SLOW)})
    result = migrate("up", *FAST)
    assert result.exit_code == 1
    assert "canceling statement due to statement timeout" in result.stderr


def test_many_rows_are_not_changed_by_the_statement_as_written(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    """A row that a trigger adds for each one that is changed is after the end of the first pass."""
    orders.execute(
        """create function more() returns trigger language plpgsql as $$
        begin insert into orders values (new.id + 10000, new.total); return new; end $$;
        create trigger more after update on orders for each row when (new.id < 10000)
        execute function more()"""
    )
    write({"01_a.up.sql": FILL})
    result = migrate("up", "--json", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "pass 2" in phases(result)
    assert orders.rows(WRONG) == [(0,)]
    assert orders.rows(TWICE) == []
    (most,) = orders.rows(
        "select max(c) from (select count(*) c from orders group by xmin::text) s"
    )
    assert most[0] < ROWS // 2


# What is refused


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("backfill nothing", "table nothing does not exist"),
        ("backfill seen", "seen is a view: only a table has batches"),
        ("backfill orders by nothing", "has no column nothing"),
        ("backfill orders by total", "has no index that serves the batches"),
        ("backfill orders by cents", "may be null"),
    ],
)
def test_what_has_no_ranges_is_refused_with_its_place(
    orders: Database, migrate: Migrate, write: Write, option: str, reason: str
) -> None:
    orders.execute("create view seen as select * from orders")
    write({"01_a.up.sql": FILL.replace("backfill orders", option)})
    result = migrate("up")
    assert result.exit_code == 1
    assert f"01_a.up.sql:4:1: {reason}" in result.stderr or reason in result.stderr
    assert orders.rows("select count(*) from changes") == [(0,)]


def test_a_statement_that_changes_the_same_rows_again_and_again_is_stopped(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": FILL.replace("cents is null", "total > 0")})
    result = migrate("up", *FAST)
    assert result.exit_code == 1
    assert "pass 3 over public.orders still changed 3,000 rows" in result.stderr
    assert "make the WHERE exclude the rows" in result.stderr
    assert "the statements and batches before it are done and recorded" in result.stderr
    write({"01_a.up.sql": FILL})
    assert migrate("up", *FAST).exit_code == 0


@pytest.mark.parametrize(
    ("options", "setting", "expected"),
    [
        (("--lock-timeout", "100ms"), "lock_timeout", {"100ms"}),
        (("--lock-timeout", "2s"), "lock_timeout", {"500ms"}),
        (("--lock-timeout", "0"), "lock_timeout", {"500ms"}),
        (("--batch-time", "0"), "statement_timeout", {"0", "10ms"}),
    ],
)
def test_neither_a_batch_nor_the_whole_statement_runs_without_limits(
    orders: Database,
    migrate: Migrate,
    write: Write,
    options: tuple[str, str],
    setting: str,
    expected: set[str],
) -> None:
    orders.execute(
        "create table seen (value text);"
        "create function see() returns trigger language plpgsql as $$ begin"
        f" insert into seen values (current_setting('{setting}')); return null; end $$;"
        "create trigger see before update on orders for each statement execute function see()"
    )
    write({"01_a.up.sql": FILL})
    result = migrate("up", *FAST, *options)
    assert result.exit_code == 0, result.stderr
    assert {value for (value,) in orders.rows("select distinct value from seen")} == expected


def test_an_error_after_the_placeholder_has_its_place_in_the_file(
    orders: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": FILL.replace("*/;", "*/ returning nothing;")})
    result = migrate("up")
    assert result.exit_code == 1
    column = "update orders set cents = total * 100 where cents is null /* batch */ returning "
    assert f'01_a.up.sql:4:{len(column) + 1}: column "nothing" does not exist' in result.stderr


# A rehearsal


def test_a_rehearsal_traces_the_first_batch_as_a_note(migrate: Migrate, write: Write) -> None:
    create = "create table orders as select i as total, null::int as cents"
    write({"01_a.up.sql": f"{create} from generate_series(1, 9) i;"})
    assert migrate("up").exit_code == 0
    write({"02_a.up.sql": FILL})
    result = migrate("rehearse", "--small", "0", "--json")
    assert result.exit_code == 0, result.stderr
    (migration,) = result.json["migrations"]
    (statement,) = migration["statements"]
    assert statement["line"] == 4
    assert "/* batch */" in statement["sql"]
    (finding,) = migration["findings"]
    assert (finding["hazard"], finding["severity"]) == ("large-update", "information")
    assert "in batches" in finding["message"]


# Interruptions


def interrupt(database: Database, run: Run, how: str) -> None:
    run.says("attempt 1 of")
    match how:
        case "signalled":
            run.signal(signal.SIGTERM)
        case "killed":
            run.kill()
        case "terminated":
            database.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
                " and application_name <> 'report'"
            )
    run.process.wait(20)


@pytest.mark.slow
def test_status_tells_a_run_that_is_under_way_from_an_interrupted_one(
    orders: Database, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": FILL})
    with holding(orders, f"select from orders where id = {ROWS} for update"):
        run = runs("up", *SMALL)
        run.says("attempt 1 of")
        text, found = runs("status").result().stdout, runs("status", "--json").result().json
        run.kill()
        run.process.wait(20)
    assert "01_a: backfill of public.orders: " in text
    assert "a run is under way (pid " in text
    assert "migrator verify" not in text
    assert found["versions"][0]["progress"]["rows"] > 0
    (logged,) = runs("log", "--json").result().json
    assert logged["outcome"] == "started"
    assert logged["message"] == "backfill public.orders, after 0 rows"
    assert len(found["runners"]) == 2
    wait_for(lambda: not runs("status", "--json").result().json["runners"])
    assert "migrator verify" in runs("status").result().stdout


@pytest.mark.slow
@pytest.mark.parametrize("how", ["signalled", "killed", "terminated"])
@pytest.mark.parametrize("option", ["backfill orders", "backfill orders by id"])
def test_the_next_run_goes_on_with_the_next_batch(
    orders: Database, runs: Runs, write: Write, how: str, option: str
) -> None:
    write({"01_a.up.sql": FILL.replace("backfill orders", option)})
    with holding(orders, f"select from orders where id = {ROWS} for update"):
        run = runs("up", *SMALL)
        interrupt(orders, run, how)
    done = orders.rows("select count(*) from changes")
    assert 0 < done[0][0] < ROWS
    (status,) = runs("status", "--json").result().json["versions"]
    assert status["state"] == "interrupted"
    assert status["progress"]["table"] == "public.orders"
    assert status["progress"]["done"] > 0
    result = runs("up", *FAST).result()
    assert result.exit_code == 0, result.stderr
    assert "resumes after its last batch" in result.stderr
    check(orders)


@pytest.mark.slow
def test_an_edited_statement_begins_again(orders: Database, runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": FILL})
    with holding(orders, f"select from orders where id = {ROWS} for update"):
        run = runs("up", *SMALL)
        interrupt(orders, run, "killed")
    write({"01_a.up.sql": FILL.replace("total * 100", "total * 100 + 0")})
    result = runs("up", *FAST).result()
    assert "has been edited: its batches start over" in result.stderr
    check(orders)


@pytest.mark.slow
def test_an_interrupted_down_is_gone_on_with(orders: Database, runs: Runs, write: Write) -> None:
    down = f"""{FILE}-- migrator: backfill orders
update orders set cents = null where cents is not null /* batch */;"""
    write({"01_a.up.sql": FILL, "01_a.down.sql": down})
    assert runs("up", *FAST).result().exit_code == 0
    orders.execute("truncate changes")
    with holding(orders, f"select from orders where id = {ROWS} for update"):
        run = runs("down", *SMALL)
        interrupt(orders, run, "killed")
    (status,) = runs("status", "--json").result().json["versions"]
    assert status["state"] == "interrupted"
    assert "partly reverted" in runs("up").result().stderr
    assert runs("down", *FAST).result().exit_code == 0
    assert orders.rows(TWICE) == []
    assert orders.rows("select count(*) from changes") == [(ROWS,)]


@pytest.mark.slow
def test_rows_that_are_moved_meanwhile_are_not_left_out(
    orders: Database, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": FILL})
    with holding(orders, f"select from orders where id = {ROWS // 2} for update"):
        run = runs("up", *SMALL)
        run.says("attempt 1 of")
        # The space of the deleted rows is before the place where the pass has come to.
        orders.execute(
            f"delete from orders where id < 50; insert into orders values (-1, 1), (-2, 1);"
            f"update orders set total = total where id > {ROWS - 20}"
        )
    assert run.result().exit_code == 0
    assert orders.rows(WRONG) == [(0,)]
    assert orders.rows(TWICE) == []


@pytest.mark.slow
def test_every_row_is_changed_once_while_others_write(
    orders: Database, runs: Runs, write: Write
) -> None:
    """The writers move rows, delete some, and insert such as the new application does."""
    write({"01_a.up.sql": FILL})
    stop = Event()
    insert = "insert into orders values (%s, %s, %s) on conflict do nothing"

    def work(seed: int) -> None:
        ids = Random(seed)
        with orders.connect() as conn:
            while not stop.is_set():
                at = ids.randint(1, ROWS)
                conn.execute("update orders set total = total where id = %s", [at])
                if at % 10 == 0:
                    conn.execute("delete from orders where id = %s", [at])
                    conn.execute(insert, [at, at, at * 100])

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(work, seed) for seed in range(3)]
        try:
            result = runs("up", "--batch-time", "5ms").result()
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    assert result.exit_code == 0, result.stderr
    assert orders.rows(WRONG) == [(0,)]
    assert orders.rows(TWICE) == []


@pytest.mark.slow
def test_a_pause_has_its_reason(orders: Database, runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": FILL})
    with orders.connect() as conn, ThreadPoolExecutor(2) as pool:
        other = orders.connect()
        waits = [pool.submit(each.execute, "select pg_sleep(60)") for each in (conn, other)]
        wait_for(lambda: working(orders, "pg_sleep"))
        run = runs("up", "--max-active", "1", *FAST)
        run.says("waiting for other sessions: ")
        assert run.process.poll() is None
        for each in (conn, other):
            each.cancel()
        for wait in waits:
            with suppress(psycopg.errors.QueryCanceled):
                wait.result()
        other.close()
    assert run.result().exit_code == 0
    check(orders)


@pytest.mark.slow
def test_a_table_may_be_truncated_meanwhile(orders: Database, runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": FILL})
    with holding(orders, f"select from orders where id = {ROWS} for update"):
        run = runs("up", *SMALL)
        run.says("attempt 1 of")
    wait_for(lambda: run.process.poll() is not None or _truncated(orders))
    assert run.result().exit_code == 0
    assert orders.rows(WRONG) == [(0,)]


def _truncated(database: Database) -> bool:
    database.execute("truncate orders")
    return True
