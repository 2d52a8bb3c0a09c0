"""`--wait` waits for a database that may come to be there, and for nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from migrator import config
from migrator.embedded.server import joined, locate
from migrator.errors import DatabaseConnectionError, UnavailableError
from migrator.events import Event, Remarked
from migrator.postgres import connection, waiting

from ..conftest import PROJECT, SETTINGS, Migrate, Postgres, Write, free_port, serve
from ..sessions import Runs, wait_for


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server that a test may stop."""
    with serve() as postgres:
        yield postgres


@pytest.fixture
def runs(postgres: Postgres, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    with postgres.database() as database:
        runs = Runs(database, directory, tmp_path)
        yield runs
        runs.end()


def refusal(url: str) -> DatabaseConnectionError:
    with pytest.raises(DatabaseConnectionError) as caught:
        connection.connect(config.Database(url=url)).close()
    return caught.value


@contextmanager
def peer_that(answers: bool) -> Iterator[int]:
    """Listen on a port; close each connection at once, or never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                peer.close()

        if answers:
            threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_a_database_that_is_created_meanwhile_is_waited_for(
    postgres: Postgres, runs: Runs, write: Write
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    with postgres.database() as database:
        pass  # its name is free
    run = runs("--wait", "1min", "up", url=database.url)
    said = run.says("waiting for the database")
    assert "up to 1 min 0 s: connection to server on socket" in said
    assert f'FATAL: database "{database.name}" does not exist' in said
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(f"create database {database.name}".encode())
        try:
            result = run.result()
            assert result.exit_code == 0, result
            assert result.stderr.count("waiting for the database") == 1
        finally:
            conn.execute(f"drop database {database.name} with (force)".encode())


def test_a_server_that_is_started_meanwhile_is_waited_for(runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": "create table a ();"})
    folder = Path(tempfile.mkdtemp(prefix="migrator-test-"))
    folder.chmod(0o755)  # as root, the server belongs to another user
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        server = locate(PROJECT, home=folder / "server")
        server = replace(server, options=SETTINGS, tcp_port=free_port(), clients=(user,))
        url = f"postgresql://postgres@/postgres?host={server.home}&port={server.port}"
        run = runs("up", "--wait=1min", url=url)
        run.says("No such file or directory")
        with joined(server):
            result = run.result()
    finally:
        shutil.rmtree(folder)
    assert result.exit_code == 0, result


def test_a_server_that_is_stopping_may_come_back(server: Postgres) -> None:
    with psycopg.connect(server.url()):
        postmaster = (server.server.data / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGTERM)  # it waits for the session to end
        wait_for(lambda: "shutting down" in refusal(server.url()).message)
        assert isinstance(refusal(server.url()), UnavailableError)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://127.0.0.1:1/x",
        "postgresql://127.0.0.1:1,localhost:1/x",
        "host=/nosuchdirectory dbname=x",
        "host=nosuchhost.invalid dbname=x",
    ],
)
def test_a_server_that_is_not_there_may_come(url: str) -> None:
    assert isinstance(refusal(url), UnavailableError)


@pytest.mark.parametrize("answers", [True, False])
def test_a_port_without_a_server_behind_it_may_get_one(answers: bool) -> None:
    with peer_that(answers) as port:
        url = f"postgresql://127.0.0.1:{port}/x?sslmode=disable&connect_timeout=2"
        assert isinstance(refusal(url), UnavailableError)


def test_a_wrong_password_is_an_error_at_once(postgres: Postgres) -> None:
    url = postgres.tcp_url("postgres", "nobody", "wrong")
    told: list[Event] = []
    with pytest.raises(DatabaseConnectionError, match="authentication failed") as caught:
        waiting.connect(config.Database(url=url), 600, told.append)
    assert not isinstance(caught.value, UnavailableError)
    assert told == []


def test_a_refusal_of_one_host_is_final_whatever_the_others_say(postgres: Postgres) -> None:
    hosts = f"127.0.0.1:1,127.0.0.1:{postgres.server.tcp_port}"
    for each in (hosts, ",".join(reversed(hosts.split(",")))):
        found = refusal(f"postgresql://nobody:wrong@{each}/postgres")
        assert not isinstance(found, UnavailableError), found.message


def test_the_wait_ends_and_says_what_it_waited_for() -> None:
    told: list[Event] = []
    with pytest.raises(UnavailableError, match="Connection refused") as caught:
        waiting.connect(config.Database(url="postgresql://127.0.0.1:1/x"), 0.01, told.append)
    assert caught.value.detail == "gave up after 10 ms (--wait)"
    # The first attempt may already take longer than that.
    assert all(isinstance(each, Remarked) for each in told)


def test_an_attempt_takes_no_longer_than_the_wait(postgres: Postgres) -> None:
    with peer_that(answers=False) as port:
        url = f"postgresql://127.0.0.1:{port}/x?sslmode=disable"
        with pytest.raises(UnavailableError, match="timeout expired"):
            waiting.connect(config.Database(url=url), 1, lambda _event: None)


@pytest.mark.parametrize("command", ["status", "verify", "log", "doctor", "drift", "up", "down"])
def test_every_command_waits(command: str, migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": "create table a ();"})
    unused = f"postgresql://127.0.0.1:{free_port()}/x"
    result = migrate(command, database=unused, environ={"MIGRATOR_WAIT": "10ms"})
    assert result.exit_code == 6
    assert "gave up after 10 ms (--wait)" in result.stderr


def test_a_signal_ends_the_wait(runs: Runs, write: Write) -> None:
    write({"01_a.up.sql": "create table a ();"})
    run = runs("--wait", "1h", "up", url=f"postgresql://127.0.0.1:{free_port()}/x")
    run.says("waiting for the database")
    run.signal(signal.SIGTERM)
    assert run.result().exit_code == 143


def test_the_time_may_be_in_the_configuration_file_and_must_be_one(
    tmp_path: Path, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    file = tmp_path / "m.toml"
    file.write_text('wait = "10ms"\n')
    unused = f"postgresql://127.0.0.1:{free_port()}/x"
    result = migrate("--config", file, "status", database=unused)
    assert "(--wait)" in result.stderr
    shown = migrate("--config", file, "config", "--json", database=unused)
    found = {each["key"]: each for each in shown.json["settings"]}
    assert (found["wait"]["value"], found["wait"]["origin"]) == ("10ms", f"{file}:1")
    file.write_text('wait = "soon"\n')
    result = migrate("--config", file, "status", database=unused)
    assert result.exit_code == 2
    assert f'{file}:1:1: invalid duration "soon" for --wait' in result.stderr
