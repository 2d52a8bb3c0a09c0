"""Create, start, share and stop the embedded PostgreSQL.

It is for development and tests, runs directly from its binaries (`binaries`), and keeps its
data in one folder (`home`).
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import EmbeddedServerError
from .binaries import (
    can_access,
    child_environment,
    choose_account,
    copy_binaries,
    find_binaries,
    read_version,
    user_name,
)
from .descriptor import file_errors, folder, remove_tree
from .home import (
    Server,
    error_with_log,
    is_ready,
    is_running,
    locked,
    make_home,
    opened,
    postmaster,
    remove_socket_directory,
    remove_stale_files,
    send_signal,
    socket_directory,
    system_folder,
    try_exclusive,
    wait_for,
)

_KNOWN_DATABASE = """
select
from pg_catalog.pg_database
where datname operator(pg_catalog.=) %s
"""

SUPERUSER = "postgres"
"""The role of every connection; initdb creates it."""


class Outcome(enum.StrEnum):
    """How the server came to run."""

    CREATED = "created"  # initdb, then started
    STARTED = "started"
    JOINED = "joined"  # it was running already


class Shutdown(enum.IntEnum):
    """Signals that stop the server; see "Shutting Down the Server" in PostgreSQL's manual."""

    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT  # without a checkpoint: the next start recovers as after a crash


def initdb_command(server: Server, data: Path) -> tuple[str, ...]:
    """Return the command that creates the cluster in `data`: UTF-8, the same on every machine."""
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
    """Return the command that runs the server; `socket_directory` is for its only socket."""
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
    """Return the access rules by file name: peer for the clients, by password over TCP."""
    names = (name.replace('"', '""') for name in server.clients)
    return {
        "pg_hba.conf": "local all all peer map=migrator\nhost all all 127.0.0.1/32 scram-sha-256\n",
        "pg_ident.conf": "".join(f'migrator "{name}" {SUPERUSER}\n' for name in names),
    }


def locate(project: Path, *, source: Path | None = None, home: Path | None = None) -> Server:
    """Return the server of a project, without creating it.

    Args:
        project: Its home is `.migrator/pg<major>` in here.  If root runs it, and no other user
            can enter the project or run the binaries, it is in `/var/lib/migrator`, and
            `.migrator/elsewhere` is a link to that.
        source: The directory of the binaries, instead of what `find_binaries` finds.
        home: Another home.

    Raises:
        EmbeddedServerError: There are no binaries, or they do not run on this machine.
    """
    project = project.resolve()
    source = source or find_binaries(os.environ)
    version = read_version(source)
    account = choose_account(project)
    can_run = account is None or can_access(account, source / "postgres")
    if home is None:
        is_accessible = account is None or (can_run and can_access(account, project))
        parent = project / ".migrator" if is_accessible else system_folder(project)
        home = parent / f"pg{version.partition('.')[0]}"
    else:
        home = home.parent.resolve() / home.name
    bindir = source
    if not can_run:
        # Beside the home, where only root can write: the account must not replace them.
        build = hashlib.sha256(f"{source} {version}".encode()).hexdigest()[:8]
        bindir = home.parent / f"binaries-{build}" / Path(*source.parts[-3:])
    clients = {user_name(os.geteuid()), user_name(project.stat().st_uid)}
    return Server(source, bindir, version, home, account, tuple(sorted(clients)))


@contextmanager
def running(
    project: Path,
    database: str = SUPERUSER,
    *,
    notify: Callable[[Server, Outcome], object] = lambda _server, _outcome: None,
) -> Iterator[str]:
    """Run the project's server for a `with`, and return the URL of a database on it.

    The database is created if it is absent.  The last `with` to end, of all processes, stops
    the server.

    Args:
        notify: Called once with how the server came to run.

    Raises:
        EmbeddedServerError: The server cannot be found, created, started or stopped.
    """
    server = locate(project)
    with joined(server) as outcome:
        notify(server, outcome)
        if database != SUPERUSER:
            _create_database(url(server), database)
        yield url(server, database)


@contextmanager
def joined(server: Server) -> Iterator[Outcome]:
    """Run a server for a `with`, shared with all processes that do the same."""
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
    """Return the URL of a database on a running server, for libpq.

    Raises:
        EmbeddedServerError: Its postmaster.pid is unusable.
    """
    found = postmaster(server)
    if not found:
        raise error_with_log(server, "has no usable postmaster.pid")
    where = {"host": str(found.socket_directory), "port": str(server.port)}
    if server.account:  # the account could lay a link to the socket of another server
        where["requirepeer"] = server.account.pw_name
    query = urlencode(where, quote_via=quote, safe="")
    return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?{query}"


def start(server: Server) -> None:
    """Start a stopped server, and wait until it accepts connections.

    Use `joined` for a server that other processes may use at the same time.
    """
    remove_stale_files(server)
    for name, rules in access_files(server).items():
        with opened(server, f"data/{name}") as file:
            os.ftruncate(file, 0)
            os.write(file, rules.encode())
    command = postgres_command(server, socket_directory(server))
    with opened(server, "alive") as alive, opened(server, "log") as log:
        if not try_exclusive(alive):
            raise error_with_log(server, "is already running")
        os.ftruncate(log, 0)
        # The server and its children inherit the lock, and hold it until the last of them ends.
        # A session of its own keeps the terminal's Ctrl-C from the server.
        process = subprocess.Popen(  # noqa: S603 -- our own command
            command,
            stdout=log,
            stderr=log,
            pass_fds=(alive,),
            start_new_session=True,
            **_process_options(server),
        )
    try:
        wait_for(lambda: process.poll() is not None or is_ready(server), server, "start")
        if process.returncode is not None:
            raise error_with_log(server, "did not start")
    except BaseException:
        process.send_signal(Shutdown.IMMEDIATE)
        process.wait()
        raise
    process.returncode = 0  # Popen would warn of a process that outlives it.


def stop(server: Server, how: Shutdown = Shutdown.FAST) -> None:
    """Stop a server if it runs, and wait for the end of its last process."""
    found = postmaster(server)
    if not is_running(server):
        return
    if found:
        send_signal(server, found.pid, how)
    wait_for(lambda: not is_running(server), server, "stop")
    if found:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(found.pid, 0)
        remove_socket_directory(server, found.socket_directory)


def _ensure(server: Server) -> Outcome:
    """Make the server run, whatever state it was left in; the caller holds `gate`."""
    wait_for(lambda: not is_running(server) or is_ready(server), server, "accept connections")
    if is_running(server):
        return Outcome.JOINED
    outcome = Outcome.STARTED if server.data.exists() else Outcome.CREATED
    if server.account is not None and not server.bindir.exists():
        copy_binaries(server.source, server.bindir)
    if outcome is Outcome.CREATED:
        _create_cluster(server)
    start(server)
    return outcome


def _create_cluster(server: Server) -> None:
    name = "data.new"
    with folder(server.home, server.account) as home:
        remove_tree(name, home)
        command = initdb_command(server, server.home / name)
        done = subprocess.run(  # noqa: S603 -- our own command
            command, capture_output=True, text=True, check=False, **_process_options(server)
        )
        if done.returncode != 0:
            remove_tree(name, home)
            raise EmbeddedServerError(
                f"initdb could not create the embedded PostgreSQL in {server.home}",
                detail=done.stderr.strip() or None,
            )
        with file_errors(server.data):
            os.rename(name, server.data.name, src_dir_fd=home, dst_dir_fd=home)


def _create_database(maintenance_url: str, name: str) -> None:
    import psycopg  # noqa: PLC0415  (start-up time)
    from psycopg import sql  # noqa: PLC0415

    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    with psycopg.connect(maintenance_url, autocommit=True) as conn:
        known = conn.execute(_KNOWN_DATABASE, (name,)).fetchone()
        # Another process may create it at the same time.
        duplicates = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)
        if known is None:
            with contextlib.suppress(*duplicates):
                conn.execute(statement)


def _process_options(server: Server) -> dict[str, Any]:
    """Return arguments of `subprocess` that run a command as the server's account."""
    options: dict[str, Any] = {
        "cwd": "/",
        "env": child_environment(os.environ),
        "stdin": subprocess.DEVNULL,
    }
    if server.account is None:
        return options
    uid, gid = server.account.pw_uid, server.account.pw_gid
    return options | {"user": uid, "group": gid, "extra_groups": []}
