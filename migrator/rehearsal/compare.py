"""Compare the target with its history, or with what files make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..config import Database
from ..errors import HistoryError
from ..events import Notify
from ..model import Migration
from ..session import Session
from . import prepare, replay
from .schemas import drift
from .schemas.drift import Drift
from .schemas.ignore import Pattern
from .schemas.pair import Pair
from .schemas.schema import Sign
from .stage import Stage


def find_drift(
    work: Session, server: Database | None, patterns: Iterable[Pattern], notify: Notify
) -> Drift:
    """Return how the target differs from what its history creates.

    Args:
        server: As in `RehearsalOptions`.
        patterns: What is left out.

    Raises:
        HistoryError: The history cannot be replayed.
        MigratorError: As in `rehearse_plan`.
    """
    with prepare.replayed(work, server, notify) as stage:
        return schemas(work, stage, patterns)


def write_drift(
    work: Session, server: Database | None, patterns: Iterable[Pattern], notify: Notify
) -> tuple[Drift, Pair | None]:
    """Return what `find_drift` does, and scripts for it; None for no drift.

    Raises:
        MigratorError: As `find_drift`.
    """
    with prepare.replayed(work, server, notify) as stage:
        return drift.find_and_write(work, stage.conn, patterns, has_roles=stage.is_guarded)


def compare_with_files(
    work: Session,
    migrations: Iterable[Migration],
    server: Database | None,
    patterns: Iterable[Pattern],
    notify: Notify,
) -> Drift:
    """Return what files create and the target lacks or has in another form.

    Args:
        server: As in `RehearsalOptions`.
        patterns: What is left out.

    Raises:
        HistoryError: The files cannot be applied to an empty database.
        MigratorError: As in `rehearse_plan`.
    """
    with prepare.empty_stage(work, server, notify) as (_, stage):
        try:
            replay.apply(stage, migrations)
        except replay.ReplayError as error:
            raise HistoryError(
                f"cannot compare the database with the files: {error}",
                hint="use another server: --scratch-url URL; or skip this check: --unchecked",
            ) from error
        found = schemas(work, stage, patterns)
    lacking = (each for each in found.differences if each.sign is not Sign.ADDED)
    return Drift(tuple(lacking), found.notes)


@contextmanager
def made_by_files(
    work: Session, server: Database | None, notify: Notify
) -> Iterator[tuple[Database, int]]:
    """Apply all files to a scratch database, for the time of the `with`.

    Args:
        server: As in `RehearsalOptions`.

    Returns:
        The scratch database, and the major version of its server.

    Raises:
        HistoryError: The files cannot be applied to an empty database.
        MigratorError: As in `rehearse_plan`.
    """
    with prepare.empty_stage(work, server, notify) as (made, stage):
        try:
            replay.apply(stage, work.migrations)
        except replay.ReplayError as error:
            raise HistoryError(
                f"cannot tell what the files make: {error}",
                hint="fix the file; or use another server: --scratch-url URL",
            ) from error
        yield made, stage.conn.info.server_version // 10000


def schemas(work: Session, stage: Stage, patterns: Iterable[Pattern]) -> Drift:
    """Compare the target with a scratch database; another server has other roles."""
    return drift.find(work, stage.conn, patterns, has_roles=stage.is_guarded)
