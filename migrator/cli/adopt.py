"""The command that takes over another tool's files and history: adopt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import errors
from .app import App
from .command import command
from .confirmation import confirm
from .history import refuse_missing
from .options import ignore_option, override_option, scratch_option, yes_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..adoption.adopt import Adoption
    from ..rehearsal.schemas.ignore import Pattern
    from ..session import Session


def _complete_tool(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from ..adoption.tools import DIALECTS

    return [CompletionItem(d.name) for d in DIALECTS if d.name.startswith(incomplete)]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of an adoption."""

    files: Path
    into: Path
    table: str | None
    partial: bool
    dry_run: bool
    unchecked: bool
    retire: bool
    yes: bool
    scratch_url: str | None
    ignore: tuple[Pattern, ...]


_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@command(epilog="Example: migrator adopt dbmate --files db/migrations --into migrations")
@click.argument("tool", required=False, shell_complete=_complete_tool)
@click.option(
    "--files",
    type=_DIRECTORY,
    metavar="DIR",
    help="The directory of the other tool's files [default: that of --dir].",
)
@click.option(
    "--into",
    type=_DIRECTORY,
    metavar="DIR",
    help="Write converted files here [default: that of --dir].",
)
@click.option("--table", metavar="NAME", help="The other tool's table, if it was renamed.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken over, and write nothing.")
@click.option("--partial", is_flag=True, help="Leave out what cannot be converted.")
@click.option("--unchecked", is_flag=True, help="Do not check that the database has their schema.")
@click.option("--retire", is_flag=True, help="Rename the other tool's table, so that it fails.")
@click.option("--undo", is_flag=True, help="Forget the adoption, if nothing was run since.")
@scratch_option
@ignore_option
@yes_option
@override_option
@click.pass_obj
def adopt(app: App, /, *, tool: str | None, undo: bool, **given: Any) -> None:
    """Take over the files and the history of another migration tool.

    Without TOOL, shows which tools have a table in the database.  With it, converts their files
    into pairs, checks them on a scratch database, and records what is applied.  Nothing is run
    on the schema.
    """
    if undo and tool:
        raise errors.UsageError("specify only one of TOOL and --undo")
    directories = app.settings.directories
    app.settings = replace(app.settings, directories=())
    with app.opened() as work:
        if undo:
            _undo(app, work, yes=given["yes"])
        elif tool is None:
            _look(app, work, given["table"])
        else:
            for name in ("files", "into"):
                given[name] = given[name] or directories[0]
            _adopt(app, work, tool, _Asked(**given))


def _undo(app: App, work: Session, *, yes: bool) -> None:
    from ..adoption import record

    confirm(app, work, "forget what was adopted", yes=yes)
    versions = record.undo(work, app.notify)
    lines = [f"{version}: no longer recorded" for version in versions]
    kept = "the adoption was undone; see: migrator log"
    app.show(lambda: "\n".join(lines), lambda: {"undone": list(versions)}, kept=kept)


def _look(app: App, work: Session, table: str | None) -> None:
    from ..adoption import tools
    from ..output import adoption

    found = tools.look(work.conn, renamed=table)
    app.show(lambda: adoption.found_text(found, table), lambda: adoption.of_found(found))


def _adopt(app: App, work: Session, tool: str, asked: _Asked) -> None:
    from ..adoption import adopt, record, tools
    from ..output import adoption

    dialect, place = tools.choose(work.conn, tool, asked.table)
    plan = adopt.plan(work, dialect, place, asked.files, asked.into, partial=asked.partial)
    if asked.retire:
        adopt.refuse_to_retire(plan)
    if not asked.unchecked:
        _check(app, work, plan, asked.scratch_url, asked.ignore)
    retired = None
    if not asked.dry_run:
        confirm(app, work, f"adopt {dialect.name}", yes=asked.yes)
        retired = record.carry_out(work, plan, app.notify, retire=asked.retire)
    app.show(
        lambda: adoption.adopted_text(plan, retired, dry_run=asked.dry_run),
        lambda: adoption.of_adoption(plan, retired, dry_run=asked.dry_run),
        kept=None if asked.dry_run else "the history was recorded; see: migrator status",
    )


def _check(
    app: App, work: Session, plan: Adoption, url: str | None, ignore: tuple[Pattern, ...]
) -> None:
    """Check on a scratch database that the target has what the applied migrations make."""
    from ..rehearsal.compare import compare_with_files

    if not plan.applied:
        return
    migrations = tuple(migration for migration, _ in plan.applied)
    server = app.other_database(url)
    found = compare_with_files(work, migrations, server, ignore, app.notify)
    refuse_missing(found.differences, app)
    for note in found.notes:
        app.remark(note)
