"""Pending files that are out of order get the next free numbers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Migrate, Write, process_environment
from tests.sessions import applied


def pair(version: str) -> dict[str, str]:
    return {
        f"{version}.up.sql": f'create table "{version}" ();\n',
        f"{version}.down.sql": f'drop table "{version}";\n',
    }


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix == ".sql")


def of(*versions: str) -> list[str]:
    return sorted(name for version in versions for name in pair(version))


@pytest.fixture
def merged(migrate: Migrate, write: Write) -> Migrate:
    """The program where one branch is applied, and files of another one are below it."""
    write({**pair("001_a"), **pair("005_b")})
    assert migrate("up").exit_code == 0
    write({**pair("003_c"), **pair("04_d"), **pair("006_e")})
    assert migrate("up").exit_code == 4
    return migrate


def test_files_below_the_newest_applied_one_get_the_next_free_numbers(merged: Migrate) -> None:
    result = merged("renumber", "--yes")
    assert result.exit_code == 0, result.stderr
    expected = of("001_a", "005_b", "006_e", "007_c", "08_d")
    assert names(merged.directory) == expected
    assert merged("up").exit_code == 0
    assert applied(merged.database) == ["001_a", "005_b", "006_e", "007_c", "08_d"]
    assert "nothing to do" in merged("renumber").stdout


def test_a_dry_run_shows_the_names_and_renames_nothing(merged: Migrate) -> None:
    before = names(merged.directory)
    result = merged("renumber", "--dry-run", "--json")
    found = {Path(each["from"]).name: Path(each["to"]).name for each in result.json["renamed"]}
    assert found == {
        "003_c.down.sql": "007_c.down.sql",
        "003_c.up.sql": "007_c.up.sql",
        "04_d.down.sql": "08_d.down.sql",
        "04_d.up.sql": "08_d.up.sql",
    }
    assert result.json["dry_run"] is True
    assert names(merged.directory) == before


@pytest.mark.parametrize("named", ["4", "04", "04_d"])
def test_only_the_named_files_are_renumbered(merged: Migrate, named: str) -> None:
    assert merged("renumber", named, "--yes").exit_code == 0
    assert names(merged.directory) == of("001_a", "003_c", "005_b", "006_e", "07_d")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("1", "001_a is applied: its number cannot change"),
        ("9", 'there is no version "9" among the files'),
    ],
)
def test_what_is_applied_keeps_its_number(merged: Migrate, named: str, said: str) -> None:
    before = names(merged.directory)
    result = merged("renumber", named, "--yes")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert names(merged.directory) == before


@pytest.mark.parametrize("new", ["02_a", "02_z"])
def test_of_two_files_with_one_number_the_one_that_is_not_applied_moves(
    migrate: Migrate, write: Write, new: str
) -> None:
    write({**pair("01_x"), **pair("02_b")})
    assert migrate("up").exit_code == 0
    write(pair(new))
    assert migrate("verify").exit_code == 4
    assert migrate("renumber", "--yes").exit_code == 0
    moved = f"03_{new[3:]}"
    assert names(migrate.directory) == of("01_x", "02_b", moved)
    assert migrate("up").exit_code == 0
    assert applied(migrate.database) == ["01_x", "02_b", moved]


def test_of_two_pending_files_with_one_number_the_second_by_name_moves(
    migrate: Migrate, write: Write
) -> None:
    write({**pair("9_b"), **pair("9_a")})
    assert migrate("renumber", "--yes").exit_code == 0
    assert names(migrate.directory) == of("9_a", "10_b")


def test_an_interrupted_run_is_finished_by_the_next_one(merged: Migrate) -> None:
    directory = merged.directory
    (directory / "003_c.down.sql").rename(directory / "007_c.down.sql")
    assert merged("renumber", "--yes").exit_code == 0
    assert names(directory) == of("001_a", "005_b", "006_e", "007_c", "08_d")


def test_nothing_is_overwritten_and_then_no_file_is_renamed(merged: Migrate) -> None:
    (merged.directory / "08_d.up.sql").mkdir()
    before = names(merged.directory)
    result = merged("renumber", "--yes")
    assert result.exit_code == 2
    assert "08_d.up.sql exists; no file was renamed" in result.stderr
    assert names(merged.directory) == before


def test_a_file_that_is_no_migration_is_an_error_of_its_own(merged: Migrate, write: Write) -> None:
    write({"what.sql": "select 1;"})
    result = merged("renumber", "--yes")
    assert result.exit_code == 4
    assert "what.sql is not named" in result.stderr


def git(directory: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, *arguments],
        cwd=directory,
        env=process_environment({"GIT_CONFIG_GLOBAL": "/dev/null"}),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git")
def test_git_knows_of_the_new_names_of_the_files_that_it_tracks(merged: Migrate) -> None:
    directory = merged.directory
    git(directory, "init", "--quiet")
    git(directory, "add", "003_c.up.sql", "003_c.down.sql", "001_a.up.sql")
    git(directory, "commit", "--quiet", "--message=a")
    assert merged("renumber", "--yes").exit_code == 0
    assert names(directory) == of("001_a", "005_b", "006_e", "007_c", "08_d")
    status = git(directory, "status", "--porcelain").splitlines()
    assert [line for line in status if line.startswith("R")] == [
        "R  003_c.down.sql -> 007_c.down.sql",
        "R  003_c.up.sql -> 007_c.up.sql",
    ]
    assert "?? 08_d.up.sql" in status
