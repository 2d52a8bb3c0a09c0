"""The `-- migrator:` comments of a script: options, allowances, and their errors."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.sql import parser
from migrator.sql.script import Options, Script


def parse(text: str) -> Script:
    return parser.parse(PurePath("01_a.up.sql"), text)


def problems(text: str) -> list[tuple[str, str]]:
    """Return the line, column and message of each problem."""
    return [
        (f"{p.location.line}:{p.location.column}" if p.location else "", p.message)
        for p in parse(text).problems
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1;", Options()),
        ("-- migrator: lock-timeout 2s\nselect 1;", Options(lock_timeout=2000)),
        ("--migrator:lock-timeout 0\nselect 1;", Options(lock_timeout=0)),
        ("--  migrator:   statement-timeout   15 min  \n", Options(statement_timeout=900_000)),
        ("-- migrator: role app_owner\nselect 1;", Options(role="app_owner")),
        ("-- migrator: role App Owner\nselect 1;", Options(role="App Owner")),
        (
            "-- Why: it is late.\n\n-- migrator: lock-timeout 1h\n  -- migrator: role r\nselect 1;",
            Options(lock_timeout=3_600_000, role="r"),
        ),
        ("-- migrator: role r\r\nselect 1;\r\n", Options(role="r")),
        ("/* -- migrator: role r */ select 1;", Options()),
        ("select '\n-- migrator: role r\n';", Options()),
        ("-- see migrator: the manual\nselect 1;", Options()),
    ],
)
def test_options_are_comments_above_the_first_statement(text: str, expected: Options) -> None:
    assert parse(text).options == expected
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- migrator: no-transactoin\n", [("1:1", 'unknown option "no-transactoin"')]),
        ("-- é\n-- migrator: wait 2s\n", [("2:1", 'unknown option "wait"')]),
        ("-- migrator:\nselect 1;", [("1:1", 'unknown option ""')]),
        (
            "select 1;\n  -- migrator: role r\nselect 2;",
            [("2:3", 'option "role" comes after a statement')],
        ),
        (
            "copy t from stdin;\n1\n\\.\n-- migrator: no-transaction\nselect 1;",
            [("4:1", 'option "no-transaction" comes after a statement')],
        ),
        ("-- migrator: role a\n-- migrator: role b\n", [("2:1", 'duplicate option "role"')]),
        ("-- migrator: role\n", [("1:1", 'option "role" requires a name')]),
        (
            "-- migrator: no-transaction please\n",
            [("1:1", 'option "no-transaction" takes no value')],
        ),
        ("-- migrator: lock-timeout\n", [("1:1", 'invalid duration ""')]),
        ("-- migrator: lock-timeout soon\n", [("1:1", 'invalid duration "soon"')]),
        ("-- migrator: statement-timeout -1s\n", [("1:1", 'invalid duration "-1s"')]),
        (
            "-- migrator: statement-timeout 1 fortnight\n",
            [("1:1", 'invalid duration "1 fortnight"')],
        ),
        (
            "-- migrator: a\r\n-- migrator: b\r\nselect 1;\r\n-- migrator: c\r\n",
            [
                ("1:1", 'unknown option "a"'),
                ("2:1", 'unknown option "b"'),
                ("4:1", 'unknown option "c"'),
            ],
        ),
    ],
)
def test_an_invalid_option_is_reported_with_its_line(
    text: str, expected: list[tuple[str, str]]
) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-- migrator: irreversible the rows are gone\n", "the rows are gone"),
        ("drop table a;\n  --migrator:irreversible  gone  \r\ndrop table b;", "gone"),
        ("-- migrator: irreversible\n-- migrator: irreversible gone\n", "gone"),
        ("-- migrator: irreversible a\n-- migrator: irreversible b\n", "a"),
        ("-- migrator: irreversible\nselect 1;", None),
        ("select '\n-- migrator: irreversible gone\n';", None),
        ("copy t from stdin;\n-- migrator: irreversible gone\n\\.\n", None),
        ("-- irreversible\nselect 1;", None),
    ],
)
def test_a_script_is_irreversible_for_a_reason(text: str, reason: str | None) -> None:
    assert parse(text).options.irreversible == reason
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "-- migrator: allow lock-held at night\nselect 1;",
            [("lock-held", "at night", "select 1;")],
        ),
        (
            "select 1;\n-- migrator: allow a\n-- why\n  -- migrator: allow b\tc d\nselect 2;",
            [("a", "", "select 2;"), ("b", "c d", "select 2;")],
        ),
        ("-- migrator: allow\nselect 1;", [("", "", "select 1;")]),
        ("select 1;\n-- migrator: allow a b\n", [("a", "b", None)]),
        ("-- migrator: allow a b\nbegin;\nselect 1;\ncommit;", [("a", "b", None)]),
        ("copy t from stdin;\n-- migrator: allow a b\n\\.\nselect 1;", []),
    ],
)
def test_an_allowance_belongs_to_the_statement_below(
    text: str, expected: list[tuple[str, str, str | None]]
) -> None:
    found = parse(text).options.allowances
    assert [(a.hazard, a.reason, a.statement.text if a.statement else None) for a in found] == (
        expected
    )
    assert problems(text) == []


@pytest.mark.parametrize(
    "comment",
    [
        "-- Migrator: role r",
        "--- migrator: lock-timeout 2s",
        "/* migrator: no-transaction */",
        "-- MIGRATOR : allow lock-held at night",
        "select 1; -- migrator: allow lock-held at night",
        "/* -- */ -- migrator: irreversible gone",
    ],
)
def test_a_malformed_option_is_reported_rather_than_ignored(comment: str) -> None:
    (problem,) = parse(f"{comment}\nselect 2;").problems
    assert problem.message.startswith("malformed option ")
    assert parse(comment).options == Options()


@pytest.mark.parametrize(
    ("text", "requires", "ensures"),
    [
        ("-- migrator: require select true\nselect 1;", ["select true"], []),
        ("-- migrator: ensure select true ;\nselect 1;", [], ["select true"]),
        ("select 1;\n-- migrator: ensure TABLE t", [], ["TABLE t"]),
        (
            "-- migrator: require select 1 = 1\n-- migrator: require (values (true))\n"
            "-- migrator: ensure with a as (select 1) select true from a\n",
            ["select 1 = 1", "(values (true))"],
            ["with a as (select 1) select true from a"],
        ),
        (
            "-- migrator: require select\r\n  --   true -- why\r\n\t--from t;\r\n-- Else\r\n",
            ["select\r\n       true -- why\r\n\t  from t"],
            [],
        ),
        ("-- migrator: require select true\n\n-- why\nselect 1;", ["select true"], []),
        ("-- migrator: require select true;\n-- why\nselect 1;", ["select true"], []),
        ("-- migrator: require select true\nselect 1; -- why", ["select true"], []),
        ("-- migrator: require select '--;'\n-- = 'é'\nselect 1;", ["select '--;'\n   = 'é'"], []),
        ("copy t from stdin;\n-- migrator: ensure select 1\n\\.\nselect 1;", [], []),
    ],
)
def test_a_condition_is_a_query_that_comments_directly_below_continue(
    text: str, requires: list[str], ensures: list[str]
) -> None:
    options = parse(text).options
    assert [each.text for each in options.requires] == requires
    assert [each.text for each in options.ensures] == ensures
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- migrator: require", ("1:21", 'option "require" requires a query')),
        ("-- migrator: ensure ;", ("1:21", 'option "ensure" requires a query')),
        ("-- migrator: require delete from t", ("1:22", 'the query of "require" is not a SELECT')),
        ("-- migrator: require selected", ("1:22", 'the query of "require" is not a SELECT')),
        (
            "-- migrator: require select 1; select 2",
            ("1:22", 'option "require" has 2 statements'),
        ),
        (
            "-- migrator: ensure select true) as a, (select 2",
            ("1:21", 'the query of "ensure" has unbalanced parentheses'),
        ),
        (
            "-- migrator: ensure select (true",
            ("1:21", 'the query of "ensure" has unbalanced parentheses'),
        ),
        (
            "-- migrator: ensure select true \\gset",
            ("1:21", 'the query of "ensure" contains a psql command'),
        ),
        (
            "select 1;\n-- migrator: require select true",
            ("2:1", 'option "require" comes after a statement'),
        ),
        ("-- Migrator: require select true", ("1:1", 'malformed option "require"')),
        ("select 1; -- migrator: ensure select true", ("1:11", 'malformed option "ensure"')),
    ],
)
def test_a_condition_that_cannot_be_asked_is_reported_with_its_place(
    text: str, expected: tuple[str, str]
) -> None:
    assert problems(text) == [expected]
