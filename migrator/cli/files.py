"""The commands about migration files: create, verify."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .. import errors
from .app import App
from .options import everywhere


@click.command(epilog="Example: migrator create add_phone_to_users")
@click.argument("name")
@everywhere
@click.pass_obj
def create(app: App, *, name: str) -> None:
    """Write the next pair of files, with a template in each."""
    from ..files import directory

    up_path, down_path = directory.create(app.settings.directory, name, now=datetime.now(UTC))
    paths = {"up": str(up_path), "down": str(down_path)}
    kept = f"the files were written: {up_path}, {down_path}"
    app.show(lambda: "\n".join(paths.values()), lambda: dict(paths), kept=kept)


@click.command(epilog="Example: migrator verify --offline")
@click.option("--offline", is_flag=True, help="Check the files alone, without a database.")
@everywhere
@click.pass_obj
def verify(app: App, *, offline: bool) -> None:
    """Check that the files can be run, and are what was applied."""
    from ..files import directory
    from ..output.text import verified
    from ..planning import planner
    from ..planning.problems import find_notes, find_problems

    if offline:
        entries = planner.reconcile(directory.read_migrations(app.settings.directory), ())
    else:
        with app.opened() as work:
            entries = work.entries()
    if found := tuple(find_problems(entries)):
        raise errors.BlockedError("not in order", errors=found)
    notes = find_notes(entries)
    total = verified(entries, offline=offline)
    app.show(
        lambda: "\n".join([*(f"note: {note}" for note in notes), total]),
        lambda: {"notes": list(notes), "versions": len(entries)},
    )
