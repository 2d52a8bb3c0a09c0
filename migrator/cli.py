"""Options in, calls down, text and exit code out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import blockers, config, documents, errors, options, render
from .app import DISAGREEING, App, Commands, check_code, style
from .config import Settings
from .model import Entry, Plan

if TYPE_CHECKING:
    from .plans import RehearsedPlan

_LOG_VERBOSITY = 2  # -vv


@click.group(
    "migrator",
    cls=Commands,
    epilog="Example: migrator up --dry-run",
    context_settings={"auto_envvar_prefix": "MIGRATOR", "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--dir",
    "directory",
    envvar="MIGRATOR_DIR",
    type=click.Path(path_type=Path, file_okay=True),
    default=config.DEFAULT_DIRECTORY,
    show_default=True,
    help="The directory of the migrations.",
)
@click.option("--database-url", metavar="URL", help="Where to connect; else DATABASE_URL, …")
@click.option("--schema", metavar="NAME", help="The schema that holds the history.")
@click.option(
    "--json",
    "as_json",
    envvar="MIGRATOR_JSON",
    is_flag=True,
    help="One JSON document on stdout.",
)
@click.option("-v", "--verbose", count=True, help="Show every statement; -vv also what is sent.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=options.version,
    help="Show the version and exit.",
)
@click.pass_context
def main(
    ctx: click.Context,
    *,
    directory: Path,
    database_url: str | None,
    schema: str | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Apply plain SQL files to PostgreSQL, in order, once, and take them back.

    A migration is a pair of files, NN_name.up.sql and NN_name.down.sql.  The database is
    the one of DATABASE_URL, of DATABASE_HOST, _PORT, _NAME, _USER, _PASSWORD and _SSL, or
    of libpq's own PG* variables; DATABASE_URL=embedded: is a PostgreSQL of the project's own.
    """
    ctx.obj = App(
        settings=Settings(directory=directory, schema=schema),
        database_url=database_url,
        as_json=as_json,
        verbosity=verbose,
    )
    if verbose >= _LOG_VERBOSITY or "migrator" in os.environ.get("DEBUG", "").split(","):
        options.log_statements()


@main.command(epilog="Example: migrator up --to 05")
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
@options.runs
@options.everywhere
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
    from . import planner  # noqa: PLC0415  (--help pays for no parser)

    rehearsed = _rehearsed(plan_file) if plan_file else None

    def choose(entries: tuple[Entry, ...]) -> Plan:
        bound = planner.resolve(entries, target) if target else None
        plan = planner.plan_up(entries, target=bound, steps=steps, out_of_order=out_of_order)
        if rehearsed:
            rehearsed.check(entries, plan)
        return plan

    options.limited(app, limits)
    _carry_out(app, choose, dry_run=dry_run, trace=trace, rehearsed=rehearsed)


def _rehearsed(path: Path) -> RehearsedPlan:
    from . import plans  # noqa: PLC0415  (who has no plan pays for none)

    try:
        return plans.load(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"the plan {path} cannot be read: {error}") from error


@main.command(epilog="Example: migrator down --steps 2")
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
@options.runs
@options.everywhere
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
    from . import planner  # noqa: PLC0415  (--help pays for no parser)

    if sum((steps is not None, target is not None, everything)) > 1:
        raise errors.UsageError("--steps, --to and --all exclude one another")
    most = None if target or everything else steps or 1

    def choose(entries: tuple[Entry, ...]) -> Plan:
        bound = planner.resolve(entries, target) if target else None
        return planner.plan_down(entries, target=bound, steps=most, from_files=from_files)

    options.limited(app, limits)
    _carry_out(app, choose, dry_run=dry_run, downs=True, ask=not yes)


@main.command(epilog="Example: migrator redo --steps 2")
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
@options.runs
@options.everywhere
@click.pass_obj
def redo(app: App, /, *, steps: int, dry_run: bool, yes: bool, **limits: Any) -> None:
    """Take the newest migrations back, and apply them again.

    They are taken back with the stored scripts, as `down` does it, and applied from the files.
    """
    from . import planner  # noqa: PLC0415  (--help pays for no parser)

    def choose(entries: tuple[Entry, ...]) -> Plan:
        return planner.plan_redo(entries, steps=steps)

    options.limited(app, limits)
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
    from . import runner, session  # noqa: PLC0415  (psycopg takes 0.1 s to import)

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
        if dry_run:
            plan = session.unblocked(choose(work.entries(downs=downs)))
            app.show(render.plan_text(plan), documents.of_plan(plan))
            return
        outcome = runner.carry_out(
            work,
            choose,
            app.notify,
            downs=downs,
            agree=agree,
            trace=trace,
            rehearsed=rehearsed,
        )
    text = render.outcome_text(outcome, style(sys.stdout))
    app.show(text, documents.of_outcome(outcome, app.events))


@main.command(epilog="Example: migrator status --check || echo 'the schema is behind'")
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 3 if migrations are pending, 4 or 7 if something is wrong.",
)
@options.everywhere
@click.pass_obj
def status(app: App, *, check: bool) -> None:
    """Show every version: its state, when, by whom and how long."""
    from . import session  # noqa: PLC0415  (psycopg takes 0.1 s to import)

    with app.opened() as work:
        overview = session.overview(work)
    width = max(80, shutil.get_terminal_size().columns)
    app.show(render.status_text(overview, style(sys.stdout), width), documents.of_status(overview))
    if check:
        sys.exit(check_code(overview.entries))


@main.command(epilog="Example: migrator rehearse --html report.html")
@options.staged
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
    callback=options.size,
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
@options.everywhere
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
    from . import page, planner, plans, reporting, session, staging, trial  # noqa: PLC0415  (psycopg takes 0.1 s to import)

    if on_target and (scratch_url or from_target):
        raise errors.UsageError("--on-target needs no scratch database")
    wish = staging.Wish(app.other_database(scratch_url), from_target, small)
    with app.opened() as work:
        entries = work.entries()
        bound = planner.resolve(entries, target) if target else None
        plan = session.unblocked(planner.plan_up(entries, target=bound, out_of_order=out_of_order))
        report = (
            trial.report(work, plan, small, app.notify)
            if on_target
            else staging.report(work, plan, wish, app.notify)
        )
        if save:
            app.write(save, plans.dump(report, entries))
    if html:
        app.write(html, page.html(report))
    as_text = reporting.markdown(report) if markdown else reporting.text(report, style(sys.stdout))
    app.show(as_text, reporting.document(report))
    if not report.is_clean:
        sys.exit(DISAGREEING)


@main.command(epilog="Example: migrator drift")
@options.staged
@options.everywhere
@click.pass_obj
def drift(app: App, /, *, scratch_url: str | None) -> None:
    """Say in what this database differs from what its history makes.

    The history runs on a scratch database.  It exits with 4 if there is a difference.
    """
    from . import schema, staging  # noqa: PLC0415  (psycopg takes 0.1 s to import)

    wish = staging.Wish(app.other_database(scratch_url), from_target=False, small=0)
    with app.opened() as work:
        found = staging.drift(work, wish, app.notify)
    lines = list(schema.lines(found))
    app.show(
        "\n".join(lines) or "no drift: the database is as its history makes it", {"drift": lines}
    )
    if found:
        sys.exit(DISAGREEING)


@main.command(epilog="Example: migrator create add_phone_to_users")
@click.argument("name")
@options.everywhere
@click.pass_obj
def create(app: App, *, name: str) -> None:
    """Write the next pair of files, with a template in each."""
    from . import files  # noqa: PLC0415  (--help pays for no parser)

    up_path, down_path = files.create(app.settings.directory, name, now=datetime.now(UTC))
    app.show(f"{up_path}\n{down_path}", {"up": str(up_path), "down": str(down_path)})


@main.command(epilog="Example: migrator verify --offline")
@click.option("--offline", is_flag=True, help="Check the files alone, without a database.")
@options.everywhere
@click.pass_obj
def verify(app: App, *, offline: bool) -> None:
    """Check that the files can be run, and are what was applied."""
    from . import files, planner  # noqa: PLC0415  (--help pays for no parser)

    if offline:
        entries = planner.reconcile(files.read(app.settings.directory), ())
    else:
        with app.opened() as work:
            entries = work.entries()
    if problems := tuple(blockers.problems(entries)):
        raise errors.BlockedError("not in order", errors=problems)
    notes = blockers.remarks(entries)
    total = render.verified(entries, offline=offline)
    app.show(
        "\n".join([*(f"note: {note}" for note in notes), total]),
        {"notes": list(notes), "versions": len(entries)},
    )


@main.command(epilog="Example: migrator baseline 05")
@click.argument("version")
@options.everywhere
@click.pass_obj
def baseline(app: App, /, *, version: str) -> None:
    """Record versions as applied, without running them.

    All up to this one, for a database that has their schema from before it was migrated with
    this tool.
    """
    from . import decisions  # noqa: PLC0415  (psycopg takes 0.1 s to import)

    with app.opened() as work:
        versions = decisions.baseline(work, version, app.notify)
    lines = [*(f"recorded {name} as applied" for name in versions)] or ["nothing to do"]
    app.show("\n".join(lines), {"versions": list(versions)})


@main.command(
    epilog="Example: migrator repair 05 --applied --reason 'built the index by hand, see OPS-12'"
)
@click.argument("version")
@click.option("--accept", "accepted", is_flag=True, help="Its edited file is right.")
@click.option("--applied", "applied", is_flag=True, help="All of it is in the database.")
@click.option("--reverted", "reverted", is_flag=True, help="Nothing of it is there.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes into the log.")
@options.everywhere
@click.pass_obj
def repair(app: App, /, *, version: str, reason: str, **given: bool) -> None:
    """Record a decision about one version, and run nothing."""
    from . import decisions  # noqa: PLC0415  (psycopg takes 0.1 s to import)

    asked = [decision for decision, is_asked in given.items() if is_asked]
    if len(asked) != 1:
        raise errors.UsageError("say what is decided: one of --accept, --applied and --reverted")
    if not reason.strip():
        raise errors.UsageError("say why, in words: --reason TEXT; it goes into the log")
    (decision,) = asked
    with app.opened() as work:
        chosen = decisions.Decision(decision)
        decided = decisions.repair(work, version, chosen, reason, app.notify)
    result = {"version": decided, "decision": decision, "reason": reason}
    app.show(f"recorded {decided} as {decision}", result)


@main.command(epilog="Example: migrator log --version 05_create_memberships")
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
@options.everywhere
@click.pass_obj
def log(app: App, /, *, version: str | None, limit: int) -> None:
    """Show who did what, when, and how it ended; the newest last."""
    from . import session  # noqa: PLC0415  (psycopg takes 0.1 s to import)

    with app.opened() as work:
        rows = session.log(work, version=version, limit=limit)
    app.show(render.log_text(rows), documents.of_log(rows))
