"""Read the schema of a database from its catalogs, and compare two of them."""

from __future__ import annotations

import difflib
import enum
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import psycopg

# What decides how PostgreSQL spells names and values, and what slows it down: to compile the
# statement would take longer than to run it.
_SETTINGS = """
select set_config(name, value, true)
from (
    values ('search_path', 'pg_catalog, pg_temp'),
           ('quote_all_identifiers', 'off'),
           ('datestyle', 'ISO, YMD'),
           ('intervalstyle', 'postgres'),
           ('timezone', 'UTC'),
           ('extra_float_digits', '1'),
           ('bytea_output', 'hex'),
           ('jit', 'off'),
           ('work_mem', '64MB')
) as s (name, value)
"""

ROLE_KINDS = frozenset({"owner", "privileges", "default privileges"})
"""The kinds that name roles, which two servers need not have in common."""


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """One thing that SQL can create or change, as a snapshot finds it.

    Attributes:
        kind: Such as `table`, `column`, `index`, `comment`, `owner`.
        name: With its schema, quoted where SQL asks for quotes: `public.users.email` for a
            column.  Unique within its kind.
        definition: Everything about it that SQL can change, but for what has a kind of its own.
        identity: What another thing of the same name has not: its OID, or that of its table
            and its number there.  Empty for whatever can be rebuilt from its definition.
        parents: The labels of the objects that it comes and goes with.
        position: Its place among the columns of its table, from 1; 0 where there is no order.
    """

    kind: str
    name: str
    definition: str
    identity: str = ""
    parents: tuple[str, ...] = ()
    position: int = 0

    @property
    def label(self) -> str:
        """Kind and name; unique in a snapshot."""
        return f"{self.kind} {self.name}"


Schema = tuple[SchemaObject, ...]
"""All objects of a database at one moment, in no particular order."""


class Change(enum.StrEnum):
    """What became of an object from one snapshot to the other."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """What two snapshots do not agree on.

    Attributes:
        before: Its definition; None if it was added.
        after: Its definition; None if it was removed.
        parents: As in `SchemaObject`.
    """

    kind: str
    name: str
    before: str | None
    after: str | None
    parents: tuple[str, ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        """Kind and name."""
        return f"{self.kind} {self.name}"

    @property
    def change(self) -> Change:
        """What became of it."""
        if self.before is None:
            return Change.ADDED
        return Change.REMOVED if self.after is None else Change.CHANGED


@cache
def _statement() -> str:
    return resources.files(__package__).joinpath("snapshot.sql").read_text(encoding="utf-8")


def read(conn: psycopg.Connection[Any], history: str | None) -> Schema:
    """Read the schema of a database, inside the transaction if there is one; write nothing.

    System schemas, temporary tables and the members of extensions are no part of it.
    The session's settings and locks are afterwards what they were before.

    Args:
        history: The schema whose `migration_versions` and `migration_log` are left out; None
            for no schema.

    Raises:
        psycopg.Error: As PostgreSQL has it, such as a lock on a view that it could not have.
    """
    with conn.transaction(force_rollback=True):
        conn.execute(_SETTINGS)
        rows = conn.execute(_statement().encode(), {"history": history}).fetchall()
    return tuple(
        SchemaObject(kind, name, definition, identity, tuple(parents), position)
        for kind, name, definition, identity, parents, position in rows
    )


def compare(
    before: Iterable[SchemaObject],
    after: Iterable[SchemaObject],
    *,
    leave_out: Collection[str] = (),
) -> tuple[Difference, ...]:
    """Say in what two snapshots differ, by name, and a table before its parts; none if equal.

    That columns stand in another order is a difference of the kind `column order`; that one
    was added or removed between others is none.

    Args:
        leave_out: Kinds that are not compared, such as `ROLE_KINDS`.
    """
    old = {each.label: each for each in before if each.kind not in leave_out}
    new = {each.label: each for each in after if each.kind not in leave_out}
    found = [
        _difference(old.get(label), new.get(label))
        for label in old.keys() | new.keys()
        if label not in old or label not in new or old[label].definition != new[label].definition
    ]
    return tuple(sorted([*found, *_reordered(old, new)], key=_readable))


def recreated(
    before: Iterable[SchemaObject], after: Iterable[SchemaObject]
) -> tuple[SchemaObject, ...]:
    """Find what holds data and is there again under its name as another one, by name.

    The shape is restored and the data is lost.  Whether the shape is restored whole, with the
    same definition, is for `compare` to say.  What was recreated with its table is left out.
    """
    old = {each.label: each.identity for each in before if each.identity}
    found = {
        each.label: each
        for each in after
        if each.identity and old.get(each.label, each.identity) != each.identity
    }
    outermost = [each for each in found.values() if not found.keys() & set(each.parents)]
    return tuple(sorted(outermost, key=_readable))


def lines(differences: Iterable[Difference]) -> Iterator[str]:
    """Write differences as text, one line each and an indented diff below what changed.

    What came or went with its table, and what a partition inherits, is counted in the line
    of that table.
    """
    every = tuple(differences)
    by_label = {each.label: each for each in every}
    folded: defaultdict[str, Counter[str]] = defaultdict(Counter)
    shown = []
    for each in every:
        if root := _root(each, by_label):
            folded[root][each.kind] += 1
        else:
            shown.append(each)
    for each in shown:
        yield f"{each.label}: {each.change}{_counted(folded[each.label])}"
        if each.before is not None and each.after is not None:
            yield from _diff(each.before, each.after)


def _difference(old: SchemaObject | None, new: SchemaObject | None) -> Difference:
    known = new or old
    assert known is not None, "a label comes from one side at least"
    return Difference(
        known.kind,
        known.name,
        old.definition if old else None,
        new.definition if new else None,
        known.parents,
    )


def _reordered(old: dict[str, SchemaObject], new: dict[str, SchemaObject]) -> Iterator[Difference]:
    """Find the tables whose columns stand in another order, those in common alone."""
    common = old.keys() & new.keys()
    then = _columns(old[label] for label in common)
    now = _columns(new[label] for label in common)
    for table, columns in now.items():
        if (before := then.get(table)) and before != columns:
            name = table.partition(" ")[2]
            yield Difference("column order", name, ", ".join(before), ", ".join(columns), (table,))


def _columns(objects: Iterable[SchemaObject]) -> dict[str, list[str]]:
    """Give the names of the columns, in their order, by the label of their table."""
    tables: defaultdict[str, list[SchemaObject]] = defaultdict(list)
    for each in objects:
        if each.position:
            tables[each.parents[0]].append(each)
    return {
        table: [_last_name(table, each) for each in sorted(columns, key=lambda c: c.position)]
        for table, columns in tables.items()
    }


def _last_name(table: str, column: SchemaObject) -> str:
    return column.name.removeprefix(table.partition(" ")[2] + ".")


_ORDER = ("table", "view", "materialized view", "column order", "column", "constraint", "index")
_KIND = r"(?:[a-z-]+ )*"
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^".(]+)'
_TABLE = re.compile(rf"{_KIND}({_IDENTIFIER}(?:\.{_IDENTIFIER})?)")


def _readable(each: SchemaObject | Difference) -> tuple[str, int, str, str]:
    """Sort by the table that an object is about, and then from the outside in."""
    about = each.parents[0] if each.kind == "index" and each.parents else each.name
    table = _TABLE.match(about)
    rank = _ORDER.index(each.kind) if each.kind in _ORDER else len(_ORDER)
    return table[1] if table else about, rank, each.kind, each.name


def _root(each: Difference, by_label: dict[str, Difference]) -> str | None:
    """Give the outermost difference that accounts for this one; None if none does."""
    for label in each.parents:
        parent = by_label.get(label)
        if parent and _accounts(parent, each):
            return _root(parent, by_label) or label
    return None


def _accounts(parent: Difference, each: Difference) -> bool:
    if parent.change is not each.change:
        return False
    return parent.change is not Change.CHANGED or (
        parent.kind == each.kind and _edit(parent) == _edit(each)
    )


def _edit(changed: Difference) -> tuple[list[str], list[str]]:
    """Give the words that gave way to others, without what is the same before and behind them."""
    before, after = (changed.before or "").split(), (changed.after or "").split()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return before, after


def _counted(kinds: Counter[str]) -> str:
    if not kinds:
        return ""
    parts = (f"{count} × {kind}" for kind, count in sorted(kinds.items()))
    return f" (with {', '.join(parts)})"


def _diff(before: str, after: str) -> Iterator[str]:
    changes = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    for line in list(changes)[3:]:  # behind the names of the two and the place of the first
        yield "  …" if line.startswith("@@") else f"  {line[:1]} {line[1:]}".rstrip()
