"""The folder of an embedded server: what is in it, its locks, its socket.

    data         the cluster; created under another name, then renamed: complete or absent
    log          the server's log since its last start
    gate         locked exclusively to start or stop the server
    users        locked shared by every process that uses the server; the last one stops it
    alive        locked by the server's own processes, until the last of them ends
    .s.PGSQL.…   the socket

The locks are the kernel's (`flock`), so a `kill -9` releases them.  Whether the server runs is
never decided by a process id.
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

_TIMEOUT = 60.0  # seconds, for a start or stop, also of another process
_POLL = 0.004  # seconds
_SOCKET_PATH_LIMIT = 103  # bytes, on macOS; 107 on Linux
_SYSTEM_FOLDER = Path("/var/lib/migrator")


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded server: its binaries, its folder, the user that runs it, and its clients.

    Attributes:
        source: The directory in which the binaries were found.
        bindir: The directory from which they run: `source`, or a copy in `home`.
        version: Of the server, such as `18.6`.
        home: The folder that this module describes.
        account: The unprivileged user to run as; None if we are not root.
        clients: The operating system's users that may connect, as `SUPERUSER`.
        options: Settings such as `fsync=off`, for `postgres -c`.
        tcp_port: A port on 127.0.0.1, where roles log in by password; None for no TCP.
    """

    source: Path
    bindir: Path
    version: str
    home: Path
    account: pwd.struct_passwd | None
    clients: tuple[str, ...]
    options: tuple[str, ...] = ()
    tcp_port: int | None = None

    @property
    def data(self) -> Path:
        """The data directory (`PGDATA`)."""
        return self.home / "data"

    @property
    def port(self) -> int:
        """The TCP port, also part of the socket's name."""
        return self.tcp_port or 5432

    @property
    def major(self) -> int:
        """The major version, `18` of `18.6`."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]


def system_folder(project: Path) -> Path:
    """Return the folder that root uses instead of `.migrator`, which then holds a link to it.

    Its name is random, so a later checkout at the same path does not find its data.
    """
    folder = project / ".migrator"
    with file_errors():
        folder.mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        with contextlib.suppress(FileExistsError):
            (folder / "elsewhere").symlink_to(_SYSTEM_FOLDER / secrets.token_hex(8))
        return (folder / "elsewhere").readlink()


def make_home(server: Server) -> None:
    """Create the folder, mode 0700, owned by the account; the project's owner owns `.migrator`."""
    parent = server.home.parent
    for folder in (parent.parent, parent):
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)  # another process may do the same
            if server.account is not None:
                folder.chmod(0o755)  # the account must be able to pass, whatever umask root has
    ignore = parent / ".gitignore"
    if parent.name == ".migrator" and not ignore.exists():
        ignore.write_text("*\n")
        if server.account is not None:
            owner = parent.parent.stat()
            for path in (parent, ignore):
                os.chown(path, owner.st_uid, owner.st_gid)
    server.home.mkdir(mode=0o700, exist_ok=True)
    _chown(server, server.home)


def _chown(server: Server, path: Path) -> None:
    if server.account is not None:
        os.chown(path, server.account.pw_uid, server.account.pw_gid, follow_symlinks=False)


@contextmanager
def opened(server: Server, name: str, flags: int = 0) -> Iterator[int]:
    """Open a file of the home folder for a `with`, as a descriptor; create it if absent."""
    # The account can write to the folder: root must not follow a link in it.
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with file_errors():
        file = os.open(server.home / name, flags, 0o600)
    try:
        if server.account is not None:
            os.fchown(file, server.account.pw_uid, server.account.pw_gid)
        yield file
    finally:
        os.close(file)


@contextmanager
def locked(server: Server, name: str) -> Iterator[None]:
    """Wait for one of the locks, and hold it exclusively for a `with`."""
    with opened(server, name) as file:
        wait_for(lambda: try_exclusive(file), server, "be released by another process")
        yield


def try_exclusive(file: int) -> bool:
    """Lock a file unless another process has; return whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_running(server: Server) -> bool:
    """Whether any process of the server exists, the postmaster or a child of it."""
    with opened(server, "alive") as alive:
        return not try_exclusive(alive)


def postmaster(server: Server) -> list[str]:
    """Return the lines of postmaster.pid, at least eight; none if it is absent or incomplete.

    0 pid, 1 data, 2 start time, 3 port, 4 socket directory, 5 address, 6 shared memory, 7 state
    (src/include/utils/pidfile.h).
    """
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    return lines if len(lines) >= 8 else []


def is_ready(server: Server) -> bool:
    """Whether the server accepts connections."""
    lines = postmaster(server)
    if not lines or lines[7].strip() != "ready":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(f"{lines[4]}/.s.PGSQL.{lines[3]}")
        except OSError:  # the server was killed, which leaves its file
            return False
    return True


def socket_directory(server: Server) -> Path:
    """Return the home folder, or a temporary one if its path does not fit a socket address."""
    path = os.fsencode(server.home / f".s.PGSQL.{server.port}")
    if len(path) <= _SOCKET_PATH_LIMIT and b"," not in path:  # libpq splits hosts at commas
        return server.home
    directory = Path(tempfile.mkdtemp(prefix="migrator-socket-"))
    _chown(server, directory)
    return directory


def remove_socket_directory(directory: Path) -> None:
    """Remove the folder of the socket if it is a temporary one."""
    if _is_temporary(directory):
        shutil.rmtree(directory, ignore_errors=True)


def _is_temporary(directory: Path) -> bool:
    temporary = Path(tempfile.gettempdir())
    return directory.parent == temporary and directory.name.startswith("migrator-socket-")


def remove_stale_files(server: Server) -> None:
    """Remove the files of a killed server: their pid may belong to another process.

    Not those of a server that was started by hand, with its socket in another folder:
    PostgreSQL checks these itself.
    """
    lines = postmaster(server)
    if not lines or is_running(server):
        return
    directory = Path(lines[4])
    if directory == server.home or _is_temporary(directory):
        (server.data / "postmaster.pid").unlink()
        remove_socket_directory(directory)


def wait_for(reached: Callable[[], bool], server: Server, what: str) -> None:
    """Poll until a state is reached.

    Raises:
        EmbeddedServerError: It took more than a minute.
    """
    deadline = time.monotonic() + _TIMEOUT
    while not reached():
        if time.monotonic() > deadline:
            raise error_with_log(server, f"took longer than {_TIMEOUT:.0f} s to {what}")
        time.sleep(_POLL)


def error_with_log(server: Server, what: str) -> EmbeddedServerError:
    """Make an error with the last lines of the server's log."""
    log = server.home / "log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return EmbeddedServerError(
        f"the embedded PostgreSQL in {server.home} {what}",
        detail="\n".join(lines[-10:]) or None,
        hint=f"see {log}; to start over without its data: rm -r {server.home}",
    )


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn an error of the file system into an EmbeddedServerError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot use {error.filename}: {error.strerror}",
            hint="make it writable, run as its owner, or set DATABASE_URL",
        ) from error
