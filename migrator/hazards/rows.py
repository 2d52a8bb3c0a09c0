"""Find the statements that delete, overwrite or copy many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..sql.script import Script
from ..sql.writes import Write, writes
from ..tracing.trace import LockMode, Touch, Trace
from .statement import StatementTrace


def with_written(script: Script, traced: Sequence[StatementTrace]) -> Iterator[Trace]:
    """Mark in traces which tables the statements write by their text.

    A table that the transaction has locked already, and that has no rows, shows no sign of it.
    """
    units = {s.offset: unit for unit in script.units for s in unit.statements}
    unit, held = None, dict[int, Touch]()
    for statement, trace in traced:
        if units[statement.offset] is not unit:
            unit, held = units[statement.offset], {}
        named = writes(statement)
        touches = {touch.relation.oid: touch for touch in trace.touches}
        written = _written(named, touches) or _written(named, held)
        if unit.transactional:
            held |= touches
        unseen = [
            Touch(held[oid].relation, held[oid].mode, is_ours=held[oid].is_ours, written=True)
            for oid in sorted(written - touches.keys())
        ]
        marked = [
            replace(touch, written=True) if oid in written else touch
            for oid, touch in touches.items()
        ]
        yield replace(trace, touches=(*marked, *unseen))


def _written(named: Sequence[Write], touches: dict[int, Touch]) -> set[int]:
    return {
        oid
        for oid, touch in touches.items()
        if touch.relation.kind in "rpf" and not touch.dropped
        if (touch.mode or LockMode.ROW_EXCLUSIVE) >= LockMode.ROW_EXCLUSIVE
        if any(write.is_of(touch.relation.name) for write in named)
    }
