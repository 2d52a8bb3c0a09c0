"""The queries of the running release: which of them a pending migration breaks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePath

import psycopg
import pytest

from migrator import config
from migrator.files.source import read_source
from migrator.interrupts import Interrupts
from migrator.model import Direction, Migration, Step
from migrator.postgres import connection
from migrator.postgres.cursor import prepare
from migrator.rehearsal.queries import query_check, regressions
from migrator.rehearsal.queries.running import Queries, Query
from migrator.rehearsal.report import RehearsedMigration
from migrator.rehearsal.stage import Stage
from migrator.sql import parser
from tests.conftest import Database, Migrate, Postgres, Result, Write, call, serve
from tests.sessions import ordinary_role

from .prepared import prepared

pytestmark = pytest.mark.slow

SCHEMA = """
create type mood as enum ('sad', 'happy');
create table people (id int primary key, name text, age int, email varchar(20), mood text);
create table members (id int primary key, since date);
create table dated (id int, at date not null default now()) partition by range (id);
create index i on people (name);
create view old_members as select id from members where since < '2000-01-01';
create function greeting(int) returns text language sql
    as $$ select 'hello ' || name from people where id = $1 $$;
create function boom() returns int language plpgsql as $$ begin raise 'it ran'; end $$;
"""
BROKEN = {
    "a renamed column": (
        "alter table people rename name to full_name",
        "select id from people where name = $1",
        'column "name" does not exist',
    ),
    "a column that a function reads": (
        "alter table people rename name to full_name",
        "select greeting($1)",
        'column "name" does not exist',
    ),
    "a dropped column": (
        "alter table people drop email",
        "insert into people (id, email) values ($1, $2)",
        'column "email" of relation "people" does not exist',
    ),
    "a type that an expression does not take": (
        "alter table people alter age type text",
        "select age + 1 from people",
        "operator does not exist: text + integer",
    ),
    "a type that a parameter does not have": (
        "drop view old_members; alter table members alter id type uuid using gen_random_uuid()",
        "select since from members where id = $1",
        "operator does not exist: uuid = integer",
    ),
    "a type that the elements of a parameter do not have": (
        "drop view old_members; alter table members alter id type uuid using gen_random_uuid()",
        "select since from members where id = any ($1)",
        "operator does not exist: uuid = integer",
    ),
    "a renamed table": (
        "alter table people rename to persons",
        "delete from people where id = $1",
        'relation "people" does not exist',
    ),
    "a table dropped behind a view": (
        "drop table members cascade",
        "select count(*) from old_members",
        'relation "old_members" does not exist',
    ),
    "a dropped function": (
        "drop function greeting",
        "select greeting($1)",
        "function greeting(integer) does not exist",
    ),
    "a changed return type": (
        "drop function greeting; "
        "create function greeting(int) returns int language sql as 'select 1'",
        "select upper(greeting($1))",
        "function upper(integer) does not exist",
    ),
    "a changed parameter": (
        "drop function greeting; "
        "create function greeting(uuid) returns text language sql as $$ select 'a' $$",
        "select greeting($1)",
        "function greeting(integer) does not exist",
    ),
    "a table moved to another schema": (
        "create schema archive; alter table people set schema archive",
        "with old as (select * from people) select count(*) from old",
        'relation "people" does not exist',
    ),
    "a dropped unique constraint": (
        "alter table people drop constraint people_pkey",
        "insert into people (id) values ($1) on conflict (id) do nothing",
        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
    ),
    "a value that a type does not have": (
        "alter table people alter mood type mood using 'sad'",
        "update people set age = 1 where mood = 'angry'",
        'invalid input value for enum mood: "angry"',
    ),
    "a table that has become a view": (
        "alter table people rename to t; create view people as select distinct id, age from t",
        "update people set age = $1",
        'cannot update view "people"',
    ),
    "a column that needs a value": (
        "alter table members add note text not null",
        "insert into members (id, since) values ($1, $2)",
        'null value in column "note" of relation "members" violates not-null constraint',
    ),
    "a column that needs a value, for several rows": (
        "alter table members add note text not null",
        "insert into members (id) values ($1), ($2) on conflict do nothing",
        'null value in column "note" of relation "members" violates not-null constraint',
    ),
    "a column that needs a value, from a query": (
        "alter table members add note text not null",
        "with m as (insert into members (id) select id from people where id > $1 returning id)"
        " select * from m",
        'null value in column "note" of relation "members" violates not-null constraint',
    ),
    "a null for a column that is required now": (
        "alter table people alter age set not null",
        "insert into people (id, age) values ($1, null)",
        'null value in column "age" of relation "people" violates not-null constraint',
    ),
    "a column that lost its default": (
        "alter table dated alter at drop default",
        "insert into dated (id) values ($1)",
        'null value in column "at" of relation "dated" violates not-null constraint',
    ),
    "a column of a partitioned table": (
        "alter table dated add note text not null",
        "insert into dated (id, at) values ($1, $2)",
        'null value in column "note" of relation "dated" violates not-null constraint',
    ),
}
UNBROKEN = {
    "a column with a default": (
        "alter table members add note text not null default 'x'",
        "insert into members (id, since) values ($1, $2)",
    ),
    "an identity": (
        "alter table members add number int generated always as identity",
        "insert into members (id, since) values ($1, $2)",
    ),
    "a generated column": (
        "alter table members add next int generated always as (id + 1) stored;"
        "alter table members alter next set not null",
        "insert into members (id, since) select id, $1 from people",
    ),
    "a column that a trigger may fill": (
        "alter table members add note text not null;"
        "create function fill() returns trigger language plpgsql as"
        " $$ begin new.note := ''; return new; end $$;"
        "create trigger fill before insert on members for each row execute function fill()",
        "insert into members (id) values ($1)",
    ),
    "a required column that the query fills with a parameter": (
        "drop view old_members; alter table members drop since;"
        "alter table members add note text not null",
        "insert into members values ($1, $2)",
    ),
    "a rule in place of the insert": (
        "alter table members add note text not null;"
        "create rule r as on insert to members do instead nothing",
        "insert into members (id) values ($1)",
    ),
    "an added column": ("alter table people add nick text not null", "select * from people"),
    "a view under the old name": (
        "alter table people rename to persons; create view people as select * from persons",
        "insert into people (id, name) values ($1, $2)",
    ),
    "an upsert": (
        "alter table members alter since set not null",
        "insert into members values ($1, $2) on conflict (id) do update set since = null",
    ),
    "a wider number": (
        "alter table people alter id type bigint",
        "select name from people where id = $1 or id = any ($2)",
    ),
    "a number with decimals": (
        "alter table people alter age type numeric",
        "update people set age = $1 where age = $2",
    ),
    "a wider text": (
        "alter table people alter email type text",
        "insert into people (id, email) values ($1, $2)",
    ),
    "a time": (
        "drop view old_members; alter table members alter since type timestamptz",
        "insert into members values ($1, $2)",
    ),
    "an enum in place of a text, which takes the same values": (
        "alter table people alter mood type mood using mood::mood",
        "select id from people where mood = $1",
    ),
    "an added index": ("create index on people (name)", "select id from people where name = $1"),
    "a dropped index": ("drop index i", "select id from people where name = $1"),
    "a function with the same result": (
        "create or replace function greeting(int) returns text language sql as $$ select 'a' $$",
        "select greeting($1)",
    ),
    "a function with a wider parameter": (
        "drop function greeting; "
        "create function greeting(bigint) returns text language sql as $$ select 'a' $$",
        "select greeting($1)",
    ),
    "a table of which no query reads": ("drop table people cascade", "select id from members"),
}


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return tmp_path / "queries.sql"


START = {"01_start.up.sql": SCHEMA}


@pytest.fixture(scope="module")
def applied(postgres: Postgres) -> Iterator[Database]:
    with prepared(postgres, START) as database:
        yield database


@pytest.fixture
def at_start(postgres: Postgres, applied: Database) -> Iterator[Database]:
    """A database with the schema, and its history."""
    with postgres.database(template=applied.name) as database:
        yield database


@pytest.fixture
def start(at_start: Database, directory: Path, write: Write) -> Migrate:
    """The program on a database with the schema."""
    write(START)
    return Migrate(call, at_start, directory)


def broken(result: Result) -> list[tuple[str, int | None, str]]:
    """Give the version, the line and the message of each query that breaks."""
    assert result.exit_code in (0, 4), result.stderr
    return [
        (migration["version"], finding["line"], finding["message"])
        for migration in result.json["migrations"]
        for finding in migration["findings"]
        if finding["hazard"] == "query-broken"
    ]


def failed(result: Result) -> list[str]:
    return [each["version"] for each in result.json["migrations"] if each["error"]]


def check(start: Migrate, queries: Path, text: str, *options: str) -> Result:
    queries.write_text(text)
    return start("rehearse", "--json", "--queries", queries, *options)


def check_directly(database: Database, change: str, query: str) -> tuple[int, list[str]]:
    """Check one query on a database itself; give how many were checked, and the findings."""
    target = config.Database(database.url)
    path = PurePath("2_a.up.sql")
    migration = Migration("2_a", read_source(path, change.encode()), None)
    step = Step("2_a", Direction.UP, parser.parse(path, change), migration)
    with (
        Interrupts() as interrupts,
        closing(connection.connect(target)) as conn,
        closing(connection.connect(target)) as watcher,
    ):
        stage = Stage(
            conn=conn,
            watcher=watcher,
            schema="public",
            settings=config.Settings(),
            small=0,
            interrupts=interrupts,
            notify=lambda _event: None,
            pid=connection.backend_pid(conn),
        )
        queries = Queries("test", (Query(query),))
        rehearsed = RehearsedMigration(step)
        checked, broken = query_check.check(stage, [rehearsed], queries)
    findings = regressions.with_findings(rehearsed, broken).findings
    assert database.rows("select version from migration_versions order by 1") == [
        ("01_start",),
        ("2_a",),
    ]
    return checked.checked, [finding.message for finding in findings]


@pytest.mark.parametrize("case", BROKEN)
def test_a_query_that_can_no_longer_be_planned_is_a_finding(at_start: Database, case: str) -> None:
    change, query, error = BROKEN[case]
    assert check_directly(at_start, change, query) == (1, [f"{error}: {query}"])


@pytest.mark.parametrize("case", UNBROKEN)
def test_a_query_that_can_still_be_planned_is_no_finding(at_start: Database, case: str) -> None:
    change, query = UNBROKEN[case]
    assert check_directly(at_start, change, query) == (1, [])


def test_the_finding_is_at_the_statement_that_breaks_the_query(
    start: Migrate, write: Write, queries: Path
) -> None:
    script = """\
alter table people add a int;
insert into members (id) values (1);
alter table people rename name to full_name;
create table t (id int);
alter table people drop age;
-- migrator: allow query-broken it runs at night only
drop function greeting;
select 1;
"""
    write({"02_change.up.sql": script})
    text = "select age from people;\nselect name from people;\n\nselect greeting(1);"
    result = check(start, queries, text)
    assert broken(result) == [
        ("02_change", 5, f'column "age" does not exist: select age from people ({queries}:1:1)'),
        ("02_change", 3, f'column "name" does not exist: select name from people ({queries}:2:1)'),
        (
            "02_change",
            7,
            f"function greeting(integer) does not exist: select greeting(1) ({queries}:4:1)",
        ),
    ]
    reasons = [
        finding["accepted"]
        for finding in result.json["migrations"][0]["findings"]
        if finding["hazard"] == "query-broken"
    ]
    assert reasons == [None, None, "it runs at night only"]


def test_the_check_leaves_sequences_where_the_migrations_expect_them(
    start: Migrate, write: Write, queries: Path
) -> None:
    write(
        {
            "02_plans.up.sql": "create table plans (id serial primary key);",
            "03_rows.up.sql": "insert into plans default values;\n"
            "create table items (plan int references plans);\n"
            "insert into items values (1);\nalter table people drop age;\n",
            "04_drop.up.sql": "select 1;\nalter table people drop name;\n",
        }
    )
    result = check(start, queries, "select age from people; select name from people;")
    assert failed(result) == []
    assert [(version, line) for version, line, _ in broken(result)] == [
        ("03_rows", 4),
        ("04_drop", 2),
    ]


@pytest.mark.parametrize("form", ["", "--markdown", "--html", "--sarif"])
def test_every_form_of_the_report_has_the_query_and_its_place(
    start: Migrate, write: Write, queries: Path, tmp_path: Path, form: str
) -> None:
    write({"02_change.up.sql": "select 1;\nalter table people drop age;\n"})
    queries.write_text("select age from people")
    file = tmp_path / "report"
    options = {"": (), "--markdown": (form,)}.get(form, (form, file))
    result = start("rehearse", "--queries", queries, *options)
    text = file.read_text() if file.exists() else result.stdout
    assert "query-broken" in text
    assert "select age from people" in text
    place = {"": "line 2: column", "--markdown": "02_change.up.sql:2", "--sarif": '"startLine": 2'}
    assert place.get(form, "queries checked: 1 of") in text


def test_an_accepted_query_is_not_called_unused_without_queries(
    start: Migrate, write: Write
) -> None:
    script = "-- migrator: allow query-broken since May\nalter table people drop age;\n"
    write({"02_change.up.sql": script})
    assert "allow-unused" not in start("rehearse", "--json").stdout


def test_a_query_that_a_later_migration_repairs_is_broken_between_the_two(
    start: Migrate, write: Write, queries: Path
) -> None:
    write(
        {
            "02_rename.up.sql": "alter table people rename to persons;",
            "03_view.up.sql": "create view people as select * from persons;",
            "04_drop.up.sql": "drop view people;",
        }
    )
    where = f'relation "people" does not exist: select id from people ({queries}:1:1'
    assert broken(check(start, queries, "select id from people")) == [
        ("02_rename", 1, f"{where}, repaired by 03_view)"),
        ("04_drop", 1, f"{where})"),
    ]


def test_a_query_that_the_same_migration_repairs_is_no_finding(
    start: Migrate, write: Write, queries: Path
) -> None:
    script = "alter table people rename to p;\ncreate view people as select * from p;\n"
    write({"02_rename.up.sql": script})
    assert broken(check(start, queries, "select id from people")) == []


def test_a_script_outside_a_transaction_is_checked_as_a_whole(
    start: Migrate, write: Write, queries: Path
) -> None:
    script = (
        "-- migrator: no-transaction\n"
        "-- migrator: allow query-broken nobody reads it\n"
        "alter table people drop age;\nalter table people drop name;\n"
    )
    write({"02_change.up.sql": script, "03_index.up.sql": "drop index concurrently i;"})
    result = check(start, queries, "select age from people;")
    assert broken(result) == [
        ("02_change", None, f'column "age" does not exist: select age from people ({queries}:1:1)')
    ]
    finding = result.json["migrations"][0]["findings"][-1]
    assert (finding["hazard"], finding["accepted"]) == ("query-broken", "nobody reads it")


def test_queries_are_checked_up_to_a_migration_that_fails(
    start: Migrate, write: Write, queries: Path
) -> None:
    write(
        {
            "02_change.up.sql": "alter table people drop age;",
            "03_fails.up.sql": "alter table people drop name; select 1 / 0;",
        }
    )
    result = check(start, queries, "select age from people; select name from people;")
    assert [(version, line) for version, line, _ in broken(result)] == [("02_change", 1)]
    assert failed(result) == ["03_fails"]


def test_queries_are_checked_after_a_migration_that_cannot_be_applied_twice(
    start: Migrate, write: Write, queries: Path
) -> None:
    write(
        {
            "02_stuck.up.sql": "alter table people drop age;",
            "02_stuck.down.sql": "select 1;",
            "03_change.up.sql": "alter table people drop name;",
        }
    )
    result = check(start, queries, "select age from people; select name from people;")
    assert [(version, line) for version, line, _ in broken(result)] == [
        ("02_stuck", 1),
        ("03_change", 1),
    ]


def test_no_query_runs(start: Migrate, write: Write, queries: Path) -> None:
    write({"02_change.up.sql": "select 1;"})
    result = check(start, queries, "select boom(); delete from people; select id / 0 from people;")
    assert broken(result) == []
    assert result.json["queries"]["checked"] == 3


def test_two_statements_are_never_taken_for_one_query(database: Database) -> None:
    with (
        closing(connection.connect(config.Database(database.url))) as conn,
        pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"),
    ):
        prepare(conn, "q", (), "select 1; create table t ()")
    assert database.rows("select to_regclass('t')") == [(None,)]


def test_what_cannot_be_prepared_before_is_left_out_and_counted(
    start: Migrate, write: Write, queries: Path
) -> None:
    write({"02_change.up.sql": "alter table people drop name;"})
    text = "select x from people;\nvacuum;\nselect name from people where id = :id;\nselect 1;"
    text += "\ninsert into people (name) values ($1);"
    result = check(start, queries, text)
    assert broken(result) == []
    checked = result.json["queries"]
    assert (checked["source"], checked["checked"]) == (str(queries), 1)
    assert [(each["line"], each["reason"]) for each in checked["left_out"]] == [
        (1, 'column "x" does not exist'),
        (2, "it is not one SELECT, INSERT, UPDATE, DELETE or MERGE"),
        (3, 'syntax error at or near ":"'),
        (5, 'null value in column "id" of relation "people" violates not-null constraint'),
    ]
    line = f"queries checked: 1 of {queries}; 4 left out, because they cannot be prepared"
    assert line in start("rehearse", "--queries", queries).stdout.splitlines()


def test_a_password_in_a_query_is_hidden(start: Migrate, write: Write, queries: Path) -> None:
    write({"02_change.up.sql": "alter table people drop name;"})
    text = "select name from people where email = 'password=secret'; select password 'secret';"
    assert "secret" not in check(start, queries, text).stdout
    assert "secret" not in start("rehearse", "--queries", queries, "--markdown").stdout


def test_many_queries_that_one_statement_breaks_are_cut(
    start: Migrate, write: Write, queries: Path
) -> None:
    write({"02_change.up.sql": "alter table people drop name;"})
    text = "".join(f"select name, {number} from people;\n" for number in range(30))
    messages = [message for _, _, message in broken(check(start, queries, text))]
    assert len(messages) == 21
    assert messages[-1] == "10 more queries fail after it"


def test_at_most_500_queries_are_checked_and_that_is_said(
    start: Migrate, write: Write, queries: Path
) -> None:
    write({"02_change.up.sql": "select 1;"})
    queries.write_text("".join(f"select {number};\n" for number in range(501)))
    lines = start("rehearse", "--queries", queries).stdout.splitlines()
    assert f"queries checked: 500 of {queries} (the first 500)" in lines


def test_the_statement_is_found_between_begin_and_commit_and_under_a_role(
    start: Migrate, write: Write, queries: Path
) -> None:
    role = f"owner_{uuid.uuid4().hex}"
    start.database.execute(f"create role {role}")
    try:
        script = (
            f"-- migrator: role {role}\nbegin isolation level serializable;\n"
            "select 1;\nset local search_path = pg_catalog;\n"
            "alter table public.people drop age;\ncommit;\n"
        )
        write({"02_owner.up.sql": f"alter table people owner to {role};"})
        write({"03_change.up.sql": script})
        result = check(start, queries, "select age from people")
    finally:
        start.database.execute(f"drop role {role}")
    assert failed(result) == []
    assert [(version, line) for version, line, _ in broken(result)] == [("03_change", 5)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("select 1;\n\\gexec\n", "2:1: \\gexec is a psql command, not SQL"),
        ("-- nothing\n", "there is no query in"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_as_queries_is_an_error(
    start: Migrate, write: Write, queries: Path, text: str | None, error: str
) -> None:
    write({"02_change.up.sql": "select 1;"})
    if text is not None:
        queries.write_text(text)
    result = start("rehearse", "--queries", queries)
    assert error in result.stderr
    assert result.exit_code == (4 if "psql" in error else 2)
    assert result.stdout == ""


def test_on_the_target_no_queries_are_checked(start: Migrate, queries: Path) -> None:
    result = start("rehearse", "--on-target", "--queries", queries)
    assert result.exit_code == 2
    assert "--on-target cannot be combined" in result.stderr


# pg_stat_statements


@pytest.fixture(scope="module")
def statistics_server(postgres: Postgres) -> Iterator[Postgres]:
    """A server that keeps statistics of its statements."""
    options = ("shared_preload_libraries=pg_stat_statements",)
    with serve(source=postgres.server.source, options=options) as server:
        yield server


@pytest.fixture
def counted(statistics_server: Postgres, directory: Path, write: Write) -> Iterator[Migrate]:
    """The program on a database with statistics, in a schema of their own."""
    write({"01_start.up.sql": "create schema shop; set local search_path = shop;" + SCHEMA})
    with statistics_server.database() as database:
        database.execute(
            "create schema monitoring; create extension pg_stat_statements schema monitoring"
        )
        migrate = Migrate(call, database, directory)
        assert migrate("up").exit_code == 0
        yield migrate


@pytest.fixture
def app(counted: Migrate) -> Iterator[str]:
    """A role that may read and write `shop.people`, which is in its search path."""
    name = f"app_{uuid.uuid4().hex}"
    counted.database.execute(
        f"create role {name}; alter role {name} set search_path = shop, pg_catalog"
    )
    yield name
    counted.database.execute(f"drop owned by {name}; drop role {name}")


GRANT = "grant usage on schema shop to {app}; grant all on shop.people to {app};"


def run_as(database: Database, role: str, *queries: str) -> None:
    with database.connect() as conn:
        conn.execute(f"set role {role}; set search_path = shop".encode())
        for query in queries:
            conn.execute(query.encode())


def from_statistics(migrate: Migrate, *options: str, url: str | None = None) -> Result:
    arguments = ("rehearse", "--json", "--queries", "pg_stat_statements", *options)
    return migrate(*arguments, database=url)


def test_queries_of_the_statistics_are_checked_under_the_search_path_of_their_role(
    counted: Migrate, app: str, write: Write
) -> None:
    counted.database.execute(GRANT.format(app=app))
    query = "select id from people where name = 'x' and age in (1, 2, 3)"
    run_as(counted.database, app, query, query, "select interval '1 day'", "set work_mem = '1MB'")
    write({"02_change.up.sql": "select 1;\nalter table shop.people drop name;\n"})
    result = from_statistics(counted)
    ((version, line, message),) = broken(result)
    assert (version, line) == ("02_change", 2)
    assert message.startswith('column "name" does not exist: select id from people where name = $1')
    assert message.endswith("(2 calls)")
    reasons = {each["query"]: each["reason"] for each in result.json["queries"]["left_out"]}
    assert reasons["select interval $1"] == 'syntax error at or near "$1"'
    assert not any(query.startswith(("set", "create", "begin")) for query in reasons)
    assert not any("migration_versions" in query for query in reasons)


def test_a_revoked_privilege_breaks_the_queries_of_the_role_that_had_it(
    counted: Migrate, app: str, write: Write
) -> None:
    write({"02_grant.up.sql": GRANT.format(app=app)})
    assert counted("up").exit_code == 0
    run_as(counted.database, app, "select name from people", "update people set age = 1")
    counted.database.execute("set search_path = shop; update people set age = 1")
    write({"03_revoke.up.sql": f"select 1; revoke update on shop.people from {app};"})
    result = from_statistics(counted)
    assert broken(result) == [
        (
            "03_revoke",
            1,
            f"permission denied for table people: update people set age = $1 (1 call, as {app})",
        )
    ]
    assert result.json["queries"]["unprivileged"] == 0


def test_a_query_whose_grants_no_migration_made_is_checked_without_them(
    counted: Migrate, app: str, write: Write
) -> None:
    counted.database.execute(GRANT.format(app=app))
    run_as(counted.database, app, "select name from people")
    write({"02_change.up.sql": "alter table shop.people drop name;"})
    result = from_statistics(counted)
    assert broken(result) == [
        ("02_change", 1, 'column "name" does not exist: select name from people (1 call)')
    ]
    assert result.json["queries"]["unprivileged"] == 1


def test_the_queries_of_other_roles_are_hidden_without_a_privilege(
    counted: Migrate, app: str, write: Write
) -> None:
    run_as(counted.database, app, "select 1")
    write({"02_change.up.sql": "select 1;"})
    with ordinary_role(counted.database, "createdb") as url:
        counted.database.execute(
            "grant usage on schema shop, monitoring to public;"
            "grant select on migration_versions, migration_repeatables to public"
        )
        result = from_statistics(counted, "--trust-history-of", "postgres", url=url)
    assert result.json["queries"]["hidden_roles"] == 2


def test_without_the_extension_the_next_step_is_said(start: Migrate, write: Write) -> None:
    write({"02_change.up.sql": "select 1;"})
    result = start("rehearse", "--queries", "pg_stat_statements")
    assert result.exit_code == 2
    assert "the database has no extension pg_stat_statements" in result.stderr
    assert "create extension pg_stat_statements;" in result.stderr


def test_without_the_library_the_next_step_is_said(start: Migrate, write: Write) -> None:
    write({"02_change.up.sql": "select 1;"})
    start.database.execute("create extension pg_stat_statements")
    result = start("rehearse", "--queries", "pg_stat_statements")
    assert result.exit_code == 2
    assert "shared_preload_libraries" in result.stderr
    assert "--queries FILE" in result.stderr
