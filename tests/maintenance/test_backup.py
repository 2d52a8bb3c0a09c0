"""`up --backup` writes a file that can be restored before anything runs, or runs nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import (
    Database,
    Migrate,
    Postgres,
    Write,
    find_program,
    process_environment,
)
from ..sessions import Runs, applied, ordinary_role, wait_for

FILES = {
    "01_a.up.sql": "create table a (id int); insert into a select generate_series(1, 1000);",
    "02_b.up.sql": "drop table a;",
}


@pytest.fixture
def backups(tmp_path: Path, migrate: Migrate, write: Write) -> Path:
    """A directory for backups of a database in which 01_a is applied and 02_b is pending."""
    write(FILES)
    assert migrate("up", "--to", "1").exit_code == 0
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def program(folder: Path, name: str, text: str, postgres: Postgres) -> dict[str, str]:
    """Put a program before the real one, and return the environment that finds it."""
    folder.mkdir(exist_ok=True)
    for each in ("pg_dump", "pg_restore"):
        real = find_program(each, postgres)
        body = text.replace("REAL", str(real)) if each == name else f'exec {real} "$@"'
        # The program of the server's own version comes before all others.
        version = f"echo '{each} (PostgreSQL) {postgres.version}'"
        (folder / each).write_text(
            f"#!/bin/sh\ncase $1 in --version) {version}; exit;; esac\n{body}\n"
        )
        (folder / each).chmod(0o755)
    return {"MIGRATOR_PG_BINDIR": str(folder)}


def test_a_backup_is_made_before_the_run_and_can_be_restored(
    backups: Path, migrate: Migrate, second_database: Database, postgres: Postgres
) -> None:
    result = migrate("up", "--backup", backups)
    assert result.exit_code == 0, result
    (file,) = backups.iterdir()
    stem = rf"{migrate.database.name}-\d{{8}}T\d{{6}}Z-01_a\.dump"
    assert re.fullmatch(stem, file.name)
    assert file.stat().st_mode & 0o777 == 0o600
    said = re.search(rf"backup: {re.escape(str(file))} \(\d+ (bytes|kB)\) in ", result.stderr)
    assert said
    assert said.start() < result.stderr.index("applied  02_b")
    restore = (find_program("pg_restore", postgres), f"--dbname={second_database.url}", file)
    # A newer pg_restore sets what an older server does not know, says so, and goes on.
    done = subprocess.run(restore, capture_output=True, text=True)
    assert done.returncode == 0 or "errors ignored on restore: 1" in done.stderr, done.stderr
    assert second_database.rows("select count(*) from a") == [(1000,)]
    assert applied(second_database) == ["01_a"]
    assert applied(migrate.database) == ["01_a", "02_b"]


def test_a_backup_is_in_the_log_and_in_the_json(backups: Path, migrate: Migrate) -> None:
    made = migrate("up", "--backup", backups, "--json").json["backup"]
    (file,) = backups.iterdir()
    size = file.stat().st_size
    assert made.items() >= {"path": str(file), "bytes": size, "command": None}.items()
    entry = next(e for e in migrate("log", "--json").json if e["action"] == "backup")
    assert (entry["version"], entry["outcome"]) == ("", "done")
    assert entry["reason"] == f"{file} ({size:,} bytes)"
    assert "  backup: done in " in migrate("log").stdout
    assert f"    made: {file} ({size:,} bytes)" in migrate("log").stdout


def test_the_log_names_the_whole_path_of_a_backup(
    backups: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(backups.parent)
    made = migrate("up", "--backup", backups.name, "--json").json["backup"]
    assert made["path"] == str(next(backups.iterdir()))


def test_with_nothing_pending_no_backup_is_made(backups: Path, migrate: Migrate) -> None:
    migrate("up")
    for arguments in (("up",), ("up", "--dry-run")):
        assert migrate(*arguments, "--backup", backups).exit_code == 0
    assert list(backups.iterdir()) == []


def test_a_backup_of_an_empty_database_names_no_version(
    tmp_path: Path, migrate: Migrate, write: Write
) -> None:
    write(FILES)
    assert migrate("up", "--backup", tmp_path).exit_code == 0
    assert len(list(tmp_path.glob("*-empty.dump"))) == 1


def assert_nothing_was_run(migrate: Migrate, backups: Path) -> None:
    assert applied(migrate.database) == ["01_a"]
    assert list(backups.glob("*")) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pg_dump", 'echo half; echo "no space" >&2; exit 1', "pg_dump could not back up"),
        ("pg_dump", "echo half; kill -9 $$", "pg_dump was ended by signal 9"),
        ("pg_dump", "echo this is no archive", "pg_restore cannot read the backup"),
        ("pg_restore", "exit 1", "pg_restore cannot read the backup"),
    ],
)
def test_without_a_backup_nothing_is_run(
    backups: Path,
    migrate: Migrate,
    postgres: Postgres,
    tmp_path: Path,
    name: str,
    text: str,
    message: str,
) -> None:
    environ = program(tmp_path / "bin", name, text, postgres)
    result = migrate("up", "--backup", backups, "--json", environ=environ)
    assert result.exit_code == 6, result
    error = result.json["error"]
    assert error["code"] == "backup"
    assert error["message"].startswith(message)
    assert error["message"].endswith("; nothing was run")
    assert_nothing_was_run(migrate, backups)


def test_a_full_disk_stops_before_anything_is_run(backups: Path, migrate: Migrate) -> None:
    migrate.database.execute(
        "create table big as select sha512(n::text::bytea) from generate_series(1, 20000) n"
    )
    command = (sys.executable, "-m", "migrator", "--dir", migrate.directory, "up", "--backup")
    limited = ("bash", "-c", 'ulimit -f 64; exec "$@"', "-", *command, backups)
    environ = process_environment({"DATABASE_URL": migrate.database.url})
    done = subprocess.run(limited, env=environ, capture_output=True, text=True)
    assert done.returncode == 6, done
    assert "pg_dump " in done.stderr
    assert "; nothing was run" in done.stderr
    assert_nothing_was_run(migrate, backups)


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_directory_that_cannot_be_written_stops_before_anything_is_run(
    backups: Path, migrate: Migrate, folder: str
) -> None:
    (backups.parent / "file").touch()
    result = migrate("up", "--backup", backups.parent / folder / "deeper")
    assert result.exit_code == 6
    assert "cannot write a backup to" in result.stderr
    assert_nothing_was_run(migrate, backups)


def test_a_table_that_the_role_may_not_read_stops_before_anything_is_run(
    backups: Path, migrate: Migrate
) -> None:
    migrate.database.execute(
        "grant all on all tables in schema public to public; revoke all on a from public"
    )
    with ordinary_role(migrate.database) as url:
        result = migrate("--trust-history-of", "postgres", "up", "--backup", backups, database=url)
    assert result.exit_code == 6
    assert "permission denied" in result.stderr
    assert "pg_read_all_data" in result.stderr
    assert_nothing_was_run(migrate, backups)


def test_the_password_is_in_no_argument(
    backups: Path, migrate: Migrate, postgres: Postgres, tmp_path: Path
) -> None:
    role = f"backup_{migrate.database.name}"
    migrate.database.execute(f"create role {role} superuser login password 'pass word'")
    try:
        text = 'echo "$@" > arguments; exec REAL "$@"'.replace("arguments", f"{tmp_path}/arguments")
        environ = program(tmp_path / "bin", "pg_dump", text, postgres)
        url = migrate.database.tcp_url(role, "pass word")
        result = migrate("up", "--backup", backups, database=url, environ=environ)
        assert result.exit_code == 0, result
        arguments = (tmp_path / "arguments").read_text()
        assert "--dbname=" in arguments
        assert "pass" not in arguments.replace("--no-password", "")
    finally:
        migrate.database.execute(f"drop owned by {role}; drop role {role}")


def test_a_signal_ends_the_backup_and_nothing_is_run(
    backups: Path,
    migrate: Migrate,
    postgres: Postgres,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = program(tmp_path / "bin", "pg_dump", "echo half; exec sleep 600", postgres)
    monkeypatch.setenv("MIGRATOR_PG_BINDIR", environ["MIGRATOR_PG_BINDIR"])
    run = runs("up", "--backup", str(backups))
    wait_for(lambda: [each for each in backups.iterdir() if each.stat().st_size])
    run.signal(signal.SIGINT)
    result = run.result()
    assert result.exit_code == 130
    assert "interrupted during the backup; nothing was run" in result.stderr
    assert_nothing_was_run(migrate, backups)


def test_of_two_runs_one_makes_a_backup(
    backups: Path,
    postgres: Postgres,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = f'while ! test -e {tmp_path}/go; do sleep 0.01; done; exec REAL "$@"'
    environ = program(tmp_path / "bin", "pg_dump", text, postgres)
    monkeypatch.setenv("MIGRATOR_PG_BINDIR", environ["MIGRATOR_PG_BINDIR"])
    first = runs("up", "--backup", str(backups))
    wait_for(lambda: list(backups.iterdir()))
    second = runs("up", "--backup", str(backups))
    second.says("waiting for another migrator")
    (tmp_path / "go").touch()
    assert first.result().exit_code == second.result().exit_code == 0
    assert len(list(backups.iterdir())) == 1


def test_on_a_terminal_the_bytes_are_counted(
    backups: Path, migrate: Migrate, postgres: Postgres, tmp_path: Path
) -> None:
    text = f'while ! test -e {tmp_path}/go; do sleep 0.01; done; exec REAL "$@"'
    environ = program(tmp_path / "bin", "pg_dump", text, postgres)
    command = [sys.executable, "-m", "migrator", "--dir", str(migrate.directory)]
    screen, terminal = os.openpty()
    with subprocess.Popen(
        [*command, "up", "--backup", str(backups)],
        env=process_environment({"DATABASE_URL": migrate.database.url, **environ}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ):
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(screen, 4096):
                shown += part
                if b"backup: " in shown:
                    (tmp_path / "go").touch()
        except OSError:
            pass
    os.close(screen)
    assert re.search(rb"\rbackup: 0 bytes written; the database has \d+ [kM]B\x1b\[K", shown)


# What the configuration says


def configuration(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "m.toml"
    file.write_text(text)
    return file


def test_a_command_of_the_configuration_makes_the_backup(
    backups: Path, migrate: Migrate, tmp_path: Path
) -> None:
    script = "cat > document; echo snapshot of $PGDATABASE"
    file = configuration(tmp_path, f'backup-command = ["sh", "-c", "{script}"]\n')
    result = migrate("--config", file, "up", "--json")
    assert result.exit_code == 0, result
    assert f"backup-command: snapshot of {migrate.database.name}" in result.stderr
    made = result.json["backup"]
    assert (made["path"], made["command"]) == (None, f"sh -c '{script}'")
    document = (tmp_path / "document").read_text()
    assert '"event": "backup-command"' in document
    entry = next(e for e in migrate("log", "--json").json if e["action"] == "backup")
    assert entry["reason"] == f"backup-command: sh -c '{script}'"


def test_a_command_that_fails_to_make_a_backup_stops_the_run(
    backups: Path, migrate: Migrate, tmp_path: Path
) -> None:
    file = configuration(tmp_path, 'backup-command = ["false"]\n')
    result = migrate("--config", file, "up", "--json")
    assert result.exit_code == 6
    error = result.json["error"]
    assert error["code"] == "backup"
    assert error["message"] == 'backup-command "false" failed with exit status 1; nothing was run'
    assert_nothing_was_run(migrate, backups)


def test_a_backup_can_be_required(backups: Path, migrate: Migrate, tmp_path: Path) -> None:
    file = configuration(tmp_path, "[env.production]\nrequire-backup = true\n")
    production = ("--config", file, "--env", "production")
    result = migrate(*production, "up")
    assert result.exit_code == 6
    assert "requires a backup (require-backup); nothing was run" in result.stderr
    assert_nothing_was_run(migrate, backups)
    assert migrate(*production, "up", "--dry-run").exit_code == 0
    assert migrate(*production, "up", "--backup", backups).exit_code == 0
    assert len(list(backups.iterdir())) == 1
    assert migrate(*production, "up").exit_code == 0  # which has nothing to do


def test_an_interrupted_script_resumes_after_a_backup(
    tmp_path: Path, migrate: Migrate, write: Write
) -> None:
    table = "create table t (id int); insert into t values (1), (1);"
    index = "create unique index concurrently i on t (id);"
    write({"01_t.up.sql": f"-- migrator: no-transaction\n{table}\n{index}"})
    assert migrate("up").exit_code == 1
    migrate.database.execute("delete from t")
    result = migrate("up", "--backup", tmp_path)
    assert result.exit_code == 0, result
    assert migrate.database.rows(
        "select indisvalid from pg_index where indexrelid = 'i'::regclass"
    ) == [(True,)]
