"""The embedded PostgreSQL: commands as data, start, stop.

A server for development and tests, run straight from its binaries (`installation` finds them).
One folder, its *home*, holds everything:

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
import enum
import fcntl
import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import EmbeddedServerError
from .installation import (
    choose_account,
    copy_binaries,
    find_binaries,
    reaches,
    read_version,
    user_name,
)

SUPERUSER = "postgres"
"""The database role that the embedded server is made with, and that connections use."""

_PATIENCE = 60.0  # seconds that a start, a stop or another process's start may take
_POLL = 0.004  # seconds between two looks
_SOCKET_PATH_LIMIT = 103  # bytes: macOS has room for 103, Linux for 107
_ROOTS_HOMES = Path("/var/lib/migrator")


class Outcome(enum.StrEnum):
    """What it took to have the server running."""

    CREATED = "created"  # initdb, then started
    STARTED = "started"
    JOINED = "joined"  # it was running


class Shutdown(enum.IntEnum):
    """How to stop the server: the signals of "Shutting Down the Server" in PostgreSQL's manual."""

    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT  # no checkpoint: the next start recovers, as after a crash


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


def initdb_command(server: Server, data: Path) -> tuple[str, ...]:
    """Give the command that makes the cluster in `data`: UTF-8, the same on every machine."""
    unicode = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return (
        str(server.bindir / "initdb"),
        f"--pgdata={data}",
        f"--username={SUPERUSER}",
        "--encoding=UTF8",
        "--locale=C",
        *(unicode if server.major >= 17 else ()),
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
    )


def postgres_command(server: Server, socket_directory: Path) -> tuple[str, ...]:
    """Give the command that is the server; `socket_directory` holds its only socket."""
    quoted = str(socket_directory).replace('"', '""')
    settings = (
        f'unix_socket_directories="{quoted}"',
        "unix_socket_permissions=0700",
        f"listen_addresses={'127.0.0.1' if server.tcp_port else ''}",
        "logging_collector=off",
        *server.options,
    )
    flags = (part for setting in settings for part in ("-c", setting))
    return (str(server.bindir / "postgres"), "-D", str(server.data), "-p", str(server.port), *flags)


def access_files(server: Server) -> dict[str, str]:
    """Give the access rules by file name: peer for the guests, a password over TCP, no one else."""
    names = (name.replace('"', '""') for name in server.guests)
    return {
        "pg_hba.conf": "local all all peer map=migrator\nhost all all 127.0.0.1/32 scram-sha-256\n",
        "pg_ident.conf": "".join(f'migrator "{name}" {SUPERUSER}\n' for name in names),
    }


def locate(project: Path, *, source: Path | None = None, home: Path | None = None) -> Server:
    """Say which server belongs to a project, without making it.

    Unless given, `source` is what `find_binaries` finds, and `home` is `.migrator/pg<major>` in
    the project; for root, in a project that an unprivileged user cannot enter, it is below
    `/var/lib/migrator`, and `.migrator/elsewhere` links to it.  Raises EmbeddedServerError as
    `find_binaries` does, and where the binaries do not run on this machine.
    """
    project = project.resolve()
    source = source or find_binaries(os.environ)
    version = read_version(source)
    account = choose_account(project)
    if home is None:
        reached = account is None or reaches(account, project)
        parent = project / ".migrator" if reached else _elsewhere(project)
        home = parent / f"pg{version.partition('.')[0]}"
    bindir = source
    if account is not None and not reaches(account, source / "postgres"):
        build = hashlib.sha256(f"{source} {version}".encode()).hexdigest()[:8]
        bindir = home / f"binaries-{build}" / Path(*source.parts[-3:])
    guests = {user_name(os.geteuid()), user_name(project.stat().st_uid)}
    return Server(source, bindir, version, home, account, tuple(sorted(guests)))


@contextmanager
def running(
    project: Path,
    database: str = SUPERUSER,
    *,
    notify: Callable[[Server, Outcome], object] = lambda _server, _outcome: None,
) -> Iterator[str]:
    """Have the project's server running for a `with`, and give the URL of a database on it.

    The database is created where it is absent.  `notify` hears once what it took, before the
    body.  The last user to leave, in whatever process, stops the server.  Raises
    EmbeddedServerError where it cannot be found, made, started or stopped.
    """
    server = locate(project)
    with joined(server) as outcome:
        notify(server, outcome)
        if database != SUPERUSER:
            _create_database(url(server), database)
        yield url(server, database)


@contextmanager
def joined(server: Server) -> Iterator[Outcome]:
    """Have a server running for a `with`, shared with every other process that does the same."""
    with _explained():
        _make_home(server)
    with _opened(server, "users") as users:
        with _locked(server, "gate"):
            outcome = _ensure(server)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield outcome
        finally:
            with _locked(server, "gate"):
                if _try_exclusive(users):
                    stop(server)


def url(server: Server, database: str = SUPERUSER) -> str:
    """Give the URL of a database on a running server, for libpq."""
    directory = quote(_postmaster(server)[4], safe="")
    return (
        f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={directory}&port={server.port}"
    )


def start(server: Server) -> None:
    """Start a server that exists and does not run, and wait until it accepts connections.

    Users call `joined`; this one and `stop` are for those who hold the server alone.
    """
    _clear_remains(server)
    for name, rules in access_files(server).items():
        with _opened(server, f"data/{name}", os.O_TRUNC) as file:
            os.write(file, rules.encode())
    command = postgres_command(server, _socket_directory(server))
    with _opened(server, "alive") as alive, _opened(server, "log", os.O_TRUNC) as log:
        if not _try_exclusive(alive):
            raise _failed(server, "is running, and cannot be started again")
        # The server and all its children inherit the lock, and so hold it as long as they live.
        # In a session of its own it does not hear the terminal's Ctrl-C.
        process = subprocess.Popen(  # noqa: S603 -- our own command
            command,
            stdout=log,
            stderr=log,
            pass_fds=(alive,),
            start_new_session=True,
            **_as(server),
        )
    try:
        _wait_for(lambda: process.poll() is not None or _answers(server), server, "start")
        if process.returncode is not None:
            raise _failed(server, "did not start")
    except BaseException:
        process.send_signal(Shutdown.IMMEDIATE)
        process.wait()
        raise
    process.returncode = 0  # It may outlive us, which Popen would warn of.


def stop(server: Server, how: Shutdown = Shutdown.FAST) -> None:
    """Stop a server, and wait until the last of its processes is gone; do nothing if it is."""
    lines = _postmaster(server)
    if not _lives(server) or not lines:
        return
    pid = int(lines[0])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    _wait_for(lambda: not _lives(server), server, "stop")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    _remove_socket_directory(Path(lines[4]))


def _ensure(server: Server) -> Outcome:
    """Have the server running, whatever state it was left in; the caller holds the gate."""
    _wait_for(lambda: not _lives(server) or _answers(server), server, "answer")
    if _lives(server):
        return Outcome.JOINED
    outcome = Outcome.STARTED if server.data.exists() else Outcome.CREATED
    if server.account is not None and not server.bindir.exists():
        copy_binaries(server.source, server.bindir, server.account)
    if outcome is Outcome.CREATED:
        _create_cluster(server)
    start(server)
    return outcome


def _create_cluster(server: Server) -> None:
    unfinished = server.home / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = initdb_command(server, unfinished)
    done = subprocess.run(  # noqa: S603 -- our own command
        command, capture_output=True, text=True, check=False, **_as(server)
    )
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedServerError(
            f"initdb could not make the embedded PostgreSQL in {server.home}",
            detail=done.stderr.strip() or None,
        )
    unfinished.rename(server.data)


def _create_database(maintenance_url: str, name: str) -> None:
    import psycopg  # noqa: PLC0415  (nothing else here needs a connection)
    from psycopg import sql  # noqa: PLC0415

    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    with psycopg.connect(maintenance_url, autocommit=True) as conn:
        known = conn.execute("select from pg_database where datname = %s", (name,)).fetchone()
        # Of two that create it at once, one is refused by name or by the catalog's unique index.
        duplicates = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)
        if known is None:
            with contextlib.suppress(*duplicates):
                conn.execute(statement)


# What the operating system knows.


def _as(server: Server) -> dict[str, Any]:
    """Give the arguments of `subprocess` that run a command as the server's account."""
    # PG* would reach the server's own settings (PGDATA, PGPORT); messages are in English.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    place: dict[str, Any] = {
        "cwd": server.home,
        "env": environment | {"LC_ALL": "C"},
        "stdin": subprocess.DEVNULL,
    }
    if server.account is None:
        return place
    uid, gid = server.account.pw_uid, server.account.pw_gid
    return place | {"user": uid, "group": gid, "extra_groups": []}


# The home folder: its files, its locks, its socket.


def _elsewhere(project: Path) -> Path:
    """Give the folder, out of root's own, that stands for `.migrator` and is forgotten with it.

    It has a random name, so that another checkout in the same place does not meet its data.
    """
    folder = project / ".migrator"
    with _explained():
        folder.mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        with contextlib.suppress(FileExistsError):
            (folder / "elsewhere").symlink_to(_ROOTS_HOMES / secrets.token_hex(8))
        return (folder / "elsewhere").readlink()


def _make_home(server: Server) -> None:
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
def _opened(server: Server, name: str, flags: int = 0) -> Iterator[int]:
    """Open a file of the home folder, made if absent, and give its descriptor."""
    # The account may write to the folder: root follows no link that it might have put there.
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with _explained():
        file = os.open(server.home / name, flags, 0o600)
    try:
        if server.account is not None:
            os.fchown(file, server.account.pw_uid, server.account.pw_gid)
        yield file
    finally:
        os.close(file)


@contextmanager
def _locked(server: Server, name: str) -> Iterator[None]:
    with _opened(server, name) as file:
        _wait_for(lambda: _try_exclusive(file), server, "be let go by another process")
        yield


def _try_exclusive(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(server: Server) -> bool:
    """Tell whether a process of the server is left, the postmaster or any child of it."""
    with _opened(server, "alive") as alive:
        return not _try_exclusive(alive)


def _postmaster(server: Server) -> list[str]:
    """Read the lines of postmaster.pid, at least eight; none where the file is not complete.

    1 process, 2 data, 3 start, 4 port, 5 socket directory, 6 address, 7 shared memory, 8 state
    (src/include/utils/pidfile.h).
    """
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    return lines if len(lines) >= 8 else []


def _answers(server: Server) -> bool:
    """Tell whether the server accepts connections."""
    lines = _postmaster(server)
    if not lines or lines[7].strip() != "ready":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(f"{lines[4]}/.s.PGSQL.{lines[3]}")
        except OSError:  # killed, and its file left behind
            return False
    return True


def _socket_directory(server: Server) -> Path:
    """Give the home folder, or a temporary one where a socket's address cannot hold its path."""
    path = os.fsencode(server.home / f".s.PGSQL.{server.port}")
    if len(path) <= _SOCKET_PATH_LIMIT and b"," not in path:  # libpq splits hosts at commas
        return server.home
    directory = Path(tempfile.mkdtemp(prefix="migrator-socket-"))
    _give(server, directory)
    return directory


def _remove_socket_directory(directory: Path) -> None:
    """Remove the temporary folder of a socket, if it is one."""
    if _is_temporary(directory):
        shutil.rmtree(directory, ignore_errors=True)


def _is_temporary(directory: Path) -> bool:
    temporary = Path(tempfile.gettempdir())
    return directory.parent == temporary and directory.name.startswith("migrator-socket-")


def _clear_remains(server: Server) -> None:
    """Remove what a killed server left: its process id may belong to another process by now.

    Only ours: a server that somebody started by hand, with a socket elsewhere, is left to
    PostgreSQL's own check.
    """
    lines = _postmaster(server)
    if not lines or _lives(server):
        return
    directory = Path(lines[4])
    if directory == server.home or _is_temporary(directory):
        (server.data / "postmaster.pid").unlink()
        _remove_socket_directory(directory)


def _wait_for(reached: Callable[[], bool], server: Server, what: str) -> None:
    """Look again and again until a state is reached; EmbeddedServerError after a minute."""
    deadline = time.monotonic() + _PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise _failed(server, f"took longer than {_PATIENCE:.0f} s to {what}")
        time.sleep(_POLL)


def _failed(server: Server, what: str) -> EmbeddedServerError:
    log = server.home / "log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return EmbeddedServerError(
        f"the embedded PostgreSQL in {server.home} {what}",
        detail="\n".join(lines[-10:]) or None,
        hint=f"look into {log}; without its data, start afresh: rm -r {server.home}",
    )


@contextmanager
def _explained() -> Iterator[None]:
    """Turn an error of the file system into an EmbeddedServerError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot use {error.filename}: {error.strerror}",
            hint="make it writable, run as its owner, or set DATABASE_URL",
        ) from error
