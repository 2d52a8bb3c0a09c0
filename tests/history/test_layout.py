"""The tables of the history: who may use them, their format, and the order that they keep."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from migrator.history import layout

from ..conftest import Database, Migrate, Write
from ..sessions import Runs, holding, wait_for, waiting_for_a_lock

FILES = {
    f"{number:02}_t.{direction}.sql": f"{verb} table t{number}{end};\n"
    for number in (1, 2, 3)
    for direction, verb, end in (("up", "create", " ()"), ("down", "drop", ""))
}
TO_FORMAT_3 = """
alter table migration_versions drop progress;
comment on table migration_versions is 'The history of migrator, format 3';
"""
TO_FORMAT_2 = f"""
{TO_FORMAT_3}
drop table migration_repeatables;
comment on table migration_versions is 'The history of migrator, format 2';
"""
TO_FORMAT_1 = f"""
{TO_FORMAT_2}
drop index migration_versions_ordinal_idx;
alter table migration_versions drop ordinal;
comment on table migration_versions is 'The history of migrator, format 1';
"""
ORDER = "select version from migration_versions order by ordinal"


@pytest.fixture
def files(write: Write) -> Path:
    """A directory of three migrations."""
    return write(FILES)


@pytest.fixture
def stranger(database: Database) -> Iterator[str]:
    """A role that gets all privileges on what is created, as managed servers set it up."""
    name = f"anon_{uuid.uuid4().hex[:12]}"
    database.execute(f'create role "{name}"')
    for grantee in (f'"{name}"', "public"):
        for kind in ("tables", "sequences"):
            database.execute(f"alter default privileges grant all on {kind} to {grantee}")
    yield name
    database.execute(f'drop owned by "{name}"; drop role "{name}"')


@pytest.fixture(params=["with PL/pgSQL", "without PL/pgSQL"])
def language(request: pytest.FixtureRequest, database: Database) -> None:
    """Some databases have no PL/pgSQL: hardened ones drop it."""
    if request.param == "without PL/pgSQL":
        database.execute("drop extension plpgsql")


def set_clock_back(database: Database, *versions: str) -> None:
    """Make versions seem to have been applied an hour before they were."""
    names = ", ".join(f"'{version}'" for version in versions)
    database.execute(
        "update migration_versions set applied_at = applied_at - interval '1 hour'"
        f" where version in ({names})"
    )


def reverted(migrate: Migrate, *arguments: str) -> list[str]:
    """Revert, and return the versions in the order in which that was done."""
    result = migrate("down", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return [step["version"] for step in result.json["steps"]]


# Privileges


@pytest.mark.parametrize("schema", ["public", "It's $migrator$"])
def test_default_privileges_do_not_open_the_history(
    migrate: Migrate, files: Path, stranger: str, language: None, schema: str
) -> None:
    quoted = f'"{schema}"'
    migrate.database.execute(f"create schema if not exists {quoted}")
    assert migrate("up", "--schema", schema).exit_code == 0
    query = """
    select c.relname, a.grantee
    from pg_class c, aclexplode(c.relacl) a
    where c.relname ~ '^migration_' and a.grantee <> c.relowner
    """
    assert migrate.database.rows(query) == []
    mine = f"select has_table_privilege('{stranger}', 't1', 'delete')"
    assert migrate.database.rows(mine) == [(True,)], "those of the migrations' tables are kept"
    assert migrate("down", "--schema", schema).exit_code == 0


def test_verify_names_who_else_may_change_an_existing_history(
    migrate: Migrate, files: Path, stranger: str
) -> None:
    assert migrate("up").exit_code == 0
    assert "note: " not in migrate("verify").stdout
    migrate.database.execute(
        f'grant insert on migration_versions to "{stranger}";'
        "grant select, trigger on migration_log to public"
    )
    result = migrate("verify")
    assert result.exit_code == 0
    assert f"may change the history, and what `down` runs: PUBLIC, {stranger}" in result.stdout


# The order


def test_the_last_applied_is_reverted_first_whatever_the_clock_said(
    migrate: Migrate, files: Path
) -> None:
    assert migrate("up").exit_code == 0
    set_clock_back(migrate.database, "02_t", "03_t")
    assert reverted(migrate, "--steps", "2") == ["03_t", "02_t"]


def test_a_version_that_was_applied_late_is_reverted_first(migrate: Migrate, files: Path) -> None:
    assert migrate("up", "--to", "1").exit_code == 0
    late = files / "02_t.up.sql"
    text = late.read_text()
    late.rename(files / "later")
    (files / "02_t.down.sql").rename(files / "later_down")
    assert migrate("up").exit_code == 0
    late.write_text(text)
    (files / "later_down").rename(files / "02_t.down.sql")
    assert migrate("up", "--out-of-order").exit_code == 0
    set_clock_back(migrate.database, "02_t")
    assert migrate.database.rows(ORDER) == [("01_t",), ("03_t",), ("02_t",)]
    assert reverted(migrate, "--all") == ["02_t", "03_t", "01_t"]


def test_a_version_that_was_applied_again_is_the_last_one(migrate: Migrate, files: Path) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute("delete from migration_versions where version = '01_t'; drop table t1")
    migrate.database.execute("delete from migration_log")
    assert migrate("up", "--out-of-order").exit_code == 0
    set_clock_back(migrate.database, "01_t")
    assert reverted(migrate) == ["01_t"]


def test_drift_replays_in_the_order_of_application_whatever_the_clock_said(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create table a ();", "02_b.up.sql": "alter table a add b int;"})
    assert migrate("up").exit_code == 0
    set_clock_back(migrate.database, "02_b")
    result = migrate("drift")
    assert result.exit_code == 0, result.stderr


def test_a_baseline_and_a_repair_are_in_the_order_too(migrate: Migrate, files: Path) -> None:
    migrate.database.execute("create table t1 (); create table t2 ()")
    assert migrate("baseline", "2", "--unchecked").exit_code == 0
    assert migrate("up").exit_code == 0
    reason = ("--reason", "x")
    assert migrate("repair", "1", "--reverted", *reason).exit_code == 0
    assert migrate("repair", "1", "--applied", *reason).exit_code == 0
    set_clock_back(migrate.database, "01_t")
    assert migrate.database.rows(ORDER) == [("02_t",), ("03_t",), ("01_t",)]


def test_a_resumed_version_is_after_those_that_were_applied_meanwhile(
    migrate: Migrate, write: Write
) -> None:
    directory = write({"02_n.up.sql": "-- migrator: no-transaction\nselect 1;\nselect 1 / 0;\n"})
    assert migrate("up").exit_code == 1
    write({"01_a.up.sql": "select 1;"})
    assert migrate("up", "--out-of-order", "--to", "1").exit_code == 0
    (directory / "02_n.up.sql").write_text("-- migrator: no-transaction\nselect 1;\nselect 2;\n")
    assert migrate("up").exit_code == 0
    assert migrate.database.rows(ORDER) == [("01_a",), ("02_n",)]


def test_a_copy_of_the_tables_without_their_sequences_keeps_the_order(
    migrate: Migrate, files: Path
) -> None:
    assert migrate("up", "--to", "2").exit_code == 0
    migrate.database.execute("truncate migration_log restart identity")
    assert migrate("up").exit_code == 0
    assert migrate.database.rows(ORDER) == [("01_t",), ("02_t",), ("03_t",)]


# The format


def test_the_next_run_upgrades_a_history_in_format_1(migrate: Migrate, files: Path) -> None:
    assert migrate("up", "--to", "2").exit_code == 0
    set_clock_back(migrate.database, "02_t")
    migrate.database.execute(TO_FORMAT_1)
    for command in (("status", "--check"), ("verify",), ("log",), ("down", "--dry-run")):
        assert migrate(*command).exit_code in (0, 3)
    comment = "select obj_description('migration_versions'::regclass)"
    assert migrate.database.rows(comment) == [("The history of migrator, format 1",)]
    assert migrate("up").exit_code == 0
    assert migrate.database.rows(comment) == [(f"The history of migrator, format {layout.FORMAT}",)]
    assert migrate.database.rows(ORDER) == [("01_t",), ("02_t",), ("03_t",)]
    assert reverted(migrate, "--all") == ["03_t", "02_t", "01_t"]


def test_a_history_in_format_1_is_reverted_in_the_order_of_its_log(
    migrate: Migrate, files: Path
) -> None:
    assert migrate("up").exit_code == 0
    set_clock_back(migrate.database, "03_t")
    migrate.database.execute(TO_FORMAT_1)
    assert reverted(migrate) == ["03_t"]


@pytest.mark.parametrize(
    ("deleted", "order"),
    [
        ("version = '01_t'", ["01_t", "02_t", "03_t"]),
        ("version in ('01_t', '02_t')", ["02_t", "01_t", "03_t"]),  # by the clock
        ("true", ["02_t", "01_t", "03_t"]),
        ("false", ["01_t", "02_t", "03_t"]),
    ],
)
def test_where_old_rows_of_the_log_are_gone_their_versions_come_first(
    migrate: Migrate, files: Path, deleted: str, order: Sequence[str]
) -> None:
    assert migrate("up").exit_code == 0
    set_clock_back(migrate.database, "02_t")
    migrate.database.execute(f"{TO_FORMAT_1} delete from migration_log where {deleted}")
    assert reverted(migrate, "--all") == list(reversed(order))


def test_a_history_that_only_its_owner_can_upgrade_says_so(
    migrate: Migrate, files: Path, stranger: str
) -> None:
    assert migrate("up", "--to", "1").exit_code == 0
    database = migrate.database
    database.execute(TO_FORMAT_1)
    database.execute(
        f"""alter role "{stranger}" login password 'x';
        grant all on migration_versions, migration_log to "{stranger}" """
    )
    result = migrate("up", database=database.tcp_url(stranger, "x"))
    assert result.exit_code == 4
    assert f"only its owner can upgrade it to {layout.FORMAT}" in result.stderr
    assert migrate("status", database=database.tcp_url(stranger, "x")).exit_code == 0


def test_an_upgrade_waits_for_a_session_that_reads_the_history(
    migrate: Migrate, files: Path, tmp_path: Path
) -> None:
    assert migrate("up", "--to", "1").exit_code == 0
    migrate.database.execute(TO_FORMAT_1)
    runs = Runs(migrate.database, files, tmp_path)
    try:
        with holding(migrate.database, "select from migration_versions"):
            run = runs("up")
            wait_for(lambda: waiting_for_a_lock(migrate.database))
        assert run.result().exit_code == 0
    finally:
        runs.end()
    assert len(migrate.database.rows(ORDER)) == 3


# Format 3


def test_the_next_run_upgrades_a_history_in_format_2(migrate: Migrate, files: Path) -> None:
    assert migrate("up", "--to", "2").exit_code == 0
    migrate.database.execute(TO_FORMAT_2)
    (files / "R__v.sql").write_text("create view v as select 1 as x;")
    status = migrate("status", "--json").json
    assert [each["state"] for each in status["versions"]] == ["applied", "applied", "pending"]
    assert [each["state"] for each in status["repeatables"]] == ["never applied"]
    assert migrate.database.rows("select to_regclass('migration_repeatables')") == [(None,)]
    assert reverted(migrate) == ["02_t"]
    assert migrate.database.rows(
        "select obj_description('migration_versions'::regclass, 'pg_class')"
    ) == [(f"The history of migrator, format {layout.FORMAT}",)]
    result = migrate("up", "--json")
    assert [step["version"] for step in result.json["steps"]] == ["02_t", "03_t", "R__v"]


def test_the_table_of_repeatable_files_gets_the_owner_and_the_privileges_of_the_others(
    migrate: Migrate, files: Path, stranger: str
) -> None:
    assert migrate("up").exit_code == 0
    database = migrate.database
    owner = f"{stranger}_owner"
    database.execute(TO_FORMAT_2)
    database.execute(
        f"""create role "{owner}"; grant create, usage on schema public to "{owner}";
        alter table migration_versions owner to "{owner}";
        alter table migration_log owner to "{owner}";
        grant select on migration_versions, migration_log to "{stranger}" """
    )
    (files / "04_t.up.sql").write_text("create table t4 ();")
    try:
        result = migrate("up", "--trust-history-of", owner)
        assert result.exit_code == 0, result.stderr
        rights = "select relowner::regrole::text, relacl::text[] from pg_class where relname = '{}'"
        (versions,) = database.rows(rights.format("migration_versions"))
        assert database.rows(rights.format("migration_repeatables")) == [versions]
        assert owner in versions[0]
    finally:
        database.execute(f'drop owned by "{owner}"; drop role "{owner}"')


# Format 4


def test_the_next_run_upgrades_a_history_in_format_3(migrate: Migrate, files: Path) -> None:
    assert migrate("up", "--to", "2").exit_code == 0
    migrate.database.execute(TO_FORMAT_3)
    status = migrate("status", "--json").json
    assert [each["state"] for each in status["versions"]] == ["applied", "applied", "pending"]
    assert migrate("up").exit_code == 0
    assert migrate.database.rows("select count(progress) from migration_versions") == [(0,)]
