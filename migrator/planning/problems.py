"""Find what is wrong with files and history, and say how to fix it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePath

from ..errors import (
    InterruptedMigrationError,
    IrreversibleError,
    MigratorError,
    MissingError,
    ModifiedError,
    OutOfOrderError,
    listed,
)
from ..model import AppliedMigration, Direction, Entry, Migration, SourceFile, Status, Step
from ..sql import parser
from ..sql.location import locate
from ..sql.script import Script, Statement, Unit, is_long
from . import renames, squash

_DIFF_LINES = 60
_MOST_NAMED = 5  # versions of a note


def disagreements(entry: Entry, entries: Sequence[Entry]) -> Iterator[MigratorError]:
    """Yield how the file of an entry disagrees with the history.

    Args:
        entries: All entries, by ascending number; hints suggest free numbers.
    """
    match entry:
        case Entry(status=Status.MODIFIED, migration=Migration() as migration, applied=applied):
            assert applied is not None, "a modified migration was applied"
            if migration.version == applied.version:
                yield _edited(migration, applied, is_newest=entry is _newest(entries))
            else:
                yield _replaced(entry, migration, applied, entries)
        case Entry(status=Status.RENAMED, migration=Migration() as migration, applied=applied):
            assert applied is not None, "a renamed migration was applied"
            yield renames.error(migration, applied)
        case Entry(status=Status.MISSING):
            if not (strange := _without_files(entries)):
                yield missing(entry, entries)
            elif entry is strange[0]:
                yield _other_history(strange)
        case Entry(status=Status.OUT_OF_ORDER, migration=Migration() as migration):
            newest = [e.version for e in entries if e.applied][-1]
            late = [e.number for e in entries if e.status is Status.OUT_OF_ORDER]
            free = _renumbered(migration, entries, skip=late.index(entry.number))
            yield OutOfOrderError(
                f"{entry.version} is older than {newest}, which is already applied",
                hint=f"rename it to {free} (migrator renumber), or, if the order between them "
                "does not matter: migrator up --out-of-order",
                version=entry.version,
            )
        case Entry(status=Status.INCOMPLETE, migration=Migration() as migration):
            yield squash.incomplete(migration, entry.replaces)


def missing(entry: Entry, entries: Iterable[Entry] = ()) -> MigratorError:
    """Return the error of an applied version without an up file.

    Args:
        entries: Where its text may be under another name.
    """
    is_stored = entry.applied is not None and entry.applied.up_script is not None
    stored = ", or from the column up_script of migration_versions" * is_stored
    return MissingError(
        f"{entry.version} is applied, but its file is missing",
        detail=renames.why_not(entry, entries),
        hint=f"restore {entry.version}.up.sql from version control{stored}",
        version=entry.version,
    )


def _without_files(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the missing versions if no applied version has a file; else none."""
    applied = [entry for entry in entries if entry.applied]
    if any(entry.migration for entry in applied) or any(e.replaces for e in entries):
        return ()
    return tuple(entry for entry in applied if entry.status is Status.MISSING)


def _other_history(strange: Sequence[Entry]) -> MigratorError:
    """Return the error of a directory that is not the one of the database."""
    if len(strange) == 1:
        return missing(strange[0])
    first, last = strange[0].version, strange[-1].version
    return MissingError(
        f"none of the {len(strange)} applied migrations has a file ({first} to {last})",
        hint="check that the directory (--dir or MIGRATOR_DIR) is the one of this database",
        version=last,
    )


def _replaced(
    entry: Entry, migration: Migration, applied: AppliedMigration, entries: Sequence[Entry]
) -> MigratorError:
    version = applied.version
    number = version.partition("_")[0]
    accept = f'migrator repair {number} --accept --reason "…"'
    return ModifiedError(
        f"{version} is applied, but file number {applied.number} is now {migration.version}",
        detail=renames.why_not(entry, entries),
        hint=f"restore {version}.up.sql and rename the other file to "
        f"{_renumbered(migration, entries)}, or, if it is the same migration: {accept}",
        version=version,
    )


def _renumbered(migration: Migration, entries: Sequence[Entry], *, skip: int = 0) -> str:
    """Return the version with a free number, as wide as its own; `skip` leaves some free."""
    digits, _, name = migration.version.partition("_")
    newest = max(number for e in entries for number in (e.number, e.file_number))
    return f"{newest + 1 + skip:0{len(digits)}}_{name}"


def _edited(migration: Migration, applied: AppliedMigration, *, is_newest: bool) -> MigratorError:
    accept = f'migrator repair {applied.version} --accept --reason "…"'
    again = "to revert it and apply the edited file: migrator redo\n"
    return ModifiedError(
        f"{migration.up.path} was edited after it was applied",
        detail=_difference(applied.up_script, migration.up),
        hint=again
        * (is_newest and bool(applied.has_down or migration.down))
        + "restore the file and make the change in a new migration, or, if the database already "
        f"has the change: {accept}",
        version=applied.version,
    )


def _newest(entries: Sequence[Entry]) -> Entry | None:
    """Return the entry that `redo` reverts: the last one applied."""
    applied = [entry for entry in entries if entry.applied]
    return max(applied, key=applied_order, default=None)


def applied_order(entry: Entry) -> tuple[bool, int, int]:
    """Return the sort key for the order of application; an interrupted version comes last."""
    applied = entry.applied
    assert applied is not None, "a version without a row has no order"
    return applied.interrupted is not None, applied.ordinal, entry.number


def interruptions(entry: Entry) -> Iterator[MigratorError]:
    """Yield why an interrupted version cannot be resumed upwards; nothing if it can."""
    applied, migration, version = entry.applied, entry.migration, entry.version
    if not applied or not applied.interrupted:
        return
    if applied.interrupted is Direction.DOWN:
        place = interrupted_at(applied.units_reverted)
        yield InterruptedMigrationError(
            f"{version} is partly reverted: its down script was interrupted {place}",
            hint="to finish reverting it, run: migrator down",
            version=version,
        )
    elif not migration:
        yield InterruptedMigrationError(
            f"{version} was interrupted, and its file is missing",
            hint=f"restore {version}.up.sql from version control",
            version=version,
        )
    elif migration.version != version:
        yield InterruptedMigrationError(
            f"{version} was interrupted, but its file is now named {migration.version}",
            hint=f"rename it back to {version}.up.sql, then run: migrator up",
            version=version,
        )
    elif difference := _edited_since(applied, migration):
        yield InterruptedMigrationError(
            f"{version} was interrupted, and a finished statement has been edited since",
            detail=difference,
            hint=f"{_restore(applied.statements_done)}, then run: migrator up",
            version=version,
        )


def _unfinished(entry: Entry) -> Iterator[MigratorError]:
    if entry.status is Status.INTERRUPTED and entry.applied and entry.migration:
        total = len(_units(entry.migration.up))
        place = interrupted_at(entry.applied.statements_done, total)
        yield InterruptedMigrationError(
            f"{entry.version} was interrupted {place}",
            hint="fix the cause (see: migrator log), then resume with: migrator up",
            version=entry.version,
        )


def interrupted_at(done: int, total: int | None = None) -> str:
    """Return where a script was interrupted.

    >>> interrupted_at(2, 3), interrupted_at(0, 3)
    ('after statement 2 of 3', 'at statement 1 of 3')
    """
    of_total = "" if total is None else f" of {total}"
    return f"after statement {done}{of_total}" if done else f"at statement 1{of_total}"


def down_interruption(entry: Entry, source: SourceFile) -> Iterator[MigratorError]:
    """Yield why an interrupted down cannot be resumed with a script; nothing if it can."""
    applied = entry.applied
    if not applied or not applied.units_reverted:
        return
    done = applied.units_reverted
    ran = parser.parse(source.path, applied.down_script or "").units[:done]
    if _meaning(ran) != _meaning(_units(source)[:done]):
        yield InterruptedMigrationError(
            f"the down script of {entry.version} was interrupted, and a finished statement has "
            "been edited since",
            detail=_difference(applied.down_script, source),
            hint=f"{_restore(done)}, then run: migrator down --from-files",
            version=entry.version,
        )


def edited_statement(step: Step, statement: Statement | None, ran: str) -> MigratorError:
    """Return the error of a statement that finished unrecorded, and was edited since.

    Args:
        statement: The one that replaces it; None if the script is now one transaction.
        ran: The text that was run.
    """
    script, text = step.script, statement.text if statement else step.script.source
    offset = statement.offset if statement else 0
    return InterruptedMigrationError(
        f"a statement of {step.version} finished on the server, and has been edited since",
        location=locate(script.source, offset, script.path),
        detail=_diff(ran, text, "as run", script.path),
        hint=f"restore it to what was run, then run: migrator {step.direction}; or undo its effect "
        f'by hand, then run: migrator repair {step.version} --reverted --reason "…"',
        version=step.version,
    )


def _restore(done: int) -> str:
    which = "statement 1" if done == 1 else f"statements 1 to {done}"
    return f"restore {which} to what was run (later statements may be edited)"


def irreversible(entry: Entry) -> MigratorError:
    """Return the error of a version without a down script, neither stored nor in a file."""
    files = f"{entry.version}.down.sql"
    if entry.migration is None:  # a down file alone would be refused
        files = f"{entry.version}.up.sql and {files}"
    return IrreversibleError(
        f"{entry.version} is irreversible: it has no down script",
        hint=f"write {files}, or keep the migration applied",
        version=entry.version,
    )


def find_problems(entries: Iterable[Entry]) -> Iterator[MigratorError]:
    """Yield every problem of files and history, by version."""
    entries = tuple(entries)
    ahead = ahead_of_files(entries)
    for entry in entries:
        if entry not in ahead:
            yield from disagreements(entry, entries)
        yield from tuple(interruptions(entry)) or _unfinished(entry)
        if entry.migration:
            for source in (entry.migration.up, entry.migration.down):
                if source and not parser.is_plain(source.text):
                    yield from refusals(parser.parse(source.path, source.text))


def refusals(script: Script) -> tuple[MigratorError, ...]:
    """Return what is refused in a script, invalid allowances included."""
    if not script.options.allowances:
        return script.problems
    from ..hazards import catalogue  # noqa: PLC0415  (only allowances need it)

    return (*script.problems, *catalogue.problems(script))


def find_notes(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return what the user should know that is not a problem, as sentences."""
    entries = tuple(entries)
    final = [e for e in entries if not e.down_file and not (e.applied and e.applied.has_down)]
    edited = [e for e in entries if e.reformatted]
    changed = [e for e in entries if _differs_from_stored(e)]
    notes = list(ahead_notes(entries))
    if final:
        one, many = "has no down file and is", "have no down file and are"
        notes.append(f"{_versions(final)} {one if len(final) == 1 else many} irreversible")
    notes += no_sql_note(entries)
    if edited:
        notes.append(
            f"edited since, but only in comments, white space and letter case: {_versions(edited)}"
        )
    if changed:
        notes.append(
            "down files that differ from the script stored when the migration was applied: "
            f"{_versions(changed)}; the stored script will run (to run the file: --from-files)"
        )
    return tuple(notes)


def _differs_from_stored(entry: Entry) -> bool:
    """Whether `down` would run another script than the file's; the stored one was read."""
    file, stored = entry.down_file, entry.applied.down_script if entry.applied else None
    return bool(file and stored is not None and not parser.same_statements(file.text, stored))


def no_sql_note(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a sentence if up files have no SQL, as those of many real histories."""
    files = (entry.migration for entry in entries if entry.migration)
    empty = [file.version for file in files if not parser.has_sql(file.up.text)]
    if empty:
        more = f" and {len(empty) - _MOST_NAMED} more" if len(empty) > _MOST_NAMED else ""
        verb = "has" if len(empty) == 1 else "have"
        yield f"{', '.join(empty[:_MOST_NAMED])}{more} {verb} no SQL"


def ahead_notes(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a sentence if the database is ahead of the files."""
    if ahead := ahead_of_files(entries):
        names = listed([entry.version for entry in ahead])
        yield f"the database is ahead of these files: it also has {names}"


def ahead_of_files(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the missing versions above the newest file, which are no problem.

    The files are those of an older release: it was rolled back, or the newer one is being
    deployed.  There are none if no applied version has a file: then the directory is another one.
    """
    if _without_files(entries):
        return ()
    newest = max((entry.file_number for entry in entries), default=-1)
    return tuple(e for e in entries if e.status is Status.MISSING and e.number > newest)


def outstanding_states(entries: Iterable[Entry]) -> frozenset[Status]:
    """Return the states of versions, other than applied and ahead of the files."""
    entries = tuple(entries)
    ahead = ahead_of_files(entries)
    there = {Status.APPLIED, Status.SQUASHED}
    return frozenset(e.status for e in entries if e not in ahead) - there


def _versions(entries: Iterable[Entry]) -> str:
    return listed([entry.version for entry in entries])


def _difference(stored: str | None, file: SourceFile) -> str:
    if stored is None or is_long(file.text):
        return "the script is too long to show the difference"
    return _diff(stored, file.text, "as applied", file.path)


def _diff(old: str, new: str, old_name: str, path: PurePath) -> str:
    import difflib  # noqa: PLC0415  (only a difference needs it)

    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), old_name, str(path), lineterm=""
    )
    shown = list(islice(lines, _DIFF_LINES + 1))
    return "\n".join([*shown[:_DIFF_LINES], *(["…"] if len(shown) > _DIFF_LINES else [])])


def _edited_since(applied: AppliedMigration, migration: Migration) -> str | None:
    """Return the difference if units that have finished were edited; else None."""
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


def _units(source: SourceFile) -> tuple[Unit, ...]:
    return parser.parse(source.path, source.text).units


def _meaning(units: Iterable[Unit]) -> list[list[list[str]]]:
    return [[parser.statement_tokens(s) for s in unit.statements] for unit in units]
