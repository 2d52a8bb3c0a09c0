"""Output that cannot be written: a full device, a pipe without a reader, a closed descriptor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import Database, Migrate, Write, process_environment
from tests.proxy import garbling
from tests.sessions import applied, holding, strangers, wait_for, waiting_for_a_lock

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")

FULL = "No space left on device"
LOST = f"the result cannot be written: {FULL}"


@pytest.fixture
def two(write: Write) -> Path:
    return write(
        {
            "01_a.up.sql": "create table a ();",
            "01_a.down.sql": "drop table a;",
            "02_b.up.sql": "create table b ();",
            "02_b.down.sql": "drop table b;",
        }
    )


class Shell:
    """Runs the program from a shell, as a user redirects it."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self._directory = directory

    def __call__(
        self,
        command: str,
        redirection: str = "",
        *,
        stdout: int = subprocess.PIPE,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        program = f"{shlex.quote(sys.executable)} -m migrator"
        return subprocess.run(
            f"{program} --dir {shlex.quote(str(self._directory))} {command} {redirection}",
            shell=True,
            env=process_environment({"DATABASE_URL": self.database.url, **(environ or {})}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def shell(database: Database, two: Path) -> Shell:
    return Shell(database, two)


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """A pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


# Standard output on a full device


READING = ["status", "verify --offline", "log", "up --dry-run", "drift", "doctor"]


@pytest.mark.parametrize("command", [*READING, "--help", "up --help", "--version"])
def test_a_result_on_a_full_device_is_one_error(shell: Shell, command: str) -> None:
    done = shell(command, "> /dev/full")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[-1] == f"error: {LOST}"
    assert [line for line in lines[:-1] if not line.startswith("database ")] == []


@pytest.mark.parametrize("command", ["status", "--version"])
def test_a_full_device_is_one_error_where_python_does_not_buffer(
    shell: Shell, command: str
) -> None:
    done = shell(command, "> /dev/full", environ={"PYTHONUNBUFFERED": "1"})
    assert (done.returncode, done.stderr) == (2, f"error: {LOST}\n")


@pytest.mark.parametrize("command", READING)
def test_a_json_result_on_a_full_device_is_one_error_in_a_line_of_json(
    shell: Shell, command: str
) -> None:
    done = shell(f"--json {command}", "> /dev/full")
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    error = json.loads(last)["error"]
    assert (error["code"], error["message"], error["detail"]) == ("usage", LOST, None)
    assert done.stderr.count(FULL) == 1


CHANGING = [
    ("up", "", "the migrations were run; see: migrator status"),
    ("baseline 2", "create table a (); create table b ()", "the versions were recorded; see"),
]


@pytest.mark.parametrize("as_json", ["", "--json "], ids=["text", "json"])
@pytest.mark.parametrize(("command", "setup", "kept"), CHANGING, ids=["up", "baseline"])
def test_what_was_done_is_kept_when_the_result_is_lost(
    shell: Shell, as_json: str, command: str, setup: str, kept: str
) -> None:
    shell.database.execute(setup)
    done = shell(f"{as_json}{command}", "> /dev/full")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert LOST in done.stderr
    assert kept in done.stderr
    assert applied(shell.database) == ["01_a", "02_b"]


def test_what_was_reverted_or_decided_is_kept_when_the_result_is_lost(
    shell: Shell, two: Path
) -> None:
    assert shell("up").returncode == 0
    (two / "01_a.up.sql").write_text("create table a (); select 1;")
    repaired = shell("repair 1 --accept --reason seen", "> /dev/full")
    assert repaired.returncode == 2
    assert "the decision was recorded; see: migrator log" in repaired.stderr
    assert shell("verify").returncode == 0
    reverted = shell("down", "> /dev/full")
    assert reverted.returncode == 2
    assert "the migrations were run; see: migrator status" in reverted.stderr
    assert applied(shell.database) == ["01_a"]


def test_the_files_that_were_written_are_named_when_the_result_is_lost(
    shell: Shell, two: Path
) -> None:
    done = shell("create c", "> /dev/full")
    assert done.returncode == 2
    assert sorted(path.name for path in two.glob("03_c.*")) == ["03_c.down.sql", "03_c.up.sql"]
    assert f"the files were written: {two}/03_c.up.sql, {two}/03_c.down.sql" in done.stderr


def test_a_run_with_nothing_to_do_does_not_claim_to_have_run_anything(shell: Shell) -> None:
    assert shell("up").returncode == 0
    done = shell("up", "> /dev/full")
    assert (done.returncode, "the migrations were run" in done.stderr) == (2, False)
    assert done.stderr.endswith(f"error: {LOST}\n")


@pytest.mark.parametrize(
    ("command", "code", "name"),
    [
        ("nosuch", 2, "usage"),
        ("up --nosuch", 2, "usage"),
        ("up --to 9", 2, "usage"),
        ("--database-url postgresql://127.0.0.1:1/x status", 6, "connection"),
    ],
)
def test_a_json_error_on_a_full_device_goes_to_stderr_and_keeps_its_code(
    shell: Shell, command: str, code: int, name: str
) -> None:
    done = shell(f"--json {command}", "> /dev/full")
    assert done.returncode == code, done.stderr
    assert json.loads(done.stderr)["error"]["code"] == name


def test_a_failed_statement_is_told_on_stderr_when_its_json_cannot_be_written(
    shell: Shell, write: Write
) -> None:
    write({"02_b.up.sql": "select 1 / 0;"})
    done = shell("--json up", "> /dev/full")
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert json.loads(last)["error"]["sqlstate"] == "22012"
    assert applied(shell.database) == ["01_a"]


# Standard error


LOSING_STDERR = ["2> /dev/full", "2>&-"]


@pytest.mark.parametrize("redirection", LOSING_STDERR)
@pytest.mark.parametrize("options", ["", "-vv", "--json"])
def test_a_run_whose_progress_cannot_be_written_is_not_stopped_by_it(
    shell: Shell, redirection: str, options: str
) -> None:
    done = shell(f"{options} up", redirection)
    assert done.returncode == 0
    if options == "--json":
        assert len(json.loads(done.stdout)["steps"]) == 2
    else:
        assert done.stdout.startswith("applied 2 migrations in ")
    assert applied(shell.database) == ["01_a", "02_b"]


@pytest.mark.parametrize("redirection", [*LOSING_STDERR, "> /dev/full 2>&1", ">&- 2>&-"])
@pytest.mark.parametrize("options", ["", "--json"])
def test_an_error_that_cannot_be_written_anywhere_keeps_its_code(
    shell: Shell, write: Write, redirection: str, options: str
) -> None:
    write({"02_b.up.sql": "select 1 / 0;"})
    assert shell(f"{options} up", redirection).returncode == 1
    assert shell(f"{options} up --nosuch", redirection).returncode == 2
    assert applied(shell.database) == ["01_a"]


def test_a_result_that_cannot_be_written_nor_reported_still_ends_with_2(shell: Shell) -> None:
    assert shell("up", "> /dev/full 2>&1").returncode == 2
    assert shell("--version", "> /dev/full 2>&1").returncode == 2
    assert applied(shell.database) == ["01_a", "02_b"]


# A pipe without a reader


@pytest.mark.parametrize("command", ["status", "--json status", "--help", "up --help", "--version"])
def test_a_pipe_without_a_reader_ends_the_program_quietly(
    shell: Shell, broken_pipe: int, command: str
) -> None:
    done = shell(command, stdout=broken_pipe)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_code_that_says_more_wins_over_that_of_a_pipe_without_a_reader(
    shell: Shell, broken_pipe: int
) -> None:
    assert shell("status --check", stdout=broken_pipe).returncode == 3


@pytest.mark.parametrize("options", ["", "-v", "--json"])
def test_a_run_whose_pipe_has_lost_its_reader_goes_on_to_its_end(
    shell: Shell, broken_pipe: int, options: str
) -> None:
    done = shell(f"{options} up", "2>&1", stdout=broken_pipe)
    assert done.returncode == 141
    assert applied(shell.database) == ["01_a", "02_b"]


@pytest.mark.parametrize("stderr", [subprocess.STDOUT, subprocess.DEVNULL], ids=["both", "stdout"])
@pytest.mark.parametrize("options", ["", "-v", "-vv", "--json", "--trace"])
def test_a_run_that_loses_its_reader_on_the_way_goes_on_to_its_end(
    database: Database, two: Path, options: str, stderr: int
) -> None:
    (two / "01_a.up.sql").write_text("create table a ();\nlock table gate;\n")
    database.execute("create table gate ()")
    command = [sys.executable, "-m", "migrator", "--dir", str(two), "up", *options.split()]
    with (
        holding(database, "lock table gate") as gate,
        subprocess.Popen(
            [*command, "--lock-timeout", "60s"],
            env=process_environment({"DATABASE_URL": database.url}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        assert process.stdout
        wait_for(lambda: waiting_for_a_lock(database))
        if stderr == subprocess.STDOUT and options != "--json":
            assert process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        gate.rollback()
        assert process.wait(30) == 141
    assert applied(database) == ["01_a", "02_b"]


# A bug of ours


@pytest.mark.parametrize("options", ["", "-v", "-vv", "--json", "--trace"])
@pytest.mark.parametrize("head", ["", "-- migrator: no-transaction\n"], ids=["", "outside"])
def test_an_exception_that_nobody_thought_of_is_told_as_a_bug_and_leaves_nothing_half_done(
    migrate_process: Migrate, write: Write, options: str, head: str
) -> None:
    write(
        {
            "01_a.up.sql": "create table a ();",
            "02_b.up.sql": f"{head}create domain b as int;",
            "03_c.up.sql": "create table c ();",
        }
    )
    database = migrate_process.database
    # The answer to a statement is not UTF-8, which no server sends.
    with garbling(database.url, b"CREATE DOMAIN", b"CREATE \xff\xff\xff\xff\xff\xff") as proxy:
        result = migrate_process("up", *options.split(), database=proxy.url)
    assert result.exit_code == 70
    told = "a bug in migrator: UnicodeDecodeError: "
    if options == "--json":
        assert result.json["error"]["code"] == "internal"
        assert result.json["error"]["message"].startswith(told)
    else:
        assert f"error: {told}" in result.stderr
        assert "what is committed is recorded; to see it, run: python -m migrator status" in (
            result.stderr
        )
    assert ("Traceback" in result.stderr) == (options == "-vv")
    wait_for(lambda: not strangers(database))
    # The server was further than the answers that were read, unless each one was waited for.
    found = {"01_a": "a", "02_b": "b", "03_c": "c"}
    names = database.rows("select typname from pg_type where typname in ('a', 'b', 'c') order by 1")
    assert [(found[version],) for version in applied(database)] == names[: 1 if head else None]
    assert migrate_process("up").exit_code == 0
    assert applied(database) == ["01_a", "02_b", "03_c"]


# A closed descriptor


@pytest.mark.parametrize("command", ["up", "--json up", "--version"])
@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stdout_is_like_the_null_device(
    shell: Shell, command: str, redirection: str
) -> None:
    done = shell(command, redirection)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    if "up" in command:
        assert applied(shell.database) == ["01_a", "02_b"]


def test_a_down_asks_nothing_where_stdin_is_closed(shell: Shell) -> None:
    assert shell("up").returncode == 0
    done = shell("down", "<&-")
    assert done.returncode == 0, done.stderr
    assert applied(shell.database) == ["01_a"]
