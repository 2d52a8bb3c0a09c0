"""Write the rows of a table as they are at a statement of a pending migration, as a query.

The query runs on the target, where tables and columns may have other names and types, and where
those that pending migrations add do not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .constraints import Column, Requirements, Table

FILLED = "the migration itself fills it"
_UNREADABLE = "the statement does not show how the type is converted"
EXAMPLE = '"migrator example"'
"""The column that names a row, such as `id=5`."""


class UnknownRowsError(Exception):
    """The rows cannot be known before the migration runs; the message says why."""


@dataclass(frozen=True, slots=True)
class Past:
    """What is on the target, and what pending statements do to it before some statement.

    Attributes:
        target: The target, as the scratch database was before the pending migrations.
        changed: The tables whose rows may have been updated, by OID, and the numbers of the
            updated columns; None for any.
        added: The tables that may have new rows, by OID.
        removed: The tables from which rows may have been deleted, by OID.
        everything: Whether the rows of any table may have been changed.
        filled: The columns that pending migrations filled when they added them, as OID of the
            table and number.
        conversions: The expressions of `ALTER … TYPE … USING`, by OID of the table and number
            of the column; in terms of the target's columns.  None if it is not known.
    """

    target: Requirements
    changed: Mapping[int, frozenset[int] | None] = field(default_factory=dict)
    added: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()
    everything: bool = False
    filled: frozenset[tuple[int, int]] = frozenset()
    conversions: Mapping[tuple[int, int], str | None] = field(default_factory=dict)

    def is_new(self, table: int) -> bool:
        """Whether a table does not exist on the target."""
        return table not in self.target.tables


def check_known(past: Past, table: Table, columns: Collection[int]) -> None:
    """Check that no pending statement changes some columns of a table.

    Raises:
        UnknownRowsError: One may do that.
    """
    changed = past.changed.get(table.oid, frozenset())
    if past.everything or changed is None or changed & set(columns):
        raise UnknownRowsError(FILLED)


def source(past: Past, table: Table, columns: Collection[int], *, only: bool) -> str:
    """Return a FROM item with some columns of a table, under the names that they have then.

    Args:
        columns: By number.
        only: Whether to leave out the children of a table that is not partitioned.

    Raises:
        UnknownRowsError: Pending statements write to the table, or fill one of the columns.
    """
    if past.is_new(table.oid):
        return _empty(past, table, columns)
    check_known(past, table, _closure(past, table, columns))
    needed = [table.columns[number] for number in sorted(_closure(past, table, columns))]
    base = [each for each in needed if not _is_derived(past, table, each)]
    derived = [each for each in needed if _is_derived(past, table, each)]
    target = past.target.tables[table.oid]
    items = [*(f"{value(past, table, each)} as {each.name}" for each in base)]
    items += [f"{example(target)} as {EXAMPLE}", "ctid", "tableoid"]
    scope = "only " if only and table.kind == "r" else ""
    inner = f"(select {', '.join(items)} from {scope}{target.name}) as {table.alias}"
    if not derived:
        return inner
    more = ", ".join(f"({each.expression}) as {each.name}" for each in derived)
    return f"(select *, {more} from {inner}) as {table.alias}"


def value(past: Past, table: Table, column: Column) -> str:
    """Return what a column contains then, as an expression over the target's columns.

    Raises:
        UnknownRowsError: The migration fills it.
    """
    found = past.target.tables[table.oid].columns.get(column.number)
    if found is None:
        # A partitioned table itself does not show what its partitions were filled with.
        is_filled = column.is_identity or (table.kind == "p" and column.has_default)
        if is_filled or (table.oid, column.number) in past.filled:
            raise UnknownRowsError(FILLED)
        if column.missing and not past.target.has_type(column):
            # Good enough for NOT NULL and unique keys, and an error elsewhere.
            return column.missing.removesuffix(column.type) + "pg_catalog.text"
        return column.missing or f"null::{column.type}"
    if (found.type_oid, found.modifier) == (column.type_oid, column.modifier):
        return found.name
    if not past.target.has_type(column):
        raise UnknownRowsError(f"the migration makes the type {column.type}")
    return f"({converted(past, table, column)})::{column.type}"


def converted(past: Past, table: Table, column: Column) -> str:
    """Return the expression that a changed type is assigned from.

    Raises:
        UnknownRowsError: It cannot be read, or the target has no such column.
    """
    found = past.target.tables[table.oid].columns.get(column.number)
    if found is None:
        raise UnknownRowsError(FILLED)
    expression = past.conversions.get((table.oid, column.number), found.name)
    if expression is None:
        raise UnknownRowsError(_UNREADABLE)
    return expression


def _empty(past: Past, table: Table, columns: Collection[int]) -> str:
    if past.everything or table.oid in past.added or table.oid in past.changed:
        raise UnknownRowsError(FILLED)
    needed = (table.columns[number] for number in sorted(set(columns)))
    items = [f"null::{each.type} as {each.name}" for each in needed]
    more = [f"null::text as {EXAMPLE}", "null::tid as ctid", "null::oid as tableoid"]
    return f"(select {', '.join([*items, *more])} where false) as {table.alias}"


def _closure(past: Past, table: Table, columns: Collection[int]) -> set[int]:
    """Return some columns, and all that are stored if one of them is generated from others."""
    known = {number for number in columns if number in table.columns}
    if any(_is_derived(past, table, table.columns[number]) for number in known):
        known |= {number for number, each in table.columns.items() if not each.is_generated}
    return known


def _is_derived(past: Past, table: Table, column: Column) -> bool:
    """Whether a generated column is new or has a new expression."""
    found = past.target.tables[table.oid].columns.get(column.number)
    return column.is_generated and (found is None or found.expression != column.expression)


def example(target: Table) -> str:
    """Return an expression that names a row of the target: by its primary key, else its place."""
    keys = [target.columns[number].name for number in _primary(target)]
    if not keys and target.kind == "p":
        return named([("table", "tableoid::pg_catalog.regclass"), ("ctid", "ctid")])
    return named((key, key) for key in keys or ["ctid"])


def _primary(target: Table) -> Iterator[int]:
    for constraint in target.constraints.values():
        if constraint.kind == "p":
            yield from constraint.columns


def named(values: Iterable[tuple[str, str]]) -> str:
    """Return an expression that names some values, such as `email=a@b.c`.

    Args:
        values: What each is called, and the expression.
    """
    parts = ", ".join(f"pg_catalog.concat({literal(f'{name}=')}, {each})" for name, each in values)
    return f"pg_catalog.concat_ws(', ', {parts})"


def literal(text: str) -> str:
    """Write a text as SQL, whatever `standard_conforming_strings` is."""
    escape = "E" if "\\" in text else ""
    return f"{escape}'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
