"""`up --plan` runs what was rehearsed or nothing, and takes all its locks first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, Migrate, Result, Write
from tests.sessions import Runs, applied, holding, ordinary_role, wait_for, waiting_for_a_lock

pytestmark = pytest.mark.slow

TABLES = {"01_t.up.sql": "create table a (id int); create table b (id int);"}
PENDING = {
    "02_b.up.sql": "alter table a add x int;\nalter table b add x int;\n",
    "03_c.up.sql": "create table c (id int);\n",
}


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


def save(migrate: Migrate, write: Write, plan: Path, pending: dict[str, str] = PENDING) -> None:
    """Create two tables, and rehearse pending migrations."""
    write(TABLES)
    assert migrate("up").exit_code == 0
    write(dict(pending))
    result = migrate("rehearse", "--save", plan)
    assert result.exit_code in (0, 4), result.stderr


def locks(plan: Path) -> dict[str, Any]:
    """Return the locks in a plan file, by version."""
    return {each["version"]: each["locks"] for each in json.loads(plan.read_text())["steps"]}


def columns(database: Database, table: str) -> list[str]:
    query = f"select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0"
    return [name for (name,) in database.rows(f"{query} order by attnum")]


def remarks(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if "rehearsed" in line]


def test_a_plan_runs_without_remarks(migrate: Migrate, write: Write, plan: Path) -> None:
    save(migrate, write, plan)
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 0, result.stderr
    assert remarks(result) == []
    assert applied(migrate.database) == ["01_t", "02_b", "03_c"]
    again = migrate("up", "--plan", plan)
    assert (again.exit_code, again.stdout[:13]) == (0, "nothing to do")


def test_a_plan_can_be_run_in_parts(migrate: Migrate, write: Write, plan: Path) -> None:
    save(migrate, write, plan)
    assert migrate("up", "--plan", plan, "--to", "02").exit_code == 0
    assert migrate("up", "--plan", plan).exit_code == 0
    assert applied(migrate.database) == ["01_t", "02_b", "03_c"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("alter table a add x int;", [["public.a", "ACCESS EXCLUSIVE"]]),
        ("alter table a rename to z;", [["public.a", "ACCESS EXCLUSIVE"]]),
        (
            "alter table a rename to z; alter table b rename to a; alter table z rename to b;",
            [["public.a", "ACCESS EXCLUSIVE"], ["public.b", "ACCESS EXCLUSIVE"]],
        ),
        ("create index on a (id); drop table a;", [["public.a", "ACCESS EXCLUSIVE"]]),
        ("create index on a (id);", [["public.a", "SHARE"]]),
        ("create schema s; alter table a set schema s;", [["public.a", "ACCESS EXCLUSIVE"]]),
        ("insert into a values (1);", []),
        ("create table c (id int); alter table c add x int;", []),
        ("create index concurrently on a (id);", []),
    ],
)
def test_the_plan_has_the_strongest_lock_on_each_existing_table(
    migrate: Migrate, write: Write, plan: Path, script: str, expected: list[list[str]]
) -> None:
    save(migrate, write, plan, {"02_b.up.sql": script})
    assert locks(plan) == {"02_b": expected}
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 0, result.stderr
    assert remarks(result) == []


def test_every_change_since_the_rehearsal_is_named_and_nothing_runs(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    save(migrate, write, plan)
    (migrate.directory / "03_c.up.sql").unlink()
    write({"02_b.up.sql": "alter table a add y int;", "04_d.up.sql": "select 1;"})
    migrate.database.execute("delete from migration_versions")
    write({"01_t.up.sql": "create table if not exists a (id int);"})
    result = migrate("up", "--plan", plan, "--json")
    assert result.exit_code == 4
    error = result.json["error"]
    assert error["code"] == "plan-changed"
    assert error["detail"].splitlines() == [
        "01_t is pending, but was not rehearsed to the end",
        "the up file of 02_b has been edited since",
        "04_d is pending, but was not rehearsed to the end",
        "01_t has been reverted since",
        "the file of 03_c is missing",
    ]
    assert columns(migrate.database, "a") == ["id"]


def test_a_version_applied_since_the_rehearsal_is_named(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    save(migrate, write, plan)
    write({"015_x.up.sql": "select 1;", "02_b.up.sql": "alter table a add y int;"})
    assert migrate("up", "--to", "02").exit_code == 0
    (migrate.directory / "015_x.up.sql").rename(migrate.directory / "15_x.up.sql")
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 4
    assert "02_b has been applied since, with different content" in result.stderr
    assert applied(migrate.database)[-1] == "02_b"


def test_a_migration_that_failed_in_the_rehearsal_and_later_ones_do_not_run(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    pending = {"02_b.up.sql": "select 1;", "03_c.up.sql": "select 1 / 0;", "04_d.up.sql": "select;"}
    save(migrate, write, plan, pending)
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 4
    for version in ("03_c", "04_d"):
        assert f"{version} is pending, but was not rehearsed to the end" in result.stderr
    assert migrate("up", "--plan", plan, "--to", "02").exit_code == 0
    assert applied(migrate.database) == ["01_t", "02_b"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}', "\x00"])
def test_a_file_that_is_not_a_plan_is_refused(
    migrate: Migrate, write: Write, plan: Path, text: str
) -> None:
    write(TABLES)
    plan.write_text(text)
    result = migrate("up", "--plan", plan, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage")
    assert migrate("up", "--plan", plan.with_name("nix")).exit_code == 2


# Locks


def test_a_table_that_has_been_dropped_ends_the_run_before_any_work(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    save(migrate, write, plan)
    migrate.database.execute("drop table b")
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 1
    assert 'relation "public.b" does not exist' in result.stderr
    assert columns(migrate.database, "a") == ["id"]


def test_an_interrupted_run_resumes_with_the_same_plan(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    script = "-- migrator: no-transaction\nselect 1;\nalter table a add x int;\nvacuum b;\n"
    save(migrate, write, plan, {"02_b.up.sql": script})
    with holding(migrate.database, "select from a"):
        options = ("--lock-timeout", "10ms", "--lock-attempts", "1")
        assert migrate("up", "--plan", plan, *options).exit_code == 5
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 0, result.stderr
    assert remarks(result) == []
    assert applied(migrate.database) == ["01_t", "02_b"]


def test_the_locks_are_taken_all_or_none_without_waiting(
    migrate: Migrate, write: Write, plan: Path, runs: Runs
) -> None:
    save(migrate, write, plan)
    database = migrate.database
    with holding(database, "select from b") as reader:
        run = runs("up", "--plan", str(plan))
        run.says("02_b: attempt 1 of 150 failed: could not obtain lock on relation")
        wait_for(lambda: "attempt 26 of" in run.stderr)
        assert not waiting_for_a_lock(database), "no reader queues behind it"
        assert columns(database, "a") == columns(database, "b") == ["id"]
        # Other sessions can use a, between attempts and during one.
        database.execute("insert into a values (1)")
        assert applied(database) == ["01_t"]
        reader.rollback()
        result = run.result()
    assert result.exit_code == 0, result.stderr
    assert applied(database) == ["01_t", "02_b", "03_c"]


def test_an_interrupt_between_attempts_changes_nothing(
    migrate: Migrate, write: Write, plan: Path, runs: Runs
) -> None:
    save(migrate, write, plan)
    with holding(migrate.database, "select from b"):
        run = runs("up", "--plan", str(plan))
        run.says("attempt 1 of 150")
        run.signal(2)
        result = run.result()
    assert result.exit_code == 130
    assert applied(migrate.database) == ["01_t"]


# Differences from the rehearsal


DEPENDS = """\
do $$ begin
    if exists (select from a) then alter table b add y int; end if;
end $$;
"""


def test_a_lock_that_was_not_rehearsed_is_remarked(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    save(migrate, write, plan, {"02_b.up.sql": f"select 1;\n{DEPENDS}"})
    assert locks(plan) == {"02_b": []}
    migrate.database.execute("insert into a values (1)")
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 0
    assert remarks(result) == ["02_b, statement 2: ACCESS EXCLUSIVE on public.b was not rehearsed"]


def test_a_rehearsed_rewrite_that_did_not_happen_is_remarked(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    script = """do $$ begin
        if not exists (select from a) then alter table b alter id type bigint; end if;
    end $$;"""
    save(migrate, write, plan, {"02_b.up.sql": script})
    migrate.database.execute("insert into a values (1)")
    result = migrate("up", "--plan", plan)
    assert remarks(result) == [
        "02_b, statement 1: a rewrite of public.b was rehearsed, but did not happen"
    ]


def traces(database: Database) -> dict[str, list[Any]]:
    query = "select version, detail from migration_log where action = 'trace' order by 1"
    return dict(database.rows(query))


@pytest.mark.parametrize("with_plan", [True, False])
def test_the_trace_of_each_statement_is_logged(
    migrate: Migrate, write: Write, plan: Path, with_plan: bool
) -> None:
    save(migrate, write, plan)
    result = migrate("up", *(["--plan", plan] if with_plan else ["--trace"]))
    assert result.exit_code == 0
    assert "public.a: ACCESS EXCLUSIVE lock (blocks reads and writes)" in result.stderr
    found = traces(migrate.database)
    assert {version: len(detail) for version, detail in found.items()} == {"02_b": 2, "03_c": 1}
    touched = {touch["relation"]["name"] for trace in found["02_b"] for touch in trace["touches"]}
    assert {"public.a", "public.b"} <= touched
    assert found["03_c"][0]["created"][0]["name"] == "public.c"


def test_without_the_option_nothing_is_traced(migrate: Migrate, write: Write) -> None:
    write(TABLES)
    assert migrate("up").exit_code == 0
    assert traces(migrate.database) == {}


def test_a_statement_that_was_retried_is_traced_once(
    migrate: Migrate, write: Write, runs: Runs
) -> None:
    write(TABLES)
    assert migrate("up").exit_code == 0
    write(PENDING)
    with holding(migrate.database, "select from b") as reader:
        run = runs("up", "--trace", "--lock-timeout", "50ms")
        run.says("attempt 1 of 10")
        reader.rollback()
        assert run.result().exit_code == 0
    assert len(traces(migrate.database)["02_b"]) == 2


def test_the_traces_before_a_failure_are_logged(migrate: Migrate, write: Write) -> None:
    migrate.database.execute("create role nobody_special")
    write(
        {
            **TABLES,
            "02_b.up.sql": "-- migrator: no-transaction\nset role nobody_special; select 1 / 0;",
        }
    )
    result = migrate("up", "--trace")
    assert result.exit_code == 1
    assert "division by zero" in result.stderr
    assert list(traces(migrate.database)) == ["01_t"]
    migrate.database.execute("drop role nobody_special")


def test_a_down_file_edited_since_the_rehearsal_is_named(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    save(migrate, write, plan, {**PENDING, "02_b.down.sql": "alter table a drop x;"})
    write({"02_b.down.sql": "drop table a;"})
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 4
    assert "the down file of 02_b has been edited since" in result.stderr
    assert applied(migrate.database) == ["01_t"]


def give_the_history(database: Database, role: str) -> None:
    """Let a role run migrations, and grant it nothing else."""
    for table in ("migration_versions", "migration_repeatables", "migration_log"):
        database.execute(f"alter table {table} owner to {role}")
    database.execute(f"grant all on schema public to {role}")


def test_the_locks_of_a_plan_are_taken_by_the_role_of_the_file(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    database = migrate.database
    database.execute("create role owner_t; grant all on schema public to owner_t")
    database.execute(
        "create role deploy login noinherit password 'secret'; grant owner_t to deploy"
    )
    owned = "create table a (id int); alter table a owner to owner_t;"
    write({"01_t.up.sql": f"grant all on schema public to owner_t; {owned}"})
    try:
        assert migrate("up").exit_code == 0
        write({"02_b.up.sql": "-- migrator: role owner_t\nalter table a add x int;"})
        assert migrate("rehearse", "--save", plan).exit_code == 0
        assert locks(plan)["02_b"] == [["public.a", "ACCESS EXCLUSIVE"]]
        give_the_history(database, "deploy")
        result = migrate("up", "--plan", plan, database=database.tcp_url("deploy", "secret"))
        assert result.exit_code == 0, result.stderr
    finally:
        database.execute("drop owned by deploy, owner_t; drop role deploy, owner_t")


def test_a_role_that_may_only_reference_a_table_can_run_a_plan(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    database = migrate.database
    write({"01_t.up.sql": "create table owned (id int primary key);"})
    assert migrate("up").exit_code == 0
    write({"02_b.up.sql": "create table refers (id int primary key references owned);"})
    assert migrate("rehearse", "--save", plan).exit_code == 0
    assert locks(plan)["02_b"] == [["public.owned", "SHARE ROW EXCLUSIVE"]]
    database.execute(
        "create role modest login password 'secret'; grant references on owned to modest"
    )
    try:
        give_the_history(database, "modest")
        result = migrate("up", "--plan", plan, database=database.tcp_url("modest", "secret"))
        assert result.exit_code == 0, result.stderr
    finally:
        database.execute("drop owned by modest; drop role modest")


# Another database


def test_the_plan_of_another_database_is_refused_unless_that_is_meant(
    migrate: Migrate, write: Write, plan: Path, second_database: Database
) -> None:
    save(migrate, write, plan)
    assert migrate("up", "--to", "01", database=second_database).exit_code == 0
    for options in ([], ["--dry-run"]):
        refused = migrate("up", "--plan", plan, *options, database=second_database)
        assert refused.exit_code == 4
        assert "error: the plan was rehearsed for another database" in refused.stderr
        for name in (migrate.database.name, second_database.name, "--plan-of-another"):
            assert name in refused.stderr
    assert applied(second_database) == ["01_t"]
    meant = migrate("up", "--plan", plan, "--plan-of-another", database=second_database)
    assert meant.exit_code == 0, meant.stderr
    assert applied(second_database) == ["01_t", "02_b", "03_c"]


def test_the_plan_of_a_database_of_the_same_name_on_another_server_is_refused(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    save(migrate, write, plan)
    rewrite(plan, system="7300000000000000000")
    result = migrate("up", "--plan", plan, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (4, "plan-changed")
    assert "7300000000000000000" in result.json["error"]["detail"]
    assert applied(migrate.database) == ["01_t"]


def test_a_role_without_privileges_rehearses_and_runs_a_plan(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    with ordinary_role(migrate.database, "createdb") as url:
        write({"01_a.up.sql": "create table a ();"})
        assert migrate("rehearse", "--save", plan, database=url).exit_code in (0, 4)
        assert migrate("up", "--plan", plan, database=url).exit_code == 0


def test_plan_of_another_needs_a_plan(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "select 1;"})
    result = migrate("up", "--plan-of-another")
    assert (result.exit_code, "needs --plan" in result.stderr) == (2, True)


def rewrite(plan: Path, **changed: object) -> None:
    plan.write_text(json.dumps(json.loads(plan.read_text()) | changed))


# Files that are no plan


def nothing(_path: Path) -> None:
    """Leave the path without a file."""


def endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nothing, "No such file or directory"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (endless, "it is larger than 64 MiB"),
        (lambda path: path.write_bytes(b"\xff"), "can't decode byte 0xff"),
    ],
    ids=["missing", "fifo", "device", "loop", "huge", "not UTF-8"],
)
def test_what_is_no_readable_file_is_refused_in_one_line(
    migrate: Migrate, write: Write, plan: Path, make: Callable[[Path], object], reason: str
) -> None:
    write(TABLES)
    make(plan)
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: cannot read the plan {plan}: ")
    assert reason in line
    assert "Errno" not in line


def test_a_directory_is_refused_as_a_plan(migrate: Migrate, write: Write, tmp_path: Path) -> None:
    write(TABLES)
    result = migrate("up", "--plan", tmp_path)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", '"text"', "{}", "[" * 200_000, '{"format":2,"steps":' + "[" * 200_000],
    ids=["empty", "null", "list", "text", "object", "nested", "nested steps"],
)
def test_a_file_that_is_no_plan_is_refused(
    migrate: Migrate, write: Write, plan: Path, text: str
) -> None:
    write(TABLES)
    plan.write_text(text)
    result = migrate("up", "--plan", plan)
    assert result.exit_code == 2
    assert f"{plan} is not a rehearsal plan" in result.stderr


def test_a_plan_with_a_value_of_another_kind_anywhere_is_refused_or_runs(
    migrate: Migrate, write: Write, plan: Path
) -> None:
    """Nothing that can stand in the file ends in a traceback, or runs SQL from it."""
    save(migrate, write, plan)
    good = json.loads(plan.read_text())
    for broken in mutations(good):
        plan.write_text(json.dumps(broken))
        result = migrate("up", "--plan", plan, "--dry-run")
        assert result.exit_code in (0, 2, 4), broken


@pytest.mark.parametrize(
    "name", ["public.a in access share mode; drop table b; --", "a$migrator$; x", "a", 'p."a"x']
)
def test_a_table_in_a_plan_is_a_name_and_no_sql(
    migrate: Migrate, write: Write, plan: Path, name: str
) -> None:
    save(migrate, write, plan)
    steps = json.loads(plan.read_text())["steps"]
    steps[0]["locks"][0][0] = name
    rewrite(plan, steps=steps)
    result = migrate("up", "--plan", plan)
    assert (result.exit_code, "is not a rehearsal plan" in result.stderr) == (2, True)


def mutations(value: Any) -> Iterator[Any]:
    """Yield copies of a document in which one value is replaced or missing."""
    yield from (None, 7, "text", [], {}, [[]], {"x": {}})
    match value:
        case dict():
            for key, inner in value.items():
                yield {name: each for name, each in value.items() if name != key}
                yield from (value | {key: changed} for changed in mutations(inner))
        case [first, *rest]:
            yield from ([changed, *rest] for changed in mutations(first))
