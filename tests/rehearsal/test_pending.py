"""What pending migrations make is weighed as what no application uses yet, across files."""

from __future__ import annotations

import pytest

from tests.conftest import Migrate, Write

from .test_steps import hazards, rehearse, start

pytestmark = pytest.mark.slow


def found(migrate: Migrate, write: Write, *scripts: str) -> list[tuple[str, str]]:
    """Rehearse scripts as migrations of their own; return version and hazard of open findings."""
    start(migrate, write, {f"{number:02}_p.up.sql": sql for number, sql in enumerate(scripts, 2)})
    result = rehearse(migrate, "--json")
    assert not any(each["error"] for each in result.json["migrations"])
    return [
        (version[:2], hazard) for version, hazard, level in hazards(result) if level == "finding"
    ]


@pytest.mark.parametrize(
    ("made", "then"),
    [
        ("create table n (a int);", "drop table n;"),
        ("create table n (a int);", "truncate n;"),
        ("create table n (a int);", "alter table n drop a;"),
        ("create table n (a int);", "alter table n rename a to b;"),
        ("create table n (a int);", "alter table n rename to m;"),
        ("create table n (a int);", "alter table n add b int not null;"),
        ("create table n (a int);", "alter table n alter a type text; insert into n values ('');"),
        ("create table n (a int unique);", "alter table n drop constraint n_a_key;"),
        ("create table n (a int); alter table n rename to m;", "drop table m;"),
        ("create materialized view n as select 1 as a;", "drop materialized view n;"),
        ("create view n as select 1 as a;", "drop view n;"),
        ("create view n as select 1 as a;", "alter view n rename to m;"),
        ("create sequence n;", "drop sequence n;"),
        ("create function n() returns int return 1;", "drop function n();"),
        ("create function n() returns int return 1;", "alter function n() rename to m;"),
        ("create type n as enum ('a');", "alter type n rename value 'a' to 'b';"),
        ("create type n as enum ('a'); alter type n rename to m;", "drop type m;"),
        ("create schema n;", "drop schema n;"),
        ("alter table t add a int;", "alter table t drop a;"),
        ("alter table t add a int;", "alter table t rename a to b;"),
        ("alter table t add a int; alter table t rename a to b;", "alter table t drop b;"),
        (
            "alter table t add constraint n unique using index i;",
            "alter table t drop constraint n;",
        ),
    ],
)
def test_what_an_earlier_pending_migration_made_is_no_finding(
    migrate: Migrate, write: Write, made: str, then: str
) -> None:
    if "return 1" in made:
        made = made.replace("return 1", "language sql as 'select 1'")
    first = "create unique index concurrently i on t (id);" * ("using index" in made)
    scripts = [f"-- migrator: no-transaction\n{first}", made, then] if first else [made, then]
    assert [each for each in found(migrate, write, *scripts) if "lock-held" not in each] == []


@pytest.mark.parametrize(
    ("made", "then", "hazard"),
    [
        ("create table n (a int);", "drop table t;", "table-dropped"),
        ("create table n (a int); drop table n;", "alter table t drop phone;", "column-dropped"),
        ("alter table t add a int;", "alter table t drop phone;", "column-dropped"),
        ("alter table t rename phone to a;", "alter table t drop a;", "column-dropped"),
        ("create index concurrently n on t (phone);", "drop index n;", "index-dropped-blocking"),
    ],
)
def test_what_was_there_remains_a_finding(
    migrate: Migrate, write: Write, made: str, then: str, hazard: str
) -> None:
    made = f"-- migrator: no-transaction\n{made}" if "concurrently" in made else made
    assert ("03", hazard) in found(migrate, write, made, then)


KEY = "create table n (a int references t);"


@pytest.mark.parametrize(
    "later",
    [
        "alter table n drop constraint n_a_fkey;",
        "drop table n;",
        "alter table n drop a;",
        "create index on n (a);",
        "alter table n rename to m; create index on m (a);",
        "alter table n rename a to b; create index on n (b);",
        "alter table n rename to m; alter table m drop constraint n_a_fkey;",
    ],
)
def test_a_foreign_key_that_a_later_migration_settles_needs_no_index(
    migrate: Migrate, write: Write, later: str
) -> None:
    assert found(migrate, write, KEY, later) == []


@pytest.mark.parametrize(
    "later", ["alter table n rename to m;", "alter table n add b int; create index on n (b);"]
)
def test_a_foreign_key_that_remains_needs_an_index(
    migrate: Migrate, write: Write, later: str
) -> None:
    assert found(migrate, write, KEY, later) == [("02", "foreign-key-without-index")]


def test_a_foreign_key_is_judged_by_the_up_of_a_migration_whose_second_up_fails(
    migrate: Migrate, write: Write
) -> None:
    stuck = {
        "02_p.up.sql": "create sequence s;" + KEY,
        "02_p.down.sql": "drop table n;",
        "03_p.up.sql": "select 1;",
    }
    start(migrate, write, stuck)
    result = rehearse(migrate, "--json")
    assert ("02_p", "foreign-key-without-index", "finding") in hazards(result)
    write({"03_p.up.sql": "create index on n (a);"})
    assert ("02_p", "foreign-key-without-index", "finding") not in hazards(
        rehearse(migrate, "--json")
    )


def test_dropping_an_index_concurrently_reads_nothing(migrate: Migrate, write: Write) -> None:
    text = "-- migrator: no-transaction\ndrop index concurrently i;"
    start(migrate, write, {"02_p.up.sql": text}, "create index i on t (phone)")
    (finding,) = rehearse(migrate, "--json", "--from-target").json["migrations"][0]["findings"]
    assert finding["message"] == (
        "runs outside a transaction: waits for older transactions; if it fails, what it did remains"
    )


def test_a_table_that_is_locked_and_empty_on_the_scratch_has_a_line_for_each_write(
    migrate: Migrate, write: Write
) -> None:
    text = "alter table t add a int;\nupdate t set a = 1 where id = 3;\ndelete from t where id = 4;"
    start(migrate, write, {"02_p.up.sql": text})
    result = rehearse(migrate, "--json")
    traces = [each["trace"] for each in result.json["migrations"][0]["statements"]]
    written = [[t["written"] for t in trace["touches"] if t.get("written")] for trace in traces]
    assert written == [[], [True], [True]]
    held = [f for f in result.json["migrations"][0]["findings"] if f["hazard"] == "lock-held"]
    assert "line 2 writes public.t; line 3 writes public.t" in held[0]["message"]
