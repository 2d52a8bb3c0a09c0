"""The commands that run migrations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import errors
from .app import App, style
from .options import everywhere, limited, runs

if TYPE_CHECKING:
    from ..events import Outcome
    from ..model import Plan
    from ..planning.planner import Request
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
    from ..planning.planner import Action, Request

    rehearsed = _rehearsed(plan_file) if plan_file else None
    request = Request(
        Action.UP, target, steps=steps, out_of_order=out_of_order, rehearsed=rehearsed
    )
    limited(app, limits)
    outcome = _run(app, request, dry_run=dry_run, trace=trace or rehearsed is not None)
    if rehearsed and outcome:
        _compare(app, rehearsed, outcome)
    _show(app, outcome)


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
    from ..planning.planner import Action, Request

    if sum((steps is not None, target is not None, everything)) > 1:
        raise errors.UsageError("--steps, --to and --all exclude one another")
    most = None if target or everything else steps or 1

    request = Request(Action.DOWN, target, steps=most, from_files=from_files)
    limited(app, limits)
    _show(app, _run(app, request, dry_run=dry_run, ask=not yes))


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
    from ..planning.planner import Action, Request

    limited(app, limits)
    _show(app, _run(app, Request(Action.REDO, steps=steps), dry_run=dry_run, ask=not yes))


def _run(
    app: App, request: Request, *, dry_run: bool, trace: bool = False, ask: bool = False
) -> Outcome | None:
    """Plan and run; None if there was nothing to run, which is shown then."""
    from ..output import json, text

    with app.opened() as work:
        plan = work.plan(request)
        if dry_run:
            app.show(lambda: text.plan_text(plan), lambda: json.of_plan(plan))
            return None
        if not plan.steps:
            app.show(lambda: text.nothing_text(plan), lambda: json.of_nothing(plan))
            return None
        from ..execution import runner

        if ask and sys.stdin and sys.stdin.isatty():  # None if the shell closed it
            _confirm(plan, work.conn.info.dbname)
        return runner.carry_out(work, request, app.notify, agreed=plan, trace=trace)


def _confirm(plan: Plan, database: str) -> None:
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    versions = dict.fromkeys(step.version for step in plan.steps)
    try:
        click.confirm(
            f"take back {', '.join(versions)} on database {database}?", abort=True, err=True
        )
    except click.Abort:
        raise errors.CancelledError("not confirmed; nothing was run") from None


def _compare(app: App, rehearsed: RehearsedPlan, outcome: Outcome) -> None:
    from .. import events
    from ..rehearsal.plan_file import differences

    for line in differences(rehearsed, outcome):
        app.notify(events.Remarked(line))


def _show(app: App, outcome: Outcome | None) -> None:
    if outcome is None:
        return
    from ..output import json, text

    app.show(
        lambda: text.outcome_text(outcome, style(sys.stdout)),
        lambda: json.of_outcome(outcome, app.events),
        kept="the migrations were run; see: migrator status" if outcome.finished else None,
    )
