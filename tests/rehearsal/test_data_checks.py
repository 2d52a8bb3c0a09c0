"""What a pending migration newly requires of rows is asked of the target, which stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import Migrate, Result, Write

from .prepared import fixtures

pytestmark = pytest.mark.slow

SETUP = """
create type mood as enum ('glad', 'sad');
create domain code as text;
create table customers (id int primary key, email text, code code, mood mood);
create table orders (
    id int primary key,
    customer int,
    region text,
    total int,
    note text
);
create table bookings (id int primary key, room int4range, day int);
create table events (id int not null, day int not null) partition by range (day);
create table events_rest partition of events default;
create table events_1 (id int not null, day int not null);
create table pieces (id int not null) partition by hash (id);
create table pieces_0 partition of pieces for values with (modulus 2, remainder 0);
create table pieces_1 (id int not null);
create table places (country text, name text, primary key (country, name));
create table stays (
    id int primary key,
    country text,
    place text,
    guest int references customers on delete cascade
);
create function nothing() returns trigger language plpgsql as 'begin return new; end';
create trigger nothing before update on orders for each row execute function nothing();
create trigger nothing after update on bookings for each row execute function nothing();
"""
ROWS = """
insert into customers values (1, 'a@example.org', 'A', 'glad'), (2, 'b@example.org', 'B', 'glad');
insert into orders values (1, 1, '1', 10, 'x'), (2, 2, '2', 20, 'y');
insert into bookings values (1, '[1,2]', 1), (2, '[3,4]', 1), (3, '[1,2]', 2);
insert into events values (1, 11), (2, 12);
insert into events_1 values (1, 1);
insert into pieces_1 select n from generate_series(1, 100) n
    where satisfies_hash_partition('pieces'::regclass, 2, 1, n);
insert into places values ('at', 'graz');
insert into stays values (1, 'at', 'graz'), (2, null, null), (3, null, 'linz');
"""


START = {"01_setup.up.sql": SETUP}


start, database = fixtures(START)


@dataclass(frozen=True)
class Case:
    """A pending script, and what breaks it, by which rows, how often.

    Without those rows it passes.  An example of None is an error of PostgreSQL.
    """

    script: str
    breaks: str
    what: str
    count: int = 1
    example: str | None = "id=3"
    since: int = 13


ORDER = "insert into orders values (3, 1, '3', 1, null)"
CASES = {
    "not null": Case(
        "alter table orders alter note set not null;", ORDER, "NOT NULL of public.orders.note"
    ),
    "not null that a valid check proves": Case(
        """alter table orders add constraint given check (note is not null) not valid;
        alter table orders validate constraint given;
        alter table orders alter note set not null;
        alter table orders drop constraint given;""",
        ORDER,
        "NOT NULL of public.orders.note",
    ),
    "not null of a row value": Case(
        """create type pair as (a int, b int);
        alter table orders add pair pair default row(null, null);
        alter table orders alter note set not null, alter pair set not null;""",
        ORDER,
        "NOT NULL of public.orders.note",
    ),
    "not null added not valid, then validated": Case(
        """alter table orders add constraint given not null note not valid;
        alter table orders validate constraint given;""",
        ORDER,
        "NOT NULL of public.orders.note",
        since=18,
    ),
    "check": Case(
        "alter table orders add constraint positive check (total > 0);",
        "insert into orders values (3, 1, 'n', -1), (4, 1, 'n', 0), (5, 1, 'n', null)",
        "check positive of public.orders",
        count=2,
    ),
    "check validated": Case(
        """alter table orders add constraint positive check (total > 0) not valid;
        alter table orders validate constraint positive;""",
        "insert into orders values (3, 1, 'n', -1, 'x')",
        "check positive of public.orders",
    ),
    "check under new names": Case(
        """alter table orders rename total to amount;
        alter table orders rename to sales;
        create schema shop;
        alter table sales set schema shop;
        alter table shop.sales add constraint positive check (amount > 0);""",
        "insert into orders values (3, 1, 'n', -1, 'x')",
        "check positive of shop.sales",
    ),
    "check of a new column with a default": Case(
        """alter table orders add "At most" int default 15;
        alter table orders add constraint bounded check (total <= "At most" + 10);""",
        "insert into orders values (3, 1, 'n', 30, 'x')",
        "check bounded of public.orders",
    ),
    "check of a new generated column": Case(
        """alter table orders add half int generated always as (total / 2) stored;
        alter table orders add constraint bounded check (half < 50);""",
        "insert into orders values (3, 1, 'n', 300, 'x')",
        "check bounded of public.orders",
    ),
    "unique": Case(
        "alter table customers add constraint one_email unique (email);",
        "insert into customers values (3, 'a@example.org', 'C'), (4, null, 'D'), (5, null, 'E')",
        "unique constraint one_email of public.customers",
        example="email=a@example.org (2 rows)",
    ),
    "unique with equal nulls": Case(
        "alter table stays add constraint one unique nulls not distinct (country, place);",
        "insert into stays values (4)",
        "unique constraint one of public.stays",
        example="country=, place= (2 rows)",
        since=15,
    ),
    "unique index": Case(
        "create unique index one_email on customers (lower(email)) where id < 100;",
        "insert into customers values (3, 'A@example.org'), (100, 'b@example.org')",
        "unique index one_email of public.customers",
        example="lower(email)=a@example.org (2 rows)",
    ),
    "unique index built concurrently": Case(
        "-- migrator: no-transaction\n"
        "create unique index concurrently one_email on customers (email);",
        "insert into customers values (3, 'a@example.org')",
        "unique index one_email of public.customers",
        example="email=a@example.org (2 rows)",
    ),
    "unique index of a partitioned table": Case(
        "create unique index one on events (id, day);",
        "insert into events values (1, 11)",
        "unique index one of public.events",
        example="id=1, day=11 (2 rows)",
    ),
    "primary key": Case(
        "alter table events_1 add constraint its_key primary key (id);",
        "insert into events_1 values (1, 2)",
        "primary key its_key of public.events_1",
        example="id=1 (2 rows)",
    ),
    "foreign key": Case(
        "alter table orders add constraint its_customer foreign key (customer)"
        " references customers;",
        "insert into orders values (3, 9, 'n', 1, 'x'), (4, null, 'n', 1, 'x')",
        "foreign key its_customer of public.orders",
    ),
    "foreign key of several columns": Case(
        "alter table stays add constraint its_place foreign key (country, place)"
        " references places;",
        "insert into stays values (4, 'at', 'linz')",
        "foreign key its_place of public.stays",
        example="id=4",
    ),
    "foreign key that matches fully": Case(
        """delete from customers where id > 100;
        update stays set id = id where id > 100;
        alter table bookings add country text default 'at', add place text default 'graz';
        alter table bookings add constraint its_place foreign key (country, place)
            references places match full;
        alter table orders alter note set not null;""",
        ORDER,
        "NOT NULL of public.orders.note",
    ),
    "foreign key to a new table": Case(
        """create table regions (name text primary key);
        alter table customers add constraint its_region foreign key (email)
            references regions not valid;
        alter table bookings add region text;
        alter table bookings add foreign key (region) references regions;
        alter table orders add constraint its_note foreign key (note) references regions;""",
        "insert into orders values (3, 1, '3', 1, 'z')",
        "foreign key its_note of public.orders",
        since=99,
    ),
    "exclusion": Case(
        "alter table bookings add constraint apart exclude using gist (room with &&)"
        " where (day > 1);",
        "insert into bookings values (4, '[2,5]', 2)",
        "exclusion constraint apart of public.bookings",
        example="id=3 and id=4",
    ),
    "domain": Case(
        "alter domain code add constraint short check (length(value) < 4);",
        "insert into customers values (3, 'c', 'LONG')",
        "check short of domain public.code in public.customers.code",
    ),
    "not null of a domain": Case(
        "alter domain code set not null;",
        "insert into customers values (3, 'c', null)",
        "NOT NULL of domain public.code in public.customers.code",
    ),
    "partition attached": Case(
        "alter table events attach partition events_1 for values from (1) to (10);",
        "insert into events_1 values (3, 10)",
        "partition bound of public.events_1",
        example="ctid=(0,2)",
    ),
    "partition attached by hash": Case(
        "alter table pieces attach partition pieces_1 for values with (modulus 2, remainder 1);",
        "insert into pieces_1 select n from generate_series(1, 100) n"
        " where satisfies_hash_partition('pieces'::regclass, 2, 0, n) limit 1",
        "partition bound of public.pieces_1",
        example=None,
    ),
    "rows of the default partition": Case(
        "create table events_2 partition of events for values from (20) to (30);",
        "insert into events values (3, 20)",
        "partition bound of public.events_rest",
        example="ctid=(0,3)",
    ),
    "type by a cast": Case(
        "alter table orders alter total type smallint;",
        "insert into orders values (3, 1, 'n', 100000, 'x')",
        "type smallint of public.orders.total",
        count=0,
        example=None,
    ),
    "type by an expression": Case(
        "alter table orders alter id type bigint,"
        " alter column region type numeric(6, 2) using (region || '0')::numeric;",
        "insert into orders values (3, 1, 'n', 1, 'x')",
        "type numeric(6,2) of public.orders.region",
        count=0,
        example=None,
    ),
    "shorter text": Case(
        "alter table orders alter note type varchar(3);",
        "insert into orders values (3, 1, '3', 1, 'long'), (4, 1, '3', 1, 'abc  ')",
        "type character varying(3) of public.orders.note",
    ),
    "enum replaced": Case(
        """alter type mood rename to mood_old;
        create type mood as enum ('glad');
        alter table orders alter note type varchar;
        alter table customers alter mood type mood using mood::text::mood;
        drop type mood_old;""",
        "insert into customers values (3, 'c', 'C', 'sad')",
        "type public.mood of public.customers.mood",
    ),
    "text to a new enum": Case(
        """create type region as enum ('1', '2');
        alter table orders alter region type region using region::region;""",
        "insert into orders values (3, 1, 'n', 1, 'x')",
        "type public.region of public.orders.region",
    ),
}


def prepare(migrate: Migrate, write: Write, script: str, rows: str = ROWS) -> None:
    write({**START, "02_pending.up.sql": script})
    migrate.database.execute(rows)


def checks(result: Result) -> list[Any]:
    assert "internal error" not in result.stderr, result.stderr
    return [each for migration in result.json["migrations"] for each in migration["data_checks"]]


def broken(result: Result) -> list[str]:
    return [
        finding["message"]
        for migration in result.json["migrations"]
        for finding in migration["findings"]
        if finding["hazard"] == "breaks-on-data"
    ]


@pytest.mark.parametrize("name", CASES)
def test_a_requirement_that_no_row_breaks_is_checked_and_holds(
    migrate: Migrate, write: Write, name: str
) -> None:
    case = CASES[name]
    if migrate.database.postgres.version < case.since:
        pytest.skip(f"needs PostgreSQL {case.since}")
    prepare(migrate, write, case.script)
    clean = migrate("--json", "rehearse")
    assert broken(clean) == []
    assert [each["answer"] for each in checks(clean) if each["what"] == case.what] == ["passes"]
    assert migrate("up").exit_code == 0


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_to_fail_fails(migrate: Migrate, write: Write, name: str) -> None:
    case = CASES[name]
    if migrate.database.postgres.version < case.since:
        pytest.skip(f"needs PostgreSQL {case.since}")
    prepare(migrate, write, case.script, ROWS + case.breaks)
    result = migrate("--json", "rehearse")
    assert result.exit_code == 4
    (found,) = [each for each in checks(result) if each["answer"] == "fails"]
    assert (found["what"], found["count"]) == (case.what, case.count)
    assert case.example is None or case.example in found["examples"]
    assert len(broken(result)) == 1
    assert migrate("up").exit_code == 1


# What cannot be checked, and what always fails

UNKNOWN = {
    "an update before": (
        "update orders set note = '' where note is null;\n"
        "alter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "an update under a lock that was held before": (
        "alter table orders alter note set default '';\nupdate orders set note = '';\n"
        "alter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "a function that may update": (
        "create function fill() returns void language sql"
        " as $$ update orders set note = '' where note is null $$;\n"
        "select fill();\nalter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "a block that updates": (
        "do $$ begin update orders set note = '' where note is null; end $$;\n"
        "alter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "an update outside a transaction": (
        "-- migrator: no-transaction\nupdate orders set note = '' where note is null;\n"
        "alter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "a new column with a volatile default": (
        "alter table orders add key uuid default gen_random_uuid();\n"
        "alter table orders add unique (key);",
        "cannot be checked: the migration itself fills it",
    ),
    "a new table that is filled": (
        "create table notes (note text primary key);\n"
        "insert into notes select distinct note from orders where note is not null;\n"
        "alter table orders add foreign key (note) references notes;",
        "cannot be checked: the migration itself fills it",
    ),
    "a function of the migration": (
        "create function fine(text) returns boolean language sql immutable as 'select $1 > $$$$';\n"
        "alter table orders add check (fine(note));",
        "cannot be checked: function public.fine(text) does not exist",
    ),
    "a delete that cascades": (
        "delete from customers where id = 9;\nalter table stays alter guest set not null;",
        "cannot be checked: rows break it now, but the migration deletes rows first",
    ),
    "a delete before": (
        "delete from orders where note is null;\nalter table orders alter note set not null;",
        "cannot be checked: rows break it now, but the migration deletes rows first",
    ),
    "a delete of referenced rows": (
        "delete from places where name = 'x';\n"
        "alter table stays add foreign key (country, place) references places;",
        "cannot be checked: no row breaks it now, but the migration deletes rows that it may",
    ),
    "a delete before a conversion": (
        "delete from orders where note is null;\n"
        "alter table orders alter region type int using (region || 'x')::int;",
        "cannot be checked: rows break it now, but the migration deletes rows first",
    ),
    "a trigger that writes elsewhere": (
        "update bookings set day = 1;\nalter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "a trigger that fills the row": (
        "update orders set total = 1;\nalter table orders alter note set not null;",
        "cannot be checked: the migration itself fills it",
    ),
    "rows inserted before": (
        "insert into orders values (3, 1, 'n', 1, 'x');\n"
        "alter table orders alter customer set not null;",
        "cannot be checked: no row breaks it now, but the migration inserts more",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_the_migration_changes_itself_is_no_finding(
    migrate: Migrate, write: Write, name: str
) -> None:
    script, said = UNKNOWN[name]
    prepare(migrate, write, script, ROWS + "update orders set note = null where id = 1;")
    result = migrate("rehearse")
    assert said in result.stdout
    assert "breaks-on-data" not in result.stdout


def test_an_earlier_pending_file_may_fill_what_a_later_one_requires(
    migrate: Migrate, write: Write
) -> None:
    prepare(migrate, write, "update orders set note = '' where note is null;", ROWS + ORDER)
    write({"03_strict.up.sql": "alter table orders alter note set not null;"})
    result = migrate("--json", "rehearse")
    assert [(each["answer"], each["reason"]) for each in checks(result)] == [
        ("unknown", "the migration itself fills it")
    ]
    assert broken(result) == []


def test_an_update_of_other_columns_does_not_hide_rows(migrate: Migrate, write: Write) -> None:
    script = """
    update only stays s set (country, guest) = ('at', null), id = id where place is not null;
    insert into customers values (9);
    alter table stays alter place set not null;
    """
    prepare(migrate, write, script)
    assert broken(migrate("--json", "rehearse")) == [
        "NOT NULL of public.stays.place will fail: 1 row breaks it (id=2)"
    ]


def test_what_the_statements_of_a_migration_may_break_is_said_to_be_unchecked(
    migrate: Migrate, write: Write
) -> None:
    script = """
    insert into customers (id, email) values (7, 'x');
    insert into customers (id, email) values (8, 'x');
    insert into customers (id, email) values (8, 'x') on conflict do nothing;
    insert into customers (email) values ('y');
    update stays set guest = 7, country = 'at';
    update places set name = 'wien' where name = 'graz';
    update customers set email = 'z';
    delete from customers where id = 9;
    delete from places where name = 'graz';
    create table fresh (id int primary key);
    insert into fresh values (1);
    delete from bookings where day = 1;
    """
    setup = "alter table customers alter id set default 3;"
    setup += "alter table stays add constraint at foreign key (country, place) references places;"
    write({**START, "02_setup.up.sql": setup})
    assert migrate("up").exit_code == 0
    migrate.database.execute(ROWS)
    write({"03_pending.up.sql": script})
    result = migrate("--json", "rehearse")
    depends = "depends on the rows"
    assert [(each["line"], each["what"], each["reason"]) for each in checks(result)] == [
        (2, "INSERT of rows of public.customers", f"whether it breaks {PRIMARY} {depends}"),
        (6, "UPDATE of rows of public.stays", f"whether it breaks {KEYS} {depends}"),
        (
            7,
            "UPDATE of rows of public.places",
            f"whether it breaks primary key places_pkey or {AT} {depends}",
        ),
        (10, "DELETE of rows of public.places", f"whether it breaks {AT} {depends}"),
    ]
    assert broken(result) == []


PRIMARY = "primary key customers_pkey"
KEYS = "foreign key at or foreign key stays_guest_fkey"
AT = "foreign key at of public.stays"


def test_what_a_delete_cannot_break_is_checked(migrate: Migrate, write: Write) -> None:
    script = """
    delete from orders where id = 1;
    alter table orders alter region set not null, add unique (customer), add check (total > 0);
    alter table orders add foreign key (customer) references customers;
    alter table customers add unique (email);
    """
    prepare(migrate, write, script)
    assert [each["answer"] for each in checks(migrate("--json", "rehearse"))] == ["passes"] * 5


def test_inserted_rows_do_not_hide_those_that_break_it(migrate: Migrate, write: Write) -> None:
    insert = "insert into orders values (9, 1, 'n', 1, 'x');\n"
    script = insert + "alter table orders alter note set not null;"
    prepare(migrate, write, script, ROWS + ORDER)
    assert broken(migrate("--json", "rehearse")) == [
        "NOT NULL of public.orders.note will fail: 1 row breaks it (id=3)"
    ]


@pytest.mark.parametrize("files", [1, 2])
def test_a_new_column_keeps_its_default_when_its_type_changes(
    migrate: Migrate, write: Write, files: int
) -> None:
    add = "alter table orders add grade int default 1;"
    change = "alter table orders alter grade drop default, alter grade type text;"
    strict = "alter table orders alter grade set not null;"
    prepare(migrate, write, add if files == 2 else f"{add}\n{change}\n{strict}")
    if files == 2:
        write({"03_strict.up.sql": f"{change}\n{strict}"})
    result = migrate("--json", "rehearse")
    assert broken(result) == []
    assert ("unknown", "the migration itself fills it") in [
        (each["answer"], each["reason"]) for each in checks(result)
    ]


MAKES_AN_ENUM = """
create type mood_new as enum ('glad');
alter table customers alter mood type mood_new using ("mood"::text::mood_new);
alter type mood rename to mood_old;
alter type mood_new rename to mood;
drop type mood_old;
"""


def test_an_enum_that_is_made_again_is_checked_under_parentheses(
    migrate: Migrate, write: Write
) -> None:
    prepare(migrate, write, MAKES_AN_ENUM)
    assert [each["answer"] for each in checks(migrate("--json", "rehearse"))] == ["passes"]
    migrate.database.execute("insert into customers values (3, '', '', 'sad')")
    assert broken(migrate("--json", "rehearse")) == [
        "type public.mood of public.customers.mood will fail: 1 row breaks it (id=3)"
    ]


def test_columns_with_a_constant_default_are_checked_whatever_their_type(
    migrate: Migrate, write: Write
) -> None:
    script = """
    create type size as enum ('s', 'm');
    create table boxes (id int primary key, size size not null);
    alter table orders
        add size size not null default 's',
        add sizes size[] not null default '{s,m}',
        add numbers int[] not null default '{1}',
        add box int references boxes,
        add check (1 = any (numbers));
    create unique index on orders (id, size);
    """
    prepare(migrate, write, script)
    answers = [each["answer"] for each in checks(migrate("--json", "rehearse"))]
    assert answers == ["passes"] * 6
    assert migrate("up").exit_code == 0


def test_a_new_column_without_a_default_is_checked_whatever_its_type(
    migrate: Migrate, write: Write
) -> None:
    script = "create type size as enum ('s', 'm');\nalter table orders add size size not null;"
    prepare(migrate, write, script)
    assert broken(migrate("--json", "rehearse")) == [
        "NOT NULL of public.orders.size will fail: 2 rows break it (id=1; id=2)"
    ]
    migrate.database.execute("truncate orders")
    assert [each["answer"] for each in checks(migrate("--json", "rehearse"))] == ["passes"]


def test_a_renamed_column_without_using_is_converted_under_its_old_name(
    migrate: Migrate, write: Write
) -> None:
    script = """
    alter table orders rename note to remark;
    alter table orders rename region to note;
    alter table orders alter remark type varchar(3);
    """
    prepare(migrate, write, script)
    assert [each["answer"] for each in checks(migrate("--json", "rehearse"))] == ["passes"]
    migrate.database.execute("insert into orders values (3, 1, 'n', 1, 'long')")
    (said,) = broken(migrate("--json", "rehearse"))
    assert said.endswith("public.orders.remark will fail: 1 row breaks it (id=3)")


def test_a_column_that_is_renamed_after_its_conversion_keeps_its_using(
    migrate: Migrate, write: Write
) -> None:
    script = """
    alter table orders alter note type int using length(note);
    alter table orders rename note to remark;
    """
    prepare(migrate, write, script)
    assert broken(migrate("--json", "rehearse")) == []
    assert migrate("up").exit_code == 0
