"""The tables that a statement writes by its text."""

from __future__ import annotations

import pytest

from migrator.sql.splitter import split
from migrator.sql.writes import Write, writes

T = ("t",)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("update t set a = 1", [Write("update", T, is_whole=True, columns=("a",))]),
        ("update t as x set a = 1 where true", [Write("update", T, is_whole=True, columns=("a",))]),
        ("update only s.t x set a = 1 where b", [Write("update", ("s", "t"), columns=("a",))]),
        (
            'update "T" set ("A", b) = (1, 2), c[1] = d',
            [Write("update", ("T",), is_whole=True, columns=("A", "b", "c"))],
        ),
        (
            "update t set a = (select b from c where d)",
            [Write("update", T, is_whole=True, columns=("a",))],
        ),
        ("update t set a = b.a from b where b.id = t.id", [Write("update", T, columns=("a",))]),
        ("delete from t", [Write("delete", T, is_whole=True)]),
        ("delete from t where 1 = 1 returning *", [Write("delete", T, is_whole=True)]),
        ("delete from t using u where t.id = u.id", [Write("delete", T)]),
        ("insert into t (a) values (1)", [Write("insert", T, columns=("a",))]),
        (
            'insert into t as u (a, "B c", d.e) values (1, (2), 3)',
            [Write("insert", T, columns=("a", "B c", "d"))],
        ),
        ("insert into t default values", [Write("insert", T)]),
        (
            "insert into t values (1) on conflict (a) do update set a = 2",
            [Write("insert", T, handles_conflict=True)],
        ),
        (
            "insert into t (a) select 1",
            [Write("insert", T, is_query=True, columns=("a",))],
        ),
        ("insert into t (select 1)", [Write("insert", T, is_query=True)]),
        ("insert into t with x as (values (1)) table x", [Write("insert", T, is_query=True)]),
        (
            "with x as (delete from t returning *) insert into u select * from x",
            [Write("delete", T, is_whole=True), Write("insert", ("u",), is_query=True)],
        ),
        (
            "merge into t using s on a = b when matched and c then update set a = 1 "
            "when matched then delete when not matched then insert values (1)",
            [Write("update", T), Write("delete", T), Write("insert", T)],
        ),
        ("copy t (a) from stdin", [Write("copy", T)]),
        ("copy t to stdout", []),
        (
            "do $x$ begin update t set a = 1; if b then delete from u where c; end if; end $x$",
            [Write("update", T, is_whole=True, columns=("a",)), Write("delete", ("u",))],
        ),
        ("do 'begin delete from t; end'", [Write("delete", T, is_whole=True)]),
        ("with x as (select 1 from t for update) select * from x", []),
        ("select * from t for update", []),
        ("create rule r as on delete to t do instead delete from u", []),
        ("create trigger g before update of a on t execute function f()", []),
        ("alter table t add foreign key (a) references u on delete cascade", []),
        ("update", []),
        ("delete from", [Write("delete", (), is_whole=True)]),
    ],
)
def test_a_statement_tells_what_it_writes(sql: str, expected: list[Write]) -> None:
    (statement,) = split(f"{sql};")
    assert list(writes(statement)) == expected


@pytest.mark.parametrize(
    ("name", "relation", "is_of"),
    [
        (("t",), "s.t", True),
        (("s", "t"), "s.t", True),
        (("d", "s", "t"), "s.t", True),
        (("r", "t"), "s.t", False),
        (("order",), 's."order"', True),
        (("T",), 's."T"', True),
        (("t",), 's."T"', False),
    ],
)
def test_a_name_is_compared_as_the_catalog_has_it(
    name: tuple[str, ...], relation: str, is_of: bool
) -> None:
    assert Write("update", name).is_of(relation) is is_of
