"""The migrations directory: read it, create the next pair."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from ..errors import (
    BlockedError,
    DirectoryError,
    MigrationFileError,
    MigratorError,
    UsageError,
    counted,
)
from ..model import Migration, SourceFile
from .source import read_source

_NAME = re.compile(r"(?P<version>[0-9]+_[A-Za-z0-9_.-]+)\.(?P<direction>up|down)\.sql", re.ASCII)
_LONG = 1 << 20  # bytes
_TIMESTAMP_DIGITS = 14

_UP_TEMPLATE = """\
-- {version}: say why this change is made; the SQL says what it does.
--
-- The whole file is one transaction: it is applied with its record, or not at all.
-- Keep it short: every lock that it takes is held to its end.  Give rows to a new
-- column, a constraint its validation and a large index its CREATE INDEX CONCURRENTLY
-- in migrations of their own.

"""
_DOWN_TEMPLATE = """\
-- Take {version} back: leave the schema as it was, and say here which data that loses.
-- If it cannot be taken back, delete this file: the migration is then irreversible.

"""


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """Read every migration of a directory, by ascending number.

    Names that begin with a dot, and names that do not end in `.sql`, are ignored.

    Raises:
        DirectoryError: The directory is not there or cannot be read.
        BlockedError: Files that are no migrations, each with its reason.
    """
    problems: list[MigratorError] = []
    found: dict[str, dict[str, SourceFile]] = {}
    for file in _sql_files(directory):
        path = directory / file.name
        match = _NAME.fullmatch(file.name)
        if not match:
            problems.append(_misnamed(path))
            continue
        if not file.is_file() and path.exists():
            message = f"{path} is no regular file"
            hint = "migrations are read from files: move it elsewhere"
            problems.append(MigrationFileError(message, hint=hint))
            continue
        try:
            source = _read(path, file.path)
        except MigrationFileError as error:
            problems.append(error)
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            hint = "make it readable for the user that runs this, or move it elsewhere"
            problems.append(MigrationFileError(message, hint=hint))
        else:
            found.setdefault(match["version"], {})[match["direction"]] = source
    problems += _unpaired(found)
    migrations = sorted(
        (Migration(v, s["up"], s.get("down")) for v, s in found.items() if "up" in s),
        key=lambda migration: migration.number,
    )
    problems += _duplicates(migrations)
    if problems:
        # Who mends the directory wants to know at once what else is to be mended.
        from ..sql import parser  # noqa: PLC0415  (who has a directory in order pays for no parser)

        scripts = (source for pair in found.values() for source in pair.values())
        problems += (problem for s in scripts for problem in parser.parse(s.path, s.text).problems)
        count = counted(len(problems), "problem")
        raise BlockedError(f"{count} in the migrations directory", errors=tuple(problems))
    return tuple(migrations)


def create(directory: Path, name: str, *, now: datetime) -> tuple[Path, Path]:
    """Write the next pair, up and down, from a template; overwrite nothing.

    Args:
        name: Any words; they become lower case, joined with `_`.
        now: What a timestamp is made of, where the other files have timestamps.

    Raises:
        UsageError: The name has nothing in it to name a file by, or a path separator.
        DirectoryError: The files cannot be written; none is left behind.
    """
    stem = _slug(name)
    directory_is_new = not directory.exists()
    numbers = (
        []
        if directory_is_new
        else [m.version.partition("_")[0] for m in read_migrations(directory)]
    )
    version = f"{_next_number(numbers, now)}_{stem}"
    paths = (directory / f"{version}.up.sql", directory / f"{version}.down.sql")
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, template in zip(paths, (_UP_TEMPLATE, _DOWN_TEMPLATE), strict=True):
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(template.format(version=version))
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        is_long = error.errno == errno.ENAMETOOLONG
        hint = "give it a shorter name" if is_long else "check the permissions of the directory"
        message = f"cannot write {error.filename}: {error.strerror}"
        raise DirectoryError(message, hint=hint) from error
    return paths


def _sql_files(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            files = [e for e in entries if e.name.lower().endswith(".sql") and not e.is_dir()]
    except FileNotFoundError as error:
        raise DirectoryError(
            f'the migrations directory "{directory}" is not there',
            hint="name it with --dir or MIGRATOR_DIR, or make it with: migrator create NAME",
        ) from error
    except OSError as error:
        raise DirectoryError(
            f'the migrations directory "{directory}" cannot be read: {error.strerror}',
            hint="name a readable directory with --dir or MIGRATOR_DIR",
        ) from error
    visible = (file for file in files if not file.name.startswith("."))
    return sorted(visible, key=lambda file: file.name)


def _read(path: Path, name: str) -> SourceFile:
    with io.FileIO(name) as file:  # half of what `read_bytes` takes, and there are thousands
        if os.fstat(file.fileno()).st_size <= _LONG:
            return read_source(path, file.readall())
        from . import copydata  # noqa: PLC0415  (most files are short)

        return copydata.read_long(path, file)


def _misnamed(path: Path) -> MigrationFileError:
    return MigrationFileError(
        f"{path} is named neither NN_name.up.sql nor NN_name.down.sql",
        hint="rename it (lower case .up.sql or .down.sql; the name takes letters of ASCII, digits, "
        "_ - and .), or move it elsewhere",
    )


def _unpaired(found: dict[str, dict[str, SourceFile]]) -> Iterable[MigrationFileError]:
    for version, directions in found.items():
        if "up" not in directions:
            path = directions["down"].path
            yield MigrationFileError(
                f"{path} has no up file beside it",
                hint=f"add {version}.up.sql, or remove the down file",
            )


def _duplicates(migrations: Sequence[Migration]) -> Iterable[MigrationFileError]:
    for one, other in pairwise(migrations):
        if one.number == other.number:
            yield MigrationFileError(
                f"{one.up.path} and {other.up.path} have the same number, {one.number}",
                hint="give the one that is applied nowhere the next free number",
            )


def _slug(name: str) -> str:
    if "/" in name or "\\" in name:
        raise UsageError(
            f'the name "{name}" holds a path separator',
            hint="give the name alone; --dir says where the files go",
        )
    stem = re.sub(r"[^a-z0-9.-]+", "_", name.lower()).strip("_.-")
    if not stem:
        raise UsageError(
            f'the name "{name}" holds no letter or digit from a to z, 0 to 9',
            hint="say what the migration does, for example: migrator create add_phone",
        )
    return stem


def _next_number(numbers: Sequence[str], now: datetime) -> str:
    """Return the number after the highest, as wide as that one is written.

    >>> _next_number(["01", "09"], datetime(2026, 1, 2))
    '10'
    >>> _next_number(["20251231235959"], datetime(2026, 1, 2))
    '20260102000000'
    """
    if not numbers:
        return "01"
    newest = max(numbers, key=int)
    following = int(newest) + 1
    if len(newest) == _TIMESTAMP_DIGITS and newest.startswith(("19", "20")):
        return str(max(following, int(now.strftime("%Y%m%d%H%M%S"))))
    return str(following).zfill(len(newest))
