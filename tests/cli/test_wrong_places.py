"""Every command from the wrong place: no wrong outcome, and the answer names the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.cli.main import main

from ..conftest import Migrate, Result, Write

pytestmark = pytest.mark.slow

Answer = tuple[int, str]  # the exit code, and how the message starts

NO_FILES: Answer = (4, 'error: there are no migration files in "')
NO_DIRECTORY: Answer = (2, 'error: the migrations directory "')
ELSEWHERE: Answer = (4, 'error: schema "hello" has no history, but schema "public" has one\n')
USUAL = (NO_FILES, NO_DIRECTORY, ELSEWHERE)
FINE: Answer = (0, "no findings\n")
SETTINGS: Answer = (0, "config ")
NO_TOOL: Answer = (0, "no table of another migration tool was found\n")
CREATED: Answer = (0, "/")

PLACES = ("empty directory", "missing directory", "second history")
TABLE: dict[str, tuple[Answer, Answer, Answer]] = {
    "up": USUAL,
    "up --dry-run": USUAL,
    "up --out-of-order --trace": USUAL,
    "up --plan {plan}": USUAL,
    "down": USUAL,
    "down --all --dry-run": USUAL,
    "down --from-files": USUAL,
    "redo": USUAL,
    "status": USUAL,
    "status --check": USUAL,
    "rehearse": USUAL,
    "rehearse --on-target": USUAL,
    "rehearse --from-target": USUAL,
    "rehearse --save {new}": USUAL,
    "drift": USUAL,
    "dump": USUAL,
    "dump --output {new}": USUAL,
    # It starts a directory, and asks no database.
    "create x": (CREATED, CREATED, CREATED),
    "verify": USUAL,
    "verify --fix": USUAL,
    "verify --schema-file {new}": USUAL,
    "renumber": USUAL,
    "renumber --dry-run": USUAL,
    "verify --offline": (NO_FILES, NO_DIRECTORY, (0, "1 migration is valid\n")),
    "doctor": (
        FINE,
        (0, "not checked: allow-unused: the migrations directory"),
        (4, 'Unusable history (history)\n  schema "hello" has no history'),
    ),
    "squash --to 1 --no-data": USUAL,
    "baseline 1": USUAL,
    "baseline 1 --unchecked": USUAL,
    "adopt": (NO_TOOL, NO_TOOL, ELSEWHERE),
    "repair 1 --applied --reason x": USUAL,
    "repair 1 --accept --reason x": USUAL,
    "log": USUAL,
    "log --version 1": USUAL,
    "config": (SETTINGS, SETTINGS, SETTINGS),
}
# They take neither a directory nor a database.
OTHERS = {"help", "version", "completion"}
FILES = {"01_a.up.sql": "create table public.a ();\n", "01_a.down.sql": "drop table public.a;\n"}
TABLES = """
select relnamespace::regnamespace::text || '.' || relname
from pg_class
where relkind = 'r' and relnamespace::regnamespace::text in ('public', 'hello')
order by 1
"""


def ran(migrate: Migrate, tmp_path: Path, place: str, command: str) -> Result:
    """Run a command from a place, after 01_a was applied from the right one."""
    assert migrate("rehearse", "--save", tmp_path / "plan").exit_code == 0
    assert migrate("up").exit_code == 0
    names = {"empty directory": "empty", "missing directory": "missing"}
    directory = tmp_path / names.get(place, "migrations")
    if place == "empty directory":
        directory.mkdir()
    elif place == "second history":
        name = migrate.database.name
        migrate.database.execute("create schema hello")
        migrate.database.execute(f"alter database {name} set search_path = hello")
    arguments = command.format(plan=tmp_path / "plan", new=tmp_path / "new").split()
    return migrate(*arguments, dir=directory)


@pytest.mark.parametrize("command", TABLE)
@pytest.mark.parametrize("place", PLACES)
def test_a_command_from_the_wrong_place_answers_and_changes_nothing(
    migrate: Migrate, write: Write, tmp_path: Path, place: str, command: str
) -> None:
    write(FILES)
    result = ran(migrate, tmp_path, place, command)
    code, start = TABLE[command][PLACES.index(place)]
    said = result.stderr or result.stdout
    assert (result.exit_code, said[: len(start)]) == (code, start), said
    kept = ["a", "migration_log", "migration_repeatables", "migration_versions"]
    assert migrate.database.rows(TABLES) == [(f"public.{name}",) for name in kept]
    assert migrate.database.rows("select version from public.migration_versions") == [("01_a",)]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["empty directory", "missing directory"])
def test_a_second_directory_that_is_wrong_is_told_like_an_only_one(
    migrate: Migrate, write: Write, tmp_path: Path, place: str
) -> None:
    write(FILES)
    assert ran(migrate, tmp_path, "the right one", "config").exit_code == 0
    second = tmp_path / "second"
    for command, answers in TABLE.items():
        if place == "empty directory":
            second.mkdir(exist_ok=True)
        arguments = command.format(plan=tmp_path / "plan", new=tmp_path / "new").split()
        result = migrate("--dir", second, *arguments)
        code, start = answers[PLACES.index(place)]
        said = result.stderr or result.stdout
        assert (result.exit_code, said[: len(start)]) == (code, start), (command, said)
        assert (start not in (NO_FILES[1], NO_DIRECTORY[1])) or f'"{second}"' in said
        for name in ("02_x.up.sql", "02_x.down.sql"):  # of `create`
            (migrate.directory / name).unlink(missing_ok=True)
    assert migrate.database.rows("select version from public.migration_versions") == [("01_a",)]


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_redo_does_not_put_another_migration_of_the_same_number_in_place(
    migrate: Migrate, write: Write, option: str
) -> None:
    write(FILES)
    assert migrate("up").exit_code == 0
    for name in FILES:
        (migrate.directory / name).unlink()
    write({"01_z.up.sql": "create table public.z ();\n", "01_z.down.sql": ""})
    result = migrate("redo", option)
    assert "error: 01_a is applied, but file number 1 is now 01_z" in result.stderr
    assert result.exit_code == 4
    assert migrate.database.rows("select version from public.migration_versions") == [("01_a",)]


def test_every_command_is_in_the_table() -> None:
    assert {command.split()[0] for command in TABLE} | OTHERS == set(main.commands)
