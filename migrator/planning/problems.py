"""Say what forbids to go on with a version, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ..errors import (
    InterruptedMigrationError,
    IrreversibleError,
    MigratorError,
    MissingError,
    ModifiedError,
    OutOfOrderError,
)
from ..model import AppliedMigration, Direction, Entry, Migration, SourceFile, Status, Step
from ..sql import parser
from ..sql.location import locate
from ..sql.script import Script, Statement, Unit, is_long

_DIFF_LINES = 60


def disagreements(entry: Entry) -> Iterator[MigratorError]:
    """Yield what files and history disagree about; nothing if they agree."""
    version = entry.version
    match entry:
        case Entry(status=Status.MODIFIED, migration=Migration() as migration, applied=applied):
            assert applied is not None, "what was never applied cannot be modified"
            yield _modified(migration, applied)
        case Entry(status=Status.MISSING):
            yield missing(entry)
        case Entry(status=Status.OUT_OF_ORDER):
            yield OutOfOrderError(
                f"{version} is pending, but a newer version is applied",
                hint="give the file a number above the newest, or, if the order between "
                "them does not matter: migrator up --out-of-order",
                version=version,
            )


def missing(entry: Entry) -> MigratorError:
    """Say that a version is applied, and has no up file."""
    is_stored = entry.applied is not None and entry.applied.up_script is not None
    stored = "; the column up_script of migration_versions has its text, too" * is_stored
    return MissingError(
        f"{entry.version} is applied, and its file is gone",
        hint=f"bring {entry.version}.up.sql back from version control{stored}",
        version=entry.version,
    )


def interruptions(entry: Entry) -> Iterator[MigratorError]:
    """Yield why an interrupted version cannot simply go on upwards; nothing if it can."""
    applied, migration, version = entry.applied, entry.migration, entry.version
    if not applied or not applied.under_way:
        return
    if applied.under_way is Direction.DOWN:
        yield InterruptedMigrationError(
            f"{version} is half taken back: {_done(applied.taken_back)}",
            hint="finish that with: migrator down",
            version=version,
        )
    elif not migration:
        yield InterruptedMigrationError(
            f"{version} was interrupted, and its file is gone",
            hint="bring the file back from version control",
            version=version,
        )
    elif migration.version != version:
        yield InterruptedMigrationError(
            f"{version} was interrupted, and its file is called {migration.version} by now",
            hint=f"name the file {version}.up.sql again, then run: migrator up",
            version=version,
        )
    elif difference := _edited_since(applied, migration):
        yield InterruptedMigrationError(
            f"{version} was interrupted, and what had finished of it was edited since",
            detail=difference,
            hint=f"put its {_first(applied.statements_done)} back to what ran "
            "(what stands behind may be mended), then run: migrator up",
            version=version,
        )


def _unfinished(entry: Entry) -> Iterator[MigratorError]:
    if entry.status is Status.INTERRUPTED and entry.applied:
        yield InterruptedMigrationError(
            f"{entry.version} was interrupted behind {_steps(entry.applied.statements_done)}",
            hint="mend the cause (migrator log tells it), then go on with: migrator up",
            version=entry.version,
        )


def down_interruption(entry: Entry, source: SourceFile) -> Iterator[MigratorError]:
    """Yield why an interrupted down cannot simply go on with a script; nothing if it can."""
    applied = entry.applied
    if not applied or not applied.taken_back:
        return
    done = applied.taken_back
    ran = parser.parse(source.path, applied.down_script or "").units[:done]
    if _meaning(ran) != _meaning(parser.parse(source.path, source.text).units[:done]):
        yield InterruptedMigrationError(
            f"the down of {entry.version} was interrupted, and what had finished of it was "
            "edited since",
            detail=_difference(applied.down_script, source),
            hint=f"put the {_first(done)} back to what ran (what stands behind may be "
            "mended), then run: migrator down --from-files",
            version=entry.version,
        )


def edited_step(step: Step, statement: Statement | None, ran: str) -> MigratorError:
    """Say that a step had finished in another form than it has by now, and nobody recorded it.

    Args:
        statement: What stands in its place; None if the script is one transaction by now.
        ran: The text that was run.
    """
    script, text = step.script, statement.text if statement else step.script.source
    offset = statement.offset if statement else 0
    import difflib  # noqa: PLC0415  (only what differs pays for it)

    lines = difflib.unified_diff(
        ran.splitlines(), text.splitlines(), "as it ran", str(script.path), lineterm=""
    )
    return InterruptedMigrationError(
        f"a step of {step.version} has finished on the server, and was edited since",
        location=locate(script.source, offset, script.path),
        detail="\n".join(islice(lines, _DIFF_LINES)),
        hint=f"put it back to what ran, then run: migrator {step.direction}; or undo by hand what "
        f'it made, then: migrator repair {step.version} --reverted --reason "…"',
        version=step.version,
    )


def _done(number: int) -> str:
    return "1 step of its down is done" if number == 1 else f"{number} steps of its down are done"


def _first(number: int) -> str:
    return "first step" if number == 1 else f"first {number} steps"


def _steps(number: int) -> str:
    return "1 step" if number == 1 else f"{number} steps"


def irreversible(entry: Entry) -> MigratorError:
    """Say that a version has no down script, neither stored nor as a file."""
    return IrreversibleError(
        f"{entry.version} is irreversible: it has no down script",
        hint=f"write {entry.version}.down.sql, or leave it applied",
        version=entry.version,
    )


def find_problems(entries: Iterable[Entry]) -> Iterator[MigratorError]:
    """Yield all that is wrong with files and history, by version; see `find_notes` for the rest."""
    entries = tuple(entries)
    newest = newest_file(entries)
    for entry in entries:
        if entry.number <= newest:
            yield from disagreements(entry)
        yield from tuple(interruptions(entry)) or _unfinished(entry)
        if entry.migration:
            for source in (entry.migration.up, entry.migration.down):
                if source and not parser.is_plain(source.text):
                    yield from refusals(parser.parse(source.path, source.text))


def refusals(script: Script) -> tuple[MigratorError, ...]:
    """Return everything that is refused inside a file, its options for a rehearsal included."""
    if not script.options.allowances:
        return script.problems
    from ..hazards import catalogue  # noqa: PLC0415  (who allows nothing pays for no table of them)

    return (*script.problems, *catalogue.problems(script))


def newest_file(entries: Iterable[Entry]) -> int:
    """Return the highest number among the files; -1 if there are none."""
    return max((entry.number for entry in entries if entry.migration), default=-1)


def unsettled(entries: Iterable[Entry]) -> frozenset[Status]:
    """Return in which states versions are that are not as the files want them.

    A database that is ahead of the files has what they need: a release was rolled back, or
    the next one is being rolled out.
    """
    entries = tuple(entries)
    newest = newest_file(entries)
    ahead = {e.number for e in entries if e.status is Status.MISSING and e.number > newest}
    return frozenset(e.status for e in entries if e.number not in ahead) - {Status.APPLIED}


def find_notes(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return what is worth knowing and no problem, as sentences."""
    entries = tuple(entries)
    newest = newest_file(entries)
    ahead = [e.version for e in entries if e.status is Status.MISSING and e.number > newest]
    final = [
        e.version for e in entries if not e.down_file and not (e.applied and e.applied.has_down)
    ]
    edited = [e.version for e in entries if e.reformatted]
    said = (
        ("the database is ahead of these files: it has", ahead),
        ("irreversible, for want of a down file:", final),
        ("edited since they were applied, in comments and white space only:", edited),
    )
    return tuple(f"{what} {', '.join(versions)}" for what, versions in said if versions)


def _modified(migration: Migration, applied: AppliedMigration) -> MigratorError:
    version = applied.version
    if migration.version != version:
        return ModifiedError(
            f"{version} is applied, and in the files its number belongs to {migration.version}",
            hint=f"name the file {version}.up.sql again, or give it a number of its own",
            version=version,
        )
    return ModifiedError(
        f"{migration.up.path} was edited after it was applied",
        detail=_difference(applied.up_script, migration.up),
        hint="put the file back and write the change as a new migration, or, if this "
        f'database has it already: migrator repair {version} --accept --reason "…"',
        version=version,
    )


def _difference(stored: str | None, file: SourceFile) -> str:
    if stored is None or is_long(file.text):
        return "only the checksums tell: the script is too long to be stored or compared"
    import difflib  # noqa: PLC0415  (only what differs pays for it)

    lines = difflib.unified_diff(
        stored.splitlines(), file.text.splitlines(), "as applied", str(file.path), lineterm=""
    )
    shown = list(islice(lines, _DIFF_LINES + 1))
    return "\n".join([*shown[:_DIFF_LINES], *(["…"] if len(shown) > _DIFF_LINES else [])])


def _edited_since(applied: AppliedMigration, migration: Migration) -> str | None:
    """Return the difference in the units that have finished; None if there is none."""
    if applied.checksum == migration.up.checksum or not applied.statements_done:
        return None
    if applied.up_script is None:
        return _difference(None, migration.up)
    ran = parser.parse(migration.up.path, applied.up_script).units
    file = parser.parse(migration.up.path, migration.up.text)
    done = applied.statements_done
    if not file.transactional and _meaning(ran[:done]) == _meaning(file.units[:done]):
        return None
    return _difference(applied.up_script, migration.up)


def _meaning(units: Iterable[Unit]) -> list[list[list[str]]]:
    return [[parser.statement_tokens(s) for s in unit.statements] for unit in units]
