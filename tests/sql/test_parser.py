"""The text of a file as a script: its units, and what is refused where."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.sql import parser
from migrator.sql.script import Script

PATH = PurePath("01_a.up.sql")
ALONE = "-- migrator: no-transaction\n"


def parse(text: str) -> Script:
    return parser.parse(PATH, text)


def units(text: str) -> list[tuple[bool, list[str]]]:
    """Return for each unit whether it is a transaction, and its statements."""
    return [(u.transactional, [s.text for s in u.statements]) for u in parse(text).units]


def problems(text: str) -> list[tuple[str, str]]:
    """Return the line, column and message of each problem."""
    found = parse(text).problems
    assert not (found and parser.is_plain(text)), "a plain script has no problem"
    assert all(problem.hint for problem in found), "every problem has a hint"
    return [
        (f"{p.location.line}:{p.location.column}" if p.location else "", p.message) for p in found
    ]


# Units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(True, [])]),
        ("-- only comments\n/* of\nboth kinds */\n", [(True, [])]),
        (";;\n;", [(True, [])]),
        ("select 1;\nselect 2", [(True, ["select 1;", "select 2"])]),
        ("begin;\nselect 1;\ncommit;\n", [(True, ["select 1;"])]),
        ("BEGIN TRANSACTION; select 1; END;", [(True, ["select 1;"])]),
        ("start transaction; select 1; commit work;", [(True, ["select 1;"])]),
        ("begin; commit;", [(True, [])]),
        ("\\restrict abc\nselect 1;\n\\unrestrict abc\n", [(True, ["select 1;"])]),
        ("create index concurrently on t (a);", [(False, ["create index concurrently on t (a);"])]),
        ("vacuum full t", [(False, ["vacuum full t"])]),
        ("drop index concurrently i;", [(False, ["drop index concurrently i;"])]),
        ("reindex table concurrently t;", [(False, ["reindex table concurrently t;"])]),
        (
            "alter table t detach partition p concurrently;",
            [(False, ["alter table t detach partition p concurrently;"])],
        ),
        (ALONE, []),
        (ALONE + "select 1; vacuum;", [(True, ["select 1;"]), (False, ["vacuum;"])]),
        (
            ALONE + "begin; select 1; select 2; commit; vacuum;",
            [(True, ["select 1;", "select 2;"]), (False, ["vacuum;"])],
        ),
        (
            ALONE + "begin; select 1; end; begin; select 2; commit;",
            [(True, ["select 1;"]), (True, ["select 2;"])],
        ),
        # only the server knows what these do
        (ALONE + "call p(); do $$ $$;", [(True, ["call p();"]), (True, ["do $$ $$;"])]),
    ],
)
def test_statements_are_grouped_into_units(
    text: str, expected: list[tuple[bool, list[str]]]
) -> None:
    assert units(text) == expected
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("select 1;", None),
        ("begin; select 1; commit;", "begin;"),
        ("BEGIN READ WRITE, DEFERRABLE; select 1; END;", "BEGIN READ WRITE, DEFERRABLE;"),
        (
            "start transaction isolation level serializable; select 1; commit;",
            "start transaction isolation level serializable;",
        ),
    ],
)
def test_a_wrapped_file_keeps_the_modes_of_its_begin(text: str, begin: str | None) -> None:
    (unit,) = parse(text).units
    assert (unit.begin.text if unit.begin else None) == begin
    assert [statement.text for statement in unit.statements] == ["select 1;"]


@pytest.mark.parametrize(
    ("text", "transactional"),
    [
        ("select 1;", True),
        (ALONE + "select 1;", False),
        ("create index concurrently on t (a);", False),
        ("create index on t (a);", True),
        ("select 'create index concurrently';", True),
        ("-- create index concurrently\nselect 1;", True),
    ],
)
def test_a_script_is_one_transaction_unless_an_option_or_its_only_statement_forbids_it(
    text: str, transactional: bool
) -> None:
    assert parse(text).transactional == transactional


# What is refused


BREAKS = "cannot run inside the migration's transaction"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1;\ncommit;\nselect 2;", [("2:1", f"COMMIT {BREAKS}")]),
        ("select 1; rollback;", [("1:11", f"ROLLBACK {BREAKS}")]),
        ("select 'é'; savepoint s;", [("1:13", f"SAVEPOINT {BREAKS}")]),
        ("abort;", [("1:1", f"ABORT {BREAKS}")]),
        ("begin;\nselect 1;", [("1:1", f"BEGIN {BREAKS}")]),
        ("select 1;\nend;", [("2:1", f"END {BREAKS}")]),
        ("prepare transaction 'x';", [("1:1", f"PREPARE {BREAKS}")]),
        (
            "begin; select 1; commit; select 2;",
            [("1:1", f"BEGIN {BREAKS}"), ("1:18", f"COMMIT {BREAKS}")],
        ),
        (
            "begin; select 1; commit; begin; select 2; commit;",
            [
                ("1:1", f"BEGIN {BREAKS}"),
                ("1:18", f"COMMIT {BREAKS}"),
                ("1:26", f"BEGIN {BREAKS}"),
                ("1:43", f"COMMIT {BREAKS}"),
            ],
        ),
        (
            "begin; select 1; commit and chain;",
            [("1:1", f"BEGIN {BREAKS}"), ("1:18", f"COMMIT {BREAKS}")],
        ),
        ("begin; savepoint s; commit;", [("1:8", f"SAVEPOINT {BREAKS}")]),
        ("release s;", [("1:1", f"RELEASE {BREAKS}")]),
    ],
)
def test_transaction_control_is_refused(text: str, expected: list[tuple[str, str]]) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "create function f() returns void language plpgsql as $$ begin null; end $$;",
        "create procedure p() language plpgsql as $$ begin commit; end $$;",
        "do $$ begin perform 1; exception when others then null; end $$;",
        "create function f() returns int begin atomic; select 1; end;",
        "comment on table t is 'commit;';",
        "select 1 as begin; -- commit;",
        'create table "commit" ();',
        "prepare p as select 1;",
    ],
)
def test_words_in_bodies_literals_and_names_are_not_transaction_control(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("statement", "command"),
    [
        ("create index concurrently on t (a);", "CREATE INDEX CONCURRENTLY"),
        (
            "CREATE UNIQUE INDEX /* ! */ CONCURRENTLY i ON t (a);",
            "CREATE UNIQUE INDEX CONCURRENTLY",
        ),
        ("drop index concurrently i;", "DROP INDEX CONCURRENTLY"),
        ("reindex index concurrently i;", "REINDEX CONCURRENTLY"),
        ("reindex (verbose, concurrently) table t;", "REINDEX CONCURRENTLY"),
        ("reindex schema s;", "REINDEX SCHEMA"),
        ("alter table t detach partition p concurrently;", "DETACH PARTITION CONCURRENTLY"),
        ("vacuum t;", "VACUUM"),
        ("cluster;", "CLUSTER of all tables"),
        ("create database d;", "CREATE DATABASE"),
        ("drop database d;", "DROP DATABASE"),
        ("alter database d set tablespace s;", "ALTER DATABASE SET TABLESPACE"),
        ("create tablespace s location '/x';", "CREATE TABLESPACE"),
        ("drop tablespace s;", "DROP TABLESPACE"),
        ("alter system set work_mem = '1GB';", "ALTER SYSTEM"),
        ("commit prepared 'x';", "COMMIT PREPARED"),
        ("discard all;", "DISCARD ALL"),
    ],
)
def test_a_non_transactional_statement_is_refused_unless_it_is_the_only_one(
    statement: str, command: str
) -> None:
    expected = [("2:1", f"{command} cannot run inside a transaction")]
    assert problems(f"select 1;\n{statement}") == expected
    assert problems(statement) == []
    assert problems(f"{ALONE}select 1;\n{statement}") == []


@pytest.mark.parametrize(
    "statement",
    [
        "cluster t using i;",
        "alter database d set work_mem = '1GB';",
        "reindex table t;",
        "analyze;",
    ],
)
def test_a_transactional_statement_is_not_refused(statement: str) -> None:
    assert problems(f"select 1;\n{statement}") == []


def test_a_non_transactional_statement_is_refused_between_begin_and_commit() -> None:
    text = "begin;\ncreate index concurrently on t (a);\ncommit;"
    message = "CREATE INDEX CONCURRENTLY cannot run inside a transaction"
    assert problems(text) == [("2:1", message)]
    assert problems(ALONE + text) == [("3:1", message)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ALONE + "begin; select 1;", [("2:1", "BEGIN without a COMMIT")]),
        (ALONE + "select 1; commit;", [("2:11", "COMMIT without a BEGIN")]),
        (ALONE + "rollback;", [("2:1", "ROLLBACK without a BEGIN")]),
        (ALONE + "begin; rollback; commit;", [("2:8", f"ROLLBACK {BREAKS}")]),
        (ALONE + "begin; begin; commit;", [("2:8", f"BEGIN {BREAKS}")]),
    ],
)
def test_blocks_of_a_no_transaction_file_must_be_complete(
    text: str, expected: list[tuple[str, str]]
) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\i other.sql\nselect 1;", [("1:1", "\\i is a psql command, not SQL")]),
        ("select 1;\n  \\set x 1\n", [("2:3", "\\set is a psql command, not SQL")]),
        ("\\copy t from 'x'\n", [("1:1", "\\copy is a psql command, not SQL")]),
        (
            "copy t to stdout;",
            [("1:1", "COPY … TO STDOUT is not supported: its output would be discarded")],
        ),
        (
            "copy (select 1) to stdout;",
            [("1:1", "COPY … TO STDOUT is not supported: its output would be discarded")],
        ),
        (
            "copy t from stdin",
            [("1:1", "COPY … FROM STDIN is not followed by data")],
        ),
        (
            "select 1;\nset transaction isolation level serializable;",
            [("2:1", "SET TRANSACTION is too late: the transaction has already begun")],
        ),
        (
            "commit;\n-- migrator: x\n\\i y\ncopy t to stdout;",
            [
                ("1:1", f"COMMIT {BREAKS}"),
                ("2:1", 'unknown option "x"'),
                ("3:1", "\\i is a psql command, not SQL"),
                ("4:1", "COPY … TO STDOUT is not supported: its output would be discarded"),
            ],
        ),
    ],
)
def test_psql_commands_and_copy_to_the_client_are_refused(
    text: str, expected: list[tuple[str, str]]
) -> None:
    assert problems(text) == expected


def test_a_column_counts_characters_with_lf_and_with_crlf() -> None:
    for end in ("\n", "\r\n"):
        text = end.join(["-- é ü 漢字 🐘", "select 'é🐘'; commit;", ""])
        assert problems(text) == [("2:14", f"COMMIT {BREAKS}")]


# The same statements


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("select 1;", "select 1", True),
        ("select 1;", "-- a\nselect /* b */ 1 ;\n;", True),
        ("begin; select 1; commit;", "select 1;", True),
        ("select 1; select 2;", "select 1;\n\nselect 2;", True),
        ("select a from B;", "SELECT A\nFROM b;", True),
        ("select e'a', x'1f', n'a';", "SELECT E'a', X'1f', N'a';", True),
        ("select u&'a' uescape '!';", "select U&'a' UESCAPE '!';", True),
        ("select E'a';", "select E'A';", False),
        ("select x'1f';", "select x'1F';", False),
        ('select "a";', 'select "A";', False),
        ('select u&"a";', 'select U&"A";', False),
        ("select $$a$$;", "select $$A$$;", False),
        ("do $a$ $a$;", "do $A$ $A$;", False),
        ("select é;", "select É;", False),
        ("select é_a;", "SELECT é_A;", True),
        (
            "create function f() returns int begin atomic select 1; end;",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC select 1; end;",
            True,
        ),
        (
            "create function f() returns int begin atomic select 1; end;",
            "create function f() returns int begin atomic SELECT 1; end;",
            False,
        ),
        ("copy t from stdin;\na\n\\.\n", "COPY t FROM stdin;\nA\n\\.\n", False),
        ("select 1; select 2;", "select 2; select 1;", False),
        ("select 'a';", "select 'a ';", False),
        ("select $$a$$;", "select $$ a$$;", False),
        ("select a.b;", "select a . b;", True),
        ("select 1 - -1;", "select 1 --1;", False),
        ("", "-- nothing", True),
        ("copy t from stdin;\n1\n\\.\n", "copy t  from stdin;\n1\n\\.\n", True),
        ("copy t from stdin;\n1\n\\.\n", "copy t from stdin;\n1 \n\\.\n", False),
    ],
)
def test_scripts_are_the_same_if_their_tokens_are(one: str, other: str, same: bool) -> None:
    assert parser.same_statements(one, other) == same
    assert parser.same_statements(other, one) == same
