"""Where the history is looked for, and which tables are taken for one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import migrator
from migrator.errors import HistoryError

from ..conftest import Database, Migrate, Write

FILES = {"01_a.up.sql": "create table public.a (id int);\n", "01_a.down.sql": "drop table a;\n"}
READING = (("status",), ("status", "--check"), ("verify",), ("log",))
COMMANDS = (
    *READING,
    ("up",),
    ("up", "--dry-run"),
    ("down",),
    ("redo",),
    ("baseline", "1", "--unchecked"),
    ("repair", "1", "--applied", "--reason", "x"),
    ("rehearse",),
    ("drift",),
)
PASSWORD = "secret"


@pytest.fixture
def files(write: Write) -> Path:
    """A directory of one migration."""
    return write(FILES)


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may connect and create schemas, and is a member of none."""
    name = f"deploy_{uuid.uuid4().hex[:12]}"
    database.execute(
        f"create role {name} login password '{PASSWORD}';"
        f"grant create on database {database.name} to {name};"
        f"grant create on schema public to {name}"
    )
    yield name
    database.execute(f"drop owned by {name} cascade; drop role {name}")


def set_path(database: Database, path: str) -> None:
    database.execute(f"alter database {database.name} set search_path to {path}")


# Which schema


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_history_in_another_schema_stops_every_command(
    migrate: Migrate, files: Path, command: tuple[str, ...]
) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute("create schema hello")
    set_path(migrate.database, "hello")
    result = migrate(*command)
    assert result.exit_code == 4
    assert 'schema "hello" has no history, but schema "public" has one' in result.stderr
    assert "to use that in public: --schema public" in result.stderr
    assert "to start one in hello: --schema hello" in result.stderr
    assert "MIGRATOR_SCHEMA" in result.stderr
    assert migrate.database.rows("select to_regclass('hello.migration_versions')") == [(None,)]
    assert migrate(*READING[1], environ={"MIGRATOR_SCHEMA": "public"}).exit_code == 0


def test_a_migration_that_moves_the_search_path_does_not_start_the_history_over(
    migrate: Migrate, write: Write
) -> None:
    name = migrate.database.name
    move = f"create schema hello; alter database {name} set search_path to hello;"
    write({"01_a.up.sql": move, "02_b.up.sql": "create table public.b ();"})
    assert migrate("up").exit_code == 0
    assert migrate("up").exit_code == 4
    assert migrate("up", "--schema", "public").exit_code == 0


def test_the_health_check_stops_at_a_history_in_another_schema(
    migrate: Migrate, files: Path
) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute("create schema hello")
    url = f"{migrate.database.url}&options=-csearch_path%3Dhello"
    url = url if "?" in migrate.database.url else url.replace("&", "?", 1)
    with pytest.raises(HistoryError, match='schema "public" has one'):
        migrator.status(files, database_url=url)
    assert migrator.status(files, database_url=url, schema="public").is_current


def test_two_histories_stop_every_command_until_one_is_named(migrate: Migrate, files: Path) -> None:
    migrate.database.execute('create schema "Second one"')
    migrate.database.execute("create table something ()")
    for schema in ("public", "Second one"):
        assert migrate("--schema", schema, "baseline", "1", "--unchecked").exit_code == 0
    result = migrate("status")
    assert result.exit_code == 4
    assert 'a history in schema "public", and another in schema "Second one"' in result.stderr
    assert "to use that in Second one: --schema 'Second one'" in result.stderr
    assert migrate("--schema", "Second one", "status", "--check").exit_code == 0


def test_a_schema_named_like_the_role_without_a_history_is_passed_over(
    migrate: Migrate, files: Path, role: str
) -> None:
    database = migrate.database
    url = database.tcp_url(role, PASSWORD)
    assert migrate("up", database=url).exit_code == 0
    database.execute(f"create schema authorization {role}")
    for command in (("status", "--check"), ("verify",), ("log",), ("up",), ("down",), ("up",)):
        result = migrate(*command, database=url)
        assert result.exit_code == 0, result.stderr
    assert database.rows("select schemaname from pg_tables where tablename ~ '_versions'") == [
        ("public",)
    ]


def test_a_table_of_another_program_in_another_schema_is_no_history(
    migrate: Migrate, files: Path
) -> None:
    migrate.database.execute(
        "create schema doctrine; create table doctrine.migration_versions (version text)"
    )
    assert migrate("up").exit_code == 0


# Whose it is


def plant(migrate: Migrate, role: str) -> None:
    """Have a role create the history."""
    url = migrate.database.tcp_url(role, PASSWORD)
    assert migrate("up", database=url).exit_code == 0


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_history_of_another_role_is_refused_also_to_a_superuser(
    migrate: Migrate, files: Path, role: str, command: tuple[str, ...]
) -> None:
    plant(migrate, role)
    result = migrate(*command)
    assert result.exit_code == 4
    assert f'belongs to role "{role}", which could make you run any SQL' in result.stderr
    assert f"--trust-history-of {role}" in result.stderr


def test_a_history_of_another_role_is_used_if_that_is_trusted(
    migrate: Migrate, files: Path, role: str
) -> None:
    plant(migrate, role)
    assert migrate("--trust-history-of", "someone_else", "status").exit_code == 4
    assert migrate("down", "--trust-history-of", role).exit_code == 0
    assert migrate("up", environ={"MIGRATOR_TRUST_HISTORY_OF": role}).exit_code == 0
    url = migrate.database.url
    assert migrator.status(files, database_url=url, trust_history_of=role).is_current


def test_a_log_of_another_role_is_refused(migrate: Migrate, files: Path, role: str) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute(f"alter table migration_log owner to {role}")
    result = migrate("status")
    assert result.exit_code == 4
    assert f'"public.migration_log" belongs to role "{role}"' in result.stderr


def test_a_member_of_the_owner_is_trusted(migrate: Migrate, files: Path, role: str) -> None:
    plant(migrate, role)
    migrate.database.execute(f"create role member_{role} login password '{PASSWORD}'")
    try:
        url = migrate.database.tcp_url(f"member_{role}", PASSWORD)
        migrate.database.execute(f"grant {role} to member_{role}")
        assert migrate("down", database=url).exit_code == 0
    finally:
        migrate.database.execute(f"drop role member_{role}")


def test_a_role_that_may_only_read_a_history_reads_it_but_runs_none_of_its_scripts(
    migrate: Migrate, files: Path, role: str
) -> None:
    plant(migrate, role)
    reader = f"reader_{role}"
    migrate.database.execute(
        f"create role {reader} login password '{PASSWORD}';"
        f"grant select on migration_versions, migration_repeatables, migration_log to {reader}"
    )
    try:
        url = migrate.database.tcp_url(reader, PASSWORD)
        for command in READING:
            assert migrate(*command, database=url).exit_code == 0
        scratch = ("--scratch-url", migrate.database.url)
        result = migrate("drift", *scratch, database=url)
        assert result.exit_code == 4
        assert f'belongs to role "{role}"' in result.stderr
        assert migrate("up", "--schema", "public", database=url).exit_code == 0  # nothing to do
    finally:
        migrate.database.execute(f"drop owned by {reader}; drop role {reader}")


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_role_from_which_row_security_hides_the_history_is_not_told_that_all_is_pending(
    migrate: Migrate, files: Path, role: str, command: tuple[str, ...]
) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute(
        f"grant select on migration_versions, migration_repeatables, migration_log to {role};"
        "alter table migration_versions enable row level security;"
        "alter table migration_log enable row level security"
    )
    result = migrate(*command, database=migrate.database.tcp_url(role, PASSWORD))
    assert (result.exit_code, result.stdout) == (4, "")
    assert "query would be affected by row-level security policy" in result.stderr
    assert "alter role NAME bypassrls" in result.stderr


# Whether it is one

ALTERED = {
    "alter table migration_versions alter statements_done type text": (
        "its column statements_done is text not null, and not integer not null"
    ),
    "alter table migration_versions alter applied_at type text": (
        "its column applied_at is text, and not timestamp with time zone"
    ),
    "alter table migration_versions alter version type varchar(50)": (
        "its column version is character varying(50)"
    ),
    "alter table migration_versions drop checksum": "it has no column checksum (text not null)",
    "alter table migration_versions add note int": "an additional column note (integer)",
    "alter table migration_versions drop constraint migration_versions_pkey": (
        "its column version is text not null, and not text not null primary key"
    ),
    "alter table migration_versions alter checksum drop not null": "its column checksum is text,",
    "alter table migration_log alter logged_at type text": "its column logged_at is text",
    "alter table migration_log alter id drop identity": "its column id is bigint not null primary",
    "create domain short as text; alter table migration_log alter reason type short": (
        "its column reason is public.short, and not text"
    ),
    "alter table migration_versions set unlogged": "it is an unlogged table",
    "alter table migration_versions rename to kept;"
    "create view migration_versions as select * from kept": "it is a view",
    "alter table migration_versions rename to kept;"
    "create materialized view migration_versions as select * from kept": "it is a materialized",
    "alter table migration_log rename to kept;"
    "create table migration_log (like kept) partition by list (id)": "it is a partitioned table",
}
ADDED = {
    "create function f() returns trigger language plpgsql as 'begin return null; end';"
    "create trigger audit before insert on migration_versions for each row execute function f()": (
        '"public.migration_versions" has a trigger audit'
    ),
    "create rule log_only as on delete to migration_log do instead nothing": (
        '"public.migration_log" has a rule log_only'
    ),
    "create policy mine on migration_versions using (true)": "has a policy mine",
    "create table child () inherits (migration_log)": "has a child public.child",
    "create table parent (version text); alter table migration_versions inherit parent": (
        "has a parent public.parent"
    ),
}


@pytest.mark.parametrize(("change", "said"), [*ALTERED.items(), *ADDED.items()])
def test_an_altered_history_is_one_error_that_names_what_differs(
    migrate: Migrate, files: Path, change: str, said: str
) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute(change)
    for command in ("status", "verify", "log", "up", "down"):
        result = migrate(command)
        assert result.exit_code == 4
        assert said in result.stderr
        assert result.stderr.count("error: ") == 1


def test_triggers_are_run_if_the_owner_is_trusted_by_name(migrate: Migrate, files: Path) -> None:
    migrate.database.execute("create table audit (version text)")
    assert migrate("up").exit_code == 0
    migrate.database.execute(
        "create function note() returns trigger language plpgsql as"
        " 'begin insert into audit values (old.version); return old; end';"
        "create trigger note before delete on migration_versions"
        " for each row execute function note()"
    )
    result = migrate("down")
    assert result.exit_code == 4
    assert "--trust-history-of postgres" in result.stderr
    assert migrate("down", "--trust-history-of", "postgres").exit_code == 0
    assert migrate.database.rows("select * from audit") == [("01_a",)]


@pytest.mark.parametrize("comment", ["null", "'format 0'", f"'format {'9' * 5000}'", "'ours'"])
def test_a_lost_comment_does_not_matter(migrate: Migrate, files: Path, comment: str) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute(f"comment on table migration_versions is {comment}")
    assert migrate("status", "--check").exit_code == 0
    assert migrate("down").exit_code == 0


def test_what_others_have_put_on_the_search_path_is_not_called_to_find_the_history(
    migrate: Migrate, files: Path
) -> None:
    migrate.database.execute(
        "create table trapped ();"
        "create function fall() returns boolean language plpgsql as"
        " 'begin raise exception $$trapped$$; end';"
        "create function obj_description(oid, name) returns text language sql as"
        " 'select public.fall()::text';"
        "create function format_type(oid, int) returns text language sql as"
        " 'select public.fall()::text';"
        "create function same(name, name) returns boolean language sql as 'select public.fall()';"
        "create operator = (leftarg = name, rightarg = name, function = same)"
    )
    set_path(migrate.database, "public, pg_catalog")
    result = migrate("status")
    assert result.exit_code == 0, result.stderr
