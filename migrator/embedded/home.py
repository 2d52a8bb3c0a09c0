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
import re
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmbeddedServerError
from . import descriptor
from .descriptor import Account, file_errors, folder, make_file, make_folder

_TIMEOUT = 60.0  # seconds, for a start or stop, also of another process
_POLL = 0.004  # seconds
_SOCKET_PATH_LIMIT = 103  # bytes, on macOS; 107 on Linux
_SYSTEM_FOLDER = Path("/var/lib/migrator")
_TEMPORARY = "migrator-socket-"
_PID_FILE = "postmaster.pid"
_LONGEST_PID_FILE = 10_000  # bytes
_LOG_TAIL = 10_000  # bytes
_PROC = Path("/proc")


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
    account: Account
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


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says: the account can write to it, so it is only believed if it fits."""

    pid: int
    socket_directory: Path
    is_ready: bool


def system_folder(project: Path) -> Path:
    """Return the folder that root uses instead of `.migrator`, which then holds a link to it.

    Its name is random, so a later checkout at the same path does not find its data.

    Raises:
        EmbeddedServerError: The link leads to another place.
    """
    parent = project / ".migrator"
    _make_project_folder(parent)
    link = parent / "elsewhere"
    with folder(parent) as descriptor, file_errors(link):
        with contextlib.suppress(FileExistsError):
            target = _SYSTEM_FOLDER / secrets.token_hex(8)
            os.symlink(target, link.name, dir_fd=descriptor)
        found = Path(os.readlink(link.name, dir_fd=descriptor))
    if found.parent != _SYSTEM_FOLDER or not re.fullmatch("[0-9a-f]{16}", found.name):
        raise EmbeddedServerError(
            f"{link} does not lead to a folder in {_SYSTEM_FOLDER}", hint=f"remove it: rm {link}"
        )
    return found.resolve()


def make_home(server: Server) -> None:
    """Create the folder, mode 0700, owned by the account; the project's owner owns `.migrator`."""
    parent = server.home.parent
    if parent.name == ".migrator":
        _make_project_folder(parent)
    else:
        for above in reversed([each for each in (parent, *parent.parents) if not each.exists()]):
            make_folder(above, 0o755, None)
    make_folder(server.home, 0o700, _ids(server.account))
    with folder(server.home, server.account):
        pass  # it belongs to the account


def _make_project_folder(path: Path) -> None:
    """Create `.migrator`, for the owner of the project; git is to ignore it."""
    with folder(path.parent) as project:
        status = os.fstat(project)
    owner = (status.st_uid, status.st_gid) if os.geteuid() == 0 else None
    make_folder(path, 0o755, owner)  # the account must be able to pass
    make_file(path / ".gitignore", "*\n", owner)


def _ids(account: Account) -> tuple[int, int] | None:
    return (account.pw_uid, account.pw_gid) if account else None


@contextmanager
def opened(server: Server, name: str, *, creates: bool = True) -> Iterator[int]:
    """Open a file of the home folder for a `with`, as a descriptor; create it if absent."""
    with descriptor.opened(server.home / name, server.account, creates=creates) as file:
        yield file


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


def postmaster(server: Server) -> Postmaster | None:
    """Read postmaster.pid; None if it is absent, incomplete or not of a server that we started.

    Its lines are: 0 pid, 1 data, 2 start time, 3 port, 4 socket directory, 5 address, 6 shared
    memory, 7 state (src/include/utils/pidfile.h).
    """
    if not server.data.exists():
        return None
    try:
        with descriptor.opened(server.data / _PID_FILE, server.account, creates=False) as file:
            lines = os.read(file, _LONGEST_PID_FILE).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8 or not lines[0].isdecimal() or lines[3] != str(server.port):
        return None
    directory = Path(lines[4])
    if directory != server.home and not _is_temporary(directory):
        return None
    return Postmaster(int(lines[0]), directory, lines[7].strip() == "ready")


def is_ready(server: Server) -> bool:
    """Whether the server accepts connections."""
    found = postmaster(server)
    if not found or not found.is_ready:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(found.socket_directory / socket_name(server)))
        except OSError:  # the server was killed, which leaves its file
            return False
    return True


def socket_name(server: Server) -> str:
    """Return the name of the server's socket."""
    return f".s.PGSQL.{server.port}"


def socket_directory(server: Server) -> Path:
    """Return the home folder, or a temporary one if its path does not fit a socket address."""
    path = os.fsencode(server.home / socket_name(server))
    if len(path) <= _SOCKET_PATH_LIMIT and b"," not in path:  # libpq splits hosts at commas
        return server.home
    directory = Path(tempfile.gettempdir()).resolve() / f"{_TEMPORARY}{secrets.token_hex(8)}"
    make_folder(directory, 0o700, _ids(server.account))
    return directory


def remove_socket_directory(server: Server, directory: Path) -> None:
    """Remove the folder of the socket if it is a temporary one of this server's account."""
    if not _is_temporary(directory):
        return
    with contextlib.suppress(OSError, EmbeddedServerError), folder(directory.parent) as parent:
        with folder(directory, server.account) as inside:
            for name in (socket_name(server), f"{socket_name(server)}.lock"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=inside)
        os.rmdir(directory.name, dir_fd=parent)


def _is_temporary(directory: Path) -> bool:
    return directory.name.startswith(_TEMPORARY)


def remove_stale_files(server: Server) -> None:
    """Remove the files of a killed server: their pid may belong to another process.

    Not those of a server that was started by hand, with its socket in another folder:
    PostgreSQL checks these itself.
    """
    found = postmaster(server)
    if found and not is_running(server):
        with folder(server.data, server.account) as data:
            os.unlink(_PID_FILE, dir_fd=data)
        remove_socket_directory(server, found.socket_directory)


def send_signal(server: Server, pid: int, number: int) -> None:
    """Send a signal to the postmaster; not to a process that has ended.

    Raises:
        EmbeddedServerError: The pid is that of another process.
    """
    with contextlib.suppress(ProcessLookupError), _process(pid) as process:
        if not (arguments := _arguments(pid)):
            return
        if not _is_postmaster(server, pid, arguments):
            raise error_with_log(server, f"is not process {pid}, as its {_PID_FILE} says")
        if process is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(process, number)


@contextmanager
def _process(pid: int) -> Iterator[int | None]:
    """Open a descriptor for a process: what is looked at is then what gets the signal.

    It is None where the system or the container has none.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield process
    finally:
        os.close(process)


def _arguments(pid: int) -> list[bytes]:
    """Return the command line of a process; empty if it has ended, which includes a zombie."""
    if not (_PROC / "self").exists():
        return [b"unknown"]
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    except FileNotFoundError:
        return []


def _is_postmaster(server: Server, pid: int, arguments: list[bytes]) -> bool:
    """Whether a process runs on the data directory, as the account.

    Not told by its working directory, which root may not see in a container.
    """
    if not (_PROC / "self").exists():  # root could not tell
        return server.account is None
    try:
        owner = (_PROC / str(pid)).stat().st_uid
    except FileNotFoundError:
        return False
    user = server.account.pw_uid if server.account else os.geteuid()
    return owner == user and arguments[1:3] == [b"-D", os.fsencode(server.data)]


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
    log, lines = server.home / "log", list[str]()
    with (
        contextlib.suppress(OSError, EmbeddedServerError),
        opened(server, log.name, creates=False) as file,
    ):
        start = max(os.fstat(file).st_size - _LOG_TAIL, 0)
        lines = os.pread(file, _LOG_TAIL, start).decode(errors="replace").splitlines()
    return EmbeddedServerError(
        f"the embedded PostgreSQL in {server.home} {what}",
        detail="\n".join(lines[-10:]) or None,
        hint=f"see {log}; to start over without its data: rm -r {server.home}",
    )
