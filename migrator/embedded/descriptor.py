"""Folders and files of the embedded server, opened as descriptors.

Root also uses folders that belong to other users, who can replace any part of a path at any
moment.  So root follows no link, keeps to what belongs to the server's account, and gives away
only what it has just created.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EmbeddedServerError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not stop us
_GIVEN_AWAY_WITHIN = 1.0  # seconds

Account = pwd.struct_passwd | None
"""The user that root runs the server as; None if we are not root, and are that user."""


@contextmanager
def file_errors(path: Path | None = None) -> Iterator[None]:
    """Turn an error of the file system, at `path` or what the error names, into ours."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot use {path or error.filename}: {error.strerror}",
            hint="make it writable, run as its owner, or set DATABASE_URL",
        ) from error


@contextmanager
def folder(path: Path, owner: Account = None) -> Iterator[int]:
    """Open a folder for a `with`, as a descriptor.

    Args:
        path: Absolute, without `..`.
        owner: Whom it must belong to; None for anybody.

    Raises:
        EmbeddedServerError: It cannot be opened, belongs to another user, or root would have to
            follow a link.
    """
    with file_errors(path):
        descriptor = _open_folder(path)
    try:
        if owner and _status(descriptor, owner).st_uid != owner.pw_uid:
            raise _foreign(path, owner)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_folder(path: Path) -> int:
    if os.geteuid() != 0:
        return os.open(path, _FOLDER)
    descriptor = os.open(path.anchor, _FOLDER)
    for depth, name in enumerate(path.parts[1:], start=2):
        try:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
        except NotADirectoryError as error:
            raise _unusual(Path(*path.parts[:depth])) from error
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def make_folder(path: Path, mode: int, owner: tuple[int, int] | None) -> None:
    """Create a folder if it is absent.

    Args:
        mode: Exactly this one for root; less the umask for others.
        owner: The user and group that root gives it to; None to keep it.
    """
    with folder(path.parent) as parent, file_errors(path):
        try:
            os.mkdir(path.name, mode, dir_fd=parent)
        except FileExistsError:
            return
        if os.geteuid() == 0:
            made = os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
            try:
                if os.fstat(made).st_uid != 0 or any(os.scandir(made)):  # replaced meanwhile
                    raise _unusual(path)
                os.fchmod(made, mode)
                if owner:
                    os.fchown(made, *owner)
            finally:
                os.close(made)


def make_file(path: Path, text: str, owner: tuple[int, int] | None) -> None:
    """Create a file with a text if it is absent; `owner` as in `make_folder`."""
    flags = _FILE | os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with folder(path.parent) as parent, file_errors(path):
        try:
            file = os.open(path.name, flags, 0o644, dir_fd=parent)
        except FileExistsError:
            return
        with os.fdopen(file, "w", encoding="utf-8") as made:
            made.write(text)
            if owner:
                os.fchown(file, *owner)


@contextmanager
def opened(path: Path, account: Account, *, creates: bool) -> Iterator[int]:
    """Open a file of the server to read and write, for a `with`, as a descriptor.

    Args:
        creates: Whether to create it if it is absent, for the account alone.

    Raises:
        FileNotFoundError: It is absent, and not to be created.
        EmbeddedServerError: It cannot be opened; or it is a link, no regular file or, for root,
            belongs to another user or has several names.
    """
    with folder(path.parent, account) as parent:
        try:
            file = _open_file(path.name, parent, account, creates=creates)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _unusual(path) from error
            with file_errors(path):
                raise
    try:
        status = _status(file, account)
        if not stat.S_ISREG(status.st_mode):
            raise _unusual(path)
        if account and (status.st_uid != account.pw_uid or status.st_nlink != 1):
            raise _foreign(path, account)
        yield file
    finally:
        os.close(file)


def _open_file(name: str, parent: int, account: Account, *, creates: bool) -> int:
    if creates:
        with contextlib.suppress(FileExistsError):
            file = os.open(name, _FILE | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
            if account:
                os.fchown(file, account.pw_uid, account.pw_gid)
            return file
    return os.open(name, _FILE | os.O_RDWR, dir_fd=parent)


def _status(file: int, account: Account) -> os.stat_result:
    """Return the status of a file or folder, once the process of root that made it gave it away."""
    deadline = time.monotonic() + _GIVEN_AWAY_WITHIN
    while (status := os.fstat(file)).st_uid == 0 and account and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


def remove_tree(name: str, parent: int) -> None:
    """Remove a folder, with all that is in it, or a link, if it exists."""
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:  # which one for a folder depends on the system
        shutil.rmtree(name, ignore_errors=True, dir_fd=parent)


def _unusual(path: Path) -> EmbeddedServerError:
    kind = "a link" if path.is_symlink() else "not what migrator created there"
    return EmbeddedServerError(
        f"the embedded PostgreSQL cannot use {path}: it is {kind}",
        hint="remove it, or run migrator as the owner of the project",
    )


def _foreign(path: Path, account: pwd.struct_passwd) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"the embedded PostgreSQL cannot use {path}: "
        f"it does not belong to the user {account.pw_name} alone",
        hint="remove it, or run migrator as its owner",
    )
