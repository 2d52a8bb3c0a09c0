"""Commands before and after a run: what they get, when they run, and what their failure does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Database, Migrate, Postgres, Write
from ..sessions import Runs, applied, wait_for

FILES = {
    "01_a.up.sql": "create table a ();",
    "01_a.down.sql": "drop table a;",
    "02_b.up.sql": "create table b ();",
    "02_b.down.sql": "drop table b;",
}
BROKEN = {"03_c.up.sql": "select 1/0;"}
# Appends what it reads to a file, with the name of its key.
RECORD = 'cat >> calls; echo "said $0"; test "$0" != fails'
Configure = Callable[[str], Path]


@pytest.fixture
def configure(tmp_path: Path, write: Write) -> Configure:
    """Write a configuration file beside which a command leaves its calls."""
    write(FILES)

    def configure(text: str) -> Path:
        file = tmp_path / "m.toml"
        file.write_text(text)
        return file

    return configure


def recording(*keys: str, fails: str = "") -> str:
    words = {key: ["sh", "-c", RECORD, "fails" if key == fails else key] for key in keys}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in words.items())


ALL = ("before-up", "after-up", "on-failure")


def calls(file: Path) -> list[Any]:
    found = file.with_name("calls")
    return [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []


def events(file: Path) -> list[str]:
    return [call["event"] for call in calls(file)]


def test_commands_run_before_and_after_a_run_and_get_its_result(
    configure: Configure, migrate: Migrate
) -> None:
    file = configure(recording(*ALL) + "[env.production]\n")
    result = migrate("--config", file, "--env", "production", "up")
    assert result.exit_code == 0, result
    before, after = calls(file)
    steps = [{"version": v, "direction": "up"} for v in ("01_a", "02_b")]
    common = {"command": "up", "database": migrate.database.name, "env": "production"}
    assert before.items() >= {**common, "event": "before-up"}.items()
    assert after.items() >= {**common, "event": "after-up"}.items()
    assert before["steps"] == after["steps"] == steps
    assert after["seconds"] >= 0
    assert before["backup"] is None
    lines = result.stderr.splitlines()
    order = ["before-up: said before-up", "applied  01_a", "after-up: said after-up"]
    found = [next(n for n, line in enumerate(lines) if line.startswith(each)) for each in order]
    assert found == sorted(found)


def test_their_output_is_a_line_of_json_on_stderr(configure: Configure, migrate: Migrate) -> None:
    file = configure(recording("before-up"))
    result = migrate("--config", file, "up", "--json")
    assert {"event": "remark", "text": "before-up: said before-up"} in [
        json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")
    ]
    assert result.json["steps"][0]["version"] == "01_a"


def test_without_anything_to_do_no_command_runs(configure: Configure, migrate: Migrate) -> None:
    file = configure(recording(*ALL))
    migrate("up")
    for arguments in (("up",), ("up", "--dry-run"), ("status",), ("down",), ("redo",)):
        assert migrate("--config", file, *arguments).exit_code == 0
    assert calls(file) == []


def test_a_failing_command_before_a_run_stops_it(configure: Configure, migrate: Migrate) -> None:
    file = configure(recording(*ALL, fails="before-up"))
    result = migrate("--config", file, "up", "--json")
    assert result.exit_code == 6
    error = result.json["error"]
    assert error["code"] == "hook"
    assert error["message"] == 'before-up "sh" failed with exit status 1; nothing was run'
    assert error["hint"].startswith("to see why, run it yourself: sh -c ")
    assert applied(migrate.database) == []
    assert events(file) == ["before-up", "on-failure"]
    assert calls(file)[1]["error"]["code"] == "hook"


@pytest.mark.parametrize("words", ['["/no/such/program"]', '["./m.toml"]', '["a\\u0000b"]'])
def test_a_command_that_cannot_be_run_stops_a_run(
    configure: Configure, migrate: Migrate, words: str
) -> None:
    file = configure(f"before-up = {words}")
    result = migrate("--config", file, "up")
    assert result.exit_code == 6
    assert "cannot be run: " in result.stderr
    assert applied(migrate.database) == []


def test_a_failing_command_after_a_run_is_a_warning(configure: Configure, migrate: Migrate) -> None:
    file = configure(recording(*ALL, fails="after-up"))
    result = migrate("--config", file, "up")
    assert result.exit_code == 0
    assert 'warning: after-up "sh" failed with exit status 1' in result.stderr
    assert events(file) == ["before-up", "after-up"]


@pytest.mark.parametrize("fails", ["", "on-failure"])
def test_a_failed_run_is_told_with_what_was_applied_and_the_error(
    configure: Configure, migrate: Migrate, write: Write, fails: str
) -> None:
    file = configure(recording(*ALL, fails=fails))
    write(BROKEN)
    result = migrate("--config", file, "up")
    assert result.exit_code == 1
    told = calls(file)[1]
    assert [step["version"] for step in told["steps"]] == ["01_a", "02_b"]
    assert told["event"] == "on-failure"
    assert told["error"]["message"] == "division by zero"
    assert told["error"]["sqlstate"] == "22012"
    assert ('warning: on-failure "sh" failed' in result.stderr) == bool(fails)


def test_a_failed_down_is_told_too(configure: Configure, migrate: Migrate, write: Write) -> None:
    file = configure(recording(*ALL))
    write({"02_b.down.sql": "select 1/0;"})
    migrate("up")
    assert migrate("--config", file, "down").exit_code == 1
    (told,) = calls(file)
    assert (told["event"], told["command"], told["steps"]) == ("on-failure", "down", [])


def test_a_run_that_finds_problems_calls_no_command(
    configure: Configure, migrate: Migrate, write: Write
) -> None:
    file = configure(recording(*ALL))
    write({"01_a.up.sql": "select 1; commit; select 1;"})
    assert migrate("--config", file, "up").exit_code == 4
    assert calls(file) == []


def test_the_commands_of_a_file_of_another_user_do_not_run(
    configure: Configure, migrate: Migrate
) -> None:
    for key in (*ALL, "backup-command"):
        file = configure(recording(key))
        file.chmod(0o666)
        result = migrate("--config", file, "up")
        assert result.exit_code == 2
        assert f"{key} is not run: other users may write to it" in result.stderr
    assert migrate("status", "--check").exit_code == 3


def test_a_command_can_connect_and_gets_no_other_secret(
    configure: Configure, database: Database, migrate: Migrate, postgres: Postgres
) -> None:
    role = f"hook_{database.name}"
    database.execute(f"create role {role} superuser login password 'pass word'")
    try:
        file = configure('before-up = ["sh", "-c", "env > calls"]\n')
        secret = {"DATABASE_PASSWORD": "other", "MIGRATOR_SCRATCH_URL": "x"}
        url = database.tcp_url(role, "pass word") + "?sslmode=disable"
        result = migrate("--config", file, "up", database=url, environ=secret)
        assert result.exit_code == 0, result
        found = dict(
            line.split("=", 1) for line in file.with_name("calls").read_text().splitlines()
        )
        assert found.items() >= {
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", str(postgres.server.tcp_port)),
            ("PGDATABASE", database.name),
            ("PGUSER", role),
            ("PGPASSWORD", "pass word"),
            ("PGSSLMODE", "disable"),
        }
        assert not secret.keys() & found.keys()
    finally:
        database.execute(f"drop owned by {role}; drop role {role}")


def test_a_program_that_goes_on_in_the_background_is_not_waited_for(
    configure: Configure, migrate: Migrate
) -> None:
    file = configure('before-up = ["sh", "-c", "sleep 600 & echo $! > calls; echo started"]\n')
    try:
        result = migrate("--config", file, "up")
        assert result.exit_code == 0
        assert "before-up: started" in result.stderr
    finally:
        os.kill(int(file.with_name("calls").read_text()), signal.SIGKILL)


def test_much_output_and_input_that_is_not_read_block_nothing(
    configure: Configure, migrate: Migrate
) -> None:
    line = "a line of some fifty characters as it is"
    script = f"i=0; while test $i -lt 3000; do echo $i {line}; i=$((i+1)); done; printf end"
    file = configure(f'after-up = ["sh", "-c", "{script}"]\n')
    result = migrate("--config", file, "up")
    assert result.exit_code == 0
    assert "after-up: 2999 a line" in result.stderr
    assert "after-up: end\n" in result.stderr


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def test_a_signal_ends_the_command_and_nothing_is_run(
    configure: Configure, runs: Runs, migrate: Migrate
) -> None:
    file = configure(
        'before-up = ["sh", "-c", "echo started; exec sleep 600"]\n' + recording("on-failure")
    )
    run = runs("--config", str(file), "up")
    run.says("before-up: started")
    run.signal(signal.SIGTERM)
    result = run.result()
    assert result.exit_code == 143
    assert "interrupted; nothing was run" in result.stderr
    assert events(file) == ["on-failure"]
    assert migrate("status", "--check").exit_code == 3


def test_of_two_runs_only_the_one_that_works_calls_its_commands(
    configure: Configure, runs: Runs
) -> None:
    script = "cat >> calls; while ! test -e go; do sleep 0.01; done"
    file = configure(f'before-up = ["sh", "-c", "{script}"]\n')
    first = runs("--config", str(file), "up")
    wait_for(lambda: calls(file))
    second = runs("--config", str(file), "up")
    second.says("waiting for another migrator")
    file.with_name("go").touch()
    assert first.result().exit_code == second.result().exit_code == 0
    assert events(file) == ["before-up"]
