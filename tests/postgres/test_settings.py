"""Settings of server, database, role and environment change nothing but what a script sees."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from migrator import config
from migrator.postgres import connection
from migrator.postgres.cursor import Connection, run_plainly

from ..conftest import Database, Migrate, ScratchDatabases, Write
from ..sessions import ordinary_role

# By what somebody may write after `alter database … set`.
SETTINGS = (
    "datestyle = 'SQL, DMY'",
    "datestyle = 'German'",
    "datestyle = 'Postgres, MDY'",
    "intervalstyle = 'sql_standard'",
    "intervalstyle = 'iso_8601'",
    "timezone = '<+03>-03'",
    "timezone = 'odd+05:53:28'",
    "timezone = 'Asia/Kathmandu'",
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "client_encoding = 'SQL_ASCII'",
    "standard_conforming_strings = off",
    "backslash_quote = off",
    "search_path = ''",
    "search_path = 'no such schema'",
    "search_path = pg_catalog",
    "search_path = public, pg_catalog",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_deferrable = on",
    "extra_float_digits = -15",
    "row_security = off",
    "quote_all_identifiers = on",
    "array_nulls = off",
    "transform_null_equals = on",
    "check_function_bodies = off",
    "session_replication_role = replica",
    "client_min_messages = 'debug5'",
    "client_min_messages = 'error'",
    "xmloption = 'document'",
    "statement_timeout = '1min'",
    "lock_timeout = '1min'",
    "default_with_oids = off",
    "synchronous_commit = off",
    "lc_messages = 'POSIX'",
    "lc_messages = 'C.UTF-8'",
    "lc_messages = 'de_DE.UTF-8'",
    "lc_messages = 'fr_FR.UTF-8'",
    "role = postgres",
    "role = pg_database_owner",
    "tcp_user_timeout = '10s'",
    "tcp_keepalives_idle = 1",
    "client_connection_check_interval = '1s'",
    "jit = on",
)
FILES = {
    "01_a.up.sql": "create table public.a (at timestamptz, s text);\n"
    "insert into public.a values (now(), 'x\\y');\n",
    "01_a.down.sql": "drop table public.a;\n",
    "02_b.up.sql": "-- migrator: no-transaction\ncreate table public.b (n int);\n"
    "create index concurrently i on public.b (n);\n",
    "02_b.down.sql": "drop table public.b;\n",
    "03_seen.up.sql": "create table public.seen as"
    " select pg_catalog.current_setting('{name}') as value;\n",
    "03_seen.down.sql": "drop table public.seen;\n",
}
# What a script sees in place of the setting.
OURS = {"client_encoding": "UTF8", "lock_timeout": "2s", "statement_timeout": "0"}
COMMANDS = (
    "status",
    "rehearse",
    "up --to 1",
    "rehearse",
    "up --trace",
    "status",
    "verify",
    "log",
    "drift",
    "down",
    "down --all",
    "log --version 1",
)


def set_in(database: Database, setting: str) -> None:
    """Set something for all later sessions of a database; skip what this version lacks."""
    try:
        database.execute(f"alter database {database.name} set {setting}")
    except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue) as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_command_works_under(
    database: Database, migrate: Migrate, write: Write, setting: str
) -> None:
    name = setting.partition(" ")[0]
    set_in(database, setting)
    with database.connect() as conn:
        (value,) = conn.execute("select pg_catalog.current_setting(%s)", [name]).fetchone() or ()
    write({file: text.replace("{name}", name) for file, text in FILES.items()})
    for command in COMMANDS:
        result = migrate("--schema", "public", *command.split())
        assert result.exit_code == 0, (command, result.stderr)
        if command == "up --trace":
            seen = OURS.get(name, value)
            assert database.rows(f"select 1 from public.seen where value = '{seen}'") == [(1,)]


def test_the_server_compiles_no_query_of_our_own(database: Database) -> None:
    set_in(database, "jit = on")
    with closing(connection.connect(config.Database(database.url))) as conn:
        assert conn.execute("show jit").fetchone() == ("off",)
        assert run_plainly(conn, "show jit").fetchone() == ("on",)


@pytest.mark.parametrize("style", ["SQL, DMY", "German", "Postgres"])
def test_the_environment_may_set_how_dates_are_written(
    database: Database, migrate: Migrate, write: Write, style: str
) -> None:
    write({"01_a.up.sql": "select 1;"})
    assert migrate("up", environ={"PGDATESTYLE": style, "PGTZ": "Asia/Kathmandu"}).exit_code == 0
    result = migrate("--json", "status", environ={"PGDATESTYLE": style, "PGTZ": "Asia/Kathmandu"})
    assert result.json["versions"][0]["applied_at"].endswith("+05:45")


LIMITS = (
    "statement_timeout = '1min'",
    "default_transaction_read_only = on",
    "idle_in_transaction_session_timeout = '1min'",
    "idle_session_timeout = '1min'",
    "transaction_timeout = '1min'",
)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_session_of_our_own_has_no_limits(database: Database, limit: str) -> None:
    set_in(database, limit)
    name = limit.partition(" ")[0]
    with connection.connect_own(config.Database(database.url)) as conn:
        for _ in range(2):
            row = run_plainly(conn, "select current_setting(%s)", [name]).fetchone()
            assert row in [("0",), ("off",)]
            connection.forget(conn)


@pytest.mark.parametrize(
    "limit", ["idle_session_timeout = '250ms'", "default_transaction_read_only = on"]
)
def test_limits_of_the_role_end_no_session_of_ours(
    database: Database,
    migrate: Migrate,
    write: Write,
    scratch_databases: ScratchDatabases,
    limit: str,
) -> None:
    if "idle" in limit and database.postgres.version < 14:
        pytest.skip("idle_session_timeout is new in 14")
    write({"01_a.up.sql": "create table a (); select pg_sleep(0.5);"})
    write({"01_a.down.sql": "drop table a;"})
    with ordinary_role(database, "createdb") as url:
        database.execute(f"alter role {conninfo_to_dict(url)['user']} set {limit}")
        override = ["--override-read-only"] * ("read_only" in limit)
        for command in ("rehearse", "up --trace", "drift", "down"):
            options = override if command in ("up --trace", "down") else []
            result = migrate(*command.split(), *options, database=url)
            # What the role was granted is drift.
            assert result.exit_code in (0, 4), (command, result.stderr)
            for word in ("error", "leftover", "stays"):
                assert word not in result.stderr, (command, result.stderr)
        assert scratch_databases() == []


KEPT_ALIVE = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
    "tcp_user_timeout": "0",
}


@pytest.mark.parametrize("connect", [connection.connect, connection.connect_own])
def test_the_server_notices_a_lost_client_whatever_the_database_sets(
    database: Database, connect: Callable[[config.Database], Connection]
) -> None:
    for name in KEPT_ALIVE:
        database.execute(f"alter database {database.name} set {name} = 7")
    with ordinary_role(database) as url, connect(config.Database(url)) as conn:
        conn.execute("select 1")
        values = {
            name: conn.execute("select current_setting(%s)", [name]).fetchall()[0][0]
            for name in KEPT_ALIVE
        }
    assert values == KEPT_ALIVE


@pytest.mark.parametrize(
    ("query", "idle", "user_timeout"),
    [("", 30, 0), ("?keepalives_idle=5&tcp_user_timeout=9000", 5, 9000)],
    ids=["default", "of the URL"],
)
@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option"
)
def test_the_client_notices_a_lost_server_unless_the_url_says_otherwise(
    database: Database, query: str, idle: int, user_timeout: int
) -> None:
    with (
        ordinary_role(database) as url,
        connection.connect(config.Database(url + query)) as conn,
        socket.socket(fileno=os.dup(conn.fileno())) as end,
    ):
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout
