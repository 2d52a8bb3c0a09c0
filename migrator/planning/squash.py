"""Squashed files: which versions they replace, and whether these are applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from ..errors import MigratorError, SquashError, counted
from ..model import AppliedMigration, Entry, Migration, SourceFile, Status, number_of
from ..sql import options, parser

_MOST_TOLD = 20  # versions of an error


def replaced(migration: Migration) -> Mapping[str, str]:
    """Return the versions that a migration replaces, with their checksums."""
    return _replaced(migration.up) if options.REPLACES in migration.up.text else {}


@cache
def _replaced(source: SourceFile) -> Mapping[str, str]:
    return dict(parser.parse(source.path, source.text).options.replaces)


def find(
    files: Iterable[Migration], rows: Mapping[int, AppliedMigration]
) -> Iterator[tuple[int, tuple[AppliedMigration, ...]]]:
    """Yield the numbers of files that are not applied, with the rows of what they replace."""
    for migration in files:
        numbers = {number_of(version) for version in replaced(migration)}
        own = rows.get(migration.number)
        if numbers and not (own and own.version == migration.version):
            found = tuple(rows[number] for number in sorted(numbers & rows.keys()))
            if found:
                yield migration.number, found


def entry_of(migration: Migration, rows: tuple[AppliedMigration, ...]) -> Entry:
    """Return the entry of a file that `find` has yielded."""
    is_same = {row.version: row.checksum for row in rows} == replaced(migration)
    is_whole = is_same and not any(row.interrupted for row in rows)
    status = Status.SQUASHED if is_whole else Status.INCOMPLETE
    return Entry(migration.number, status, migration, None, replaces=rows)


def incomplete(migration: Migration, rows: Sequence[AppliedMigration]) -> MigratorError:
    """Return the error of a file that cannot replace what is applied."""
    found = {row.version: row.checksum for row in rows}
    wanted = replaced(migration)
    lines = [f"not applied: {version}" for version in wanted if version not in found]
    lines += [f"not in the file: {version}" for version in found if version not in wanted]
    lines += [
        f"applied with another text: {version}"
        for version, checksum in found.items()
        if wanted.get(version, checksum) != checksum
    ]
    lines += [f"interrupted: {row.version}" for row in rows if row.interrupted]
    more = [f"and {len(lines) - _MOST_TOLD} more"] if len(lines) > _MOST_TOLD else []
    return SquashError(
        f"{migration.version} replaces {len(wanted)} migrations, which are not all applied as "
        "they were when it was written",
        detail="\n".join([*lines[:_MOST_TOLD], *more]),
        hint="bring the database to that state with the old files (of the folder squashed, or of "
        "version control), without the new one, then put it back and run: migrator up",
        version=migration.version,
    )


def unrecorded(entry: Entry) -> MigratorError:
    """Return the error of a down that reaches what a squashed file replaces."""
    return SquashError(
        f"{entry.version} is not recorded yet in place of the {len(entry.replaces)} applied "
        "migrations that it replaces",
        hint="to record it, run: migrator up",
        version=entry.version,
    )


def note(entry: Entry) -> str:
    """Say that a squashed file is recorded in place of what it replaces, and that nothing runs."""
    first, last = entry.replaces[0].version, entry.replaces[-1].version
    return (
        f"{entry.version} takes the place of {counted(len(entry.replaces), 'applied migration')} "
        f"in the history ({first} to {last}); nothing is run for it"
    )
