"""Snapshots compared: a table, without a server."""

from __future__ import annotations

import pytest

from migrator.rehearsal.schema import (
    ROLE_KINDS,
    Change,
    Schema,
    SchemaObject,
    compare,
    lines,
    recreated,
)


def table(name: str = "users", *, oid: int = 1, definition: str = "") -> SchemaObject:
    return SchemaObject("table", f"public.{name}", definition, str(oid))


def column(
    name: str,
    definition: str = "text",
    *,
    at: int = 1,
    oid: int = 1,
    of: str = "users",
    inherits: str | None = None,
) -> SchemaObject:
    parents = [f"table public.{of}", *([f"column public.{inherits}.{name}"] if inherits else [])]
    return SchemaObject(
        "column", f"public.{of}.{name}", definition, f"{oid}.{at}", tuple(parents), at
    )


def index(name: str, definition: str = "btree (email)") -> SchemaObject:
    return SchemaObject("index", f"public.{name}", definition, "", ("table public.users",))


def owner(name: str) -> SchemaObject:
    return SchemaObject("owner", "table public.users", name, "", ("table public.users",))


USERS = (table(), column("id", "bigint"), column("email", at=2))

COMPARED: list[tuple[Schema, Schema, list[str]]] = [
    ((), (), []),
    (USERS, USERS, []),
    (USERS, USERS[::-1], []),
    ((), USERS, ["table public.users: added (with 2 × column)"]),
    (USERS, (), ["table public.users: removed (with 2 × column)"]),
    (USERS, (*USERS, column("phone", at=3)), ["column public.users.phone: added"]),
    (
        USERS,
        (table(), column("id", "bigint"), column("email", "text not null", at=2)),
        ["column public.users.email: changed", "  - text", "  + text not null"],
    ),
    # re-added in the last place
    (USERS, (*USERS[:2], column("email", at=3)), []),
    # another one between them is no other order
    (
        USERS,
        (table(), column("id", "bigint"), column("a", at=2), column("email", at=3)),
        ["column public.users.a: added"],
    ),
    (
        USERS,
        (table(), column("id", "bigint", at=4), column("email", at=2)),
        ["column order public.users: changed", "  - id, email", "  + email, id"],
    ),
    # a table's parts follow it, from the outside in; the next table follows those
    (
        (*USERS, table("zebras")),
        (*USERS[:2], index("an_index"), index("users_email"), table("apes")),
        [
            "table public.apes: added",
            "column public.users.email: removed",
            "index public.an_index: added",
            "index public.users_email: added",
            "table public.zebras: removed",
        ],
    ),
    # what a partition inherits is its parent's change
    (
        (column("note", of="all"), column("note", "text inherited", of="part", inherits="all")),
        (
            column("note", "text not null", of="all"),
            column("note", "text not null inherited", of="part", inherits="all"),
        ),
        ["column public.all.note: changed (with 1 × column)", "  - text", "  + text not null"],
    ),
    # and not what was changed otherwise there
    (
        (column("note", of="all"), column("note", "text inherited", of="part", inherits="all")),
        (
            column("note", "text not null", of="all"),
            column("note", "text default 1 inherited", of="part", inherits="all"),
        ),
        [
            "column public.all.note: changed",
            "  - text",
            "  + text not null",
            "column public.part.note: changed",
            "  - text inherited",
            "  + text default 1 inherited",
        ],
    ),
    # a long definition shows its changed lines, with one around them
    (
        (SchemaObject("view", "v", "a\nb\nc\nd\ne\nf\ng"),),
        (SchemaObject("view", "v", "a\nB\nc\nd\ne\nf\nG"),),
        ["view v: changed", "    a", "  - b", "  + B", "    c", "  …", "    f", "  - g", "  + G"],
    ),
]


@pytest.mark.parametrize(("before", "after", "expected"), COMPARED)
def test_differences_read_as_lines(before: Schema, after: Schema, expected: list[str]) -> None:
    assert list(lines(compare(before, after))) == expected


def test_a_difference_has_both_definitions() -> None:
    (found,) = compare([index("i", "old")], [index("i", "new")])
    assert (found.change, found.before, found.after) == (Change.CHANGED, "old", "new")


def test_kinds_can_be_left_out() -> None:
    before, after = [table(), owner("app")], [table(), owner("postgres")]
    assert [each.label for each in compare(before, after)] == ["owner table public.users"]
    assert compare(before, after, leave_out=ROLE_KINDS) == ()


def test_of_two_kinds_with_one_name_each_is_compared_with_its_own() -> None:
    constraint = SchemaObject("constraint", "public.users.email", "check (true)")
    assert compare([*USERS, constraint], [constraint, *USERS]) == ()


RECREATED: list[tuple[Schema, Schema, list[str]]] = [
    (USERS, USERS, []),
    (USERS, (), []),
    ((), USERS, []),
    # a column that was dropped and added again is another one
    (USERS, (*USERS[:2], column("email", at=3)), ["column public.users.email"]),
    # whatever its definition is: its data are lost all the same
    (USERS, (*USERS[:2], column("email", "citext", at=3)), ["column public.users.email"]),
    # with its table, all its columns are others
    (
        USERS,
        (table(oid=2), column("id", "bigint", oid=2), column("email", at=2, oid=2)),
        ["table public.users"],
    ),
    # what has no identity can be rebuilt
    ((index("i"),), (index("i"),), []),
]


@pytest.mark.parametrize(("before", "after", "expected"), RECREATED)
def test_the_recreated_are_what_lost_its_data(
    before: Schema, after: Schema, expected: list[str]
) -> None:
    assert [each.label for each in recreated(before, after)] == expected
