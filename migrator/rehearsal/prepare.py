"""Prepare a scratch database in the state of the target, to rehearse on or to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from psycopg import sql

from .. import session
from ..config import Database
from ..errors import CancelledError, EmbeddedServerError, HistoryError, ScratchError
from ..events import Notify, Remarked
from ..history import table
from ..interrupts import Interrupts
from ..model import Recorded
from ..postgres import connection
from ..session import Session
from . import clone, replay, scratch
from .data.data_checks import DataCheckOptions
from .schemas import drift
from .schemas.ignore import Pattern
from .stage import Stage

_EMBEDDED = Database(embedded="postgres")


@dataclass(frozen=True, slots=True)
class RehearsalOptions:
    """How to rehearse.

    Attributes:
        server: Any database of the server to create the scratch database on; None for the
            target's server.
        from_target: Whether to copy the target's schema instead of replaying the history.
        small: Hazards that cost only time are notes for tables below this size, in bytes.
        data_checks: How to check the rows of the target.
        ignore: What drift leaves out.
        queries: The file of the queries that must survive, or `pg_stat_statements`; None for
            no queries.
    """

    server: Database | None
    from_target: bool
    small: int
    data_checks: DataCheckOptions
    ignore: tuple[Pattern, ...]
    queries: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedStage:
    """A stage in the state of the target; `origin` and `missing` as in `Report`."""

    stage: Stage
    origin: str
    missing: tuple[str, ...]
    is_from_history: bool


@contextmanager
def target_untouched() -> Iterator[None]:
    """Add to the message of an interrupt that nothing was changed."""
    try:
        yield
    except CancelledError as error:
        raise CancelledError(
            "interrupted; the target database was not touched; the scratch database was dropped",
            signal=error.signal,
        ) from error


@contextmanager
def prepared(work: Session, options: RehearsalOptions, notify: Notify) -> Iterator[PreparedStage]:
    """Create a scratch database in the state of the target, for the time of the `with`."""
    because = ""
    if not options.from_target:
        with _scratch_database(work, options.server, notify) as made:
            database, refused = clone.copy_properties(work.database, made)
            with _stage(work, database, options.small, notify) as stage:
                why_not = _replay(work, stage)
                if not why_not:
                    origin = f"{_scratch_name(stage)} built by replaying the history"
                    yield PreparedStage(stage, origin, _refused(refused), is_from_history=True)
                    return
        because = f", because {why_not}"
    with _scratch_database(work, options.server, notify) as made:
        missing = clone.copy_schema(
            work.database, made, lock_timeout=drift.READ_LOCK_TIMEOUT, role=work.settings.role
        )
        database, refused = clone.copy_properties(work.database, made)
        with _stage(work, database, options.small, notify) as stage:
            origin = f"{_scratch_name(stage)} with a copy of the schema, without rows{because}"
            if because:
                notify(Remarked(f"rehearsing on {origin}"))
            lacks = (*_missing(missing), *_refused(refused))
            yield PreparedStage(stage, origin, lacks, is_from_history=False)


def _scratch_name(stage: Stage) -> str:
    return f"a PostgreSQL {connection.version(stage.conn)} scratch database"


def _replay(work: Session, stage: Stage) -> str | None:
    """Replay the history; return why that is not possible, or None."""
    try:
        replay.replay(stage, recorded(work), work.migrations)
    except replay.ReplayError as error:
        return str(error)
    return None


def _missing(missing: clone.Missing) -> tuple[str, ...]:
    return (
        *(f"the scratch server has no role {role}" for role in missing.roles),
        *(f"the scratch server has no extension {each}" for each in missing.extensions),
        *_refused(missing.skipped),
    )


def _refused(skipped: Iterable[clone.Skipped]) -> tuple[str, ...]:
    return tuple(f"not copied: {each.statement} ({each.reason})" for each in skipped)


@contextmanager
def _scratch_database(work: Session, server: Database | None, notify: Notify) -> Iterator[Database]:
    """Create an empty scratch database; `server` is any database of its server, or None."""
    with connection.reported():
        like = scratch.locality(work.conn)
    with ExitStack() as stack:

        def create(on: Database) -> Database:
            admin = stack.enter_context(session.reached(on, notify))
            return stack.enter_context(scratch.database(admin, like, notify))

        try:
            database = create(server or work.database)
        except ScratchError as refusal:
            if server:
                raise
            notify(Remarked(f"{refusal.message} on this server; using the embedded PostgreSQL"))
            try:
                database = create(_EMBEDDED)
            except EmbeddedServerError:
                raise refusal from None
        yield database


@contextmanager
def empty_stage(
    work: Session, server: Database | None, notify: Notify
) -> Iterator[tuple[Database, Stage]]:
    """Create a scratch database with the properties of the target, for the time of the `with`."""
    with target_untouched(), _scratch_database(work, server, notify) as made:
        database, skipped = clone.copy_properties(work.database, made)
        for text in _refused(skipped):
            notify(Remarked(text))
        with _stage(work, database, 0, notify) as stage:
            yield database, stage


@contextmanager
def replayed(work: Session, server: Database | None, notify: Notify) -> Iterator[Stage]:
    """Replay the history on a scratch database, for the time of the `with`.

    Raises:
        HistoryError: The history cannot be replayed.
    """
    with empty_stage(work, server, notify) as (_, stage):
        if why_not := _replay(work, stage):
            raise HistoryError(
                f"cannot compare the database with its history: {why_not}",
                hint="check the files: migrator verify; or use another server: --scratch-url URL",
            )
        yield stage


@contextmanager
def _stage(work: Session, made: Database, small: int, notify: Notify) -> Iterator[Stage]:
    name = work.history.schema
    with (
        Interrupts() as interrupts,
        closing(connection.connect(made)) as conn,
        closing(connection.connect_own(made)) as watcher,
    ):
        with connection.reported():
            with connection.writing(conn):
                conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(name)))
            table.ensure(conn, name, trusted=work.settings.trust_history_of)
            pid = connection.backend_pid(conn)
            is_same = connection.started_at(conn) == connection.started_at(work.conn)
        # Another server may not have the role.
        role = work.settings.role if is_same else None
        yield Stage(
            conn=conn,
            watcher=watcher,
            schema=name,
            settings=replace(work.settings, lock_attempts=1, role=role),
            small=small,
            interrupts=interrupts,
            notify=notify,
            pid=pid,
            is_guarded=is_same,
            target=work.conn,
        )


def recorded(work: Session) -> Recorded:
    """Return what the history of the target holds, with its down scripts."""
    if not work.history.exists:
        return Recorded()
    work.history.refuse_foreign()
    with connection.reported(work.history.schema):
        return table.read(work.conn, work.history, downs=True)
