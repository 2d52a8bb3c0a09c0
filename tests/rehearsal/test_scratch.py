"""Scratch databases are created, given a schema, and dropped however their use ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from migrator import config
from migrator.errors import DatabaseConnectionError, DumpError, ScratchError
from migrator.events import Event, Remarked
from migrator.rehearsal import clone, scratch
from migrator.rehearsal.schemas import schema
from migrator.rehearsal.schemas.differences import difference_lines
from migrator.rehearsal.schemas.schema import compare

from ..conftest import Database, Postgres, ScratchDatabases, process_environment
from .test_snapshots import BASE

pytestmark = pytest.mark.slow

LOCK_TIMEOUT = 2000


def ignore(event: Event) -> None:
    """Do nothing."""


@contextmanager
def made(
    postgres: Postgres, like: scratch.Locality | None = None
) -> Iterator[tuple[config.Database, list[str]]]:
    """Create a scratch database; yield it with the remarks."""
    remarks: list[str] = []

    def notify(event: Event) -> None:
        assert isinstance(event, Remarked)
        remarks.append(event.text)

    with scratch.database(config.Database(postgres.url()), like, notify) as database:
        yield database, remarks


def connect(database: config.Database) -> psycopg.Connection[tuple[object, ...]]:
    """Open a session in autocommit mode."""
    where = make_conninfo(database.url, **database.parameters)
    return psycopg.connect(where, autocommit=True)


# Creating and dropping


def test_a_scratch_database_exists_within_the_with_only(
    postgres: Postgres, scratch_databases: ScratchDatabases
) -> None:
    with made(postgres) as (database, remarks), connect(database) as conn:
        assert [conn.info.dbname] == scratch_databases()
        conn.execute("create table t (id integer)")
    assert scratch_databases() == []
    assert remarks == []


@pytest.mark.parametrize("reason", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_scratch_database_with_sessions_is_dropped_after_an_error(
    postgres: Postgres, scratch_databases: ScratchDatabases, reason: type[BaseException]
) -> None:
    def fail() -> None:
        with made(postgres) as (database, _):
            left.append(connect(database))
            left[0].execute("begin; create table t (id integer)")
            raise reason

    left: list[psycopg.Connection[tuple[object, ...]]] = []
    with pytest.raises(reason):
        fail()
    assert scratch_databases() == []
    with pytest.raises(psycopg.OperationalError):
        left[0].execute("select 1")
    left[0].close()


WAITING = """
import sys, time
from migrator import config, interrupts
from migrator.rehearsal import scratch
interrupts.raise_on_signals()
with scratch.database(config.Database(sys.argv[1]), None, print):
    print("made", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_scratch_database_is_dropped_after_a_signal(
    postgres: Postgres, scratch_databases: ScratchDatabases, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", WAITING, postgres.url()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=process_environment()
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"made\n"
            assert len(scratch_databases()) == 1
            process.send_signal(number)
            assert process.wait(30) != 0
        finally:
            process.kill()
    assert scratch_databases() == []


def test_an_idle_scratch_database_of_a_killed_run_is_dropped_an_hour_later(
    postgres: Postgres, scratch_databases: ScratchDatabases
) -> None:
    now = datetime.now(UTC)
    old, used, young = (
        scratch.new_name(now - age)
        for age in (timedelta(hours=2), timedelta(hours=3), timedelta(minutes=5))
    )
    foreign = "migrator_scratch_of_my_own"
    everything = [old, used, young, foreign]
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        for name in everything:
            conn.execute(f"create database {name}".encode())
    with psycopg.connect(postgres.url(used)), made(postgres) as (_, remarks):
        assert remarks == [f'dropped the leftover scratch database "{old}"']
    assert scratch_databases() == sorted([used, young, foreign])


@pytest.mark.parametrize(
    "name", ["postgres", "migrator_scratch_", "migrator_scratch_of_my_own", "x_migrator_scratch_1"]
)
def test_a_database_with_another_name_is_not_dropped(database: Database, name: str) -> None:
    with database.connect() as conn:
        if name != "postgres":
            conn.execute(f"create database {name}".encode())
        try:
            with pytest.raises(ScratchError, match="not a scratch database"):
                scratch.drop(conn, name, force=True)
            still = conn.execute("select from pg_database where datname = %s", [name])
            assert still.fetchone() is not None
        finally:
            if name != "postgres":
                conn.execute(f"drop database {name}".encode())


def test_a_scratch_database_encodes_and_sorts_as_the_target(postgres: Postgres) -> None:
    create = "create database odd template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(
            (create + (" locale_provider libc" if postgres.version >= 15 else "")).encode()
        )
        try:
            with psycopg.connect(postgres.url("odd")) as odd:
                like = scratch.locality(odd)
            with made(postgres, like) as (database, remarks), connect(database) as found:
                assert scratch.locality(found) == like
                assert like.encoding == "LATIN1"
                assert remarks == []
        finally:
            conn.execute("drop database odd")


def test_a_scratch_database_sorts_as_c_if_the_server_does_not_have_the_locale(
    postgres: Postgres,
) -> None:
    like = scratch.Locality("UTF8", "xx_XX.utf8", "xx_XX.utf8")
    with made(postgres, like) as (database, remarks), connect(database) as conn:
        found = scratch.locality(conn)
        assert (found.encoding, found.collate) == ("UTF8", "C")
        (remark,) = remarks
        assert remark.startswith("the scratch database sorts text as C: ")
        assert "xx_XX.utf8" in remark


def test_a_role_that_may_not_create_databases_gets_an_error(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("create role poor login password 'secret'")
        try:
            admin = config.Database(postgres.tcp_url("postgres", "poor", "secret"))
            with (
                pytest.raises(ScratchError, match="could not create") as caught,
                scratch.database(admin, None, ignore),
            ):
                pass
            assert caught.value.detail == "permission denied to create database"
        finally:
            conn.execute("drop role poor")


def test_a_server_that_does_not_answer_is_a_connection_error(tmp_path: Path) -> None:
    admin = config.Database(f"host={tmp_path}")
    with pytest.raises(DatabaseConnectionError), scratch.database(admin, None, ignore):
        pass


# Copying a schema


@pytest.fixture
def target(postgres: Postgres) -> Iterator[Database]:
    """An empty database, and the roles that `BASE` names."""
    roles = "snapshot_reader, snapshot_owner"
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        for role in roles.split(", "):
            conn.execute(f"create role {role}".encode())
        with postgres.database() as database:
            yield database
        conn.execute(f"drop role {roles}".encode())


def test_a_copied_schema_has_no_differences(postgres: Postgres, target: Database) -> None:
    target.execute(BASE)
    # Dropped columns leave gaps in the catalog.
    target.execute(
        "alter table public.users drop column born, add column phone text;"
        "alter table public.posts validate constraint posts_short;"
        "create index invalid_one on public.users (phone)"
    )
    with made(postgres) as (copy, _):
        loaded = clone.copy_schema(
            config.Database(target.url), copy, lock_timeout=LOCK_TIMEOUT, role=None
        )
        with target.connect() as before, connect(copy) as after:
            found = compare(schema.read(before, None), schema.read(after, None))
            assert list(difference_lines(found)) == ["- user mapping snapshot_reader on server far"]
            populated = "select relispopulated from pg_class where relname = 'totals'"
            assert after.execute(populated).fetchone() == (True,)
    mapping = clone.Skipped(
        "create user mapping for snapshot_reader server far options",
        "skipped: it would connect to another server",
    )
    assert loaded == clone.Missing(skipped=(mapping,))


def test_roles_that_the_scratch_server_does_not_have_are_named(
    contrib_postgres: Postgres, postgres: Postgres
) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("create role absent")
    with postgres.database() as target:
        target.execute(
            "create table t (id integer); alter table t owner to absent;"
            "create table u (id integer); grant select on u to absent"
        )
        with made(contrib_postgres) as (copy, _):
            loaded = clone.copy_schema(
                config.Database(target.url), copy, lock_timeout=LOCK_TIMEOUT, role=None
            )
            with connect(copy) as conn2:
                assert len(conn2.execute("table t").fetchall()) == 0
                assert len(conn2.execute("table u").fetchall()) == 0
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("drop role absent")
    assert loaded.roles == ("absent",)
    assert [each for each in loaded.skipped if "absent" not in each.statement] == []
    assert clone.Skipped("GRANT SELECT ON TABLE public.u TO absent;",
                           'role "absent" does not exist') in loaded.skipped  # fmt: skip


def test_extensions_that_the_scratch_server_does_not_have_are_named(
    contrib_database: Database, postgres: Postgres
) -> None:
    with psycopg.connect(postgres.url()) as conn:
        query = "select name from pg_available_extensions where name = 'pgcrypto'"
        if conn.execute(query).fetchone():
            pytest.skip("this server has the extension pgcrypto")
    contrib_database.execute("create extension pgcrypto; create view t as select crypt('a', 'b')")
    with made(postgres) as (copy, _):
        target = config.Database(contrib_database.url)
        loaded = clone.copy_schema(target, copy, lock_timeout=LOCK_TIMEOUT, role=None)
    assert loaded.extensions == ("pgcrypto",)
    assert any(each.statement.startswith("CREATE VIEW public.t") for each in loaded.skipped)


def test_the_owner_privileges_and_settings_of_the_database_are_copied(
    postgres: Postgres, target: Database, scratch_databases: ScratchDatabases
) -> None:
    name = target.name
    target.execute(
        f'alter database {name} set search_path = app, "odd, name", public;'
        f"alter database {name} set work_mem = '5MB';"
        f"grant create on database {name} to snapshot_reader;"
        f"alter database {name} owner to snapshot_owner"
    )
    with made(postgres) as (copy, _):
        origin = config.Database(target.url)
        copy, refused = clone.copy_properties(origin, copy)
        assert refused == ()
        with connect(copy) as conn:
            settings = conn.execute(
                "select current_setting('search_path'), current_setting('work_mem')"
            )
            assert settings.fetchone() == ('app, "odd, name", public', "5MB")
            rights = """
                select has_database_privilege('snapshot_reader', oid, 'create'),
                       pg_get_userbyid(datdba)
                from pg_database
                where datname = current_database()
            """
            assert conn.execute(rights).fetchone() == (True, "snapshot_owner")
    assert scratch_databases() == []


def test_a_schema_of_several_batches_is_copied_completely_despite_errors(
    postgres: Postgres, database: Database
) -> None:
    tables = [f"create table t{number} (id integer primary key)" for number in range(500)]
    database.execute(";".join(tables))
    database.execute("create view v as select * from t1")
    with made(postgres) as (copy, _):
        with connect(copy) as conn:
            conn.execute("create table t250 (id text)")
        target = config.Database(database.url)
        loaded = clone.copy_schema(target, copy, lock_timeout=LOCK_TIMEOUT, role=None)
        with connect(copy) as conn:
            count = "select count(*) from pg_class where relname ~ '^t[0-9]+$'"
            assert conn.execute(count).fetchone() == (500,)
    assert loaded.skipped[0] == clone.Skipped(
        "CREATE TABLE public.t250 (", 'relation "t250" already exists'
    )


def test_a_locked_table_is_waited_for_up_to_the_lock_timeout(
    postgres: Postgres, database: Database
) -> None:
    database.execute("create table t (id integer)")
    with database.connect() as holder, made(postgres) as (copy, _):
        holder.execute("begin; lock table t")
        with pytest.raises(DumpError) as caught:
            clone.copy_schema(config.Database(database.url), copy, lock_timeout=50, role=None)
    assert "LOCK TABLE public.t" in (caught.value.detail or "")


def test_pg_dump_gets_the_password_of_the_target(postgres: Postgres, database: Database) -> None:
    database.execute("create table t (id integer)")
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("create role keeper superuser login password 'p @''\"\\'")
        try:
            target = config.Database(database.tcp_url("keeper", "p @'\"\\"))
            with made(postgres) as (copy, _):
                loaded = clone.copy_schema(target, copy, lock_timeout=LOCK_TIMEOUT, role=None)
            assert loaded == clone.Missing()
        finally:
            conn.execute("drop role keeper")
