"""The program and its commands."""

from __future__ import annotations

import click

from . import (
    adopt,
    completion,
    config,
    doctor,
    files,
    history,
    migrate,
    rehearse,
    schema,
    squash,
)
from .command import Commands, program_options
from .help import help_command, version


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  (click's signature)
    if value and not ctx.resilient_parsing:
        from ..history import recorder

        click.echo(f"migrator, version {recorder.tool_version()}")
        ctx.exit()


@click.group(
    "migrator",
    cls=Commands,
    params=program_options(is_command=False),
    epilog="Example: migrator up --dry-run",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Apply plain SQL migrations to PostgreSQL, and revert them.

    A migration is a pair of files, NN_name.up.sql and NN_name.down.sql.  The database is
    named by DATABASE_URL, or by DATABASE_HOST, _PORT, _NAME, _USER, _PASSWORD and _SSL, or
    by libpq's PG* variables, or by migrator.toml.  DATABASE_URL=embedded: uses
    the project's own PostgreSQL.

    Options may come before or after the command.
    """


for _command in (
    migrate.up,
    migrate.down,
    migrate.redo,
    history.status,
    rehearse.rehearse,
    rehearse.drift,
    schema.dump,
    files.create,
    files.verify,
    files.renumber,
    squash.squash,
    doctor.doctor,
    history.baseline,
    adopt.adopt,
    history.repair,
    history.log,
    config.config,
    help_command,
    version,
    completion.completion,
):
    main.add_command(_command)
