"""What has no effect where it is, modes of a transaction, and hints that can be followed."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.sql import effects, parser

from ..conftest import Migrate, Write

OPTION = "-- migrator: no-transaction\n"
ISOLATION = "select current_setting('transaction_isolation')"


def problems(text: str) -> list[tuple[str, str]]:
    """Return the message and hint of each problem."""
    found = parser.parse(PurePath("01_a.up.sql"), text).problems
    assert not (found and parser.is_plain(text)), "a plain script has no problem"
    return [(problem.message, problem.hint or "") for problem in found]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("set local lock_timeout = '1s';", "SET LOCAL"),
        ("SET LOCAL ROLE app;", "SET LOCAL"),
        ("set constraints all deferred;", "SET CONSTRAINTS"),
        ("set transaction isolation level serializable;", "SET TRANSACTION"),
        ("lock table t in share mode;", "LOCK TABLE"),
        ("declare c cursor for select 1;", "DECLARE CURSOR"),
        ("select pg_advisory_xact_lock(1);", "an advisory lock of the transaction"),
        ("select pg_catalog.set_config('search_path', '', TRUE);", "set_config with is_local"),
        ("create temp table x (n int) on commit drop;", "a temporary table ON COMMIT DROP"),
    ],
)
def test_what_needs_a_transaction_is_refused_outside_of_one(statement: str, what: str) -> None:
    ((message, hint),) = problems(f"{OPTION}vacuum;\n{statement}")
    assert message == f"{what} has no effect outside a transaction"
    assert "BEGIN" in hint
    assert problems(f"{OPTION}begin;\n{statement}\ncommit;") == []
    assert problems(statement) == []


@pytest.mark.parametrize(
    "statement",
    [
        "set lock_timeout = '1s';",
        "declare c cursor with hold for select 1;",
        "declare c binary insensitive no scroll cursor with hold for select 1;",
        "select set_config('search_path', '', false);",
        "create temp table x (n int);",
        "create temp table x (n int) on commit preserve rows;",
        "select 'set local x';",
        "set session characteristics as transaction read only;",
        "create table lock ();",
    ],
)
def test_what_has_an_effect_outside_a_transaction_is_not_refused(statement: str) -> None:
    assert problems(f"{OPTION}{statement}\nvacuum;") == []


@pytest.mark.parametrize(
    ("statement", "is_refused"),
    [
        ("set client_encoding to 'LATIN1';", True),
        ("set session client_encoding = win1252;", True),
        ("SET NAMES 'latin1';", True),
        ("select pg_catalog.set_config('client_encoding', 'LATIN1', false);", True),
        ("set client_encoding = 'SQL_ASCII';", True),
        ("SET client_encoding = 'UTF8';", False),
        ("set client_encoding to unicode;", False),
        ("set names 'utf-8';", False),
        ("set names default;", False),
        ("select set_config('client_encoding', 'UTF8', false);", False),
        ("select set_config('search_path', 'latin1', false);", False),
        ("set search_path = client_encoding_latin1;", False),
    ],
)
@pytest.mark.parametrize("option", ["", OPTION])
def test_another_encoding_than_that_of_the_file_is_refused(
    statement: str, is_refused: bool, option: str
) -> None:
    message = "client_encoding must be UTF8, the encoding of the file"
    expected = [(message, "remove the statement")] * is_refused
    assert problems(f"{option}{statement}") == expected


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("begin; set transaction isolation level repeatable read; select 1; commit;", "begin"),
        ("set transaction isolation level repeatable read; select 1;", "begin"),
        ("begin work;\nset transaction isolation\nlevel REPEATABLE read;\nselect 1; end;", None),
        (
            "set session characteristics as transaction isolation level repeatable read;"
            "begin; select 1; commit;",
            "begin",
        ),
        (
            "begin; set session characteristics as transaction isolation level repeatable read;"
            "select 1; commit;",
            "begin",
        ),
    ],
)
def test_modes_at_the_start_are_those_of_the_begin(text: str, begin: str | None) -> None:
    for option in ("", OPTION) if text.startswith("begin") else ("",):
        script = parser.parse(PurePath("01_a.up.sql"), option + text)
        assert script.problems == ()
        found = effects.begin_text(script.units[0]) or ""
        assert found.lower().endswith("isolation level repeatable read")
        assert begin is None or found == f"{begin} isolation level repeatable read"
        assert script.units[0].statements[-1].text == "select 1;"


def test_the_hint_on_modes_that_come_too_late_quotes_them() -> None:
    text = "select 1;\nset transaction isolation level repeatable read, deferrable;"
    assert problems(text) == [
        (
            "SET TRANSACTION is too late: the transaction has already begun",
            "make it the first statement, or use: "
            "BEGIN isolation level repeatable read, deferrable; … COMMIT;",
        )
    ]


@pytest.mark.parametrize("option", ["", OPTION])
def test_the_modes_at_the_start_of_a_block_are_in_effect(
    migrate: Migrate, write: Write, option: str
) -> None:
    write(
        {
            "01_a.up.sql": f"{option}begin;\nset transaction isolation level repeatable read;\n"
            f"create table a as {ISOLATION} as level;\ncommit;\n",
            "02_b.up.sql": "set session characteristics as transaction isolation level "
            f"serializable;\nbegin;\ncreate table b as {ISOLATION} as level;\ncommit;\n",
        }
    )
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    rows = migrate.database.rows("select level from a union all select level from b")
    assert rows == [("repeatable read",), ("serializable",)]


def test_modes_that_do_not_exist_are_an_error_with_a_place(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "set transaction isolation level sometimes;\nselect 1;\n"})
    result = migrate("up")
    assert (result.exit_code, "01_a.up.sql:1:" in result.stderr) == (1, True)


# Each row: a refused file, and what it becomes when its hint is followed to the letter.
@pytest.mark.parametrize(
    ("text", "hint", "followed"),
    [
        (
            "alter type e add value 'b'; commit; select 'b'::e;",
            "remove it and begin the file with: -- migrator: no-transaction",
            f"{OPTION}alter type e add value 'b'; select 'b'::e;",
        ),
        (
            "begin; select 1; commit; select 2;",
            "begin it with: -- migrator: no-transaction",
            f"{OPTION}begin; select 1; commit; select 2;",
        ),
        ("begin; select 1;", "remove it", "select 1;"),
        ("select 1; rollback;", "remove it", "select 1;"),
        ("savepoint s; select 1;", "remove it", "select 1;"),
        (f"{OPTION}begin; savepoint s; commit;", "remove it", f"{OPTION}begin; commit;"),
        (f"{OPTION}select 1; rollback;", "remove it", f"{OPTION}select 1;"),
        (
            "begin; vacuum; commit;",
            "move it out of the BEGIN … COMMIT, and begin the file with: -- migrator: no-trans",
            f"{OPTION}begin; commit; vacuum;",
        ),
        (
            f"{OPTION}begin; select 1; vacuum; commit;",
            "move it out of the BEGIN … COMMIT",
            f"{OPTION}begin; select 1; commit; vacuum;",
        ),
        (
            f"{OPTION}begin; select 1; commit and chain; select 2; commit;",
            "write COMMIT; BEGIN; in its place",
            f"{OPTION}begin; select 1; commit; begin; select 2; commit;",
        ),
        (
            "begin; select 1; commit and chain; select 2; commit;",
            "write COMMIT; BEGIN; in its place, and begin the file with",
            f"{OPTION}begin; select 1; commit; begin; select 2; commit;",
        ),
        (
            f"{OPTION}set transaction read write; select 1;",
            "begin a transaction with it: BEGIN read write; … COMMIT;",
            f"{OPTION}BEGIN read write; select 1; COMMIT;",
        ),
        (
            "select 1;\n-- Migrator: no-transaction\n",
            "a line of its own at the top of the file, in lower case: -- migrator: no-transaction",
            "-- migrator: no-transaction\nselect 1;\n",
        ),
    ],
)
def test_a_hint_that_is_followed_does_not_lead_to_another_refusal(
    text: str, hint: str, followed: str
) -> None:
    assert any(hint in each for _, each in problems(text))
    assert problems(followed) == []
