"""The Makefile and `.ci/venv`: options reach the program, and what is missing is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

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
    """A checkout in a path with a space, where make was never run."""
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(PROJECT / name, checkout)
    shutil.copytree(PROJECT / ".ci", checkout / ".ci")
    return checkout


def make(checkout: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # The tests may run under make themselves, which hands its options down.
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
    """Give the last command that make would run, with single blanks."""
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
        (["migrate-up", "args=--lock-wait 5s"], "up --lock-wait 5s"),
    ],
)
def test_options_reach_the_program(checkout: Path, arguments: list[str], expected: str) -> None:
    command = planned(checkout, *arguments)
    assert command == f"DATABASE_URL=embedded: .venv/bin/python -m migrator {expected}"


def test_a_name_reaches_the_program_as_one_word(checkout: Path) -> None:
    command = planned(checkout, "migrate-create", "name=add phone; rm")
    assert command == ".venv/bin/python -m migrator create -- 'add phone; rm'"


def test_a_name_is_asked_for(checkout: Path) -> None:
    done = make(checkout, "migrate-create", name="from the environment")
    assert done.returncode != 0
    assert "make migrate-create name=add_phone" in done.stderr
    assert not (checkout / ".venv").exists()


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
def test_the_embedded_server_is_for_those_who_name_no_database(
    checkout: Path, environ: dict[str, str], is_embedded: bool
) -> None:
    done = make(checkout, "--dry-run", "migrate-up", **environ)
    assert (ANNOUNCEMENT in done.stdout) == is_embedded
    assert ("DATABASE_URL=embedded: .venv" in done.stdout) == is_embedded


def test_an_offline_check_needs_no_database(checkout: Path) -> None:
    done = make(checkout, "--dry-run", "migrate-verify", "offline=1")
    assert "embedded" not in done.stdout


def test_help_names_every_target(checkout: Path) -> None:
    targets = re.findall(r"(?m)^([a-z][a-z0-9%-]*):(?!=)", (checkout / "Makefile").read_text())
    assert "migrate-up" in targets
    listed = re.findall(r"(?m)^  ([a-z][a-z0-9%-]*)  +[a-z]", make(checkout).stdout)
    assert sorted(listed) == sorted(targets)


def refuse(checkout: Path, python: str) -> str:
    """Run make with a program for Python, and give the one sentence that it says."""
    program = checkout.parent / "python3"
    program.write_text(python)
    program.chmod(0o755)
    # No uv, which would bring what is missing.
    done = make(checkout, "migrate-up", PYTHON=str(program), PATH="/usr/bin:/bin")
    assert done.returncode != 0
    assert not (checkout / ".venv").exists()
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith(("make: ***", "making"))
    ]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_an_old_python_is_refused(checkout: Path) -> None:
    said = refuse(checkout, OLD_PYTHON)
    assert "Python 3.11 or newer is needed" in said
    assert "is 3.9.2: install a newer one" in said


def test_a_python_without_venv_is_refused(checkout: Path) -> None:
    if shutil.which("uv", path="/usr/bin:/bin"):
        pytest.skip("uv makes environments without that module")
    assert "apt-get install python3-venv" in refuse(checkout, PYTHON_WITHOUT_VENV)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_is_named(checkout: Path) -> None:
    checkout.chmod(0o555)
    done = make(checkout, "migrate-up")
    checkout.chmod(0o755)
    assert "is not writable" in done.stderr


def test_a_second_run_installs_nothing(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").write_text('#!/bin/sh\necho called with "$@"\n')
    (checkout / ".venv" / "bin" / "python").chmod(0o755)
    for part in ("runtime", "embedded"):
        (checkout / ".venv" / f".installed-{part}").touch()
    done = make(checkout, "migrate-up", "steps=1")
    assert done.stdout == "called with -m migrator up --steps 1\n"
    assert done.stderr.startswith(ANNOUNCEMENT)


@pytest.mark.parametrize("option", ["dry_run=1", "step=3", "dryrun=1"])
def test_a_misspelled_option_runs_nothing(checkout: Path, option: str) -> None:
    done = make(checkout, "migrate-down", option)
    assert done.returncode == 2
    assert f"there is no option {option.partition('=')[0]}: see make help" in done.stderr


@pytest.mark.parametrize("option", ["to=", "steps= "])
def test_an_empty_option_runs_nothing(checkout: Path, option: str) -> None:
    done = make(checkout, "migrate-down", option)
    assert done.returncode == 2
    assert "an option is given without a value" in done.stderr
