"""What a migration does to its session: neither its record nor the next migration sees it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, Migrate, Write
from tests.sessions import Runs, applied, holding, wait_for, waiting_for_a_lock, working

pytestmark = pytest.mark.slow

OPTION = "-- migrator: no-transaction\n"
OVERRIDE = "--override-read-only"

# All that a migration can see of what an earlier one has left in its session.
PROBE = """
create table seen as
select current_user::text as who, session_user::text as at_login,
       current_setting('search_path') as path,
       current_setting('lock_timeout') as lock_timeout,
       current_setting('default_transaction_read_only') as read_only,
       current_setting('client_encoding') as encoding,
       nullif(current_setting('my.setting', true), '') as mine,
       to_regclass('pg_temp.scratch') is not null as has_temporary,
       (select count(*) from pg_cursors where name <> '') as cursors,
       (select count(*) from pg_prepared_statements) as prepared,
       (select count(*) from pg_listening_channels()) as channels;
"""

LEFT = {
    "set role": "set role {other};",
    "set session authorization": "set session authorization {other};",
    "an empty search path": "select pg_catalog.set_config('search_path', '', false);",
    "another search path": "set search_path = elsewhere, pg_catalog;",
    "timeouts": "set lock_timeout = '17s'; set statement_timeout = '1h';",
    "a temporary table": "create temporary table scratch (i int);",
    "listen": "listen news;",
    "prepare": "prepare query as select 1;",
    "read only": "set default_transaction_read_only = on;",
    "read only by its other name": "set session characteristics as transaction read only;",
    "a setting of its own": "set my.setting = 'x';",
    "a cursor with hold": "declare c cursor with hold for select 1;",
    "a temporary table in the way": "create temporary table migration_versions (i int);"
    "create temporary table migration_log (i int);",
    "functions in the way": "create schema shadows;"
    "create function shadows.clock_timestamp() returns timestamptz language sql"
    " as 'select null::timestamptz';"
    "set search_path = shadows, pg_catalog, public;",
    "everything": "set role {other}; select pg_catalog.set_config('search_path', '', false);"
    " listen x; prepare p as select 1; set default_transaction_read_only = on;"
    " set my.setting = 'x';",
}


@pytest.fixture
def other(database: Database) -> Iterator[str]:
    """A role that may do nothing."""
    name = f"other_{uuid.uuid4().hex}"
    database.execute(f"create role {name}; create schema elsewhere")
    yield name
    database.execute(f"drop owned by {name}; drop role {name}")


def probe(database: Database) -> tuple[object, ...]:
    return database.rows("select * from seen")[0]


@pytest.mark.parametrize("option", ["", OPTION], ids=["transactional", "no-transaction"])
@pytest.mark.parametrize("left", LEFT)
def test_neither_the_record_nor_the_next_migration_sees(
    database: Database, migrate: Migrate, write: Write, other: str, left: str, option: str
) -> None:
    write(
        {
            "01_leaves.up.sql": f"{option}{LEFT[left].format(other=other)}\n",
            "02_sees.up.sql": PROBE,
        }
    )
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_leaves", "02_sees"]
    user = database.rows("select current_user::text")[0][0]
    assert probe(database) == (
        user,
        user,
        '"$user", public',
        "2s",
        "off",
        "UTF8",
        None,
        False,
        0,
        0,
        0,
    )
    logged = "select db_user from migration_log where outcome = 'done'"
    assert database.rows(logged) == [(user,), (user,)]
    assert database.rows("select applied_by, duration_ms is not null from migration_versions") == [
        (user, True),
        (user, True),
    ]


@pytest.mark.parametrize("left", LEFT)
def test_a_down_is_recorded_whatever_it_leaves(
    database: Database, migrate: Migrate, write: Write, other: str, left: str
) -> None:
    text = LEFT[left].format(other=other)
    for number, option in enumerate(("", OPTION), 1):
        write(
            {
                f"{number}_a.up.sql": "",
                f"{number}_a.down.sql": f"{option}{text.replace('shadows', f'shadows{number}')}\n",
            }
        )
    assert migrate("up").exit_code == 0
    result = migrate("down", "--all")
    assert result.exit_code == 0, result.stderr
    assert applied(database) == []


def test_a_deferred_constraint_fails_in_the_file_that_broke_it(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a (i int unique deferrable initially deferred);",
            "02_b.up.sql": "set constraints all deferred;\ninsert into a values (1), (1);\n",
            "03_c.up.sql": "create table c ();",
        }
    )
    result = migrate("up")
    assert result.exit_code == 1
    assert "02_b.up.sql" in result.stderr
    assert "SQLSTATE 23505" in result.stderr
    assert applied(database) == ["01_a"]


def test_settings_hold_from_step_to_step_of_one_file(
    database: Database, migrate: Migrate, write: Write, other: str
) -> None:
    database.execute(f"grant all on schema elsewhere to {other}")
    write(
        {
            "01_a.up.sql": f"{OPTION}set search_path = elsewhere;\nset role {other};\n"
            "create temporary table scratch (i int);\n"
            "create table a as select current_user::text as who;\ninsert into scratch values (1);\n"
            "create index concurrently a_who on a (who);\nvacuum a;\n"
        }
    )
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert database.rows("select who from elsewhere.a") == [(other,)]


@pytest.mark.parametrize("option", ["", OPTION], ids=["transactional", "no-transaction"])
@pytest.mark.parametrize("way", ["file", "option", "environment", "file before option"])
def test_a_role_runs_the_migration_and_not_its_record(
    database: Database, migrate: Migrate, write: Write, other: str, way: str, option: str
) -> None:
    database.execute(f"grant create on schema public to {other}")
    top = f"-- migrator: role {other}\n" if way.startswith("file") else ""
    options = {"option": ["--role", other], "file before option": ["--role", "none_such"]}
    write({"01_a.up.sql": f"{option}{top}create table a as select current_user::text as who;"})
    environ = {"MIGRATOR_ROLE": other} if way == "environment" else {}
    result = migrate("up", *options.get(way, []), environ=environ)
    assert result.exit_code == 0, result.stderr
    assert database.rows(
        "select who, tableowner::text from a, pg_tables where tablename = 'a'"
    ) == [(other, other)]
    (record,) = database.rows("select applied_by from migration_versions")
    assert record != (other,)


def test_a_role_with_capitals_is_taken_as_it_is_spelled(
    database: Database, migrate: Migrate, write: Write
) -> None:
    name = f"App Owner {uuid.uuid4().hex}"
    database.execute(f'create role "{name}"; grant create on schema public to "{name}"')
    write({"01_a.up.sql": f"-- migrator: role {name}\ncreate table a ();"})
    result = migrate("up")
    try:
        assert result.exit_code == 0, result.stderr
        assert database.rows("select tableowner from pg_tables where tablename = 'a'") == [(name,)]
    finally:
        database.execute(f'drop owned by "{name}"; drop role "{name}"')


@pytest.mark.parametrize("option", ["", OPTION], ids=["transactional", "no-transaction"])
def test_a_role_that_does_not_exist_changes_nothing(
    database: Database, migrate: Migrate, write: Write, option: str
) -> None:
    write({"01_a.up.sql": f"{option}create table a ();"})
    result = migrate("up", "--role", "none_such")
    assert result.exit_code == 1
    assert 'cannot switch to role "none_such": it does not exist' in result.stderr
    assert "Traceback" not in result.stderr
    assert database.rows("select version from migration_versions") == []


def test_a_migration_that_fails_as_another_role_is_logged_all_the_same(
    database: Database, migrate: Migrate, write: Write, other: str
) -> None:
    write(
        {"01_a.up.sql": f"{OPTION}set role {other};\nset search_path = elsewhere;\nselect 1 / 0;"}
    )
    assert migrate("up").exit_code == 1
    logged = "select outcome, sqlstate from migration_log where sqlstate is not null"
    assert database.rows(logged) == [("failed", "22012")]


@pytest.mark.parametrize("option", ["", "-- migrator: no-transaction\n"])
def test_the_log_says_how_long_a_failed_run_took(
    migrate: Migrate, write: Write, option: str
) -> None:
    text = f"{option}select pg_sleep(0.2);\nselect 1 / 0;"
    write({"01_a.up.sql": "create table a ();", "02_b.up.sql": text})
    assert migrate("up").exit_code == 1
    last = migrate("log", "--json").json[-1]
    assert (last["version"], last["outcome"]) == ("02_b", "failed")
    assert 200 <= last["duration_ms"] < 60_000
    assert "up 02_b: failed in " in migrate("log").stdout


def test_a_record_waits_for_its_lock_no_longer_than_a_statement_does(
    database: Database, migrate: Migrate, write: Write, directory: Path, tmp_path: Path
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    assert migrate("up").exit_code == 0
    write({"02_b.up.sql": "create table b ();"})
    runs = Runs(database, directory, tmp_path)
    with holding(database, "lock table migration_log in share mode"):
        run = runs("up", "--lock-timeout", "200ms", "--lock-attempts", "1")
        wait_for(lambda: waiting_for_a_lock(database) and working(database, "migration_log"))
        result = run.result(bound=10)
    assert result.exit_code == 5, result.stderr
    assert re.search(r"pid \d+ .*lock table migration_log", result.stderr)
    assert applied(database) == ["01_a"]


# What the database or the role has set


@pytest.fixture
def read_only(database: Database) -> Database:
    """A database in which every transaction is read-only unless it says otherwise."""
    database.execute(f"alter database {database.name} set default_transaction_read_only = on")
    return database


def test_a_database_that_is_read_only_by_default_is_not_written_to(
    read_only: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create table a (id int);"})
    assert migrate("status").exit_code == 0
    assert migrate("rehearse").exit_code == 0
    assert migrate("drift").exit_code == 0
    frozen = f'set for the database "{read_only.name}"'
    for command in (
        ("up",),
        ("rehearse", "--on-target"),
        ("baseline", "1", "--unchecked"),
        ("repair", "1", "--applied", "--reason", "x"),
    ):
        if command[0] == "baseline":
            with read_only.connect() as conn:
                conn.execute("set default_transaction_read_only = off")
                conn.execute("create table public.t ()")
        result = migrate(*command)
        assert result.exit_code == 4, command
        assert frozen in result.stderr
        assert OVERRIDE in result.stderr
    assert read_only.rows("select relname from pg_class where relname ~ '^(migration_|a$)'") == []


@pytest.mark.parametrize(
    ("set_for", "told"),
    [
        ("role {role}", 'alter role "{role}" reset default_transaction_read_only;'),
        ("role {role} in database {name}", 'alter role "{role}" in database "{name}" reset'),
        ("database {name}", 'alter database "{name}" reset'),
        ("", "remove it from PGOPTIONS or the URL"),
    ],
)
def test_it_is_told_for_whom_a_database_is_read_only(
    database: Database, migrate: Migrate, write: Write, set_for: str, told: str
) -> None:
    write({"01_a.up.sql": "create table a (id int);"})
    role = f"frozen_{database.name}"
    names = {"role": role, "name": database.name}
    database.execute(f"create role {role} superuser login password 'x'")
    url, setting = database.tcp_url(role, "x"), "default_transaction_read_only"
    try:
        if set_for:
            database.execute(f"alter {set_for.format(**names)} set {setting} = on")
        else:
            url += f"?options=-c%20{setting}%3Don"
        result = migrate("up", database=url)
        assert result.exit_code == 4
        assert told.format(**names) in result.stderr
        assert migrate("up", OVERRIDE, database=url).exit_code == 0
        for command in re.findall("begin read write; .*commit;", result.stderr):
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(command.encode())
            with psycopg.connect(url) as conn:
                assert conn.execute(f"show {setting}".encode()).fetchall() == [("off",)]
    finally:
        with database.connect() as conn:
            conn.execute("set default_transaction_read_only = off")
            conn.execute(f"drop owned by {role} cascade; drop role {role}".encode())


def test_a_database_that_is_read_only_by_default_is_migrated_if_that_is_asked_for(
    read_only: Database, migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "create table a (id int);",
            "02_b.up.sql": "begin;\ncreate table b (id int);\ncommit;\n",
            "03_c.up.sql": "create index concurrently c on a (id);",
            "03_c.down.sql": "drop index concurrently c;",
            "04_d.up.sql": "select 1 / 0;",
        }
    )
    result = migrate("up", OVERRIDE)
    assert "division by zero" in result.stderr
    assert applied(read_only) == ["01_a", "02_b", "03_c"]
    assert migrate("log", "--json").json[-1]["outcome"] == "failed"
    for command in ("repair 4 --applied", "repair 4 --reverted", "baseline 4 --unchecked"):
        reason = ["--reason", "x"] * command.startswith("repair")
        result = migrate(*command.split(), *reason, OVERRIDE)
        assert result.exit_code == 0, result.stderr
    assert migrate("repair", "4", "--reverted", "--reason", "x", OVERRIDE).exit_code == 0
    assert migrate("down", OVERRIDE).exit_code == 0
    assert migrate("up", "--to", "3", "--trace", OVERRIDE).exit_code == 0
    assert migrate("log", "--json").json[-1]["action"] == "trace"


def test_what_a_file_says_of_its_own_transaction_is_kept(
    read_only: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "begin read only;\ncreate table a (id int);\ncommit;\n"})
    result = migrate("up", OVERRIDE)
    assert result.exit_code == 1
    assert "read-only transaction" in result.stderr


def test_a_limit_on_transactions_and_idle_sessions_ends_no_run(
    database: Database, migrate: Migrate, write: Write
) -> None:
    settings = ["idle_in_transaction_session_timeout"]
    settings += ["idle_session_timeout"] * (database.postgres.version >= 14)
    settings += ["transaction_timeout"] * (database.postgres.version >= 17)
    for setting in settings:
        database.execute(f"alter database {database.name} set {setting} = '500ms'")
    slow = "select pg_sleep(0.7);\ncreate table {name} (id int);"
    write(
        {
            "01_a.up.sql": slow.format(name="a"),
            "02_b.up.sql": "-- migrator: no-transaction\n" + slow.format(name="b"),
        }
    )
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
