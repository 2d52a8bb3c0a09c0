"""Back up the database before a run, with `pg_dump`."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from .. import programs
from ..errors import BackupError, CancelledError, DumpError, counted
from ..history import recorder
from ..interrupts import Interrupts
from ..postgres import connection
from ..postgres.cursor import send
from ..session import Session

_POLL = 0.2  # seconds between two looks at the size
_LOCK_WAIT = 60_000  # milliseconds; the dump reads every table
_LONGEST = 80  # characters of the names in the name of a file


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made.

    Attributes:
        path: The file of `pg_dump`; None if the command of the configuration made it.
        bytes: The size of the file; None without one.
        command: The command of the configuration; None for `pg_dump`.
        seconds: How long it took.
    """

    seconds: float
    path: Path | None = None
    bytes: int | None = None
    command: str | None = None

    def __str__(self) -> str:
        if self.path is None:
            return f"backup-command: {self.command}"
        return f"{self.path} ({counted(self.bytes or 0, 'byte')})"


def file_name(database: str, newest: str | None, now: datetime) -> str:
    """Name a backup by its database, its time and the newest version that is applied.

    >>> file_name("my shop", "05_add_phone", datetime(2026, 11, 28, 13, 5, 9, tzinfo=UTC))
    'my_shop-20261128T130509Z-05_add_phone.dump'
    """
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{_safe(database)}-{stamp}-{_safe(newest or 'empty')}.dump"


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_LONGEST]


def dump(
    work: Session,
    folder: Path,
    name: str,
    progress: Callable[[int], None],
    interrupts: Interrupts,
) -> tuple[Path, int]:
    """Write the database to a file that only we can read, and check that it can be restored.

    The file has its name only when it is complete.

    Args:
        progress: Called with the number of bytes written so far.

    Returns:
        The file, and its size in bytes.

    Raises:
        BackupError: There is no `pg_dump`, it failed, or the file cannot be written or read.
        CancelledError: A signal stopped it.
    """
    path = folder.absolute() / name  # the log is read in other directories
    try:
        with _partial(path) as (partial, output):
            _dump(work, output, progress, interrupts)
            os.fsync(output.fileno())
            size = os.fstat(output.fileno()).st_size
            _check(work, partial)
            partial.rename(path)
    except OSError as error:
        raise BackupError(
            f"cannot write a backup to {folder}: {error.strerror}; nothing was run",
            hint="name a directory that exists and that this user may write to: --backup DIR",
        ) from error
    except DumpError as error:
        raise BackupError(
            f"{error.message}; nothing was run", detail=error.detail, hint=error.hint
        ) from error
    return path, size


@contextmanager
def _partial(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Open a file for the time of the `with`; it is removed unless it was renamed."""
    partial = path.with_name(f"{path.name}.partial")
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as output:
            yield partial, output
    finally:
        partial.unlink(missing_ok=True)


def _dump(
    work: Session, output: IO[bytes], progress: Callable[[int], None], interrupts: Interrupts
) -> None:
    where, environ = programs.reading(work.database, work.settings.role, {})
    program = programs.find_program("pg_dump", _major(work), os.environ)
    command: tuple[str | Path, ...] = (
        program,
        "--format=custom",
        f"--lock-wait-timeout={_LOCK_WAIT}",
        *where,
    )
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 -- our own command
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=said,
            umask=0o077,
            start_new_session=True,  # Ctrl-C reaches only us; we stop it
        ) as process,
    ):
        try:
            while _is_running(process, interrupts):
                progress(os.fstat(output.fileno()).st_size)
        finally:
            process.kill()
        if code := process.wait():
            said.seek(0)
            ended = f"was ended by signal {-code}" if code < 0 else "could not back up the database"
            raise BackupError(
                f"pg_dump {ended}; nothing was run",
                detail=said.read().decode(errors="replace").strip() or None,
                hint=programs.READABLE,
            )


def _is_running(process: subprocess.Popen[bytes], interrupts: Interrupts) -> bool:
    """Wait a moment for a process, and return whether it still runs.

    Raises:
        CancelledError: A signal has arrived.
    """
    try:
        process.wait(_POLL)
    except subprocess.TimeoutExpired:
        if interrupts.signal:
            raise CancelledError(
                "interrupted during the backup; nothing was run, and its file was removed",
                signal=interrupts.signal,
            ) from None
        return True
    return False


def _check(work: Session, path: Path) -> None:
    """Check that `pg_restore` can read a file."""
    program = programs.find_program("pg_restore", _major(work), os.environ)
    done = subprocess.run(  # noqa: S603 -- our own command
        (program, "--list", path),
        env=programs.client_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise BackupError(
            "pg_restore cannot read the backup; nothing was run",
            detail=done.stderr.decode(errors="replace").strip() or None,
            hint="check the free space in that directory, and which pg_dump comes first in PATH",
        )


def _major(work: Session) -> int:
    return work.conn.info.server_version // 10000


def record(work: Session, made: Backup) -> None:
    """Add a backup to the log; the caller holds the runner's lock, so the log exists."""
    # A row with a version would end the search for the statement in which a run was interrupted.
    row = recorder.recorder(work.history.schema).log(
        "", "backup", "done", reason=str(made), seconds=made.seconds
    )
    with connection.reported(work.history.schema), connection.writing(work.conn):
        send(work.conn, *row)


def size_of_database(work: Session) -> int:
    """Return the size of the database, in bytes."""
    with connection.reported():
        query = "select pg_catalog.pg_database_size(pg_catalog.current_database())"
        return int(work.conn.execute(query).fetchall()[0][0])
