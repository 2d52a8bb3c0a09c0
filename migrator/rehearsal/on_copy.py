"""Run pending migrations on a copy of the target with rows; each copy serves one rehearsal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from .. import session
from ..config import Database
from ..errors import (
    CancelledError,
    CopyError,
    DatabaseConnectionError,
    EmbeddedServerError,
    HistoryError,
    ReadOnlyError,
    RunnerLockError,
    ScratchError,
    listed,
)
from ..events import Notify, Remarked
from ..execution import runner
from ..execution.context import Asks
from ..execution.runner import Lock
from ..hazards.catalogue import Size
from ..hazards.sizes import bytes_text
from ..history import place
from ..model import AppliedMigration, Plan, Recorded, Step
from ..postgres import activity, connection
from ..postgres.lock import share_database
from ..session import Session
from . import meter, prepare, replay, settled, steps
from .data import estimates
from .meter import Meter
from .queries import running
from .queries.query_plans import PlanComparison
from .queries.running import Queries
from .rehearse import table_sizes
from .report import QueryCheck, RehearsedMigration, Report, left
from .stage import Stage

_SIMILAR = 0.8  # of the size: last night's copy may be somewhat smaller
_NEW_COPY = "each rehearsal needs a new copy: make another one"
_CHECK_URL = "check that it is running, and the URL of --on-copy"
_UNREACHABLE = (DatabaseConnectionError, EmbeddedServerError)
_OUTCOME = "This was on the copy; the target database was not touched."


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """Which copy to use, and what to report.

    Attributes:
        small: As in `RehearsalOptions`.
        max_lock: A blocking lock that is held longer is a finding, in seconds.
        queries: As in `RehearsalOptions`.
    """

    database: Database
    small: int
    max_lock: float
    queries: str | None


def rehearse_on_copy(work: Session, plan: Plan, options: CopyOptions, notify: Notify) -> Report:
    """Apply a plan to a copy of the target, with real commits; its downs are not run.

    What the target has applied and the copy has not is applied first.  The target is only read.

    Raises:
        CopyError: The copy is the target itself, a standby or unreachable, or its history is not
            an earlier state of the target's.
        CancelledError: The user stopped it; the copy stays as it is then.
    """
    sizes, estimated = table_sizes(work), estimates.read(work, plan.steps)
    ours = prepare.recorded(work)
    wanted = running.read(work.conn, options.queries) if options.queries else None
    with _about_copy(), _opened(work, options.database, notify) as copy:
        check(work, copy)
        missing, planned = _compare(ours, prepare.recorded(copy), plan)
        lacks = tuple(_lacks(sizes, table_sizes(copy)))
        with runner.locked(copy, notify) as lock:
            if lock.shares_sessions:
                raise CopyError(
                    "the copy is behind a pooler in transaction mode",
                    hint="connect to PostgreSQL itself: --on-copy URL",
                )
            with _stage(work, copy, lock, options, notify) as stage:
                _catch_up(work, stage, missing)
                stage = replace(stage, estimates=estimated)
                checked, done = _rehearse(stage, planned, sizes, wanted)
        report = _report(work, copy, plan, done, sizes, lacks)
        return replace(report, queries=checked)


def check(work: Session, copy: Session) -> None:
    """Check that a copy is neither the target itself nor a standby.

    Raises:
        CopyError: It is, or it cannot be told from the target.
    """
    with connection.reported():
        if share_database(copy.conn, work.conn):
            raise CopyError(
                "the copy is this database itself; nothing was run",
                hint="restore a backup or a snapshot under another name or on another server, "
                "and pass its URL",
            )
        if _is_standby(copy):
            raise CopyError(
                "the copy is a read-only standby",
                hint="detach it from its primary and promote it: select pg_promote();",
            )
        if _is_standby(work) and _may_be_primary(work, copy):
            raise CopyError(
                "the database is a standby, and the copy may be its primary; nothing was run",
                hint="connect to the primary, so that the two can be told apart: "
                "migrator --database-url URL rehearse",
            )


def _is_standby(work: Session) -> bool:
    return bool(work.conn.execute("select pg_is_in_recovery()").fetchall()[0][0])


def _may_be_primary(work: Session, copy: Session) -> bool:
    """Whether a standby and another database could be the same database of one cluster."""
    ours, theirs = (connection.system_identifier(each.conn) for each in (work, copy))
    is_one_cluster = ours is None or theirs is None or ours == theirs
    return is_one_cluster and _oid(work) == _oid(copy)


def _oid(work: Session) -> int:
    query = "select oid::bigint from pg_database where datname = current_database()"
    return int(work.conn.execute(query).fetchall()[0][0])


@contextmanager
def _opened(work: Session, database: Database, notify: Notify) -> Iterator[Session]:
    """Connect to the copy, and find its history where the target has its own."""
    schema, trusted = work.history.schema, work.settings.trust_history_of
    with session.reached(database, notify) as reached, connection.connect(reached) as conn:
        with connection.reported(schema):
            found = place.locate(conn, schema, trusted=trusted)
        yield Session(work.settings, reached, conn, found, work.migrations)


@contextmanager
def _about_copy() -> Iterator[None]:
    """Make messages say that they are about the copy, and what state it is in."""
    try:
        yield
    except (*_UNREACHABLE, HistoryError, ReadOnlyError, RunnerLockError) as error:
        hint = _CHECK_URL if isinstance(error, _UNREACHABLE) else error.hint
        message = f"the copy cannot be used: {error.message}"
        raise CopyError(message, detail=error.detail, hint=hint) from error
    except CancelledError as error:
        raise CancelledError(
            "interrupted; the copy stays as it is, and the target database was not touched",
            signal=error.signal,
        ) from error


@contextmanager
def _stage(
    work: Session, copy: Session, lock: Lock, options: CopyOptions, notify: Notify
) -> Iterator[Stage]:
    with (
        closing(connection.connect_own(copy.database)) as watcher,
        activity.watching(copy.database) as observe,
        connection.reported(copy.history.schema),
    ):
        yield Stage(
            conn=copy.conn,
            watcher=watcher,
            schema=copy.history.schema,
            settings=copy.settings,
            small=options.small,
            interrupts=lock.interrupts,
            notify=notify,
            pid=copy.history.pid,
            observe=observe,
            is_guarded=connection.started_at(copy.conn) == connection.started_at(work.conn),
            outcome=_OUTCOME,
            conditions=Asks.ALL,
            meter=Meter(copy.conn, options.max_lock, meter.has_wal(copy.conn)),
        )


def _lacks(ours: Mapping[str, Size], copied: Mapping[str, Size]) -> Iterator[str]:
    """Warn if the copy is so much smaller that its times mean little."""
    expected, found = (sum(size.bytes for size in each.values()) for each in (ours, copied))
    if found < expected * _SIMILAR:
        yield (
            f"the tables of the copy take {bytes_text(found)}, those of this database "
            f"{bytes_text(expected)}: expect longer times here"
        )


def _compare(
    recorded: Recorded, on_copy: Recorded, plan: Plan
) -> tuple[Recorded, tuple[Step, ...]]:
    """Compare the histories of the target and of the copy.

    Returns:
        What the target has applied and the copy has not, and the steps to run on the copy.

    Raises:
        CopyError: The copy's history is not an earlier state of the target's.
    """
    ours, copied = ({row.version: row for row in each.versions} for each in (recorded, on_copy))
    if ours and not copied:
        raise CopyError(
            "the copy has no history, so it is not a copy of this database",
            hint="restore a backup or a snapshot of this database, and pass its URL",
        )
    if more := [version for version in copied if version not in ours]:
        raise CopyError(
            f"the copy has migrations that this database does not have: {listed(sorted(more))}",
            hint=_NEW_COPY,
        )
    if others := [v for v, row in copied.items() if not _may_precede(row, ours[v])]:
        raise CopyError(
            "on the copy, these differ from this database, or are interrupted: "
            + listed(sorted(others)),
            hint="make a new copy of this database",
        )
    missing = (row for version, row in ours.items() if version not in copied)
    texts = {(row.name, row.checksum) for row in on_copy.repeatables}
    planned = (s if s.version in copied else steps.from_start(s) for s in plan.steps)
    return Recorded(
        tuple(row for row in missing if not row.interrupted),
        tuple(row for row in recorded.repeatables if (row.name, row.checksum) not in texts),
    ), tuple(planned)


def _may_precede(copied: AppliedMigration, ours: AppliedMigration) -> bool:
    if copied.interrupted or ours.interrupted:
        return copied.statements_done == ours.statements_done and copied.in_step == ours.in_step
    return copied.checksum == ours.checksum


def _catch_up(work: Session, stage: Stage, missing: Recorded) -> None:
    """Apply to the copy what the target has applied since.

    Raises:
        CopyError: One of the scripts cannot be run.
    """
    versions = [row.version for row in sorted(missing.versions, key=lambda row: row.ordinal)]
    versions += [row.name for row in missing.repeatables]
    if not versions:
        return
    stage.notify(Remarked(f"bringing the copy up to date: applying {listed(versions)}"))
    try:
        replay.replay(stage, missing, work.migrations)
    except replay.ReplayError as error:
        raise CopyError(
            f"the copy cannot be brought up to date: {error}",
            hint="make a newer copy",
        ) from error


def _rehearse(
    stage: Stage, planned: tuple[Step, ...], sizes: dict[str, Size], wanted: Queries | None
) -> tuple[QueryCheck | None, tuple[RehearsedMigration, ...]]:
    if not (wanted and planned):
        return None, _explained(steps.rehearse(stage, planned, (), sizes))
    plans, done = PlanComparison(stage, wanted), []
    for each in steps.rehearse_each(stage, planned, (), sizes):
        plans.add(each)
        done.append(each)
    return plans.check, plans.with_findings(_explained(tuple(settled.leave_out(done))))


def _explained(done: tuple[RehearsedMigration, ...]) -> tuple[RehearsedMigration, ...]:
    """Replace the hint of the error about shared objects, for a copy on the target's server."""
    if done and isinstance(done[-1].error, ScratchError):
        error = replace(done[-1].error, hint="use a copy on another server")
        return (*done[:-1], replace(done[-1], error=error))
    return done


def _report(
    work: Session,
    copy: Session,
    plan: Plan,
    done: tuple[RehearsedMigration, ...],
    sizes: dict[str, Size],
    lacks: tuple[str, ...],
) -> Report:
    info = copy.conn.info
    return Report(
        database=work.conn.info.dbname,
        server=work.server,
        server_version=connection.version(work.conn),
        scratch_version=connection.version(copy.conn),
        origin=f"the copy {info.dbname} on {session.server_name(info.host, info.port)}",
        missing=lacks,
        drift=None,
        migrations=done,
        sizes=sizes,
        not_rehearsed=tuple(step.version for step in left(plan, done)),
    )
