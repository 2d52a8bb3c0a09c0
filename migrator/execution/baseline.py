"""Record a decision of the user: a baseline, or the repair of one version."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ..errors import BlockedError, HistoryError, UsageError
from ..events import Notify
from ..history import recorder
from ..history.recorder import Command, Recorder
from ..model import Entry, Migration, Status
from ..planning import planner
from ..postgres import catalog, connection
from ..session import Session
from ..sql import parser
from . import runner

_BASELINE = "baseline"
_REPAIR = "repair"


class Decision(enum.StrEnum):
    """What `repair` records about a version."""

    ACCEPT = "accepted"  # the edited file matches the database
    APPLIED = "applied"  # it is fully applied
    REVERTED = "reverted"  # it is not applied


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
            if entry.number <= bound and entry.migration and not entry.applied
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
    found = tuple(migration for migration in work.migrations if migration.number <= bound)
    if not found:
        raise UsageError(
            f"no file has a version up to {version}",
            hint="to list the versions, run: migrator status",
        )
    scripts = (parser.parse(migration.up.path, migration.up.text) for migration in found)
    if problems := tuple(problem for script in scripts for problem in script.problems):
        raise BlockedError.of(problems, "found; nothing was recorded")
    return found


def repair(work: Session, version: str, decision: Decision, reason: str, notify: Notify) -> str:
    """Record a decision about one version, with its reason, without running anything.

    Returns:
        The full name of the version.

    Raises:
        UsageError: There is no such version, or its state does not allow the decision.
    """
    with runner.locked(work, notify):
        entries = work.entries()
        number = planner.resolve(entries, version)
        (entry,) = (e for e in entries if e.number == number)
        write = recorder.recorder(work.history.schema)
        log = write.log(entry.version, _REPAIR, decision, reason=reason)
        _write(work, [*_commands(write, entry, decision), log])
    return entry.version


def _commands(write: Recorder, entry: Entry, decision: Decision) -> Iterable[Command]:
    applied, migration = entry.applied, entry.migration
    match decision:
        case Decision.REVERTED if applied:
            return [write.delete(applied.version)]
        case Decision.APPLIED if migration and not (applied and applied.interrupted is None):
            return _settled(write, entry, migration)
        case Decision.ACCEPT if (
            migration and applied and (entry.status is Status.MODIFIED or entry.reformatted)
        ):
            return _settled(write, entry, migration)
    if not migration and decision is not Decision.REVERTED:
        raise UsageError(
            f"{entry.version} has no file: it cannot be recorded as {decision}",
            hint="restore the file from version control; or, if it is not applied: "
            f'migrator repair {entry.version} --reverted --reason "…"',
        )
    raise UsageError(
        f"{entry.version} is {entry.status}: nothing to repair",
        hint="to see its state, run: migrator status",
    )


def _settled(write: Recorder, entry: Entry, migration: Migration) -> Iterable[Command]:
    """Record a version as applied, under the present name of its file."""
    if entry.applied:
        yield write.rename(entry.applied.version, migration.version)
    yield write.record_applied(migration, _units(migration))


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
            connection.send(work.conn, text, parameters)
