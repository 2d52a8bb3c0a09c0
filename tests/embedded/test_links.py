"""As root, the embedded server follows no link, and touches nothing that it did not make."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from migrator.embedded import descriptor
from migrator.embedded.home import Server
from migrator.embedded.server import joined, locate, start, stop
from migrator.embedded.server import url as server_url
from migrator.errors import EmbeddedServerError

from ..conftest import process_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="root follows no links; others may"),
]

OWNER = "nobody"


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder of root's, with a file that only root can read; nothing may change in it."""
    outside = Path(tempfile.mkdtemp(prefix="migrator-outside-"))
    outside.chmod(0o755)
    secret = outside / "secret"
    secret.write_text("the secret of root\n")
    secret.chmod(0o600)
    before = contents(outside)
    yield outside
    assert contents(outside) == before
    shutil.rmtree(outside)


def contents(folder: Path) -> list[tuple[object, ...]]:
    """Describe everything in a folder, and the folder."""
    return [
        (path, path.stat().st_uid, path.stat().st_mode, path.is_file() and path.read_bytes())
        for path in (folder, *sorted(folder.rglob("*")))
    ]


@pytest.fixture
def project() -> Iterator[Path]:
    """A project of an unprivileged user, who also owns the folder above it."""
    above = Path(tempfile.mkdtemp(prefix="migrator-project-"))
    above.chmod(0o755)
    project = above / "project"
    project.mkdir()
    give(above, project)
    yield project
    shutil.rmtree(above)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The `.migrator` of a server that has run before."""
    above = Path(tempfile.mkdtemp(prefix="migrator-project-"))
    above.chmod(0o755)
    give(above)
    with joined(locate(above)):
        pass
    yield above / ".migrator"
    shutil.rmtree(above)


@pytest.fixture
def server(project: Path, made: Path) -> Server:
    """A stopped server of the project that has run before."""
    subprocess.run(["cp", "-a", made, project], check=True)
    server = locate(project)
    assert server.account is not None
    assert server.account.pw_name == OWNER
    return server


def give(*paths: Path) -> None:
    """Give files and links to the owner of the project."""
    owner = pwd.getpwnam(OWNER)
    for path in paths:
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def lay(link: Path, target: Path) -> None:
    """Replace a file or folder by a link, as the owner of the project can."""
    if link.is_symlink() or link.exists():
        link.rename(link.with_name(f"{link.name}.before"))
    link.symlink_to(target)
    give(link)


def refused(server: Server, what: str = "it is a link") -> str:
    """Try to use a server; return what the error says."""
    with pytest.raises(EmbeddedServerError, match=what) as caught, joined(server):
        pass
    return f"{caught.value} {caught.value.detail}"


# Folders


@pytest.mark.parametrize("name", [".migrator", ".migrator/pg"])
def test_a_link_in_place_of_a_folder_is_refused_before_anything_is_made(
    project: Path, outside: Path, name: str
) -> None:
    server = locate(project)
    if name == ".migrator":
        lay(project / ".migrator", outside)
    else:
        (project / ".migrator").mkdir()
        give(project / ".migrator")
        lay(server.home, outside)
    refused(server)


def test_a_folder_above_the_project_that_becomes_a_link_is_refused(
    project: Path, outside: Path
) -> None:
    server = locate(project)
    lay(project, outside)
    refused(server)


def test_a_data_folder_that_is_a_link_is_refused(server: Server, outside: Path) -> None:
    lay(server.data, outside)
    refused(server)


def test_a_link_where_the_cluster_is_created_is_removed(project: Path, outside: Path) -> None:
    server = locate(project)
    server.home.mkdir(parents=True)
    give(server.home.parent, server.home)
    lay(server.home / "data.new", outside)
    with joined(server):
        assert read(server, "select 1") == 1


def test_a_folder_of_another_user_is_not_given_away(project: Path) -> None:
    server = locate(project)
    server.home.mkdir(parents=True)
    refused(server, "does not belong to the user nobody")
    assert server.home.stat().st_uid == 0


def test_a_link_to_the_system_folder_that_leads_elsewhere_is_refused(
    project: Path, outside: Path
) -> None:
    project.chmod(0o700)
    project.parent.chmod(0o700)
    root = pwd.getpwuid(0)
    os.chown(project.parent, root.pw_uid, root.pw_gid)  # so that its owner cannot enter it
    (project / ".migrator").mkdir()
    lay(project / ".migrator" / "elsewhere", outside)
    with pytest.raises(EmbeddedServerError, match="does not lead to a folder in /var/lib"):
        locate(project)


# Files


@pytest.mark.parametrize(
    "name",
    ["log", "gate", "users", "alive", "data/pg_hba.conf", "data/pg_ident.conf",
     "data/postmaster.pid"],
)  # fmt: skip
@pytest.mark.parametrize("lay_it", [lay, os.link], ids=["link", "hard link"])
def test_a_file_that_is_a_link_is_neither_written_nor_shown(
    server: Server, outside: Path, name: str, lay_it: Callable[[Path, Path], None]
) -> None:
    path = server.home / name
    path.unlink(missing_ok=True)
    if lay_it is lay:
        lay(path, outside / "secret")
        assert "secret of root" not in refused(server)
    else:
        os.link(outside / "secret", path)
        assert "secret of root" not in refused(server, "does not belong to the user nobody")
        path.unlink()


def test_a_fifo_in_place_of_a_file_does_not_stop_the_program(server: Server) -> None:
    for name in ("log", "data/postmaster.pid"):
        path = server.home / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        give(path)
        refused(server, "it is not what migrator created")
        path.unlink()


def test_an_error_shows_the_log_of_the_server_only(server: Server, outside: Path) -> None:
    lay(server.home / "log", outside / "secret")
    with pytest.raises(EmbeddedServerError) as caught:
        start(server)
    assert caught.value.detail is None


def test_a_gitignore_that_is_a_link_is_not_written(project: Path, outside: Path) -> None:
    (project / ".migrator").mkdir()
    give(project / ".migrator")
    lay(project / ".migrator" / ".gitignore", outside / "new")
    with joined(locate(project)):
        pass
    assert not (outside / "new").exists()


def test_a_file_that_exists_keeps_its_owner(project: Path) -> None:
    (project / ".migrator").mkdir()
    (project / ".migrator" / ".gitignore").touch()
    with joined(locate(project)):
        pass
    assert (project / ".migrator").stat().st_uid == 0
    assert (project / ".migrator" / ".gitignore").stat().st_uid == 0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_another_process_of_root_has_just_made_is_waited_for(project: Path, what: str) -> None:
    account = pwd.getpwnam(OWNER)
    path = project / what
    if what == "file":
        path.touch()
    else:
        path.mkdir()
    os.chown(path, 0, 0)
    threading.Timer(0.2, os.chown, (path, account.pw_uid, account.pw_gid)).start()
    opening = (
        descriptor.opened(path, account, creates=True)
        if what == "file"
        else descriptor.folder(path, account)
    )
    with opening as opened:
        assert os.fstat(opened).st_uid == account.pw_uid


# The running server


def rewrite_pid_file(server: Server, **changed: str) -> None:
    """Change lines of postmaster.pid, as the server's account can."""
    path = server.data / "postmaster.pid"
    lines = path.read_text().splitlines()
    for index, value in changed.items():
        lines[int(index.removeprefix("line"))] = value
    path.write_text("\n".join([*lines, ""]))


def read(server: Server, query: str) -> object:
    with psycopg.connect(server_url(server), autocommit=True) as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_process_is_signalled_only_if_it_is_the_server(server: Server) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with joined(server):
            pid = (server.data / "postmaster.pid").read_text().splitlines()[0]
            rewrite_pid_file(server, line0=str(bystander.pid))
            with pytest.raises(EmbeddedServerError, match=f"is not process {bystander.pid}"):
                stop(server)
            assert bystander.poll() is None
            rewrite_pid_file(server, line0=pid)
        bystander.kill()


def test_a_socket_in_another_folder_is_not_used(server: Server, outside: Path) -> None:
    with joined(server):
        rewrite_pid_file(server, line4=str(outside))
        with pytest.raises(EmbeddedServerError, match=r"no usable postmaster\.pid"):
            server_url(server)
        rewrite_pid_file(server, line4=str(server.home))


def test_the_socket_of_another_user_s_server_is_not_used(server: Server) -> None:
    with joined(server):
        own = server.home / f".s.PGSQL.{server.port}"
        own.rename(own.with_name("own"))
        listener = [sys.executable, "-c", LISTENER, str(own)]
        with subprocess.Popen(listener, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"ready\n"
                with pytest.raises(psycopg.OperationalError, match="requirepeer"):
                    read(server, "select 1")
            finally:
                process.kill()
                own.with_name("own").replace(own)


LISTENER = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""


def test_a_socket_folder_of_another_user_is_not_removed(server: Server) -> None:
    other = Path(tempfile.mkdtemp(prefix="migrator-socket-"))
    socket = other / f".s.PGSQL.{server.port}"
    socket.touch()
    with joined(server):
        real = server.home
        rewrite_pid_file(server, line4=str(other))
        stop(server)
        assert socket.exists()
        assert real.exists()
        start(server)
    shutil.rmtree(other)


# The owner himself


def test_the_owner_may_keep_the_server_behind_a_link_of_his_own(project: Path) -> None:
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    give(elsewhere)
    lay(project / ".migrator", elsewhere)
    done = subprocess.run(
        [sys.executable, "-c", USER, project, OWNER],
        env=process_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.glob("pg*/data"))


# Other users may not be able to read this Python and this checkout: everything is read before.
USER = """
import os, pwd, sys
from pathlib import Path
from migrator.embedded import server
user = pwd.getpwnam(sys.argv[2])
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
with server.running(Path(sys.argv[1])):
    pass
"""
