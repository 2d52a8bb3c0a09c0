"""Compare repeatable files with the history, and plan to apply those that have changed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
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
    planned = tuple(steps)
    gone = [tuple(dropped(step.script)) for step in planned]
    if not any(gone):
        return planned
    made = {each.name: _made(each) for each in repeatables if each.applied}
    return tuple(
        replace(step, forgets=tuple(_among(found, made))) if found else step
        for step, found in zip(planned, gone, strict=True)
    )


def _among(gone: Iterable[Made], made: Mapping[str, Iterable[Made]]) -> Iterator[str]:
    gone = tuple(gone)
    return (name for name in made if any(a.is_same(b) for a in made[name] for b in gone))


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
    numbered: Iterable[Migration], repeatables: Iterable[Repeatable]
) -> Iterator[MigratorError]:
    """Yield what two repeatable files create, or a numbered migration and one of them.

    What a later one of them drops is left out: that is how an object comes to a repeatable file.

    Args:
        numbered: By ascending number.
    """
    numbered, repeatables = tuple(numbered), tuple(repeatables)
    if not numbered and not any(each.is_pending for each in repeatables):
        return
    files = [each.migration for each in repeatables if each.migration]
    ours = [(file, made) for file in files for made in created(_parsed(file))]
    for (one, made), (file, other) in combinations(ours, 2):
        if one is not file and made.is_same(other):
            yield _conflict(file, made, one, f"remove it from {file.version} or {one.version}")
    names = {made.name[-1].lower() for _, made in ours}
    others = [each for each in numbered if _has_any(each.up.text, names)]
    scripts = [_parsed(each) for each in others]
    for at, migration in enumerate(others):
        for made in created(scripts[at]):
            later = (gone for script in scripts[at + 1 :] for gone in dropped(script))
            both = [file for file, other in ours if other.is_same(made)]
            if both and not any(gone.is_same(made) for gone in later):
                version = migration.version
                hint = (
                    f"remove it from {version}, since the repeatable file is applied later; if "
                    f"{version} is applied already, drop it in a new migration"
                )
                yield _conflict(migration, made, both[0], hint)


def _has_any(text: str, names: Iterable[str]) -> bool:
    """Whether a text may name one of some objects; most files need not be parsed."""
    lower = text.lower()
    return any(name in lower for name in names)


def _parsed(migration: Migration) -> Script:
    return parser.parse(migration.up.path, migration.up.text)


def _conflict(migration: Migration, made: Made, file: Migration, hint: str) -> MigratorError:
    message = f"{migration.up.path} creates {made}, and so does {file.up.path}"
    return MigrationFileError(message, hint=hint)


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
    return Step(migration.version, Direction.UP, _parsed(migration), migration)


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
        """Note how a step ended; return whether it is tried again later because of its error."""
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
    numbered = (entry.migration for entry in entries if entry.migration)
    yield from conflicts(numbered, repeatables)
    for each in repeatables:
        if each.migration:
            yield from refused(_parsed(each.migration))


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
            f'once that is dropped: migrator repair {" ".join(gone)} --reverted --reason "…"'
        )
