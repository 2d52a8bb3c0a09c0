"""A directory without migrations, one of another database, and files with wrong names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import migrator
from migrator.errors import EmptyDirectoryError

from ..conftest import Migrate, Write

COMMANDS = (
    ("up",),
    ("down",),
    ("redo",),
    ("status",),
    ("status", "--check"),
    ("verify",),
    ("verify", "--offline"),
    ("rehearse",),
    ("drift",),
    ("log",),
    ("baseline", "1"),
    ("repair", "1", "--applied", "--reason", "x"),
)
ONE = {"01_a.up.sql": "create table a ();\n", "01_a.down.sql": "drop table a;\n"}


def history(migrate: Migrate) -> list[tuple[object, ...]]:
    return migrate.database.rows("select version from migration_versions order by 1")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_directory_without_migrations_is_an_error(
    migrate: Migrate, command: tuple[str, ...]
) -> None:
    result = migrate(*command, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (4, "empty-directory")


@pytest.mark.parametrize("command", [("up",), ("status", "--check"), ("verify",)], ids=" ".join)
def test_a_directory_may_be_empty_if_that_is_said(
    migrate: Migrate, command: tuple[str, ...]
) -> None:
    assert migrate(*command, "--allow-empty").exit_code == 0
    assert migrate(*command, environ={"MIGRATOR_ALLOW_EMPTY": "1"}).exit_code == 0


@pytest.mark.parametrize("command", [("up",), ("status", "--check"), ("verify",)], ids=" ".join)
@pytest.mark.parametrize("others", [{}, {"02_b.up.sql": "select 1;"}], ids=["empty", "other"])
def test_a_directory_without_the_file_of_any_applied_version_is_an_error(
    migrate: Migrate,
    write: Write,
    tmp_path: Path,
    command: tuple[str, ...],
    others: dict[str, str],
) -> None:
    write({**ONE, "03_c.up.sql": "", "03_c.down.sql": ""})
    assert migrate("up").exit_code == 0
    other = tmp_path / "other"
    other.mkdir()
    for name, text in others.items():
        (other / name).write_text(text)
    result = migrate(*command, "--allow-empty", dir=other)
    assert result.exit_code == 4
    if "--check" not in command:
        assert "none of the 2 applied migrations has a file" in result.stderr
    assert history(migrate) == [("01_a",), ("03_c",)]


def test_down_reverts_with_the_stored_script_from_a_directory_that_may_be_empty(
    migrate: Migrate, write: Write, tmp_path: Path
) -> None:
    write(ONE)
    assert migrate("up").exit_code == 0
    (tmp_path / "empty").mkdir()
    assert migrate("down", "--allow-empty", dir=tmp_path / "empty").exit_code == 0
    assert history(migrate) == []


def test_a_health_check_fails_on_an_empty_directory(migrate: Migrate) -> None:
    url = migrate.database.url
    with pytest.raises(EmptyDirectoryError):
        migrator.status(migrate.directory, database_url=url)
    assert migrator.status(migrate.directory, database_url=url, allow_empty=True).is_current


@pytest.mark.parametrize("command", [("up",), ("verify", "--offline")], ids=" ".join)
def test_ignored_files_that_look_like_migrations_are_named_once(
    migrate: Migrate, write: Write, command: tuple[str, ...]
) -> None:
    write({**ONE, "02_b.up.pgsql": ""})
    said = "warning: ignored, although they look like migrations: 02_b.up.pgsql"
    assert migrate(*command).stderr.count(said) == 1


def test_an_empty_directory_error_names_what_looks_like_a_migration(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.pgsql": ""})
    assert "01_a.up.pgsql (name it 01_a.up.sql)" in migrate("up").stderr


def test_verify_fix_renames_and_changes_no_byte(migrate: Migrate, write: Write) -> None:
    text = "\ufeffdrop table a;\r\n"
    write({"1_add.up.sql": "create table a ();\r\n", "1_drop.down.sql": text})
    before = migrate("verify", "--offline")
    assert (before.exit_code, "rename it to 1_add.down.sql" in before.stderr) == (4, True)
    result = migrate("verify", "--offline", "--fix", "--json")
    assert result.exit_code == 0
    old, new = (str(migrate.directory / f"1_{name}.down.sql") for name in ("drop", "add"))
    assert result.json["renamed"] == [{"from": old, "to": new}]
    assert f"renamed {old} to {new}" in result.stderr
    assert (migrate.directory / "1_add.down.sql").read_bytes() == text.encode()
    assert not (migrate.directory / "1_drop.down.sql").exists()


def test_verify_fix_tells_what_it_renamed_though_other_problems_are_left(
    migrate: Migrate, write: Write
) -> None:
    write({"1_a.up.sql": "", "1_b.down.sql": "", "x.sql": ""})
    result = migrate("verify", "--offline", "--fix")
    assert result.exit_code == 4
    assert re.search(r"renamed \S+/1_b.down.sql to \S+/1_a.down.sql", result.stderr)


def test_the_template_of_create_is_not_applied_before_it_is_written(migrate: Migrate) -> None:
    assert migrate("create", "add phone").exit_code == 0
    for command in ("up", "verify", "rehearse"):
        result = migrate(command)
        assert (result.exit_code, "the file is a draft" in result.stderr) == (4, True)
    up = migrate.directory / "01_add_phone.up.sql"
    up.write_text("create table phone ();\n")
    result = migrate("up")
    assert "01_add_phone.down.sql:1:1: the file is a draft" in result.stderr
    (migrate.directory / "01_add_phone.down.sql").write_text("drop table phone;\n")
    assert migrate("up").exit_code == 0

    up.write_text("create table phone (n int);\n")
    assert "migrator redo" in migrate("up").stderr
    assert migrate("redo").exit_code == 0
    assert migrate("up").exit_code == 0


def test_a_file_without_sql_runs_and_is_noted(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "-- nothing\n", "01_a.down.sql": ""})
    result = migrate("up")
    assert (result.exit_code, "note: 01_a has no SQL" in result.stderr) == (0, True)
    assert "note: 01_a has no SQL" in migrate("verify").stdout


def looping(place: Path) -> Path:
    (place / "a").symlink_to(place / "b")
    (place / "b").symlink_to(place / "a")
    return place / "a"


def dangling(place: Path) -> Path:
    (place / "a").symlink_to("nowhere")
    return place / "a"


def file(place: Path) -> Path:
    (place / "a").touch()
    return place / "a"


def under_a_file(place: Path) -> Path:
    return file(place) / "b"


def too_long(place: Path) -> Path:
    return place / ("a" * 300)


def without_permission(place: Path) -> Path:
    (place / "a").mkdir(mode=0)
    return place / "a"


@pytest.mark.parametrize(
    "command", [("up",), ("status",), ("verify", "--offline"), ("create", "x")]
)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (looping, "Too many levels of symbolic links"),
        (dangling, 'is a link to "nowhere", which does not exist'),
        (file, "Not a directory"),
        (under_a_file, "Not a directory"),
        (too_long, "File name too long"),
        pytest.param(
            without_permission,
            "Permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything"),
        ),
    ],
)
def test_a_path_that_is_no_directory_is_named_with_the_reason(
    migrate: Migrate,
    tmp_path: Path,
    command: tuple[str, ...],
    make: Callable[[Path], Path],
    reason: str,
) -> None:
    place = make(tmp_path)
    result = migrate(*command, dir=place)
    assert result.exit_code == 2
    assert str(place) in result.stderr
    assert reason in result.stderr


def test_links_in_the_directory_that_lead_nowhere_are_ignored_or_named(
    migrate: Migrate, write: Write
) -> None:
    directory = write(ONE)
    looping(directory)
    (directory / "c").symlink_to("nowhere")
    assert migrate("up").exit_code == 0
    assert migrate("verify").exit_code == 0
    (directory / "02_b.up.sql").symlink_to(directory / "a")
    result = migrate("up")
    assert result.exit_code == 4
    assert f"{directory}/02_b.up.sql cannot be read: Too many levels" in result.stderr
