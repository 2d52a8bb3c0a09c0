"""The commands that use a scratch database to say what a run would do: rehearse, drift."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .. import errors
from .app import DISAGREEING, App, style
from .options import everywhere, size, staged


@click.command(epilog="Example: migrator rehearse --html report.html")
@staged
@click.option(
    "--to", "target", envvar="MIGRATOR_REHEARSE_TO", metavar="VERSION", help="Stop behind it."
)
@click.option("--out-of-order", is_flag=True, help="Older ones than the newest applied, too.")
@click.option("--from-target", is_flag=True, help="Copy the schema; do not run the history again.")
@click.option(
    "--on-target",
    "is_on_target",
    envvar="MIGRATOR_REHEARSE_ON_TARGET",
    is_flag=True,
    help="Try the next one on the database itself, and roll it back: its locks are real.",
)
@click.option(
    "--small",
    default="8MB",
    show_default=True,
    callback=size,
    metavar="SIZE",
    help="A table below this size is no finding.",
)
@click.option("--markdown", is_flag=True, help="Write the report for a pull request.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="As a page, too.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the plan, for: up --plan FILE.",
)
@everywhere
@click.pass_obj
def rehearse(
    app: App,
    /,
    *,
    scratch_url: str | None,
    target: str | None,
    out_of_order: bool,
    from_target: bool,
    is_on_target: bool,
    small: int,
    markdown: bool,
    html: Path | None,
    save: Path | None,
) -> None:
    """Say what `up` would do to this database, without touching it.

    The pending migrations run on a scratch database, and are taken back and applied again
    there.  It exits with 4 if there are findings.
    """
    from ..output.html import report_html
    from ..output.report import report_json, report_markdown, report_text
    from ..planning import planner
    from ..rehearsal import plan_file
    from ..rehearsal.on_target import rehearse_on_target
    from ..rehearsal.rehearse import RehearsalOptions, rehearse_plan

    if is_on_target and (scratch_url or from_target):
        raise errors.UsageError("--on-target needs no scratch database")
    options = RehearsalOptions(app.other_database(scratch_url), from_target, small)
    request = planner.Request(planner.Action.UP, target, out_of_order=out_of_order)
    with app.opened() as work:
        plan = work.plan(request)
        report = (
            rehearse_on_target(work, plan, small, app.notify)
            if is_on_target
            else rehearse_plan(work, plan, options, app.notify)
        )
        if save:
            app.write(save, plan_file.dump(report, work.entries()))
    if html:
        app.write(html, report_html(report))
    app.show(
        lambda: report_markdown(report) if markdown else report_text(report, style(sys.stdout)),
        lambda: report_json(report),
    )
    if not report.is_clean:
        sys.exit(DISAGREEING)


@click.command(epilog="Example: migrator drift")
@staged
@everywhere
@click.pass_obj
def drift(app: App, /, *, scratch_url: str | None) -> None:
    """Say in what this database differs from what its history makes.

    The history runs on a scratch database.  It exits with 4 if there is a difference.
    """
    from ..output.report import drift_text
    from ..rehearsal.rehearse import find_drift
    from ..rehearsal.schema import difference_lines

    with app.opened() as work:
        found = find_drift(work, app.other_database(scratch_url), app.notify)
    app.show(lambda: drift_text(found), lambda: {"drift": list(difference_lines(found))})
    if found:
        sys.exit(DISAGREEING)
