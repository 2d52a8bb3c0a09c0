"""Record a decision of the user: a baseline, or the repair of some versions."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from ..errors import BlockedError, HistoryError, UsageError
from ..events import Notify
from ..files import directory
from ..history import recorder
from ..history.recorder import Command, Recorder
from ..model import Entry, Freshness, Migration, Repeatable, Status
from ..planning import planner, renames
from ..postgres import catalog, connection
from ..postgres.cursor import send
from ..session import Session
from ..sql import parser
from . import runner

_BASELINE = "baseline"
_REPAIR = "repair"


_ACCEPTED = (Status.MODIFIED, Status.RENAMED)


class Decision(enum.StrEnum):
    """What `repair` records about a version."""

    ACCEPT = "accepted"  # the edited file matches the database
    APPLIED = "applied"  # it is fully applied
    REVERTED = "reverted"  # it is not applied
    RENAMED = "renamed"  # its record moves to the present name of its file


def baseline(work: Session, version: str, notify: Notify) -> tuple[str, ...]:
    """Record every pending version up to one as applied, without running any.

    Returns:
        The versions that were recorded, in order; none if all of them were recorded before.

    Raises:
        UsageError: No file has this version.
        HistoryError: The database is empty.
        BlockedError: A file up to this version is not a valid migration.
    """
    bound = max(migration.number for migration in of_baseline(work, version))
    with runner.locked(work, notify):
        pending = [
            entry.migration
            for entry in work.entries()
            if entry.number <= bound and entry.migration and not (entry.applied or entry.replaces)
        ]
        write = recorder.recorder(work.history.schema)
        commands = [command for m in pending for command in _baseline(write, m)]
        _write(work, commands)
    return tuple(migration.version for migration in pending)


def of_baseline(work: Session, version: str) -> tuple[Migration, ...]:
    """Return the migrations up to a version, by ascending number.

    Raises:
        UsageError: No file has this version.
        HistoryError: The database is empty.
        BlockedError: A file up to this version is not a valid migration.
    """
    bound = planner.resolve(work.entries(), version)
    with connection.reported():
        is_empty = catalog.is_empty(work.conn, work.history.schema)
    if is_empty:
        raise HistoryError(
            f'the database "{work.conn.info.dbname}" is empty: there is nothing to baseline',
            hint="to create its schema, run: migrator up",
        )
    files = directory.numbered(work.migrations)
    found = tuple(migration for migration in files if migration.number <= bound)
    if not found:
        raise UsageError(
            f"no file has a version up to {version}",
            hint="to list the versions, run: migrator status",
        )
    scripts = (parser.parse(migration.up.path, migration.up.text) for migration in found)
    if problems := tuple(problem for script in scripts for problem in script.problems):
        raise BlockedError.of(problems, "found; nothing was recorded")
    return found


def repair(
    work: Session, versions: Iterable[str], decision: Decision, reason: str | None, notify: Notify
) -> tuple[Entry, ...]:
    """Record a decision about some versions, with its reason, all or none; run nothing.

    Returns:
        The versions as they were before, by ascending number.

    Raises:
        UsageError: There is no such version, or its state does not allow the decision.
        BlockedError: So it is with several of them.
    """
    with runner.locked(work, notify):
        entries = work.entries()
        numbers = {planner.resolve(entries, version) for version in versions}
        chosen = [entry for entry in entries if entry.number in numbers]
        if unknown := numbers - {entry.number for entry in chosen}:
            raise UsageError(f"there is no version {min(unknown)}", hint="see: migrator status")
        _refuse(chosen, decision, entries)
        write = recorder.recorder(work.history.schema)
        commands = [c for each in chosen for c in _repair(write, each, decision, reason)]
        _write(work, commands)
    return tuple(chosen)


def repair_repeatables(
    work: Session, names: Iterable[str], decision: Decision, reason: str | None, notify: Notify
) -> tuple[str, ...]:
    """Record a decision about some repeatable files, as `repair` does; return their names.

    Raises:
        UsageError: There is no such file, or its state does not allow the decision.
        BlockedError: So it is with several of them.
    """
    wanted = sorted(set(names))
    with runner.locked(work, notify):
        known = {each.name: each for each in work.state()[1]}
        if unknown := [name for name in wanted if name not in known]:
            message = f"there is no repeatable file {unknown[0]}"
            raise UsageError(message, hint="see: migrator status")
        chosen = [known[name] for name in wanted]
        _raise(problem for each in chosen if (problem := _problem_of(each, decision)))
        write = recorder.recorder(work.history.schema)
        commands = [c for each in chosen for c in _repair_repeatable(write, each, decision, reason)]
        _write(work, commands)
    return tuple(wanted)


def _problem_of(repeatable: Repeatable, decision: Decision) -> UsageError | None:
    """Return why a decision about a repeatable file cannot be recorded; None if it can."""
    applied, status = repeatable.applied, repeatable.status
    match decision:
        case Decision.REVERTED if applied:
            return None
        case Decision.APPLIED if status is Freshness.NEVER_APPLIED:
            return None
        case Decision.ACCEPT if status is Freshness.CHANGED or repeatable.reformatted:
            return None
    return UsageError(
        f"{repeatable.name} is {status}, and cannot be recorded as {decision}",
        hint="to see its state, run: migrator status",
    )


def _repair_repeatable(
    write: Recorder, repeatable: Repeatable, decision: Decision, reason: str | None
) -> Iterable[Command]:
    if decision is Decision.REVERTED:
        yield write.delete(repeatable.name)
    else:
        assert repeatable.migration is not None, "it was checked"
        _units(repeatable.migration)
        yield write.record_applied(repeatable.migration, 0)
    yield write.log(repeatable.name, _REPAIR, decision, reason=reason)


def _refuse(chosen: Iterable[Entry], decision: Decision, entries: Sequence[Entry]) -> None:
    _raise(problem for entry in chosen if (problem := _problem(entry, decision, entries)))


def _raise(found: Iterable[UsageError]) -> None:
    problems = tuple(found)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise BlockedError.of(problems, "found; nothing was recorded")


def _problem(entry: Entry, decision: Decision, entries: Sequence[Entry]) -> UsageError | None:
    """Return why a decision about a version cannot be recorded; None if it can."""
    if decision is Decision.RENAMED:
        return _not_renamed(entry, entries)
    applied, migration = entry.applied, entry.migration
    is_edited = entry.status in _ACCEPTED or entry.reformatted
    if entry.replaces:
        return UsageError(
            f"{entry.version} is {entry.status}: it has no row in the history yet",
            hint="for what to do, run: migrator verify",
        )
    match decision:
        case Decision.REVERTED if applied:
            return None
        case Decision.APPLIED if migration and not (applied and applied.interrupted is None):
            return None
        case Decision.ACCEPT if migration and applied and is_edited:
            return None
    if not migration and decision is not Decision.REVERTED:
        return UsageError(
            f"{entry.version} has no file: it cannot be recorded as {decision}",
            hint="restore the file from version control; or, if it is not applied: "
            f'migrator repair {entry.version} --reverted --reason "…"',
        )
    return UsageError(
        f"{entry.version} is {entry.status}: nothing to repair",
        hint="to see its state, run: migrator status",
    )


def _not_renamed(entry: Entry, entries: Sequence[Entry]) -> UsageError | None:
    """Return why the record of a version cannot move to another name; None if it can."""
    if entry.status is Status.RENAMED:
        return None
    if why := renames.why_not(entry, entries):
        return UsageError(
            f"{entry.version} cannot be recorded under another name: {why}",
            hint="leave its text in one file, with a number that is not applied",
        )
    return UsageError(
        f"{entry.version} is {entry.status}, and no file with another name has its text",
        hint="to see its state, run: migrator status",
    )


def _repair(
    write: Recorder, entry: Entry, decision: Decision, reason: str | None
) -> Iterable[Command]:
    """Record a decision, of an applied version under the present name of its file."""
    new_name = None if decision is Decision.REVERTED else entry.new_name
    message = f"renamed to {new_name}" if new_name else None
    if decision is Decision.RENAMED:
        assert entry.new_name is not None, "it was checked"
        yield write.rename(entry.version, entry.new_name)
    elif decision is Decision.REVERTED:
        assert entry.applied is not None, "it was checked"
        yield write.delete(entry.applied.version)
    else:
        assert entry.migration is not None, "it was checked"
        if entry.applied:
            yield write.rename(entry.applied.version, entry.migration.version)
        yield write.record_applied(entry.migration, _units(entry.migration))
    yield write.log(entry.version, _REPAIR, decision, message=message, reason=reason)


def _baseline(write: Recorder, migration: Migration) -> Iterable[Command]:
    yield write.record_applied(migration, _units(migration))
    yield write.log(migration.version, _BASELINE, "done")


def _units(migration: Migration) -> int:
    script = parser.parse(migration.up.path, migration.up.text)
    if script.problems:
        raise BlockedError.of(script.problems, "found; nothing was recorded")
    return 0 if script.transactional else len(script.units)


def _write(work: Session, commands: Iterable[Command]) -> None:
    with connection.reported(work.history.schema), connection.writing(work.conn):
        for text, parameters in commands:
            send(work.conn, text, parameters)
