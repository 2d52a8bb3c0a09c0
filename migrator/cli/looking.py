"""The commands that tell, and change nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import DISAGREEING, App, style
from .options import everywhere, size, staged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model import Entry

_PENDING, _INTERRUPTED = 3, 7


@click.command(epilog="Example: migrator status --check || echo 'the schema is behind'")
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 3 if migrations are pending, 4 or 7 if something is wrong.",
)
@everywhere
@click.pass_obj
def status(app: App, *, check: bool) -> None:
    """Show every version: its state, when, by whom and how long."""
    from .. import session
    from ..output.json import of_status
    from ..output.text import status_text

    with app.opened() as work:
        overview = session.overview(work)
    width = max(80, shutil.get_terminal_size().columns)
    app.show(
        lambda: status_text(overview, style(sys.stdout), width),
        lambda: of_status(overview),
    )
    if check:
        sys.exit(_check_code(overview.entries))


def _check_code(entries: Iterable[Entry]) -> int:
    from .. import model
    from ..planning.problems import unsettled

    states = unsettled(entries)
    if model.Status.INTERRUPTED in states:
        return _INTERRUPTED
    if states & {model.Status.MODIFIED, model.Status.MISSING, model.Status.OUT_OF_ORDER}:
        return DISAGREEING
    return _PENDING if model.Status.PENDING in states else 0


@click.command(epilog="Example: migrator verify --offline")
@click.option("--offline", is_flag=True, help="Check the files alone, without a database.")
@everywhere
@click.pass_obj
def verify(app: App, *, offline: bool) -> None:
    """Check that the files can be run, and are what was applied."""
    from ..files import directory
    from ..output.text import verified
    from ..planning import planner
    from ..planning.problems import find_notes, find_problems

    if offline:
        entries = planner.reconcile(directory.read_migrations(app.settings.directory), ())
    else:
        with app.opened() as work:
            entries = work.entries()
    if problems := tuple(find_problems(entries)):
        raise errors.BlockedError("not in order", errors=problems)
    notes = find_notes(entries)
    total = verified(entries, offline=offline)
    app.show(
        lambda: "\n".join([*(f"note: {note}" for note in notes), total]),
        lambda: {"notes": list(notes), "versions": len(entries)},
    )


@click.command(epilog="Example: migrator log --version 05_create_memberships")
@click.option("--version", metavar="VERSION", help="Only what happened to this one.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=50,
    show_default=True,
    help="How many.",
)
@everywhere
@click.pass_obj
def log(app: App, /, *, version: str | None, limit: int) -> None:
    """Show who did what, when, and how it ended; the newest last."""
    from .. import session
    from ..output.json import of_log
    from ..output.text import log_text

    with app.opened() as work:
        rows = session.log(work, version=version, limit=limit)
    app.show(lambda: log_text(rows), lambda: of_log(rows))


@click.command(epilog="Example: migrator rehearse --html report.html")
@staged
@click.option(
    "--to", "target", envvar="MIGRATOR_REHEARSE_TO", metavar="VERSION", help="Stop behind it."
)
@click.option("--out-of-order", is_flag=True, help="Older ones than the newest applied, too.")
@click.option("--from-target", is_flag=True, help="Copy the schema; do not run the history again.")
@click.option(
    "--on-target",
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
    on_target: bool,
    small: int,
    markdown: bool,
    html: Path | None,
    save: Path | None,
) -> None:
    """Say what `up` would do to this database, without touching it.

    The pending migrations run on a scratch database, and are taken back and applied again
    there.  It exits with 4 if there are findings.
    """
    from ..output.html import html as html_report
    from ..output.report import document as report_document
    from ..output.report import markdown as report_markdown
    from ..output.report import text as report_text
    from ..planning import planner
    from ..rehearsal import plan_file
    from ..rehearsal.on_target import rehearse_on_target
    from ..rehearsal.rehearse import RehearsalOptions, rehearse_plan

    if on_target and (scratch_url or from_target):
        raise errors.UsageError("--on-target needs no scratch database")
    options = RehearsalOptions(app.other_database(scratch_url), from_target, small)
    request = planner.Request(planner.Action.UP, target, out_of_order=out_of_order)
    with app.opened() as work:
        plan = work.plan(request)
        report = (
            rehearse_on_target(work, plan, small, app.notify)
            if on_target
            else rehearse_plan(work, plan, options, app.notify)
        )
        if save:
            app.write(save, plan_file.dump(report, work.entries()))
    if html:
        app.write(html, html_report(report))
    app.show(
        lambda: report_markdown(report) if markdown else report_text(report, style(sys.stdout)),
        lambda: report_document(report),
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
