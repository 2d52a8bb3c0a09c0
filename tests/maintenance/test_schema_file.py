"""`dump` writes the same bytes for the same schema, and `verify --schema-file` compares them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from migrator.maintenance import schema_file

from ..conftest import (
    Database,
    Migrate,
    ScratchDatabases,
    Write,
    dump_schema,
    find_program,
    run_psql,
)
from ..rehearsal.test_snapshots import BASE
from ..sessions import holding

# The rich schema, with a role that every server has and without what a dump leaves out.
SCHEMA = "".join(
    line.replace("snapshot_reader", "pg_monitor")
    for line in BASE.splitlines(keepends=True)
    if not line.startswith(("create user mapping", "security label"))
)
OWN = ("migration_versions", "migration_log", "migration_repeatables")
FILES = {
    "01_users.up.sql": "create table users (id bigint generated always as identity primary key);",
    "01_users.down.sql": "drop table users;",
    "02_orders.up.sql": "create table orders (id serial primary key, of bigint references users);"
    "create view v as select id from orders; grant select on v to public;",
    "02_orders.down.sql": "drop view v; drop table orders;",
}


def dumped(migrate: Migrate, *arguments: str | Path) -> str:
    result = migrate("dump", "--allow-empty", *arguments)
    assert result.exit_code == 0, result
    return result.stdout


def test_a_dump_has_the_schema_and_the_newest_version(migrate: Migrate, write: Write) -> None:
    write(FILES)
    assert "-- Newest migration: none\n" in dumped(migrate)
    migrate("up", "--to", "1")
    text = dumped(migrate)
    assert text.startswith(
        "-- The schema of the database, written by: migrator dump\n"
        "-- Newest migration: 01_users\n\nset client_encoding = 'UTF8';\n"
    )
    assert "CREATE TABLE public.users (" in text
    assert not any(name in text for name in OWN)


@pytest.mark.parametrize("schema", ["public", 'my "own" Schema', "a.b*"])
def test_our_own_tables_are_left_out_wherever_they_are(
    database: Database, migrate: Migrate, write: Write, schema: str
) -> None:
    quoted = '"{}"'.format(schema.replace('"', '""'))
    database.execute(
        f"create schema if not exists {quoted}; create schema other;"
        "create table other.migration_log (mine int);"
    )
    write(FILES)
    assert migrate("--schema", schema, "up").exit_code == 0
    text = dumped(migrate, "--schema", schema)
    assert "migration_versions" not in text
    assert text.count("migration_log") == 1
    assert "CREATE TABLE other.migration_log (" in text


def test_a_dump_is_the_same_from_run_to_run_without_settings_of_a_version(
    database: Database, migrate: Migrate
) -> None:
    database.execute(SCHEMA)
    text = dumped(migrate)
    assert text == dumped(migrate)
    for noise in ("\\restrict", "Dumped", "OWNER TO", "idle_in_transaction", "transaction_timeout"):
        assert noise not in text


def test_a_dump_makes_the_same_schema_and_the_same_dump(
    database: Database, second_database: Database, migrate: Migrate, tmp_path: Path
) -> None:
    database.execute(SCHEMA)
    file = tmp_path / "schema.sql"
    assert migrate("dump", "--allow-empty", "--output", file).exit_code == 0
    loaded = run_psql(second_database, "--file", file)
    assert loaded.returncode == 0, loaded.stderr
    assert dumped(migrate) == file.read_text()
    assert migrate("dump", "--allow-empty", database=second_database).stdout == file.read_text()
    assert dump_schema(second_database) == dump_schema(database)


def test_the_order_is_not_that_of_creation(
    database: Database, second_database: Database, migrate: Migrate
) -> None:
    tables = "create table a (id int primary key, x int); create table b (id int primary key);"
    parts = [
        "alter table b add constraint fk foreign key (id) references a;",
        "alter table a add constraint fk foreign key (x) references b;",
        "grant select on a to pg_monitor;",
        "grant insert on a to pg_read_all_settings;",
        "create policy p on b; create policy p on a;",
        "create index i on b (id); create index h on a (id);",
        "create rule r as on delete to b do instead nothing;",
        "create rule r as on delete to a do instead nothing;",
    ]
    database.execute(tables + "".join(parts))
    second_database.execute(tables + "".join(reversed(parts)))
    assert (
        migrate("dump", "--allow-empty").stdout
        == migrate("dump", "--allow-empty", database=second_database).stdout
    )


def test_dumps_that_differ_in_order_only_are_the_same_text() -> None:
    head = "--\n-- Name: {}; Type: FK CONSTRAINT; Schema: public; Owner: -\n--\n\n"
    one = head.format("a fk") + "ALTER TABLE ONLY public.a ADD CONSTRAINT fk;\n\n"
    two = head.format("b fk") + "ALTER TABLE ONLY public.b ADD CONSTRAINT fk;\n\n"
    texts = {schema_file.normalised(each, None) for each in (one + two, two + one)}
    assert len(texts) == 1


def test_a_dump_does_not_show_the_version_of_the_server_or_of_pg_dump(database: Database) -> None:
    database.execute(SCHEMA)
    program = find_program("pg_dump", database.postgres)
    command = (program, "--schema-only", "--no-owner", database.url)
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    other = re.sub(r"(?m)^(\\(un)?restrict|SET (?!default)\w+ = ).*\n", "", dump)
    other = re.sub(r"(?m)^-- Dumped (.*) version .*$", r"-- Dumped \1 version 99.9 (other)", other)
    other = other.replace("\n\n--", "\n\nSET idle_replication_slot_timeout = 0;\n\n--", 1)
    assert other != dump
    assert schema_file.normalised(other, None) == schema_file.normalised(dump, None)


def test_a_dump_does_not_show_the_settings_of_a_session(
    database: Database, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        "create table t (a timestamptz default '2000-01-01 00:00Z', b bytea default '\\x00ff',"
        " c interval default '1 day 2 hours', d float8 default 0.1, e date default '2000-02-03',"
        " f money default '1', g xml default xmlparse(content '<a/>'))"
    )
    text = dumped(migrate)
    settings = {
        "timezone": "Asia/Tokyo",
        "bytea_output": "escape",
        "intervalstyle": "iso_8601",
        "datestyle": "german",
        "extra_float_digits": "-15",
        "quote_all_identifiers": "on",
        "search_path": "pg_catalog",
        "client_encoding": "latin1",
        "standard_conforming_strings": "off",
        "row_security": "off",
        "lc_monetary": "C.UTF-8",
        "xmloption": "document",
        "check_function_bodies": "off",
    }
    for name, value in settings.items():
        database.execute(f"alter database {database.name} set {name} = '{value}'")
    monkeypatch.setenv("PGTZ", "America/Lima")
    assert dumped(migrate, "--schema", "public") == text


def test_a_body_that_looks_like_a_dump_stays_as_it_is(database: Database, migrate: Migrate) -> None:
    body = "\n--\n-- Name: x; Type: TABLE; Schema: y; Owner: z\n--\n\nperform 1;\nset b = c;\n"
    database.execute(f"create procedure f() language plpgsql as $f$ begin{body}end $f$")
    assert body in dumped(migrate)


def test_passwords_of_other_servers_are_left_out(
    contrib_database: Database, migrate: Migrate
) -> None:
    contrib_database.execute(
        "create extension postgres_fdw; create server s foreign data wrapper postgres_fdw;"
        "create user mapping for public server s options (user 'u', password 'secret')"
    )
    text = migrate("dump", "--allow-empty", database=contrib_database).stdout
    assert "CREATE SERVER s " in text
    assert "CREATE EXTENSION IF NOT EXISTS postgres_fdw" in text
    assert "COMMENT ON EXTENSION" not in text
    assert "secret" not in text


def test_a_dump_as_json_says_what_became_of_the_file(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    write(FILES)
    migrate("up")
    file = tmp_path / "schema.sql"
    document = {"path": str(file), "newest": "02_orders", "changed": True, "schema": None}
    assert migrate("dump", "--allow-empty", "--output", file, "--json").json == document
    assert migrate("dump", "--allow-empty", "--output", file, "--json").json == {
        **document,
        "changed": False,
    }
    assert migrate("dump", "--allow-empty", "--json").json == {
        **document,
        "path": None,
        "changed": False,
        "schema": file.read_text(),
    }


def test_a_dump_is_printed_to_the_byte(migrate_process: Migrate, database: Database) -> None:
    database.execute("create function f() returns text language sql as $$ select 'é\x1b[1m\r\n' $$")
    environ = {"DATABASE_URL": database.url, "PYTHONIOENCODING": "ascii"}
    text = migrate_process("dump", "--allow-empty", environ=environ).stdout
    assert "select 'é\x1b[1m" in text


# Writing


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "schema.sql", tmp_path / "link.sql"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to("schema.sql")
    assert schema_file.write(link, "new é")
    assert not schema_file.write(link, "new é")
    assert (link.is_symlink(), file.read_text(), file.stat().st_mode & 0o777) == (
        True,
        "new é",
        0o640,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.sql", "schema.sql"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "schema.sql"
    file.write_text("old")
    os.chown(file, 12345, 12346)
    schema_file.write(file, "new")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


def test_a_file_that_exists_is_replaced_as_one(tmp_path: Path) -> None:
    file = tmp_path / "schema.sql"
    file.write_text("old")
    with file.open() as reader:
        schema_file.write(file, "new")
        assert reader.read() == "old"


def test_a_device_is_written_and_not_replaced(migrate: Migrate) -> None:
    assert migrate("dump", "--allow-empty", "--output", "/dev/null").stdout == "wrote /dev/null\n"
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_file_that_cannot_be_written_is_an_error(migrate: Migrate, tmp_path: Path) -> None:
    result = migrate("dump", "--allow-empty", "--output", tmp_path / "none" / "schema.sql")
    assert result.exit_code == 2
    assert "schema.sql: No such file or directory" in result.stderr


# Without a fitting pg_dump, or with a lock in its way


def test_a_pg_dump_that_is_older_than_the_server_is_named(
    migrate_process: Migrate, tmp_path: Path
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
    program.chmod(0o755)
    environ = {"PATH": str(tmp_path), "MIGRATOR_PG_BINDIR": str(tmp_path)}
    # Where no other one is installed.
    code = (
        "import sys; from pathlib import Path; from migrator import programs\n"
        "from migrator.errors import EmbeddedServerError\n"
        "try:\n    programs.find_program('pg_dump', 99, __import__('os').environ)\n"
        "except Exception as error:\n    print(error, error.detail, error.hint, sep='|')"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environ}, capture_output=True, text=True
    )
    assert "no pg_dump found that can read PostgreSQL 99" in done.stdout
    assert f"{program} is from PostgreSQL 9" in done.stdout
    assert "install the client programs of PostgreSQL 99" in done.stdout


def test_a_locked_table_ends_a_dump_in_time(database: Database, migrate: Migrate) -> None:
    database.execute("create table t ()")
    with holding(database, "lock table t"):
        result = migrate("dump", "--allow-empty", "--json")
    assert result.exit_code == 6
    assert result.json["error"]["code"] == "dump"


# verify --schema-file


@pytest.fixture
def written(migrate: Migrate, write: Write, tmp_path: Path) -> Path:
    """The schema file of two migrations that are applied."""
    write(FILES)
    file = tmp_path / "schema.sql"
    assert migrate("up").exit_code == 0
    assert migrate("dump", "--output", file).exit_code == 0
    return file


def test_a_schema_file_is_what_the_files_make_on_a_scratch_database(
    written: Path, migrate: Migrate, second_database: Database, scratch_databases: ScratchDatabases
) -> None:
    assert migrate("verify", "--schema-file", written).exit_code == 0
    # The check needs nothing of the database: in CI, it is empty.
    assert migrate("verify", "--schema-file", written, database=second_database).exit_code == 0
    assert second_database.rows("select from pg_class where relname = 'users'") == []
    written.write_bytes(written.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate("verify", "--schema-file", written).exit_code == 0
    assert scratch_databases() == []


def test_a_schema_file_has_what_repeatable_files_make(
    written: Path, migrate: Migrate, write: Write
) -> None:
    write({"R__names.sql": "create or replace view names as select id from users;"})
    assert migrate("verify", "--schema-file", written).exit_code == 4
    assert migrate("up").exit_code == 0
    assert migrate("dump", "--output", written).exit_code == 0
    assert "\n-- Newest migration: 02_orders\n" in written.read_text()
    assert "CREATE VIEW public.names" in written.read_text()
    assert migrate("verify", "--schema-file", written).exit_code == 0


def test_a_schema_file_that_lacks_something_is_a_difference(
    written: Path, migrate: Migrate, write: Write
) -> None:
    write({"03_more.up.sql": "alter table users add column phone text;"})
    before = written.read_text()
    result = migrate("verify", "--schema-file", written)
    assert result.exit_code == 4
    assert (
        f"error: {written} does not match the schema that the migrations produce" in result.stderr
    )
    assert (
        "  -    id bigint NOT NULL\n  +    id bigint NOT NULL,\n  +    phone text" in result.stderr
    )
    assert "  --- Newest migration: 02_orders\n  +-- Newest migration: 03_more" in result.stderr
    assert f"migrator dump --output {written}" in result.stderr
    error = migrate("verify", "--schema-file", written, "--json").json["error"]
    assert error["code"] == "schema-file"
    assert written.read_text() == before


def test_a_long_difference_is_cut(written: Path, migrate: Migrate) -> None:
    written.write_text("".join(f"create table t{n} ();\n" for n in range(500)))
    error = migrate("verify", "--schema-file", written, "--json").json["error"]
    lines = error["detail"].splitlines()
    assert (len(lines), lines[-1]) == (61, "…")


def test_other_problems_come_before_the_schema_file(
    written: Path, migrate: Migrate, write: Write
) -> None:
    write({"02_orders.up.sql": "select 1;"})
    result = migrate("verify", "--schema-file", written, "--json")
    assert result.json["error"]["errors"][0]["code"] == "modified"


def test_files_that_cannot_be_applied_are_an_error_with_the_reason(
    written: Path, migrate: Migrate, write: Write
) -> None:
    write({"03_more.up.sql": "select 1/0;"})
    result = migrate("verify", "--schema-file", written)
    assert result.exit_code == 4
    assert "cannot tell what the files make" in result.stderr
    assert "division by zero" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file or directory"), (b"\xff", "byte 0 is not UTF-8")]
)
def test_a_schema_file_that_cannot_be_read_is_an_error(
    migrate: Migrate, write: Write, tmp_path: Path, content: bytes | None, message: str
) -> None:
    write(FILES)
    file = tmp_path / "schema.sql"
    if content:
        file.write_bytes(content)
    result = migrate("verify", "--schema-file", file)
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_a_database_no_schema_file_can_be_checked(migrate: Migrate, tmp_path: Path) -> None:
    result = migrate("verify", "--offline", "--schema-file", tmp_path / "schema.sql")
    assert result.exit_code == 2
    assert "--schema-file cannot be combined with --offline" in result.stderr


# dump = "…" in the configuration file


@pytest.fixture
def configured(write: Write, tmp_path: Path) -> Path:
    """A configuration file that names a schema file, relative to itself."""
    write(FILES)
    file = tmp_path / "m.toml"
    file.write_text('[env.dev]\ndump = "schema.sql"\n')
    return file


def test_up_down_and_redo_write_the_schema_where_the_configuration_says_so(
    configured: Path, migrate: Migrate
) -> None:
    file = configured.with_name("schema.sql")

    def newest(*arguments: str) -> str:
        result = migrate("--config", configured, "--env", "dev", *arguments)
        assert result.exit_code == 0, result
        return file.read_text().splitlines()[1].removeprefix("-- Newest migration: ")

    assert migrate("--config", configured, "up", "--to", "1").exit_code == 0
    assert not file.exists()
    assert newest("up") == "02_orders"
    file.write_text("<<<<<<< a conflict")
    assert newest("up") == "02_orders"  # which has nothing to do
    assert newest("down") == "01_users"
    assert newest("redo") == "01_users"
    assert newest("up", "--dry-run") == "01_users"
    assert newest("up", "--to", "2") == "02_orders"
    file.unlink()
    assert newest("dump") == "02_orders"
    assert migrate("--config", configured, "--env", "dev", "dump", "--output", "-").stdout == (
        file.read_text()
    )


def test_a_schema_that_cannot_be_written_fails_after_the_run_and_says_so(
    configured: Path, migrate: Migrate
) -> None:
    configured.with_name("schema.sql").mkdir()
    result = migrate("--config", configured, "--env", "dev", "up")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
    assert "the migrations were run" in result.stderr
    assert migrate("status", "--check").exit_code == 0


def test_a_file_of_another_user_overwrites_none_of_ours(configured: Path, migrate: Migrate) -> None:
    configured.chmod(0o666)
    for command in ("up", "dump"):
        result = migrate("--config", configured, "--env", "dev", command)
        assert result.exit_code == 2
        assert "no file is overwritten: other users may write to it" in result.stderr
    assert migrate("status", "--check").exit_code == 3


def test_the_name_of_the_command_is_a_key_and_no_table(configured: Path, migrate: Migrate) -> None:
    configured.write_text('[dump]\noutput = "schema.sql"\n')
    result = migrate("--config", configured, "status")
    assert result.exit_code == 2
    assert '"dump" takes a string, not a table' in result.stderr
