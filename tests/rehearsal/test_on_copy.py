"""`rehearse --on-copy` runs the pending migrations on a copy with rows, which it uses up."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Database, Migrate, Result, Write, serve
from ..proxy import delaying
from ..sessions import Runs, ordinary_role, wait_for, working

pytestmark = pytest.mark.slow

GROUND = {
    "01_t.up.sql": "create table t (id int, name text);\n"
    "insert into t select n, 'x' from generate_series(1, 20000) n;\n",
    "01_t.down.sql": "drop table t;\n",
}


@contextmanager
def copied(database: Database) -> Iterator[Database]:
    """Copy a database on its own server, with its rows."""
    copy = Database(database.postgres, f"{database.name}_copy")
    server = Database(database.postgres, "postgres")
    server.execute(f"create database {copy.name} template {database.name}")
    try:
        yield copy
    finally:
        server.execute(f"drop database {copy.name} with (force)")


@pytest.fixture
def copy(migrate: Migrate, write: Write) -> Iterator[Database]:
    """A copy of the database, which has one migration applied and its rows."""
    write(GROUND)
    assert migrate("up").exit_code == 0
    with copied(migrate.database) as copy:
        yield copy


def applied(database: Database) -> list[str]:
    return [v for (v,) in database.rows("select version from migration_versions order by 1")]


def on_copy(migrate: Migrate, copy: Database | str, *options: str) -> Result:
    """Rehearse on a copy, and check that the target has not changed."""
    before = migrate.database.rows("table migration_versions"), schema(migrate.database)
    url = copy if isinstance(copy, str) else copy.url
    result = migrate("rehearse", "--on-copy", url, "--small", "0", *options)
    assert "Traceback" not in result.stderr
    assert (migrate.database.rows("table migration_versions"), schema(migrate.database)) == before
    return result


def schema(database: Database) -> list[Any]:
    return database.rows(
        "select c.oid, c.relname, c.relfilenode, a.attname, a.atttypid from pg_class c "
        "join pg_attribute a on a.attrelid = c.oid "
        "where c.relnamespace = 'public'::regnamespace order by 1, 4"
    )


def statements(result: Result, migration: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = result.json["migrations"][migration]["statements"]
    return found


def findings(result: Result) -> dict[str, str]:
    (migration,) = result.json["migrations"]
    return {each["hazard"]: each["severity"] for each in migration["findings"]}


REWRITE = {"02_b.up.sql": "alter table t alter id type bigint;\n"}


def test_the_pending_migrations_are_committed_on_the_copy(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write(
        {
            **REWRITE,
            "02_b.down.sql": "alter table t alter id type int;\n",
            "03_c.up.sql": "-- migrator: no-transaction\n"
            "create index concurrently t_id on t (id);\n",
        }
    )
    result = on_copy(migrate, copy)
    assert result.exit_code == 0, result.stdout
    assert applied(copy) == ["01_t", "02_b", "03_c"]
    assert copy.rows("select indisvalid from pg_index where indexrelid = 't_id'::regclass")
    assert f"rehearsed on the copy {copy.name} on " in result.stdout
    assert "  down: not run on a copy\n" in result.stdout
    assert result.stdout.endswith("\n2 migrations, 0 findings\n")


def test_what_only_rows_can_tell_is_measured(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write(
        {
            "02_b.up.sql": "alter table t alter id type bigint;\n"
            "update t set name = 'y' where id <= 10000;\n"
            "select pg_sleep(0.2);\n"
            "set local work_mem = '64kB';\n"
            "select count(*) from (select from t order by name, id offset 0) s;\n"
        }
    )
    result = on_copy(migrate, copy, "--json")
    rewrite, update, sleep, *_ = statements(result)
    assert rewrite["bytes_rewritten"] >= 20000 * 32
    assert rewrite["wal_bytes"] >= 20000 * 32
    assert (rewrite["rows_changed"], update["rows_changed"]) == (0, 10000)
    assert update["bytes_rewritten"] == 0
    assert sleep["seconds"] >= 0.2
    usage = result.json["migrations"][0]["usage"]
    assert usage["temporary_bytes"] > 0
    (lock,) = usage["locks"]
    assert (lock["relation"], lock["mode"], lock["line"]) == ("public.t", "ACCESS EXCLUSIVE", 1)
    assert 0.2 <= lock["seconds"] <= usage["seconds"]


def test_each_form_of_the_report_has_the_figures(
    migrate: Migrate, copy: Database, write: Write, tmp_path: Path
) -> None:
    write(REWRITE)
    page = tmp_path / "page.html"
    markdown = on_copy(migrate, copy, "--markdown", "--html", str(page)).stdout
    for text in (markdown, page.read_text()):
        assert " on the copy, " in text
        assert " rewritten, " in text
        assert " of WAL" in text
    assert "<h3>Locks, in time</h3>" in page.read_text()


def test_a_scratch_database_has_no_figures(migrate: Migrate, write: Write) -> None:
    write(GROUND)
    result = migrate("rehearse", "--json")
    assert result.json["migrations"][0]["usage"] is None
    assert statements(result)[0]["bytes_rewritten"] is None


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("1h", {"table-rewrite": "information", "lock-held": "information"}),
        (
            "100ms",
            {"table-rewrite": "finding", "lock-held": "finding", "lock-too-long": "finding"},
        ),
    ],
)
def test_hazards_are_weighed_with_the_time_of_their_locks(
    migrate: Migrate, copy: Database, write: Write, limit: str, expected: dict[str, str]
) -> None:
    write(
        {
            "02_b.up.sql": "alter table t alter id type bigint;\n"
            "insert into t values (0, 'z');\nselect pg_sleep(0.2);\n"
        }
    )
    result = on_copy(migrate, copy, "--json", "--max-lock", limit)
    assert findings(result) == expected
    assert result.exit_code == (4 if "lock-too-long" in expected else 0)


def test_a_missing_index_costs_time_later(migrate: Migrate, copy: Database, write: Write) -> None:
    write(
        {
            "02_b.up.sql": "create table u (id int primary key);\n"
            "alter table t add u_id int references u;\n"
        }
    )
    found = findings(on_copy(migrate, copy, "--json", "--max-lock", "1h"))
    assert found["foreign-key-without-index"] == "finding"


def test_a_long_lock_is_accepted_by_a_comment(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    allowed = "".join(
        f"-- migrator: allow {each} at night\n" for each in ("lock-too-long", "table-rewrite")
    )
    write({"02_b.up.sql": f"{allowed}alter table t alter id type bigint;\n"})
    assert "allow-unused" not in migrate("rehearse", "--small", "0").stdout
    result = on_copy(migrate, copy, "--max-lock", "0")
    assert result.exit_code == 0, result.stdout
    assert "accepted lock-too-long line 3: held ACCESS EXCLUSIVE" in result.stdout


def test_a_lock_is_held_until_deferred_checks_are_done(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write(
        {
            "02_b.up.sql": "create function f() returns trigger language plpgsql as\n"
            "$$begin perform pg_sleep(0.2); return null; end$$;\n"
            "create constraint trigger c after insert on t initially deferred\n"
            "for each row execute function f();\n"
            "insert into t values (0, 'z');\n"
        }
    )
    result = on_copy(migrate, copy, "--json")
    (lock,) = result.json["migrations"][0]["usage"]["locks"]
    assert lock["seconds"] >= 0.2
    assert statements(result)[-1]["seconds"] < lock["seconds"]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "socket", "proxy"])
def test_the_target_itself_is_refused_by_whatever_name(
    migrate: Migrate, write: Write, name: str
) -> None:
    write(GROUND)
    database = migrate.database
    role = f"{database.name}_owner"
    database.execute(f"create role {role} superuser login password 'secret'")
    tcp = database.tcp_url(role, "secret")
    with delaying(database.url, 0) as proxy:
        urls = {
            "localhost": tcp.replace("127.0.0.1", "localhost"),
            "127.0.0.1": tcp,
            "socket": database.url,
            "proxy": proxy.url,
        }
        result = on_copy_of_nothing(migrate, urls[name])
    database.execute(f"drop role {role}")
    assert result.exit_code == 6
    assert "error: the copy is this database itself; nothing was run\n" in result.stderr
    assert "secret" not in result.stderr + result.stdout


def on_copy_of_nothing(migrate: Migrate, url: str) -> Result:
    """Rehearse on a copy, and check that the target still has no history."""
    result = migrate("rehearse", "--on-copy", url)
    tables = migrate.database.rows("select from pg_tables where tablename ^@ 'migration_'")
    assert "Traceback" not in result.stderr
    assert tables == []
    return result


def test_a_copy_that_is_older_is_brought_up_to_the_target_first(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write({"02_b.up.sql": "alter table t add b int;", "03_c.up.sql": "alter table t add c int;"})
    assert migrate("up").exit_code == 0
    write({"04_d.up.sql": "alter table t drop b, drop c;"})
    result = on_copy(migrate, copy, "--json")
    assert [each["version"] for each in result.json["migrations"]] == ["04_d"]
    assert "bringing the copy up to date: applying 02_b, 03_c" in result.stderr
    assert applied(copy) == ["01_t", "02_b", "03_c", "04_d"]


def test_a_copy_that_was_used_up_is_refused(migrate: Migrate, copy: Database, write: Write) -> None:
    write(REWRITE)
    assert on_copy(migrate, copy).exit_code == 0
    result = on_copy(migrate, copy)
    assert result.exit_code == 6
    assert (
        "error: the copy has migrations that this database does not have: 02_b\n" in result.stderr
    )
    assert "hint: each rehearsal needs a new copy: make another one\n" in result.stderr


def test_a_database_without_the_history_is_no_copy(
    migrate: Migrate, copy: Database, second_database: Database
) -> None:
    result = on_copy(migrate, second_database)
    assert result.exit_code == 6
    assert "error: the copy has no history" in result.stderr
    assert second_database.rows("select from pg_tables where tablename ^@ 'migration_'") == []


def test_a_copy_with_another_script_of_a_version_is_refused(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    assert migrate("down", "--yes").exit_code == 0
    write({"01_t.up.sql": "create table t (id bigint);"})
    assert migrate("up").exit_code == 0
    result = on_copy(migrate, copy)
    assert result.exit_code == 6
    assert (
        "error: on the copy, these differ from this database, or are interrupted" in result.stderr
    )
    assert "01_t" in result.stderr


def test_an_error_is_about_the_copy(migrate: Migrate, copy: Database, write: Write) -> None:
    write(
        {
            "02_b.up.sql": "alter table t add constraint few check (id < 100);",
            "03_c.up.sql": "select 1;",
        }
    )
    result = on_copy(migrate, copy)
    assert result.exit_code == 4
    assert 'check constraint "few" of relation "t" is violated by some row' in result.stdout
    assert "This was on the copy; the target database was not touched." in result.stdout
    assert "not rehearsed, because 02_b failed: 03_c" in result.stdout


def test_a_copy_out_of_reach_is_an_error_about_the_copy(migrate: Migrate, write: Write) -> None:
    write(GROUND)
    result = on_copy_of_nothing(migrate, "postgresql://u:hidden@127.0.0.1:1/x")
    assert result.exit_code == 6
    assert "error: the copy cannot be used: " in result.stderr
    assert "the URL of --on-copy" in result.stderr
    assert "hidden" not in result.stderr


def test_a_copy_on_another_server(migrate: Migrate, write: Write) -> None:
    write(GROUND)
    with serve() as other, other.database() as copy:
        result = on_copy_of_nothing(migrate, copy.url)
        assert result.exit_code == 0, result.stdout + result.stderr
        assert applied(copy) == ["01_t"]


def test_a_copy_without_the_rows_is_said_to_be_smaller(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    copy.execute("truncate t")
    write(REWRITE)
    result = on_copy(migrate, copy, "--json")
    (smaller,) = result.json["missing"]
    assert smaller.startswith("the tables of the copy take ")


def test_a_frozen_copy_is_refused(migrate: Migrate, copy: Database, write: Write) -> None:
    write(REWRITE)
    copy.execute(f"alter database {copy.name} set default_transaction_read_only = on")
    result = on_copy(migrate, copy)
    assert result.exit_code == 6
    assert "error: the copy cannot be used: the database is read-only by default" in result.stderr
    assert on_copy(migrate, copy, "--override-read-only").exit_code == 0


def test_an_interrupted_migration_runs_from_its_start_on_an_older_copy(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    script = "-- migrator: no-transaction\ncreate table u (a int);\nselect 1/({});\n"
    write({"02_b.up.sql": script.format("1 - 1")})
    assert migrate("up").exit_code == 1
    write({"02_b.up.sql": script.format("1")})
    result = on_copy(migrate, copy, "--json")
    assert result.exit_code == 0, result.stdout
    assert [each["line"] for each in statements(result)] == [2, 3]


def test_the_rest_of_an_interrupted_migration_runs_on_a_copy_of_that_state(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    script = "-- migrator: no-transaction\ncreate table u (a int);\nselect 1/({});\n"
    write({"01_b.up.sql": script.format("1 - 1")})
    assert migrate("up").exit_code == 1
    write({"01_b.up.sql": script.format("1")})
    plan = tmp_path / "plan.json"
    with copied(migrate.database) as copy:
        result = on_copy(migrate, copy, "--json", "--save", str(plan))
        assert result.exit_code == 0, result.stdout
        assert [each["line"] for each in statements(result)] == [3]
        assert applied(copy) == ["01_b"]
    (step,) = json.loads(plan.read_text())["steps"]
    assert len(step["traces"]) == 2
    assert migrate("up", "--plan", str(plan)).exit_code == 0


def test_a_connection_that_is_lost_is_an_error_on_the_copy(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write({"02_b.up.sql": "select pg_terminate_backend(pg_backend_pid());"})
    result = on_copy(migrate, copy)
    assert result.exit_code in (4, 6)
    assert "copy" in result.stdout + result.stderr


def test_the_saved_plan_is_run_on_the_target(
    migrate: Migrate, copy: Database, write: Write, tmp_path: Path
) -> None:
    write(REWRITE)
    plan = tmp_path / "plan.json"
    assert on_copy(migrate, copy, "--save", str(plan)).exit_code == 0
    assert json.loads(plan.read_text())["steps"][0]["locks"] == [["public.t", "ACCESS EXCLUSIVE"]]
    result = migrate("up", "--plan", str(plan))
    assert result.exit_code == 0, result.stderr
    assert "was not rehearsed" not in result.stderr
    assert applied(migrate.database) == ["01_t", "02_b"]


def test_an_interrupt_leaves_the_copy_as_it_is(
    migrate: Migrate, copy: Database, write: Write, tmp_path: Path
) -> None:
    write({"02_b.up.sql": "alter table t add b int;", "03_c.up.sql": "select pg_sleep(60);"})
    runs = Runs(migrate.database, migrate.directory, tmp_path)
    run = runs("rehearse", "--on-copy", copy.url)
    wait_for(lambda: working(copy, "pg_sleep(60)"))
    run.signal(signal.SIGINT)
    result = run.result()
    assert result.exit_code == 130
    assert "the copy stays as it is, and the target database was not touched" in result.stderr
    assert applied(copy) == ["01_t", "02_b"]
    assert applied(migrate.database) == ["01_t"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--on-copy", "x", "--on-target"],
            "--on-copy cannot be combined with --scratch-url, --from-target or ",
        ),
        (
            ["--on-target", "--queries", "y"],
            "--on-target cannot be combined with --scratch-url, --from-target or",
        ),
        (
            ["--on-copy", "x", "--from-target"],
            "--on-copy cannot be combined with --scratch-url, --from-target",
        ),
        (
            ["--on-copy", "x", "--scratch-url", "y"],
            "--on-copy cannot be combined with --scratch-url",
        ),
        (["--max-lock", "1s"], "--max-lock needs --on-copy"),
    ],
)
def test_options_that_exclude_each_other(
    migrate: Migrate, options: list[str], message: str
) -> None:
    result = migrate("rehearse", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_partitions_of_a_table_are_reported_as_one(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    for database in (migrate.database, copy):
        database.execute(
            "create table p (id int, n int) partition by range (id);"
            "create table p1 partition of p for values from (0) to (9);"
            "create table p2 partition of p for values from (9) to (99);"
            "insert into p select n, n from generate_series(1, 50) n"
        )
    write(
        {
            "02_b.up.sql": "alter table p alter n type bigint;\n",
            "03_c.up.sql": "lock table p1, p2 in share mode;\n",
        }
    )
    result = on_copy(migrate, copy, "--json", "--max-lock", "0")
    messages = [
        finding["message"]
        for migration in result.json["migrations"]
        for finding in migration["findings"]
        if finding["hazard"] == "lock-too-long"
    ]
    assert [message.partition(" for ")[0] for message in messages] == [
        "held ACCESS EXCLUSIVE (blocks reads and writes) on public.p (16 kB)",
        "held SHARE (blocks writes) on 2 partitions of public.p (16 kB)",
    ]


def test_what_a_concurrent_build_blocks_is_not_guessed(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    # Outside a transaction, locks are sampled: this one is held for a third of a second.
    copy.execute(
        "create function slow(id int) returns int immutable language plpgsql as "
        "'begin if id = 1 then perform pg_sleep(0.3); end if; return id; end';"
        "create index on t (slow(id));"
    )
    write(
        {
            "02_b.up.sql": "-- migrator: no-transaction\n"
            "create index concurrently t_id on t (id);\n"
            "reindex index concurrently t_id;\nvacuum full t;\n"
        }
    )
    result = on_copy(migrate, copy, "--json", "--max-lock", "0")
    assert [
        (finding["line"], finding["message"].partition(" (")[0])
        for finding in result.json["migrations"][0]["findings"]
        if finding["hazard"] == "lock-too-long"
    ] == [(4, "held ACCESS EXCLUSIVE")]


def test_what_databases_share_is_not_changed_on_the_server_of_the_target(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write({"02_b.up.sql": f"create role {copy.name};"})
    result = on_copy(migrate, copy)
    assert result.exit_code == 4
    assert "02_b changes what all databases of the server share" in result.stdout
    assert "hint: use a copy on another server" in result.stdout
    assert copy.rows(f"select from pg_roles where rolname = '{copy.name}'") == []


def test_a_copy_that_cannot_be_brought_up_to_the_target_is_refused(
    migrate: Migrate, copy: Database, write: Write
) -> None:
    write({"02_b.up.sql": "create table u ();"})
    assert migrate("up").exit_code == 0
    copy.execute("create table u ()")
    write({"03_c.up.sql": "select 1;"})
    result = on_copy(migrate, copy)
    assert result.exit_code == 6
    assert (
        "error: the copy cannot be brought up to date: the script of 02_b cannot be replayed: "
    ) in result.stderr


def test_a_server_that_does_not_tell_its_wal_is_measured_without(
    migrate: Migrate, write: Write
) -> None:
    write(GROUND)
    with ordinary_role(migrate.database) as url:
        assert migrate("up", database=url).exit_code == 0
        write(REWRITE)
        with copied(migrate.database) as copy:
            copy.execute("revoke execute on function pg_current_wal_insert_lsn from public")
            there = url.replace(migrate.database.name, copy.name)
            result = migrate("rehearse", "--on-copy", there, "--json", database=url)
        assert result.exit_code == 0, result.stdout
        (rewrite,) = statements(result)
        assert rewrite["wal_bytes"] is None
        assert rewrite["bytes_rewritten"] > 0
