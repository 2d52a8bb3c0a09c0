"""The folder of an embedded server: what is in it, its locks, its socket.

    data         the cluster; made under another name, then renamed, so it is whole or absent
    log          what the server said since its last start
    gate         locked exclusively by whoever starts or stops the server
    users        locked shared by everyone who uses it; the last one to leave stops it
    alive        locked by the server's own processes, as long as one of them lives
    .s.PGSQL.…   the socket

All three locks are the kernel's (`flock`), so a `kill -9` leaves none behind, and no process id
is ever trusted to tell whether the server runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmbeddedServerError

_PATIENCE = 60.0  # seconds that a start, a stop or another process's start may take
_POLL = 0.004  # seconds between two looks
_SOCKET_PATH_LIMIT = 103  # bytes: macOS has room for 103, Linux for 107
_ROOTS_HOMES = Path("/var/lib/migrator")


@dataclass(frozen=True, slots=True)
class Server:
    """One embedded server: its binaries, its folder, who runs it and who may connect.

    Attributes:
        source: The directory that the binaries were found in.
        bindir: The directory that they run from: `source`, or a copy under `home`.
        version: The server's version, such as `18.6`.
        home: The folder described at the top of this module.
        account: The unprivileged user to run as; None when we are one ourselves.
        guests: The operating system's users that may connect, as `SUPERUSER`.
        options: Settings such as `fsync=off`, as `postgres -c` takes them.
        tcp_port: A port on 127.0.0.1 that asks every role for its password; None for no TCP.
    """

    source: Path
    bindir: Path
    version: str
    home: Path
    account: pwd.struct_passwd | None
    guests: tuple[str, ...]
    options: tuple[str, ...] = ()
    tcp_port: int | None = None

    @property
    def data(self) -> Path:
        """The data directory (`PGDATA`)."""
        return self.home / "data"

    @property
    def port(self) -> int:
        """The port of TCP, if any, which also names the socket."""
        return self.tcp_port or 5432

    @property
    def major(self) -> int:
        """The major version, `18` of `18.6`."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]


def elsewhere(project: Path) -> Path:
    """Give the folder, out of root's own, that stands for `.migrator` and is forgotten with it.

    It has a random name, so that another checkout in the same place does not meet its data.
    """
    folder = project / ".migrator"
    with explained():
        folder.mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        with contextlib.suppress(FileExistsError):
            (folder / "elsewhere").symlink_to(_ROOTS_HOMES / secrets.token_hex(8))
        return (folder / "elsewhere").readlink()


def make_home(server: Server) -> None:
    """Make the folder, 0700 and the account's; `.migrator` stays its project's owner's."""
    parent = server.home.parent
    for folder in (parent.parent, parent):
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)  # others may start at the same moment
            if server.account is not None:
                folder.chmod(0o755)  # whatever root's umask is, the account has to pass
    ignore = parent / ".gitignore"
    if parent.name == ".migrator" and not ignore.exists():
        ignore.write_text("*\n")
        if server.account is not None:
            owner = parent.parent.stat()
            for path in (parent, ignore):
                os.chown(path, owner.st_uid, owner.st_gid)
    server.home.mkdir(mode=0o700, exist_ok=True)
    _give(server, server.home)


def _give(server: Server, path: Path) -> None:
    """Make the account the owner of a file or folder."""
    if server.account is not None:
        os.chown(path, server.account.pw_uid, server.account.pw_gid, follow_symlinks=False)


@contextmanager
def opened(server: Server, name: str, flags: int = 0) -> Iterator[int]:
    """Open a file of the home folder, made if absent, and give its descriptor."""
    # The account may write to the folder: root follows no link that it might have put there.
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with explained():
        file = os.open(server.home / name, flags, 0o600)
    try:
        if server.account is not None:
            os.fchown(file, server.account.pw_uid, server.account.pw_gid)
        yield file
    finally:
        os.close(file)


@contextmanager
def locked(server: Server, name: str) -> Iterator[None]:
    """Hold one of the locks for a `with`, as soon as nobody else does."""
    with opened(server, name) as file:
        wait_for(lambda: try_exclusive(file), server, "be let go by another process")
        yield


def try_exclusive(file: int) -> bool:
    """Lock a file, unless somebody else has locked it; return whether it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lives(server: Server) -> bool:
    """Tell whether a process of the server is left, the postmaster or any child of it."""
    with opened(server, "alive") as alive:
        return not try_exclusive(alive)


def postmaster(server: Server) -> list[str]:
    """Read the lines of postmaster.pid, at least eight; none where the file is not complete.

    1 process, 2 data, 3 start, 4 port, 5 socket directory, 6 address, 7 shared memory, 8 state
    (src/include/utils/pidfile.h).
    """
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    return lines if len(lines) >= 8 else []


def answers(server: Server) -> bool:
    """Tell whether the server accepts connections."""
    lines = postmaster(server)
    if not lines or lines[7].strip() != "ready":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(f"{lines[4]}/.s.PGSQL.{lines[3]}")
        except OSError:  # killed, and its file left behind
            return False
    return True


def socket_directory(server: Server) -> Path:
    """Give the home folder, or a temporary one where a socket's address cannot hold its path."""
    path = os.fsencode(server.home / f".s.PGSQL.{server.port}")
    if len(path) <= _SOCKET_PATH_LIMIT and b"," not in path:  # libpq splits hosts at commas
        return server.home
    directory = Path(tempfile.mkdtemp(prefix="migrator-socket-"))
    _give(server, directory)
    return directory


def remove_socket_directory(directory: Path) -> None:
    """Remove the temporary folder of a socket, if it is one."""
    if _is_temporary(directory):
        shutil.rmtree(directory, ignore_errors=True)


def _is_temporary(directory: Path) -> bool:
    temporary = Path(tempfile.gettempdir())
    return directory.parent == temporary and directory.name.startswith("migrator-socket-")


def clear_remains(server: Server) -> None:
    """Remove what a killed server left: its process id may belong to another process by now.

    Only ours: a server that somebody started by hand, with a socket elsewhere, is left to
    PostgreSQL's own check.
    """
    lines = postmaster(server)
    if not lines or lives(server):
        return
    directory = Path(lines[4])
    if directory == server.home or _is_temporary(directory):
        (server.data / "postmaster.pid").unlink()
        remove_socket_directory(directory)


def wait_for(reached: Callable[[], bool], server: Server, what: str) -> None:
    """Look again and again until a state is reached; EmbeddedServerError after a minute."""
    deadline = time.monotonic() + _PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise failed(server, f"took longer than {_PATIENCE:.0f} s to {what}")
        time.sleep(_POLL)


def failed(server: Server, what: str) -> EmbeddedServerError:
    """Make an error that shows the end of the server's log."""
    log = server.home / "log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return EmbeddedServerError(
        f"the embedded PostgreSQL in {server.home} {what}",
        detail="\n".join(lines[-10:]) or None,
        hint=f"look into {log}; without its data, start afresh: rm -r {server.home}",
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error of the file system into an EmbeddedServerError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot use {error.filename}: {error.strerror}",
            hint="make it writable, run as its owner, or set DATABASE_URL",
        ) from error
