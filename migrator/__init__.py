"""Plain-SQL migrations for PostgreSQL.

An application's health check asks `status()`.  The rest is used by the command line.

The package is a set of rooms.  This table says which room may import which
(`tests/test_architecture.py` checks it):

    room                may import
    errors, interrupts, passwords  nothing of ours
    config, config_file, embedded  errors
    sql                 errors, passwords
    tracing             nothing of ours
    model               errors, sql
    events              model, sql, tracing
    hazards             errors, sql, tracing
    files               errors, model, sql
    history             errors, passwords, model, sql
    planning            errors, hazards, model, sql
    postgres            errors, passwords, config, events, interrupts
    programs            errors, config, embedded, postgres
    session             errors, config, events, model, files, history, planning, postgres, embedded
    execution           all above except hazards, embedded, programs
    doctor              errors, hazards, history, model, postgres, session, sql
    rehearsal           all above except doctor
    maintenance         all above except doctor, hazards, rehearsal
    adoption            all above except doctor, hazards, maintenance
    output              errors, passwords, events, model, sql, tracing, hazards, history, planning,
                        rehearsal, doctor, maintenance, adoption
    cli                 all

Only `cli` and `output` import `rehearsal`, `maintenance` and `adoption`: without them and
`hazards`, the runner is complete.
`sql`, `hazards`, `planning`, `tracing.trace`, `tracing.diff` and `execution.recovery` do no I/O
and read no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from .history.overview import Overview

__all__ = ["status"]


def status(
    directory: str | PathLike[str] | Iterable[str | PathLike[str]] = "migrations",
    *,
    database_url: str | None = None,
    schema: str | None = None,
    trust_history_of: str | None = None,
    allow_empty: bool = False,
) -> Overview:
    """Return what `migrator status` shows, for use inside an application, without writing.

    It reads the arguments and the environment, but not the configuration file.
    `is_current` tells whether all files are applied as they are; `entries` holds every version, by
    ascending number, and `repeatables` every repeatable file, by name.

    Args:
        directory: Where the migrations are; several directories are one history.
        database_url: A libpq URL; None for the one that the environment names.
        schema: The schema of the history; None for the first one of the search path.
        trust_history_of: A role that may also own the history; None to trust no other role.
        allow_empty: Accept a directory without migrations.

    Raises:
        MigratorError: A file is invalid, or the database cannot be read; the classes are in
            `migrator.errors`.
    """
    # `migrator --help` imports this package, and must not import psycopg.
    import os  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from . import config, session  # noqa: PLC0415

    database = config.database(database_url, os.environ)
    given = [directory] if isinstance(directory, str | os.PathLike) else directory
    settings = config.Settings(
        tuple(map(Path, given)), database, schema, trust_history_of, allow_empty=allow_empty
    )
    with session.opened(settings, lambda _event: None) as work:
        return session.overview(work)
