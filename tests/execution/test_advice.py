"""What to do next, for each SQLSTATE that a migration meets, as a real server raises it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.execution import advice
from tests.conftest import Database, Migrate, Write
from tests.sessions import invalid_indexes

pytestmark = pytest.mark.slow

FIX_FILE = "next: fix the file, then run: migrator up"
FIX_DATA = "next: fix the data, then run: migrator up"
FIX_EITHER = "next: fix the file or the data, then run: migrator up"
RUN_AGAIN = "next: after that, run: migrator up"

USERS = "create table users (id int primary key, email text, age int);"
TWICE = f"{USERS} insert into users values (1, 'a', 1), (2, 'a', -1);"
POSTS = f"{USERS} create table posts (user_id int); insert into posts values (7);"


@dataclass(frozen=True)
class Case:
    """A script that fails, on a database with something in it, and what is said of it."""

    sqlstate: str  # several, separated by "|", if it depends on the version of the server
    up: str
    says: Sequence[str]
    before: str = ""
    place: str = ""


def raised(sqlstate: str, message: str = "told") -> str:
    """Return a script that fails with an error that a healthy server does not have."""
    return f"do $$ begin raise exception '{message}' using errcode = '{sqlstate}'; end $$;"


CASES = {
    "a unique constraint on equal rows": Case(
        "23505",
        "alter table users add constraint one_email unique (email);",
        [
            "rows of public.users have equal values in email; to list them: "
            "select email, count(*) from public.users group by email having count(*) > 1;",
            FIX_DATA,
        ],
        TWICE,
    ),
    "a unique index on an expression of equal rows": Case(
        "23505",
        "create unique index on users (lower(email), length(email));",
        ["group by lower(email), length(email) having count(*) > 1;", FIX_DATA],
        TWICE,
    ),
    "a row with a key that exists": Case(
        "23505",
        "insert into users values (1);",
        ["public.users already has a row with this key", FIX_EITHER],
        TWICE,
    ),
    "a row that is given the key of another": Case(
        "23505",
        "update users set id = 1;",
        ["a row of public.users a key that another row has"],
        TWICE,
    ),
    "a required column for existing rows": Case(
        "23502",
        "alter table users add phone text not null;",
        ["the rows of public.users have no value for phone: give it a DEFAULT", FIX_FILE],
        TWICE,
    ),
    "NOT NULL on a column with nulls": Case(
        "23502",
        "alter table users alter email set not null;",
        ["select * from public.users where email is null limit 3;", FIX_DATA],
        f"{USERS} insert into users values (1);",
    ),
    "a row without a required value": Case(
        "23502", "insert into users values (null);", ["gives id of public.users no value"], USERS
    ),
    "a foreign key on rows that refer to nothing": Case(
        "23503",
        "alter table posts add constraint author foreign key (user_id) references users;",
        ["rows of public.posts refer to rows", "add author as NOT VALID", FIX_DATA],
        POSTS,
    ),
    "a row that others refer to": Case(
        "23503",
        "delete from users;",
        ["rows of public.posts still refer to this row"],
        f"{USERS} insert into users values (1); create table posts (user_id int references users);"
        "insert into posts values (1);",
    ),
    "a row that refers to nothing": Case(
        "23503",
        "insert into posts values (7);",
        ["insert that one first", FIX_EITHER],
        f"{USERS} create table posts (user_id int references users);",
    ),
    "a check on rows that violate it": Case(
        "23514",
        "alter table users add constraint adult check (age > 0);",
        [
            "rows of public.users violate adult; to list some: select * from public.users",
            "add adult as NOT VALID",
            FIX_DATA,
        ],
        TWICE,
    ),
    "a row that violates a check": Case(
        "23514",
        "insert into users values (3, 'c', -1);",
        ["the row violates adult of public.users"],
        f"{USERS} alter table users add constraint adult check (age > 0);",
    ),
    "a row without a partition": Case(
        "23514",
        "insert into parts values (1);",
        ["create a partition of public.parts for this row"],
        "create table parts (a int) partition by list (a);",
    ),
    "a partition of rows in the default one": Case(
        "23514",
        "create table one partition of parts for values in (1);",
        ["the default partition has rows that belong to the new one", FIX_DATA],
        "create table parts (a int) partition by list (a);"
        "create table rest partition of parts default; insert into parts values (1);",
    ),
    "an attached table with other rows": Case(
        "23514",
        "alter table parts attach partition one for values in (1);",
        ["rows of public.one do not belong to this partition", FIX_DATA],
        "create table parts (a int) partition by list (a); create table one (a int);"
        "insert into one values (2);",
    ),
    "a constraint of a domain in use": Case(
        "23514",
        "alter domain positive add constraint above check (value > 0);",
        ["values of age in public.people violate the new constraint", FIX_DATA],
        "create domain positive int; create table people (age positive);"
        "insert into people values (-1);",
    ),
    "an exclusion constraint on rows": Case(
        "23P01",
        "alter table stays add constraint alone exclude using gist (during with &&);",
        ["rows of public.stays conflict under alone", FIX_DATA],
        "create table stays (during int4range);insert into stays values ('[1,5)'), ('[2,6)');",
    ),
    "a row that is excluded": Case(
        "23P01",
        "insert into stays values ('[2,6)');",
        ["public.stays already has a row that conflicts with this one under alone"],
        "create table stays (during int4range,"
        " constraint alone exclude using gist (during with &&));"
        "insert into stays values ('[1,5)');",
    ),
    "values longer than a new type": Case(
        "22001",
        "alter table users alter email type varchar(3);",
        ["shorten them first", FIX_EITHER],
        f"{USERS} insert into users values (1, 'long enough');",
    ),
    "a value longer than its column": Case(
        "22001", "insert into t values ('abcd');", ["shorten it"], "create table t (a varchar(3));"
    ),
    "a value that a cast refuses": Case(
        "22P02",
        "alter table users alter email type int using email::int;",
        ["an existing value does not fit", FIX_EITHER],
        TWICE,
    ),
    "a value out of the range of a new type": Case(
        "22003",
        "alter table users alter age type smallint;",
        ["an existing value does not fit"],
        f"{USERS} insert into users values (1, 'a', 70000);",
    ),
    "a date that does not exist": Case("22008", "select '2025-02-30'::date;", [FIX_FILE]),
    "a table that is missing": Case("42P01", "select * from nowhere;", ["check the spelling"]),
    "a table to drop that is missing": Case(
        "42P01", "drop table nowhere;", ["write DROP … IF EXISTS"]
    ),
    "a column that is missing": Case(
        "42703", "select * from users where Surname = 1;", ["a string needs single quotes"], USERS
    ),
    "a column that is misspelled, which PostgreSQL sees": Case(
        "42703",
        "select emial from users;",
        [f"Nothing else changed in this run.\n{FIX_FILE}"],
        USERS,
    ),
    "a function that is missing": Case("42883", "select nothing();", ["check the name"]),
    "an operator that is missing": Case(
        "42883", "select 1 where 1 = 'a'::text;", ["convert one side to the type of the other"]
    ),
    "a type that is missing": Case(
        "42704", "create table t (a citext);", ["if it belongs to an extension"]
    ),
    "a role that is missing": Case(
        "42704", "grant select on users to nobody_here;", ["create the role on this server"], USERS
    ),
    "a role to set that is missing": Case(
        "22023", "set local role nobody_here;", ["create the role on this server"], USERS
    ),
    "a role that another database has brought": Case(
        "42710", "create role postgres;", ["only where it is missing"]
    ),
    "a schema that is missing": Case(
        "3F000", "create table app.t ();", ['earlier statement: create schema "app";']
    ),
    "a search path without a schema": Case(
        "3F000",
        "set search_path = nowhere; create table t ();",
        ["or correct the search path", FIX_FILE],
    ),
    "a foreign key to columns without a key": Case(
        "42830",
        "create table t (a text references users (email));",
        ["first add a UNIQUE constraint or a PRIMARY KEY"],
        USERS,
    ),
    "a type that cannot be cast": Case(
        "42804", "alter table users alter email type int;", ["USING an expression"], USERS
    ),
    "a default that cannot be cast": Case(
        "42804",
        "alter table t alter a type int using 1;",
        ["drop the default in an earlier statement"],
        "create table t (a text default 'x');",
    ),
    "a syntax error": Case("42601", "create tabel t ();", [FIX_FILE]),
    "a table that a view needs": Case(
        "2BP01",
        "drop table users;",
        ["view v depends on table users", "CASCADE could drop more than that"],
        f"{USERS} create view v as select * from users;",
    ),
    "a role that owns something": Case(
        "2BP01",
        "create role dependent; alter table users owner to dependent; drop role dependent;",
        ["reassign owned by ROLE to OTHER; drop owned by ROLE;", "owner of table users"],
        USERS,
    ),
    "a column that a view needs": Case(
        "0A000",
        "alter table users alter email type varchar;",
        ["in an earlier statement, drop what the DETAIL names; create it again", "view v"],
        f"{USERS} create view v as select * from users;",
    ),
    "an extension that the server lacks": Case(
        "0A000|58P01",
        "create extension not_there;",
        ["install its package there", "select name from pg_available_extensions;"],
    ),
    "a library that the server lacks": Case(
        "58P01",
        "create function f() returns int language c as 'not_there';",
        ["the server does not have this library"],
    ),
    "COPY from a file of the server": Case(
        "58P01", "copy users from '/nowhere';", ["write COPY … FROM stdin"], USERS
    ),
    "what PostgreSQL cannot do": Case(
        "0A000",
        "create table t (a int) partition by list (a); create unique index on t (lower(a::text));"
        "alter table t set unlogged; alter table t inherit users;",
        [FIX_FILE],
        USERS,
    ),
    "checks that are still deferred": Case(
        "55006",
        "set constraints all deferred; insert into posts values (1); alter table posts add b int;",
        ["before the statement, add: set constraints all immediate;"],
        f"{USERS} insert into users values (1);"
        "create table posts (user_id int references users deferrable);",
    ),
    "a table that a cursor reads": Case(
        "55006",
        "declare c cursor for select * from users; alter table users add b int;",
        ["the object is in use: close what uses it first, such as a cursor", FIX_FILE],
        USERS,
    ),
    # The fixture is connected to this database; PostgreSQL waits 5 s for others to leave it.
    "a database that others use": Case(
        "55006",
        "-- migrator: no-transaction\ncreate database copied template postgres;",
        ["end the sessions of that database: select pg_terminate_backend(pid)"],
    ),
    "a materialized view without rows": Case(
        "55000",
        "select * from m;",
        ["refresh materialized view NAME;"],
        "create materialized view m as select 1 with no data;",
    ),
    "an update that cannot be published": Case(
        "55000",
        "update t set a = 1;",
        ["alter table NAME replica identity full;"],
        "create table t (a int); insert into t values (2); create publication p for table t;",
    ),
    "a sequence that was not used": Case(
        "55000", "create sequence s; select currval('s');", ["the state that PostgreSQL asks for"]
    ),
    "a new enum value that is used": Case(
        "55P04",
        "alter type e add value 'b'; select 'b'::e;",
        ["use the new enum value in a later migration"],
        "create type e as enum ('a');",
    ),
    "what runs outside a transaction": Case(
        "2D000",
        "call p();",
        ["begin the file with: -- migrator: no-transaction"],
        "create procedure p() language plpgsql as $$ begin commit; end $$;",
    ),
    "what runs by itself only": Case(
        "25001",
        "create subscription s connection 'dbname=none' publication p;",
        ["begin the file with: -- migrator: no-transaction"],
    ),
    "what runs by itself only, in a body": Case(
        "25001",
        "do $$ begin execute 'vacuum'; end $$;",
        ["write it as a separate statement, outside functions and DO blocks", FIX_FILE],
    ),
    "what runs by itself only, in a body outside a transaction": Case(
        "25001",
        "-- migrator: no-transaction\ndo $$ begin execute 'vacuum'; end $$;",
        ["write it as a separate statement, outside functions and DO blocks", FIX_FILE],
    ),
    "a commit in a function": Case(
        "2D000",
        "select f();",
        ["only a procedure called with CALL, or a DO block, can commit", FIX_FILE],
        "create function f() returns void language plpgsql as $$ begin commit; end $$;",
    ),
    "a commit in a function, outside a transaction": Case(
        "2D000",
        "-- migrator: no-transaction\nselect f();",
        ["only a procedure called with CALL, or a DO block, can commit", FIX_FILE],
        "create function f() returns void language plpgsql as $$ begin commit; end $$;",
    ),
    "a full disk": Case("53100", raised("53100"), ["free some space there", RUN_AGAIN]),
    "too many locks": Case(
        "53200", raised("53200", "out of shared memory"), ["max_locks_per_transaction"]
    ),
    "a lack of memory": Case("53200", raised("53200"), ["lower work_mem"]),
    "too many connections": Case("53300", raised("53300"), ["max_connections", RUN_AGAIN]),
    "too large temporary files": Case(
        "53400",
        "set temp_file_limit = '64kB'; set work_mem = '64kB';"
        "select i from generate_series(1, 100000) i order by -i;",
        ["raise work_mem or temp_file_limit"],
    ),
    "another limit": Case("53400", raised("53400"), ["ask its administrator", RUN_AGAIN]),
    "a recursion without end": Case(
        "54001",
        "set max_stack_depth = '100kB'; select f();",
        ["nested too deeply"],
        "create function f() returns int language plpgsql as $$ begin return f(); end $$;",
    ),
    "too many columns": Case(
        "54011",
        f"create table t ({', '.join(f'c{i} int' for i in range(1601))});",
        ["at most 1600 columns"],
    ),
    "an index row that is too large": Case(
        "54000",
        "create index on t (a);",
        ["create index on t (md5(a));"],
        "create table t (a text); alter table t alter a set storage external;"
        "insert into t values (repeat('a', 9000));",
    ),
    "too many arguments": Case(
        "54023", f"select concat({', '.join('1' * 101)});", ["exceeds a fixed limit"]
    ),
    "a statement that takes too long": Case(
        "57014",
        "set local statement_timeout = '10ms'; select pg_sleep(60);",
        ["if it needs more time: -- migrator: statement-timeout 15min"],
    ),
    "a statement that somebody cancelled": Case(
        "57014",
        "select pg_cancel_backend(pg_backend_pid()), pg_sleep(60);",
        ["the statement was cancelled by another session", RUN_AGAIN],
    ),
    "a file that the server cannot read": Case("58030", raised("58030"), ["check its disk"]),
    "a configuration file with an error": Case("F0000", raised("F0000"), [RUN_AGAIN]),
    "a change at the same time": Case(
        "XX000", raised("XX000", "tuple concurrently updated"), ["at the same time", RUN_AGAIN]
    ),
    "an internal error": Case("XX000", raised("XX000"), ["read the server's log"]),
    "damaged data": Case("XX001", raised("XX001"), ["copy its data directory"]),
    "a damaged index": Case("XX002", raised("XX002"), ["stop writing to this database"]),
    "a character that the database lacks": Case(
        "22P05", raised("22P05"), ["lacks this character: remove it"]
    ),
    "bytes that are no character": Case(
        "22021", "select convert_from('\\xff', 'UTF8');", ["name the encoding that they have"]
    ),
    "an earlier failure that was hidden": Case("25P02", raised("25P02"), ["the server's log"]),
    "a crash of the server": Case("57P02", raised("57P02"), ["wait until it accepts"]),
    "a server that starts": Case("57P03", raised("57P03"), ["wait until it accepts"]),
    "a row that may not lose those that refer to it": Case(
        "23001",
        raised("23001", 'update or delete on table "a" violates RESTRICT setting').replace(
            "errcode", "schema = 'public', table = 'b', errcode"
        ),
        ["rows of public.b still refer to this row"],
    ),
    "an error of the script's own": Case("P0001", raised("P0001"), [FIX_FILE]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_hint_fits_the_error(
    migrate: Migrate, write: Write, database: Database, name: str
) -> None:
    case = CASES[name]
    database.execute(case.before or "select 1")
    write({"01_a.up.sql": case.up})
    result = migrate("up")
    assert result.exit_code == 1, result.stderr
    assert re.search(f"SQLSTATE (?:{case.sqlstate})", result.stderr)
    for text in case.says:
        assert text in result.stderr


def test_every_row_of_the_table_is_reached() -> None:
    codes = {code for case in CASES.values() for code in case.sqlstate.split("|")}
    elsewhere = {"42501", "57P01"}
    for row in advice.rows():
        for code in row.sqlstate:
            known = codes | elsewhere
            assert code in known or any(each.startswith(code) for each in known), row


def test_after_damage_nothing_is_to_be_run(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": raised("XX001")})
    assert "migrator up" not in migrate("up").stderr


def test_a_failed_concurrent_index_is_named_and_said_to_be_cleared_away(
    migrate: Migrate, write: Write, database: Database
) -> None:
    database.execute(TWICE)
    write({"01_a.up.sql": "create unique index concurrently one_email on users (email);"})
    result = migrate("up")
    assert "It left the invalid index public.one_email; the next run removes it." in (result.stderr)
    assert "DETAIL: Key (email)=(a) is duplicated." in result.stderr
    assert FIX_DATA in result.stderr
    database.execute("update users set email = id::text")
    assert migrate("up").exit_code == 0
    assert not invalid_indexes(database)


def test_a_session_that_an_administrator_ended_is_said_to_be(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "select pg_terminate_backend(pg_backend_pid()), pg_sleep(60);"})
    result = migrate("up")
    assert result.exit_code == 6
    assert "hint: the server is shutting down, or its administrator ended this" in result.stderr
    assert "next: to see whether it was committed, run: migrator status" in result.stderr


# Privileges


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may do nothing."""
    name = f"app_{uuid.uuid4().hex}"
    database.execute(f"create role {name}; revoke create on schema public from public")
    yield name
    database.execute(f"drop owned by {name}; drop role {name}")


PRIVILEGES = {
    "a schema": (
        "create table t ();",
        "grant usage, create on schema public to {role};\n",
    ),
    "a table of others": ("select * from users;", "grant {role} the missing privilege on table"),
    "an owner's right": ("alter table users add a int;", "{role} is not owner of table users"),
    "an extension": (
        "create extension plpgsql;",
        "let a superuser create it",
    ),
    "another right": ("create role r;", "the role {role} may not do this\n"),
}


@pytest.mark.parametrize("name", PRIVILEGES)
def test_a_missing_privilege_is_named_with_its_role(
    migrate: Migrate, write: Write, database: Database, role: str, name: str
) -> None:
    write({"00_a.up.sql": "select 1;"})
    assert migrate("up").exit_code == 0  # creating the history needs PL/pgSQL
    database.execute(f"{USERS} drop extension if exists plpgsql")
    sql, says = PRIVILEGES[name]
    write({"01_a.up.sql": sql})
    result = migrate("up", "--role", role)
    assert "SQLSTATE 42501" in result.stderr
    assert says.format(role=role) in result.stderr
    assert re.search("next: fix the (privileges|file), then run: migrator up", result.stderr)


def test_a_comment_on_an_extension_is_to_be_left_out(
    migrate: Migrate, write: Write, role: str
) -> None:
    write({"01_a.up.sql": "comment on extension plpgsql is 'PL/pgSQL';"})
    result = migrate("up", "--role", role)
    assert (
        "hint: remove this line, which pg_dump writes: only the extension's owner" in result.stderr
    )
    assert "--role" not in result.stderr
    assert FIX_FILE in result.stderr


# Characters that nobody sees, and placeholders


CHARACTERS = {
    "a no-break space": ("select\u00a0id from users;", "1:7", "U+00A0 (no-break space): write a"),
    "a zero width space": ("select id from users\u200b;", "1:21", "U+200B (zero width space): rem"),
    "a BOM in the middle": ("select id\nfrom \ufeffusers;", "2:6", "U+FEFF (zero width no-break"),
    "a line separator": ("select id\u2028from users;", "1:10", "U+2028 (line separator): write a"),
    "smart quotes": ("select id from users where email = ‘a’;", "1:36", "U+2018 (left single"),
    "a full-width semicolon": ("select id from users； select 1;", "1:21", "semicolon): write ;"),
    "a Greek question mark": ("select id from users\u037e", "1:21", "write ;"),
    "a long dash": ("select 2 – 1;", "1:10", "U+2013 (en dash): write -"),
    "a Cyrillic letter": ("select id from us\u0435rs;", "1:18", "cyrillic small letter ie"),
    "a soft hyphen in a quoted name": ('select "i\u00add" from users;', "1:10", "U+00AD (soft"),
    "a control character": ("select \x01 id from users;", "1:8", "U+0001 (control character)"),
    "a no-break space in a function's body": (
        "create function f() returns int language plpgsql as $$\nbegin\n return\u00a01;\nend $$;",
        "3:8",
        "U+00A0",
    ),
}


@pytest.mark.parametrize("name", CHARACTERS)
def test_a_character_that_nobody_sees_is_named_with_its_place(
    migrate: Migrate, write: Write, database: Database, directory: Path, name: str
) -> None:
    database.execute(USERS)
    sql, place, says = CHARACTERS[name]
    write({"01_a.up.sql": sql})
    result = migrate("up")
    assert f"error: {directory}/01_a.up.sql:{place}: " in result.stderr
    line, column = place.split(":")
    assert f"hint: line {line}, column {column} has " in result.stderr
    assert says in result.stderr


def test_such_a_character_in_a_comment_or_a_text_is_no_reason(
    migrate: Migrate, write: Write, database: Database
) -> None:
    database.execute(USERS)
    write({"01_a.up.sql": "select '\u00a0', -- \u00a0\n name from users;"})
    result = migrate("up")
    assert "01_a.up.sql:2:2: " in result.stderr
    assert "U+00A0" not in result.stderr


@pytest.mark.parametrize(
    ("sql", "place", "token"),
    [
        ("insert into users values ($1);", "1:27", "$1"),
        ("select 1 where 'a' = $1;", "1:22", "$1"),
        ("select $1;", "1:8", "$1"),
        ("create view v as select '$1' /* $1 */, $1::int as a;", "1:40", "$1"),
        ("delete from users where id = :id;", "1:30", ":id"),
        ("delete from users where id = %s;", "1:30", "%s"),
        ("delete from users where id = ?;", "1:30", "?"),
        ("create table ${name} ();", "1:14", "${"),
        ("create table {{ name }} ();", "1:14", "{{"),
    ],
)
def test_a_placeholder_of_an_application_is_pointed_at(
    migrate: Migrate,
    write: Write,
    database: Database,
    directory: Path,
    sql: str,
    place: str,
    token: str,
) -> None:
    database.execute(USERS)
    write({"01_a.up.sql": sql})
    result = migrate("up")
    assert f"error: {directory}/01_a.up.sql:{place}: " in result.stderr
    assert re.search(rf"hint: {re.escape(token)} (is|looks like) a p\w+ of an", result.stderr)


# The history in the script's way


@pytest.mark.parametrize(
    "sql",
    [
        "drop schema app cascade;",
        "drop table app.migration_log;",
        "do $$ begin execute 'drop schema app cascade'; end $$;",
        "alter schema app rename to old;",
        "alter table app.migration_versions rename to old;",
        "alter table app.migration_log drop outcome;",
    ],
)
def test_a_script_that_removes_the_history_is_rolled_back_and_says_how_to_move_it(
    migrate: Migrate, write: Write, database: Database, directory: Path, sql: str
) -> None:
    database.execute("create schema app; create table app.t ();")
    write({"01_a.up.sql": f"create table a ();\n{sql}"})
    result = migrate("--schema", "app", "up")
    assert result.exit_code == 1
    assert f"{directory}/01_a.up.sql:2:1: the script removes migrator's own history" in (
        result.stderr
    )
    assert "backup" not in result.stderr
    (moves,) = re.findall(r"create schema migrator; .*;", result.stderr)
    database.execute(moves)
    assert "next: after that, run: migrator --schema migrator up" in result.stderr
    assert migrate("--schema", "migrator", "up").exit_code == (0 if "schema" in sql else 1)
