"""Read the schema of a database from its catalogs, and compare two of them."""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import psycopg

# How PostgreSQL writes names and values.  `jit` is off because compiling the query takes longer
# than running it.
SETTINGS = """
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
"""The kinds that name roles, which another server may lack."""


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """An object that SQL can create or change.

    Attributes:
        kind: Such as `table`, `column`, `index`, `comment`, `owner`.
        name: With its schema, quoted where SQL needs it; `public.users.email` for a column.
            Unique within its kind.
        definition: All that SQL can change about it, except what is an object of its own.
        identity: The OID, or that of the table and the number of the column: a new object of
            the same name has another one.  Empty for objects that hold no data.
        parents: The labels of the objects that it is created and dropped with.
        position: Of a column in its table, from 1; 0 for other objects.
    """

    kind: str
    name: str
    definition: str
    identity: str = ""
    parents: tuple[str, ...] = ()
    position: int = 0

    @property
    def label(self) -> str:
        """Kind and name; unique in a schema."""
        return f"{self.kind} {self.name}"


Schema = tuple[SchemaObject, ...]
"""All objects of a database at one time, in no particular order."""


class Sign(enum.StrEnum):
    """How an object differs between two schemas."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that two schemas do not have in common.

    Attributes:
        before: Its definition in the first schema; None if it was added.
        after: Its definition in the second schema; None if it was removed.
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
    def sign(self) -> Sign:
        """Whether it was added, removed or changed."""
        if self.before is None:
            return Sign.ADDED
        return Sign.REMOVED if self.after is None else Sign.CHANGED

    @property
    def is_validation(self) -> bool:
        """Whether a constraint was validated: it accepts the same new rows as before."""
        return (
            self.kind in ("constraint", "column")
            and self.after is not None
            and (re.sub(" NOT VALID$| not valid", "", self.before or "") == self.after)
        )


def schema_of(name: str) -> str:
    """Return the first part of a name, as it is quoted there.

    >>> schema_of('"a.b".c'), schema_of("s.t")
    ('"a.b"', 's')
    """
    part = _FIRST_PART.match(name)
    return part[0] if part else name


# Parts of the query that are about no relation.
_ELSEWHERE = re.compile("-- not on a relation\n.*?-- end\n", re.DOTALL)


@cache
def _query() -> str:
    text = resources.files(__package__).joinpath("snapshot.sql").read_text(encoding="utf-8")
    return text.replace("{chosen}", "true")


@cache
def query_of_relations() -> str:
    """Return the query for the objects on some relations, with two parameters.

    $1 is the `history` of `read`, $2 an array of OIDs.
    """
    text = resources.files(__package__).joinpath("snapshot.sql").read_text(encoding="utf-8")
    text = text.replace("{chosen}", "c.oid = any ($2)").replace("%(history)s", "$1")
    return _ELSEWHERE.sub("", text)


def read(conn: psycopg.Connection[Any], history: str | None) -> Schema:
    """Read the schema of a database, in the transaction if there is one.

    System schemas, temporary tables and the members of extensions are left out.  Settings and
    locks of the session are the same afterwards.

    Args:
        history: The schema whose tables of migrator are left out; None
            to read them too.

    Raises:
        psycopg.Error: Such as a lock timeout on a view.
    """
    with conn.transaction(force_rollback=True):
        conn.execute(SETTINGS)
        return tuple(each for each, _ in rows(conn, history))


def rows(conn: psycopg.Connection[Any], history: str | None) -> Iterator[tuple[SchemaObject, int]]:
    """Yield each object and the OID of the relation that it is on, or 0, under `SETTINGS`."""
    answer = conn.execute(_query().encode(), {"history": history})
    return map(of_row, answer.fetchall())


def of_row(row: Sequence[Any]) -> tuple[SchemaObject, int]:
    """Read a row of the query."""
    kind, name, definition, identity, parents, position, relation = row
    return SchemaObject(kind, name, definition, identity, tuple(parents), position), relation


def compare(
    before: Iterable[SchemaObject],
    after: Iterable[SchemaObject],
    *,
    leave_out: Collection[str] = (),
) -> tuple[Difference, ...]:
    """Return the differences of two schemas, by table, each table before its parts.

    Columns that both have in another order are a difference of the kind `column order`.

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
    return tuple(sorted([*found, *_reordered(old, new)], key=_sort_key))


def recreated(
    before: Iterable[SchemaObject], after: Iterable[SchemaObject]
) -> tuple[SchemaObject, ...]:
    """Return the objects that hold data and were dropped and created again, by table.

    Their data is lost, even if `compare` finds the same definition.  The parts of a table that
    was created again are left out.
    """
    old = {each.label: each.identity for each in before if each.identity}
    found = {
        each.label: each
        for each in after
        if each.identity and old.get(each.label, each.identity) != each.identity
    }
    outermost = [each for each in found.values() if not found.keys() & set(each.parents)]
    return tuple(sorted(outermost, key=_sort_key))


def _difference(old: SchemaObject | None, new: SchemaObject | None) -> Difference:
    known = new or old
    assert known is not None, "a label comes from at least one schema"
    return Difference(
        known.kind,
        known.name,
        old.definition if old else None,
        new.definition if new else None,
        known.parents,
    )


def _reordered(old: dict[str, SchemaObject], new: dict[str, SchemaObject]) -> Iterator[Difference]:
    """Find the tables whose columns, as far as both have them, are in another order."""
    common = old.keys() & new.keys()
    then = _columns(old[label] for label in common)
    now = _columns(new[label] for label in common)
    for table, columns in now.items():
        if (before := then.get(table)) and before != columns:
            name = table.partition(" ")[2]
            yield Difference("column order", name, ", ".join(before), ", ".join(columns), (table,))


def _columns(objects: Iterable[SchemaObject]) -> dict[str, list[str]]:
    """Return the names of the columns, in their order, by the label of their table."""
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
_NAMED_OTHERWISE = ("comment", "index", "owner", "privileges")
_KIND = r"(?:[a-z-]+ )*"
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^".(]+)'
_FIRST_PART = re.compile(_IDENTIFIER)
_TABLE = re.compile(rf"{_KIND}({_IDENTIFIER}(?:\.{_IDENTIFIER})?)")


def _sort_key(each: SchemaObject | Difference) -> tuple[str, int, str, str]:
    """Return a sort key: the table that an object is about, then the kind, then the name."""
    is_named_after_it = each.kind not in _NAMED_OTHERWISE or not each.parents
    about = each.name if is_named_after_it else each.parents[0]
    table = _TABLE.match(about)
    rank = _ORDER.index(each.kind) if each.kind in _ORDER else len(_ORDER)
    return table[1] if table else about, rank, each.kind, each.name
