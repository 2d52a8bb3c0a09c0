"""Compare repeatable files with the history, and plan to apply those that have changed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ..sql.made import Made, created, dropped
from ..sql.made import named_in as made_names
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
        planned: The steps of the numbered migrations.  What they forget is applied again.

    Returns:
        The steps, and why there are none, as sentences.
    """
    forgotten = {name for step in planned for name in step.forgets}
    pending = [e for e in repeatables if e.is_pending or (e.migration and e.name in forgotten)]
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


def with_forgotten(steps: Iterable[Step], repeatables: Iterable[Repeatable]) -> tuple[Step, ...]:
    """Add to the steps of numbered migrations which repeatable files' work they drop."""
    made = {each.name: _made(each) for each in repeatables if each.applied}
    return tuple(_with_forgotten(step, made) for step in steps) if made else tuple(steps)


def _with_forgotten(step: Step, made: Mapping[str, Sequence[Made]]) -> Step:
    gone = tuple(dropped(step.script))
    forgets = (name for name in made if any(a.is_same(b) for a in made[name] for b in gone))
    return replace(step, forgets=tuple(forgets)) if gone else step


def forgotten_notes(steps: Iterable[Step]) -> Iterator[str]:
    """Yield which repeatable files are to be applied again after some steps, as sentences."""
    for step in steps:
        if step.forgets:
            names = ", ".join(step.forgets)
            yield f"{step.version} drops what {names} made; the next up applies it again"


def _made(repeatable: Repeatable) -> tuple[Made, ...]:
    """Return what a repeatable file has made, or else would make."""
    applied, migration = repeatable.applied, repeatable.migration
    text = applied.script if applied and applied.script is not None else None
    if text is None and migration:
        text = migration.up.text
    return tuple(created(parser.parse(PurePath(), text or "")))


def conflicts(
    scripts: Iterable[tuple[str, Script]], repeatables: Iterable[Repeatable]
) -> Iterator[MigratorError]:
    """Yield what numbered migrations create, and repeatable files as well.

    What a later one of them drops is left out: that is how an object comes to a repeatable file.

    Args:
        scripts: With their versions, in order.
    """
    files = [each.migration for each in repeatables if each.migration]
    made = [(file, created(parser.parse(file.up.path, file.up.text))) for file in files]
    ours = [(file, each) for file, found in made for each in found]
    numbered = list(scripts) if ours else []
    for at, (version, script) in enumerate(numbered):
        for each in created(script):
            later = (gone for _, other in numbered[at + 1 :] for gone in dropped(other))
            both = [file for file, other in ours if other.is_same(each)]
            if both and not any(gone.is_same(each) for gone in later):
                yield _conflict(version, script, each, both[0])


def _conflict(version: str, script: Script, made: Made, file: Migration) -> MigratorError:
    return MigrationFileError(
        f"{script.path} creates {made}, and so does {file.up.path}",
        hint=f"remove it from {version}, since the repeatable file is applied later; if {version} "
        "is applied already, drop it in a new migration",
    )


def named_in(repeatables: Iterable[Repeatable], text: str) -> tuple[tuple[str, Made], ...]:
    """Return what repeatable files have made and a text names, each with the name of its file."""
    return tuple(
        (each.name, made)
        for each in repeatables
        if each.applied
        for made in made_names(_made(each), text)
    )


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


def problems(
    repeatables: Iterable[Repeatable], entries: Iterable[Entry]
) -> Iterator[MigratorError]:
    """Yield what is refused in repeatable files, by name, and what numbered ones create as well."""
    repeatables = tuple(repeatables)
    ups = (entry.migration for entry in entries if entry.migration)
    scripts = ((each.version, parser.parse(each.up.path, each.up.text)) for each in ups)
    yield from conflicts(scripts, repeatables)
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
