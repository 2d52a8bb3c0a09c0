"""The commands about migration files: create, verify, renumber."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import App
from .command import command
from .confirmation import confirm
from .options import complete_version, scratch_option, yes_option
from .schema import check_file

if TYPE_CHECKING:
    from ..model import Entry, Repeatable


@command(epilog="Example: migrator create add_phone_to_users")
@click.argument("name")
@click.option(
    "--in",
    "chosen",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write into this one of several directories [default: the first].",
)
@click.option(
    "--repeatable", is_flag=True, help="Create R__NAME.sql, which is applied whenever it changes."
)
@click.pass_obj
def create(app: App, *, name: str, chosen: Path | None, repeatable: bool) -> None:
    """Create the next pair of files, or a repeatable file."""
    from ..files import directory

    directories = app.settings.directories
    if chosen:
        directories = directory.starting_with(chosen, directories)
    if repeatable:
        path = directory.create_repeatable(directories, name)
        kept = f"the file was written: {path}"
        app.show(lambda: str(path), lambda: {"repeatable": str(path)}, kept=kept)
        return
    up_path, down_path = directory.create(directories, name, now=datetime.now(UTC))
    paths = {"up": str(up_path), "down": str(down_path)}
    kept = f"the files were written: {up_path}, {down_path}"
    app.show(lambda: "\n".join(paths.values()), lambda: dict(paths), kept=kept)


@command(epilog="Example: migrator verify --offline")
@click.option("--offline", is_flag=True, help="Check only the files, without a database.")
@click.option("--fix", is_flag=True, help="First rename files for which only one name is possible.")
@click.option(
    "--schema-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also check, on a scratch database, that the files make this schema (see dump).",
)
@scratch_option
@click.pass_obj
def verify(
    app: App, *, offline: bool, fix: bool, schema_file: Path | None, scratch_url: str | None
) -> None:
    """Check that the files are valid and match the history."""
    from ..files import directory
    from ..output.text import verified_text

    if offline and schema_file:
        raise errors.UsageError("--schema-file cannot be combined with --offline")
    writers: tuple[str, ...] = ()
    folders = app.settings.directories * fix
    renamed = [pair for each in folders for pair in directory.rename_misnamed(each)]
    for old, new in renamed:
        app.remark(f"renamed {old} to {new}")
    if offline:
        entries, repeatable = _without_history(app)
        _refuse_problems(entries, repeatable)
    else:
        with app.opened() as work:
            (entries, repeatable), writers = work.state(downs=True), work.history.writers
            _refuse_problems(entries, repeatable)
            if schema_file:
                check_file(app, work, schema_file, app.other_database(scratch_url))
    notes = _notes(entries, repeatable, writers)
    lines = [*(f"note: {note}" for note in notes)]
    lines.append(verified_text(entries, repeatable, offline=offline))
    if schema_file:
        lines.append(f"{schema_file} matches the schema that the migrations produce")
    app.show(
        lambda: "\n".join(lines),
        lambda: {
            "notes": notes,
            "versions": len(entries),
            "repeatables": len(repeatable),
            "renamed": [{"from": str(old), "to": str(new)} for old, new in renamed],
        },
    )


def _without_history(app: App) -> tuple[tuple[Entry, ...], tuple[Repeatable, ...]]:
    """Read the files as if nothing were applied; warn of those that are ignored."""
    from .. import model, session
    from ..files import directory

    settings = app.settings
    migrations = directory.read_required(*settings.directories, allow_empty=settings.allow_empty)
    if ignored := directory.ignored(*settings.directories):
        app.remark(f"warning: {ignored}")
    return session.compared(migrations, model.Recorded())


def _refuse_problems(entries: Sequence[Entry], repeatable: Sequence[Repeatable]) -> None:
    """Check that nothing would stop an `up` or a `down`.

    Raises:
        BlockedError: Something would; it holds all problems.
    """
    from ..planning import repeatables
    from ..planning.problems import find_problems

    if found := (*find_problems(entries), *repeatables.problems(repeatable, entries)):
        raise errors.BlockedError.of(found, "found")


def _notes(
    entries: Sequence[Entry], repeatable: Sequence[Repeatable], writers: Sequence[str]
) -> list[str]:
    """Return what the user should know that is not a problem, as sentences."""
    from ..planning import repeatables
    from ..planning.problems import find_notes

    notes = [*find_notes(entries), *repeatables.notes(repeatable)]
    if writers:
        roles = ", ".join(writers)
        notes.append(f"other roles may change the history, and what `down` runs: {roles}")
    return notes


@command(epilog="Example: migrator renumber --dry-run")
@click.argument("version", metavar="[VERSION]...", nargs=-1, shell_complete=complete_version)
@click.option("--dry-run", is_flag=True, help="Show the new names, and rename nothing.")
@yes_option
@click.pass_obj
def renumber(app: App, *, version: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Give pending files that are out of order the next free numbers.

    For a merge of two branches: files below the newest applied migration, and files that share
    their number with another one.  With VERSION: these pending files only.
    """
    from ..files import directory
    from ..maintenance import renumber as renumbering

    folders = app.settings.directories
    migrations, alone = renumbering.read(folders)
    for empty in set(folders) - {migration.up.path.parent for migration in migrations}:
        directory.read_required(empty, allow_empty=app.settings.allow_empty)
    with app.opened(read=lambda: migrations) as work:
        moves = renumbering.plan(migrations, alone, work.recorded().versions, version)
        named = errors.listed([f"{move.old} to {move.new}" for move in moves])
        if moves and not dry_run:
            confirm(app, work, f"rename {named}", yes=yes, is_usual=True)
            renumbering.carry_out(moves)
    pairs = [pair for move in moves for pair in move.files]
    result = {
        "renamed": [{"from": str(old), "to": str(new)} for old, new in pairs],
        "dry_run": dry_run,
    }
    lines = [f"{old} -> {new.name}" for old, new in pairs]
    nothing = "nothing to do: no pending migration is out of order"
    kept = None if dry_run or not moves else f"the files were renamed: {named}"
    app.show(lambda: "\n".join(lines) or nothing, lambda: result, kept=kept)
