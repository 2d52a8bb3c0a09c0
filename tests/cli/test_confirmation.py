"""What changes a protected environment is confirmed by the name of its database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import Migrate, Write
from ..sessions import applied
from .test_commands import THREE, on_terminal, tables

PROTECTED = "[env.prod]\nprotected = true\n[env.dev]\n"
COMMANDS = (
    ("up", "--steps", "1"),
    ("down",),
    ("redo",),
    ("repair", "03", "--applied", "--reason", "x"),
    ("baseline", "03", "--unchecked"),
)


@pytest.fixture
def protected(migrate: Migrate, write: Write, monkeypatch: pytest.MonkeyPatch) -> Migrate:
    """Give a database where two of three migrations are applied, in a protected environment."""
    directory = write(THREE)
    assert migrate("up", "--steps", "2").exit_code == 0
    (directory.parent / "migrator.toml").write_text(PROTECTED)
    monkeypatch.chdir(directory.parent)
    monkeypatch.setenv("MIGRATOR_ENV", "prod")
    return migrate


def state(migrate: Migrate) -> tuple[list[str], list[str], int]:
    """Return what a command could change: tables, history and log."""
    log = migrate.database.rows("select count(*) from migration_log")[0][0]
    return tables(migrate), applied(migrate.database), log


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_a_terminal_a_protected_environment_needs_yes(
    protected: Migrate, command: tuple[str, ...]
) -> None:
    before = state(protected)
    result = protected(*command)
    assert (result.exit_code, result.stdout, state(protected)) == (2, "", before)
    name = protected.database.name
    said = f'the environment "prod" is protected: confirm that "{name}" is the right database'
    assert f"error: {said}; nothing was run" in result.stderr
    assert f"next: if it is, run: migrator --dir {protected.directory} {command[0]} --yes" in (
        result.stderr
    )
    assert protected(*command, "--json").json["error"]["code"] == "usage"

    assert protected(*command, environ={"MIGRATOR_ENV": "dev"}).exit_code == 0
    assert state(protected) != before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_yes_confirms(protected: Migrate, command: tuple[str, ...]) -> None:
    before = state(protected)
    assert protected(*command, "--yes").exit_code == 0
    assert state(protected) != before


def test_the_command_that_is_shown_confirms(protected: Migrate) -> None:
    result = protected("up", "--to", "03")
    shown = result.stderr.partition("run: migrator ")[2].split()
    assert shown == ["--dir", str(protected.directory), "up", "--yes", "--to", "03"]
    assert protected(*shown[2:]).exit_code == 0
    called_by_make = protected("down", "--steps", "2", environ={"MIGRATOR_CALLED_AS": "make"})
    assert "next: if it is, run: make migrate-down yes=1 steps=2 dir=" in called_by_make.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_on_a_terminal_the_name_of_the_database_is_asked_for(
    protected: Migrate, command: tuple[str, ...]
) -> None:
    before, name = state(protected), protected.database.name
    for answer in (b"y\n", b"\n", name.upper().encode() + b"\n", b"\4"):
        declined = on_terminal(protected, answer, *command)
        assert (declined.exit_code, state(protected)) == (130, before), declined
        assert f" on database {name} (socket /" in declined.stderr
        assert declined.stderr.endswith("aborted; nothing was run\n")
    agreed = on_terminal(protected, f"{name}\n".encode(), *command)
    assert agreed.exit_code == 0, agreed
    assert state(protected) != before


def test_nothing_is_asked_where_nothing_would_be_changed(protected: Migrate) -> None:
    for command in (("up",), ("down",), ("redo",)):
        assert protected(*command, "--dry-run").exit_code == 0
    for command in (("status",), ("verify",), ("log",), ("rehearse",)):
        assert protected(*command).exit_code == 0
    assert protected("up", "--yes").exit_code == 0
    assert protected("up").stdout == "nothing to do: all 3 migrations are applied\n"


def test_a_file_without_environments_may_be_protected(
    protected: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("migrator.toml").write_text("protected = true\n[env.dev]\nprotected = false\n")
    monkeypatch.delenv("MIGRATOR_ENV")
    result = protected("up")
    assert result.exit_code == 2
    assert "error: this configuration is protected: confirm that" in result.stderr
    assert protected("up", "--env", "dev").exit_code == 0
