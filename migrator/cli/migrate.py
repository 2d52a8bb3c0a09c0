"""The commands that run migrations: up, down, redo."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import errors
from .app import App, style
from .command import command
from .confirmation import confirm
from .options import (
    apply_limits,
    complete_version,
    override_option,
    run_options,
    target_option,
    yes_option,
)
from .schema import write_configured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..events import Losing, Outcome
    from ..model import Plan
    from ..planning.planner import Request
    from ..rehearsal.plan_file import RehearsedPlan
    from ..session import Session
    from .hooks import Hooks


@command(epilog="Example: migrator up --to 05")
@target_option
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Stop after N migrations.")
@click.option("--dry-run", is_flag=True, help="Print the plan and its SQL, and run nothing.")
@click.option(
    "--out-of-order",
    is_flag=True,
    help="Also apply pending migrations older than the newest applied one.",
)
@click.option("--trace", is_flag=True, help="Show what each statement locks, rewrites and scans.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Run a plan saved by `rehearse --save`; take all locks of a migration first.",
)
@click.option(
    "--plan-of-another",
    "of_another",
    is_flag=True,
    help="Run the plan even if it was rehearsed for another database.",
)
@click.option(
    "--backup",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="First back up the database to this directory with pg_dump; if that fails, run nothing.",
)
@click.option(
    "--beside-other-tool",
    "beside",
    is_flag=True,
    help="Start a history even if another tool has one in the database.",
)
@yes_option
@run_options
@override_option
@click.pass_obj
def up(
    app: App,
    /,
    *,
    target: str | None,
    steps: int | None,
    dry_run: bool,
    out_of_order: bool,
    trace: bool,
    plan_file: Path | None,
    of_another: bool,
    backup: Path | None,
    beside: bool,
    yes: bool,
    **limits: Any,
) -> None:
    """Apply pending migrations.

    They are applied in the order of their numbers, each in one transaction with its history
    record.
    """
    from ..planning.planner import Action, Request

    if of_another and not plan_file:
        raise errors.UsageError("--plan-of-another needs --plan")
    rehearsed = _load(plan_file, of_another=of_another) if plan_file else None
    request = Request(
        Action.UP, target, steps=steps, out_of_order=out_of_order, rehearsed=rehearsed
    )
    apply_limits(app, limits)
    if dry_run:
        _show_plan(app, request, rehearsed, beside=beside)
    else:
        _run(app, request, yes=yes, backup=backup, trace=trace, rehearsed=rehearsed, beside=beside)


def _load(path: Path, *, of_another: bool) -> RehearsedPlan:
    from ..rehearsal.plan_file import load

    plan = load(path)
    return replace(plan, target=None) if of_another else plan


@command(epilog="Example: migrator down --steps 2")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="Revert N migrations [default: 1]."
)
@click.option(
    "--to",
    "target",
    metavar="VERSION",
    shell_complete=complete_version,
    help="Revert all migrations after this version.",
)
@click.option("--all", "everything", is_flag=True, help="Revert all migrations.")
@click.option("--dry-run", is_flag=True, help="Print the plan and its SQL, and run nothing.")
@click.option("--from-files", is_flag=True, help="Run the down files, not the stored scripts.")
@yes_option
@run_options
@override_option
@click.pass_obj
def down(
    app: App,
    /,
    *,
    steps: int | None,
    target: str | None,
    everything: bool,
    dry_run: bool,
    from_files: bool,
    yes: bool,
    **limits: Any,
) -> None:
    """Revert the newest migration, or several.

    The last one applied is reverted first.  The down script is the one that was stored when
    the migration was applied.
    """
    from ..planning.planner import Action, Request

    if sum((steps is not None, target is not None, everything)) > 1:
        raise errors.UsageError("specify only one of --steps, --to, --all")
    limit = None if target or everything else steps or 1
    request = Request(Action.DOWN, target, steps=limit, from_files=from_files)
    apply_limits(app, limits)
    if dry_run:
        _show_plan(app, request)
    else:
        _run(app, request, yes=yes)


@command(epilog="Example: migrator redo --steps 2")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Redo N migrations.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and its SQL, and run nothing.")
@yes_option
@run_options
@override_option
@click.pass_obj
def redo(app: App, /, *, steps: int, dry_run: bool, yes: bool, **limits: Any) -> None:
    """Revert the newest migration and apply it again.

    It is reverted with its stored down script, and applied from its file.
    """
    from ..planning.planner import Action, Request

    request = Request(Action.REDO, steps=steps)
    apply_limits(app, limits)
    if dry_run:
        _show_plan(app, request)
    else:
        _run(app, request, yes=yes)


def _show_plan(
    app: App,
    request: Request,
    rehearsed: RehearsedPlan | None = None,
    *,
    beside: bool = False,
) -> None:
    from ..output import json, text

    with app.opened() as work:
        plan = _plan(app, work, request, rehearsed, beside=beside)
        removed = _losses(work, plan, request)
    app.show(
        lambda: (
            text.plan_text(plan, removed)
            if plan.steps or plan.squashed
            else text.nothing_text(plan, request)
        ),
        lambda: json.of_plan(plan, removed),
    )


def _losses(work: Session, plan: Plan, request: Request) -> tuple[Losing, ...]:
    """Return what the run will remove; nothing if it reverts nothing."""
    if not request.reverts:
        return ()
    from . import losses

    return losses.of_plan(work, plan)


def _run(
    app: App,
    request: Request,
    *,
    yes: bool,
    backup: Path | None = None,
    trace: bool = False,
    rehearsed: RehearsedPlan | None = None,
    beside: bool = False,
) -> None:
    from .hooks import hooks

    around = hooks(app, request.action, backup)
    dump = app.configuration.dump  # now: it may be refused, and nothing has run yet
    with app.opened() as work:
        plan = _plan(app, work, request, rehearsed, beside=beside)
        for note in plan.notes:
            app.say(f"note: {note}")
        if not (plan.steps or plan.squashed):
            write_configured(app, work, dump)
            _show_nothing(app, plan, request)
            return
        if plan.steps:
            around.require_backup()
        removed = _losses(work, plan, request)
        for event in removed:
            app.notify(event)
        confirm(app, work, _intent(plan, request), yes=yes, is_usual=request.reverts)
        from ..execution import runner

        started = time.monotonic()
        with around.around(work):
            outcome = runner.carry_out(
                work,
                request,
                around.notify,
                agreed=plan,
                trace=trace or rehearsed is not None,
                remarks=_remarks(removed),
                prepare=around.prepare,
            )
        seconds = time.monotonic() - started
        _write_schema(app, work, dump)
    if rehearsed:
        _compare(app, rehearsed, outcome)
    _show_outcome(app, request, outcome, seconds, around)


def _show_outcome(
    app: App, request: Request, outcome: Outcome, seconds: float, around: Hooks
) -> None:
    from ..output import json, text
    from .hooks import backup_json

    app.show(
        lambda: text.outcome_text(outcome, request, seconds, style(sys.stdout)),
        lambda: json.of_outcome(outcome, app.events) | {"backup": backup_json(around.backup)},
        kept="the migrations were run; see: migrator status"
        if outcome.finished or outcome.plan.squashed
        else None,
    )


def _write_schema(app: App, work: Session, path: Path | None) -> None:
    """Write the schema as `write_configured` does; an error says that the run itself succeeded."""
    try:
        write_configured(app, work, path)
    except errors.MigratorError as error:
        lines = ("the migrations were run; see: migrator status", error.detail)
        error.detail = "\n".join(filter(None, lines))
        raise


def _remarks(removed: Sequence[Losing]) -> dict[str, str]:
    """Return what the log says was removed, by version."""
    lines: dict[str, list[str]] = {}
    for event in removed:
        lines.setdefault(event.step.version, []).append(event.text)
    return {version: "; ".join(texts) for version, texts in lines.items()}


def _plan(
    app: App,
    work: Session,
    request: Request,
    rehearsed: RehearsedPlan | None,
    *,
    beside: bool,
) -> Plan:
    """Plan, and name the database, even if planning fails: it may be the wrong database.

    Args:
        beside: Whether another tool may have a history in the database.

    Raises:
        HistoryError: It has one, and migrator has none.
        MigratorError: As `Session.plan`.
    """
    from ..output.text import intent_text

    database = _database(work)
    try:
        if rehearsed:
            _check_target(work, rehearsed)
        plan = work.plan(request)
        if not (beside or request.reverts or any(entry.applied for entry in plan.entries)):
            from ..adoption.tools import refuse_other

            refuse_other(work)
    except errors.MigratorError:
        app.say(database)
        raise
    app.say(f"{database}: {intent_text(plan, request)}")
    return plan


def _check_target(work: Session, rehearsed: RehearsedPlan) -> None:
    from ..rehearsal.plan_file import target_of

    rehearsed.check_target(target_of(work))


def _show_nothing(app: App, plan: Plan, request: Request) -> None:
    from ..output import text

    nothing = {"steps": [], "notes": list(plan.notes)}
    app.show(lambda: text.nothing_text(plan, request), lambda: nothing)


def _database(work: Session) -> str:
    info = work.conn.info
    role = f", role {work.settings.role}" if work.settings.role else ""
    return f"database {info.dbname} on {work.server} as {info.user}{role}"


def _intent(plan: Plan, request: Request) -> str:
    """Say what a run will do, as a question to confirm."""
    from ..planning.planner import Action

    verbs = {Action.UP: "apply", Action.DOWN: "revert", Action.REDO: "revert and apply again"}
    versions = list(dict.fromkeys(step.version for step in plan.steps))
    if not versions:
        return f"record {errors.listed([entry.version for entry in plan.squashed])}"
    return f"{verbs[request.action]} {errors.listed(versions)}"


def _compare(app: App, rehearsed: RehearsedPlan, outcome: Outcome) -> None:
    from .. import events
    from ..rehearsal.plan_file import differences

    for line in differences(rehearsed, outcome):
        app.notify(events.Remarked(line))
