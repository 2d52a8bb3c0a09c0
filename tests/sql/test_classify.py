"""The kind of a statement, and the names in it."""

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
def test_the_catalog_shows_how_far_some_statements_came(text: str, *, expected: bool) -> None:
    assert classify.is_recoverable(statement(text)) is expected


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("create index concurrently i on t (a)", ["i", "t"], ["a"]),
        ("create index concurrently on only s.t using gin (a) where b > 1", ["s.t"], ["a", "b"]),
        ('create index concurrently i on "My S" . "T ""1""" (a)', ['"My S"."T ""1"""'], ["a"]),
        ("create index concurrently i on t /* on u */ (a) -- v", ["t"], ["u", "v", "a"]),
        ("drop index concurrently if exists s.i", ["s.i"], []),
        ("reindex (verbose) table concurrently größe", ['"größe"'], []),
        ("alter table t detach partition p concurrently", ["t", "p"], []),
    ],
)
def test_names_of_relations_are_found(text: str, some: list[str], none: list[str]) -> None:
    names = classify.relation_names(statement(text))
    assert names is not None
    assert set(some) <= set(names)
    assert not set(none) & set(names)


@pytest.mark.parametrize("what", ["schema concurrently s", "database concurrently d", "schema s"])
def test_a_reindex_of_a_schema_or_database_may_concern_any_relation(what: str) -> None:
    assert classify.relation_names(statement(f"reindex {what}")) is None


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("create index concurrently if not exists i on t (x)", ("i", "t")),
        ('create unique index if not exists "A b" on only "S".t using gin (x)', ("A b", '"S".t')),
        # only ASCII letters are folded
        ("create index if not exists IDX_Ä on T (x)", ("idx_Ä", "t")),
        (
            'create index concurrently if not exists U&"\\0061b!c" on db . U&"!0073"'
            " UESCAPE '!' . \"t\" (x)",
            ("ab!c", "s.t"),
        ),
        ("create index if not exists U&\"d!0061\" uescape '!' on t (x)", ("da", "t")),
        ("create index i on t (x)", None),
        ("create table if not exists index_of (x int)", None),
        ("drop index if exists i", None),
    ],
)
def test_an_index_that_may_exist_is_found_with_its_table(
    text: str, made: tuple[str, str] | None
) -> None:
    assert classify.index_if_not_exists(statement(text)) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create index concurrently i on t (a)", True),
        ("reindex (concurrently) table t", True),
        ("refresh materialized view concurrently v", True),
        ("alter table t detach partition p concurrently", True),
        ("create index i on t (a)", False),
        ('create index "concurrently" on t (a)', False),
        ("select 'concurrently'", False),
    ],
)
def test_a_statement_is_concurrent_if_it_says_so(text: str, *, expected: bool) -> None:
    assert classify.is_concurrent(statement(text)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set search_path to app", True),
        ("reset role", True),
        ("select set_config('role', 'app', false)", True),
        ("select pg_catalog.set_config('role', 'app', false)", True),
        ("select set_config('a.b', note, false) from notes", False),
        ("select 1", False),
        ("alter table t set (fillfactor = 70)", False),
    ],
)
def test_a_statement_that_only_changes_settings_may_run_again(text: str, *, expected: bool) -> None:
    assert classify.sets_session(statement(text)) is expected
