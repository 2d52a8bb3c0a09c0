"""What kind a statement is, and what it names: tables of statements."""

from __future__ import annotations

import pytest

from migrator.sql import classify
from migrator.sql.script import Statement
from migrator.sql.splitter import split


def statement(text: str) -> Statement:
    (only,) = split(f"{text};")
    return only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create index concurrently i on t (a)", True),
        ("create unique index concurrently i on t (a)", True),
        ("drop index concurrently i", True),
        ("reindex table concurrently t", True),
        ("reindex (verbose, concurrently) index i", True),
        ("alter table t detach partition p concurrently", True),
        ("vacuum t", False),
        ("call p()", False),
        ("alter system set work_mem = '4MB'", False),
        ("create database d", False),
    ],
)
def test_the_catalog_tells_how_far_these_came(text: str, *, expected: bool) -> None:
    assert classify.is_recoverable(statement(text)) is expected


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("create index concurrently i on t (a)", ["i", "t"], ["a"]),
        ("create index concurrently on only s.t using gin (a) where b > 1", ["s.t"], ["a", "b"]),
        ('create index concurrently i on "My S" . "T ""1""" (a)', ['"My S"."T ""1"""'], ["a"]),
        ("create index concurrently i on t /* on u */ (a) -- v", ["t"], ["u", "v", "a"]),
        ("drop index concurrently if exists s.i", ["s.i"], []),
        ("reindex (verbose) table concurrently größe", ["größe"], []),
        ("alter table t detach partition p concurrently", ["t", "p"], []),
    ],
)
def test_the_words_that_may_name_a_relation(text: str, some: list[str], none: list[str]) -> None:
    names = classify.relation_names(statement(text))
    assert names is not None
    assert set(some) <= set(names)
    assert not set(none) & set(names)


@pytest.mark.parametrize("what", ["schema concurrently s", "database concurrently d", "schema s"])
def test_a_reindex_of_everything_may_leave_something_anywhere(what: str) -> None:
    assert classify.relation_names(statement(f"reindex {what}")) is None


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("create index concurrently if not exists i on t (x)", ("i", "t")),
        ('create unique index if not exists "A b" on only "S".t using gin (x)', ("A b", '"S".t')),
        # only letters of ASCII are folded
        ("create index if not exists IDX_Ä on T (x)", ("idx_Ä", "T")),
        ("create index i on t (x)", None),
        ("create table if not exists index_of (x int)", None),
        ("drop index if exists i", None),
    ],
)
def test_what_an_index_that_may_exist_is_called(text: str, made: tuple[str, str] | None) -> None:
    assert classify.index_if_not_exists(statement(text)) == made
