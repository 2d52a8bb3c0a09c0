"""Repeatable files: applied after the versions, whenever their text has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import Migrate, Write

TABLE = {
    "01_t.up.sql": "create table t (id int primary key, name text);",
    "01_t.down.sql": "drop table t;",
}
VIEW = "create or replace view v as select id, name from t;\n"
WIDER = "create or replace view v as select id, name, upper(name) as loud from t;\n"
RECORDS = "select name, script, applied_at is not null, duration_ms >= 0 from migration_repeatables"
LOGGED = "select version from migration_log where action = 'up' and outcome = 'done' order by id"


def done(migrate: Migrate, *arguments: str) -> list[str]:
    """Run `up`, and return what it applied, in order."""
    result = migrate("up", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return [step["version"] for step in result.json["steps"]]


def states(migrate: Migrate) -> dict[str, str]:
    """Return the states of the repeatable files."""
    return {each["name"]: each["state"] for each in migrate("status", "--json").json["repeatables"]}


def test_repeatable_files_are_applied_after_the_versions_and_recorded_with_their_text(
    migrate: Migrate, write: Write
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    assert done(migrate) == ["01_t", "R__v"]
    assert migrate.database.rows(RECORDS) == [("R__v", VIEW, True, True)]
    assert done(migrate) == []


def test_a_repeatable_file_is_applied_again_only_when_its_tokens_have_changed(
    migrate: Migrate, write: Write
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    done(migrate)
    write({"R__v.sql": f"-- a comment\n{VIEW.upper()}\n"})
    assert states(migrate) == {"R__v": "up to date"}
    assert done(migrate) == []
    write({"R__v.sql": WIDER})
    assert states(migrate) == {"R__v": "changed"}
    assert migrate("status", "--check").exit_code == 3
    assert done(migrate) == ["R__v"]
    assert states(migrate) == {"R__v": "up to date"}
    assert migrate("status", "--check").exit_code == 0


def test_a_file_that_needs_a_later_one_is_tried_again_after_the_others(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "R__a.sql": "create view a as select * from b;",
            "R__b.sql": "create view b as select f() as x;",
            "R__c.sql": "create function f() returns int language sql as 'select 1';",
        }
    )
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert 'R__a will be applied after the others: relation "b" does not exist' in result.stderr
    assert migrate.database.rows(LOGGED) == [("R__c",), ("R__b",), ("R__a",)]


def test_what_no_other_file_makes_is_an_error_and_the_others_are_kept(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "R__a.sql": "create view a as select * from nowhere;",
            "R__b.sql": "create view b as select 1 as x;",
            **TABLE,
        }
    )
    result = migrate("up")
    assert result.exit_code == 1
    assert 'relation "nowhere" does not exist' in result.stderr
    assert "R__a.sql:1:" in result.stderr
    assert "R__a was rolled back completely." in result.stderr
    assert "Already applied in this run, and kept: 01_t, R__b." in result.stderr
    assert states(migrate) == {"R__a": "never applied", "R__b": "up to date"}


def test_a_failed_repeatable_file_leaves_neither_its_work_nor_a_record(
    migrate: Migrate, write: Write
) -> None:
    write({"R__v.sql": "create view v as select 1 as x; select 1 / 0;", **TABLE})
    assert migrate("up").exit_code == 1
    assert migrate.database.rows("select to_regclass('v')::text") == [(None,)]
    assert migrate.database.rows(RECORDS) == []
    log = migrate("log", "--version", "R__v").stdout
    assert "up R__v: failed" in log


@pytest.mark.parametrize("limit", [("--to", "01"), ("--steps", "1")])
def test_repeatable_files_wait_for_the_last_version(
    migrate: Migrate, write: Write, limit: tuple[str, str]
) -> None:
    write({"R__v.sql": VIEW, "02_u.up.sql": "create table u ();", **TABLE})
    result = migrate("up", *limit)
    assert result.exit_code == 0
    assert "not applied before the last pending migration, 02_u: R__v" in result.stderr
    assert states(migrate) == {"R__v": "never applied"}
    assert done(migrate, "--to", "02") == ["02_u", "R__v"]


def test_an_older_release_does_not_put_its_text_back(migrate: Migrate, write: Write) -> None:
    folder = write({"R__v.sql": WIDER, "02_u.up.sql": "create table u ();", **TABLE})
    done(migrate)
    (folder / "02_u.up.sql").unlink()
    write({"R__v.sql": VIEW})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert "not applied, because the files are those of an older release: R__v" in result.stderr
    assert migrate("status", "--check").exit_code == 0


def test_down_leaves_repeatable_files_alone(migrate: Migrate, write: Write) -> None:
    write(
        {
            "R__v.sql": "create or replace view v as select 1 as x;",
            **TABLE,
        }
    )
    done(migrate)
    result = migrate("down", "--all", "--yes", "--json")
    assert [step["version"] for step in result.json["steps"]] == ["01_t"]
    assert states(migrate) == {"R__v": "up to date"}


def test_the_work_of_a_file_is_kept_when_its_file_is_gone(migrate: Migrate, write: Write) -> None:
    folder = write({"R__v.sql": VIEW, **TABLE})
    done(migrate)
    (folder / "R__v.sql").unlink()
    assert states(migrate) == {"R__v": "file gone"}
    assert done(migrate) == []
    assert migrate("status", "--check").exit_code == 0
    assert "the file of R__v is gone" in migrate("verify").stdout


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("\n-- migrator: no-transaction\nselect 1;", "R__v.sql:2:1", "runs in one transaction"),
        ("create index concurrently i on t (id);", "R__v.sql:1:1", "runs in one transaction"),
        ("select 1;\n\\i other.sql", "R__v.sql:2:1", "is a psql command"),
        ("select 1; commit;", "R__v.sql:1:11", "COMMIT cannot run inside"),
    ],
)
def test_what_a_repeatable_file_cannot_hold_is_refused_with_its_place(
    migrate: Migrate, write: Write, text: str, place: str, message: str
) -> None:
    write({"R__v.sql": text, **TABLE})
    for command in (("up",), ("verify",), ("verify", "--offline")):
        result = migrate(*command)
        assert result.exit_code == 4, result.stderr
        assert place in result.stderr
        assert message in result.stderr
    assert migrate.database.rows("select to_regclass('t')::text") == [(None,)]


# What numbered migrations and repeatable files share


def test_a_file_is_applied_again_after_a_version_that_drops_what_it_made(
    migrate: Migrate, write: Write
) -> None:
    write({"R__v.sql": VIEW, "R__w.sql": "create view w as select 1 as x;", **TABLE})
    done(migrate)
    write(
        {
            "02_wide.up.sql": "drop view if exists v; alter table t alter id type bigint;",
            "02_wide.down.sql": "drop view if exists v; alter table t alter id type int;",
        }
    )
    assert done(migrate) == ["02_wide", "R__v"]
    assert states(migrate) == {"R__v": "up to date", "R__w": "up to date"}
    result = migrate("down", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "02_wide drops what R__v made; the next up applies it again" in result.stderr
    assert states(migrate) == {"R__v": "never applied", "R__w": "up to date"}
    assert done(migrate) == ["02_wide", "R__v"]


def test_a_file_whose_work_was_dropped_is_pending_after_a_run_that_failed(
    migrate: Migrate, write: Write
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    done(migrate)
    write({"02_a.up.sql": "drop view v;", "03_b.up.sql": "select 1 / 0;"})
    assert migrate("up").exit_code == 1
    assert states(migrate) == {"R__v": "never applied"}
    write({"03_b.up.sql": "select 1;"})
    assert done(migrate) == ["03_b", "R__v"]


@pytest.mark.parametrize(
    ("direction", "sql"),
    [
        ("up", "alter table t drop name;"),
        ("up", "alter table t alter name type varchar(9);"),
        ("down", "alter table t drop name;"),
    ],
)
def test_an_error_names_the_file_that_made_what_depends_on_a_column(
    migrate: Migrate, write: Write, direction: str, sql: str
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    done(migrate)
    write({"02_a.up.sql": "select 1;", f"02_a.{direction}.sql": sql})
    if direction == "down":
        done(migrate)
    result = migrate(direction, "--yes")
    assert result.exit_code == 1
    assert "R__v.sql creates view v" in result.stderr
    when = "this up" if direction == "up" else "the next up"
    assert (
        f"drop it (IF EXISTS) in an earlier statement: {when} applies the file again"
        in result.stderr
    )


def test_a_version_may_not_create_what_a_repeatable_file_creates(
    migrate: Migrate, write: Write
) -> None:
    folder = write({"R__v.sql": VIEW, **TABLE, "02_v.up.sql": "create view public.v as select 1;"})
    for command in (("verify",), ("verify", "--offline"), ("up",)):
        result = migrate(*command)
        assert result.exit_code == 4
        both = f"{folder}/02_v.up.sql creates view public.v, and so does {folder}/R__v.sql"
        assert both in result.stderr


def test_two_repeatable_files_may_not_create_the_same(migrate: Migrate, write: Write) -> None:
    folder = write(
        {
            "R__a.sql": "create or replace function f(a int) returns int return a;",
            "R__b.sql": "create or replace function f(b integer) returns int return 2;",
            "R__c.sql": "create or replace function f(text) returns int return 1;",
        }
    )
    for command in (("verify", "--offline"), ("up",)):
        result = migrate(*command)
        assert result.exit_code == 4
        both = f"{folder}/R__b.sql creates function f, and so does {folder}/R__a.sql"
        assert both in result.stderr
        assert "R__c" not in result.stderr


def test_what_a_later_version_drops_may_come_to_a_repeatable_file(
    migrate: Migrate, write: Write
) -> None:
    write({**TABLE, "02_v.up.sql": "create view v as select 1 as one;"})
    done(migrate)
    write({"03_v.up.sql": "drop view v;", "R__v.sql": VIEW})
    assert migrate("verify").exit_code == 0
    assert migrate("verify", "--offline").exit_code == 0
    assert done(migrate) == ["03_v", "R__v"]


# repair


def repaired(migrate: Migrate, *arguments: str) -> str:
    """Record a decision, and return what is said."""
    result = migrate("repair", *arguments, "--reason", "why", "--yes")
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_file_recorded_as_reverted_is_applied_again_and_a_gone_one_is_forgotten(
    migrate: Migrate, write: Write
) -> None:
    folder = write({"R__v.sql": VIEW, "R__w.sql": "create view w as select 1 as x;", **TABLE})
    done(migrate)
    migrate.database.execute("drop view v, w")
    (folder / "R__w.sql").unlink()
    said = repaired(migrate, "R__v", "R__w", "--reverted")
    assert said == "R__v: recorded as not applied\nR__w: recorded as not applied\n"
    assert states(migrate) == {"R__v": "never applied"}
    assert done(migrate) == ["R__v"]
    assert "repair R__w: reverted" in migrate("log").stdout


def test_a_file_whose_text_is_in_the_database_is_recorded_without_being_run(
    migrate: Migrate, write: Write
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    migrate.database.execute("create table t (); create view v as select 1 as x")
    repaired(migrate, "R__v", "--applied")
    assert states(migrate) == {"R__v": "up to date"}
    write({"R__v.sql": WIDER})
    repaired(migrate, "R__v", "--accept")
    assert states(migrate) == {"R__v": "up to date"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("R__v", "--accept"), "R__v is up to date, and cannot be recorded as accepted"),
        (("R__v", "--applied"), "R__v is up to date, and cannot be recorded as applied"),
        (("R__x", "--reverted"), "there is no repeatable file R__x"),
        (("R__v", "01", "--reverted"), "versions and repeatable files need a command each"),
    ],
)
def test_a_decision_that_does_not_fit_a_repeatable_file_is_refused(
    migrate: Migrate, write: Write, arguments: tuple[str, ...], message: str
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    done(migrate)
    result = migrate("repair", *arguments, "--reason", "why", "--yes")
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert states(migrate) == {"R__v": "up to date"}


# Names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["R__v.down.sql"], "a repeatable file has no down file"),
        (["R__v.up.sql"], "a repeatable file has no up file"),
        (["R__v.sql", "R__V.sql"], "differ only in letter case"),
        (["r__v.sql"], "rename it to R__v.sql"),
        (["R_v.sql"], "rename it to R__v.sql"),
        (["R__.sql"], "is not named"),
    ],
)
def test_a_name_that_could_be_meant_otherwise_is_refused(
    migrate: Migrate, write: Write, names: list[str], message: str
) -> None:
    write({**TABLE, **dict.fromkeys(names, "select 1;")})
    result = migrate("verify", "--offline")
    assert (result.exit_code, message in result.stderr) == (4, True)


def test_one_name_in_two_directories_is_refused(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    write({"R__v.sql": VIEW, **TABLE})
    other = tmp_path / "other"
    other.mkdir()
    (other / "R__v.sql").write_text(VIEW)
    (other / "02_u.up.sql").write_text("create table u ();")
    result = migrate("--dir", other, "verify", "--offline")
    assert (result.exit_code, "R__v.sql have the same name" in result.stderr) == (4, True)


def test_create_writes_a_draft_of_a_repeatable_file_and_overwrites_none(
    migrate: Migrate, write: Write
) -> None:
    folder = write(TABLE)
    result = migrate("create", "--repeatable", "Active users")
    assert result.stdout == f"{folder / 'R__active_users.sql'}\n"
    assert "the file is a draft" in migrate("up").stderr
    again = migrate("create", "--repeatable", "active users")
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)
    assert migrate("create", "next").stdout.startswith(str(folder / "02_next.up.sql"))


def test_a_directory_may_have_only_repeatable_files(migrate: Migrate, write: Write) -> None:
    write({"R__w.sql": "create or replace view w as select 1 as x;"})
    assert done(migrate) == ["R__w"]
    status = migrate("status").stdout
    assert "repeatable file  state       applied at" in status
    assert "repeatable files: 1 up to date" in status
    assert migrate("verify").stdout == "1 repeatable file is valid and matches the history\n"
