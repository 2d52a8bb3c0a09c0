"""The program: its own options, and its commands in the order of a day's work."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .. import config
from ..config import Settings
from . import files, history, migrate, rehearse
from .app import App, Commands
from .options import log_statements, version

_LOG_VERBOSITY = 2  # -vv


@click.group(
    "migrator",
    cls=Commands,
    epilog="Example: migrator up --dry-run",
    context_settings={"auto_envvar_prefix": "MIGRATOR", "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--dir",
    "directory",
    envvar="MIGRATOR_DIR",
    type=click.Path(path_type=Path, file_okay=True),
    default=config.DEFAULT_DIRECTORY,
    show_default=True,
    help="The directory of the migrations.",
)
@click.option("--database-url", metavar="URL", help="Where to connect; else DATABASE_URL, …")
@click.option("--schema", metavar="NAME", help="The schema that holds the history.")
@click.option(
    "--json",
    "as_json",
    envvar="MIGRATOR_JSON",
    is_flag=True,
    help="One JSON document on stdout.",
)
@click.option("-v", "--verbose", count=True, help="Show every statement; -vv also what is sent.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=version,
    help="Show the version and exit.",
)
@click.pass_context
def main(
    ctx: click.Context,
    *,
    directory: Path,
    database_url: str | None,
    schema: str | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Apply plain SQL files to PostgreSQL, in order, once, and take them back.

    A migration is a pair of files, NN_name.up.sql and NN_name.down.sql.  The database is
    the one of DATABASE_URL, of DATABASE_HOST, _PORT, _NAME, _USER, _PASSWORD and _SSL, or
    of libpq's own PG* variables; DATABASE_URL=embedded: is a PostgreSQL of the project's own.
    """
    ctx.obj = App(
        settings=Settings(directory=directory, schema=schema),
        database_url=database_url,
        as_json=as_json,
        verbosity=verbose,
    )
    if verbose >= _LOG_VERBOSITY or "migrator" in os.environ.get("DEBUG", "").split(","):
        log_statements()


for _command in (
    migrate.up,
    migrate.down,
    migrate.redo,
    history.status,
    rehearse.rehearse,
    rehearse.drift,
    files.create,
    files.verify,
    history.baseline,
    history.repair,
    history.log,
):
    main.add_command(_command)
