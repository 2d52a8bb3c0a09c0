"""What a script names and is about to remove."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from migrator.hazards import losses
from migrator.hazards.catalogue import Size
from migrator.sql import splitter

DEPENDENT = "also drops everything that depends on"
UNKNOWN = "may remove more than can be listed in advance: runs"


@pytest.mark.parametrize(
    ("sql", "texts"),
    [
        ('drop table if exists a, public."B c";', ["drops a", 'drops public."B c"']),
        ("drop table a cascade;", ["drops a", f"{DEPENDENT} a"]),
        ("DROP TABLE a;", ["drops a"]),
        ("drop materialized view if exists m;", ["drops m"]),
        ("drop schema if exists app, old;", ["drops schema app", "drops schema old"]),
        ("drop schema app cascade;", ["drops schema app", f"{DEPENDENT} app"]),
        ("drop type if exists s.t, u cascade;", [f"{DEPENDENT} s.t", f"{DEPENDENT} u"]),
        ("drop function f(int, text) cascade;", [f"{DEPENDENT} f"]),
        ("drop materialized view m cascade;", ["drops m", f"{DEPENDENT} m"]),
        ("drop owned by app cascade;", ["drops everything that is owned by app"]),
        ("do $$ begin execute 'drop table a'; end $$;", [f"{UNKNOWN} DO"]),
        ("call purge();", [f"{UNKNOWN} CALL"]),
        ("drop owned by app;", ["drops everything that is owned by app"]),
        ("truncate table only a, b.c * restart identity;", ["empties a", "empties b.c"]),
        ("truncate a cascade;", ["empties a", "also empties every table that refers to a"]),
        ("delete from only a;", ["empties a"]),
        ("delete from a where id = 1;", ["deletes rows of a"]),
        ("delete from a using b;", ["deletes rows of a"]),
        ("with x as (delete from a returning *) insert into b table x;", ["empties a"]),
        ("alter table a drop b;", ["drops column b of a"]),
        (
            'alter table if exists only s.a drop column if exists "B" cascade, add c numeric(1, 2),'
            " drop constraint d, alter e drop not null, alter f drop default, drop g;",
            ['drops column "B" of s.a', f'{DEPENDENT} "B" of s.a', "drops column g of s.a"],
        ),
        ("alter table a /* drop x */ drop -- y\n z;", ["drops column z of a"]),
        ("create table t (a int references b on delete cascade);", []),
        ("create rule r as on delete to a do instead delete from b;", []),
        ("drop view v;", []),
        ("drop function f();", []),
        ("select 'drop table a';", []),
        ("drop", []),
        ("alter table a", []),
    ],
)
def test_a_statement_tells_what_it_removes(sql: str, texts: Sequence[str]) -> None:
    (statement,) = splitter.split(sql)
    assert [loss.text(loss.name, None) for loss in losses.find(statement)] == texts


@pytest.mark.parametrize(
    ("name", "is_known"),
    [("a", True), ('s."A b"', True), ("a.b.c", False), ('U&"\\0061"', False), ("a b", False)],
)
def test_only_a_plain_name_is_looked_up(name: str, is_known: bool) -> None:
    (statement,) = splitter.split("drop table a")
    loss = losses.Loss(statement, losses.Kind.TABLE, name)
    assert loss.is_known_by_name is is_known


def test_an_unknown_number_of_rows_is_left_out() -> None:
    (statement,) = splitter.split("drop table a")
    (loss,) = losses.find(statement)
    assert loss.text("public.a", Size(8192)) == "drops public.a, 8192 bytes"
    assert loss.text("s", Size(0, 0), 1) == "drops s, 1 table, 0 rows, 0 bytes"
