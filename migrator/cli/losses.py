"""List what a run will remove by reverting, with sizes from the catalog, before it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .. import errors
from ..events import Losing
from ..hazards import losses
from ..hazards.catalogue import Size
from ..model import Direction
from ..postgres import catalog, connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..hazards.losses import Loss
    from ..model import Plan, Step
    from ..postgres.catalog import Found
    from ..session import Session


def of_plan(work: Session, plan: Plan) -> tuple[Losing, ...]:
    """Return what the down scripts of a plan remove by name, in the order in which they run.

    One round trip, and none if they remove nothing.
    """
    found = [
        (step, loss)
        for step in plan.steps
        if step.direction is Direction.DOWN
        for loss in _losses(step)
    ]
    sizes = _sizes(work, [loss for _, loss in found])
    return tuple(dict.fromkeys(_event(step, loss, sizes) for step, loss in found))


def _losses(step: Step) -> Iterator[Loss]:
    path_is_known = True
    for unit in step.script.units[step.start_at :]:
        for statement in unit.statements:
            path_is_known &= "search_path" not in statement.text.lower()
            for loss in losses.find(statement):
                yield replace(loss, path_is_known=path_is_known)


def _sizes(work: Session, found: Sequence[Loss]) -> Mapping[tuple[str, bool], Found]:
    """Ask for the sizes; if there is no answer in time, the list has no sizes."""
    known = [loss for loss in found if loss.is_known_by_name]
    names: dict[bool, list[str]] = {True: [], False: []}
    for loss in known:
        names[loss.kind is losses.Kind.SCHEMA].append(loss.name)
    if not known:
        return {}
    try:
        with connection.reported():
            return catalog.sizes(work.conn, names[False], names[True])
    except errors.MigratorError:
        if work.conn.closed:
            raise
        work.conn.rollback()
        return {}


def _event(step: Step, loss: Loss, sizes: Mapping[tuple[str, bool], Found]) -> Losing:
    is_schema = loss.kind is losses.Kind.SCHEMA
    found = sizes.get((loss.name, is_schema)) if loss.is_known_by_name else None
    size = Size(found.bytes, found.rows) if found else None
    name, tables = (found.name, found.tables) if found else (loss.name, None)
    text = loss.text(name, size, tables)
    rows, number = (size.rows, size.bytes) if size else (None, None)
    return Losing(step, loss.statement, text, rows, number)
