"""Statements sent without waiting: answers, notices, and nothing behind an error."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from migrator.errors import MigratorError
from migrator.events import Notice, Subject
from migrator.interrupts import Interrupts
from migrator.model import Direction, Step
from migrator.postgres import pipeline
from migrator.postgres.inflight import Answer, Field, Message, RefusedError
from migrator.postgres.pipeline import Listener
from migrator.sql.parser import parse
from migrator.sql.script import Statement
from tests.conftest import Database, Migrate, Write


@dataclass
class Heard:
    """A listener that keeps what it is told."""

    answers: list[Answer] = field(default_factory=list)
    notices: list[tuple[str, Notice]] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def run(self, conn: psycopg.Connection[TupleRow], messages: Iterable[Message | str]) -> None:
        listener = Listener(
            self.answers.append,
            lambda subject, notice: self.notices.append((name(subject), notice)),
            lambda subject, _seconds: self.idle.append(name(subject)),
        )
        with Interrupts() as interrupts:
            pipeline.run(conn, map(message, messages), listener, interrupts)

    def refused(self, conn: psycopg.Connection[TupleRow], *messages: Message | str) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            self.run(conn, messages)
        return caught.value

    @property
    def names(self) -> list[str]:
        return [name(answer.subject) for answer in self.answers]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def conn(database: Database) -> Iterator[psycopg.Connection[TupleRow]]:
    with database.connect() as conn:
        yield conn


def message(sql: Message | str) -> Message:
    """A statement that is known by its text."""
    return sql if isinstance(sql, Message) else named(sql, sql.encode())


def named(text: str, sql: bytes, **more: Any) -> Message:
    """A statement that is known by another text than its own."""
    return Message(subject(text), sql, MigratorError, **more)


STEP = Step("01_a", Direction.UP, parse(PurePath("01_a.up.sql"), ""))


def subject(text: str) -> Subject:
    return Subject(STEP, Statement(text, 0, len(text)))


def name(subject: Subject) -> str:
    assert subject.statement is not None
    return subject.statement.text


def copy(sql: str, data: str) -> Message:
    return named(sql, sql.encode(), data=lambda: [data.encode()])


def raising(text: str) -> str:
    return f"do $$ begin raise notice '{text}'; end $$"


def test_answers_come_in_order_with_what_the_server_says(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    heard.run(conn, ["begin", "create table a (i int)", "insert into a values (1), (2)", "commit"])
    assert [(a.command, a.rows) for a in heard.answers] == [
        ("BEGIN", None),
        ("CREATE TABLE", None),
        ("INSERT 0 2", 2),
        ("COMMIT", None),
    ]


def test_statements_of_one_message_are_answered_and_blamed_as_one(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    more = (raising("one").encode(), b"select 2", raising("two").encode())
    heard.run(conn, ["begin", named("all", b"select 1", more=more), raising("behind"), "commit"])
    assert heard.names == ["begin", "all", raising("behind"), "commit"]
    assert [(text, notice.message) for text, notice in heard.notices] == [
        ("all", "one"),
        ("all", "two"),
        (raising("behind"), "behind"),
    ]
    failing = named("all", b"select 1", more=(b"select 1 / 0", b"select 2"))
    assert name(heard.refused(conn, "begin", failing, "select 3").subject) == "all"


@pytest.mark.parametrize("failing", ["selec", "select 1 / 0", "select from none", "vacuum"])
def test_nothing_behind_a_failed_statement_is_run(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database, failing: str
) -> None:
    """A sequence keeps what it counted, whatever is rolled back."""
    database.execute("create sequence s")
    behind = ["select nextval('s')"] * 2000
    error = heard.refused(conn, "begin", "select nextval('s')", failing, *behind, "commit")
    assert name(error.subject) == failing
    assert database.rows("select last_value, is_called from s") == [(1, True)]
    assert heard.names == ["begin", "select nextval('s')"]
    conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)


def test_nothing_behind_a_failed_migration_is_run(
    database: Database, migrate: Migrate, write: Write
) -> None:
    database.execute("create sequence s")
    counting = {f"{i:02}_s.up.sql": "select nextval('s');" for i in (1, 2, 4, 5, 6)}
    write(
        {**counting, "03_fails.up.sql": "select nextval('s'); select 1 / 0; select nextval('s');"}
    )
    assert migrate("up").exit_code == 1
    assert database.rows("select last_value from s") == [(3,)]
    assert database.rows("select version from migration_versions order by 1") == [
        ("01_s",),
        ("02_s",),
    ]


def test_a_failed_commit_is_the_failure(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    database.execute(
        "create table a (i int unique deferrable initially deferred); create sequence s"
    )
    error = heard.refused(
        conn, "begin", "insert into a values (1), (1)", "commit", "select nextval('s')"
    )
    assert name(error.subject) == "commit"
    assert error.fields[Field.SQLSTATE] == "23505"
    assert database.rows("select is_called from s") == [(False,)]


def test_a_notice_belongs_to_its_statement(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    long = "x" * 70
    statements = [
        "begin",
        raising("one"),
        "select 1",
        f"create table {long} (i int)",  # said while it is parsed
        raising("two"),
        "drop table if exists none",
        "select 2",
        "commit",
    ]
    heard.run(conn, statements)
    assert [(text, notice.message.split(",")[0]) for text, notice in heard.notices] == [
        (raising("one"), "one"),
        (f"create table {long} (i int)", f'identifier "{long}" will be truncated to "{long[:63]}"'),
        (raising("two"), "two"),
        ("drop table if exists none", 'table "none" does not exist'),
    ]


def test_what_the_parser_says_belongs_to_its_statement_however_it_arrives(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    """Hundreds of answers in a packet: libpq reads a notice in one go with the answer before."""
    names = [f"n{i}_" + "x" * 70 for i in range(3)]
    statements = ["begin"]
    for name in names * 100:
        statements += [f"create table {name} ()", f"drop table {name} /* {name} */", "select 1"]
    heard.run(conn, [named(f"{i} {sql}", sql.encode()) for i, sql in enumerate(statements)])
    expected = [f"{i} {sql}" for i, sql in enumerate(statements) if "table" in sql]
    assert [text for text, _notice in heard.notices] == expected


def test_a_notice_before_an_error_belongs_to_the_failed_statement(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    fails = "do $$ begin raise notice 'here'; perform 1 / 0; end $$"
    heard.refused(conn, "select 1", fails, raising("never"))
    assert [(text, notice.message) for text, notice in heard.notices] == [(fails, "here")]


def test_a_notice_around_copy_belongs_to_its_statement(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    database.execute(
        "create table a (i int);"
        "create function told() returns trigger language plpgsql as $$"
        " begin raise notice 'row %', new.i; return new; end $$;"
        "create trigger told before insert on a for each row execute function told()"
    )
    copied = copy("copy a from stdin", "1\n2\n")
    heard.run(conn, ["begin", raising("before"), copied, raising("after"), "commit"])
    assert [(text, notice.message) for text, notice in heard.notices] == [
        (raising("before"), "before"),
        ("copy a from stdin", "row 1"),
        ("copy a from stdin", "row 2"),
        (raising("after"), "after"),
    ]


def test_what_a_listener_raises_on_a_notice_ends_the_run(
    conn: psycopg.Connection[TupleRow],
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    listener = Listener(lambda _answer: None, full, lambda _subject, _seconds: None)
    with Interrupts() as interrupts, pytest.raises(OSError, match="no space"):
        pipeline.run(conn, [message(raising("one")), message("select 1")], listener, interrupts)
    assert conn.closed


def test_copy_data_in_the_middle(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    heard.run(
        conn,
        [
            "begin",
            "create table a (i int, t text)",
            copy("copy a from stdin", "1\té\n2\t\\N\n"),
            "update a set i = i + 1",
            copy("copy a from stdin (format csv, header)", 'i,t\n9,"a\nb"\n'),
            copy("copy a from stdin", ""),
            "commit",
        ],
    )
    assert [a.command for a in heard.answers if name(a.subject).startswith("copy")] == [
        "COPY 2",
        "COPY 1",
        "COPY 0",
    ]
    assert database.rows("select * from a order by i") == [(2, "é"), (3, None), (9, "a\nb")]


def test_megabytes_of_copy_data(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    lines = 400_000
    data = "".join(f"{i}\tsome text of this row\n" for i in range(lines))
    heard.run(conn, ["create table a (i int, t text)", copy("copy a from stdin", data)])
    assert database.rows("select count(*), max(i) from a") == [(lines, lines - 1)]


def test_an_error_early_in_much_copy_data_leaves_the_session_usable(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    database.execute("create table a (i int); create sequence s")
    data = "x\n" * 2_000_000
    error = heard.refused(conn, "begin", copy("copy a from stdin", data), "select nextval('s')")
    assert error.fields[Field.SQLSTATE] == "22P02"
    assert database.rows("select is_called from s") == [(False,)]
    conn.rollback()
    assert conn.execute("select count(*) from a").fetchone() == (0,)


def test_an_error_in_copy_data_is_shown_at_its_line(migrate: Migrate, write: Write) -> None:
    write(
        {
            "01_a.up.sql": "create table a (i int, t text);\n\n"
            "copy a (i, t) from stdin;\n1\tone\n2\ttwo\nthree\tthree\n\\.\nselect 1;\n"
        }
    )
    result = migrate("up")
    assert result.exit_code == 1
    assert '01_a.up.sql:6:1: invalid input syntax for type integer: "three"' in result.stderr
    assert 'COPY a, line 3, column i: "three"' in result.stderr


def test_a_copy_that_cannot_begin_is_an_error(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    error = heard.refused(conn, "select 1", copy("copy none from stdin", "1\n"), "select 2")
    assert error.fields[Field.SQLSTATE] == "42P01"
    assert conn.execute("select 1").fetchone() == (1,)


def test_statements_that_run_alone_have_no_transaction_around_them(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    database.execute("create table a (i int)")
    text = "create index concurrently on a (i)"
    heard.run(conn, ["select 1", named("index", text.encode(), alone=True), "select 2"])
    assert heard.names == ["select 1", "index", "select 2"]


def test_a_hundred_thousand_statements_take_no_memory(
    conn: psycopg.Connection[TupleRow], database: Database
) -> None:
    count = 100_000
    answered = 0

    def answer(_answer: Answer) -> None:
        nonlocal answered
        answered += 1

    listener = Listener(answer, lambda _subject, _notice: None, lambda _subject, _seconds: None)
    messages = (named(str(i), b"select %d" % i) for i in range(count))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Interrupts() as interrupts:
        pipeline.run(conn, messages, listener, interrupts)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert answered == count
    assert grown < 20_000, f"{grown} KB"


def test_ten_megabytes_that_nobody_reads_hold_nothing_up(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    wide = "select repeat('x', 1000000) from generate_series(1, 10)"
    heard.run(conn, ["begin", wide, wide, "select 1", "commit"])
    assert [answer.rows for answer in heard.answers] == [None, 10, 10, 1, None]


def test_both_directions_full_at_once_do_not_lock_up(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    """Neither side may stop reading while it waits for the other to read."""
    big = "select repeat('y', 500000), '" + "x" * 200_000 + "'"
    heard.run(conn, ["begin", *[big] * 40, "commit"])
    assert len(heard.answers) == 42


def test_a_lost_connection_is_a_refusal_without_an_sqlstate_or_with_the_servers(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    ends = "select pg_terminate_backend(pg_backend_pid())"
    error = heard.refused(conn, "begin", "select 1", ends, "select 2", "commit")
    assert name(error.subject) == ends
    assert conn.closed


def test_a_connection_that_is_lost_before_the_first_statement_is_a_refusal_of_that(
    conn: psycopg.Connection[TupleRow], heard: Heard, database: Database
) -> None:
    pid = conn.info.backend_pid
    with database.connect() as other:
        other.execute(f"select pg_terminate_backend({pid})".encode())
        while other.execute(f"select from pg_stat_activity where pid = {pid}".encode()).fetchall():
            pass
    for _ in range(2):  # once nobody knows that it is lost, then libpq does
        error = heard.refused(conn, "select 1", "select 2")
        assert name(error.subject) == "select 1"
        assert conn.closed
    assert not heard.answers


def test_nothing_to_send_is_nothing_done(conn: psycopg.Connection[TupleRow], heard: Heard) -> None:
    heard.run(conn, [])
    assert not heard.answers
    assert conn.execute("select 1").fetchone() == (1,)


def test_the_idle_callback_tells_what_is_waited_for(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    begin = named("begin", b"begin", asks=True)
    heard.run(conn, [begin, "select pg_sleep(0.3)", "commit"])
    assert set(heard.idle) == {"select pg_sleep(0.3)"}


def test_the_value_of_an_answer_is_its_first(
    conn: psycopg.Connection[TupleRow], heard: Heard
) -> None:
    heard.run(conn, ["select 7, 8", "select 1 where false", "select", "begin", "rollback"])
    assert [answer.value for answer in heard.answers] == [b"7", None, None, None, None]
