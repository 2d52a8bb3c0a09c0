"""The command that replaces many migrations by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import App
from .command import command
from .options import complete_version, scratch_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..model import Migration
    from ..rehearsal.squash import Squashed
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
@click.option(
    "--no-data", "leaves_rows", is_flag=True, help="Leave out the rows of all other tables."
)
@click.option("--dry-run", is_flag=True, help="Do everything except write and move files.")
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

    Writes a pair of files that creates what the old ones create, and proves that on scratch
    databases.  Moves the old files to the folder `squashed`, which is not read.  On a database
    that has all of the old migrations, the next `up` records the new one in their place.
    """
    from ..files import squashed
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
    done = _Result(made, tuple(each.version for each in migrations))
    if not dry_run:
        done = _write(done, Path(migrations[-1].up.path).parent, moves)
    app.show(
        lambda: "\n".join(done.lines()),
        done.as_json,
        kept=None if dry_run else f"the files were written: {', '.join(map(str, done.written))}",
    )


@dataclass(frozen=True, slots=True)
class _Result:
    """What was squashed; in a dry run, nothing is written.

    Attributes:
        made: The new pair.
        replaced: The versions that it replaces.
        written: The new files.
        folders: Where the old files are now.
    """

    made: Squashed
    replaced: tuple[str, ...]
    written: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()

    def lines(self) -> list[str]:
        """Return what was replaced and written, and what to do next."""
        made, names = self.made, self.replaced
        return [
            f"{made.version} replaces {errors.counted(len(names), 'migration')} "
            f"({names[0]} to {names[-1]})",
            f"rows: {', '.join(made.tables) or 'none'}",
            f"down: {made.irreversible or 'drops everything that it creates'}",
            *(f"wrote {path}" for path in self.written),
            *(f"moved the old files to {folder}" for folder in self.folders),
            "next, on every database that has all of the old migrations: migrator up"
            if self.written
            else "dry run; no file was changed",
        ]

    def as_json(self) -> dict[str, object]:
        """Return the same; the README documents the keys."""
        return {
            "version": self.made.version,
            "replaced": list(self.replaced),
            "tables": list(self.made.tables),
            "irreversible": self.made.irreversible,
            "written": [str(path) for path in self.written],
            "moved_to": [str(folder) for folder in self.folders],
        }


def _write(done: _Result, beside: Path, moves: Mapping[Path, Path]) -> _Result:
    """Write the new pair, then move the old files, so that none is lost if this is interrupted."""
    from ..files import directory, squashed

    made = done.made
    texts = (made.up, made.down) if made.down is not None else (made.up,)
    written = directory.write_pair(beside, made.version, texts)[: len(texts)]
    return replace(done, written=written, folders=squashed.move(moves))


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
        count = errors.counted(len(chosen), "migration")
        raise errors.UsageError(f"nothing to squash: the files have {count} up to {target}")
    if {entry.status for entry in chosen} not in ({Status.PENDING}, {Status.APPLIED}):
        raise errors.UsageError(
            f"only some of the migrations up to {target} are recorded in this database, so it "
            "could not record the new file in their place",
            hint=f"apply the others first: migrator up --to {target}",
        )
    return tuple(entry.migration for entry in chosen if entry.migration)
