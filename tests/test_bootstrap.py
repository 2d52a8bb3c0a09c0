"""The Makefile and `.ci/venv`: options reach the program, and each refusal is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from migrator.cli.main import main

from .conftest import PROJECT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")

ANNOUNCEMENT = "no DATABASE_* or PG* variable is set: using the embedded PostgreSQL"

OLD_PYTHON = """#!/bin/sh
case "$*" in *python_version*) echo 3.9.2 ;; *) exit 1 ;; esac
"""
PYTHON_WITHOUT_VENV = """#!/bin/sh
case "$*" in *venv*) exit 1 ;; *python_version*) echo 3.11.2 ;; *) exit 0 ;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose path has a space, where make has not run yet."""
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(PROJECT / name, checkout)
    shutil.copytree(PROJECT / ".ci", checkout / ".ci")
    return checkout


def make(checkout: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # The tests themselves may run under make, which passes its options on.
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def planned(checkout: Path, *arguments: str, **environ: str) -> str:
    """Return the last command that make would run, with single spaces."""
    done = make(checkout, "--dry-run", *arguments, **environ)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["migrate-up"], "up"),
        (["migrate-up", "to=05"], "up --to '05'"),
        (["migrate-up", "dry-run=1", "out-of-order=1"], "up --dry-run --out-of-order"),
        (["migrate-down", "steps=2", "yes=1"], "down --steps '2' --yes"),
        (["migrate-down", "all=1", "yes=0"], "down --all"),
        (["migrate-redo", "steps=3"], "redo --steps '3'"),
        (["migrate-status", "json=1", "check=1"], "--json status --check"),
        (["migrate-up", "dir=a b's"], "--dir 'a b'\\''s' up"),
        (["migrate-up", "dir=a b:c"], "--dir 'a b' --dir 'c' up"),
        (
            ["migrate-up", "env=staging", "config=a b.toml"],
            "--config 'a b.toml' --env 'staging' up",
        ),
        (["migrate-up", "args=--lock-wait 5s"], "up --lock-wait 5s"),
        (["migrate-log", "version=05", "limit=9"], "log --version '05' --limit '9'"),
        (
            ["migrate-repair", "version=05", "accept=1", 'reason=a "b" $HOME'],
            "repair --reason 'a \"b\" $HOME' --accept -- '05'",
        ),
        (
            ["migrate-repair", "version=03 04_a's", "accept=1", "reason=x"],
            "repair --reason 'x' --accept -- '03' '04_a'\\''s'",
        ),
        (["migrate-baseline", "version=05", "unchecked=1"], "baseline --unchecked -- '05'"),
        (["migrate-adopt", "tool=goose", "retire=1"], "adopt --retire -- 'goose'"),
        (["migrate-rehearse", "html=a b.html"], "rehearse --html 'a b.html'"),
        (["migrate-up", "version=05"], "up --version '05'"),  # which the program refuses
        (["migrate-up", "name=x"], "up --name 'x'"),
    ],
)
def test_options_reach_the_program(checkout: Path, arguments: list[str], expected: str) -> None:
    called = "MIGRATOR_CALLED_AS=make DATABASE_URL=embedded: .venv/bin/python -m migrator"
    assert planned(checkout, *arguments) == f"{called} {expected}"


def test_a_name_reaches_the_program_as_one_word(checkout: Path) -> None:
    command = planned(checkout, "migrate-create", "name=add phone; rm")
    called = "MIGRATOR_CALLED_AS=make .venv/bin/python -m migrator"
    assert command == f"{called} create -- 'add phone; rm'"


# These have no target: a user of make has `make help`, and the shell completes for `migrator`.
COMMANDS = main.commands.keys() - {"help", "version", "completion"}


@pytest.mark.parametrize(
    ("command", "parameter"),
    [
        pytest.param(name, parameter, id=f"{name}-{parameter.name}")
        for name in sorted(COMMANDS)
        for parameter in main.commands[name].params
        if parameter.name != "database_url"  # make has DATABASE_URL
    ],
)
def test_every_option_of_a_command_is_one_of_make(
    checkout: Path, command: str, parameter: click.Parameter
) -> None:
    option = max(parameter.opts, key=len).removeprefix("--")
    needed = {"create": ["name=n"], "repair": ["version=5"], "baseline": ["version=5"]}
    line = planned(checkout, f"migrate-{command}", *needed.get(command, []), f"{option}=7")
    given = f"--{option}" if isinstance(parameter, click.Option) else "-- '7'"
    assert given in line


@pytest.mark.parametrize(
    ("target", "example"),
    [
        ("migrate-create", "name=add_phone"),
        ("migrate-repair", 'version=05 accept=1 reason="…"'),
        ("migrate-baseline", "version=05"),
    ],
)
def test_a_missing_argument_is_asked_for(checkout: Path, target: str, example: str) -> None:
    name = example.partition("=")[0]
    done = make(checkout, target, **{name: "of the environment"})
    assert refused(checkout, done) == f"missing {name}: make {target} {example}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("migrate-up 5", "there is no target 5; did you mean: make migrate-up to=5"),
        ("migrate-up -- --to 5", "there is no target --to; did you mean: make migrate-up to=5"),
        (
            "migrate-up -- --to 5 --dry-run",
            "there is no target --to; did you mean: make migrate-up to=5 dry-run=1",
        ),
        (
            "migrate-status -- --check",
            "there is no target --check; did you mean: make migrate-status check=1",
        ),
        ("migrate-down -- --steps=2", "there is no option --steps; did you mean: steps=2"),
        ("migrate-down 2", "there is no target 2; did you mean: make migrate-down steps=2"),
        ("migrate-down 05_a", "there is no target 05_a; did you mean: make migrate-down to=05_a"),
        ("5 migrate-up", "there is no target 5; did you mean: make migrate-up to=5"),
        (
            "migrate-create add",
            "there is no target add; did you mean: make migrate-create name=add",
        ),
        ("migrate-log 5", "there is no target 5; did you mean: make migrate-log version=5"),
        ("migrate-status 5", "there is no target 5: see make help"),
        ("test 5", "there is no target 5: see make help"),
        ("up", "there is no target up; did you mean: make migrate-up"),
        ("nonsense", "there is no target nonsense: see make help"),
        ("migrate-down dry_run=1", "there is no option dry_run: see make help"),
        ("migrate-down step=3", "there is no option step: see make help"),
        ("migrate-up seed=1", "there is no option seed: see make help"),
        ("test to=5", "there is no option to: see make help"),
        ("migrate-down to=", "an option has no value: to"),
    ],
)
def test_what_make_would_ignore_is_refused(checkout: Path, arguments: str, said: str) -> None:
    assert refused(checkout, make(checkout, *arguments.split())) == said


def test_a_blank_option_is_refused(checkout: Path) -> None:
    done = make(checkout, "migrate-down", "steps= ")
    assert refused(checkout, done) == "an option has no value: steps"


def refused(checkout: Path, done: subprocess.CompletedProcess[str]) -> str:
    """Return why make refused to run anything."""
    reason, stopped = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert stopped.endswith("*** nothing was run.  Stop.")
    assert not (checkout / ".venv").exists()
    return reason.removeprefix("make: ")


@pytest.mark.parametrize(
    ("environ", "is_embedded"),
    [
        ({}, True),
        ({"DATABASE_URL": ""}, True),
        ({"PGDATA": "/var/lib/postgresql", "PGBINDIR": "/usr/bin"}, True),
        ({"DATABASE_URL": "postgresql:///app"}, False),
        ({"DATABASE_HOST": "db", "DATABASE_PASSWORD": "$(HOME) $x"}, False),
        ({"PGSERVICE": "app"}, False),
    ],
)
def test_without_a_database_the_embedded_server_is_used(
    checkout: Path, environ: dict[str, str], is_embedded: bool
) -> None:
    done = make(checkout, "--dry-run", "migrate-up", **environ)
    assert (ANNOUNCEMENT in done.stdout) == is_embedded
    assert ("DATABASE_URL=embedded: .venv" in done.stdout) == is_embedded


@pytest.mark.parametrize("name", ["migrator.toml", "other.toml"])
def test_the_database_of_the_configuration_file_is_used(checkout: Path, name: str) -> None:
    arguments = ["migrate-up", *([f"config={name}"] if name == "other.toml" else [])]
    file = checkout / name
    file.write_text('dir = "changes"\n')
    assert ANNOUNCEMENT in make(checkout, "--dry-run", *arguments).stdout
    file.write_text('[env.prod]\ndatabase-url = "postgresql://db/shop"\n')
    done = make(checkout, "--dry-run", *arguments)
    assert "embedded" not in done.stdout
    file.write_text('database-url = "embedded:"\n')
    done = make(checkout, "--dry-run", *arguments, MIGRATOR_PG_BINDIR="")
    assert ".ci/venv embedded" in done.stdout
    assert "DATABASE_URL=" not in done.stdout


def test_offline_verify_needs_no_database(checkout: Path) -> None:
    done = make(checkout, "--dry-run", "migrate-verify", "offline=1")
    assert "embedded" not in done.stdout


def test_help_names_every_target(checkout: Path) -> None:
    targets = re.findall(r"(?m)^([a-z][a-z0-9%-]*):(?!=)", (checkout / "Makefile").read_text())
    assert "migrate-up" in targets
    listed = re.findall(r"(?m)^  ([a-z][a-z0-9%-]*)  +[a-z]", make(checkout).stdout)
    assert sorted(listed) == sorted(targets)


def test_help_lists_the_commands_first(checkout: Path) -> None:
    done = make(checkout)
    migrations, _, development = done.stdout.partition("\nDevelopment:\n")
    for command in COMMANDS:
        assert f"\n  migrate-{command} " in migrations
    for target in ("help", "test", "check", "bench", "test-pg%", "clean"):
        assert f"  {target} " in development
    assert "migrate-" not in development
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


def missing(checkout: Path, python: str) -> str:
    """Run make with this program as Python, and return the one sentence that it prints."""
    program = checkout.parent / "python3"
    program.write_text(python)
    program.chmod(0o755)
    # Without uv, which would install what is missing.
    done = make(checkout, "migrate-up", PYTHON=str(program), PATH="/usr/bin:/bin")
    assert done.returncode != 0
    assert not (checkout / ".venv").exists()
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith(("make: ***", "creating"))
    ]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_an_old_python_is_refused(checkout: Path) -> None:
    said = missing(checkout, OLD_PYTHON)
    assert "Python 3.11 or newer is required" in said
    assert "is 3.9.2: install a newer one" in said


def test_a_python_without_venv_is_refused(checkout: Path) -> None:
    if shutil.which("uv", path="/usr/bin:/bin"):
        pytest.skip("uv does not need that module")
    assert "apt-get install python3-venv" in missing(checkout, PYTHON_WITHOUT_VENV)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_directory_that_is_not_writable_is_named(checkout: Path) -> None:
    checkout.chmod(0o555)
    done = make(checkout, "migrate-up")
    checkout.chmod(0o755)
    assert "is not writable" in done.stderr


def install(checkout: Path, python: str) -> None:
    """Put a program in the place of Python into a complete .venv."""
    program = checkout / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    for part in ("runtime", "embedded"):
        (checkout / ".venv" / f".installed-{part}").touch()


def test_a_second_run_installs_nothing(checkout: Path) -> None:
    install(checkout, 'echo called with "$@"')
    done = make(checkout, "migrate-up", "steps=1")
    assert done.stdout == "called with -m migrator up --steps 1\n"
    assert done.stderr.startswith(ANNOUNCEMENT)


def test_clean_removes_nothing_that_a_link_of_others_leads_to(checkout: Path) -> None:
    for name in ("kept", "migrator", "tests"):
        (checkout / name).mkdir()
    for target in (checkout / "kept", "/var/lib/migrator/../migrator", "kept"):
        (checkout / ".migrator").mkdir(exist_ok=True)
        (checkout / ".migrator" / "elsewhere").symlink_to(target)
        done = make(checkout, "clean")
        assert done.returncode == 0, done.stderr
        assert (checkout / "kept").exists()
        assert not (checkout / ".migrator").exists()


def test_the_program_learns_that_make_called_it(checkout: Path) -> None:
    install(checkout, 'echo "$MIGRATOR_CALLED_AS, $DATABASE_URL"')
    assert make(checkout, "migrate-status").stdout == "make, embedded:\n"
    assert make(checkout, "migrate-create", "name=a").stdout == "make, \n"


def test_make_exits_with_2_and_prints_the_exit_code_of_the_program(checkout: Path) -> None:
    install(checkout, "exit 4")
    done = make(checkout, "migrate-status")
    assert done.returncode == 2
    assert "migrate-status] Error 4" in done.stderr
