"""Find the statements that delete, overwrite or copy many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..sql import backfill, names, splitter
from ..sql.script import Script
from ..sql.writes import Write, writes
from ..tracing.trace import LockMode, Relation, Touch, Trace
from .catalogue import RowChange, Size
from .sizes import bytes_text, rows_text
from .statement import Candidate, StatementContext, StatementTrace, listed, touches_of

_RUNS_CODE = (("call",), ("select",), ("do",))


def find(context: StatementContext) -> Iterator[Candidate]:
    """Yield what a statement does to rows of tables that were there."""
    explained = context.facts.row_changes.get(context.statement.offset)
    written = writes(context.statement)
    if explained is not None:
        found = _explained(context, written, explained)
    else:
        found = _not_explained(context, written)
    if context.is_batched:
        yield from map(_batched, found)
        return
    form = backfill.rewritten(context.statement)
    in_batches = ("large-update", "rows-deleted")
    yield from (
        replace(each, rewritten=form) if each.hazard in in_batches else each for each in found
    )


def _batched(candidate: Candidate) -> Candidate:
    """Make a note of what is a finding only because it is one large transaction."""
    message = f"{candidate.message}, in batches"
    if candidate.hazard == "rows-deleted":
        return replace(candidate, message=message)
    return replace(candidate, message=message, is_note=True, is_finding=False)


def _explained(
    context: StatementContext, written: Sequence[Write], changes: Sequence[RowChange]
) -> Iterator[Candidate]:
    for change in changes:
        alike = [each for each in written if each.verb == change.verb]
        write = next(
            (each for each in alike if each.is_of(change.relation)), Write(change.verb, ())
        )
        of = Write(change.verb, names.read(list(splitter.tokens(change.relation)))[0])
        touches = [touch for touch in context.existing("rpf") if of.is_of(touch.relation.name)]
        if touches:
            yield from _candidates(context, write, touches[0].relation, change)


def _not_explained(context: StatementContext, written: Sequence[Write]) -> Iterator[Candidate]:
    known = set()
    for touch in context.existing("rpf"):
        for write in written if touch.written else ():
            if write.is_of(touch.relation.name):
                known.add(touch.relation.oid)
                yield from _candidates(context, write, touch.relation, None)
    yield from _copies(context, written)
    if context.statement.words[:1] in _RUNS_CODE:
        for touch in context.existing("rpf"):
            is_written = touch.is_stronger and touch.mode is LockMode.ROW_EXCLUSIVE
            if (
                touch.relation.oid not in known
                and is_written
                and not _is_small(context, touch.relation)
            ):
                message = f"writes {touch.relation.name}{{size}} in a function"
                yield Candidate("large-update", touch.relation, message, is_note=True)


def _candidates(
    context: StatementContext, write: Write, table: Relation, change: RowChange | None
) -> Iterator[Candidate]:
    if context.is_made(table):
        return
    match write.verb:
        case "delete":
            yield _deletion(context, write, table, change)
        case "update":
            yield _update(context, write, table, change)
        case "insert" if change and change.bytes >= context.small:
            what = f"about {rows_text(change.rows)} rows, {bytes_text(change.bytes)}"
            message = f"inserts {what}, into {table.name}{{size}}"
            yield Candidate("large-insert-select", table, message, is_finding=True)


def _deletion(
    context: StatementContext, write: Write, table: Relation, change: RowChange | None
) -> Candidate:
    is_empty, is_small = _is_empty(context, table), _is_small(context, table, change)
    return Candidate(
        "rows-deleted",
        table,
        f"deletes {_rows(context, write, table, change)} of {table.name}{{size}}",
        is_note=is_empty or (is_small and not write.is_whole),
        lost=None if is_empty else f"the rows that it deletes from {table.name}",
    )


def _update(
    context: StatementContext, write: Write, table: Relation, change: RowChange | None
) -> Candidate:
    is_empty, is_small = _is_empty(context, table), _is_small(context, table, change)
    old = [each for each in write.columns if not _is_new(context, table, each)]
    overwrites = bool(old or not write.columns) and not is_empty
    what = f"{listed(names.quoted([each]) for each in old)} of {table.name}" if old else table.name
    return Candidate(
        "large-update",
        table,
        f"updates {_rows(context, write, table, change)} of {table.name}{{size}}",
        is_note=is_empty or (is_small and not (write.is_whole and overwrites)),
        lost=f"the values that it overwrites in {what}" if overwrites else None,
    )


def _rows(
    context: StatementContext, write: Write, table: Relation, change: RowChange | None
) -> str:
    size = _size(context, table)
    if write.is_whole:
        return "all rows"
    if not (change and size and size.rows):
        return "rows"
    return f"about {rows_text(change.rows)} row{'s' * (change.rows != 1)}"


def _is_empty(context: StatementContext, table: Relation) -> bool:
    size = _size(context, table)
    return size is not None and size.is_empty


def _copies(context: StatementContext, written: Sequence[Write]) -> Iterator[Candidate]:
    """Yield a copy of rows that was not explained, by the largest table that it reads."""
    words = context.statement.words
    makes_table = words[:1] == ("create",) and "as" in words and {"table"} & set(words[:5])
    if not makes_table and not any(each.is_query for each in written):
        return
    targets = {t.relation.oid for t in context.trace.touches if t.written}
    targets |= {created.oid for created in context.trace.created}
    sources = [
        touch.relation
        for touch in context.existing("rpm")
        if touch.relation.oid not in targets and not context.is_made(touch.relation)
    ]
    large = [each for each in sources if not _is_small(context, each)]
    largest = max(
        large, key=lambda each: (_size(context, each) or Size(1 << 60)).bytes, default=None
    )
    if largest:
        is_note = "where" in [each.lower() for each in splitter.tokens(context.statement.text)]
        yield Candidate(
            "large-insert-select",
            largest,
            f"copies rows of {largest.name}{{size}}",
            is_note=is_note,
        )


def _size(context: StatementContext, table: Relation) -> Size | None:
    return context.facts.sizes.get(context.name_before(table))


def _is_small(context: StatementContext, table: Relation, change: RowChange | None = None) -> bool:
    """Whether the changed rows take little space; if that is not known, whether the table does."""
    size = _size(context, table)
    if size is None or not (change and size.rows):
        return size is not None and size.bytes < context.small
    return size.bytes * min(1, change.rows / size.rows) < context.small


def _is_new(context: StatementContext, table: Relation, column: str) -> bool:
    """Whether a pending script added a column, named as the catalog has it."""
    name = context.name_before(table)
    made = {of_column for of, of_column in context.facts.made.columns if of == name}
    added = {c for touch in touches_of(table, context.before) for c in touch.columns_added}
    return any(names.read(list(splitter.tokens(each)))[0] == (column,) for each in made | added)


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
