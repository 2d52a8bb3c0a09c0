"""Comparing schemas, without a server."""

from __future__ import annotations

import pytest

from migrator.rehearsal.schemas.differences import difference_lines
from migrator.rehearsal.schemas.schema import (
    ROLE_KINDS,
    Schema,
    SchemaObject,
    Sign,
    compare,
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
    return SchemaObject("owner", "of table public.users", name, "", ("table public.users",))


USERS = (table(), column("id", "bigint"), column("email", at=2))

COMPARED: list[tuple[Schema, Schema, list[str]]] = [
    ((), (), []),
    (USERS, USERS, []),
    (USERS, USERS[::-1], []),
    ((), USERS, ["+ table public.users (with 2 × column)"]),
    (USERS, (), ["- table public.users (with 2 × column)"]),
    (USERS, (*USERS, column("phone", at=3)), ["+ column public.users.phone text"]),
    (
        USERS,
        (table(), column("id", "bigint"), column("email", "text not null", at=2)),
        ["~ column public.users.email", "  - text", "  + text not null"],
    ),
    # added again in the last position
    (USERS, (*USERS[:2], column("email", at=3)), []),
    # a column between others does not change their order
    (
        USERS,
        (table(), column("id", "bigint"), column("a", at=2), column("email", at=3)),
        ["+ column public.users.a text"],
    ),
    (
        USERS,
        (table(), column("id", "bigint", at=4), column("email", at=2)),
        ["~ column order public.users", "  - id, email", "  + email, id"],
    ),
    # the parts of a table come after it, and before the next table
    (
        (*USERS, table("zebras")),
        (*USERS[:2], index("an_index"), index("users_email"), table("apes")),
        [
            "+ table public.apes",
            "- column public.users.email text",
            "+ index public.an_index btree (email)",
            "+ index public.users_email btree (email)",
            "- table public.zebras",
        ],
    ),
    # a change that a partition inherits is part of its parent's
    (
        (column("note", of="all"), column("note", "text inherited", of="part", inherits="all")),
        (
            column("note", "text not null", of="all"),
            column("note", "text not null inherited", of="part", inherits="all"),
        ),
        ["~ column public.all.note (with 1 × column)", "  - text", "  + text not null"],
    ),
    # a change of its own is not
    (
        (column("note", of="all"), column("note", "text inherited", of="part", inherits="all")),
        (
            column("note", "text not null", of="all"),
            column("note", "text default 1 inherited", of="part", inherits="all"),
        ),
        [
            "~ column public.all.note",
            "  - text",
            "  + text not null",
            "~ column public.part.note",
            "  - text inherited",
            "  + text default 1 inherited",
        ],
    ),
    # of a long definition the changed lines are shown, with one line around them
    (
        (SchemaObject("view", "v", "a\nb\nc\nd\ne\nf\ng"),),
        (SchemaObject("view", "v", "a\nB\nc\nd\ne\nf\nG"),),
        ["~ view v", "    a", "  - b", "  + B", "    c", "  …", "    f", "  - g", "  + G"],
    ),
]


@pytest.mark.parametrize(("before", "after", "expected"), COMPARED)
def test_differences_are_written_as_lines(
    before: Schema, after: Schema, expected: list[str]
) -> None:
    assert list(difference_lines(compare(before, after))) == expected


def test_a_difference_has_both_definitions() -> None:
    (found,) = compare([index("i", "old")], [index("i", "new")])
    assert (found.sign, found.before, found.after) == (Sign.CHANGED, "old", "new")


def test_kinds_can_be_left_out() -> None:
    before, after = [table(), owner("app")], [table(), owner("postgres")]
    assert [each.label for each in compare(before, after)] == ["owner of table public.users"]
    assert compare(before, after, leave_out=ROLE_KINDS) == ()


def test_objects_of_two_kinds_with_one_name_are_compared_separately() -> None:
    constraint = SchemaObject("constraint", "public.users.email", "check (true)")
    assert compare([*USERS, constraint], [constraint, *USERS]) == ()


RECREATED: list[tuple[Schema, Schema, list[str]]] = [
    (USERS, USERS, []),
    (USERS, (), []),
    ((), USERS, []),
    # a column that was dropped and added again is a new one
    (USERS, (*USERS[:2], column("email", at=3)), ["column public.users.email"]),
    # its data is lost with another definition too
    (USERS, (*USERS[:2], column("email", "citext", at=3)), ["column public.users.email"]),
    # the columns of a new table are new too
    (
        USERS,
        (table(oid=2), column("id", "bigint", oid=2), column("email", at=2, oid=2)),
        ["table public.users"],
    ),
    # an object without an identity holds no data
    ((index("i"),), (index("i"),), []),
]


@pytest.mark.parametrize(("before", "after", "expected"), RECREATED)
def test_recreated_objects_have_lost_their_data(
    before: Schema, after: Schema, expected: list[str]
) -> None:
    assert [each.label for each in recreated(before, after)] == expected
