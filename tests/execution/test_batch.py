"""Many INSERTs are sent as one message where nobody hears of each; nothing else is different."""

from __future__ import annotations

import json
import re

import pytest

from ..conftest import Database, Migrate, Write
from ..proxy import counting

HEAP = 600
"""How many statements are surely sent together."""


def inserts(first: int = 1, last: int = HEAP) -> list[str]:
    """A line for each INSERT: the number is that of the line, in a file that begins with them."""
    return [f"insert into a values ({n}, 'é; {n}');" for n in range(first, last + 1)]


@pytest.fixture
def table(database: Database) -> Database:
    database.execute("create table a (id int primary key, t text check (t <> 'bad'))")
    return database


def test_they_are_sent_together(table: Database, migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "\n".join(inserts(last=5000))})
    with counting(table.url) as proxy:
        assert migrate("up", database=proxy.url).exit_code == 0
    assert sum(proxy.round_trips) < 20
    assert table.rows("select count(*), min(t), max(id) from a") == [(5000, "é; 1", 5000)]
    assert table.rows("select count(*) from migration_versions") == [(1,)]


@pytest.mark.parametrize(
    ("wrong", "column", "message"),
    [
        ("insert into a values (1, 'twice');", 1, "duplicate key value violates"),
        ("insert into a values (0, 'bad');", 1, "violates check constraint"),
        ("insert into a values (0, nothing);", 26, 'column "nothing" does not exist'),
        ("insert into a values (0, 'é', 'x');", 31, "INSERT has more expressions"),
        ("insert into a value (0, 'é');", 15, 'syntax error at or near "value"'),
        ("insert into a values ('é'::int);", 23, "invalid input syntax for type integer"),
        ("insert into a values (0, 'é' || ;", 33, 'syntax error at or near ";"'),
    ],
)
@pytest.mark.parametrize("at", [3, HEAP - 50])
def test_an_error_is_that_of_its_own_statement(
    table: Database,
    migrate: Migrate,
    write: Write,
    at: int,
    wrong: str,
    column: int,
    message: str,
) -> None:
    lines = inserts()
    lines[at - 1] = wrong
    text = "\n".join(lines)
    write({"01_a.up.sql": text})
    together = migrate("up")
    assert together.exit_code == 1
    assert re.search(rf"01_a\.up\.sql:{at}:{column}: .*{re.escape(message)}", together.stderr)
    assert table.rows("select count(*) from a") == [(0,)]
    one_by_one = migrate("-v", "up")
    assert one_by_one.stderr.partition("error: ")[2] == together.stderr.partition("error: ")[2]


def test_a_notice_is_told_with_its_own_statement(
    table: Database, migrate: Migrate, write: Write
) -> None:
    """However many there are, and wherever what the server says is cut into packets."""
    table.execute(
        """
        create function tell() returns trigger language plpgsql as
            'begin
                for n in 1 .. new.id % 3 loop
                    raise notice ''% row %'', repeat(''.'', new.id * 7 % 50), new.id;
                end loop;
                return new;
            end';
        create trigger tell before insert on a for each row execute function tell()
        """
    )
    write({"01_a.up.sql": "\n".join(inserts())})
    told = re.findall(r"01_a\.up\.sql:(\d+).*row (\d+)", migrate("up").stderr)
    assert told == [(f"{n}", f"{n}") for n in range(1, HEAP + 1) for _ in range(n % 3)]


def test_those_that_answer_with_rows_are_applied_as_well(
    table: Database, migrate: Migrate, write: Write
) -> None:
    lines = inserts()
    lines[299] = "insert into a values (300, 'x') returning id, t;"
    write({"01_a.up.sql": "\n".join(lines)})
    assert migrate("up").exit_code == 0
    assert table.rows("select count(*) from a") == [(HEAP,)]


def test_a_name_that_is_cut_short_is_told_with_its_own_statement(
    table: Database, migrate: Migrate, write: Write
) -> None:
    lines = inserts()
    lines[299] = f"insert into a select 300 as {'x' * 70}, 'é';"
    write({"01_a.up.sql": "\n".join(lines)})
    assert re.search(r"01_a\.up\.sql:300.*will be truncated", migrate("up").stderr)


def test_a_batch_is_sent_and_reported_as_one_however_much_is_shown(
    table: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "\n".join(inserts())})
    events = [json.loads(line) for line in migrate("--json", "up").stderr.splitlines()]
    finished = [event for event in events if event["event"] == "statement-finished"]
    assert [(event["line"], event["rows"]) for event in finished] == [(1, HEAP)]
    assert table.rows("select count(*) from a") == [(HEAP,)]


def test_what_stands_between_them_is_in_order(
    table: Database, migrate: Migrate, write: Write
) -> None:
    lines = [
        *inserts(1, 700),
        "\\restrict abc",
        *inserts(701, 1400),
        "-- a remark; no end",
        *inserts(1401, 2100),
        "update a set t = 'before';;",
        *inserts(2101, 2800),
        "copy a from stdin;\n2801\té\n\\.",
        *inserts(2802, 3500),
    ]
    write({"01_a.up.sql": "\n".join(lines)})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert table.rows("select count(*), count(*) filter (where t = 'before') from a") == [
        (3500, 2100)
    ]


RULE = "create rule tell as on insert to a do also select new.id;"
TELL = """
create function tell() returns trigger language plpgsql as
    'begin raise notice ''row %'', new.id; return new; end';
create trigger tell before insert on a for each row execute function tell();
"""


@pytest.mark.parametrize("before", [RULE, RULE + RULE.replace("tell", "tell_2"), RULE + TELL])
def test_where_a_rule_makes_more_of_one_they_are_sent_one_by_one(
    table: Database, migrate: Migrate, write: Write, before: str
) -> None:
    table.execute(before)
    write({"01_a.up.sql": "\n".join(inserts())})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert table.rows("select count(*) from a") == [(HEAP,)]
    told = re.findall(r"01_a\.up\.sql:(\d+).*row (\d+)", result.stderr)
    expected = [(f"{n}", f"{n}") for n in range(1, HEAP + 1)]
    assert told == (expected if "trigger" in before else [])


def test_a_rule_of_the_same_file_is_heeded(table: Database, migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "\n".join([RULE, *inserts()])})
    assert migrate("up").exit_code == 0
    assert table.rows("select count(*) from a") == [(HEAP,)]


AUDIT = """
create table audit (query text);
create function audit() returns trigger language plpgsql as
    'begin insert into audit values (current_query()); return new; end';
create trigger audit before insert on a for each row execute function audit();
"""


@pytest.mark.parametrize("in_file", [True, False])
def test_where_somebody_keeps_the_text_of_a_statement_it_is_its_own(
    table: Database, migrate: Migrate, write: Write, in_file: bool
) -> None:
    if not in_file:
        table.execute(AUDIT)
    write({"01_a.up.sql": "\n".join([AUDIT * in_file, *inserts()])})
    assert migrate("up").exit_code == 0
    assert table.rows("select count(*), max(length(query)) < 100 from audit") == [(HEAP, True)]


def test_where_the_server_counts_bytes_an_error_is_that_of_its_own_statement(
    database: Database, migrate: Migrate, write: Write
) -> None:
    name = f"{database.name}_ascii"
    database.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C'")
    url = database.url.replace(database.name, name)
    lines = ["create table a (id int, t text);", *inserts()]
    lines[300] = "insert into a values (300, nothing);"
    write({"01_a.up.sql": "\n".join(lines)})
    assert "01_a.up.sql:301:" in migrate("up", database=url).stderr
    database.execute(f"drop database {name}")
