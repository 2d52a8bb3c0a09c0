"""Estimate what the statements that run in batches would cost on the target.

A scratch database has no rows, and on a copy only the first batch is traced.  So the estimate
uses the size of the target's table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg

from ..config import Settings
from ..hazards.catalogue import Facts
from ..postgres.cursor import Connection, explain, run_plainly
from ..sql import names, splitter
from ..sql.script import Backfill
from ..tracing.trace import LockMode, Touch
from .report import BackfillEstimate, RehearsedMigration, TracedStatement

_BLOCK = 8192  # bytes
# Used where nothing was measured: a small server with narrow rows that are in memory.
_ROWS_PER_SECOND = 100_000
_BLOCKS_PER_SECOND = 12_800
_READS = 2  # the first pass, and the statement as a whole
_MOST_ROWS = 50_000  # of one batch
_ROW_WAL = 100  # bytes for each row beside its content
_FEW = 0.1  # of the rows: an index is better than a walk over the table
# An empty table is read whole, whatever indexes it has.
_NO_SCAN = "set local enable_seqscan = off"
_PARTIAL = """
select c.relname
from pg_index i
join pg_class c on c.oid = i.indexrelid
where c.relname = any (%s::text[])
  and i.indpred is not null
"""


def with_estimates(
    conn: Connection, rehearsed: RehearsedMigration, known: Facts, settings: Settings
) -> RehearsedMigration:
    """Add the estimates for a script that has run; `known` are the facts before it."""
    options = rehearsed.step.script.options
    traced = {each.statement.offset: each for each in rehearsed.traced}
    found = tuple(
        _estimate(conn, read, traced[read.statement.offset], known, _times(rehearsed, settings))
        for read in options.backfills
        if read.statement and read.statement.offset in traced
    )
    return replace(rehearsed, backfills=found) if found else rehearsed


def _times(rehearsed: RehearsedMigration, settings: Settings) -> tuple[float, float]:
    """Return how many seconds a batch should take, and the share of the time that is not pauses."""
    of_file = rehearsed.step.script.options.batch_time
    milliseconds = settings.batch_time if of_file is None else of_file
    return max(milliseconds, 1) / 1000, settings.batch_load / 100


def _estimate(
    conn: Connection,
    read: Backfill,
    each: TracedStatement,
    known: Facts,
    times: tuple[float, float],
) -> BackfillEstimate:
    table = _table(read, each)
    indexes = _indexes(conn, read, each)
    found = BackfillEstimate(
        statement=each.statement,
        table=table.relation.name if table else None,
        is_repeated=not read.table,
        indexes=indexes,
        locks=tuple(_strong(each)),
    )
    size = known.sizes.get(found.table or "")
    if size is None or size.is_empty:
        return found
    explained = known.row_changes.get(each.statement.offset)
    rows = size.rows if explained is None else sum(change.rows for change in explained)
    if each.rewritten is not None and each.took is not None:  # on a copy
        return _priced(replace(found, rows=each.changed, is_measured=True), each.took, times, each)
    if rows is None:
        return found
    # A repeated statement finds its rows anew each time; without an index that is not known.
    if found.is_repeated and not indexes:
        return replace(found, rows=rows)
    is_by_index = found.is_repeated or (read.column and indexes)
    blocks = 0 if is_by_index else size.bytes / _BLOCK
    work = rows / _ROWS_PER_SECOND + _READS * blocks / _BLOCKS_PER_SECOND
    found = replace(found, rows=rows, is_few=bool(blocks) and rows < (size.rows or 0) * _FEW)
    width = size.bytes / max(size.rows or rows, 1)
    wal = min(rows, size.bytes / _BLOCK) * _BLOCK + rows * (width + _ROW_WAL)
    return replace(_priced(found, work, times, each), wal=round(wal))


def _priced(
    found: BackfillEstimate, work: float, times: tuple[float, float], each: TracedStatement
) -> BackfillEstimate:
    """Add the number of batches, the time with the pauses, and the WAL if one batch tells it."""
    batch, share = times
    rows = found.rows or 0
    batches = max(round(work / batch), -(-rows // _MOST_ROWS), 1)
    first = sum(t.inserted + t.updated + t.deleted for t in each.trace.touches)
    wal = round(each.effort.wal / first * rows) if each.effort.wal is not None and first else None
    return replace(found, batches=batches, seconds=work / share, wal=wal)


def _strong(each: TracedStatement) -> Iterator[tuple[str, LockMode]]:
    """Yield the locks on existing tables that are stronger than those of a change of rows."""
    for touch in each.trace.touches:
        mode = touch.mode
        if mode and mode > LockMode.ROW_EXCLUSIVE and not touch.is_ours:
            yield touch.relation.name, mode


def _table(read: Backfill, each: TracedStatement) -> Touch | None:
    """Return the table that is walked; of a repeated statement the one that it writes."""
    for touch in each.trace.touches:
        name = names.read(list(splitter.tokens(touch.relation.name)))[0]
        is_named = name[-len(read.table) :] == read.table if read.table else touch.written
        if touch.relation.kind in "rp" and is_named:
            return touch
    return None


def _indexes(conn: Connection, read: Backfill, each: TracedStatement) -> tuple[str, ...] | None:
    """Return the indexes that serve the WHERE, by name: none if not; None if unknown."""
    text = each.statement.text
    try:
        with conn.transaction(force_rollback=True):
            run_plainly(conn, _NO_SCAN)
            plan = explain(conn, text)
    except psycopg.Error:
        if conn.closed:
            raise
        return None
    written = {node["Alias"] for node in _nodes(plan) if node["Node Type"] == "ModifyTable"}
    alias = re.escape(read.alias) if read.table else "|".join(map(re.escape, sorted(written)))
    is_ours = re.compile(rf"({alias})(_[0-9]+)?").fullmatch
    scans = [node for node in _nodes(plan) if is_ours(node.get("Alias", ""))]
    scans = [node for node in scans if node["Node Type"].endswith("Scan")]
    if not scans or any(node["Node Type"] == "Seq Scan" for node in scans):
        return () if scans else None
    found = [below for node in scans for below in _nodes(node) if "Index Name" in below]
    partial = _partial(conn, [each["Index Name"] for each in found])
    # An index may also be read whole, for its order.
    serve = (each for each in found if "Index Cond" in each or each["Index Name"] in partial)
    return tuple(sorted({each["Index Name"] for each in serve}))


def _partial(conn: Connection, indexes: Sequence[str]) -> frozenset[str]:
    """Return which of some indexes are partial, by name."""
    rows = conn.execute(_PARTIAL, [list(indexes)]).fetchall()
    return frozenset(name for (name,) in rows)


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
