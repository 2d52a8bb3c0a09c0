"""The embedded PostgreSQL: commands as data, start, stop.

A server for development and tests, run straight from its binaries (`installation` finds them).
Everything that is its own lies in one folder (`home`).
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import EmbeddedServerError
from .binaries import choose_account, copy_binaries, find_binaries, reaches, read_version, user_name
from .home import (
    Server,
    answers,
    clear_remains,
    elsewhere,
    explained,
    failed,
    lives,
    locked,
    make_home,
    opened,
    postmaster,
    remove_socket_directory,
    socket_directory,
    try_exclusive,
    wait_for,
)

SUPERUSER = "postgres"
"""The database role that the embedded server is made with, and that connections use."""


class Outcome(enum.StrEnum):
    """What it took to have the server running."""

    CREATED = "created"  # initdb, then started
    STARTED = "started"
    JOINED = "joined"  # it was running


class Shutdown(enum.IntEnum):
    """How to stop the server: the signals of "Shutting Down the Server" in PostgreSQL's manual."""

    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT  # no checkpoint: the next start recovers, as after a crash


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
        parent = project / ".migrator" if reached else elsewhere(project)
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
    with explained():
        make_home(server)
    with opened(server, "users") as users:
        with locked(server, "gate"):
            outcome = _ensure(server)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield outcome
        finally:
            with locked(server, "gate"):
                if try_exclusive(users):
                    stop(server)


def url(server: Server, database: str = SUPERUSER) -> str:
    """Give the URL of a database on a running server, for libpq."""
    directory = quote(postmaster(server)[4], safe="")
    return (
        f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={directory}&port={server.port}"
    )


def start(server: Server) -> None:
    """Start a server that exists and does not run, and wait until it accepts connections.

    Users call `joined`; this one and `stop` are for those who hold the server alone.
    """
    clear_remains(server)
    for name, rules in access_files(server).items():
        with opened(server, f"data/{name}", os.O_TRUNC) as file:
            os.write(file, rules.encode())
    command = postgres_command(server, socket_directory(server))
    with opened(server, "alive") as alive, opened(server, "log", os.O_TRUNC) as log:
        if not try_exclusive(alive):
            raise failed(server, "is running, and cannot be started again")
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
        wait_for(lambda: process.poll() is not None or answers(server), server, "start")
        if process.returncode is not None:
            raise failed(server, "did not start")
    except BaseException:
        process.send_signal(Shutdown.IMMEDIATE)
        process.wait()
        raise
    process.returncode = 0  # It may outlive us, which Popen would warn of.


def stop(server: Server, how: Shutdown = Shutdown.FAST) -> None:
    """Stop a server, and wait until the last of its processes is gone; do nothing if it is."""
    lines = postmaster(server)
    if not lives(server) or not lines:
        return
    pid = int(lines[0])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    wait_for(lambda: not lives(server), server, "stop")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    remove_socket_directory(Path(lines[4]))


def _ensure(server: Server) -> Outcome:
    """Have the server running, whatever state it was left in; the caller holds the gate."""
    wait_for(lambda: not lives(server) or answers(server), server, "answer")
    if lives(server):
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
