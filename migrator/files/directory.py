"""Read the migrations directories, and create the next pair of files."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from ..errors import (
    BlockedError,
    DirectoryError,
    EmptyDirectoryError,
    MigrationFileError,
    MigratorError,
    UsageError,
)
from ..model import REPEATABLE, Migration, SourceFile
from . import names, repeatable, same, squashed, templates
from .source import read_source

_LONG = 1 << 20  # bytes
_TIMESTAMP_DIGITS = 14
_MOST_TOLD = 5
_ONE_EACH = ("migration.sql", "up.sql")  # of other tools, which have a directory for a migration


def read_migrations(*directories: Path) -> tuple[Migration, ...]:
    """Read every migration of some directories, which are one history.

    They are sorted by number; the repeatable files come last, by name.

    Names that begin with a dot and names that do not end in `.sql` are ignored.

    Raises:
        DirectoryError: A directory does not exist, cannot be read, or is given twice.
        BlockedError: Some files are not migrations; it holds every problem of every file.
    """
    found, problems, files = read_all(directories)
    problems += _unpaired(files)
    all_of_them = [Migration(v, s["up"], s.get("down")) for (_, v), s in found.items() if "up" in s]
    migrations = sorted(numbered(all_of_them), key=lambda migration: migration.number)
    repeatables = [migration for migration in all_of_them if migration.is_repeatable]
    repeatables.sort(key=lambda migration: migration.version)
    problems += _duplicates(migrations)
    problems += repeatable.alike(repeatables)
    problems += squashed.problems(migrations)
    if problems:
        from ..sql import parser  # noqa: PLC0415  (a valid directory needs no parser yet)

        scripts = (source for pair in found.values() for source in pair.values())
        problems += (problem for s in scripts for problem in parser.parse(s.path, s.text).problems)
        where = "directory" if len(directories) == 1 else "directories"
        raise BlockedError.of(problems, f"in the migrations {where}")
    return (*migrations, *repeatables)


def read_all(
    directories: Sequence[Path],
) -> tuple[
    dict[tuple[Path, str], dict[str, SourceFile]], list[MigratorError], dict[Path, list[str]]
]:
    """Return the files by directory and version, their problems, and all names by directory.

    Raises:
        DirectoryError: As `read_migrations`.
    """
    same.refuse_same(directories)
    problems: list[MigratorError] = []
    found: dict[tuple[Path, str], dict[str, SourceFile]] = {}
    files = {directory: _sql_files(directory) for directory in directories}
    for directory, file in ((each, file) for each in files for file in files[each]):
        try:
            version, direction, source = _read(directory / file.name, file)
        except MigrationFileError as error:
            problems.append(error)
        else:
            found.setdefault((directory, version), {})[direction] = source
    return found, problems, {each: [file.name for file in files[each]] for each in files}


def numbered(migrations: Iterable[Migration]) -> Iterator[Migration]:
    """Yield the migrations that have a number."""
    return (migration for migration in migrations if not migration.is_repeatable)


def read_required(*directories: Path, allow_empty: bool) -> tuple[Migration, ...]:
    """Read every migration, as `read_migrations` does, unless a directory has none.

    Raises:
        EmptyDirectoryError: A directory has none, and it may not be empty.
    """
    migrations = read_migrations(*directories)
    filled = {migration.up.path.parent for migration in migrations}
    empty = next((each for each in directories if each not in filled), None)
    if empty is None or allow_empty:
        return migrations
    raise EmptyDirectoryError(
        f'there are no migration files in "{empty}"',
        detail=ignored(*directories),
        hint="set the directory with --dir or MIGRATOR_DIR, or create a migration with: "
        "migrator create NAME\nif it is meant to be empty: --allow-empty",
    )


def ignored(*directories: Path) -> str | None:
    """Return a sentence on what is ignored and looks like migrations; None if nothing does."""
    read = frozenset(map(same.identity, directories))
    told = [
        f"the directory {name} ({advice})" if _is_directory(each / path) else f"{name} ({advice})"
        for each in directories
        for path, advice in _ignored_in(each, read)
        for name in (path if len(directories) == 1 else each / path,)
    ]
    if not told:
        return None
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return f"ignored, although they look like migrations: {', '.join(told[:_MOST_TOLD])}{more}"


def _ignored_in(directory: Path, read: Collection[object]) -> Iterable[tuple[str, str]]:
    """Yield the names that look like migrations, and what to do about each.

    Args:
        read: The identities of the directories that are read: a directory may hold another.
    """
    with os.scandir(directory) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    inside = {entry.name for entry in visible if _is_directory(directory / entry.name)}
    alike = names.look_alikes({entry.name for entry in visible} - inside)
    yield from ((name, f"name it {new}") for name, new in alike.items())
    for name in sorted(inside - {squashed.FOLDER}):
        advice = _advice_on(directory / name)
        if advice and same.identity(directory / name) not in read:
            yield name, advice


def _is_directory(path: Path) -> bool:
    """Whether it is a directory, or a link to one; a broken link is not."""
    return os.path.isdir(path)  # noqa: PTH112  (`Path.is_dir` and `DirEntry.is_dir` may raise)


def _advice_on(directory: Path) -> str | None:
    """Return where the migrations of a subdirectory belong; None if it has none."""
    if names.NAME.fullmatch(directory.name):
        return "a migration is a file"
    try:
        inside = set(os.listdir(directory))  # noqa: PTH208  (names, not paths)
    except OSError:
        return None
    if inside & set(_ONE_EACH):
        known = names.suggestion(f"{directory.name}.sql") or f"NN_{directory.name}.up.sql"
        name = next(name for name in _ONE_EACH if name in inside)
        return f"move its {name} to {known}"
    if any(map(names.NAME.fullmatch, inside)):
        return "move its files up, or name it with --dir"
    return None


def rename_misnamed(directory: Path) -> tuple[tuple[Path, Path], ...]:
    """Rename the files that only one name is possible for; return the old and new paths.

    Raises:
        DirectoryError: A file cannot be renamed.
    """
    wanted = names.renames(file.name for file in _sql_files(directory))
    for old, new in wanted.items():
        try:
            (directory / old).rename(directory / new)
        except OSError as error:
            message = f"cannot rename {directory / old}: {error.strerror}"
            hint = "check the permissions of the directory"
            raise DirectoryError(message, hint=hint) from error
    return tuple((directory / old, directory / new) for old, new in wanted.items())


def starting_with(chosen: Path, directories: Sequence[Path]) -> tuple[Path, ...]:
    """Return the directories with the chosen one first.

    Raises:
        UsageError: It is not one of them.
    """
    for directory in directories:
        if same.identity(directory) == same.identity(chosen):
            return (directory, *(each for each in directories if each is not directory))
    known = ", ".join(map(str, directories))
    raise UsageError(
        f'"{chosen}" is not a migrations directory',
        hint=f"use one of the migrations directories ({known}), or add it with --dir",
    )


def create(directories: Sequence[Path], name: str, *, now: datetime) -> tuple[Path, Path]:
    """Write the next pair of files, up and down, from a template; overwrite nothing.

    Args:
        directories: All directories of the history; the files are written into the first.
        name: As in `next_version`.
        now: As in `next_version`.

    Raises:
        UsageError: The name contains no ASCII letter or digit, or a path separator.
        DirectoryError: The files cannot be written; neither is left.
    """
    version = next_version(directories, name, now=now)
    texts = (template.format(version=version) for template in (templates.UP, templates.DOWN))
    return write_pair(directories[0], version, texts)


def create_repeatable(directories: Sequence[Path], name: str) -> Path:
    """Write a repeatable file from a template; overwrite nothing.

    Args:
        directories: As in `create`.
        name: As in `next_version`.

    Raises:
        UsageError: As `next_version`; or there is such a file, in any directory.
        DirectoryError: The file cannot be written; it is not left.
    """
    version = f"{REPEATABLE}{_slug(name)}"
    for each in read_migrations(*filter(os.path.lexists, directories)):
        if each.version.lower() == version.lower():
            raise UsageError(f"{each.up.path} exists already")
    path = directories[0] / f"{version}.sql"
    _write([path], [templates.REPEATABLE.format(version=version)])
    return path


def next_version(directories: Iterable[Path], name: str, *, now: datetime) -> str:
    """Return the version of the next pair of files.

    Args:
        name: Any words; they are converted to lower case and joined with `_`.
        now: The time for the new number, if the other files have timestamps.

    Raises:
        UsageError: The name contains no ASCII letter or digit, or a path separator.
    """
    stem = _slug(name)
    known = tuple(numbered(read_migrations(*filter(os.path.lexists, directories))))
    return f"{_new_number(known, now)}_{stem}"


def write_pair(directory: Path, version: str, texts: Iterable[str]) -> tuple[Path, Path]:
    """Write a pair of files, or only the up file if there is no down text; overwrite nothing.

    Raises:
        DirectoryError: The files cannot be written; neither is left.
    """
    paths = (directory / f"{version}.up.sql", directory / f"{version}.down.sql")
    _write(paths, texts)
    return paths


def _write(paths: Sequence[Path], texts: Iterable[str]) -> None:
    written: list[Path] = []
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts, strict=False):
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        is_long = error.errno == errno.ENAMETOOLONG
        hint = "use a shorter name" if is_long else "check the permissions of the directory"
        message = f"cannot write {error.filename}: {error.strerror}"
        raise DirectoryError(message, hint=hint) from error


def _sql_files(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            names = [e for e in entries if e.name.lower().endswith(".sql")]
            files = [e for e in names if not _is_directory(directory / e.name)]
    except FileNotFoundError as error:
        if directory.is_symlink():
            raise DirectoryError(
                f'the migrations directory "{directory}" is a link to "{directory.readlink()}", '
                "which does not exist",
                hint="correct the link, or set another directory with --dir or MIGRATOR_DIR",
            ) from error
        raise DirectoryError(
            f'the migrations directory "{directory}" does not exist',
            hint="set it with --dir or MIGRATOR_DIR, or create it with: migrator create NAME",
        ) from error
    except OSError as error:
        raise DirectoryError(
            f'the migrations directory "{directory}" cannot be read: {error.strerror}',
            hint="set a readable directory with --dir or MIGRATOR_DIR",
        ) from error
    visible = (file for file in files if not file.name.startswith("."))
    return sorted(visible, key=lambda file: file.name)


def _read(path: Path, file: os.DirEntry[str]) -> tuple[str, str, SourceFile]:
    """Return the version, the direction and the content of a file."""
    match = names.NAME.fullmatch(file.name) or names.REPEATABLE.fullmatch(file.name)
    if not match:
        if directed := names.DIRECTED_REPEATABLE.fullmatch(file.name):
            raise repeatable.not_a_pair(path, directed["name"], directed["direction"].lower())
        new = names.suggestion(file.name)
        what = f"rename it to {new}" if new else "rename it"
        raise MigrationFileError(
            f"{path} is not named NN_name.up.sql, NN_name.down.sql or R__name.sql",
            hint=f"{what} (.up.sql and .down.sql in lower case; the name may contain ASCII "
            "letters, digits, _, - and .), or move it out of the directory",
        )
    try:
        if path.exists() and not path.is_file():
            message = f"{path} is not a regular file"
            raise MigrationFileError(message, hint="move it out of the directory")
        source = _content(path, file.path)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        hint = "make it readable for the current user, or move it out of the directory"
        raise MigrationFileError(message, hint=hint) from error
    return match["version"], match.groupdict().get("direction", "up"), source


def _content(path: Path, name: str) -> SourceFile:
    with io.FileIO(name) as file:  # twice as fast as `read_bytes`, for thousands of files
        if os.fstat(file.fileno()).st_size <= _LONG:
            return read_source(path, file.readall())
        from . import copydata  # noqa: PLC0415  (most files are short)

        return copydata.read_long(path, file)


def _unpaired(known: Mapping[Path, Sequence[str]]) -> Iterable[MigrationFileError]:
    """Yield the problem of each down file without an up file, by the names in each directory."""
    for directory, inside in known.items():
        renamed = names.renames(inside)
        for version in names.orphans(inside):
            name, up = f"{version}.down.sql", f"{version}.up.sql"
            hint = f"add {up}, or remove the down file"
            if new := renamed.get(name):
                hint = f"rename it to {new}\nto let migrator rename it: migrator verify --fix"
            elif other := next((each for each in known if up in known[each]), None):
                hint = f"move it to {other}, where {up} is"
            yield MigrationFileError(f"{directory / name} has no up file", hint=hint)


def _duplicates(migrations: Sequence[Migration]) -> Iterable[MigrationFileError]:
    for one, other in pairwise(migrations):
        if one.number == other.number:
            yield MigrationFileError(
                f"{one.up.path} and {other.up.path} both have number {one.number}",
                hint="renumber whichever has not been applied anywhere; "
                f"the next free number is {_next_number(migrations)}; or run: migrator renumber",
            )


def _slug(name: str) -> str:
    if "/" in name or "\\" in name:
        raise UsageError(
            f'the name "{name}" contains a path separator',
            hint="specify only the name; --dir sets the directory",
        )
    stem = re.sub(r"[^a-z0-9.-]+", "_", name.lower()).strip("_.-")
    if not stem:
        raise UsageError(
            f'the name "{name}" contains no ASCII letter or digit',
            hint="describe the change, for example: migrator create add_phone",
        )
    return stem


def _new_number(migrations: Sequence[Migration], now: datetime) -> str:
    """Return the number of a new migration: a timestamp if the newest has one."""
    if not migrations:
        return "01"
    free, newest = _next_number(migrations), migrations[-1].version.partition("_")[0]
    if len(newest) == _TIMESTAMP_DIGITS and newest.startswith(("19", "20")):
        return max(free, now.strftime("%Y%m%d%H%M%S"), key=int)
    return free


def _next_number(migrations: Sequence[Migration]) -> str:
    """Return the number after the highest, with as many digits; the highest comes last."""
    newest = migrations[-1].version.partition("_")[0]
    return str(int(newest) + 1).zfill(len(newest))
