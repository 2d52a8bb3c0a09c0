"""The commands about migration files: create, verify, renumber."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from .. import errors
from .app import App
from .command import command
from .confirmation import confirm
from .options import complete_version, scratch_option, yes_option
from .schema import check_file


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
    from .. import model, session
    from ..files import directory
    from ..output.text import verified_text
    from ..planning import repeatables
    from ..planning.problems import find_notes, find_problems

    if offline and schema_file:
        raise errors.UsageError("--schema-file cannot be combined with --offline")
    writers: tuple[str, ...] = ()
    settings = app.settings
    folders = settings.directories
    renamed = [pair for each in folders * fix for pair in directory.rename_misnamed(each)]
    for old, new in renamed:
        app.remark(f"renamed {old} to {new}")
    if offline:
        migrations = directory.read_required(*folders, allow_empty=settings.allow_empty)
        if ignored := directory.ignored(*folders):
            app.remark(f"warning: {ignored}")
        entries, repeatable = session.compared(migrations, model.Recorded())
        found = (*find_problems(entries), *repeatables.problems(repeatable, entries))
    else:
        with app.opened() as work:
            (entries, repeatable), writers = work.state(downs=True), work.history.writers
            found = (*find_problems(entries), *repeatables.problems(repeatable, entries))
            if schema_file and not found:
                check_file(app, work, schema_file, app.other_database(scratch_url))
    if found:
        raise errors.BlockedError.of(found, "found")
    notes = (*find_notes(entries), *repeatables.notes(repeatable))
    if writers:
        notes += (
            f"other roles may change the history, and what `down` runs: {', '.join(writers)}",
        )
    total = verified_text(entries, repeatable, offline=offline)
    app.show(
        lambda: "\n".join([*(f"note: {note}" for note in notes), total]),
        lambda: {
            "notes": list(notes),
            "versions": len(entries),
            "repeatables": len(repeatable),
            "renamed": [{"from": str(old), "to": str(new)} for old, new in renamed],
        },
    )


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
