"""The command that replaces many migrations by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import App
from .command import command
from .options import complete_version, scratch_option

if TYPE_CHECKING:
    from ..model import Migration
    from ..session import Session


@command(epilog="Example: migrator squash --to 120 --data public.roles --no-data")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="VERSION",
    shell_complete=complete_version,
    help="Replace all migrations up to this version.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="TABLE",
    help="Let the new file insert the rows of this table.  May be repeated.",
)
@click.option("--no-data", "leaves_rows", is_flag=True, help="Leave out the rows of other tables.")
@click.option("--dry-run", is_flag=True, help="Do everything but write and move files.")
@scratch_option
@click.pass_obj
def squash(
    app: App,
    /,
    *,
    target: str,
    data: tuple[str, ...],
    leaves_rows: bool,
    dry_run: bool,
    scratch_url: str | None,
) -> None:
    """Replace the migrations up to a version by one.

    The new pair of files makes what the old ones make, which is proven on scratch databases.
    The old files are moved to the folder `squashed`, which is not read.  A database that has
    all of the old migrations records the new one in their place, with the next `up`.
    """
    from ..files import directory, squashed
    from ..rehearsal.squash import squash as write

    with app.opened() as work:
        migrations = _chosen(work, target)
        moves = squashed.moves(migrations)
        made = write(
            work,
            migrations,
            app.other_database(scratch_url),
            app.notify,
            data=data,
            leaves_rows=leaves_rows,
        )
    texts = (made.up, made.down) if made.down is not None else (made.up,)
    written: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    if not dry_run:
        beside = Path(migrations[-1].up.path).parent
        # The old files come last: a run that stops between has lost none.
        written = directory.write_pair(beside, made.version, texts)[: len(texts)]
        folders = squashed.move(moves)
    names = [each.version for each in migrations]
    lines = [
        f"{made.version} makes what {errors.counted(len(names), 'migration')} made "
        f"({names[0]} to {names[-1]})",
        f"rows: {', '.join(made.tables) or 'none'}",
        f"down: {made.irreversible or 'drops everything that it made'}",
        *(f"wrote {path}" for path in written),
        *(f"moved the old files to {folder}" for folder in folders),
    ]
    if dry_run:
        lines.append("dry run; no file was changed")
    else:
        lines.append("next, on every database that has all of the old migrations: migrator up")
    app.show(
        lambda: "\n".join(lines),
        lambda: {
            "version": made.version,
            "replaced": names,
            "tables": list(made.tables),
            "irreversible": made.irreversible,
            "written": [str(path) for path in written],
            "moved_to": [str(folder) for folder in folders],
        },
        kept=None if dry_run else f"the files were written: {', '.join(map(str, written))}",
    )


def _chosen(work: Session, target: str) -> tuple[Migration, ...]:
    """Return the migrations up to a version, by ascending number.

    Raises:
        BlockedError: Files and history disagree on one of them, or only some are applied.
        UsageError: There is no such version, or nothing to squash.
    """
    from ..model import Status
    from ..planning import planner
    from ..planning.problems import find_problems

    entries = work.entries(downs=True)
    bound = planner.resolve(entries, target)
    if problems := tuple(find_problems(e for e in entries if e.number <= bound)):
        raise errors.BlockedError.of(problems, "found; no file was changed")
    chosen = [entry for entry in entries if entry.number <= bound and entry.migration]
    if len(chosen) <= 1:
        raise errors.UsageError(f"nothing to squash: {len(chosen)} of the files are up to {target}")
    if {entry.status for entry in chosen} not in ({Status.PENDING}, {Status.APPLIED}):
        raise errors.UsageError(
            f"only some of the migrations up to {target} are recorded in this database, which "
            "could not record the new file in their place",
            hint=f"apply the others first: migrator up --to {target}",
        )
    return tuple(entry.migration for entry in chosen if entry.migration)
