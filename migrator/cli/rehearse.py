"""The commands that compare with a scratch database: rehearse, drift."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from .. import errors
from .app import DISAGREEING, App, style, terminal_width
from .command import command
from .options import (
    apply_limits,
    duration,
    ignore_option,
    override_option,
    role_option,
    scratch_option,
    size,
    target_option,
)

if TYPE_CHECKING:
    from ..rehearsal.report import Report
    from ..rehearsal.schemas.ignore import Pattern
    from ..rehearsal.schemas.pair import Pair


@command(epilog="Example: migrator rehearse --html report.html")
@scratch_option
@ignore_option
@target_option
@click.option(
    "--out-of-order",
    is_flag=True,
    help="Include pending migrations older than the newest applied one.",
)
@click.option(
    "--from-target",
    is_flag=True,
    help="Copy the database's schema instead of replaying the history.",
)
@click.option(
    "--on-target",
    "is_on_target",
    is_flag=True,
    help="Run the next migration on the database itself and roll it back.  Takes real locks, "
    "and leaves dead rows, WAL and replication traffic.",
)
@click.option(
    "--on-copy",
    "copy_url",
    metavar="URL",
    help="Run the migrations on this copy of the database, with its rows.  Each rehearsal needs "
    "a new copy.",
)
@click.option(
    "--max-lock",
    default="1s",
    show_default=True,
    callback=duration,
    metavar="TIME",
    help="With --on-copy: report locks that block longer than this.",
)
@click.option(
    "--small",
    default="8MB",
    show_default=True,
    callback=size,
    metavar="SIZE",
    help="Report tables smaller than this as notes only.",
)
@click.option(
    "--data-checks",
    default="5s",
    show_default=True,
    callback=duration,
    metavar="TIME",
    help="Time limit of each query for rows that break a new constraint; 0: no queries.",
)
@click.option(
    "--data-url",
    envvar="MIGRATOR_DATA_URL",
    metavar="URL",
    help="Check the rows on this replica of the database.",
)
@click.option("--no-examples", is_flag=True, help="Leave values of rows out of the report.")
@click.option(
    "--queries",
    metavar="SOURCE",
    help="Check that these queries still work after each migration: a file of SQL, or "
    "pg_stat_statements.  With --on-copy, also compare their plans.",
)
@click.option("--markdown", is_flag=True, help="Print the report as Markdown, for a pull request.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write an HTML report.",
)
@click.option(
    "--sarif",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the findings as SARIF 2.1.0, for code scanning.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Save the plan for `up --plan`.",
)
@role_option
@override_option
@click.pass_obj
def rehearse(
    app: App,
    /,
    *,
    scratch_url: str | None,
    role: str | None,
    target: str | None,
    out_of_order: bool,
    from_target: bool,
    is_on_target: bool,
    copy_url: str | None,
    max_lock: int,
    small: int,
    data_checks: int,
    data_url: str | None,
    no_examples: bool,
    queries: str | None,
    markdown: bool,
    html: Path | None,
    sarif: Path | None,
    save: Path | None,
    ignore: tuple[Pattern, ...],
) -> None:
    """Show what `up` would lock, rewrite and scan.

    Runs the pending migrations on a scratch database: up, down and up again.  Exits with 4
    if there are findings, drift or errors.
    """
    from ..events import Remarked
    from ..output.report import report_json
    from ..planning import planner
    from ..rehearsal import plan_file
    from ..rehearsal.data.data_checks import DataCheckOptions
    from ..rehearsal.on_copy import CopyOptions, rehearse_on_copy
    from ..rehearsal.on_target import rehearse_on_target
    from ..rehearsal.prepare import RehearsalOptions
    from ..rehearsal.rehearse import rehearse_plan

    _refuse_two_places(is_on_target=is_on_target, has_copy=copy_url is not None)
    apply_limits(app, {"role": role})
    data = DataCheckOptions(data_checks, app.other_database(data_url), not no_examples)
    scratch = app.other_database(scratch_url)
    options = RehearsalOptions(scratch, from_target, small, data, ignore, queries)
    copy = app.other_database(copy_url)
    request = planner.Request(planner.Action.UP, target, out_of_order=out_of_order)
    with app.opened() as work:
        plan = work.plan(request)
        if copy:
            given = CopyOptions(copy, small, max_lock / 1000, queries)
            report = rehearse_on_copy(work, plan, given, app.notify)
        elif is_on_target:
            if queries:
                app.notify(Remarked("no queries are checked on the database itself"))
            report = rehearse_on_target(work, plan, small, app.notify)
        else:
            report = rehearse_plan(work, plan, options, app.notify)
        if save:
            app.write(save, plan_file.dump(report, plan, plan_file.target_of(work)))
    _write_files(app, report, html, sarif)
    app.show(lambda: _text(app, report, markdown=markdown), lambda: report_json(report))
    if not report.is_clean:
        sys.exit(DISAGREEING)


def _write_files(app: App, report: Report, html: Path | None, sarif: Path | None) -> None:
    """Write the report files that were asked for; a path is None if it was not."""
    from ..output.html import report_html
    from ..output.json import dumps
    from ..output.sarif import report_sarif

    if html:
        app.write(html, report_html(report, app.program, datetime.now().astimezone()))
    if sarif:
        app.write(sarif, dumps(report_sarif(report, Path.cwd()), indent=2) + "\n")


def _text(app: App, report: Report, *, markdown: bool) -> str:
    """Write a report for stdout, no wider than the terminal there."""
    from ..output.markdown import report_markdown
    from ..output.report import report_text
    from ..output.terminal import wrapped

    if markdown:
        return report_markdown(report, app.program)
    text = report_text(report, style(sys.stdout), app.program)
    width = terminal_width(sys.stdout)
    return wrapped(text, width) if width else text


def _refuse_two_places(*, is_on_target: bool, has_copy: bool) -> None:
    """Refuse options that name more than one place to rehearse.

    Raises:
        UsageError: There are some.
    """
    names = ("scratch_url", "from_target", "is_on_target", "queries")
    source = click.get_current_context().get_parameter_source
    *others, target, queries = (source(name) is ParameterSource.COMMANDLINE for name in names)
    named = "--scratch-url, --from-target"
    if has_copy and (any(others) or target):
        raise errors.UsageError(f"--on-copy cannot be combined with {named} or --on-target")
    if is_on_target and (any(others) or queries):
        raise errors.UsageError(f"--on-target cannot be combined with {named} or --queries")
    if source("max_lock") is ParameterSource.COMMANDLINE and not has_copy:
        raise errors.UsageError("--max-lock needs --on-copy: only a copy has rows to measure with")


@command(epilog="Example: migrator drift --ignore 'schema partman' --ignore owner")
@scratch_option
@role_option
@ignore_option
@click.option(
    "--sql",
    "name",
    is_flag=False,
    flag_value="drift",
    metavar="[NAME]",
    help="Also write a migration that brings the differences into the history.",
)
@click.pass_obj
def drift(
    app: App,
    /,
    *,
    scratch_url: str | None,
    ignore: tuple[Pattern, ...],
    name: str | None,
    role: str | None,
) -> None:
    """Compare this database with what its history should have produced.

    Replays the history on a scratch database.  Exits with 4 if there are differences.
    """
    from ..output.report import drift_json, drift_text
    from ..rehearsal.compare import find_drift, write_drift

    apply_limits(app, {"role": role})
    server = app.other_database(scratch_url)
    paths: tuple[Path, ...] = ()
    with app.opened() as work:
        if name is None:
            found = find_drift(work, server, ignore, app.notify)
        else:
            found, pair = write_drift(work, server, ignore, app.notify)
            paths = _write_pair(app, name, pair, work.conn.info.dbname) if pair else ()
        database = work.conn.info.dbname
    kept = f"the files were written: {', '.join(map(str, paths))}" if paths else None
    app.show(
        lambda: drift_text(found, database, paths), lambda: drift_json(found, paths), kept=kept
    )
    if found.differences:
        sys.exit(DISAGREEING)


def _write_pair(app: App, name: str, pair: Pair, database: str) -> tuple[Path, Path]:
    from ..files import directory
    from ..output.pair import pair_texts

    folders = app.settings.directories
    version = directory.next_version(folders, name, now=datetime.now(UTC))
    return directory.write_pair(folders[0], version, pair_texts(pair, version, database))
