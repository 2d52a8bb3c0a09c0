"""Several directories are one history: in every command, with numbers unique over all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import migrator
from migrator.errors import DirectoryError

from ..conftest import Migrate, Result, call
from .test_completion import completed
from .test_configuration import configure, settings

FIRST = {
    "01_a.up.sql": "create table public.a ();\n",
    "01_a.down.sql": "drop table public.a;\n",
    "03_c.up.sql": "create table public.c ();\n",
    "03_c.down.sql": "drop table public.c;\n",
}
SECOND = {
    "02_b.up.sql": "create table public.b ();\n",
    "02_b.down.sql": "drop table public.b;\n",
}
APPLIED = "select version from public.migration_versions order by ordinal"


class Several:
    """The program on one database, with two directories for one history."""

    def __init__(self, migrate: Migrate, first: Path, second: Path) -> None:
        self.migrate, self.first, self.second = migrate, first, second

    def __call__(self, *arguments: str | Path, environ: Mapping[str, str] | None = None) -> Result:
        """Run a command with both directories."""
        return self.migrate("--dir", self.second, *arguments, dir=self.first, environ=environ)

    @property
    def applied(self) -> list[str]:
        """The versions in the order in which they were applied."""
        return [version for (version,) in self.migrate.database.rows(APPLIED)]


@pytest.fixture
def several(migrate: Migrate, tmp_path: Path) -> Several:
    """Both directories, with files: numbers 1 and 3 in the first, 2 in the second."""
    found = Several(migrate, migrate.directory, tmp_path / "dev")
    found.second.mkdir()
    for folder, files in ((found.first, FIRST), (found.second, SECOND)):
        for name, text in files.items():
            (folder / name).write_text(text)
    return found


def test_up_and_down_run_the_files_of_all_directories_by_number(several: Several) -> None:
    assert several("up").exit_code == 0
    assert several.applied == ["01_a", "02_b", "03_c"]
    states = [row["state"] for row in several("status", "--json").json["versions"]]
    assert states == ["applied"] * 3
    assert several("redo", "--yes").exit_code == 0
    assert several("down", "--steps", "2", "--yes").exit_code == 0
    assert several.applied == ["01_a"]
    assert several("down", "--from-files", "--yes").exit_code == 0
    assert several.applied == []


def test_verify_rehearse_and_drift_take_all_directories(several: Several) -> None:
    assert several("verify", "--offline", "--json").json["versions"] == 3
    rehearsed = several("rehearse", "--json").json["migrations"]
    assert [each["version"] for each in rehearsed] == ["01_a", "02_b", "03_c"]
    assert several("up").exit_code == 0
    assert several("verify").exit_code == 0
    assert several("drift").exit_code == 0
    assert several("doctor").exit_code in (0, 4)
    assert len(several("log", "--json").json) == 3


def test_baseline_and_repair_take_all_directories(several: Several) -> None:
    several.migrate.database.execute("create table public.a (); create table public.b ()")
    assert several("baseline", "2", "--yes").exit_code == 0
    assert several.applied == ["01_a", "02_b"]
    (several.second / "02_b.up.sql").write_text("create table public.b (x int);\n")
    assert several("repair", "2", "--accept", "--reason", "x", "--yes").exit_code == 0
    assert several("verify").exit_code == 0


def test_a_health_check_takes_several_directories(several: Several) -> None:
    assert several("up").exit_code == 0
    url = several.migrate.database.url
    found = migrator.status([several.first, str(several.second)], database_url=url)
    assert found.is_current
    assert [entry.version for entry in found.entries] == ["01_a", "02_b", "03_c"]
    assert not migrator.status(several.first, database_url=url).is_current


def test_without_a_directory_its_applied_versions_are_missing(several: Several) -> None:
    assert several("up").exit_code == 0
    result = several.migrate("verify", dir=several.first)
    assert (result.exit_code, "02_b is applied, but its file is missing" in result.stderr) == (
        4,
        True,
    )


def test_a_failure_names_the_directory_of_its_file(several: Several) -> None:
    (several.second / "02_b.up.sql").write_text("create table public.a ();\n")
    result = several("up")
    assert result.stderr.count(f"error: {several.second}/02_b.up.sql:1:1: ") == 1
    assert several.applied == ["01_a"]


@pytest.mark.parametrize("name", ["3_x", "03_c"])
def test_a_number_used_in_two_directories_is_refused_with_both_places(
    several: Several, name: str
) -> None:
    (several.second / f"{name}.up.sql").write_text("select 1;\n")
    for command in (("up",), ("verify", "--offline"), ("create", "x")):
        result = several(*command)
        assert result.exit_code == 4
        assert f"{several.first}/03_c.up.sql and {several.second}/{name}.up.sql both" in (
            result.stderr
        )
        assert "the next free number is " in result.stderr
    assert several.migrate.database.rows("select from pg_class where relname = 'a'") == []


def test_a_pair_whose_files_are_in_two_directories_is_refused(several: Several) -> None:
    (several.first / "03_c.down.sql").rename(several.second / "03_c.down.sql")
    result = several("verify", "--offline")
    assert f"error: {several.second}/03_c.down.sql has no up file" in result.stderr
    assert f"move it to {several.first}, where 03_c.up.sql is" in result.stderr
    assert result.exit_code == 4


def test_each_directory_has_to_have_migrations(several: Several) -> None:
    for path in several.second.iterdir():
        path.unlink()
    result = several("up")
    assert f'there are no migration files in "{several.second}"' in result.stderr
    assert result.exit_code == 4
    assert several("up", "--allow-empty").exit_code == 0
    several.second.rmdir()
    assert f'directory "{several.second}" does not exist' in several("status").stderr


@pytest.mark.parametrize("kind", ["twice", "link", "spelling"])
def test_the_same_directory_given_twice_is_refused(
    several: Several, tmp_path: Path, kind: str
) -> None:
    other = {
        "twice": several.first,
        "link": tmp_path / "link",
        "spelling": tmp_path / "dev" / ".." / "migrations",
    }[kind]
    if kind == "link":
        other.symlink_to(several.first)
    result = several.migrate("--dir", other, "up", dir=several.first)
    said = f'the migrations directories "{several.first}" and "{other}" are the same'
    assert (result.exit_code, said in result.stderr) == (2, True)
    with pytest.raises(DirectoryError):
        migrator.status([several.first, other], database_url=several.migrate.database.url)


def test_a_directory_inside_another_is_read_once_and_not_warned_of(several: Several) -> None:
    inside = several.first / "dev"
    several.second.rename(inside)
    result = several.migrate("--dir", inside, "up", dir=several.first)
    assert (result.exit_code, "warning" in result.stderr) == (0, False)
    assert several.applied == ["01_a", "02_b", "03_c"]
    assert "ignored, although" in several.migrate("status", dir=several.first).stderr


def test_what_is_ignored_is_named_with_its_directory(several: Several) -> None:
    (several.second / "04_d.up.pgsql").touch()
    (several.first / "05_e.up.pgsql").touch()
    said = (
        f"ignored, although they look like migrations: {several.first}/05_e.up.pgsql "
        f"(name it 05_e.up.sql), {several.second}/04_d.up.pgsql (name it 04_d.up.sql)"
    )
    assert said in several("verify", "--offline").stderr


def test_verify_fix_renames_in_all_directories(several: Several) -> None:
    for folder in (several.first, several.second):
        (folder / "01_a.UP.sql").write_text("create table public.a ();\n")
    (several.first / "01_a.up.sql").unlink()
    for path in (several.second / "02_b.up.sql", several.second / "02_b.down.sql"):
        path.unlink()
    result = several("verify", "--offline", "--fix")
    for folder in (several.first, several.second):
        assert f"renamed {folder}/01_a.UP.sql to {folder}/01_a.up.sql" in result.stderr
    assert "both have number 1" in result.stderr


def test_create_counts_all_directories_and_writes_into_the_first(several: Several) -> None:
    (several.second / "07_d.up.sql").write_text("select 1;\n")
    assert several("create", "x").stdout.splitlines() == [
        f"{several.first}/08_x.up.sql",
        f"{several.first}/08_x.down.sql",
    ]


def test_create_writes_into_the_directory_that_is_chosen(several: Several) -> None:
    written = several("create", "x", "--in", several.second).stdout.splitlines()
    assert written[0] == f"{several.second}/04_x.up.sql"
    environ = {"MIGRATOR_CREATE_IN": str(several.second)}
    for path in several.second.glob("04_x.*"):
        path.write_text("")
    assert several("create", "y", environ=environ).stdout.startswith(f"{several.second}/05_y")


def test_create_refuses_a_directory_that_is_not_read(several: Several, tmp_path: Path) -> None:
    result = several("create", "x", "--in", tmp_path / "other")
    assert f'"{tmp_path}/other" is not a migrations directory' in result.stderr
    assert f"({several.first}, {several.second})" in result.stderr
    assert result.exit_code == 2
    assert not (tmp_path / "other").exists()


def test_create_makes_a_second_directory_that_does_not_exist_yet(
    migrate: Migrate, tmp_path: Path
) -> None:
    (migrate.directory / "04_a.up.sql").touch()
    new = tmp_path / "new"
    result = migrate("--dir", new, "create", "x", "--in", new)
    assert result.stdout.startswith(f"{new}/05_x.up.sql\n")


# What names the directories


@pytest.fixture
def project(several: Several, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Several:
    """Both directories, in the working directory, as `migrations` and `dev`."""
    monkeypatch.chdir(tmp_path)
    return several


def valid(*arguments: str, **environ: str) -> int:
    """Return how many migrations `verify --offline` reads."""
    return int(call("verify", "--offline", "--json", *arguments, environ=environ).json["versions"])


def test_a_variable_holds_several_directories(project: Several) -> None:
    assert valid() == 2
    assert valid(MIGRATOR_DIR="migrations:dev") == 3
    assert valid(MIGRATOR_DIR="dev:") == 1
    assert valid("--dir", "dev", MIGRATOR_DIR="migrations:dev") == 1


def test_an_environment_of_the_file_adds_a_directory(project: Several) -> None:
    configure('dir = "migrations"\n[env.dev]\ndir = ["migrations", "dev"]\n')
    assert (valid(), valid("--env", "dev")) == (2, 3)
    assert valid("--env", "dev", "--dir", "dev") == 1
    assert settings("--env", "dev")["dir"] == (["migrations", "dev"], "file", "migrator.toml:3")
    assert settings()["dir"] == ("migrations", "file", "migrator.toml:1")
    assert re.search(r"(?m)^dir +migrations dev +", call("config", "--env", "dev").stdout)


def test_the_directories_of_a_file_are_relative_to_it(project: Several) -> None:
    configure('dir = ["../migrations", "../dev"]\n[create]\nin = "../dev"\n', "settings/x.toml")
    assert valid("--config", "settings/x.toml") == 3
    written = call("create", "x", "--config", "settings/x.toml").stdout
    assert written.startswith("settings/../dev/04_x.up.sql\n")


@pytest.mark.parametrize("value", ["[]", "[1]", '[["a"]]'])
def test_an_array_of_other_things_is_refused(project: Several, value: str) -> None:
    configure(f"dir = {value}\n")
    result = call("verify", "--offline")
    assert '"dir" takes a string or an array of strings, not an' in result.stderr
    assert result.exit_code == 2


def test_versions_are_completed_from_all_directories(project: Several) -> None:
    first, second = str(project.first), str(project.second)
    words = ("--dir", first, "--dir", second, "up", "--to", "")
    assert completed(project.first, *words) == ["01_a", "02_b", "03_c"]
