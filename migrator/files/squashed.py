"""The files that a squashed file replaces: none may stay in its directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import DirectoryError, MigrationFileError
from ..model import Migration, number_of
from ..sql import options

FOLDER = "squashed"
"""Where they are moved, in their directory; it is not read."""


def problems(migrations: Sequence[Migration]) -> Iterable[MigrationFileError]:
    """Yield the problem of each file that a squashed file replaces."""
    for new in migrations:
        if options.REPLACES not in new.up.text:
            continue
        from ..sql import parser  # noqa: PLC0415  (most directories need no parser yet)

        found = parser.parse(new.up.path, new.up.text).options.replaces
        numbers = {number_of(version) for version, _ in found}
        for old in migrations:
            if old is not new and old.number in numbers:
                yield MigrationFileError(
                    f"{old.up.path} is replaced by {new.up.path}: only one of them may be there",
                    hint=f"move it into the folder {FOLDER}, which is not read",
                )


def moves(migrations: Iterable[Migration]) -> Mapping[Path, Path]:
    """Return where the files of migrations are moved to.

    Raises:
        DirectoryError: A file would overwrite another one.
    """
    files = [Path(s.path) for each in migrations for s in (each.up, each.down) if s]
    found = {path: path.parent / FOLDER / path.name for path in files}
    if taken := next((new for new in found.values() if new.exists()), None):
        raise DirectoryError(f"{taken} exists", hint="move it away: nothing is overwritten")
    return found


def move(files: Mapping[Path, Path]) -> tuple[Path, ...]:
    """Move files as `moves` plans it; until all are moved, every command lists those that are left.

    Returns:
        The folders that they were moved to.

    Raises:
        DirectoryError: One cannot be moved.
    """
    for old, new in files.items():
        try:
            new.parent.mkdir(exist_ok=True)
            old.rename(new)
        except OSError as error:
            raise DirectoryError(
                f"cannot move {old} to {new}: {error.strerror}",
                hint="move it, and the other old files, by hand",
            ) from error
    return tuple(dict.fromkeys(new.parent for new in files.values()))
