"""How many rows the pending statements change is asked of the target's planner."""

from __future__ import annotations

import pytest

from tests.conftest import Migrate, Write

from .test_steps import rehearse, start

pytestmark = pytest.mark.slow

THREE = "insert into t select g, 'x' from generate_series(1, 3) g"
THOUSAND = "insert into t select g, repeat('x', 100) from generate_series(1, 1000) g; analyze t"
ROW_HAZARDS = ("rows-deleted", "large-update", "large-insert-select")


def messages(
    migrate: Migrate, write: Write, sql: str, *, setup: str, small: str = "8MB"
) -> list[tuple[str, str]]:
    """Rehearse a script; return severity and message of what it does to rows."""
    start(migrate, write, {"02_p.up.sql": sql}, setup)
    (migration,) = rehearse(migrate, "--json", "--small", small).json["migrations"]
    assert migration["error"] is None
    found = migration["findings"]
    return [(f["severity"], f["message"]) for f in found if f["hazard"] in ROW_HAZARDS]


@pytest.mark.parametrize(
    ("sql", "setup", "severity"),
    [
        ("delete from t;", THREE, "finding"),  # never analyzed
        ("delete from t where true;", THREE, "finding"),
        ("delete from t;", "analyze t", "information"),  # no row
        ("delete from t where id = 1;", THREE, "information"),
        ("update t set phone = '';", THREE, "finding"),
        ("update t set phone = '' where id = 1;", THREE, "information"),
        ("alter table t add a int; update t set a = 1;", THREE, "information"),
        ("alter table t add a int; update t set a = 1, phone = '';", THREE, "finding"),
        ("do $$ begin delete from t; end $$;", THREE, "finding"),
        ("with x as (delete from t returning 1) select count(*) from x;", THREE, "finding"),
        ("insert into t select id + 9, phone from t;", THREE, None),
    ],
)
def test_all_rows_are_a_finding_whatever_the_statistics_say(
    migrate: Migrate, write: Write, sql: str, setup: str, severity: str | None
) -> None:
    found = messages(migrate, write, sql, setup=setup)
    assert [level for level, _ in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("sql", "severity", "message"),
    [
        ("delete from t where id <= 1;", "information", "deletes about 1 row of public.t"),
        ("delete from t where id <= 900;", "finding", "deletes about 900 rows of public.t"),
        ("update t set phone = '' where id > 990;", "information", "updates about 10 rows of"),
        ("update t set phone = '' where id > 100;", "finding", "updates about 900 rows of"),
        ("insert into t select id + 5000, phone from t;", "finding", "inserts about 1000 rows, 1"),
        ("insert into t select id + 5000 from t where id = 1;", None, ""),
        ("set local search_path = s; delete from t where id = 1;", "finding", "s.t"),
        ("alter table t add a int; update t set a = 1 where a is null;", "finding", "updates rows"),
        (
            "create table n as select * from t;",
            "finding",
            "copies rows of public.t (176 kB, 1000 rows)",
        ),
    ],
)
def test_the_targets_planner_says_how_many_rows_have_a_condition(
    migrate: Migrate, write: Write, sql: str, severity: str | None, message: str
) -> None:
    write({"00_s.up.sql": "create schema s; create table s.t (id int);"})
    setup = f"{THOUSAND}; insert into s.t select 1 from generate_series(1, 5000); analyze s.t"
    found = messages(migrate, write, sql, setup=setup, small="50kB")
    assert [level for level, _ in found] == ([severity] if severity else [])
    assert all(message in text for _, text in found)


def test_a_function_that_a_plan_runs_changes_nothing_on_the_target(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "00_f.up.sql": "create table log (a int);\n"
            "create function note() returns void language sql as 'insert into log values (1)';\n"
            "create function sly() returns text immutable language plpgsql as "
            "$$ begin perform note(); return 'x'; end $$;"
        }
    )
    sql = "update t set phone = 'y' where phone = sly();"
    found = messages(migrate, write, sql, setup=THREE)
    assert [level for level, _ in found] == ["information"]
    assert migrate.database.rows("select * from log") == []


@pytest.mark.parametrize(
    ("up", "down", "lost"),
    [
        ("delete from t where id = 1;", "select 1;", ["the rows that it deletes from public.t"]),
        (
            "update t set phone = '' where id = 1;",
            "select 1;",
            ["the values that it overwrites in phone of public.t"],
        ),
        ("truncate t;", "select 1;", ["the rows of public.t"]),
        ("delete from t where id = 1;", "insert into t values (1);", []),
        ("delete from t where id = 1;", "-- migrator: irreversible they are gone", []),
        ("alter table t add a int; update t set a = 1;", "alter table t drop a;", []),
    ],
)
def test_the_down_of_a_migration_that_removes_rows_loses_them(
    migrate: Migrate, write: Write, up: str, down: str, lost: list[str]
) -> None:
    start(migrate, write, {"02_p.up.sql": up, "02_p.down.sql": down}, THREE)
    (migration,) = rehearse(migrate, "--json").json["migrations"]
    found = [f for f in migration["findings"] if f["hazard"] == "down-loses-data"]
    assert [f["message"] for f in found] == [
        f"the down script cannot bring back {each}" for each in lost
    ]
    assert all(f["severity"] == "information" and f["line"] == 1 for f in found)
