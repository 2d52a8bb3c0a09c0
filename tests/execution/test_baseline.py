"""What a person decides is recorded with its reason, and nothing is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .. import goldens
from ..conftest import Migrate, Result, Write
from ..sessions import applied, history

PAIR = {
    "01_a.up.sql": "create table a (id int);\n",
    "01_a.down.sql": "drop table a;\n",
    "02_b.up.sql": "create table b (id int);\n",
    "02_b.down.sql": "drop table b;\n",
    "03_c.up.sql": "create table c (id int);\n",
}
OUTSIDE = "-- migrator: no-transaction\ncreate table s (id int);\nselect 1 / 0;\n"


@pytest.fixture
def pair(write: Write) -> Path:
    """A directory of three migrations."""
    return write(PAIR)


def states(migrate: Migrate) -> dict[str, str]:
    rows = migrate("status", "--json").json["versions"]
    return {row["version"]: row["state"] for row in rows}


def decisions(migrate: Migrate) -> list[tuple[str, str, str, str | None]]:
    """The rows of the log that nobody but a person can have made."""
    query = """
    select version, action, outcome, reason
    from migration_log where action in ('baseline', 'repair') order by id
    """
    return [(version, *rest) for version, *rest in migrate.database.rows(query)]


def repair(migrate: Migrate, version: str, decision: str, reason: str = "because") -> Result:
    return migrate("repair", version, f"--{decision}", "--reason", reason)


# A baseline


def test_a_baseline_records_every_version_up_to_one_and_runs_nothing(
    migrate: Migrate, pair: Path
) -> None:
    migrate.database.execute("create table a (id int); create table b (id int)")
    result = migrate("baseline", "2", "--json")
    assert (result.exit_code, result.json) == (0, {"versions": ["01_a", "02_b"]}), result.stderr
    assert decisions(migrate) == [
        ("01_a", "baseline", "done", None),
        ("02_b", "baseline", "done", None),
    ]
    assert states(migrate) == {"01_a": "applied", "02_b": "applied", "03_c": "pending"}
    assert migrate("up").exit_code == 0
    assert migrate("down", "--all").exit_code == 4, "03_c has no down"
    assert migrate("repair", "3", "--reverted", "--reason", "not needed").exit_code == 0
    assert migrate("down", "--all").exit_code == 0, "the downs of a baseline are stored"
    assert migrate.database.rows("select to_regclass('a'), to_regclass('b')") == [(None, None)]


def test_a_baseline_twice_records_nothing_more(migrate: Migrate, pair: Path) -> None:
    migrate.database.execute("create table a (id int)")
    assert migrate("baseline", "01_a").stdout == "01_a: recorded as applied\n"
    again = migrate("baseline", "01_a")
    assert (again.exit_code, again.stdout[:13]) == (0, "nothing to do")
    assert len(decisions(migrate)) == 1


def test_a_baseline_of_what_is_not_there_lists_it_and_records_nothing(
    migrate: Migrate, pair: Path
) -> None:
    migrate.database.execute("create table a (id int)")
    result = migrate("baseline", "2")
    assert result.exit_code == 4
    assert "the database lacks what these migrations would have created" in result.stderr
    assert "  table public.b" in result.stderr
    assert "public.a" not in result.stderr
    assert set(states(migrate).values()) == {"pending"}
    assert migrate("baseline", "2", "--unchecked").exit_code == 0
    assert states(migrate)["02_b"] == "applied"


def test_a_baseline_says_what_is_there_in_another_form_and_minds_nothing_more(
    migrate: Migrate, pair: Path
) -> None:
    migrate.database.execute("create table a (id bigint); create table c (x int)")
    result = migrate("baseline", "1")
    assert (result.exit_code, result.stdout) == (0, "01_a: recorded as applied\n"), result.stderr
    assert "different from the files: ~ column public.a.id" in result.stderr
    assert "public.c" not in result.stderr


def test_a_baseline_of_files_that_do_not_run_says_so(
    migrate: Migrate, write: Write, pair: Path
) -> None:
    write({"02_b.up.sql": "insert into nowhere values (1);"})
    migrate.database.execute("create table a (id int)")
    result = migrate("baseline", "2")
    assert result.exit_code == 4
    assert "02_b cannot be applied to an empty database" in result.stderr
    assert "--unchecked" in result.stderr


def test_an_empty_database_has_no_baseline(migrate: Migrate, pair: Path) -> None:
    result = migrate("baseline", "02_b")
    assert result.exit_code == 4
    assert "is empty: there is nothing to baseline" in result.stderr
    assert set(states(migrate).values()) == {"pending"}


def test_a_baseline_of_a_file_that_cannot_be_read_records_nothing(
    migrate: Migrate, write: Write, pair: Path
) -> None:
    write({"02_b.up.sql": "commit;\n"})
    migrate.database.execute("create table a (id int)")
    for options in ([], ["--unchecked"]):
        result = migrate("baseline", "02_b", *options)
        assert result.exit_code == 4
        assert "COMMIT cannot run inside" in result.stderr
    assert set(states(migrate).values()) == {"pending"}


@pytest.mark.parametrize("command", [("baseline",), ("repair", "--applied", "--reason", "x")])
def test_a_version_that_is_not_there_is_a_matter_of_usage(
    migrate: Migrate, pair: Path, command: tuple[str, ...]
) -> None:
    migrate.database.execute("create table a (id int)")
    result = migrate(*command, "02_d")
    assert result.exit_code == 2
    assert 'there is no version "02_d"' in result.stderr
    assert "did you mean 02_b?" in result.stderr


# A repair


def test_an_edited_file_is_accepted(migrate: Migrate, write: Write, pair: Path) -> None:
    assert migrate("up").exit_code == 0
    write({"01_a.up.sql": "create table a (id bigint);\n", "01_a.down.sql": "drop table a; --\n"})
    assert migrate("up").exit_code == 4
    assert repair(migrate, "1", "accept", "altered by hand, OPS-7").exit_code == 0
    assert decisions(migrate) == [("01_a", "repair", "accepted", "altered by hand, OPS-7")]
    assert set(states(migrate).values()) == {"applied"}
    stored = migrate.database.rows(
        "select up_script, down_script from migration_versions where version = '01_a'"
    )
    assert stored == [("create table a (id bigint);\n", "drop table a; --\n")]


RENAMED = "recorded as renamed to 01_accounts"


@pytest.mark.parametrize(
    ("edit", "said"),
    [("", RENAMED), ("select 1;", f"{RENAMED}; recorded the edited file as applied")],
    ids=["as it was", "edited"],
)
def test_a_renamed_file_is_accepted_under_its_new_name(
    migrate: Migrate, pair: Path, edit: str, said: str
) -> None:
    assert migrate("up").exit_code == 0
    for direction in ("up", "down"):
        (pair / f"01_a.{direction}.sql").rename(pair / f"01_accounts.{direction}.sql")
    with (pair / "01_accounts.up.sql").open("a") as file:
        file.write(edit)
    assert migrate("status", "--check").exit_code == 4
    result = repair(migrate, "1", "accept")
    assert result.stdout == f"01_a: {said}\n"
    assert applied(migrate.database) == ["01_accounts", "02_b", "03_c"]
    assert migrate("status", "--check").exit_code == 0


@pytest.mark.parametrize("number", ["09", "00"], ids=["higher", "lower"])
@pytest.mark.parametrize("named", ["02", "{new}", "02_b", "{new}_b"])
def test_a_file_with_another_number_is_accepted_and_keeps_when_and_by_whom_it_was_applied(
    migrate: Migrate, pair: Path, number: str, named: str
) -> None:
    assert migrate("up").exit_code == 0
    query = (
        "select applied_at, applied_by, checksum, duration_ms from migration_versions order by 1"
    )
    before = migrate.database.rows(query)
    for direction in ("up", "down"):
        (pair / f"02_b.{direction}.sql").rename(pair / f"{number}_b.{direction}.sql")

    shown = migrate("status").stdout
    assert re.search(rf"^02_b +renamed to {number}_b +20", shown, re.MULTILINE)
    assert "pending" not in shown
    assert "missing" not in shown
    (version,) = (v for v in migrate("status", "--json").json["versions"] if v["number"] == 2)
    assert (version["state"], version["renamed_to"]) == ("renamed", f"{number}_b")
    for command in (["verify"], ["up"], ["up", "--out-of-order"]):
        result = migrate(*command)
        assert result.exit_code == 4
        assert f"error: 02_b is applied, and was renamed to {number}_b\n" in result.stderr
        assert "migrator repair 02_b --renamed" in result.stderr
        assert "1 problem" in result.stderr

    accepted = repair(migrate, named.format(new=number), "accept")
    assert (accepted.exit_code, accepted.stdout) == (
        0,
        f"02_b: recorded as renamed to {number}_b\n",
    )
    assert migrate.database.rows(query) == before
    assert f"    note: renamed to {number}_b\n" in migrate("log", "-n", "1").stdout
    assert f"{number}_b" in applied(migrate.database)
    assert migrate("status", "--check").exit_code == 0
    assert migrate("up").stdout.startswith("nothing to do: ")


def rename(directory: Path, old: str, new: str) -> None:
    for path in directory.glob(f"{old}.*.sql"):
        path.rename(directory / path.name.replace(old, new))


@pytest.mark.parametrize("new", ["02_other", "09_b", "09_other", "00_b"])
@pytest.mark.parametrize("edit", ["", "-- why\n"], ids=["as it was", "reformatted"])
def test_a_version_whose_text_has_another_name_is_renamed_and_keeps_its_record(
    migrate: Migrate, pair: Path, new: str, edit: str
) -> None:
    assert migrate("up").exit_code == 0
    query = (
        "select applied_at, applied_by, checksum, up_script, down_script, duration_ms"
        " from migration_versions order by applied_at"
    )
    before = migrate.database.rows(query)
    rename(pair, "02_b", new)
    path = pair / f"{new}.up.sql"
    path.write_text(edit + path.read_text())

    (version,) = (v for v in migrate("status", "--json").json["versions"] if v["number"] == 2)
    assert (version["state"], version["renamed_to"]) == ("renamed", new)
    for command in ("verify", "up"):
        error = migrate(command, "--json").json["error"]["errors"][0]
        assert (error["code"], error["version"]) == ("renamed", "02_b")
        assert error["message"] == f"02_b is applied, and was renamed to {new}"
        assert "migrator repair 02_b --renamed" in error["hint"]

    result = migrate("repair", "02", "--renamed", "--json")
    assert result.json == {"versions": ["02_b"], "decision": "renamed", "reason": None}
    assert migrate.database.rows(query) == before
    assert sorted(applied(migrate.database)) == sorted(["01_a", new, "03_c"])
    (entry,) = migrate("log", "-n", "1", "--json").json
    assert (entry["version"], entry["action"], entry["outcome"]) == ("02_b", "repair", "renamed")
    assert entry["message"] == f"renamed to {new}"
    assert migrate("up").stdout.startswith("nothing to do: ")


def test_a_record_moves_to_a_free_number_only(migrate: Migrate, pair: Path) -> None:
    assert migrate("up").exit_code == 0
    for path in pair.glob("01_a.*"):
        path.unlink()
    rename(pair, "02_b", "01_b")
    why = "its text is in 01_b.up.sql, but 01_a has that number in the history"
    result = migrate("repair", "02_b", "--renamed")
    assert result.exit_code == 2
    assert f"02_b cannot be recorded under another name: {why}" in result.stderr
    assert why in migrate("verify").stderr
    assert applied(migrate.database) == ["01_a", "02_b", "03_c"]


def test_a_version_with_its_own_name_is_not_renamed(migrate: Migrate, pair: Path) -> None:
    assert migrate("up").exit_code == 0
    assert pair
    result = migrate("repair", "03", "--renamed")
    assert result.exit_code == 2
    assert "03_c is applied, and no file with another name has its text" in result.stderr


def test_a_record_does_not_move_where_two_files_have_its_text(migrate: Migrate, pair: Path) -> None:
    assert migrate("up").exit_code == 0
    text = (pair / "03_c.up.sql").read_text()
    rename(pair, "03_c", "04_d")
    (pair / "05_e.up.sql").write_text(text)
    result = migrate("repair", "03", "--renamed")
    assert result.exit_code == 2
    assert "its text is in 2 files: 04_d.up.sql, 05_e.up.sql" in result.stderr
    assert "its text is in 2 files: 04_d.up.sql, 05_e.up.sql" in migrate("verify").stderr


def test_what_was_finished_by_hand_is_applied(migrate: Migrate, write: Write) -> None:
    write({"01_s.up.sql": OUTSIDE})
    assert migrate("up").exit_code == 1
    assert history(migrate.database) == [("01_s", 1, False, False)]
    assert repair(migrate, "01_s", "applied").exit_code == 0
    assert history(migrate.database) == [("01_s", 2, False, True)]
    assert migrate("up").stdout.startswith("nothing to do: ")


def test_what_was_finished_by_hand_and_renamed_has_one_row(migrate: Migrate, write: Write) -> None:
    write({"01_s.up.sql": OUTSIDE})
    assert migrate("up").exit_code == 1
    (migrate.directory / "01_s.up.sql").rename(migrate.directory / "01_t.up.sql")
    assert repair(migrate, "01", "applied").exit_code == 0
    assert history(migrate.database) == [("01_t", 2, False, True)]


def test_what_was_undone_by_hand_is_pending_again(migrate: Migrate, write: Write) -> None:
    write({"01_s.up.sql": OUTSIDE})
    assert migrate("up").exit_code == 1
    migrate.database.execute("drop table s")
    assert repair(migrate, "01_s", "reverted").exit_code == 0
    assert states(migrate) == {"01_s": "pending"}
    write({"01_s.up.sql": OUTSIDE.replace("1 / 0", "1")})
    assert migrate("up").exit_code == 0


def test_what_was_done_by_hand_is_applied_without_being_run(migrate: Migrate, pair: Path) -> None:
    migrate.database.execute("create table a (id int)")
    assert repair(migrate, "1", "applied").exit_code == 0
    assert migrate("up").exit_code == 0
    assert applied(migrate.database) == ["01_a", "02_b", "03_c"]


def test_a_version_whose_file_is_gone_is_forgotten(migrate: Migrate, pair: Path) -> None:
    assert migrate("up").exit_code == 0
    (pair / "02_b.up.sql").unlink()
    (pair / "02_b.down.sql").unlink()
    assert migrate("up").exit_code == 4
    assert repair(migrate, "02_b", "accept").exit_code == 2, "there is no file to accept"
    assert repair(migrate, "02_b", "reverted").exit_code == 0
    assert states(migrate) == {"01_a": "applied", "03_c": "applied"}


@pytest.mark.parametrize("decision", ["accept", "applied"])
def test_where_nothing_is_to_be_decided_nothing_is_recorded(
    migrate: Migrate, pair: Path, decision: str
) -> None:
    assert migrate("up").exit_code == 0
    result = repair(migrate, "1", decision)
    assert result.exit_code == 2
    assert "01_a is applied: nothing to repair" in result.stderr
    assert repair(migrate, "1", "reverted").exit_code == 0
    result = repair(migrate, "1", "reverted")
    assert "01_a is out of order: nothing to repair" in result.stderr
    assert len(decisions(migrate)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reason", "x"], "one of --accept, --applied, --reverted"),
        (["--applied", "--reverted", "--reason", "x"], "one of --accept, --applied, --reverted"),
        (["--applied"], "missing option '--reason'"),
        (["--applied", "--reason", "  "], "--reason is empty"),
    ],
)
def test_a_repair_is_one_decision_with_a_reason(
    migrate: Migrate, pair: Path, options: list[str], message: str
) -> None:
    result = migrate("repair", "1", *options)
    assert result.exit_code == 2
    assert message in result.stderr


# The log


@pytest.fixture
def eventful(migrate: Migrate, write: Write) -> Migrate:
    """A history in which something of every kind has happened."""
    write(PAIR | {"04_d.up.sql": "select 1 / 0;\n"})
    assert migrate("up").exit_code == 1
    assert migrate("up", "--to", "3").exit_code == 0
    (migrate.directory / "04_d.up.sql").unlink()
    assert repair(migrate, "3", "reverted", "it was a mistake").exit_code == 0
    assert migrate("down").exit_code == 0
    return migrate


def test_the_log_reads_well(eventful: Migrate) -> None:
    eventful.database.execute(
        """
        update migration_log
        set logged_at = '2026-05-06 07:08:09',
            os_user = 'ada',
            host = 'db1',
            tool_version = '1.0',
            duration_ms = duration_ms - duration_ms + 12
        """
    )
    goldens.check("log/every-kind", eventful("log").stdout)


def test_the_log_in_json_says_who_what_and_how_it_ended(eventful: Migrate) -> None:
    rows = eventful("log", "--json").json
    assert [(row["version"], row["action"], row["outcome"]) for row in rows] == [
        ("01_a", "up", "done"),
        ("02_b", "up", "done"),
        ("03_c", "up", "done"),
        ("04_d", "up", "failed"),
        ("03_c", "repair", "reverted"),
        ("02_b", "down", "done"),
    ]
    failed = rows[3]
    assert (failed["sqlstate"], failed["message"]) == ("22012", "division by zero")
    assert all(row["db_user"] == "postgres" and row["os_user"] and row["host"] for row in rows)
    assert all(row["duration_ms"] is not None for row in rows if row["outcome"] == "done")


def test_the_log_of_one_version_and_the_newest_rows(eventful: Migrate) -> None:
    def versions(*options: str) -> list[str]:
        return [row["version"] for row in eventful("log", "--json", *options).json]

    assert versions("--version", "02_b") == ["02_b", "02_b"]
    assert versions("--version", "02") == versions("--version", "2") == ["02_b", "02_b"]
    assert versions("-n", "2") == ["03_c", "02_b"]
    assert versions("--version", "07") == []


def test_the_log_of_a_fresh_database_is_empty_and_is_not_created(
    migrate: Migrate, pair: Path
) -> None:
    assert migrate("log").stdout == "the log is empty\n"
    assert migrate.database.rows("select to_regclass('migration_log')") == [(None,)]


def test_a_repair_of_several_versions_records_all_of_them_or_none(
    migrate: Migrate, write: Write
) -> None:
    write({f"{n:02}_t.up.sql": f"create table t{n} ();" for n in (1, 2, 3)})
    reason = ("--reason", "made by hand")
    result = migrate("repair", "3", "02_t", "1", "--applied", *reason, "--json")
    assert result.json["versions"] == ["01_t", "02_t", "03_t"]
    rows = "select version from migration_versions order by ordinal"
    assert migrate.database.rows(rows) == [("01_t",), ("02_t",), ("03_t",)]
    assert migrate("repair", "2", "02", "--reverted", *reason).exit_code == 0
    result = migrate("repair", "1", "2", "3", "--applied", *reason)
    assert result.exit_code == 2
    assert "2 problems found; nothing was recorded" in result.stderr
    assert "01_t is applied: nothing to repair" in result.stderr
    assert migrate("repair", "2", "9", "--applied", *reason).exit_code == 2
    assert migrate.database.rows(rows) == [("01_t",), ("03_t",)]
    assert [version for version, *_ in decisions(migrate)] == ["01_t", "02_t", "03_t", "02_t"]
