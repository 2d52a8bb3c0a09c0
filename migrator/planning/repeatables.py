"""Compare repeatable files with the history, and plan to apply those that have changed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from ..errors import MigrationFileError, MigratorError, StatementError, listed
from ..model import (
    AppliedRepeatable,
    Direction,
    Entry,
    Freshness,
    Migration,
    Repeatable,
    SourceFile,
    Status,
    Step,
)
from ..sql import parser
from ..sql.location import locate
from ..sql.script import Script
from .problems import ahead_of_files, refusals

_OPTION = re.compile(r"--\s*migrator:\s*no-transaction")
_NOT_YET = frozenset(["42P01", "42703", "42704", "42883"])
"""undefined_table, _column, _object and _function: a later file may make it."""
_WAITING = frozenset([Status.PENDING, Status.INTERRUPTED, Status.OUT_OF_ORDER])


def compare(
    files: Iterable[Migration], history: Iterable[AppliedRepeatable]
) -> tuple[Repeatable, ...]:
    """Join repeatable files and history on the name; the result is sorted by it."""
    migrations = {file.version: file for file in files}
    rows = {row.name: row for row in history}
    names = sorted(migrations.keys() | rows.keys())
    return tuple(_compared(migrations.get(name), rows.get(name)) for name in names)


def _compared(migration: Migration | None, applied: AppliedRepeatable | None) -> Repeatable:
    if not migration:
        return Repeatable(Freshness.FILE_GONE, None, applied)
    if not applied:
        return Repeatable(Freshness.NEVER_APPLIED, migration, None)
    if migration.up.checksum == applied.checksum:
        return Repeatable(Freshness.UP_TO_DATE, migration, applied)
    if applied.script is not None and parser.same_statements(applied.script, migration.up.text):
        return Repeatable(Freshness.UP_TO_DATE, migration, applied, reformatted=True)
    return Repeatable(Freshness.CHANGED, migration, applied)


def plan(
    repeatables: Iterable[Repeatable], entries: Sequence[Entry], planned: Sequence[Step]
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Plan to apply what has changed, by name, once no numbered migration is left to apply.

    Args:
        planned: The steps of the numbered migrations.

    Returns:
        The steps, and why there are none, as sentences.
    """
    pending = [each for each in repeatables if each.is_pending]
    if not pending:
        return (), ()
    names = listed([each.name for each in pending])
    if ahead_of_files(entries):
        return (), (f"not applied, because the files are those of an older release: {names}",)
    versions = {step.version for step in planned}
    later = [e.version for e in entries if e.status in _WAITING and e.version not in versions]
    if later:
        return (), (f"not applied before the last pending migration, {later[-1]}: {names}",)
    return tuple(_step(each) for each in pending), ()


def outstanding(
    repeatables: Iterable[Repeatable], entries: Sequence[Entry]
) -> tuple[Repeatable, ...]:
    """Return the files whose text is not applied; none if the database is ahead of the files."""
    if ahead_of_files(entries):
        return ()
    return tuple(each for each in repeatables if each.is_pending)


def _step(repeatable: Repeatable) -> Step:
    migration, applied = repeatable.migration, repeatable.applied
    assert migration is not None, "it is pending"
    if applied and applied.script is not None:
        old = SourceFile(stored_path(applied), applied.script, applied.checksum)
        migration = replace(migration, down=old)
    script = parser.parse(migration.up.path, migration.up.text)
    return Step(migration.version, Direction.UP, script, migration)


def stored_path(applied: AppliedRepeatable) -> PurePath:
    """Return what messages call the text that was applied last."""
    return PurePath(f"{applied.name}.sql (stored)")


class Todo:
    """The steps that are left to run, one by one.

    One that may need what a later one makes comes again after the others, until none of them
    succeeds any more.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._left, self._early = deque(steps), 0

    def next(self) -> Step | None:
        """Take the next step; None if there is none."""
        return self._left.popleft() if self._left else None

    def postpones(self, step: Step, error: MigratorError | None) -> bool:
        """Take how a step ended; return whether it comes again because of its error."""
        sqlstate = error.sqlstate if isinstance(error, StatementError) else None
        if self._early >= len(self._left) or not may_succeed_later(step, sqlstate):
            self._early = 0
            return False
        self._left.append(step)
        self._early += 1
        return True


def may_succeed_later(step: Step, sqlstate: str | None) -> bool:
    """Whether a step may have failed because a later repeatable file makes what it needs."""
    return step.migration is not None and step.migration.is_repeatable and sqlstate in _NOT_YET


def problems(repeatables: Iterable[Repeatable]) -> Iterator[MigratorError]:
    """Yield what is refused in repeatable files, by name."""
    for each in repeatables:
        if each.migration:
            source = each.migration.up
            yield from refused(parser.parse(source.path, source.text))


def refused(script: Script) -> Iterator[MigratorError]:
    """Yield what is refused in a repeatable file, by place."""
    if not script.transactional:
        yield _no_transaction(script)
    else:
        yield from refusals(script)


def _no_transaction(script: Script) -> MigratorError:
    option = _OPTION.search(script.source)
    offset = option.start() if option else script.units[0].statements[0].offset
    return MigrationFileError(
        "a repeatable file runs in one transaction",
        location=locate(script.source, offset, script.path),
        hint="move what cannot run in a transaction to a numbered migration",
    )


def notes(repeatables: Iterable[Repeatable]) -> Iterator[str]:
    """Yield what the user should know that is not a problem, as sentences."""
    repeatables = tuple(repeatables)
    if edited := [each.name for each in repeatables if each.reformatted]:
        yield (f"edited since, but only in comments, white space and letter case: {listed(edited)}")
    if gone := [each.name for each in repeatables if each.status is Freshness.FILE_GONE]:
        yield (
            f"the file of {listed(gone)} is gone, and what it made is still in the database; "
            "once that is dropped: migrator repair NAME --reverted"
        )
