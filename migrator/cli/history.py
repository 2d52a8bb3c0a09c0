"""The commands about the history: status, log, baseline, repair."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import DISAGREEING, App, style, terminal_width
from .command import command
from .confirmation import confirm
from .options import (
    complete_version,
    ignore_option,
    override_option,
    scratch_option,
    yes_option,
)

if TYPE_CHECKING:
    from ..execution.baseline import Decision
    from ..history.overview import Overview
    from ..model import Entry
    from ..output.json import Json
    from ..rehearsal.schemas.ignore import Pattern
    from ..rehearsal.schemas.schema import Difference

_PENDING, _INTERRUPTED = 3, 7
_DECIDED = {
    "accepted": "recorded the edited file as applied",
    "applied": "recorded as applied",
    "reverted": "recorded as not applied",
}


@command(epilog="Example: migrator status --check || echo 'not up to date'")
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 3 if migrations are pending, with 4 or 7 if something is wrong.",
)
@click.pass_obj
def status(app: App, *, check: bool) -> None:
    """List all migrations and their state."""
    from .. import session
    from ..output.text import status_text

    with app.opened() as work:
        overview = session.overview(work)
    width = terminal_width(sys.stdout)

    def as_json() -> Json:
        """Return all that `status` knows; only `--json` needs the import."""
        from ..output.json import of_status

        return of_status(overview)

    app.show(
        lambda: status_text(overview, style(sys.stdout), width=width, program=app.program), as_json
    )
    if check:
        sys.exit(_check_code(overview))


def _check_code(overview: Overview) -> int:
    from .. import model
    from ..planning.problems import outstanding_states

    states = outstanding_states(overview.entries)
    if model.Status.INTERRUPTED in states:
        return _INTERRUPTED
    known = {model.Status.PENDING, model.Status.APPLIED}
    if states - known:
        return DISAGREEING
    return 0 if overview.is_current else _PENDING


@command(epilog="Example: migrator log --version 05_create_memberships")
@click.option(
    "--version", metavar="VERSION", shell_complete=complete_version, help="Show only this version."
)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=50,
    show_default=True,
    help="Show the last N entries.",
)
@click.pass_obj
def log(app: App, /, *, version: str | None, limit: int) -> None:
    """Show who ran what and when, and how it ended.

    The newest entry comes last.
    """
    from .. import session
    from ..output.json import of_log
    from ..output.text import log_text

    with app.opened() as work:
        rows = session.log(work, version=version, limit=limit)
    app.show(lambda: log_text(rows), lambda: of_log(rows))


@command(epilog="Example: migrator baseline 05")
@click.argument("version", shell_complete=complete_version)
@click.option("--unchecked", is_flag=True, help="Do not check that the database has their schema.")
@scratch_option
@ignore_option
@yes_option
@override_option
@click.pass_obj
def baseline(
    app: App,
    /,
    *,
    version: str,
    unchecked: bool,
    scratch_url: str | None,
    yes: bool,
    ignore: tuple[Pattern, ...],
) -> None:
    """Record migrations as applied without running them.

    For a database whose schema was created without migrator.  First checks on a scratch
    database that the schema has everything that the migrations up to VERSION create.
    """
    from ..execution import baseline
    from ..rehearsal.compare import compare_with_files

    with app.opened() as work:
        if not unchecked:
            migrations = baseline.of_baseline(work, version)
            server = app.other_database(scratch_url)
            found = compare_with_files(work, migrations, server, ignore, app.notify)
            refuse_missing(found.differences, app)
            for note in found.notes:
                app.remark(note)
        confirm(app, work, f"record all migrations up to {version} as applied", yes=yes)
        versions = baseline.baseline(work, version, app.notify)
    lines = [f"{name}: recorded as applied" for name in versions] or [
        f"nothing to do: every migration up to {version} is applied"
    ]
    kept = "the versions were recorded; see: migrator status" if versions else None
    app.show(lambda: "\n".join(lines), lambda: {"versions": list(versions)}, kept=kept)


def refuse_missing(found: Sequence[Difference], app: App) -> None:
    """Show what differs from the schema of the files.

    Raises:
        HistoryError: Something is missing.
    """
    from .. import events
    from ..rehearsal.schemas.differences import difference_lines
    from ..rehearsal.schemas.schema import Sign

    missing = [each for each in found if each.sign is Sign.REMOVED]
    if missing:
        raise errors.HistoryError(
            "the database lacks what these migrations would have created",
            detail="\n".join(each.label for each in missing),
            hint="record fewer versions and apply the rest with: migrator up\n"
            "to skip this check: --unchecked",
        )
    for line in difference_lines(found):
        app.notify(events.Remarked(f"different from the files: {line}"))


@command(
    epilog="Example: migrator repair 05 --applied --reason 'built the index by hand, see OPS-12'"
)
@click.argument(
    "version", metavar="VERSION...", nargs=-1, required=True, shell_complete=complete_version
)
@click.option("--accept", "accepted", is_flag=True, help="The edited file matches the database.")
@click.option("--applied", "applied", is_flag=True, help="It is fully applied.")
@click.option("--reverted", "reverted", is_flag=True, help="It is not applied.")
@click.option("--renamed", "renamed", is_flag=True, help="Only its file was renamed.")
@click.option("--reason", metavar="TEXT", help="Why; recorded in the log.  --renamed needs none.")
@yes_option
@override_option
@click.pass_obj
def repair(
    app: App, /, *, version: Sequence[str], reason: str | None, yes: bool, **given: bool
) -> None:
    """Correct the history of migrations without running them.

    Pass exactly one of --accept, --applied, --reverted and --renamed; it applies to every
    VERSION.  All of them are recorded, or none.
    """
    from ..execution import baseline
    from ..model import is_repeatable

    asked = [decision for decision, is_asked in given.items() if is_asked]
    if len(asked) != 1:
        raise errors.UsageError("specify exactly one of --accept, --applied, --reverted, --renamed")
    (decision,) = asked
    if not (reason or "").strip() and (reason is not None or decision != "renamed"):
        what = "missing option '--reason'" if reason is None else "--reason is empty"
        raise errors.UsageError(what, hint="say why; it is recorded in the log")
    if len({is_repeatable(each) for each in version}) > 1:
        raise errors.UsageError("versions and repeatable files need a command each")
    with app.opened() as work:
        chosen = baseline.Decision(decision)
        confirm(app, work, f"record {errors.listed(version)} as {decision}", yes=yes)
        if is_repeatable(version[0]):
            names = baseline.repair_repeatables(work, version, chosen, reason, app.notify)
            lines = [f"{name}: {_DECIDED[chosen]}" for name in names]
        else:
            decided = baseline.repair(work, version, chosen, reason, app.notify)
            names = tuple(entry.version for entry in decided)
            lines = [f"{entry.version}: {_decision_text(entry, chosen)}" for entry in decided]
    result = {
        "versions": list(names),
        "decision": decision,
        "reason": reason,
    }
    kept = "the decision was recorded; see: migrator log"
    app.show(lambda: "\n".join(lines), lambda: result, kept=kept)


def _decision_text(entry: Entry, decision: Decision) -> str:
    renamed = f"recorded as renamed to {entry.new_name}" if entry.new_name else ""
    if decision == "renamed" or (decision == "accepted" and renamed and not entry.is_edited):
        return renamed
    text = _DECIDED[decision]
    return f"{renamed}; {text}" if renamed and decision != "reverted" else text
