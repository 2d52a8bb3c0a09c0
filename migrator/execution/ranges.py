"""Cut a table into ranges, one for each batch: of blocks, or of the values of a column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from psycopg import sql

from ..model import BatchProgress
from ..postgres import catalog
from ..postgres.cursor import Connection
from ..sql import backfill, names, splitter
from ..sql.script import Backfill

_FIRST_BLOCKS = 64
_LEAST_ROWS, _FIRST_ROWS, _MOST_ROWS = 100, 1000, 50_000

_TREE = """
with recursive tree as (
    select %(oid)s::oid as oid
    union
    select h.inhrelid from pg_inherits h join tree on tree.oid = h.inhparent
)
select oid::bigint from tree
"""
_TABLE = """
select c.relkind,
       (select bool_or(leaf.relkind = 'f') from pg_class leaf where leaf.oid = any(%(tree)s::oid[]))
from pg_class c
where c.oid = %(oid)s::oid
"""
# All partitions of a table are cut at the same blocks, so the largest one counts.
_BLOCKS = """
select coalesce(max(pg_relation_size(c.oid)), 0) / current_setting('block_size')::integer
from pg_class c
where c.oid = any(%(tree)s::oid[])
"""
# As the last VACUUM or ANALYZE counted; a block of the usual 8 kB has no more than 291.
_ROWS_IN_BLOCK = """
select coalesce(
           sum(
               case
                   when c.reltuples > 0 and c.relpages > 0 then ceil(c.reltuples / c.relpages)
                   else 291
               end
           ),
           1
       )
from pg_class c
where c.oid = any(%(tree)s::oid[])
  and c.relkind <> 'p'
"""
_COLUMN = """
select format_type(a.atttypid, a.atttypmod),
       a.attnotnull,
       t.typnamespace = 'pg_catalog'::regnamespace,
       array(
           select coalesce(pg_get_expr(i.indpred, i.indrelid), '')
           from pg_index i
           join pg_am m on m.oid = (select relam from pg_class where oid = i.indexrelid)
           where i.indrelid = a.attrelid
             and i.indisvalid
             and i.indkey[0] = a.attnum
             and m.amname = 'btree'
       )
from pg_attribute a
join pg_type t on t.oid = a.atttypid
where a.attrelid = %(oid)s::oid
  and a.attname = %(column)s
  and a.attnum > 0
  and not a.attisdropped
"""
_BOUND = """
select bound::text
from (
    select {column} as bound
    from {table}
    where {condition}
    order by {column}
    limit 1 offset {skipped}
) as found
"""
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}
_TID = "{name} operator(pg_catalog.{operator}) '({block},0)'::pg_catalog.tid"
# Version 13 has no scan of a range of blocks.  A block has no more rows than this.
_TIDS = (
    "{name} operator(pg_catalog.=) any (array(select ('(' operator(pg_catalog.||) block::text"
    " operator(pg_catalog.||) rest)::pg_catalog.tid"
    " from pg_catalog.generate_series({start}, {last}) blocks (block),"
    " (select ',' operator(pg_catalog.||) i::text operator(pg_catalog.||) ')'"
    " from pg_catalog.generate_series(1, {most}) i offset 0) rests (rest)))"
).replace("::text", "::pg_catalog.text")


class NoRangesError(Exception):
    """A table cannot be cut into ranges; the two arguments are the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Range:
    """What one batch covers.

    Attributes:
        condition: SQL that is added to the WHERE of the statement; empty for a repeated statement.
        after: How far the statement has come when the batch is done.
    """

    condition: str
    after: BatchProgress


class Ranges(Protocol):
    """The ranges of a table.

    Attributes:
        table: With its schema; empty for a repeated statement.
        oids: Of the table and its partitions.
        first: The size of the first batch.
        least: The smallest size.
        most: The greatest size.
        unit: What the size counts.
    """

    table: str
    oids: tuple[int, ...]
    first: int
    least: int
    most: int
    unit: str

    def end(self) -> int:
        """Return where a pass that begins now ends; 0 if unknown."""

    def next(self, progress: BatchProgress) -> Range | None:
        """Return the next range of a pass; None at its end."""


class Blocks:
    """Ranges of the blocks of a table; those of its partitions are cut at the same numbers.

    They have no more than about `_MOST_ROWS` rows, because batches grow where no row is changed.
    """

    unit = "blocks"
    least = 1

    def __init__(self, conn: Connection, table: str, oids: tuple[int, ...], alias: str) -> None:
        self.table, self.oids, self._conn = table, oids, conn
        self._name = f"{_quoted(alias)}.ctid"
        rows = int(_row(conn, _ROWS_IN_BLOCK, tree=list(oids))[0])
        self.most = max(_MOST_ROWS // rows, self.least)
        self.first = min(_FIRST_BLOCKS, self.most)

    def end(self) -> int:
        """Return the number of blocks."""
        return int(_row(self._conn, _BLOCKS, tree=list(self.oids))[0])

    def next(self, progress: BatchProgress) -> Range | None:
        """Return the next blocks."""
        start, end = progress.done, min(progress.done + progress.size, progress.end)
        if start >= end:
            return None
        if self._conn.info.server_version < 140000:
            condition = _TIDS.format(name=self._name, start=start, last=end - 1, most=291)
        else:
            bounds = ((">=", start), ("<", end))
            parts = (_TID.format(name=self._name, operator=o, block=b) for o, b in bounds)
            condition = " and ".join(parts)
        return Range(condition, replace(progress, done=end))


class Keys:
    """Ranges of the values of a column, found by an index of the column."""

    unit = "rows"
    first, least, most = _FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS

    def __init__(self, conn: Connection, table: str, oids: tuple[int, ...], read: Backfill) -> None:
        assert read.column is not None, "these are its values"
        self.table, self.oids = table, oids
        self._conn, self._column = conn, _quoted(read.column)
        self._name = f"{_quoted(read.alias)}.{self._column}"
        found = conn.execute(_COLUMN, {"oid": oids[0], "column": read.column}).fetchone()
        self._type, self._predicate = _of_column(read, table, found)

    def end(self) -> int:
        """Return 0: the number of batches is not known."""
        return 0

    def next(self, progress: BatchProgress) -> Range | None:
        """Return the next values; the last range has no upper bound."""
        if progress.end:
            return None
        after = [] if progress.key is None else [f"> {self._literal(progress.key)}"]
        column = self._column
        query = _BOUND.format(
            column=column,
            table=self.table,
            condition=" and ".join([*(f"{column} {each}" for each in after), self._predicate]),
            skipped=progress.size - 1,
        )
        row = self._conn.execute(query.encode()).fetchone()
        done = replace(progress, done=progress.done + 1)
        if row is None:
            condition = " and ".join(f"{self._name} {each}" for each in after) or "true"
            return Range(condition, replace(done, end=done.done))
        bounds = [*after, f"<= {self._literal(row[0])}"]
        condition = " and ".join(f"{self._name} {each}" for each in bounds)
        return Range(condition, replace(done, key=row[0]))

    def _literal(self, key: str) -> str:
        return f"{sql.Literal(key).as_string(None)}::{self._type}"


class Repeated:
    """No ranges: the statement limits itself."""

    unit = "batches"
    first = least = most = 1
    table = ""
    oids: tuple[int, ...] = ()

    def end(self) -> int:
        """Return 0: the number of batches is not known."""
        return 0

    def next(self, progress: BatchProgress) -> Range | None:
        """Return the statement itself."""
        return Range("", replace(progress, done=progress.done + 1))


def of(conn: Connection, read: Backfill) -> Ranges:
    """Return the ranges of a statement's table, as the script's search path finds it.

    Raises:
        NoRangesError: It is not a table, or its column cannot be cut into ranges.
    """
    if not read.table:
        return Repeated()
    name = names.quoted(read.table)
    found = catalog.relations(conn, [".".join(map(_quoted, read.table))])
    if not found:
        raise NoRangesError(f"table {name} does not exist", "check the name in the comment above")
    (oid,) = found
    oids = tuple(each for (each,) in conn.execute(_TREE, {"oid": oid}).fetchall())
    kind, is_foreign = _row(conn, _TABLE, oid=oid, tree=list(oids))
    if kind not in ("r", "p"):
        what = _KINDS.get(kind, "not a table")
        raise NoRangesError(
            f"{name} is {what}: only a table has batches", "name the table in the comment above"
        )
    if is_foreign:
        reason = f"{name} has a partition that is a foreign table: only a table has batches"
        raise NoRangesError(reason, "write a backfill for each of the other partitions")
    (table,) = catalog.names(conn, [oid])
    return Keys(conn, table, oids, read) if read.column else Blocks(conn, table, oids, read.alias)


def _of_column(read: Backfill, table: str, found: tuple[Any, ...] | None) -> tuple[str, str]:
    """Return a column's type, and the predicate of the index to find its values by.

    A partial index is chosen if its predicate is written in the statement's WHERE: it has the
    fewest rows.
    """
    if found is None:
        raise NoRangesError(f"{table} has no column {read.column}", "check the comment above")
    kind, is_required, is_ours, predicates = found
    name = f"column {read.column} of {table}"
    if not is_required:
        raise NoRangesError(f"{name} may be null", "choose a column that is NOT NULL")
    if not is_ours:
        raise NoRangesError(f"{name} has type {kind}", "choose a column of a built-in type")
    written = _meaning(word for _, word in backfill.condition(read) or ())
    for predicate in sorted(predicates, reverse=True):
        if _meaning(splitter.tokens(predicate)) in written:
            return kind, f"({predicate})" if predicate else "true"
    raise NoRangesError(
        f"{name} has no index that serves the batches",
        "create an index that begins with it; a partial one needs its WHERE in the statement",
    )


def _meaning(tokens: Iterable[str]) -> str:
    return " ".join(word.lower() for word in tokens if word not in "()")


def _row(conn: Connection, query: str, **parameters: object) -> tuple[Any, ...]:
    row: tuple[Any, ...] = conn.execute(query, parameters).fetchall()[0]
    return row


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
