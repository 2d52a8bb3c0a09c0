"""A program prints the password of each new connection."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from migrator.config import Command, Database
from migrator.errors import DatabaseConnectionError
from migrator.postgres import connection, password

from .. import conftest
from ..sessions import ordinary_role

Program = Callable[[str], Command]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Write a program in Python, which is run where it lies."""

    def program(text: str) -> Command:
        path = tmp_path / "token"
        path.write_text(f"#!{sys.executable}\nimport os, sys\n{text}\n")
        path.chmod(0o755)
        return Command(("./token", "an argument; echo $HOME"), tmp_path)

    return program


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b" two words \r\nexpires in 15 min\n", " two words "),
        ("sécret\n".encode(), "sécret"),
        (b"x" * 3000 + b"\n", "x" * 3000),
    ],
)
def test_the_first_line_is_the_password(program: Program, printed: bytes, expected: str) -> None:
    command = program(f"sys.stdout.buffer.write({printed!r})")
    assert password.password_of(command) == expected


def test_the_arguments_reach_the_program_without_a_shell(program: Program) -> None:
    assert password.password_of(program("print(sys.argv[1])")) == "an argument; echo $HOME"


def test_the_program_has_the_environment_without_passwords(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    for name in ("DATABASE_PASSWORD", "PGPASSWORD", "MIGRATOR_SCRATCH_URL"):
        monkeypatch.setenv(name, "s3cret")
    command = program("print(os.environ['AWS_PROFILE'], 's3cret' in os.environ.values())")
    assert password.password_of(command) == "prod False"


@pytest.mark.parametrize(
    ("text", "message", "detail"),
    [
        (
            "print('s3cret'); sys.exit('no session for s3cret\\n\\033[2J')",
            'password-command "./token" failed with exit status 1',
            "no session for ****\n\x1b[2J",
        ),
        ("sys.exit(7)", 'password-command "./token" failed with exit status 7', None),
        (
            "os.kill(os.getpid(), 9)",
            'password-command "./token" failed with signal 9',
            None,
        ),
        ("pass", "printed no password: its first line is empty", None),
        ("print(); print('s3cret')", "printed no password: its first line is empty", None),
        ("sys.stdout.buffer.write(b's3cret\\xff')", "its first line is not text", None),
        ("print('s3cret\\0')", "its first line is not text", None),
        ("while True: print('s3cret' * 1000)", "printed more than 64 kB", None),
    ],
)
def test_a_program_that_fails_is_reported_without_its_output(
    program: Program, text: str, message: str, detail: str | None
) -> None:
    with pytest.raises(DatabaseConnectionError) as caught:
        password.password_of(program(text))
    assert message in caught.value.message
    assert caught.value.detail == detail
    assert caught.value.hint == "to see why, run it yourself: ./token 'an argument; echo $HOME'"
    assert "s3cret" not in f"{caught.value!r}"


def test_a_program_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatabaseConnectionError) as caught:
        password.password_of(Command(("no-such-program",), tmp_path))
    assert "cannot be run: No such file or directory" in caught.value.message


def test_a_program_that_does_not_end_is_stopped(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = program("import time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    with pytest.raises(DatabaseConnectionError) as caught:
        password.password_of(command, limit=0.5)
    assert "did not finish within 0.5 s" in caught.value.message
    pid = int((command.directory / "pid").read_text() or 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_each_new_connection_runs_the_program_again(
    database: conftest.Database, program: Program
) -> None:
    with ordinary_role(database) as url:
        _, _, rest = url.partition("://")
        account, _, where = rest.partition("@")
        role, _, secret = account.partition(":")
        command = program(f"open('calls', 'a').write('x')\nprint({secret!r})")
        target = Database(url=f"postgresql://{role}@{where}", password_command=command)
        for expected in ("x", "xx"):
            with closing(connection.connect(target)) as conn:
                assert conn.info.user == role
            assert (command.directory / "calls").read_text() == expected
        with closing(connection.connect(Database(url=url, password_command=command))):
            assert (command.directory / "calls").read_text() == "xx", "the URL has a password"
