"""The commands that write something down, and run nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import App
from .options import everywhere, staged

if TYPE_CHECKING:
    from ..rehearsal.schema import Difference


@click.command(epilog="Example: migrator create add_phone_to_users")
@click.argument("name")
@everywhere
@click.pass_obj
def create(app: App, *, name: str) -> None:
    """Write the next pair of files, with a template in each."""
    from ..files import directory

    up_path, down_path = directory.create(app.settings.directory, name, now=datetime.now(UTC))
    paths = {"up": str(up_path), "down": str(down_path)}
    kept = f"the files were written: {up_path}, {down_path}"
    app.show(lambda: "\n".join(paths.values()), lambda: dict(paths), kept=kept)


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
    from ..execution.baseline import baseline as record_baseline
    from ..execution.baseline import of_baseline
    from ..rehearsal.rehearse import compare_with_files

    with app.opened() as work:
        if not unchecked:
            migrations = of_baseline(work, version)
            server = app.other_database(scratch_url)
            _refuse(compare_with_files(work, migrations, server, app.notify), app)
        versions = record_baseline(work, version, app.notify)
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
    from ..execution.baseline import Decision
    from ..execution.baseline import repair as record_repair

    asked = [decision for decision, is_asked in given.items() if is_asked]
    if len(asked) != 1:
        raise errors.UsageError("say what is decided: one of --accept, --applied and --reverted")
    if not reason.strip():
        raise errors.UsageError("say why, in words: --reason TEXT; it goes into the log")
    (decision,) = asked
    with app.opened() as work:
        chosen = Decision(decision)
        decided = record_repair(work, version, chosen, reason, app.notify)
    result = {"version": decided, "decision": decision, "reason": reason}
    kept = "the decision was recorded; see: migrator log"
    app.show(lambda: f"recorded {decided} as {decision}", lambda: result, kept=kept)
