"""What `down` says it is about to remove, before it does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import Database, Migrate, Result, Write

UP = """
create table payments (id int, note text);
insert into payments select 1 from generate_series(1, 1000);
create table old (a int);
create schema app;
create table app.one ();
create table app.two ();
create table parts (a int) partition by list (a);
create table parts_1 partition of parts for values in (1);
create table logs (a int);
insert into logs values (1);
"""
DOWN = """
drop table payments;
alter table old drop a;
drop schema app cascade;
truncate parts;
delete from logs where a = 1;
drop table if exists nowhere;
"""
SIZES = {"payments": 1_000_000, "old": 0, "parts_1": 20_000, "logs": 1}


@pytest.fixture
def reverted(migrate: Migrate, write: Write, database: Database) -> Migrate:
    """The program with one applied migration, whose tables the statistics call large."""
    write({"01_a.up.sql": UP, "01_a.down.sql": DOWN})
    assert migrate("up").exit_code == 0
    for table, rows in SIZES.items():
        database.execute(
            f"update pg_class set reltuples = {rows}, relpages = 1 where relname = '{table}'"
        )
    return migrate


TEXTS = [
    r"drops public\.payments, 1\.0 M rows, \d+ kB",
    r"drops column a of public\.old, 0 rows, 0 bytes",
    r"drops schema app, 2 tables, 0 bytes",
    r"also drops everything that depends on app",
    r"empties public\.parts, 20 k rows, 0 bytes",
    r"deletes rows of public\.logs, 1 row, 8192 bytes",
    r"drops nowhere",
]


def losing(result: Result) -> list[Mapping[str, Any]]:
    events = [json.loads(line) for line in result.stderr.splitlines()]
    return [event for event in events if event["event"] == "losing"]


def test_down_says_what_goes_before_it_runs(reverted: Migrate) -> None:
    result = reverted("down")
    assert result.exit_code == 0, result.stderr
    before, _, _ = result.stderr.partition("reverted ")
    lines = [line for line in before.splitlines() if line.startswith("01_a: ")]
    assert len(lines) == len(TEXTS)
    for line, text in zip(lines, TEXTS, strict=True):
        assert re.fullmatch(rf"01_a: {text} \(line \d\)", line), line
    assert result.stderr.count("payments") == 1


def test_a_table_that_several_statements_name_is_counted_once(
    database: Database, migrate: Migrate, write: Write
) -> None:
    up = "create table t (a int); insert into t select generate_series(1, 100);"
    write({"01_a.up.sql": up, "01_a.down.sql": "truncate t; delete from t; drop table t;"})
    assert migrate("up").exit_code == 0
    database.execute("analyze t")
    assert "01_a: drops public.t, 100 rows, 8192 bytes (line 1)" in migrate("down").stderr


def test_the_events_the_result_and_the_log_say_it_too(reverted: Migrate) -> None:
    result = reverted("down", "--json")
    events = losing(result)
    assert [(event["line"], event["rows"]) for event in events] == [
        (2, 1_000_000),
        (3, 0),
        (4, None),
        (4, None),
        (5, 20_000),
        (6, 1),
        (7, None),
    ]
    (step,) = result.json["steps"]
    assert [loss["text"] for loss in step["losses"]] == [event["text"] for event in events]
    shown = reverted("log", "-n", "1").stdout
    assert re.search(r"down 01_a: done.*\n    note: drops public\.payments, 1\.0 M rows, ", shown)


def test_a_dry_run_shows_it_beside_the_statements(reverted: Migrate) -> None:
    text = reverted("down", "--dry-run").stdout
    assert re.search(r"^-- drops public\.payments, 1\.0 M rows, \d+ kB$", text, re.MULTILINE)
    (step,) = reverted("down", "--dry-run", "--json").json["steps"]
    assert [loss["rows"] for loss in step["losses"]][:2] == [1_000_000, 0]
    assert reverted.database.rows("select count(*) from payments") == [(1000,)]


def test_an_unqualified_name_is_not_looked_up_after_the_script_has_set_the_search_path(
    migrate: Migrate, write: Write
) -> None:
    down = "drop table a; set local search_path = s; drop table a; drop table public.b;"
    write(
        {
            "01_a.up.sql": "create schema s; create table s.a (); create table a ();"
            " create table b ();",
            "01_a.down.sql": down,
        }
    )
    migrate("up")
    texts = [event["text"] for event in losing(migrate("down", "--json"))]
    assert texts == ["drops public.a, 0 bytes", "drops a", "drops public.b, 0 bytes"]


def test_redo_says_it_as_well(reverted: Migrate) -> None:
    assert "01_a: drops public.payments, 1.0 M rows" in reverted("redo").stderr


def test_a_locked_table_is_said_to_go_without_its_size(
    migrate: Migrate, write: Write, database: Database
) -> None:
    write({"01_a.up.sql": "create table a ();", "01_a.down.sql": "drop table a;"})
    migrate("up")
    with database.connect() as conn:
        conn.execute("begin; lock table a")
        result = migrate("down", "--lock-timeout", "10ms", "--lock-attempts", "1")
    assert result.exit_code == 5
    assert "01_a: drops a (line 1)\n" in result.stderr


def test_verify_says_that_a_down_file_differs_from_the_stored_script(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": "drop table a;",
            "02_b.up.sql": "create table b ();",
            "02_b.down.sql": "drop table b;",
        }
    )
    migrate("up")
    assert "differ" not in migrate("verify").stdout
    write({"01_a.down.sql": "drop table a cascade;", "02_b.down.sql": "-- b\ndrop table b"})
    result = migrate("verify")
    assert result.exit_code == 0
    assert "when the migration was applied: 01_a; the stored script will run" in result.stdout
