"""`sqltext` cuts as PostgreSQL's parser does, and finds places as an editor does."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from pathlib import Path, PurePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrator.errors import Location
from migrator.sql.location import _known_lines, excerpt_at, line_number, locate
from migrator.sql.splitter import comments, is_meta_command, split, tokens
from tests.conftest import Database

SHARED = Path(__file__).parents[3] / "shared"
CASES = SHARED / "splitter" / "cases.json"
REGRESS = SHARED / "corpora" / "pgregress15"
FILE = PurePath("1_a.up.sql")


def texts(source: str) -> list[str]:
    return [statement.text for statement in split(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("select 1;;; ;select 2", ["select 1;", "select 2"]),
        ("select 1 -- a\n  /* b */ \n", ["select 1"]),
        ("\ufeffselect 1;", ["\ufeffselect 1;"]),
        ("select 1 /* /* ; */ ' */; select 2", ["select 1 /* /* ; */ ' */;", "select 2"]),
        ("select 1 /* ; */*/ 2; select 3", ["select 1 /* ; */*/ 2;", "select 3"]),
        ("select 1 /*/ ; /*/ ; */ ; */ ; x", ["select 1 /*/ ; /*/ ; */ ; */ ;", "x"]),
        ("select 4 -/* ; */ 2; x", ["select 4 -/* ; */ 2;", "x"]),
        ("select date'a\\'; x", ["select date'a\\';", "x"]),
        ("select te'a\\'; x", ["select te'a\\';", "x"]),
        ("select a$e'\\'; x", ["select a$e'\\';", "x"]),
        ("select 1,E'\\';',2; x", ["select 1,E'\\';',2;", "x"]),
        ("select (E'\\';' , ';'); x", ["select (E'\\';' , ';');", "x"]),
        ("select E'a'\n \t'\\';'; x", ["select E'a'\n \t'\\';';", "x"]),
        ("select E'a' --'\n--'\n'\\';'; x", ["select E'a' --'\n--'\n'\\';';", "x"]),
        ("select (E'a'\n'\\';'); x", ["select (E'a'\n'\\';');", "x"]),
        ("select E'a' '\\'; x", ["select E'a' '\\';", "x"]),
        ("select E'''\\';'; x", ["select E'''\\';';", "x"]),
        ("select $1$a; x", ["select $1$a;", "x"]),
        ("select $1$a$;$a$; x", ["select $1$a$;$a$;", "x"]),
        ("select 1$$;$$; x", ["select 1$$;$$;", "x"]),
        ("select 1e'\\'; x", ["select 1e'\\';", "x"]),
        ("select 1+$é$;$É$;$é$; x", ["select 1+$é$;$É$;$é$;", "x"]),
        ("select $a$ $$a$; x", ["select $a$ $$a$;", "x"]),
        ("select $a$ ;$ab$a$; x", ["select $a$ ;$ab$a$;", "x"]),
        ("select a$b$;c$b$; x", ["select a$b$;", "c$b$;", "x"]),
        ("select ((((((((';'))))))), (;)); x", ["select ((((((((';'))))))), (;));", "x"]),
        (
            "create rule r as on insert to t do (a; b(';'); ((c)); d); x",
            ["create rule r as on insert to t do (a; b(';'); ((c)); d);", "x"],
        ),
        ("select 1); select 2", ["select 1);", "select 2"]),
        ("select 'never ; closed", ["select 'never ; closed"]),
        ("x; /* never /* ; */ closed", ["x;", "/* never /* ; */ closed"]),
        ("x /* never ; closed", ["x /* never ; closed"]),
        ("x; select $a$ never ; $b$ closed", ["x;", "select $a$ never ; $b$ closed"]),
        ('select "a;\\"; x', ['select "a;\\";', "x"]),
        ("select 1 \\; select 2", ["select 1 \\;", "select 2"]),
    ],
)
def test_a_statement_ends_where_postgresql_ends_it(source: str, expected: list[str]) -> None:
    assert texts(source) == expected


BODIES = [
    "create function f() returns int begin atomic select 1; end;",
    "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC END;",
    "create /* ; */ or -- ;\n replace function f() begin /**/ atomic ;; select 1; end;",
    "create function f() begin atomic select case when a then 1 end; select end; end;",
    "create function f(a int default (1)) begin atomic select e'\\';' as end; end;",
    "create function f() set a to e'\\'' begin atomic select 'b'; end;",
    "create function f() returns t.begin language sql as 'begin atomic';",
    'create function f() "begin" atomic;',
    "create function f() begin 'x' atomic;",
    "create function f() begin (1) atomic;",
    "create view function as select begin atomic;",
    "create schema s create table t (a int) create function f() begin atomic x; end;",
    "create function f() return case when begin then 1 end;",
]


@pytest.mark.parametrize("body", BODIES)
def test_the_body_of_a_routine_ends_at_its_own_end(body: str) -> None:
    assert texts(f"{body} end; {body}") == [body, "end;", body]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("SELECT 1", ("select",)),
        ('Create Table "Begin" (a int) as $$x$$ größe', ("create", "table", "as", "größe")),
        ("a b c d e f g h i j", tuple("abcdefgh")),
        ("a /* b */ c -- d\n e ('f' g) \"h\" i$j N'k' E'\\'l' u&'m' 1e5 $1 n",
         ("a", "c", "e", "i$j", "n")),
        ("(select 1)", ()),
        ("\\restrict abc\n", ("\\restrict",)),
        ("  \\unrestrict abc", ("\\unrestrict",)),
        ("\\", ("\\",)),
    ],
)  # fmt: skip
def test_words_are_the_first_unquoted_ones_outside_parentheses(
    source: str, words: tuple[str, ...]
) -> None:
    assert next(split(source)).words == words


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("copy t from stdin;\n1\n2\n\\.\nx;", [("copy t from stdin;", "1\n2\n"), ("x;", None)]),
        ("COPY a.t (b) FROM\nSTDIN;\n\\.\nx;", [("COPY a.t (b) FROM\nSTDIN;", ""), ("x;", None)]),
        ("copy t from stdin;\r\n1\r\n\\.\r\nx", [("copy t from stdin;", "1\r\n"), ("x", None)]),
        ("copy t from stdin;", [("copy t from stdin;", "")]),
        ("copy t from stdin", [("copy t from stdin", None)]),
        ("copy t from stdin;\n", [("copy t from stdin;", "")]),
        ("copy t from stdin;\n';\n \\.\n\\.x\n", [("copy t from stdin;", "';\n \\.\n\\.x\n")]),
        ("copy t from stdin;\n1\n\\.", [("copy t from stdin;", "1\n")]),
        ("copy t from stdin; -- ;\n1\n\\.\nx", [("copy t from stdin;", "1\n"), ("x", None)]),
        (
            "copy t from stdin; y; copy u from stdin; z;\n1\n\\.\n2\n\\.\nx",
            [
                ("copy t from stdin;", "1\n"),
                ("y;", None),
                ("copy u from stdin;", "2\n"),
                ("z;", None),
                ("x", None),
            ],
        ),
        ("copy t from stdin with (format csv);\n\"\n\\.\nx",
         [("copy t from stdin with (format csv);", '"\n'), ("x", None)]),
        ("copy t to stdout;\nx", [("copy t to stdout;", None), ("x", None)]),
        ("copy t from 'stdin';\nx", [("copy t from 'stdin';", None), ("x", None)]),
        ("copy (select from stdin) to 'a';\nx",
         [("copy (select from stdin) to 'a';", None), ("x", None)]),
        ("\\restrict it's\nx;\n\\unrestrict $$\n",
         [("\\restrict it's", None), ("x;", None), ("\\unrestrict $$", None)]),
    ],
)  # fmt: skip
def test_copy_data_and_meta_commands_are_not_sql(
    source: str, expected: list[tuple[str, str | None]]
) -> None:
    assert [
        (s.text, None if s.data is None else source[slice(*s.data)]) for s in split(source)
    ] == (expected)


def test_only_a_backslash_makes_a_meta_command() -> None:
    assert [is_meta_command(s) for s in split("\\x\nselect 1;(a)")] == [True, False, False]


SAME = [
    ("select f(a,b)", "select /* x /* */ */ f( a, -- y\nb )  "),
    ("a;b;", " a ; ; b ;"),
    ("select 'a b', N'c'", "select\n'a b'\t,N'c'"),
    ("select " + "(1,'x y'),(2,N'z')," * 20_000, "select " + " ( 1 ,'x y') , (2,N'z' ), " * 20_000),
]
DIFFERENT = [
    ("a b", "ab"),
    ("a b", "A b"),
    ("select 'a b'", "select 'a  b'"),
    ("select $$a b$$", "select $$a  b$$"),
    ("select $$-- a$$", "select $$-- b$$"),
    ("select e'a'", "select e 'a'"),
    ("select u&'a'", "select u & 'a'"),
    ("select 'a'\n'b'", "select 'a' 'b'"),
    ("select 'a' 'b'", "select 'a''b'"),
    ('select "a" "b"', 'select "a""b"'),
    ("select 1 - - 1", "select 1 --1"),
    ("select a < = b", "select a <= b"),
    ("select a::b", "select a: :b"),
    ("select 1.5", "select 1 .5"),
    ("select 1e-5", "select 1e -5"),
    ("select $1", "select $ 1"),
    ("copy t from stdin;\na b\n\\.\n", "copy t from stdin;\na  b\n\\.\n"),
    ("copy t from stdin;\n--a\n\\.\n", "copy t from stdin;\n--b\n\\.\n"),
    ("\\restrict a\n", "\\restrict  a\n"),
    ("select 'a  b", "select 'a b"),
    ("select /* a", "select /* b"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_comments_and_white_space_make_no_other_tokens(one: str, other: str) -> None:
    assert list(tokens(one)) == list(tokens(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_whatever_else_differs_makes_other_tokens(one: str, other: str) -> None:
    assert list(tokens(one)) != list(tokens(other))


def test_comments_with_a_line_to_themselves_are_found() -> None:
    source = (
        "-- a\n  -- b\r\nselect 1; -- c\n/* \n-- d\n/* */\n-- e\n*/ -- f\n\t-- g\n;-- h\n-- i\nx"
    )
    one, two = split(source)
    assert [c[:2] for c in comments(source, 0, one.offset) if c[2]] == [(0, "-- a"), (7, "-- b")]
    found = [c[:2] for c in comments(source, one.end, two.offset) if c[2]]
    assert [text for _, text in found] == ["-- g", "-- i"]
    assert all(source.startswith(text, offset) for offset, text in found)


@pytest.mark.parametrize(
    ("source", "offset", "line", "column"),
    [
        ("", 0, 1, 1),
        ("ab", 2, 1, 3),
        ("a\nb", 1, 1, 2),
        ("a\nb", 2, 2, 1),
        ("a\r\nb", 1, 1, 2),
        ("a\r\nb", 2, 1, 3),
        ("a\r\nb", 3, 2, 1),
        ("a\rb", 2, 2, 1),
        ("a\n\r\n\rb", 5, 4, 1),
        ("é日\n\t日x", 5, 2, 3),
    ],
)
def test_lines_and_columns_count_characters_from_1(
    source: str, offset: int, line: int, column: int
) -> None:
    assert locate(source, offset, FILE) == Location(FILE, line, column)


@example("a\r\r\n", [2, 3])
@given(st.text(alphabet="a\n\r", max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_places_are_the_same_in_whatever_order_they_are_asked_for(
    text: str, offsets: list[int]
) -> None:
    _known_lines.cache_clear()
    for offset in (min(offset, len(text)) for offset in offsets):
        ends = (end.end() for end in re.finditer(r"\r\n?|\n", text))
        assert line_number(text, offset) == 1 + sum(end <= offset for end in ends)


@given(st.text(alphabet="ab\n\r\t", max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_kind_of_line_end_gives_the_same_places(text: str, line_end: str) -> None:
    lines = re.split(r"\r\n?|\n", text)
    source = line_end.join(lines)
    offset = 0
    for number, line in enumerate(lines, start=1):
        assert locate(source, offset, FILE) == Location(FILE, number, 1)
        assert locate(source, offset + len(line), FILE) == Location(FILE, number, len(line) + 1)
        offset += len(line) + len(line_end)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_an_excerpt_has_a_caret_under_the_column(line_end: str) -> None:
    source = line_end.join(["one", "", "\tthree", "a\tb x", "five"])
    assert excerpt_at(source, Location(FILE, 4, 5)).split("\n") == [
        "2 |",
        "3 |     three",
        "4 | a   b x",
        "  |       ^",
    ]


def test_an_excerpt_at_the_end_of_the_text_has_its_caret_behind_it() -> None:
    assert excerpt_at("select", Location(FILE, 1, 7)) == "1 | select\n  |       ^"


def test_an_excerpt_of_a_very_long_line_is_cut_around_the_caret() -> None:
    source = "x" * 5_000_000 + "!" + "y" * 5_000_000
    short = "short\n" + source
    lines = excerpt_at(short, locate(short, short.index("!"), FILE), width=20).split("\n")
    assert lines == ["1 | short", "2 | …" + "x" * 10 + "!" + "y" * 9 + "…", "  | " + " " * 11 + "^"]


def test_an_excerpt_sends_no_control_characters_to_a_terminal() -> None:
    assert excerpt_at("a\x1b[31m", Location(FILE, 1, 1)) == "1 | a\\x1b[31m\n  | ^"


FRAGMENTS = [
    "select", " ", "\n", "\r\n", "'", "''", "e'", "E'\\''", "\\", '"', "$", "$$", "$a$", "a$", "1",
    "(", ")", ";", "--", "-", "/*", "*/", "/", "*", "begin atomic ", "end", "create function ",
    "copy t from stdin;", "\\.\n", "\\x", ",", "é", "e", "'a'", "(1, 'b')", ":", "\f", "n'",
]  # fmt: skip
SOURCES = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)


@given(SOURCES)
@example("copy t from stdin;")
@example("\\E'\\''")
def test_statements_stand_at_their_offsets_in_order(source: str) -> None:
    last = 0
    for statement in split(source):
        assert last <= statement.offset < statement.end
        assert source[statement.offset : statement.end] == statement.text
        assert all(map(str.strip, statement.words))
        if not is_meta_command(statement):  # psql tells \C from \c
            assert statement.text == statement.text.strip(" \t\n\r\f\v")
            assert all(word == word.lower() for word in statement.words)
        last = statement.end


@given(SOURCES)
def test_a_statement_that_ends_in_a_semicolon_is_one_statement_by_itself(source: str) -> None:
    closed = [s for s in split(source) if s.text.endswith(";") and not is_meta_command(s)]
    assert [[s.text for s in split(one.text)] for one in closed] == [[s.text] for s in closed]


@given(SOURCES)
def test_a_text_has_the_same_statements_behind_a_long_one(source: str) -> None:
    # The lexer reads a text in windows, the first of 512 characters: no border may show.
    for length in (100, 480, 500, 511, 1_500, 65_400):
        before = "select '" + "x" * length + "';"
        assert texts(before + source) == [before, *texts(source)]
        assert list(tokens(before + source))[3:] == list(tokens(source))


@given(SOURCES)
@example("copy t from stdin;\n1\n\\.\nselect 'a';\nselect $a$;$a$;")
def test_statements_have_the_same_tokens_alone(source: str) -> None:
    alone: list[str] = []
    for statement in split(source):
        found = list(tokens(statement.text))
        if statement.data:
            found[-1] = source[slice(*statement.data)]
        alone += found
    assert list(tokens(source)) == alone


@pytest.mark.parametrize("end", range(340, 514))
def test_the_border_of_a_window_may_fall_anywhere(end: int) -> None:
    tail = [
        "select E'a' -- '\n -- x\n '\\';', date'b;', $a$;$a$, \"c;\" /* /* */ ; */ - 1, a$$b;",
        "insert into t values (1, E'\\';', N';'), (((((((2))))))), e'x' || 'y;';",
    ]
    before = "s" * end + ";"
    assert texts(before + " ".join(tail)) == [before, *tail]


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not in this checkout")
def test_the_shared_cases_are_cut_as_postgresql_cuts_them() -> None:
    cases = json.loads(CASES.read_text(encoding="utf-8"))
    wrong = [case["name"] for case in cases if texts(case["sql"]) != case["statements"]]
    assert wrong == []


def as_psql_sends(text: str) -> str:
    """psql 15 leaves empty lines out, and keeps block comments before a statement."""
    text = re.sub(r"\A(?:\s+|--[^\n]*\n|/\*.*?\*/)+", "", text, flags=re.DOTALL)
    return re.sub(r"\n\s*\n", "\n", text)


@pytest.mark.corpora
@pytest.mark.skipif(not REGRESS.exists(), reason=f"{REGRESS} is not in this checkout")
def test_postgresqls_own_regression_tests_are_cut_as_psql_cuts_them() -> None:
    wrong = []
    for path in sorted(REGRESS.glob("*.sql")):
        if path.name.endswith("__transactions.sql"):
            continue  # holds psql's `\;`, which is no SQL
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        sent = [as_psql_sends(one["text"]) for one in expected if one["text"] != ";"]
        ours = [as_psql_sends(text) for text in texts(path.read_bytes().decode())]
        wrong += [path.name] if sent != ours else []
    assert wrong == []


HOSTILE = [
    "(", ")", "(a", "((1)(", "'", "e'", "'a' ", '"', "$", "$$", "$a$ ", "$a", "/*", "*/",
    "/*/**/*/", "/* ' $$ ", ";", "a;", "\\", "\\x\n", "-", "--\n", "e", "1 ", " ", "a ",
    "copy t from stdin;",
    "copy t from stdin;\n\\.\n", "create function f() begin atomic ", "create schema s create (",
    "select 1 /* a /* b */ don't */;", "(1, 'a', E'b\\'' ), ", "select e'a' -- x\n 'b' ",
]  # fmt: skip


def calls(source: str) -> int:
    count = 0

    def tally(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(tally)
    try:
        for _ in split(source):
            pass
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("start", ["", "create function f() "])
def test_twice_the_text_is_twice_the_work(piece: str, start: str) -> None:
    for _ in split(start + piece):
        pass  # compiles what is compiled on first use
    half, whole = (calls(start + piece * times) for times in (4_000, 8_000))
    assert whole <= 2.5 * half + 2_000


def peak(source: str) -> int:
    tracemalloc.start()
    try:
        for _ in split(source):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [piece for piece in HOSTILE if piece not in ("e", "$a")])
def test_memory_does_not_grow_with_the_text(piece: str) -> None:
    half, whole = (peak("select " + piece * (size // len(piece))) for size in (50_000, 100_000))
    assert whole - half < 20_000


# Python and sqlparse take some of them for the end of a line.
UNUSUAL = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\xa0", "\ufeff", "\r", "\r\n"]


@pytest.mark.parametrize("character", UNUSUAL, ids=ascii)
def test_a_comment_ends_where_the_server_ends_it(database: Database, character: str) -> None:
    source = f"select 1 -- a{character}; create table b ();\n; create table c (); x;\n"
    with database.connect() as conn:
        for statement in texts(source)[:-1]:
            conn.execute(statement.encode())
    ours = database.rows("select to_regclass('b') is null, to_regclass('c') is null")
    database.execute("drop table if exists b, c")
    database.execute(source.replace("x;", "select 1;"))
    assert ours == database.rows("select to_regclass('b') is null, to_regclass('c') is null")
    assert locate(source, source.index("x;"), FILE).line == 2 + (character in ("\r", "\r\n"))
