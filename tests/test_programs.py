"""PostgreSQL's own programs are found, and get what they need to connect and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator import config, programs
from migrator.errors import DumpError

from .conftest import Database, Postgres

LOCK_TIMEOUT = 2000


def test_pg_dump_runs_read_only_with_the_options_of_the_user(
    postgres: Postgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = postgres.server.home / "log"
    # The server logs the options of a session when it refuses one of them.
    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=never")
    with pytest.raises(DumpError) as caught:
        programs.dump_schema(
            config.Database(database.url), postgres.version, lock_timeout=LOCK_TIMEOUT, role=None
        )
    assert 'invalid value for parameter "lock_timeout": "never"' in (caught.value.detail or "")
    monkeypatch.setenv("PGOPTIONS", "-c log_statement=all -c log_min_duration_statement=0")
    text = programs.dump_schema(
        config.Database(database.url), postgres.version, lock_timeout=LOCK_TIMEOUT, role=None
    )
    assert text.startswith("--")
    assert "READ ONLY" in log.read_text()


def test_pg_dump_gets_what_it_needs_to_connect_and_nothing_else(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindir = tmp_path / "bin"
    program(bindir, 99, otherwise="env")
    needed = {"PATH": os.environ["PATH"], "HOME": "/home/me", "TZ": "Asia/Tokyo",
              "PGPASSFILE": "/p", "PGSSLROOTCERT": "/c", "KRB5CCNAME": "/k"}  # fmt: skip
    secret = {"DATABASE_URL": "u", "DATABASE_PASSWORD": "p", "GITHUB_TOKEN": "t"}
    for name, value in (needed | secret).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATOR_PG_BINDIR", str(bindir))
    origin = config.Database(database.url, parameters={"password": "of the URL"})
    text = programs.dump_schema(origin, 99, lock_timeout=LOCK_TIMEOUT, role=None)
    shown = dict(line.split("=", 1) for line in text.splitlines())
    assert needed.items() | {("PGPASSWORD", "of the URL"), ("LC_ALL", "C")} <= shown.items()
    assert not secret.keys() & shown.keys()


# Finding pg_dump


def program(folder: Path, major: int, *, otherwise: str = "true") -> Path:
    folder.mkdir()
    path = folder / "pg_dump"
    version = f"echo 'pg_dump (PostgreSQL) {major}.1'"
    path.write_text(f"#!/bin/sh\ncase $1 in --version) {version} ;; *) {otherwise} ;; esac\n")
    path.chmod(0o755)
    return path


def test_the_oldest_pg_dump_that_can_read_the_server_is_used(tmp_path: Path) -> None:
    made = {major: program(tmp_path / str(major), major) for major in (90, 92, 95)}
    path = os.pathsep.join(str(made[major].parent) for major in (95, 90, 92))
    found = [programs.find_program("pg_dump", major, {"PATH": path}) for major in (90, 91, 93)]
    assert found == [made[90], made[92], made[95]]
    with pytest.raises(DumpError, match="no pg_dump found that can read PostgreSQL 96"):
        programs.find_program("pg_dump", 96, {"PATH": path})


def test_pg_dump_is_also_found_beside_the_configured_server(tmp_path: Path) -> None:
    expected = program(tmp_path / "bin", 90)
    environ = {"MIGRATOR_PG_BINDIR": str(expected.parent)}
    assert programs.find_program("pg_dump", 90, environ) == expected
