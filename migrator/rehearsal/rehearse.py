"""Rehearse a plan on a scratch database."""

from __future__ import annotations

from dataclasses import replace

from ..events import Notify, Remarked
from ..hazards.catalogue import Size
from ..model import Plan
from ..postgres import connection
from ..session import Session
from . import compare, conditions, downs, facts, prepare, steps
from .data import data_checks, estimates
from .prepare import RehearsalOptions
from .queries import query_check, regressions, running
from .queries.running import Queries
from .report import QueryCheck, RehearsedMigration, Report, left
from .schemas import drift
from .stage import Stage


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
    wanted = running.read(work.conn, options.queries) if options.queries else None
    checked = None
    with prepare.target_untouched():
        with prepare.prepared(work, options, notify) as prepared:
            # The rehearsal changes the schema, so drift is looked for first.
            found = (
                compare.schemas(work, prepared.stage, options.ignore)
                if prepared.is_from_history
                else None
            )
            stage = replace(prepared.stage, estimates=estimated, asks=asks)
            done = steps.rehearse(stage, plan.steps, (), sizes)
            version = connection.version(stage.conn)
        done = _after_stuck_downs(work, plan, options, notify, stage, done, sizes)
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
    sizes: dict[str, Size],
) -> tuple[RehearsedMigration, ...]:
    """Rehearse the rest, on a new scratch database after each down that leaves too much."""
    while len(done) < len(plan.steps) and not done[-1].error:
        stuck = done[-1].step.version
        text = f"using a new scratch database: after its down, {stuck} cannot be applied again"
        notify(Remarked(text))
        with prepare.prepared(work, options, notify) as again:
            stage = replace(again.stage, estimates=first.estimates, asks=first.asks)
            done = steps.rehearse(stage, left(plan, done), done, sizes)
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
    with prepare.prepared(work, options, notify) as prepared:
        checked, broken = query_check.check(prepared.stage, done, wanted)
    if any(map(query_check.can_locate, broken)):
        with prepare.prepared(work, options, notify) as prepared:
            broken = query_check.locate(prepared.stage, done, broken)
    return checked, tuple(regressions.with_findings(each, broken) for each in done)


def table_sizes(work: Session) -> dict[str, Size]:
    """Return the sizes of the target's tables, by name."""
    with connection.reported(), work.conn.transaction():
        drift.read_only(work)
        return facts.sizes(work.conn)
