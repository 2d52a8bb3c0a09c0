"""Apply the scripts of a history, or files, to an empty database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from ..model import AppliedRepeatable, Direction, Migration, Recorded, SourceFile, Step
from ..planning.repeatables import Todo, stored_path
from ..sql import parser
from .stage import Stage, run


class ReplayError(Exception):
    """A history or files cannot be replayed; the message says why."""


def replay(stage: Stage, recorded: Recorded, files: Iterable[Migration]) -> None:
    """Apply the scripts of a history to an empty database, in the order they were applied in.

    The repeatable files come last, with the text that was applied last.

    Args:
        recorded: With its scripts.
        files: For scripts that were too long to be stored.

    Raises:
        ReplayError: A script failed, or is neither stored nor in a file.
    """
    by_checksum = {migration.up.checksum: migration for migration in files}
    rows = [row for row in recorded.versions if row.interrupted is None]
    others = [row.up_script or "" for row in rows]
    for row in sorted(rows, key=lambda row: (row.ordinal, row.number)):
        path = PurePath(f"{row.version}.up.sql (stored)")
        step = _step(row.version, path, row.checksum, row.up_script, by_checksum)
        if error := run(stage, step, others):
            raise ReplayError(f"the script of {row.version} cannot be replayed: {error}")
    _replay_repeatables(stage, recorded.repeatables, by_checksum)


def _replay_repeatables(
    stage: Stage, applied: Iterable[AppliedRepeatable], by_checksum: Mapping[str, Migration]
) -> None:
    todo = Todo(
        _step(row.name, stored_path(row), row.checksum, row.script, by_checksum) for row in applied
    )
    while step := todo.next():
        error = run(stage, step)
        if not todo.postpones(step, error) and error:
            raise ReplayError(f"the text of {step.version} cannot be applied again: {error}")


def _step(
    version: str,
    path: PurePath,
    checksum: str,
    text: str | None,
    by_checksum: Mapping[str, Migration],
) -> Step:
    """Return the step of a stored script; where it was too long to store, that of a file."""
    if text is None and checksum in by_checksum:
        text = by_checksum[checksum].up.text
    if text is None:
        raise ReplayError(f"the script of {version} is not stored, and no file has its text")
    # Not the migration of the file: two versions can have the same text.
    made = Migration(version, SourceFile(path, text, checksum), None)
    return Step(version, Direction.UP, parser.parse(path, text), made)


def apply(stage: Stage, migrations: Iterable[Migration]) -> None:
    """Apply migrations to an empty database.

    Raises:
        ReplayError: One of them fails.
    """
    migrations = tuple(migrations)
    others = [each.up.text for each in migrations]
    todo = Todo(
        Step(each.version, Direction.UP, parser.parse(each.up.path, each.up.text), each)
        for each in migrations
    )
    while step := todo.next():
        error = run(stage, step, others)
        if not todo.postpones(step, error) and error:
            raise ReplayError(f"{step.version} cannot be applied to an empty database: {error}")
