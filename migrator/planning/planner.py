"""Decide what to run: files × history → entries → plan.

Pure functions.  `status`, `verify`, `up`, `down` and `redo` all use the entries of `reconcile`,
so they agree on the state of a version.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

from ..errors import MigratorError, UsageError
from ..model import (
    AppliedMigration,
    Direction,
    Entry,
    Migration,
    Plan,
    Repeatable,
    SourceFile,
    Status,
    Step,
)
from ..sql import options, parser
from . import renames, repeatables, squash
from .problems import (
    ahead_notes,
    ahead_of_files,
    applied_order,
    disagreements,
    down_interruption,
    interrupted_at,
    interruptions,
    irreversible,
    missing,
    no_sql_note,
    refusals,
)

if TYPE_CHECKING:
    from ..sql.script import Script

_LONGEST_NUMBER = 1000  # digits


class Rehearsed(Protocol):
    """A plan that was rehearsed; `rehearsal.plan_file` reads it from its file."""

    @property
    def locks(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """The tables and lock modes of each version, both as SQL writes them."""

    def check(self, plan: Plan) -> None:
        """Raise `PlanChangedError` if the plan differs from the one that was rehearsed."""


class Action(enum.Enum):
    """What the user asked for."""

    UP = enum.auto()
    DOWN = enum.auto()
    REDO = enum.auto()


@dataclass(frozen=True, slots=True)
class Request:
    """What to plan, as the user asked for it.

    Attributes:
        target: The last version to apply (`UP`), or the newest to keep (`DOWN`); None for no limit.
        steps: The highest number of migrations; None for no limit.
        out_of_order: Also apply pending versions older than the newest applied one.
        from_files: Run the down files, not the stored scripts.
        rehearsed: A plan that this one must agree with; None without one.
    """

    action: Action
    target: str | None = None
    steps: int | None = None
    out_of_order: bool = False
    from_files: bool = False
    rehearsed: Rehearsed | None = None

    @property
    def reverts(self) -> bool:
        """Whether migrations are reverted, which needs the stored down scripts."""
        return self.action is not Action.UP


def plan(request: Request, entries: Sequence[Entry], repeatable: Sequence[Repeatable] = ()) -> Plan:
    """Plan what a request asks for.

    Raises:
        UsageError: The target is not a known version.
        PlanChangedError: The plan differs from the one that was rehearsed.
    """
    target = None if request.target is None else resolve(entries, request.target)
    match request.action:
        case Action.UP:
            planned = _plan_up(request, entries, repeatable, target)
        case Action.DOWN:
            planned = _plan_down(request, entries, repeatable, target)
        case Action.REDO:
            planned = _plan_redo(request, entries, repeatable)
    planned = replace(planned, entries=tuple(entries), repeatables=tuple(repeatable))
    if request.rehearsed:
        request.rehearsed.check(planned)
    return planned


def reconcile(
    migrations: Iterable[Migration], history: Iterable[AppliedMigration]
) -> tuple[Entry, ...]:
    """Join files and history on the number.  They are compared nowhere else.

    Returns:
        One entry for each number in the files or in the history, ascending.  A file that was
        given another number since it was applied has its entry at the number in the history.
    """
    files = {migration.number: migration for migration in migrations}
    rows = {row.number: row for row in history}
    newest = max(rows, default=-1)
    squashed = dict(squash.find(files.values(), rows))
    for row in (row for found in squashed.values() for row in found):
        del rows[row.number]
    renamed = renames.renumbered(files, rows)
    for number, migration in renamed.items():
        del files[migration.number]
        files[number] = migration
    return tuple(
        squash.entry_of(files[number], squashed[number])
        if number in squashed
        else _entry(number, files.get(number), rows.get(number), is_older=number < newest)
        for number in sorted(files.keys() | rows.keys())
    )


def _entry(
    number: int, migration: Migration | None, applied: AppliedMigration | None, *, is_older: bool
) -> Entry:
    match migration, applied:
        case _, None:
            status = Status.OUT_OF_ORDER if is_older else Status.PENDING
        case _, AppliedMigration(interrupted=Direction()):
            status = Status.INTERRUPTED
        case None, _:
            status = Status.MISSING
        case Migration(number=ours), AppliedMigration(number=theirs) if ours != theirs:
            status = Status.RENAMED
        case Migration(version=ours), AppliedMigration(version=theirs) if ours != theirs:
            is_same = renames.is_same(migration, applied)
            status = Status.RENAMED if is_same else Status.MODIFIED
        case Migration(up=SourceFile(checksum=ours)), AppliedMigration(checksum=theirs) if (
            ours != theirs
        ):
            reformatted = applied.up_script is not None and parser.same_statements(
                applied.up_script, migration.up.text
            )
            status = Status.APPLIED if reformatted else Status.MODIFIED
            return Entry(number, status, migration, applied, reformatted)
        case _:
            status = Status.APPLIED
    return Entry(number, status, migration, applied)


def resolve(entries: Iterable[Entry], text: str) -> int:
    """Return the number of the version that a user names: `5`, `05` or `05_add_phone`.

    Raises:
        UsageError: The version is unknown; the hint names the most similar one.
    """
    entries = tuple(entries)
    files = {e.migration.version: e.number for e in entries if e.migration}
    known = files | {entry.version: entry.number for entry in entries}
    if text in known:
        return known[text]
    # int() refuses thousands of digits, and no version has that many.
    number = int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else -1
    if number in known.values():
        return number
    if number >= 0 and (numbers := [e.number for e in entries if e.file_number == number]):
        return numbers[0]
    if number == 0:
        return 0
    import difflib  # noqa: PLC0415  (only an unknown version needs it)

    near = difflib.get_close_matches(text, known, n=1, cutoff=0.3)
    raise UsageError(
        f'there is no version "{text}"',
        hint=f"did you mean {near[0]}?" if near else "list the versions with: migrator status",
    )


def _plan_up(
    request: Request,
    entries: Sequence[Entry],
    repeatable: Sequence[Repeatable],
    target: int | None,
) -> Plan:
    """Plan to apply what is pending, by ascending number, and then the repeatable files.

    An interrupted version is resumed after its last finished unit.
    """
    wanted = [entry for entry in entries if target is None or entry.number <= target]
    ahead = ahead_of_files(entries)
    runnable = {Status.PENDING, Status.INTERRUPTED}
    if request.out_of_order:
        runnable.add(Status.OUT_OF_ORDER)
    candidates = [e for e in wanted if e.status in runnable][: request.steps]
    ups = (step for e in candidates if (step := _step_up(e)))
    planned = repeatables.with_forgotten(ups, repeatable)
    disagreeing = (e for e in wanted if e.status not in runnable and e not in ahead)
    squashed = tuple(e for e in wanted if e.status is Status.SQUASHED)
    last, why_not = repeatables.plan(repeatable, entries, planned)
    return Plan(
        steps=(*planned, *last),
        squashed=squashed,
        problems=(
            *(problem for e in disagreeing for problem in disagreements(e, entries)),
            *(problem for e in candidates for problem in interruptions(e)),
            *_refusals(planned),
            *repeatables.conflicts((s.migration for s in planned if s.migration), repeatable),
            *(problem for step in last for problem in repeatables.refused(step.script)),
        ),
        notes=(
            *ahead_notes(entries),
            *map(squash.note, squashed),
            *_notes(planned),
            *no_sql_note(candidates),
            *why_not,
        ),
    )


def _plan_down(
    request: Request,
    entries: Sequence[Entry],
    repeatable: Sequence[Repeatable],
    target: int | None,
) -> Plan:
    """Plan to revert versions, in the reverse of the order in which they were applied."""
    applied = [e for e in entries if e.applied and (target is None or e.number > target)]
    applied.sort(key=applied_order, reverse=True)
    chosen = [(e, _down_source(e, from_files=request.from_files)) for e in applied[: request.steps]]
    downs = (_step_down(entry, source) for entry, source in chosen if source)
    planned = repeatables.with_forgotten(downs, repeatable)
    above = [e for e in entries if e.replaces and (target is None or e.number > target)]
    is_reached = request.steps is None or request.steps > len(applied)
    return Plan(
        steps=tuple(planned),
        problems=(
            *(squash.unrecorded(entry) for entry in above if is_reached),
            *(irreversible(entry) for entry, source in chosen if not source),
            *(p for entry, source in chosen if source for p in down_interruption(entry, source)),
            *_refusals(planned),
        ),
        notes=(*_notes(planned), *repeatables.forgotten_notes(planned)),
    )


def _plan_redo(
    request: Request, entries: Sequence[Entry], repeatable: Sequence[Repeatable]
) -> Plan:
    """Plan to revert the newest versions and to apply them again from their files."""
    down = _plan_down(request, entries, repeatable, None)
    versions = {step.version for step in down.steps}
    again = [entry for entry in entries if entry.version in versions]
    ups = repeatables.with_forgotten(
        (step for e in again if (step := _step_up(replace(e, applied=None)))), repeatable
    )
    without_file = [missing(entry) for entry in again if not entry.migration]
    replaced = [each for e in again if _is_another(e) for each in disagreements(e, entries)]
    return Plan(
        steps=(*down.steps, *ups),
        problems=(*down.problems, *without_file, *replaced, *_refusals(ups)),
        notes=down.notes,
    )


def _is_another(entry: Entry) -> bool:
    """Whether the file of an applied version has both another name and other SQL."""
    file, applied = entry.migration, entry.applied
    if not file or not applied:
        return False
    return file.version != applied.version and file.up.checksum != applied.checksum


def _refusals(steps: Iterable[Step]) -> tuple[MigratorError, ...]:
    return tuple(problem for step in steps for problem in _refused(step))


def _refused(step: Step) -> Iterator[MigratorError]:
    for problem in refusals(step.script):
        if step.script.path.name.endswith("(stored)"):
            # Editing the file would not change what is stored.
            hint = f"put a working script into {step.version}.down.sql, then run: "
            yield replace(problem, hint=f"{hint}migrator down --from-files")
        else:
            yield problem
    down = step.migration.down if step.migration else None
    # It would be stored as it is, and run by the next down.
    if down and options.is_draft(down.text):
        yield from refusals(_parsed(down))


def _notes(steps: Iterable[Step]) -> tuple[str, ...]:
    return tuple(step.note for step in steps if step.note)


@cache
def _parsed(source: SourceFile) -> Script:
    return parser.parse(source.path, source.text)


def _step_up(entry: Entry) -> Step | None:
    if not entry.migration:
        return None
    script = _parsed(entry.migration.up)
    step = Step(entry.version, Direction.UP, script, entry.migration)
    applied = entry.applied
    if not applied:
        return step
    place = interrupted_at(applied.statements_done, len(script.units))
    return replace(
        step,
        start_at=applied.statements_done,
        unsure=applied.in_step is not None,
        resumes=True,
        note=f"{entry.version} was interrupted {place}, and will be resumed there",
    )


def _step_down(entry: Entry, source: SourceFile) -> Step:
    applied = entry.applied
    assert applied is not None, "a version without a row is not reverted"
    resumes = applied.interrupted is Direction.DOWN
    return Step(
        entry.version,
        Direction.DOWN,
        _parsed(source),
        start_at=applied.units_reverted,
        unsure=resumes and applied.in_step is not None,
        resumes=resumes,
        note=_down_note(entry, source),
    )


def _down_source(entry: Entry, *, from_files: bool) -> SourceFile | None:
    file = entry.down_file
    stored = entry.applied.down_script if entry.applied else None
    if stored is None or (from_files and file):
        return file
    path = file.path if file else PurePath(f"{entry.version}.down.sql")
    if file and file.text == stored:
        return file
    return SourceFile(path.with_name(f"{path.name} (stored)"), stored, "")


def _down_note(entry: Entry, source: SourceFile) -> str | None:
    file = entry.down_file
    stored = entry.applied.down_script if entry.applied else None
    if entry.applied and entry.applied.interrupted is Direction.UP:
        return (
            f"{entry.version} was interrupted while being applied; its entire down script will run"
        )
    if stored is None:
        return f"{entry.version} has no stored down script; {source.path} will run"
    if file is None:
        return f"{entry.version} has no down file; the stored script will run"
    if parser.same_statements(file.text, stored):
        return None
    runs = (
        "the file will run (--from-files)"
        if source is file
        else "the stored script will run (to run the file: --from-files)"
    )
    return f"{file.path} differs from the script stored when {entry.version} was applied; {runs}"
