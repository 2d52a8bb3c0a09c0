"""Plain-SQL migrations for PostgreSQL.

An application's health check asks `status()`.  Everything else is behind the command line.

The package is a stack of small modules.  Each imports only those to its left or
above it (`tests/test_architecture.py` holds this list to be true):

    errors traces script model events results             the words
    sources lexing sqltext places scriptoptions parsing            the core: pure, no I/O, no clock
    hazards blockers planner recovery                              the core of a run
    answers scenes losses stalls verdicts schema reports plans     the core of a rehearsal
    config longfiles files interrupts catalog postgres             the world
    locking history                                                the world of a session
    installation home server                                       the world of the embedded server
    progress probes facts snapshots dumps                          the world that is asked
    recorder flight pipeline observing heaps messages diagnosis    the work
    failures attempt alone units executor                          the work of a plan
    session runner decisions                                       the work as a whole
    scratch cloning rehearsal staging trial                        the work of a rehearsal
    render documents narration protocol telling reporting page     the words of the shell
    app options moving looking deciding cli                        the shell
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import Overview

__all__ = ["status"]


def status(
    directory: str | PathLike[str] = "migrations",
    *,
    database_url: str | None = None,
    schema: str | None = None,
) -> Overview:
    """Say what `migrator status` shows, for use inside an application; write nothing.

    `is_current` tells whether the schema has what the files want; every version is in
    `entries`, by ascending number.

    Args:
        directory: Where the migrations are.
        database_url: A libpq URL; None for the one that the environment names.
        schema: The one that holds the history; None for the first of the search path.

    Raises:
        MigratorError: The files are not in order, or the database cannot be asked; the
            classes are in `migrator.errors`.
    """
    # Whoever imports the package, `migrator --help` too, would pay for psycopg otherwise.
    import os  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from . import config, session  # noqa: PLC0415

    database = config.database(database_url, os.environ)
    settings = config.Settings(Path(directory), database, schema)
    with session.opened(settings, lambda _event: None) as work:
        return session.overview(work)
