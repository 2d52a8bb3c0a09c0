"""Runs through a real PgBouncer, in transaction and session mode, succeed or are refused."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, Migrate, Postgres, Write, free_port
from tests.sessions import (
    Runs,
    applied,
    history,
    holding,
    invalid_indexes,
    wait_for,
    waiting_for_a_lock,
    working,
)

pytestmark = pytest.mark.slow

POOLED = "connected through a connection pooler"
OPTION = "-- migrator: no-transaction\n"
MODES = ["transaction", "session"]
ADVISORY_LOCKS = """
select pid from pg_locks
where locktype = 'advisory'
  and database = (select oid from pg_database where datname = current_database())
"""
BUSY = """
select state from pg_stat_activity
where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()
"""
SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server} user={user} password={password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
query_wait_timeout = {wait_timeout}
logfile = {home}/log
"""


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer."""

    port: int

    def url(self, database: Database) -> str:
        return f"postgresql://pooled@127.0.0.1:{self.port}/{database.name}"


@contextmanager
def pgbouncer(
    postgres: Postgres, mode: str, *, size: int = 20, wait_timeout: int = 120
) -> Iterator[Pooler]:
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    user, port = f"pooled_{uuid.uuid4().hex}", free_port()
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(f"create role {user} superuser login password 'secret'".encode())
    home = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    # PgBouncer refuses to run as root.
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    text = SETTINGS.format(
        server=postgres.server.port,
        user=user,
        password="secret",
        port=port,
        mode=mode,
        size=size,
        wait_timeout=wait_timeout,
        home=home,
    )
    (home / "pgbouncer.ini").write_text(text)
    if owner:
        os.chown(home, owner.pw_uid, owner.pw_gid)
    process = subprocess.Popen(
        [program, "--quiet", str(home / "pgbouncer.ini")],
        user=owner.pw_uid if owner else None,
        group=owner.pw_gid if owner else None,
        extra_groups=[] if owner else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port))
        yield Pooler(port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        shutil.rmtree(home)  # the role owns objects of tests, and so is kept


def answers(port: int) -> bool:
    try:
        psycopg.connect(f"postgresql://pooled@127.0.0.1:{port}/postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def poolers(postgres: Postgres) -> Iterator[dict[str, Pooler]]:
    with pgbouncer(postgres, "transaction") as first, pgbouncer(postgres, "session") as second:
        yield {"transaction": first, "session": second}


@pytest.fixture(params=MODES)
def url(request: pytest.FixtureRequest, poolers: dict[str, Pooler], database: Database) -> str:
    """A URL through each kind of pool."""
    return poolers[request.param].url(database)


@pytest.fixture
def transaction_url(poolers: dict[str, Pooler], database: Database) -> str:
    return poolers["transaction"].url(database)


@pytest.fixture
def session_url(poolers: dict[str, Pooler], database: Database) -> str:
    return poolers["session"].url(database)


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def test_up_status_down(database: Database, migrate: Migrate, write: Write, url: str) -> None:
    write(
        {
            "01_a.up.sql": "create table a (i int);",
            "01_a.down.sql": "drop table a;",
            "02_b.up.sql": "set search_path = pg_catalog;\nset role pg_monitor;\n"
            "create temporary table t ();\n",
            "02_b.down.sql": "set statement_timeout = '1min';",
            "03_c.up.sql": "copy a from stdin;\n1\n2\n\\.\n",
            "03_c.down.sql": "truncate a;",
        }
    )
    result = migrate("up", database=url)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count(POOLED) == 1
    assert database.rows("select i from a") == [(1,), (2,)]
    assert migrate("status", "--check", database=url).exit_code == 0
    result = migrate("down", "--all", database=url)
    assert result.exit_code == 0, result.stderr
    assert history(database) == []


def test_a_backfill_has_its_batches_in_a_pooled_session(
    database: Database, migrate: Migrate, write: Write, session_url: str
) -> None:
    database.execute("create table a as select i, null::int as j from generate_series(1, 20000) i")
    write(
        {
            "01_a.up.sql": "-- migrator: no-transaction\n-- migrator: backfill a\n"
            "update a set j = i where j is null /* batch */;"
        }
    )
    result = migrate("up", "--batch-time", "5ms", "--batch-load", "100%", database=session_url)
    assert result.exit_code == 0, result.stderr
    assert database.rows("select count(*), count(distinct xmin::text) > 1 from a where i = j") == [
        (20000, True)
    ]


@pytest.mark.parametrize(("mode", "kind"), [("transaction", "findings"), ("session", "notes")])
def test_doctor_finds_a_pooler_that_shares_sessions_and_notes_another(
    migrate: Migrate, poolers: dict[str, Pooler], database: Database, mode: str, kind: str
) -> None:
    result = migrate("doctor", "--json", database=poolers[mode].url(database))
    assert result.exit_code == (4 if kind == "findings" else 0)
    empty: dict[str, list[object]] = {"findings": [], "notes": [], "unchecked": []}
    (pooler,) = result.json[kind]
    assert (pooler["id"], f"a pooler in {mode} mode" in pooler["message"]) == ("pooler", True)
    assert {**result.json, kind: []} == empty


def test_the_target_is_no_copy_of_itself_through_a_pooler(
    migrate: Migrate, write: Write, url: str
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    result = migrate("rehearse", "--on-copy", url)
    assert result.exit_code == 6
    assert "error: the copy is this database itself; nothing was run" in result.stderr


def test_a_copy_behind_a_pooler_in_transaction_mode_is_refused(
    migrate: Migrate, write: Write, transaction_url: str, second_database: Database
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    result = migrate("rehearse", "--on-copy", transaction_url, database=second_database)
    assert result.exit_code == 6
    assert "error: the copy is behind a pooler in transaction mode" in result.stderr


def test_the_encoding_survives_a_pooler(
    postgres: Postgres, poolers: dict[str, Pooler], migrate: Migrate, write: Write
) -> None:
    """PgBouncer passes it to the server by SET, which RESET ALL undoes."""
    name = f"test_{uuid.uuid4().hex}"
    write({f"0{i}_e.up.sql": f"comment on database {name} is 'é{i}';" for i in (1, 2, 3)})
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        create = f"create database {name} template template0 encoding latin1 locale 'C'"
        conn.execute(create.encode())
        try:
            database = Database(postgres, name)
            result = migrate("up", database=poolers["transaction"].url(database))
            assert result.exit_code == 0, result.stderr
            comment = "select shobj_description(oid, 'pg_database') from pg_database"
            rows = database.rows(f"{comment} where datname = current_database()")
            assert rows == [("é3",)]
            assert applied(database) == ["01_e", "02_e", "03_e"]
        finally:
            conn.execute(f"drop database {name} with (force)".encode())


def test_a_direct_connection_is_not_mistaken_for_a_pooler(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": ""})
    assert POOLED not in migrate("up").stderr


def test_ten_runners_at_once(database: Database, runs: Runs, write: Write, url: str) -> None:
    write(
        {
            "01_a.up.sql": "create table a (i int);",
            **{f"0{i}_n.up.sql": f"insert into a values ({i});" for i in range(2, 6)},
        }
    )
    results = [run.result() for run in [runs("up", url=url) for _ in range(10)]]
    assert [result.exit_code for result in results] == [0] * 10, results
    assert len(applied(database)) == 5
    assert database.rows("select i from a order by i") == [(2,), (3,), (4,), (5,)]
    assert database.rows(ADVISORY_LOCKS) == [], "the pool keeps none of them"


def test_no_setting_of_a_migration_reaches_other_clients(
    database: Database, migrate: Migrate, write: Write, transaction_url: str
) -> None:
    write(
        {
            "01_a.up.sql": "-- migrator: role pg_monitor\n-- migrator: lock-timeout 7s\n"
            "set search_path = pg_catalog; set my.x = 'y'; listen news;"
            " create temporary table scratch (); prepare p as select 1;"
        }
    )
    assert migrate("up", database=transaction_url).exit_code == 0
    with psycopg.connect(transaction_url, autocommit=True) as other:
        row = other.execute(
            "select current_user = session_user, current_setting('search_path'),"
            " current_setting('lock_timeout'), current_setting('my.x', true),"
            " to_regclass('pg_temp.scratch'), current_setting('client_encoding'),"
            " (select count(*) from pg_listening_channels())"
        ).fetchone()
    assert row in [
        (True, '"$user", public', "0", mine, None, "UTF8", 0)
        for mine in ("", None)  # reset, or another session
    ]


def test_a_failed_migration_leaves_nothing_in_the_pool(
    database: Database, migrate: Migrate, write: Write, transaction_url: str
) -> None:
    write({"01_a.up.sql": "create table a (); set lock_timeout = '7s'; select 1 / 0;"})
    result = migrate("up", database=transaction_url)
    assert result.exit_code == 1
    assert "division by zero" in result.stderr
    assert database.rows("select to_regclass('a')") == [(None,)]
    assert database.rows(BUSY) == []
    with psycopg.connect(transaction_url, autocommit=True) as other:
        assert other.execute("show lock_timeout").fetchone() == ("0",)


def test_blockers_are_listed(database: Database, runs: Runs, write: Write, url: str) -> None:
    """In transaction mode, each attempt may have another server process."""
    database.execute("create table a (i int)")
    write({"00_a.up.sql": "create table b ();", "01_a.up.sql": "alter table a add j int;"})
    with holding(database, "select from a"), ExitStack() as others:
        run = runs("up", "--lock-timeout", "1s", url=url)
        run.says("01_a: attempt 1 of 10 failed")
        for _ in range(3):
            other = others.enter_context(psycopg.connect(url))
            other.execute("select 'occupies the pool'")
        said = run.says("01_a: attempt 2 of 10 failed")
        assert said.count("  blocked by pid") == 2, said
        assert "report, postgres" in said
    result = run.result()
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "create index concurrently a_i on a (i);",
        f"{OPTION}set search_path = public;\ninsert into a values (1);",
        f"{OPTION}vacuum a;",
    ],
)
def test_a_script_that_needs_a_session_is_refused_in_transaction_mode(
    database: Database, migrate: Migrate, write: Write, transaction_url: str, text: str
) -> None:
    database.execute("create table a (i int)")
    write({"01_b.up.sql": "create table b ();", "02_c.up.sql": text})
    result = migrate("up", database=transaction_url)
    assert result.exit_code == 2
    assert "pooler in transaction mode" in result.stderr
    assert "02_c" in result.stderr
    assert "connect to PostgreSQL itself, or to a pool in session mode" in result.stderr
    assert database.rows("select to_regclass('b')") == [(None,)]
    assert migrate("up", "--to", "01", database=transaction_url).exit_code == 0
    assert migrate("up").exit_code == 0, "it runs on a direct connection"


def test_transaction_mode_is_detected_in_a_busy_pool(
    database: Database, migrate: Migrate, write: Write, transaction_url: str
) -> None:
    """Other clients take and return the sessions of the pool all the time."""
    write({"01_a.up.sql": f"{OPTION}vacuum;"})
    others = [psycopg.connect(transaction_url, autocommit=True) for _ in range(6)]
    try:
        for other in others:
            other.execute("begin")
            other.execute("select 1")
        for other in others[::2]:
            other.execute("commit")
        result = migrate("up", database=transaction_url)
    finally:
        for other in others:
            other.close()
    assert result.exit_code == 2
    assert "pooler in transaction mode" in result.stderr


def test_a_script_that_needs_a_session_runs_in_session_mode(
    database: Database, migrate: Migrate, write: Write, session_url: str
) -> None:
    database.execute("create schema here; create table here.a (i int)")
    write(
        {
            "01_a.up.sql": f"{OPTION}set search_path = here;\n"
            "create index concurrently a_i on a (i);\nvacuum a;\n",
            "01_a.down.sql": "drop index concurrently here.a_i;",
        }
    )
    for _ in range(2):
        result = migrate("up", database=session_url)
        assert result.exit_code == 0, result.stderr
        assert not invalid_indexes(database)
        result = migrate("down", database=session_url)
        assert result.exit_code == 0, result.stderr


def test_ten_runners_of_a_file_outside_a_transaction_in_session_mode(
    database: Database, runs: Runs, write: Write, postgres: Postgres
) -> None:
    database.execute("create table a (i int)")
    write(
        {
            "01_a.up.sql": f"{OPTION}insert into a values (1);\n"
            "create index concurrently a_i on a (i);\ninsert into a values (2);\n"
        }
    )
    with pgbouncer(postgres, "session", size=40) as pooler:
        started = [runs("up", url=pooler.url(database)) for _ in range(10)]
        results = [run.result() for run in started]
    assert [result.exit_code for result in results] == [0] * 10, results
    assert database.rows("select i from a order by i") == [(1,), (2,)]
    assert not invalid_indexes(database)


def test_a_runner_waits_for_the_statement_of_a_killed_one(
    database: Database, runs: Runs, write: Write, session_url: str
) -> None:
    database.execute("create table a (id int)")
    write({"01_index.up.sql": "create index concurrently a_id on a (id);"})
    with holding(database, "insert into a values (1)"):
        first = runs("up", url=session_url)
        pid = wait_for(lambda: waiting_for_a_lock(database) and working(database, "concurrently"))
        first.kill()
        second = runs("up", url=session_url)
        assert f"pid {pid} " in second.says("waiting for another migrator")
    result = second.result()
    assert result.exit_code == 0, result.stderr
    assert not invalid_indexes(database)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_through_the_pooler(
    database: Database, runs: Runs, write: Write, url: str, number: int, code: int
) -> None:
    write({"01_a.up.sql": "create table a ();\nselect pg_sleep(600);\n"})
    run = runs("up", url=url)
    wait_for(lambda: working(database, "pg_sleep(600)"))
    run.signal(number)
    result = run.result(bound=10)
    assert result.exit_code == code
    assert "01_a was rolled back completely" in result.stderr
    assert not working(database, "pg_sleep(600)")
    assert history(database) == []


def test_a_killed_runner_in_transaction_mode_leaves_no_lock(
    database: Database, runs: Runs, write: Write, transaction_url: str
) -> None:
    database.execute("create table gate ()")
    write({"01_a.up.sql": "create table a (); lock table gate;"})
    with holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "60s", url=transaction_url)
        wait_for(lambda: waiting_for_a_lock(database))
        run.kill()
        second = runs("up", "--lock-timeout", "200ms", url=transaction_url)
        said = second.says("01_a is waiting for a lock")
        assert "lock table gate" in said, "the process of the killed run is listed"
    result = second.result()
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_a"]
    assert database.rows(ADVISORY_LOCKS) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_pool_of_two_sessions_is_enough_for_a_run(
    postgres: Postgres, database: Database, runs: Runs, write: Write, mode: str
) -> None:
    """Blockers are not listed then, and the run does not wait for the third session."""
    write({"01_a.up.sql": "select pg_sleep(1.5);", "02_b.up.sql": "select pg_sleep(600);"})
    with pgbouncer(postgres, mode, size=2) as pooler:
        run = runs("up", url=pooler.url(database))
        run.says("applied  01_a")
        wait_for(lambda: working(database, "pg_sleep(600)"))
        run.signal(signal.SIGTERM)
        result = run.result(bound=10)
    assert result.exit_code == 143
    assert "02_b was rolled back completely" in result.stderr
    assert not working(database, "pg_sleep")


def test_a_pool_of_one_session_is_too_small(
    postgres: Postgres, database: Database, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    with pgbouncer(postgres, "session", size=1, wait_timeout=1) as pooler:
        result = runs("up", url=pooler.url(database)).result()
    assert result.exit_code == 6
    assert "query_wait_timeout" in result.stderr
    assert "a run needs two sessions of the pool" in result.stderr


def test_a_rehearsal_through_a_pooler_names_the_settings_that_it_cannot_give(
    postgres: Postgres, database: Database, migrate: Migrate, write: Write
) -> None:
    """PgBouncer refuses the options of a connection, which carry such settings elsewhere."""
    write({"01_a.up.sql": "create table a ();"})
    database.execute(f"alter database {database.name} set app.tenant = 'acme'")
    with pgbouncer(postgres, "session") as pooler:
        with psycopg.connect(pooler.url(database), autocommit=True) as conn:
            conn.execute("create table a ()")
            conn.execute("alter role current_user createdb nosuperuser")
        result = migrate("rehearse", "--json", database=pooler.url(database))
        others = [
            migrate(*command, database=pooler.url(database))
            for command in (["drift"], ["baseline", "1"])
        ]
    assert result.exit_code in (0, 4), result.stderr
    assert any('set "app.tenant"' in each for each in result.json["missing"])
    for each in others:
        assert "not copied" in each.stderr, each
        assert 'set "app.tenant"' in each.stderr


def test_a_rehearsal_in_transaction_mode_asks_the_rows_what_it_asks_without_a_pooler(
    postgres: Postgres, database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create table a (n int, m int);"})
    assert migrate("up").exit_code == 0
    database.execute("insert into a values (1, 1), (1, null)")
    write(
        {
            "02_b.up.sql": "create table b (n int);",
            "02_b.down.sql": "drop table b;",
            "03_c.up.sql": "alter table a add unique (n), alter m set not null;\n"
            "alter table b add check (n > 0);",
            "03_c.down.sql": "drop table a, b;",
        }
    )
    direct = migrate("rehearse", "--json")
    with pgbouncer(postgres, "transaction") as pooler:
        pooled = migrate("rehearse", "--json", database=pooler.url(database))
    found = [
        [migration["data_checks"] for migration in result.json["migrations"]]
        for result in (direct, pooled)
    ]
    assert found[0] == found[1]
    assert [len(each) for each in found[0]] == [0, 2]
