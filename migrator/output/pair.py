"""How a pair of files for drift looks."""

from __future__ import annotations

from collections.abc import Iterator

from ..rehearsal.schemas.differences import difference_lines
from ..rehearsal.schemas.pair import Pair, Written

_DRAFT = "-- migrator: draft (write what is missing, then remove this line)"
_UP = """\
-- {version}: changes that were made by hand on the database {database}.
--
-- `migrator up` makes them on every other database.  {database} already has them:
-- review these files, then record that with
--     migrator repair {version} --applied --reason "made by hand"
"""
_DOWN = """\
-- Revert {version}: undo the changes that were made by hand.
"""


def pair_texts(pair: Pair, version: str, database: str) -> tuple[str, str]:
    """Write the up and the down file."""
    name = " ".join(database.split())
    up, down = (text.format(version=version, database=name) for text in (_UP, _DOWN))
    return _script(up, pair.up), _script(down, pair.down)


def _script(head: str, written: Written) -> str:
    # PostgreSQL adds columns at the end only.
    is_draft = any(each.difference.kind != "column order" for each in written.unsaid)
    lines = [_DRAFT] if is_draft else []
    lines += [*head.splitlines(), *_unsaid(written), ""]
    if any(each.lower().startswith("create or replace") for each in written.statements):
        lines += ["set local check_function_bodies = off;", ""]
    lines += [f"{statement};" for statement in written.statements]
    return "\n".join(lines) + "\n"


def _unsaid(written: Written) -> Iterator[str]:
    if written.unsaid:
        yield from ("--", "-- Missing here, because migrator cannot write it:")
    for each in written.unsaid:
        for line in difference_lines([each.difference]):
            yield f"--     {line}"
        if each.reason:
            yield f"--         ({' '.join(each.reason.split())})"
