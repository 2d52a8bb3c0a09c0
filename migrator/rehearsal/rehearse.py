"""Rehearse a plan on a scratch database, and compare the target with its history or files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from psycopg import sql

from .. import session
from ..config import Database
from ..errors import CancelledError, EmbeddedServerError, HistoryError, ScratchError
from ..events import Notify, Remarked
from ..hazards.catalogue import Size
from ..history import table
from ..interrupts import Interrupts
from ..model import Migration, Plan, Recorded
from ..postgres import connection
from ..session import Session
from . import (
    clone,
    conditions,
    data_checks,
    downs,
    drift,
    estimates,
    facts,
    queries,
    query_check,
    regressions,
    replay,
    scratch,
    steps,
)
from .data_checks import DataCheckOptions
from .drift import Drift
from .ignore import Pattern
from .pair import Pair
from .queries import Queries
from .report import QueryCheck, RehearsedMigration, Report, left
from .schema import Sign
from .steps import Stage

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
class _PreparedStage:
    """A stage in the state of the target; `origin` and `missing` as in `Report`."""

    stage: Stage
    origin: str
    missing: tuple[str, ...]
    is_from_history: bool


def rehearse_plan(work: Session, plan: Plan, options: RehearsalOptions, notify: Notify) -> Report:
    """Rehearse a plan on a scratch database; the target is only read.

    Raises:
        ScratchError: No scratch database could be created.
        CancelledError: The user stopped it; the scratch database was dropped.
        MigratorError: The state of the target could not be reproduced.
    """
    sizes = table_sizes(work)
    estimated = estimates.read(work, plan.steps)
    asks = options.data_checks.limit > 0
    wanted = queries.read(work.conn, options.queries) if options.queries else None
    checked = None
    with _target_untouched():
        with _prepared(work, options, notify) as prepared:
            # The rehearsal changes the schema, so drift is looked for first.
            found = (
                _drift(work, prepared.stage, options.ignore) if prepared.is_from_history else None
            )
            stage = replace(prepared.stage, estimates=estimated, asks=asks)
            done = steps.rehearse(stage, plan.steps, (), sizes)
            version = connection.version(stage.conn)
        done = _after_stuck_downs(work, plan, options, notify, stage, done)
        done = conditions.required(work, data_checks.answered(work, done, options.data_checks))
        if wanted and done:
            # The first scratch database is no longer in the state of the target.
            as_before = replace(options, from_target=not prepared.is_from_history)
            checked, done = _check_queries(work, done, wanted, as_before, notify)
    return Report(
        database=work.conn.info.dbname,
        server=work.server,
        server_version=connection.version(work.conn),
        scratch_version=version,
        origin=prepared.origin,
        missing=prepared.missing,
        drift=found,
        migrations=tuple(downs.with_unused(each) for each in done),
        sizes=sizes,
        not_rehearsed=tuple(step.version for step in left(plan, done)),
        queries=checked,
    )


def _after_stuck_downs(
    work: Session,
    plan: Plan,
    options: RehearsalOptions,
    notify: Notify,
    first: Stage,
    done: tuple[RehearsedMigration, ...],
) -> tuple[RehearsedMigration, ...]:
    """Rehearse the rest, on a new scratch database after each down that leaves too much."""
    while len(done) < len(plan.steps) and not done[-1].error:
        stuck = done[-1].step.version
        text = f"using a new scratch database: after its down, {stuck} cannot be applied again"
        notify(Remarked(text))
        with _prepared(work, options, notify) as again:
            stage = replace(again.stage, estimates=first.estimates, asks=first.asks)
            done = steps.rehearse(stage, left(plan, done), done, table_sizes(work))
    return done


def _check_queries(
    work: Session,
    done: tuple[RehearsedMigration, ...],
    wanted: Queries,
    options: RehearsalOptions,
    notify: Notify,
) -> tuple[QueryCheck, tuple[RehearsedMigration, ...]]:
    """Check queries on a scratch database of their own, and find what breaks them on another
    one.
    """
    with _prepared(work, options, notify) as prepared:
        checked, broken = query_check.check(prepared.stage, done, wanted)
    if any(map(query_check.can_locate, broken)):
        with _prepared(work, options, notify) as prepared:
            broken = query_check.locate(prepared.stage, done, broken)
    return checked, tuple(regressions.with_findings(each, broken) for each in done)


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
    with _replayed(work, server, notify) as stage:
        return _drift(work, stage, patterns)


def write_drift(
    work: Session, server: Database | None, patterns: Iterable[Pattern], notify: Notify
) -> tuple[Drift, Pair | None]:
    """Return what `find_drift` does, and scripts for it; None for no drift.

    Raises:
        MigratorError: As `find_drift`.
    """
    with _replayed(work, server, notify) as stage:
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
    with empty_stage(work, server, notify) as (_, stage):
        try:
            replay.apply(stage, migrations)
        except replay.ReplayError as error:
            raise HistoryError(
                f"cannot compare the database with the files: {error}",
                hint="use another server: --scratch-url URL; or skip this check: --unchecked",
            ) from error
        found = _drift(work, stage, patterns)
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
    with empty_stage(work, server, notify) as (made, stage):
        try:
            replay.apply(stage, work.migrations)
        except replay.ReplayError as error:
            raise HistoryError(
                f"cannot tell what the files make: {error}",
                hint="fix the file; or use another server: --scratch-url URL",
            ) from error
        yield made, stage.conn.info.server_version // 10000


def _drift(work: Session, stage: Stage, patterns: Iterable[Pattern]) -> Drift:
    # Another server has other roles.
    return drift.find(work, stage.conn, patterns, has_roles=stage.is_guarded)


def table_sizes(work: Session) -> dict[str, Size]:
    """Return the sizes of the target's tables, by name."""
    with connection.reported(), work.conn.transaction():
        drift.read_only(work)
        return facts.sizes(work.conn)


@contextmanager
def _target_untouched() -> Iterator[None]:
    """Add to the message of an interrupt that nothing was changed."""
    try:
        yield
    except CancelledError as error:
        raise CancelledError(
            "interrupted; the target database was not touched; the scratch database was dropped",
            signal=error.signal,
        ) from error


@contextmanager
def _prepared(work: Session, options: RehearsalOptions, notify: Notify) -> Iterator[_PreparedStage]:
    """Create a scratch database in the state of the target, for the time of the `with`."""
    because = ""
    if not options.from_target:
        with _scratch_database(work, options.server, notify) as made:
            database, refused = clone.copy_properties(work.database, made)
            with _stage(work, database, options.small, notify) as stage:
                why_not = _replay(work, stage)
                if not why_not:
                    origin = f"{_scratch_name(stage)} built by replaying the history"
                    yield _PreparedStage(stage, origin, _refused(refused), is_from_history=True)
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
            yield _PreparedStage(stage, origin, lacks, is_from_history=False)


def _scratch_name(stage: Stage) -> str:
    return f"a PostgreSQL {connection.version(stage.conn)} scratch database"


def _replay(work: Session, stage: Stage) -> str | None:
    """Replay the history; return why that is not possible, or None."""
    try:
        replay.replay(stage, _recorded(work), work.migrations)
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
    """Create a scratch database with the properties of the target, as `find_drift` does."""
    with _target_untouched(), _scratch_database(work, server, notify) as made:
        database, skipped = clone.copy_properties(work.database, made)
        for text in _refused(skipped):
            notify(Remarked(text))
        with _stage(work, database, 0, notify) as stage:
            yield database, stage


@contextmanager
def _replayed(work: Session, server: Database | None, notify: Notify) -> Iterator[Stage]:
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
        )


def _recorded(work: Session) -> Recorded:
    if not work.history.exists:
        return Recorded()
    work.history.refuse_foreign()
    with connection.reported(work.history.schema):
        return table.read(work.conn, work.history, downs=True)
