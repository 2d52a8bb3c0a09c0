"""Recognise an applied migration whose file was given another name or number."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache

from ..errors import MigratorError, RenamedError
from ..model import AppliedMigration, Entry, Migration
from ..sql import parser


def is_same(migration: Migration, applied: AppliedMigration) -> bool:
    """Whether a file has the text that was applied, except for what has no meaning."""
    if migration.up.checksum == applied.checksum:
        return True
    script = applied.up_script
    return script is not None and _meaning(script) == _meaning(migration.up.text)


# A missing version is compared with every file.
_meaning = cache(parser.meaning)


def renumbered(
    files: Mapping[int, Migration], rows: Mapping[int, AppliedMigration]
) -> dict[int, Migration]:
    """Return the files that were given another number since they were applied, by the old one.

    The text must be that of one missing version and of one file only, or the name must also be
    the same.  Another form of the same statements counts where no text is the same.
    """
    gone = [row for row in rows.values() if row.number not in files and not row.interrupted]
    new = [migration for migration in files.values() if migration.number not in rows]
    found = _paired(gone, new, lambda row: row.checksum, lambda file: file.up.checksum)
    taken = {migration.number for migration in found.values()}
    rest = [row for row in gone if row.number not in found and row.up_script]
    left = [migration for migration in new if migration.number not in taken]
    if rest and left:
        found |= _paired(
            rest,
            left,
            lambda row: _meaning(row.up_script or ""),
            lambda file: _meaning(file.up.text),
        )
    return found


def _paired(
    rows: Sequence[AppliedMigration],
    files: Sequence[Migration],
    key_of_row: Callable[[AppliedMigration], Hashable],
    key_of_file: Callable[[Migration], Hashable],
) -> dict[int, Migration]:
    keys = {row.number: key_of_row(row) for row in rows}
    by_key: dict[Hashable, list[Migration]] = {}
    for migration in files:
        by_key.setdefault(key_of_file(migration), []).append(migration)
    found = {}
    for row in rows:
        key = keys[row.number]
        alike = by_key.get(key, []) if key else []
        if len(alike) > 1 or list(keys.values()).count(key) > 1:
            alike = [m for m in alike if _name(m.version) == _name(row.version)]
        if len(alike) == 1:
            found[row.number] = alike[0]
    return found


def _name(version: str) -> str:
    return version.partition("_")[2]


def elsewhere(entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the other entries whose file has the text of an applied version."""
    applied = entry.applied
    if not applied:
        return ()
    return tuple(
        each
        for each in entries
        if each.migration
        and each.migration.version != applied.version
        and is_same(each.migration, applied)
    )


def error(migration: Migration, applied: AppliedMigration) -> MigratorError:
    """Return the error of a version that has another name in the files."""
    version = applied.version
    return RenamedError(
        f"{version} is applied, and was renamed to {migration.version}",
        hint=f"rename it back to {version}.up.sql, or, to keep when and by whom it was applied "
        f"under its new name: migrator repair {version} --renamed",
        version=version,
    )


def why_not(entry: Entry, entries: Iterable[Entry]) -> str | None:
    """Say why the record of a version cannot move to the file with its text.

    Returns:
        None if no file with another name has its text.
    """
    found = elsewhere(entry, entries)
    names = [f"{each.migration.version}.up.sql" for each in found if each.migration]
    if len(names) > 1:
        return f"its text is in {len(names)} files: {', '.join(names)}"
    for each in found:
        if each.applied:
            return f"its text is in {names[0]}, but {each.version} has that number in the history"
    return None
