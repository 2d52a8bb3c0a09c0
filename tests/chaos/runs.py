"""Run the program as a process of its own, on a database of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg

from tests.conftest import Database, Postgres

_SAID = re.compile(r'^applied\s+(\S+) \(|"event": "step-finished", "version": "([^"]+)"', re.M)


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of the program ended; the code is the negative number of a deadly signal."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    as_json: bool = False

    def __str__(self) -> str:
        return f"exit code {self.code} in {self.seconds:.2f} s\n{self.stdout}{self.stderr}".rstrip()

    @property
    def said(self) -> list[str]:
        """The versions that it said were applied, in order."""
        return [plain or document for plain, document in _SAID.findall(self.stderr)]


@contextmanager
def database(postgres: Postgres) -> Iterator[Database]:
    """Create a database for a `with`, on connections of its own: the server may be restarted."""
    name = f"chaos_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        create = f"create database {name} template template0{postgres.strategy}"
        conn.execute(create.encode())
    try:
        yield Database(postgres, name)
    finally:
        with psycopg.connect(postgres.url(), autocommit=True) as conn:
            conn.execute(f"drop database {name} with (force)".encode())


def options(random: Random) -> list[str]:
    attempts = random.choice(["2", "10"])
    as_json = random.choice([[], [], [], ["--json"]])
    return [*as_json, "--lock-timeout", "200ms", "--lock-attempts", attempts]


@contextmanager
def running(
    package: Path, directory: Path, url: str, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """Start `migrator up`; have it end with the `with`."""
    command = [sys.executable, "-X", "faulthandler", "-m", "migrator", "--dir", str(directory)]
    process = subprocess.Popen(
        [*command, "up", *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(package), "DATABASE_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait(process: subprocess.Popen[str], longest: float, started: float) -> Run:
    """Wait for a run; one that hangs is asked where, and its code is then that of SIGABRT."""
    try:
        stdout, stderr = process.communicate(timeout=longest)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        stdout, stderr = process.communicate()
    as_json = isinstance(process.args, list) and "--json" in process.args
    return Run(process.returncode, stdout, stderr, time.monotonic() - started, as_json)
