"""Every command and option, as text and as JSON, with its exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

import migrator
from migrator.cli.main import main

from .. import goldens
from ..conftest import Migrate, Result, Write, call, on_screen, process_environment, spawn

COMMANDS = sorted(main.commands)
EVENTS = {"step-started", "statement-finished", "step-finished"}


def pair(version: str, table: str) -> dict[str, str]:
    """Return the files of a migration that creates a table, and drops it."""
    return {
        f"{version}.up.sql": f"create table {table} (id int);\n",
        f"{version}.down.sql": f"drop table {table};\n",
    }


THREE = {**pair("01_users", "users"), **pair("02_roles", "roles"), **pair("03_posts", "posts")}


@pytest.fixture
def three(write: Write) -> Path:
    """Write a directory of three migrations."""
    return write(THREE)


def tables(migrate: Migrate) -> list[str]:
    query = """
    select relname from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1
    """
    names = [name for (name,) in migrate.database.rows(query)]
    return [name for name in names if not name.startswith("migration_")]


def history(migrate: Migrate) -> list[str]:
    query = "select version from migration_versions order by applied_at"
    return [version for (version,) in migrate.database.rows(query)]


def is_untouched(migrate: Migrate) -> bool:
    """Whether nothing was created in the database."""
    query = "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    return migrate.database.rows(query) == [(0,)]


def summary(result: Result) -> str:
    """Return the last line of a run, without its time."""
    return re.sub(r" in (?:<1|[0-9.]+) m?s;", ";", result.stdout)


def states(migrate: Migrate) -> dict[str, str]:
    rows = migrate("status", "--json").json["versions"]
    return {row["version"]: row["state"] for row in rows}


def unify(migrate: Migrate) -> None:
    """Give the history the same times and users in every run."""
    migrate.database.execute(
        "update migration_versions set applied_by = 'dba', duration_ms = 12, "
        "applied_at = '2026-05-06 07:08' where applied_at is not null"
    )


# Help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_expected_and_shows_an_example(command: str) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    result = call(*arguments, environ={"COLUMNS": "80"})
    assert (result.exit_code, result.stderr) == (0, "")
    assert command == "version" or "Example: " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    goldens.check(f"help/{command or 'migrator'}", result.stdout)


def test_every_option_has_a_help_text() -> None:
    for command in (main, *main.commands.values()):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{command.name} {parameter.name}"


def test_h_shows_the_help_and_version_shows_the_version() -> None:
    assert call("up", "-h").stdout == call("up", "--help").stdout
    assert call("--version").stdout.startswith("migrator, version ")


def test_python_m_migrator_runs_the_program(tmp_path: Path) -> None:
    result = spawn("--dir", tmp_path, "verify", "--offline", "--allow-empty")
    assert (result.exit_code, result.stdout) == (0, "no migration files\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin1"])
def test_a_character_that_the_terminal_cannot_show_does_not_end_a_run(
    migrate_process: Migrate, write: Write, encoding: str
) -> None:
    write({"01_a.up.sql": "do $$ begin raise warning '漢字 …'; end $$; create table t ();"})
    environ = {"PYTHONIOENCODING": encoding}
    assert migrate_process("up", environ=environ).exit_code == 0
    assert migrate_process("--help", environ=environ).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "error: no such command 'frob'\nhint: see: migrator --help\n"),
        (["up", "--frob"], "error: no such option '--frob'"),
        (["--frob", "up"], "error: no such option '--frob'\nhint: see: migrator --help\n"),
        (
            ["up", "extra"],
            "error: unexpected extra argument (extra)\nhint: did you mean: migrator up --to extra",
        ),
        (
            ["down", "to", "0"],
            "error: unexpected extra argument (to)\nhint: did you mean: migrator down --to 0\n",
        ),
        (["create"], "error: missing argument 'NAME'\nhint: see: migrator create --help\n"),
        (["up", "--steps", "0"], "error: invalid value for '--steps'"),
        (["up", "--steps", "two"], "error: invalid value for '--steps'"),
        (
            ["up", "--lock-timeout", "soon"],
            'invalid duration "soon" for --lock-timeout: use for example 500ms, 2s',
        ),
        (["up", "--statement-timeout", "-1"], 'invalid duration "-1"'),
        (["up", "--lock-wait", "ever"], 'invalid duration "ever"'),
        (["down", "--all", "--to", "1"], "error: specify only one of --steps, --to, --all"),
        (["down", "--steps", "1", "--all"], "error: specify only one of --steps, --to, --all"),
        (["repair", "1", "--reason", "x"], "error: specify exactly one of --accept, --applied"),
        (["create", "a/b"], 'error: the name "a/b" contains a path separator'),
    ],
)
def test_wrong_usage_is_an_error_like_others_and_exits_with_2(
    migrate: Migrate, three: Path, arguments: Sequence[str], said: str
) -> None:
    result = migrate(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert is_untouched(migrate)
    as_json = migrate("--json", *arguments)
    assert (as_json.exit_code, as_json.json["error"]["code"]) == (2, "usage")
    assert migrate(*arguments, "--json").json == as_json.json


def test_the_program_without_a_command_shows_the_help() -> None:
    result = call()
    assert result.exit_code == 2
    assert "Usage: migrator [OPTIONS] COMMAND" in result.stdout + result.stderr


# status


def test_status_creates_nothing(migrate: Migrate, three: Path) -> None:
    for arguments in (["status"], ["status", "--check"], ["verify"], ["log"], ["status", "--json"]):
        migrate(*arguments)
    assert is_untouched(migrate)


def test_status_shows_every_state_in_a_table(migrate: Migrate, write: Write, three: Path) -> None:
    write(pair("05_late", "late"))
    assert migrate("up").exit_code == 0
    unify(migrate)
    (three / "01_users.up.sql").write_text("create table users (id bigint);\n")
    (three / "02_roles.up.sql").write_text("-- why\ncreate table roles (id int);\n")
    for name in ("up", "down"):
        (three / f"03_posts.{name}.sql").unlink()
    write({"04_new.up.sql": "", **pair("06_more", "more")})
    result = migrate("status")
    assert (result.exit_code, result.stderr) == (0, "")
    goldens.check("status/every-state", result.stdout)
    assert migrate("status", "--check").exit_code == 4


LONG = "20240102030405_add_the_column_that_everybody_has_waited_for_since_the_beginning"
ROLE = "a_role_with_a_very_long_name_of_its_own"


@pytest.fixture
def long_names(migrate: Migrate, write: Write) -> Migrate:
    """Make a history and files with long names."""
    write({"01_b.up.sql": "", f"{LONG}.up.sql": "", f"{LONG}.down.sql": ""})
    migrate("up", "--to", LONG)
    migrate.database.execute(
        f"update migration_versions set applied_by = '{ROLE}', duration_ms = 3599000"
    )
    write({"00_a.up.sql": "", "20990102030405_a_pending_one_with_a_name_of_some_length.up.sql": ""})
    return migrate


def test_status_cuts_nothing_without_a_terminal(long_names: Migrate) -> None:
    lines = long_names("status", environ={"COLUMNS": "40"}).stdout.splitlines()
    assert lines[0].startswith("database ")
    assert lines[0].endswith("history in schema public")
    (row,) = [line for line in lines if line.startswith(LONG)]
    assert ROLE in row


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_status_fits_on_a_terminal_of_any_width(long_names: Migrate, columns: int) -> None:
    shown = on_screen(long_names, columns, "status")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    table = [line for line in plain if not line.startswith("for the reasons")]
    assert max(map(len, table)) <= columns
    assert any("out of order" in line for line in table)
    assert any(line.startswith("2024010") for line in table)


@pytest.mark.parametrize("before", [True, False])
def test_json_is_taken_before_and_after_the_command(
    migrate: Migrate, three: Path, before: bool
) -> None:
    migrate("up", "--to", "2")
    result = migrate(*(["--json", "status"] if before else ["status", "--json"]))
    assert set(result.json) == {
        "database",
        "server_version",
        "schema",
        "current",
        "runners",
        "versions",
        "repeatables",
    }
    assert result.json["database"] == migrate.database.name
    applied, _, pending = result.json["versions"]
    assert set(applied) >= {
        "number",
        "version",
        "name",
        "state",
        "reformatted",
        "applied_at",
        "applied_by",
        "duration_ms",
        "reversible",
    }
    assert (applied["number"], applied["name"], applied["state"]) == (1, "users", "applied")
    assert (pending["state"], pending["applied_at"], pending["reversible"]) == (
        "pending",
        None,
        True,
    )


def test_options_can_be_set_in_the_environment(migrate: Migrate, three: Path) -> None:
    url = migrate.database.url
    environ = {"MIGRATOR_DIR": str(three), "MIGRATOR_SCHEMA": "public", "DATABASE_URL": url}
    assert call("up", environ=environ).exit_code == 0
    from_option = {"MIGRATOR_DIR": str(three)}
    result = call("--database-url", url, "status", "--check", environ=from_option)
    assert result.exit_code == 0
    assert call("down", environ={**environ, "MIGRATOR_DOWN_TO": "1"}).exit_code == 0
    assert tables(migrate) == ["users"]
    wrong = {**environ, "MIGRATOR_LOCK_TIMEOUT": "soon"}
    assert call("up", environ=wrong).exit_code == 2


def test_status_check_has_an_exit_code_for_every_case(migrate: Migrate, write: Write) -> None:
    directory = write(pair("01_a", "a"))
    assert migrate("status", "--check").exit_code == 3
    migrate("up")
    assert migrate("status", "--check").exit_code == 0
    write(pair("02_b", "b"))
    assert migrate("status", "--check").exit_code == 3
    migrate("up")
    write(pair("00_z", "z"))
    assert migrate("status", "--check").exit_code == 4
    for name in ("00_z", "01_a"):
        (directory / f"{name}.up.sql").unlink()
        (directory / f"{name}.down.sql").unlink()
    assert migrate("status", "--check").exit_code == 4
    write({**pair("01_a", "a"), "03_c.up.sql": "-- migrator: no-transaction\nselect 1;\nselect x;"})
    assert migrate("up").exit_code == 1
    assert migrate("status", "--check").exit_code == 7


# up


def test_up_applies_in_order_and_once(migrate: Migrate, three: Path) -> None:
    first = migrate("up")
    assert first.exit_code == 0
    assert summary(first) == "applied 3 migrations; the database is at 03_posts\n"
    goldens.check("up/three", first.stderr + first.stdout)
    assert history(migrate) == ["01_users", "02_roles", "03_posts"]
    second = migrate("up")
    assert second.exit_code == 0
    assert second.stdout == "nothing to do: all 3 migrations are applied\n"
    assert second.stderr.endswith(": 0 of 3 migrations pending\n")


def test_up_stops_after_to_and_steps(migrate: Migrate, three: Path) -> None:
    first = migrate("up", "--steps", "1")
    assert summary(first) == "applied 1 migration; the database is at 01_users\n"
    second = migrate("up", "--to", "2")
    assert summary(second) == "applied 1 migration; the database is at 02_roles\n"
    nothing = "nothing to do: all up to 01_users are applied, 1 later migration is pending\n"
    assert migrate("up", "--to", "01_users").stdout == nothing
    unknown = migrate("up", "--to", "03_post")
    assert (unknown.exit_code, "did you mean 03_posts?" in unknown.stderr) == (2, True)
    assert tables(migrate) == ["roles", "users"]


def test_a_dry_run_shows_the_sql_and_changes_nothing(migrate: Migrate, three: Path) -> None:
    result = migrate("up", "--dry-run", "--to", "2")
    assert result.exit_code == 0
    goldens.check("up/dry-run", result.stdout, {str(three): "migrations"})
    assert is_untouched(migrate)
    document = migrate("up", "--dry-run", "--json").json
    assert (document["dry_run"], len(document["steps"])) == (True, 3)
    assert set(document["steps"][0]) >= {
        "version",
        "direction",
        "path",
        "transactional",
        "statements",
    }
    migrate("up")
    assert migrate("down", "--all", "--dry-run").exit_code == 0
    assert migrate("redo", "--dry-run").exit_code == 0
    assert len(tables(migrate)) == 3


def test_verbose_shows_every_statement_with_its_line(migrate: Migrate, three: Path) -> None:
    for arguments in (["-v", "up", "--steps", "1"], ["up", "-v", "--steps", "1"]):
        stderr = migrate(*arguments).stderr
        assert ".up.sql:1  CREATE TABLE  (" in stderr


def test_json_has_every_step_and_every_event(migrate: Migrate, three: Path) -> None:
    result = migrate("up", "--json")
    steps = result.json["steps"]
    assert set(result.json) >= {"steps", "notes"}
    assert [step["version"] for step in steps] == ["01_users", "02_roles", "03_posts"]
    assert set(steps[0]) >= {"version", "direction", "seconds", "statements", "notices"}
    assert set(steps[0]["statements"][0]) >= {"line", "command", "rows", "seconds"}
    events = [Result(0, line, "").json["event"] for line in result.stderr.splitlines()]
    assert set(events) == EVENTS


@pytest.mark.parametrize(
    ("failing", "kept"),
    [(6, "01_x, 02_x, 03_x, 04_x, 05_x."), (142, "141 migrations, 01_x to 141_x.")],
)
def test_an_error_names_a_few_versions_that_are_kept_and_counts_many(
    migrate: Migrate, write: Write, failing: int, kept: str
) -> None:
    write({f"{number:02}_x.up.sql": "select 1;" for number in range(1, failing)})
    write({f"{failing:02}_x.up.sql": "select 1 / 0;"})
    result = migrate("up")
    assert result.exit_code == 1
    assert f"Already applied in this run, and kept: {kept}" in result.stderr


def test_a_down_that_fails_after_many_counts_them(migrate: Migrate, write: Write) -> None:
    write({f"{number:02}_x.up.sql": "select 1;" for number in range(1, 13)})
    write({f"{number:02}_x.down.sql": "select 1;" for number in range(2, 13)})
    write({"01_x.down.sql": "select 1 / 0;"})
    assert migrate("up").exit_code == 0
    result = migrate("down", "--all", "--yes")
    assert result.exit_code == 1
    assert "Reverted in this run: 11 migrations, 12_x to 02_x." in result.stderr


def test_a_database_that_is_far_ahead_of_the_files_counts_the_versions(
    migrate: Migrate, write: Write
) -> None:
    write({f"{number:02}_x.up.sql": "select 1;" for number in range(1, 13)})
    assert migrate("up").exit_code == 0
    for number in range(2, 13):
        (migrate.directory / f"{number:02}_x.up.sql").unlink()
    assert "it also has 11 migrations, 02_x to 12_x" in migrate("up").stderr


def test_notices_are_shown_with_their_line(migrate: Migrate, write: Write) -> None:
    directory = write(
        {
            "01_a.up.sql": "select 1;\n"
            "do $$ begin raise warning 'careful' using detail = E'd\\ne', hint = E'h\\ni'; end $$;"
        }
    )
    stderr = migrate("up").stderr
    assert (
        f"  {directory}/01_a.up.sql:2: WARNING: careful\n"
        "    DETAIL: d\n    e\n    HINT: h\n    i\n" in stderr
    )


def test_numbers_are_compared_as_numbers(migrate: Migrate, write: Write) -> None:
    versions = ["9_a", "10_b", "100_c", "20240102030405_d", "99999999999999999999_e"]
    write({f"{version}.up.sql": "" for version in reversed(versions)})
    assert migrate("up").exit_code == 0
    assert history(migrate) == versions
    assert list(states(migrate)) == versions


def test_a_modified_file_stops_up_and_verify_with_its_difference(
    migrate: Migrate, three: Path
) -> None:
    migrate("up", "--to", "2")
    (three / "01_users.up.sql").write_text("create table users (id bigint);\n")
    words = {str(three): "migrations"}
    for command in ("up", "verify"):
        result = migrate(command)
        assert (result.exit_code, result.stdout) == (4, "")
        goldens.check(f"{command}/modified", result.stderr, words)
    assert tables(migrate) == ["roles", "users"]
    error = migrate("up", "--json").json["error"]
    assert [each["code"] for each in error["errors"]] == ["modified"]


@pytest.mark.parametrize(
    "text",
    [
        "-- why\ncreate  table users\n  (id int)",
        "begin;\ncreate table users (id int);\ncommit;\n",
        "create table users (id int);\r\n",
    ],
)
def test_a_reformatted_file_stops_nothing_but_is_marked(
    migrate: Migrate, three: Path, text: str
) -> None:
    migrate("up", "--to", "1")
    (three / "01_users.up.sql").write_bytes(text.encode())
    assert migrate("verify").exit_code == 0
    is_same = text.endswith("\r\n")
    assert ("* edited since it was applied" in migrate("status").stdout) is not is_same
    assert migrate("up").stdout.startswith("applied 2 migrations in ")


def test_a_missing_file_stops_up(migrate: Migrate, three: Path) -> None:
    migrate("up")
    (three / "02_roles.up.sql").unlink()
    (three / "02_roles.down.sql").unlink()
    result = migrate("up")
    assert result.exit_code == 4
    goldens.check("up/missing", result.stderr)
    assert migrate("verify").exit_code == 4


def test_a_late_number_stops_up_without_out_of_order(
    migrate: Migrate, three: Path, write: Write
) -> None:
    migrate("up")
    write({**pair("00_zero", "zero"), **pair("04_four", "four")})
    result = migrate("up")
    assert result.exit_code == 4
    goldens.check("up/out-of-order", result.stderr)
    late = migrate("up", "--out-of-order")
    assert summary(late) == "applied 2 migrations; the database is at 04_four\n"
    assert history(migrate)[-2:] == ["00_zero", "04_four"]
    assert migrate("down", "--steps", "2").exit_code == 0
    assert tables(migrate) == ["posts", "roles", "users"]


def test_all_problems_are_reported_at_once(migrate: Migrate, three: Path, write: Write) -> None:
    migrate("up")
    (three / "01_users.up.sql").write_text("select 1;")
    (three / "02_roles.up.sql").unlink()
    (three / "02_roles.down.sql").unlink()
    write({"00_zero.up.sql": "", "04_four.up.sql": "commit;"})
    for command in ("up", "verify"):
        result = migrate(command, "--json")
        assert result.exit_code == 4
        assert [error["code"] for error in result.json["error"]["errors"]] == [
            "out-of-order",
            "modified",
            "missing",
            "migration-file",
        ]


def test_a_database_ahead_of_the_files_is_a_note_and_no_error(
    migrate: Migrate, three: Path
) -> None:
    migrate("up")
    for name in ("02_roles", "03_posts"):
        (three / f"{name}.up.sql").unlink()
        (three / f"{name}.down.sql").unlink()
    for arguments in (["up"], ["verify"], ["status", "--check"]):
        result = migrate(*arguments)
        assert result.exit_code == 0
        assert "the database is ahead of these files" in result.stdout + result.stderr
    assert "migrator verify" not in migrate("status").stdout


def test_a_deleted_row_makes_its_version_pending(migrate: Migrate, three: Path) -> None:
    migrate("up")
    migrate.database.execute("delete from migration_versions where version = '03_posts'")
    migrate.database.execute("drop table posts")
    assert states(migrate)["03_posts"] == "pending"
    assert summary(migrate("up")) == "applied 1 migration; the database is at 03_posts\n"
    assert "posts" in tables(migrate)


def test_a_locked_table_ends_with_5(migrate: Migrate, three: Path, write: Write) -> None:
    migrate("up")
    write({"04_a.up.sql": "alter table users add name text;"})
    with migrate.database.connect() as holder:
        holder.execute("begin")
        holder.execute("lock table users")
        result = migrate("up", "--lock-timeout", "50ms", "--lock-attempts", "1")
    assert result.exit_code == 5
    assert "04_a.up.sql:1:1: canceling statement due to lock timeout" in result.stderr
    assert "migrator up" in result.stderr
    assert migrate("up").exit_code == 0


def test_an_interrupted_migration_resumes_unless_a_finished_statement_was_edited(
    migrate: Migrate, write: Write
) -> None:
    head = "-- migrator: no-transaction\n"
    write({"01_a.up.sql": f"{head}create table a (id int);\nselect x;\n"})
    assert migrate("up").exit_code == 1
    assert tables(migrate) == ["a"]
    assert states(migrate) == {"01_a": "interrupted"}
    write({"01_a.up.sql": f"{head}create table a (id bigint);\nselect 1;\n"})
    result = migrate("up")
    assert result.exit_code == 7
    goldens.check(
        "up/interrupted-and-edited", result.stderr, {str(migrate.directory): "migrations"}
    )
    write({"01_a.up.sql": f"{head}create table a (id int);\nselect 1;\n"})
    result = migrate("up")
    assert (result.exit_code, states(migrate)) == (0, {"01_a": "applied"})
    assert "was interrupted after statement 1 of 2" in result.stdout + result.stderr


def test_the_history_is_in_the_schema_of_the_option(migrate: Migrate, three: Path) -> None:
    migrate.database.execute('create schema "Odd name"')
    assert migrate("--schema", "Odd name", "up").exit_code == 0
    assert migrate.database.rows("select to_regclass('public.migration_versions')") == [(None,)]
    assert migrate("--schema", "Odd name", "status", "--check").exit_code == 0


# down


def test_down_reverts_the_newest_or_as_many_as_requested(migrate: Migrate, three: Path) -> None:
    migrate("up")
    result = migrate("down")
    assert summary(result) == "reverted 1 migration; the database is at 02_roles\n"
    assert tables(migrate) == ["roles", "users"]
    migrate("up")
    bounded = migrate("down", "--to", "1")
    assert summary(bounded) == "reverted 2 migrations; the database is at 01_users\n"
    nothing = "nothing to do: no migration after 1 is applied\n"
    assert migrate("down", "--to", "1").stdout == nothing
    migrate("up")
    every = migrate("down", "--steps", "9")
    assert summary(every) == "reverted 3 migrations; no migration is applied now\n"
    migrate("up")
    result = migrate("down", "--all", "--json")
    assert [step["version"][:2] for step in result.json["steps"]] == ["03", "02", "01"]
    assert {step["direction"] for step in result.json["steps"]} == {"down"}
    assert tables(migrate) == []
    assert migrate("down").stdout == "nothing to do: no migration is applied\n"


def test_down_runs_the_stored_script_if_the_file_is_missing(migrate: Migrate, three: Path) -> None:
    migrate("up")
    for name in ("up", "down"):
        (three / f"03_posts.{name}.sql").unlink()
    result = migrate("down")
    assert (result.exit_code, "posts" in tables(migrate)) == (0, False)
    assert "note: 03_posts has no down file; the stored script will run" in result.stderr


def test_down_runs_the_stored_script_of_an_edited_file_without_from_files(
    migrate: Migrate, three: Path
) -> None:
    migrate("up")
    other = "drop table posts;\ncreate table by_file ();\n"
    (three / "03_posts.down.sql").write_text(other)
    stored = migrate("down")
    assert "the stored script will run (to run the file: --from-files)" in stored.stderr
    assert tables(migrate) == ["roles", "users"]
    (three / "03_posts.down.sql").write_text(THREE["03_posts.down.sql"])
    migrate("up")
    (three / "03_posts.down.sql").write_text(other)
    from_files = migrate("down", "--from-files")
    assert "the file will run (--from-files)" in from_files.stderr
    assert tables(migrate) == ["by_file", "roles", "users"]


def test_a_failed_stored_script_is_marked_as_stored(migrate: Migrate, three: Path) -> None:
    (three / "03_posts.down.sql").write_text("select 1;\ndrop table nowhere;\n")
    migrate("up")
    (three / "03_posts.down.sql").write_text("drop table posts;\n")
    result = migrate("down")
    assert (result.exit_code, len(tables(migrate))) == (1, 3)
    assert '03_posts.down.sql (stored):2:1: table "nowhere" does not exist' in result.stderr
    assert (
        "next: put a working script into 03_posts.down.sql, then run: migrator down --from-files"
        in result.stderr
    )
    assert migrate("down", "--from-files").exit_code == 0


def test_down_of_an_irreversible_migration_reverts_nothing(migrate: Migrate, three: Path) -> None:
    (three / "02_roles.down.sql").unlink()
    migrate("up")
    result = migrate("down", "--all")
    assert result.exit_code == 4
    goldens.check("down/irreversible", result.stderr)
    assert len(tables(migrate)) == 3


def on_terminal(migrate: Migrate, answer: bytes, *arguments: str) -> Result:
    """Run the program with a terminal for its stdin, and type an answer."""
    keyboard, terminal = os.openpty()
    try:
        os.write(keyboard, answer)
        done = subprocess.run(
            [sys.executable, "-m", "migrator", "--dir", migrate.directory, *arguments],
            env=process_environment({"DATABASE_URL": migrate.database.url}),
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    return Result(done.returncode, done.stdout, done.stderr)


def test_down_asks_on_a_terminal_after_its_notes(migrate: Migrate, three: Path) -> None:
    migrate("up")
    (three / "03_posts.down.sql").write_text("drop table posts cascade;")
    question = f"revert 03_posts on database {migrate.database.name} (socket /"
    declined = on_terminal(migrate, b"n\n", "down")
    assert (declined.exit_code, len(tables(migrate))) == (130, 3)
    assert declined.stderr.endswith("aborted; nothing was run\n")
    before, _, after = declined.stderr.partition(question)
    assert (before.count("note: "), after.count("note: ")) == (1, 0)
    assert "the stored script will run" in before
    assert "03_posts: drops public.posts, " in before
    assert "drops" not in after
    agreed = on_terminal(migrate, b"y\n", "down")
    assert (agreed.exit_code, tables(migrate)) == (0, ["roles", "users"])
    assert question in agreed.stderr
    redone = on_terminal(migrate, b"\n", "redo")
    assert (redone.exit_code, "revert and apply again 02_roles" in redone.stderr) == (130, True)


def test_down_does_not_ask_with_yes_or_without_a_terminal(migrate: Migrate, three: Path) -> None:
    migrate("up")
    result = on_terminal(migrate, b"", "down", "--yes")
    assert (result.exit_code, "revert 0" in result.stderr) == (0, False)
    result = spawn("--dir", three, "down", environ={"DATABASE_URL": migrate.database.url})
    assert (result.exit_code, "revert 0" in result.stderr) == (0, False)
    assert tables(migrate) == ["users"]


# redo


def test_redo_applies_the_edited_file(migrate: Migrate, three: Path) -> None:
    migrate("up")
    (three / "03_posts.up.sql").write_text("create table posts (id bigint);\n")
    assert migrate("up").exit_code == 4
    result = migrate("redo")
    assert result.exit_code == 0
    told = "reverted 1 migration and applied 1 migration; the database is at 03_posts\n"
    assert summary(result) == told
    assert migrate("verify").exit_code == 0
    query = "select atttypid::regtype::text from pg_attribute where attrelid = 'posts'::regclass"
    assert ("bigint",) in migrate.database.rows(query)
    assert migrate("redo", "--steps", "2").exit_code == 0
    assert len(tables(migrate)) == 3


def test_redo_reverts_nothing_if_the_file_is_missing(migrate: Migrate, three: Path) -> None:
    migrate("up")
    for name in ("up", "down"):
        (three / f"03_posts.{name}.sql").unlink()
    result = migrate("redo")
    assert (result.exit_code, len(tables(migrate))) == (4, 3)
    assert "03_posts is applied, but its file is missing" in result.stderr


def test_redo_leaves_a_migration_reverted_if_its_edited_file_fails(
    migrate: Migrate, three: Path
) -> None:
    migrate("up")
    (three / "03_posts.up.sql").write_text("create tabel posts ();\n")
    result = migrate("redo")
    assert (result.exit_code, tables(migrate)) == (1, ["roles", "users"])
    assert "03_posts was rolled back completely. Reverted in this run: 03_posts." in result.stderr


# Whose down it is


def replace_third(directory: Path) -> None:
    """Give the number of a version to another migration, as on another branch."""
    for path in directory.glob("03_posts.*"):
        path.unlink()
    (directory / "03_orders.up.sql").write_text("create table orders ();")
    (directory / "03_orders.down.sql").write_text("drop table if exists roles cascade;")


def test_without_an_up_file_both_files_have_to_be_written_to_revert(
    migrate: Migrate, three: Path
) -> None:
    (three / "03_posts.down.sql").unlink()
    assert migrate("up").exit_code == 0
    assert "write 03_posts.down.sql, or" in migrate("down").stderr
    (three / "03_posts.up.sql").unlink()
    assert "write 03_posts.up.sql and 03_posts.down.sql, or" in migrate("down").stderr


def test_the_down_file_of_another_migration_with_the_number_is_not_run(
    migrate: Migrate, three: Path
) -> None:
    (three / "03_posts.down.sql").unlink()
    assert migrate("up").exit_code == 0
    replace_third(three)
    for options in ([], ["--from-files"]):
        result = migrate("down", *options)
        assert result.exit_code == 4
        assert "03_posts is irreversible: it has no down script" in result.stderr
    assert tables(migrate) == ["posts", "roles", "users"]
    (row,) = [r for r in migrate("status", "--json").json["versions"] if r["number"] == 3]
    assert (row["state"], row["reversible"]) == ("modified", False)


def test_a_stored_down_is_run_even_if_another_migration_has_the_number(
    migrate: Migrate, three: Path
) -> None:
    assert migrate("up").exit_code == 0
    replace_third(three)
    result = migrate("down", "--from-files")
    assert result.exit_code == 0, result.stderr
    assert tables(migrate) == ["roles", "users"]


def test_a_down_file_that_was_renamed_with_its_up_file_is_run(
    migrate: Migrate, three: Path
) -> None:
    assert migrate("up").exit_code == 0
    migrate.database.execute("update migration_versions set down_script = null")
    for path in three.glob("03_posts.*"):
        path.rename(path.with_name(path.name.replace("posts", "entries")))
    assert migrate("down").exit_code == 0
    assert tables(migrate) == ["roles", "users"]


# create


def test_create_writes_a_pair_that_up_applies_without_its_first_line(
    migrate: Migrate, tmp_path: Path
) -> None:
    directory = tmp_path / "new"
    for number, name in (("01", "Add Users"), ("02", "add phone")):
        stem = name.lower().replace(" ", "_")
        result = migrate("create", name, dir=directory)
        expected = f"{directory}/{number}_{stem}.up.sql\n{directory}/{number}_{stem}.down.sql\n"
        assert (result.exit_code, result.stdout) == (0, expected)
    goldens.check("create/up", (directory / "01_add_users.up.sql").read_text())
    goldens.check("create/down", (directory / "01_add_users.down.sql").read_text())
    document = migrate("create", "x", "--json", dir=directory).json
    assert document == {
        "up": f"{directory}/03_x.up.sql",
        "down": f"{directory}/03_x.down.sql",
    }
    for path in directory.iterdir():
        path.write_text(path.read_text().partition("\n")[2])
    assert migrate("up", dir=directory).exit_code == 0
    assert migrate("down", "--all", dir=directory).exit_code == 0


# verify


def test_verify_offline_needs_no_database(migrate: Migrate, three: Path) -> None:
    result = migrate("verify", "--offline", database="")
    assert (result.exit_code, result.stdout) == (0, "3 migrations are valid\n")
    document = migrate("verify", "--offline", "--json", database="").json
    assert document == {"notes": [], "versions": 3, "repeatables": 0, "renamed": []}
    (three / "02_roles.up.sql").write_text("commit;\n")
    assert migrate("verify", "--offline", database="").exit_code == 4
    assert migrate("verify", database="").exit_code == 2


def test_verify_checks_down_files(migrate: Migrate, three: Path) -> None:
    (three / "02_roles.down.sql").write_text("drop table roles;\n\\q\n")
    result = migrate("verify")
    assert (result.exit_code, "02_roles.down.sql:2:1: \\q" in result.stderr) == (4, True)


def test_verify_notes_irreversible_migrations(migrate: Migrate, three: Path) -> None:
    (three / "02_roles.down.sql").unlink()
    result = migrate("verify")
    assert result.exit_code == 0
    assert "note: 02_roles has no down file and is irreversible" in result.stdout


# What users get wrong


def test_an_empty_version_is_invalid(migrate: Migrate, three: Path) -> None:
    for command in ("up", "down", "rehearse"):
        result = migrate(command, "--to", "")
        assert result.exit_code == 2
        assert 'there is no version ""' in result.stderr
    assert is_untouched(migrate)


def test_a_version_of_thousands_of_digits_is_invalid(migrate: Migrate, three: Path) -> None:
    assert migrate("up", "--to", "9" * 5000).exit_code == 2


def test_an_option_after_the_command_overrides_one_before_it(
    migrate: Migrate, three: Path, tmp_path: Path
) -> None:
    migrate.database.execute("create schema app")
    url = migrate.database.url
    arguments = ("up", "--dir", three, "--schema", "app", "--database-url", url)
    elsewhere = {"MIGRATOR_DIR": str(tmp_path), "DATABASE_URL": "postgresql://nowhere.invalid/"}
    result = call("--dir", tmp_path / "none", *arguments, environ=elsewhere)
    assert result.exit_code == 0, result.stderr
    assert migrate.database.rows("select count(*) from app.migration_versions") == [(3,)]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("migrate", "up"),
        ("deploy", "up"),
        ("new", "create"),
        ("rollback", "down"),
        ("revert", "down"),
        ("staus", "status"),
        ("VERIFY", "verify"),
    ],
)
def test_a_command_of_another_tool_or_a_typo_gets_a_suggestion(typed: str, meant: str) -> None:
    result = call(typed)
    assert result.exit_code == 2
    said = f"error: no such command '{typed}'\nhint: did you mean: migrator {meant}\n"
    assert result.stderr == said


def test_messages_write_commands_as_the_program_was_called(migrate: Migrate, three: Path) -> None:
    (three / "03_posts.down.sql").write_text("drop table nowhere;")
    migrate("up")
    said = migrate("down", environ={"MIGRATOR_CALLED_AS": "make"}).stderr
    assert said.rstrip().endswith("then run: make migrate-down from-files=1")
    spawned = spawn("--dir", three, "down", environ={"DATABASE_URL": migrate.database.url})
    assert spawned.stderr.rstrip().endswith("then run: python -m migrator down --from-files")


def test_passwords_are_not_logged(migrate: Migrate, write: Write) -> None:
    write(
        {
            "01_a.up.sql": "create role logged password E's3cret\\'1';\n"
            "alter role logged password $$s3cret2$$;\n"
            "alter role logged password 's3cret''3';\n"
            "comment on role logged is 'password=s3cret4 host=x';\n"
            "drop role logged;\n"
        }
    )
    result = migrate("-vv", "up")
    assert result.exit_code == 0, result.stderr
    assert "create role logged password E'****'" in result.stderr
    assert "s3cret" not in result.stderr.replace("insert into", "")


def test_a_health_check_of_the_old_release_passes_during_a_rollout(
    migrate: Migrate, three: Path
) -> None:
    def is_current() -> bool:
        return migrator.status(three, database_url=migrate.database.url).is_current

    assert not is_current()
    assert migrate("up").exit_code == 0
    assert is_current()
    (three / "03_posts.up.sql").unlink()
    (three / "03_posts.down.sql").unlink()
    assert is_current()
    assert migrate("status", "--check").exit_code == 0
    (three / "02_roles.up.sql").write_text("select 1;")
    assert not is_current()
