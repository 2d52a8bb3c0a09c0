"""The commands about the history: status, log, baseline, repair."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import DISAGREEING, App, style
from .options import everywhere, staged

if TYPE_CHECKING:
    from ..model import Entry
    from ..rehearsal.schema import Difference

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


@click.command(epilog="Example: migrator baseline 05")
@click.argument("version")
@click.option("--unchecked", is_flag=True, help="Do not look whether their schema is there.")
@staged
@everywhere
@click.pass_obj
def baseline(app: App, /, *, version: str, unchecked: bool, scratch_url: str | None) -> None:
    """Record versions as applied, without running them.

    All up to this one, for a database that has their schema from before it was migrated with
    this tool.  They run on a scratch database, and what they make there has to be here.
    """
    from ..execution import baseline
    from ..rehearsal.rehearse import compare_with_files

    with app.opened() as work:
        if not unchecked:
            migrations = baseline.of_baseline(work, version)
            server = app.other_database(scratch_url)
            _refuse(compare_with_files(work, migrations, server, app.notify), app)
        versions = baseline.baseline(work, version, app.notify)
    lines = [*(f"recorded {name} as applied" for name in versions)] or ["nothing to do"]
    kept = "the versions were recorded; see: migrator status" if versions else None
    app.show(lambda: "\n".join(lines), lambda: {"versions": list(versions)}, kept=kept)


def _refuse(found: Sequence[Difference], app: App) -> None:
    """Raise if something is not there; say what is there in another form."""
    from .. import events
    from ..rehearsal.schema import Sign, difference_lines

    missing = [each for each in found if each.sign is Sign.REMOVED]
    if missing:
        raise errors.HistoryError(
            "the database lacks what these versions would have created",
            detail="\n".join(each.label for each in missing),
            hint="record fewer versions and apply the others with: migrator up; or, if you know "
            "better: --unchecked",
        )
    for line in difference_lines(found):
        app.notify(events.Remarked(f"different from the files: {line}"))


@click.command(
    epilog="Example: migrator repair 05 --applied --reason 'built the index by hand, see OPS-12'"
)
@click.argument("version")
@click.option("--accept", "accepted", is_flag=True, help="Its edited file is right.")
@click.option("--applied", "applied", is_flag=True, help="All of it is in the database.")
@click.option("--reverted", "reverted", is_flag=True, help="Nothing of it is there.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes into the log.")
@everywhere
@click.pass_obj
def repair(app: App, /, *, version: str, reason: str, **given: bool) -> None:
    """Record a decision about one version, and run nothing."""
    from ..execution import baseline

    asked = [decision for decision, is_asked in given.items() if is_asked]
    if len(asked) != 1:
        raise errors.UsageError("say what is decided: one of --accept, --applied and --reverted")
    if not reason.strip():
        raise errors.UsageError("say why, in words: --reason TEXT; it goes into the log")
    (decision,) = asked
    with app.opened() as work:
        chosen = baseline.Decision(decision)
        decided = baseline.repair(work, version, chosen, reason, app.notify)
    result = {"version": decided, "decision": decision, "reason": reason}
    kept = "the decision was recorded; see: migrator log"
    app.show(lambda: f"recorded {decided} as {decision}", lambda: result, kept=kept)
