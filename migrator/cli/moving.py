"""The commands that run migrations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import errors
from .app import App, style
from .options import everywhere, limited, runs

if TYPE_CHECKING:
    from ..events import Outcome
    from ..model import Entry, Plan
    from ..output.json import Json
    from ..rehearsal.plan_file import RehearsedPlan


@click.command(epilog="Example: migrator up --to 05")
@click.option(
    "--to",
    "target",
    envvar="MIGRATOR_UP_TO",
    metavar="VERSION",
    help="Stop behind this version.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="Apply this many at the most."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and its SQL, and touch nothing.")
@click.option("--out-of-order", is_flag=True, help="Apply older ones than the newest applied, too.")
@click.option("--trace", is_flag=True, help="Say what each statement locks, rewrites and scans.")
@click.option(
    "--plan",
    "plan_file",
    envvar="MIGRATOR_UP_PLAN",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Run what was rehearsed: take all its locks first, or none.",
)
@runs
@everywhere
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
    **limits: Any,
) -> None:
    """Apply what is pending, lowest number first.

    Each migration is applied in one transaction together with its record.
    """
    from ..planning import planner

    rehearsed = _rehearsed(plan_file) if plan_file else None

    def choose(entries: tuple[Entry, ...]) -> Plan:
        bound = planner.resolve(entries, target) if target is not None else None
        plan = planner.plan_up(entries, target=bound, steps=steps, out_of_order=out_of_order)
        if rehearsed:
            rehearsed.check(entries, plan)
        return plan

    limited(app, limits)
    _carry_out(app, choose, dry_run=dry_run, trace=trace, rehearsed=rehearsed)


def _rehearsed(path: Path) -> RehearsedPlan:
    from ..rehearsal.plan_file import load

    try:
        return load(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"the plan {path} cannot be read: {error}") from error


@click.command(epilog="Example: migrator down --steps 2")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="Take this many back [default: 1]."
)
@click.option(
    "--to",
    "target",
    envvar="MIGRATOR_DOWN_TO",
    metavar="VERSION",
    help="Take back all above this version.",
)
@click.option(
    "--all", "everything", envvar="MIGRATOR_DOWN_ALL", is_flag=True, help="Take back all."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and its SQL, and touch nothing.")
@click.option("--from-files", is_flag=True, help="Run the down files, not the stored scripts.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@runs
@everywhere
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
    """Take back the newest migrations, the last applied first.

    The script is the one that was stored when the migration was applied.
    """
    from ..planning import planner

    if sum((steps is not None, target is not None, everything)) > 1:
        raise errors.UsageError("--steps, --to and --all exclude one another")
    most = None if target or everything else steps or 1

    def choose(entries: tuple[Entry, ...]) -> Plan:
        bound = planner.resolve(entries, target) if target is not None else None
        return planner.plan_down(entries, target=bound, steps=most, from_files=from_files)

    limited(app, limits)
    _carry_out(app, choose, dry_run=dry_run, downs=True, ask=not yes)


@click.command(epilog="Example: migrator redo --steps 2")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How many.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and its SQL, and touch nothing.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@runs
@everywhere
@click.pass_obj
def redo(app: App, /, *, steps: int, dry_run: bool, yes: bool, **limits: Any) -> None:
    """Take the newest migrations back, and apply them again.

    They are taken back with the stored scripts, as `down` does it, and applied from the files.
    """
    from ..planning import planner

    def choose(entries: tuple[Entry, ...]) -> Plan:
        return planner.plan_redo(entries, steps=steps)

    limited(app, limits)
    _carry_out(app, choose, dry_run=dry_run, downs=True, ask=not yes)


def _carry_out(
    app: App,
    choose: Callable[[tuple[Entry, ...]], Plan],
    *,
    dry_run: bool,
    downs: bool = False,
    ask: bool = False,
    trace: bool = False,
    rehearsed: RehearsedPlan | None = None,
) -> None:
    from .. import session
    from ..output.json import of_nothing, of_plan
    from ..output.text import nothing_text, outcome_text, plan_text

    def agree(plan: Plan) -> None:
        if not (ask and sys.stdin.isatty()):
            return
        for note in plan.notes:
            click.echo(f"note: {note}", err=True)
        versions = dict.fromkeys(step.version for step in plan.steps)
        question = f"take back {', '.join(versions)} on database {work.conn.info.dbname}?"
        try:
            click.confirm(question, abort=True, err=True)
        except click.Abort:
            raise errors.CancelledError("not confirmed; nothing was run") from None

    with app.opened() as work:
        plan = session.unblocked(choose(work.entries(downs=downs)))
        if dry_run:
            app.show(lambda: plan_text(plan), lambda: of_plan(plan))
            return
        if not plan.steps:
            app.show(lambda: nothing_text(plan), lambda: of_nothing(plan))
            return
        from ..execution import runner

        agree(plan)
        outcome = runner.carry_out(
            work,
            choose,
            app.notify,
            agreed=plan if downs else None,
            trace=trace or rehearsed is not None,
            locks=rehearsed.locks if rehearsed else None,
            tells_each=app.tells_each,
        )
    if rehearsed:
        _compare(app, rehearsed, outcome)
    app.show(lambda: outcome_text(outcome, style(sys.stdout)), lambda: _document(app, outcome))


def _compare(app: App, rehearsed: RehearsedPlan, outcome: Outcome) -> None:
    from .. import events
    from ..rehearsal.plan_file import differences

    for line in differences(rehearsed, outcome):
        app.notify(events.Remarked(line))


def _document(app: App, outcome: Outcome) -> Json:
    from ..output import protocol

    return protocol.of_outcome(outcome, app.events)
