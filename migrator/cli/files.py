"""The commands about migration files: create, verify."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .. import errors
from .app import App
from .command import command


@command(epilog="Example: migrator create add_phone_to_users")
@click.argument("name")
@click.pass_obj
def create(app: App, *, name: str) -> None:
    """Create the next pair of files."""
    from ..files import directory

    up_path, down_path = directory.create(app.settings.directory, name, now=datetime.now(UTC))
    paths = {"up": str(up_path), "down": str(down_path)}
    kept = f"the files were written: {up_path}, {down_path}"
    app.show(lambda: "\n".join(paths.values()), lambda: dict(paths), kept=kept)


@command(epilog="Example: migrator verify --offline")
@click.option("--offline", is_flag=True, help="Check only the files, without a database.")
@click.option("--fix", is_flag=True, help="First rename files for which only one name is possible.")
@click.pass_obj
def verify(app: App, *, offline: bool, fix: bool) -> None:
    """Check that the files are valid and match the history."""
    from ..files import directory
    from ..output.text import verified_text
    from ..planning import planner
    from ..planning.problems import find_notes, find_problems

    writers: tuple[str, ...] = ()
    settings = app.settings
    renamed = directory.rename_misnamed(settings.directory) if fix else ()
    for old, new in renamed:
        app.remark(f"renamed {old} to {new}")
    if offline:
        migrations = directory.read_required(settings.directory, allow_empty=settings.allow_empty)
        if ignored := directory.ignored(settings.directory):
            app.remark(f"warning: {ignored}")
        entries = planner.reconcile(migrations, ())
    else:
        with app.opened() as work:
            entries, writers = work.entries(downs=True), work.history.writers
    if found := tuple(find_problems(entries)):
        raise errors.BlockedError.of(found, "found")
    notes = find_notes(entries)
    if writers:
        notes += (
            f"other roles may change the history, and what `down` runs: {', '.join(writers)}",
        )
    total = verified_text(entries, offline=offline)
    app.show(
        lambda: "\n".join([*(f"note: {note}" for note in notes), total]),
        lambda: {
            "notes": list(notes),
            "versions": len(entries),
            "renamed": [{"from": old, "to": new} for old, new in renamed],
        },
    )
