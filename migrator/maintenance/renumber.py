"""Give pending files that are out of order the next free numbers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..embedded.binaries import child_environment
from ..errors import BlockedError, DirectoryError, UsageError
from ..files import directory
from ..model import AppliedMigration, Migration, SourceFile, Status, number_of
from ..planning import planner, renames

_DIRECTIONS = ("down", "up")  # a down file without an up file tells where the pair belongs


@dataclass(frozen=True, slots=True)
class Move:
    """A migration that gets another number.

    Attributes:
        files: The old and new paths, in the order in which they are renamed.
    """

    old: str
    new: str
    files: tuple[tuple[Path, Path], ...]


def read(directories: Sequence[Path]) -> tuple[tuple[Migration, ...], tuple[SourceFile, ...]]:
    """Read migrations whose numbers need not be unique, and the down files without an up file.

    Raises:
        DirectoryError: As `directory.read_migrations`.
        BlockedError: A file cannot be read as a migration, for another reason than its number.
    """
    found, problems, _ = directory.read_all(directories)
    if problems:
        raise BlockedError.of(problems, "found; no file was renamed")
    paired = (Migration(v, s["up"], s.get("down")) for (_, v), s in found.items() if "up" in s)
    alone = (s["down"] for s in found.values() if "up" not in s)
    return tuple(directory.numbered(paired)), tuple(alone)


def plan(
    migrations: Sequence[Migration],
    alone: Iterable[SourceFile],
    rows: Sequence[AppliedMigration],
    chosen: Collection[str],
) -> tuple[Move, ...]:
    """Decide which migrations are renumbered, and their new numbers; ordered by the old ones.

    These are the ones below the newest applied one, and those that share their number with an
    applied one or with an earlier name.  The next free numbers follow all that are known.

    Args:
        alone: Down files without an up file: an interrupted run may have left them.
        chosen: The versions or numbers to move, pending ones; none for all of these.

    Raises:
        UsageError: A chosen version is applied, or unknown.
    """
    finishing = dict(_unfinished(migrations, alone))
    rest = [each for each in migrations if each not in finishing]
    kept = _without_twins(rest, rows)
    late = [
        entry.migration
        for entry in planner.reconcile(kept, rows)
        if entry.status is Status.OUT_OF_ORDER and entry.migration
    ]
    moving = [*late, *(each for each in rest if each not in kept)]
    if chosen:
        moving = list(_chosen(rest, moving, rows, chosen))
    known = (*finishing.values(), *(m.version for m in migrations), *(row.version for row in rows))
    free = max(map(number_of, known), default=0) + 1
    moves = [_move(each, new) for each, new in finishing.items()]
    for number, each in enumerate(sorted(moving, key=lambda m: (m.number, m.version)), start=free):
        digits, _, name = each.version.partition("_")
        moves.append(_move(each, f"{number:0{len(digits)}}_{name}"))
    return tuple(moves)


def _unfinished(
    migrations: Iterable[Migration], alone: Iterable[SourceFile]
) -> Iterator[tuple[Migration, str]]:
    """Yield the migrations whose down file already has its new name, and that name."""
    migrations = tuple(migrations)
    for source in alone:
        version = source.path.name.removesuffix(".down.sql")
        halves = [
            each
            for each in migrations
            if each.down is None
            and each.up.path.parent == source.path.parent
            and _name(each.version) == _name(version)
        ]
        if len(halves) == 1:
            yield halves[0], version


def _without_twins(
    migrations: Iterable[Migration], rows: Iterable[AppliedMigration]
) -> list[Migration]:
    """Return one migration for each number: the applied one, else the first by name."""
    by_number = {row.number: row for row in rows}

    def rank(each: Migration) -> tuple[bool, bool, str]:
        row = by_number.get(each.number)
        is_same = row is not None and renames.is_same(each, row)
        return (row is None or row.version != each.version, not is_same, each.version)

    ordered = sorted(migrations, key=lambda each: each.number)
    return [min(group, key=rank) for _, group in groupby(ordered, lambda each: each.number)]


def _chosen(
    migrations: Sequence[Migration],
    moving: Sequence[Migration],
    rows: Iterable[AppliedMigration],
    chosen: Iterable[str],
) -> Iterator[Migration]:
    """Yield the migrations that are named; of several with one number, those that would move."""
    applied = {row.version for row in rows}
    for name in dict.fromkeys(chosen):
        named = [m for m in migrations if m.version == name]
        if name.isdecimal():
            alike = [m for m in migrations if m.number == number_of(name)]
            named = [m for m in alike if m in moving] or alike
        if not named:
            hint = "list the versions with: migrator status"
            raise UsageError(f'there is no version "{name}" among the files', hint=hint)
        for each in named:
            if each.version in applied:
                hint = "only pending migrations can be renumbered"
                raise UsageError(f"{each.version} is applied: its number cannot change", hint=hint)
            yield each


def _name(version: str) -> str:
    return version.partition("_")[2]


def _move(migration: Migration, new: str) -> Move:
    sources = (migration.down, migration.up)
    files = [
        (source.path, source.path.with_name(f"{new}.{direction}.sql"))
        for direction, source in zip(_DIRECTIONS, sources, strict=True)
        if source
    ]
    return Move(migration.version, new, tuple((Path(old), Path(to)) for old, to in files))


def carry_out(moves: Sequence[Move]) -> None:
    """Rename the files, with `git mv` where git tracks them; overwrite nothing.

    Raises:
        DirectoryError: A file with a new name exists, or a file cannot be renamed.
    """
    pairs = [pair for move in moves for pair in move.files]
    for _, new in pairs:
        if os.path.lexists(new):
            raise DirectoryError(f"{new} exists; no file was renamed", hint="move it away")
    for old, new in pairs:
        if _is_tracked(old) and _git("mv", "--", old.name, new.name, folder=old.parent):
            continue
        try:
            old.rename(new)
        except OSError as error:
            raise DirectoryError(
                f"cannot rename {old}: {error.strerror}",
                hint="check the permissions of the directory; to finish, run: migrator renumber",
            ) from error


def _is_tracked(path: Path) -> bool:
    return _git("ls-files", "--error-unmatch", "--", path.name, folder=path.parent)


def _git(*arguments: str, folder: Path) -> bool:
    """Run git; return whether it succeeded.  Without git, nothing is tracked."""
    names = (name for name in os.environ if name == "HOME" or name.startswith(("GIT_", "XDG_")))
    environ = child_environment(os.environ) | {name: os.environ[name] for name in names}
    command = ("git", *arguments)
    try:
        done = subprocess.run(  # noqa: S603 -- our own command
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
