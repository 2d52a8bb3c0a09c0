"""The command that writes the schema of the database: dump."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .app import App
from .command import command
from .options import apply_limits, role_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config import Database
    from ..model import Entry
    from ..session import Session


@command(epilog="Example: migrator dump --output schema.sql")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help='Write to this file; "-" is stdout  [default: that of the configuration file, '
    "else stdout].",
)
@role_option
@click.pass_obj
def dump(app: App, /, *, output: Path | None, role: str | None) -> None:
    """Print the schema of the database as SQL, or write it to a file.

    The text changes only if the schema or the newest migration does.
    """
    from ..maintenance import schema_file

    apply_limits(app, {"role": role})
    path = None if str(output) == "-" else output or app.configuration.dump
    with app.opened() as work:
        version, text = _schema(work)
    changed = schema_file.write(path, text) if path else False
    app.show_exactly(
        lambda: (f"{path} is up to date", f"wrote {path}")[changed] + "\n" if path else text,
        lambda: {
            "path": str(path) if path else None,
            "newest": version,
            "changed": changed,
            "schema": None if path else text,
        },
    )


def write_configured(app: App, work: Session, path: Path | None) -> None:
    """Write the schema to the file that the configuration names; None for none.

    Raises:
        MigratorError: The schema cannot be read, or the file cannot be written.
    """
    from ..maintenance import schema_file

    if path and schema_file.write(path, _schema(work)[1]):
        app.remark(f"wrote {path}")


def check_file(app: App, work: Session, path: Path, server: Database | None) -> None:
    """Check that a file has the schema that the migrations make on a scratch database.

    Raises:
        SchemaFileError: It has another.
        MigratorError: The files cannot be applied, or there is no scratch database.
    """
    from ..files.directory import numbered
    from ..maintenance import schema_file
    from ..rehearsal.compare import made_by_files

    versions = (each.version for each in numbered(work.migrations))
    with made_by_files(work, server, app.notify) as (database, major):
        text = schema_file.read(
            database,
            major,
            work.history.schema,
            newest=next(reversed([*versions]), None),
            lock_timeout=work.settings.lock_timeout,
            role=None,
        )
    schema_file.check(path, text)


def _schema(work: Session) -> tuple[str | None, str]:
    """Return the newest version of the history, and the schema."""
    from ..maintenance import schema_file

    version = newest(work.entries())
    text = schema_file.read(
        work.database,
        work.conn.info.server_version // 10000,
        work.history.schema,
        newest=version,
        lock_timeout=work.settings.lock_timeout,
        role=work.settings.role,
    )
    return version, text


def newest(entries: Iterable[Entry]) -> str | None:
    """Return the version with the highest number of those that are applied; None for none."""
    applied = (each.version for each in entries if each.applied and each.applied.applied_at)
    return next(reversed([*applied]), None)
