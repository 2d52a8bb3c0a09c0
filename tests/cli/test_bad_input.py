"""Errors name their place and what to do next, and leave nothing half-done."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from .. import goldens
from ..conftest import PROJECT, Database, Migrate, Postgres, Write, call, free_port, run_psql, spawn

pytestmark = pytest.mark.slow

LONG = "".join(f"-- line {line} é\n" for line in range(1, 40))
BAD_FUNCTION = (
    "create function f() returns int language plpgsql as $$\nbegin\n  return 1 / 0;\nend\n$$;\n"
)


def files(*scripts: str | bytes) -> dict[str, str | bytes]:
    """Return up files: `01_a`, `02_b`, …"""
    return {f"{n:02}_{'abcdefgh'[n - 1]}.up.sql": text for n, text in enumerate(scripts, 1)}


def history(database: Database) -> list[str]:
    """Return the recorded versions; none without a history."""
    if database.rows("select to_regclass('migration_versions')") == [(None,)]:
        return []
    return [v for (v,) in database.rows("select version from migration_versions order by 1")]


def relations(database: Database) -> list[str]:
    """Name the tables and functions in the schema, except our own."""
    query = """
    select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind <> 'i' and relname !~ '^migration_'
    union all
    select proname from pg_proc where pronamespace = 'public'::regnamespace
    order by 1
    """
    return [name for (name,) in database.rows(query)]


@dataclass(frozen=True)
class Refused:
    """Files, and where PostgreSQL refuses them."""

    files: Mapping[str, str | bytes]
    place: str
    sqlstate: str
    left: Sequence[str] = ()
    recorded: Sequence[str] = ()
    context: str = ""


REFUSED = {
    "a syntax error in line 40 after two-byte characters": Refused(
        files(LONG + "create table é ('é' frm);\n"), "01_a.up.sql:40:17", "42601"
    ),
    "a syntax error at the end of the file": Refused(
        files("create table t (a int"), "01_a.up.sql:1:22", "42601"
    ),
    "an unterminated quote": Refused(
        files("select 1;\nselect 'é;\nselect 2;\n"), "01_a.up.sql:2:8", "42601"
    ),
    "a syntax error in a file with CRLF": Refused(
        files("select 1;\r\n\r\nselect 'é', frm t;\r\n"), "01_a.up.sql:3:13", "42703"
    ),
    "a syntax error after a BOM": Refused(
        files("\ufeffselect 'é' frm t;\n"), "01_a.up.sql:1:16", "42601"
    ),
    "a unique violation": Refused(
        files("create table t (a int primary key);\n\ninsert into t\nvalues (1), (1);\n"),
        "01_a.up.sql:3:1",
        "23505",
    ),
    "a division by zero": Refused(
        files("create table t (a int);\nselect\n  1 / 0;\n"), "01_a.up.sql:2:1", "22012"
    ),
    "an unknown table": Refused(
        files("create table ok ();", "alter table ok add a int;\nselect * from nowhere;\n"),
        "02_b.up.sql:2:15",
        "42P01",
        left=["ok"],
        recorded=["01_a"],
    ),
    "a syntax error in the body of a PL-pgSQL function": Refused(
        files(
            "create table t ();\n"
            "create function f() returns int language plpgsql as $$\n"
            "begin  -- é\n"
            "  retrun 1;\n"
            "end\n"
            "$$;\n"
        ),
        "01_a.up.sql:4:3",
        "42601",
    ),
    "an unknown table in the body of an SQL function": Refused(
        files(
            "create function f() returns bigint language sql as $$\n"
            "  select count(*) /* é */\n"
            "  from nowhere;\n"
            "$$;\n"
        ),
        "01_a.up.sql:3:8",
        "42P01",
    ),
    "a DO block that raises": Refused(
        files(
            "create table t ();\n"
            "do $body$\n"
            "begin\n"
            "  raise exception 'no users' using hint = 'add some', detail = 'none at all';\n"
            "end\n"
            "$body$;\n"
        ),
        "01_a.up.sql:4:3",
        "P0001",
        context="PL/pgSQL function inline_code_block line 3 at RAISE",
    ),
    "a bad statement inside a DO block": Refused(
        files("do $$\nbegin\n  perform 1;\n  insert into nowhere values (1);\nend\n$$;\n"),
        "01_a.up.sql:4:15",
        "42P01",
        context="PL/pgSQL function inline_code_block line 4 at SQL statement",
    ),
    "a function of the same file that fails when it is called": Refused(
        files(
            "create function f() returns int language plpgsql as $$\n"
            "begin\n"
            "  return (select a from nowhere);\n"
            "end\n"
            "$$;\n"
            "select f();\n"
        ),
        "01_a.up.sql:3:25",
        "42P01",
        context="PL/pgSQL function f() line 3 at RETURN",
    ),
    "a function of an earlier file that fails when it is called": Refused(
        files(BAD_FUNCTION, "select 1;\nselect f();\n"),
        "02_b.up.sql:2:1",
        "22012",
        left=["f"],
        recorded=["01_a"],
        context="PL/pgSQL function f() line 3 at RETURN",
    ),
    "a deferred constraint that fails at commit": Refused(
        files(
            "create table p (id int primary key);\n"
            "create table c (p int references p deferrable initially deferred);\n"
            "insert into c values (1);\n"
            "insert into c values (2);\n\n"
        ),
        "01_a.up.sql:4:26",
        "23503",
        context="deferred constraints are checked at the end of the file",
    ),
    "an enum value that is used too early": Refused(
        files("create type e as enum ('a');", "alter type e add value 'b';\nselect 'b'::e;\n"),
        "02_b.up.sql:2:8",
        "55P04",
        recorded=["01_a"],
    ),
    "a statement that cannot run in a transaction, hidden in a body": Refused(
        files("create table t ();\ndo $$ begin execute 'vacuum'; end $$;\n"),
        "01_a.up.sql:2:4",
        "25001",
        context='SQL statement "vacuum"\nPL/pgSQL function inline_code_block line 1 at EXECUTE',
    ),
    "an invalid line of COPY data": Refused(
        files("create table t (a int);\ncopy t from stdin;\n1\nx\n\\.\nselect 1;\n"),
        "01_a.up.sql:4:1",
        "22P02",
        context='COPY t, line 2, column a: "x"',
    ),
    "a BEGIN with invalid modes": Refused(
        files("begin isolation level sometimes;\ncreate table t ();\ncommit;\n"),
        "01_a.up.sql:1:23",
        "42601",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_statement_is_located_and_rolled_back(
    migrate: Migrate, write: Write, name: str
) -> None:
    case = REFUSED[name]
    directory = write(case.files)
    result = migrate("up")
    assert result.exit_code == 1
    assert f"error: {directory}/{case.place}: " in result.stderr
    assert f"SQLSTATE {case.sqlstate}" in result.stderr
    assert "was rolled back completely" in result.stderr
    assert "then run: migrator up" in result.stderr
    assert relations(migrate.database) == list(case.left)
    assert history(migrate.database) == list(case.recorded)

    again = migrate("up", "--json")
    error = again.json["error"]
    assert again.exit_code == 1
    assert [f"{Path(error['file']).name}:{error['line']}:{error['column']}", error["sqlstate"]] == [
        case.place,
        case.sqlstate,
    ]
    assert case.context in (error["context"] or "")
    assert migrate("status", "--check").exit_code == 3


@pytest.mark.parametrize(
    "name",
    [
        "a syntax error in line 40 after two-byte characters",
        "a unique violation",
        "an unknown table",
        "a DO block that raises",
        "a deferred constraint that fails at commit",
        "an enum value that is used too early",
    ],
)
def test_an_error_from_postgresql_is_shown_as_expected(
    migrate: Migrate, write: Write, name: str
) -> None:
    directory = write(REFUSED[name].files)
    result = migrate("up")
    slug = name.replace(" ", "-")
    goldens.check(f"errors/{slug}", result.stderr, {str(directory): "migrations"})


def test_a_failure_is_logged_with_its_sqlstate(migrate: Migrate, write: Write) -> None:
    write(files("select 1 / 0;"))
    migrate("up")
    query = "select version, action, outcome, sqlstate, message from migration_log"
    assert migrate.database.rows(query) == [("01_a", "up", "failed", "22012", "division by zero")]


def test_a_fixed_file_is_applied_without_repair(migrate: Migrate, write: Write) -> None:
    write(files("create table t ();\nselect 1 / 0;\n"))
    assert migrate("up").exit_code == 1
    write(files("create table t ();\n"))
    assert migrate("up").exit_code == 0
    assert (relations(migrate.database), history(migrate.database)) == (["t"], ["01_a"])


def test_a_failed_down_leaves_its_migration_applied(migrate: Migrate, write: Write) -> None:
    directory = write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": "drop table a;\ndrop table nowhere;\n",
            "02_b.up.sql": "create table b ();",
            "02_b.down.sql": "drop table b;",
        }
    )
    migrate("up")
    result = migrate("down", "--all")
    assert result.exit_code == 1
    assert "01_a.down.sql:2:1: table " in result.stderr
    assert (
        "The down script was rolled back; 01_a is still applied. Reverted in this run: 02_b."
        in result.stderr
    )
    assert "fix the down file, then run: migrator down --from-files" in result.stderr
    assert (relations(migrate.database), history(migrate.database)) == (["a"], ["01_a"])
    (directory / "01_a.down.sql").write_text("drop table a;")
    assert migrate("down", "--from-files").exit_code == 0
    assert (relations(migrate.database), history(migrate.database)) == ([], [])


def test_an_invalid_begin_in_a_no_transaction_file_is_located_and_earlier_statements_are_kept(
    migrate: Migrate, write: Write
) -> None:
    head = "-- migrator: no-transaction\ncreate table done ();\n"
    write(files(f"{head}begin isolation level sometimes;\nselect 1;\ncommit;\n"))
    result = migrate("up")
    assert (result.exit_code, relations(migrate.database)) == (1, ["done"])
    assert "01_a.up.sql:3:23: syntax error" in result.stderr
    assert "the statements before it are done and recorded" in result.stderr


def test_a_file_that_terminates_its_session_is_reported_as_a_lost_connection(
    migrate: Migrate, write: Write
) -> None:
    write(files("create table t ();\nselect pg_terminate_backend(pg_backend_pid());\n"))
    result = migrate("up")
    assert (result.exit_code, relations(migrate.database)) == (6, [])
    assert "the connection was lost while 01_a was under way" in result.stderr
    assert "to see whether it was committed, run: migrator status" in result.stderr


# Files that are not sent


@dataclass(frozen=True)
class Unrunnable:
    """Files that are refused, and every problem that is reported."""

    files: Mapping[str, str | bytes]
    said: Sequence[str] = field(default=())


GOOD = "create table good ();\n"
UNRUNNABLE = {
    "a NUL byte": Unrunnable(files(GOOD, b"select 1;\0"), ["02_b.up.sql contains a NUL: byte 9"]),
    "Latin-1": Unrunnable(
        files(GOOD, "select 'é';".encode("latin1")), ["02_b.up.sql is not UTF-8: byte 8 is 0xE9"]
    ),
    "UTF-16": Unrunnable(
        files(GOOD, "select 1;".encode("utf-16")), ["02_b.up.sql is UTF-16, not UTF-8: byte 0"]
    ),
    "two files with one number": Unrunnable(
        {"01_a.up.sql": GOOD, "1_b.up.sql": ""},
        ["01_a.up.sql and ", "1_b.up.sql both have number 1"],
    ),
    "a down without an up": Unrunnable(
        {"01_a.up.sql": GOOD, "02_b.down.sql": ""}, ["02_b.down.sql has no up file"]
    ),
    "a misnamed file": Unrunnable(
        {"01_a.up.sql": GOOD, "schema.sql": ""},
        ["schema.sql is not named NN_name.up.sql, NN_name.down.sql or R__name.sql"],
    ),
    "COMMIT in the middle": Unrunnable(
        files(GOOD, "create table t ();\ncommit;\nselect 1;\n"),
        ["02_b.up.sql:2:1: COMMIT cannot run"],
    ),
    "a psql command": Unrunnable(
        files(GOOD, "\\i other.sql\n"), ["02_b.up.sql:1:1: \\i is a psql command, not SQL"]
    ),
    "a psql command after a statement": Unrunnable(
        files("-- migrator: no-transaction\nselect 1;\nselect 'drop table t' \\gexec\n"),
        ["01_a.up.sql:3:23: \\gexec is a psql command, not SQL"],
    ),
    "standard_conforming_strings off": Unrunnable(
        files("set standard_conforming_strings = off;\nselect 'it\\'s';\n"),
        ["01_a.up.sql:1:1: standard_conforming_strings must be on"],
    ),
    "malformed options": Unrunnable(
        files(
            "-- Migrator: lock-timeout 5s\n--- migrator: role a\n/* migrator: no-transaction */\n"
            "select 1; -- migrator: allow table-rewrite because\n"
        ),
        [
            '01_a.up.sql:1:1: malformed option "lock-timeout"',
            '01_a.up.sql:2:1: malformed option "role"',
            '01_a.up.sql:3:1: malformed option "no-transaction"',
            '01_a.up.sql:4:11: malformed option "allow"',
        ],
    ),
    "a duration above the maximum": Unrunnable(
        files("-- migrator: lock-timeout 30d\nselect 1;\n"),
        ['01_a.up.sql:1:1: invalid duration "30d"'],
    ),
    "an unknown option": Unrunnable(
        files(GOOD, "-- migrator: no-transactoin\nvacuum;\n"),
        ['02_b.up.sql:1:1: unknown option "no-transactoin"'],
    ),
    "an option after a statement": Unrunnable(
        files(GOOD, "select 1;\n-- migrator: lock-timeout 1s\nselect 2;\n"),
        ['02_b.up.sql:2:1: option "lock-timeout" comes after a statement'],
    ),
    "an invalid duration": Unrunnable(
        files(GOOD, "-- migrator: lock-timeout soon\nselect 1;\n"),
        ['02_b.up.sql:1:1: invalid duration "soon"'],
    ),
    "an index built concurrently beside other statements": Unrunnable(
        files(GOOD, "create table t (a int);\ncreate index concurrently on t (a);\n"),
        ["02_b.up.sql:2:1: CREATE INDEX CONCURRENTLY cannot run inside a transaction"],
    ),
    "COPY to stdout": Unrunnable(
        files(GOOD, "copy good to stdout;"), ["02_b.up.sql:1:1: COPY … TO STDOUT is not supported"]
    ),
    "everything at once": Unrunnable(
        {
            **files(GOOD, "commit;\n\\i x\n", "-- migrator: x\nrollback;\n", b"\xff"),
            "3_c.up.sql": "",
            "05_e.down.sql": "abort;",
            "x.sql": "",
        },
        [
            "04_d.up.sql is not UTF-8",
            "x.sql is not named",
            "05_e.down.sql has no up file",
            "03_c.up.sql and ",
            "02_b.up.sql:1:1: COMMIT",
            "02_b.up.sql:2:1: \\i",
            '03_c.up.sql:1:1: unknown option "x"',
            "03_c.up.sql:2:1: ROLLBACK",
            "05_e.down.sql:1:1: ABORT",
        ],
    ),
}


@pytest.mark.parametrize("name", UNRUNNABLE)
def test_nothing_is_run_and_every_problem_is_reported(
    migrate: Migrate, write: Write, name: str
) -> None:
    case = UNRUNNABLE[name]
    directory = write(case.files)
    result = migrate("up")
    assert (result.exit_code, result.stdout) == (4, "")
    assert [part for part in case.said if part not in result.stderr] == []
    labels = re.findall(r"(?m)^(error|hint|next): ", result.stderr)
    assert labels.count("error") == len(labels) - labels.count("error")
    assert migrate("verify", "--offline").exit_code == 4
    assert migrate("up", "--dry-run").exit_code == 4
    assert relations(migrate.database) == []
    assert migrate.database.rows("select to_regclass('migration_versions')") == [(None,)]
    errors = migrate("up", "--json").json["error"]["errors"]
    assert [error["code"] for error in errors] == ["migration-file"] * len(errors)
    slug = name.replace(" ", "-")
    goldens.check(f"errors/{slug}", result.stderr, {str(directory): "migrations"})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"-- nothing to do yet\n/* nor here */\n",
        b";\n;",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbfselect 1;\n",
        b"select 1;\r\n-- \xc3\xa9\r\nselect 2\r\n",
        b"select 1",
        b"begin;\nselect 1;\ncommit;\n",
        b"begin; end",
        b"\\restrict x\nselect 1;\n\\unrestrict x\n",
        b"-- migrator: no-transaction\n",
    ],
)
def test_an_unusual_but_valid_file_is_applied_and_reverted(
    migrate: Migrate, write: Write, text: bytes
) -> None:
    write({"01_a.up.sql": text, "01_a.down.sql": text})
    assert migrate("up").exit_code == 0
    assert history(migrate.database) == ["01_a"]
    assert migrate("verify").exit_code == 0
    assert migrate("down").exit_code == 0
    assert history(migrate.database) == []


def test_crlf_reaches_the_server_and_a_checkout_with_lf_is_the_same_migration(
    migrate: Migrate, write: Write
) -> None:
    write(files(b"create table t as select 'a\r\nb'::text as a;\r\n"))
    assert migrate("up").exit_code == 0
    assert migrate.database.rows("select a from t") == [("a\r\nb",)]
    write(files(b"create table t as select 'a\nb'::text as a;\n"))
    (version,) = migrate("status", "--json").json["versions"]
    assert (version["state"], version["reformatted"]) == ("applied", False)


def test_psql_can_run_every_file(
    database: Database, second_database: Database, migrate: Migrate, write: Write
) -> None:
    text = "-- migrator: lock-timeout 1s\ncreate table t (a int);\ncopy t from stdin;\n1\n\\.\n"
    directory = write(files(text))
    assert migrate("up").exit_code == 0
    assert run_psql(second_database, "-f", directory / "01_a.up.sql").returncode == 0
    assert database.rows("table t") == second_database.rows("table t")


# Directories


def test_a_directory_that_is_missing_or_a_file_is_reported(
    migrate: Migrate, directory: Path, tmp_path: Path
) -> None:
    for command in ("up", "down", "redo", "status", "verify"):
        result = migrate(command, dir=tmp_path / "none")
        assert result.exit_code == 2
        assert f'the migrations directory "{tmp_path}/none" does not exist' in result.stderr
        assert "next: set it with --dir or MIGRATOR_DIR" in result.stderr
    (tmp_path / "file").touch()
    for arguments in (["up"], ["create", "x"]):
        result = migrate(*arguments, dir=tmp_path / "file")
        assert (result.exit_code, "Not a directory" in result.stderr) == (2, True)


def test_a_current_directory_that_was_removed_is_reported(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = call("--database-url", database.url, "status")
    assert (result.exit_code, "bug" in result.stderr) == (2, False)
    assert 'the migrations directory "migrations" does not exist' in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_directory_is_reported(migrate: Migrate, directory: Path) -> None:
    directory.chmod(0)
    result = migrate("up")
    directory.chmod(0o700)
    assert (result.exit_code, "Permission denied" in result.stderr) == (2, True)


# Connections and privileges

PASSWORD = "s3cret-Pässword"


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """Create a role with a password and no privileges."""
    name = f"app_{database.name[-8:]}"
    database.execute(f"create role {name} login password '{PASSWORD}'")
    yield name
    database.execute(f"drop owned by {name} cascade; drop role {name}")


def test_a_role_that_may_not_create_the_history_is_told_the_privilege(
    migrate: Migrate, write: Write, role: str
) -> None:
    write(files("create table t ();"))
    database = migrate.database
    database.execute("revoke create on schema public from public")
    result = migrate("up", database=database.tcp_url(role, PASSWORD))
    assert (result.exit_code, history(database)) == (4, [])
    assert "permission denied for schema public" in result.stderr
    assert "CREATE on the schema" in result.stderr
    assert migrate("status", database=database.tcp_url(role, PASSWORD)).exit_code == 0


def test_a_role_that_may_not_read_the_history_is_told_the_privilege(
    migrate: Migrate, write: Write, role: str
) -> None:
    write(files("create table t ();"))
    migrate("up")
    for command in ("status", "up", "down", "verify"):
        result = migrate(command, database=migrate.database.tcp_url(role, PASSWORD))
        assert result.exit_code == 4
        assert "permission denied for table migration_versions" in result.stderr
        assert "SELECT on its tables migration_versions and migration_repeatables" in result.stderr


def test_a_role_that_may_only_read_the_history_gets_an_error_without_a_file(
    migrate: Migrate, write: Write, role: str
) -> None:
    write(files("create table t ();"))
    migrate("up")
    database = migrate.database
    database.execute(f"grant select on migration_versions, migration_repeatables to {role}")
    directory = write(files("create table t ();", "select 1;"))
    url = database.tcp_url(role, PASSWORD)
    assert migrate("status", "--check", database=url).exit_code == 3
    result = migrate("up", database=url)
    assert (result.exit_code, history(database)) == (1, ["01_a"])
    assert "permission denied for table migration_versions" in result.stderr
    assert f"{directory}" not in result.stderr
    assert "all privileges on the tables of the history" in result.stderr


def test_a_role_that_does_not_own_a_table_is_shown_the_statement(
    migrate: Migrate, write: Write, role: str
) -> None:
    write(files("create table t ();"))
    migrate("up")
    database = migrate.database
    database.execute(
        f"grant all on migration_versions, migration_repeatables, migration_log to {role}"
    )
    write(files("create table t ();", "select 1;\nalter table t add a int;\n"))
    result = migrate("up", database=database.tcp_url(role, PASSWORD))
    assert (result.exit_code, history(database)) == (1, ["01_a"])
    assert "02_b.up.sql:2:1: must be owner of table t" in result.stderr
    assert "--role NAME" in result.stderr


@pytest.mark.parametrize("asked", ["option", "file"])
def test_a_missing_role_is_reported_without_a_statement(
    migrate: Migrate, write: Write, asked: str
) -> None:
    option = "-- migrator: role nobody_at_all\n" if asked == "file" else ""
    directory = write(files(f"{option}create table t ();"))
    result = migrate("up", *([] if asked == "file" else ["--role", "nobody_at_all"]))
    assert (result.exit_code, relations(migrate.database)) == (1, [])
    assert 'cannot switch to role "nobody_at_all": it does not exist' in result.stderr
    assert "check the name in --role NAME" in result.stderr
    assert f"{directory}" not in result.stderr


def test_a_failed_connection_is_reported_without_the_password(
    migrate: Migrate, write: Write, role: str
) -> None:
    write(files("create table t ();"))
    database = migrate.database
    tcp = database.postgres.tcp_url
    port = database.postgres.server.port
    good = database.tcp_url(role, PASSWORD)
    secret = good.split(":")[2].partition("@")[0]
    cases = {
        database.tcp_url(role, f"not-{PASSWORD}"): ("password authentication failed", "the user"),
        tcp(database.name, "nobody_at_all", PASSWORD): ("password authentication", "the user"),
        tcp("no_such_db", role, PASSWORD): ('database "no_such_db" does not exist', "create it"),
        good.replace(f":{port}/", f":{free_port()}/"): (
            "Connection refused",
            "PostgreSQL is running there",
        ),
        good.replace("127.0.0.1", "no-host.invalid"): ("resolve host", "check the host name"),
        f"{good}?sslmode=require": ("SSL", "check whether the server supports SSL"),
    }
    for url, (said, hint) in cases.items():
        for command in (["up"], ["status"], ["status", "--json"], ["-vv", "down", "--yes"]):
            result = migrate(*command, database=url)
            output = (result.stdout + result.stderr).replace('\\"', '"')
            assert (result.exit_code, said in output, hint in output) == (6, True, True), output
            assert PASSWORD not in output
            assert secret not in output
            assert "Errno" not in output
    assert migrate("up", database=good.replace(secret, "")).exit_code == 6


@pytest.mark.parametrize(
    "url",
    [
        "mysql://app:s3cret@h/x",
        "postgresql+asyncpg://app:s3cret@h/x",
        "postgresql://app:s3@cret@h/x",
        "postgresql://app:s3/cret@h/x",
        "postgresql://app:s3%cret@h/x",
        "postgresql://app:s3cret@h:x/x",
        "app:s3cret@h/x",
        "host=h password=s3cret bogus=1",
    ],
)
def test_an_invalid_url_is_reported_but_not_shown(migrate: Migrate, write: Write, url: str) -> None:
    write(files("select 1;"))
    for command in (["up"], ["status", "--json"], ["-vv", "status"]):
        result = migrate(*command, database=url)
        assert result.exit_code == 2
        assert "the database URL " in result.stdout + result.stderr
        assert not re.search("s3|cret", result.stdout + result.stderr)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no database is configured"),
        ({"DATABASE_SSL": "perhaps"}, 'invalid DATABASE_SSL "perhaps"'),
        ({"DATABASE_PORT": "54e2"}, 'invalid DATABASE_PORT "54e2"'),
        ({"DATABASE_PORT": "99999"}, 'invalid DATABASE_PORT "99999"'),
    ],
)
def test_missing_or_invalid_variables_are_wrong_usage(
    migrate: Migrate, write: Write, environ: dict[str, str], said: str
) -> None:
    write(files("select 1;"))
    result = migrate("up", database="", environ=environ)
    assert (result.exit_code, said in result.stderr, "hint: " in result.stderr) == (2, True, True)
    # What needs no database asks for none.
    assert migrate("verify", "--offline", database="", environ=environ).exit_code == 0
    assert migrate("create", "x", database="", environ=environ).exit_code == 0


def test_a_foreign_table_with_the_name_of_the_history_is_left_alone(
    migrate: Migrate, write: Write
) -> None:
    write(files("create table t ();"))
    migrate.database.execute("create table migration_versions (version bigint, dirty bool)")
    for command in ("status", "up", "down"):
        result = migrate(command)
        assert result.exit_code == 4
        assert '"public.migration_versions" is not a migrator history' in result.stderr
    migrate.database.execute(
        "drop table migration_versions; create view migration_versions as select 1 as a"
    )
    result = migrate("up")
    assert (result.exit_code, relations(migrate.database)) == (4, [])
    assert '"public.migration_versions" is not a migrator history: it is a view' in result.stderr
    assert "choose another schema for the history with --schema" in result.stderr


def test_a_missing_schema_is_reported(migrate: Migrate, write: Write) -> None:
    write(files("create table t ();"))
    for command in ("status", "up"):
        result = migrate("--schema", "no such", command)
        assert (result.exit_code, result.stdout) == (4, "")
        assert 'schema "no such" does not exist' in result.stderr
        assert 'create it with: create schema "no such"' in result.stderr


def test_a_fifo_is_reported_and_not_read(migrate: Migrate, directory: Path) -> None:
    os.mkfifo(directory / "01_a.up.sql")
    result = migrate("verify", "--offline")
    assert result.exit_code == 4
    assert "01_a.up.sql is not a regular file" in result.stderr


def test_a_name_that_is_too_long_is_reported(migrate: Migrate) -> None:
    result = migrate("create", "x" * 300)
    assert result.exit_code == 2
    assert "use a shorter name" in result.stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "('1_a', '', 0, 2), ('01_b', '', 0, 3)",
            "has two versions with the same number: 1_a and 01_b",
        ),
        ("('x', '', 0, 2)", 'has a version without a number: "x"'),
    ],
)
def test_a_history_with_impossible_rows_is_refused(
    migrate: Migrate, write: Write, rows: str, message: str
) -> None:
    write({"09_z.up.sql": "select 1;"})
    assert migrate("up").exit_code == 0
    migrate.database.execute(
        "insert into migration_versions (version, checksum, statements_done, ordinal)"
        f" values {rows}"
    )
    result = migrate("status")
    assert result.exit_code == 4
    assert message in result.stderr


def test_a_table_with_numeric_versions_is_refused(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "select 1;"})
    migrate.database.execute(
        "create table migration_versions (version int, checksum text, up_script text,"
        "down_script text, applied_at timestamptz, applied_by text, duration_ms bigint,"
        "statements_done int, in_step timestamptz); insert into migration_versions values (1)"
    )
    result = migrate("status")
    assert result.exit_code == 4
    assert "is not a migrator history" in result.stderr


@pytest.mark.parametrize(
    ("break_it", "sql", "message"),
    [
        ("drop table migration_log", "select 1;", "one of the history tables is missing"),
        ("select 1", "begin read only;\nselect 1;\ncommit;\n", "remove READ ONLY from the file"),
    ],
)
def test_a_failure_outside_the_file_does_not_ask_to_fix_the_file(
    migrate: Migrate, write: Write, break_it: str, sql: str, message: str
) -> None:
    write({"01_a.up.sql": "select 1;"})
    assert migrate("up").exit_code == 0
    migrate.database.execute(break_it)
    write({"02_b.up.sql": sql})
    result = migrate("up")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "fix the file" not in result.stderr


def test_a_no_transaction_file_with_a_missing_role_runs_nothing(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "-- migrator: no-transaction\n-- migrator: role nobody_knows\nvacuum;"})
    result = migrate("up")
    assert result.exit_code == 1
    assert "No statement of 01_a was run." in result.stderr
    assert "done and recorded" not in result.stderr


def test_a_character_that_the_database_cannot_store_is_reported(
    postgres: Postgres, write: Write, directory: Path
) -> None:
    write({"01_a.up.sql": "-- 5 €\nselect 1;"})
    name = "latin_" + uuid.uuid4().hex
    options = "template template0 encoding latin1 lc_collate 'C' lc_ctype 'C'"
    options += " locale_provider libc" * (postgres.version >= 15)
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(f"create database {name} {options}".encode())
        try:
            result = Migrate(call, Database(postgres, name), directory)("up")
        finally:
            conn.execute(f"drop database {name} with (force)".encode())
    assert result.exit_code == 1
    assert "the database's encoding lacks this character" in result.stderr


def test_what_nobody_thought_of_is_one_line_and_no_traceback(
    migrate: Migrate, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the program with a bug in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PROJECT / "migrator", tmp_path / "migrator")
    module = tmp_path / "migrator" / "planning" / "problems.py"
    module.write_text(module.read_text() + "\n\ndef find_notes(entries):\n    return 1 / 0\n")
    write({"01_a.up.sql": "create table a ();"})
    environ = {"DATABASE_URL": migrate.database.url}

    result = spawn("--dir", migrate.directory, "verify", environ=environ)
    assert (result.exit_code, result.stdout) == (70, "")
    first, *hints = result.stderr.splitlines()
    assert first == "error: a bug in migrator: ZeroDivisionError: division by zero"
    assert "migrator status" in hints[0]
    assert "-vv" in hints[1]

    result = spawn("--dir", migrate.directory, "verify", "--json", environ=environ)
    assert (result.exit_code, result.json["error"]["code"]) == (70, "internal")
    result = spawn("--dir", migrate.directory, "verify", "-vv", environ=environ)
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
