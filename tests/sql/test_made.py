"""What the statements of a script create and drop, by name."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.sql import made, parser

CREATED = [
    ("create view v as select 1", "view v"),
    ("create or replace view s.v as select 1", "view s.v"),
    ("create recursive view v (n) as select 1", "view v"),
    ("create materialized view if not exists m as select 1", "view m"),
    ('create table if not exists "A b" ()', 'table "A b"'),
    ("create temporary view v as select 1", ""),
    ("create temp table t ()", ""),
    ("create or replace function f(a int) returns int language sql return 1", "function f"),
    ("create policy p on only s.t using (true)", "policy p on s.t"),
    ("create or replace rule r as on delete to t do instead nothing", "rule r on t"),
    (
        "create constraint trigger c after insert on t for each row execute function f()",
        "trigger c on t",
    ),
    ("create unique index concurrently if not exists i on t (a)", "index i"),
    ("create index on t (a)", ""),
    ("create extension citext", ""),
    ("create", ""),
    ("insert into t select 'create view v'", ""),
]
DROPPED = [
    ("drop view if exists v, s.w cascade", "view v, view s.w"),
    ("drop materialized view m", "view m"),
    ("drop function f(int, text), g", "function f, function g"),
    ("drop trigger if exists c on t", "trigger c on t"),
    ("drop index concurrently if exists i", "index i"),
    ("drop role r", ""),
    ("drop", ""),
]
SAME = [
    ("create view v as select 1", "create table public.v ()", True),
    ("create view a.v as select 1", "create view v as select 1", False),
    ("create view v as select 1", "create view w as select 1", False),
    ("create view v as select 1", "create function v() returns int return 1", False),
    ("create function f(a int) returns int return 1", "drop routine f", True),
    ("create function f(a int) returns int return 1", "drop function f(int)", True),
    ("create function f(a int) returns int return 1", "drop function f(text)", False),
    ("create function f(int) returns int return 1", "drop function f(text)", False),
    ("create function f(a int) returns int return 1", "drop function f(integer)", True),
    ("create function f(a int, b int) returns int return 1", "drop function f(int)", False),
    (
        "create function f(a double precision default 1, out b int) return 1",
        "drop function f(double precision)",
        True,
    ),
    ("create function f(a int) returns int return 1", "drop function f(b INT)", True),
    ("create policy p on t", "create policy p on u", False),
    ("create policy p on t", "drop policy p on public.t", True),
]


def of(sql: str) -> list[made.Made]:
    """Return everything that a script creates or drops."""
    script = parser.parse(PurePath("x.sql"), sql)
    return [*made.created(script), *made.dropped(script)]


@pytest.mark.parametrize(("sql", "expected"), CREATED + DROPPED)
def test_what_a_statement_creates_or_drops_is_named(sql: str, expected: str) -> None:
    assert ", ".join(map(str, of(sql))) == expected


@pytest.mark.parametrize(("one", "other", "expected"), SAME)
def test_two_statements_are_about_one_object_if_kind_name_and_arguments_agree(
    one: str, other: str, expected: bool
) -> None:
    (ours,), (theirs,) = of(one), of(other)
    assert (ours.is_same(theirs), theirs.is_same(ours)) == (expected, expected)


def test_a_message_names_an_object_with_or_without_its_schema() -> None:
    known = of('create view api."V"as select 1; create policy v on t; create view w as select 1')
    found = made.named_in(known, 'view api."V" depends on column x of table t')
    assert [str(each) for each in found] == ['view api."V"']
    found = made.named_in(known, 'rule _RETURN on view "V" depends on column "x"')
    assert [str(each) for each in found] == ['view api."V"']


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("drop table a, b; alter table only c add d int", "-table a, -table b, +table c"),
        ("drop schema if exists s cascade", "-schema s"),
        ("alter schema s rename to u", "+schema s"),
        ("alter function f(int) owner to r", "+function f"),
        ("alter policy p on s.t using (true)", "+policy p on s.t"),
        ("create table t (); alter table public.t add a int", ""),
        ("drop table a; set local role r; drop table b", "-table a"),
        ("set search_path = s; drop table b", ""),
        ("select set_config('search_path', 's', true); drop table b", ""),
        ("alter default privileges grant select on tables to r; alter role r login", ""),
    ],
)
def test_what_a_script_alters_or_drops_is_named_as_long_as_role_and_path_are_known(
    sql: str, expected: str
) -> None:
    found = made.changed(parser.parse(PurePath("x.sql"), sql))
    assert ", ".join(f"{'-' if is_drop else '+'}{each}" for each, is_drop in found) == expected
