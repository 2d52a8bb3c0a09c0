"""Read from the catalogs what the rows of tables must satisfy.

OIDs tell which of it is new: a table, column or constraint keeps its OID or number when it is
renamed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from ...postgres import connection
from ...postgres.cursor import Connection


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; SQL in it is for the search path `pg_catalog`.

    Attributes:
        name: Quoted as in SQL.
        type: With its modifier, such as `numeric(10,2)`; `base_type` is without it.
        type_oid: That of the type or domain.
        kind: `pg_type.typtype`: b, c, d (domain), e (enum), r, m.
        modifier: `pg_attribute.atttypmod`; -1 without one.
        not_null: Whether it is NOT NULL, and existing rows have been checked for it.
        collation: Its OID; 0 without one.
        is_generated: Whether it is generated; then it has a default for the catalog, too.
        is_stored: Whether it is generated, and its values are stored.
        expression: That of a generated column; None for others.
        missing: The value that the rows have which are older than the column; None without one.
    """

    number: int
    name: str
    type: str
    base_type: str
    type_oid: int
    kind: str
    modifier: int
    not_null: bool
    collation: int
    has_default: bool
    is_generated: bool
    is_stored: bool
    is_identity: bool
    expression: str | None
    missing: str | None


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint of a table.

    Attributes:
        name: Quoted as in SQL.
        kind: `pg_constraint.contype`: c, f, n, p, u, x.
        columns: Their numbers; of a check, those that its expression names.
        index: The OID of its index; of a foreign key, that of the referenced one; 0 without one.
        parent: The OID of the constraint that it was cloned from; 0 without one.
        only_here: Whether it does not apply to children of the table.
        expression: Of a check; None for others.
        references: The OID of the referenced table; 0 for other kinds.
        referenced: The numbers of the referenced columns, in the order of `columns`.
        match: `s` or `f` (MATCH FULL) of a foreign key.
        operators: One for each column, as `operator(schema.name)`; of a foreign key with the
            referenced column to the left.
    """

    oid: int
    name: str
    kind: str
    is_valid: bool
    columns: tuple[int, ...]
    index: int
    parent: int
    is_inherited: bool
    is_local: bool
    only_here: bool
    expression: str | None
    definition: str
    references: int
    referenced: tuple[int, ...]
    match: str
    on_delete: str
    on_update: str
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is unique, partial, of expressions, or of an exclusion constraint.

    Attributes:
        name: Quoted as in SQL.
        nulls_equal: Whether two nulls are duplicates.
        parent: The OID of the index of the partitioned table; 0 without one.
        columns: The numbers of all that it depends on.
        keys: Columns and expressions, as SQL.
        collations: One for each key, as ` collate "x"`; empty for that of the column.
        is_usual: Whether values are equal by its operator classes as they are in GROUP BY.
        predicate: Of a partial index; None for others.
    """

    oid: int
    name: str
    is_unique: bool
    is_primary: bool
    is_valid: bool
    nulls_equal: bool
    parent: int
    columns: tuple[int, ...]
    keys: tuple[str, ...]
    collations: tuple[str, ...]
    is_usual: bool
    predicate: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table or partitioned table, and what its rows must satisfy.

    Attributes:
        name: With its schema, quoted as in SQL; `alias` is without the schema.
        kind: r table, p partitioned table.
        bound: Of a partition: the condition on its rows; None for others.
        parents: The OIDs of the tables that it is a partition or a child of.
        fills_on_update: Whether a BEFORE UPDATE trigger may change more than an UPDATE names.
        writes_elsewhere: Whether it has a trigger that may write to other tables.
        keeps_deleted: Whether a BEFORE DELETE trigger or a rule may change rows instead of
            deleting them.
        columns: By number.
        constraints: By OID, in the order of their names; `indexes` likewise.
    """

    oid: int
    name: str
    alias: str
    kind: str
    bound: str | None
    parents: tuple[int, ...]
    fills_on_update: bool
    writes_elsewhere: bool
    keeps_deleted: bool
    columns: Mapping[int, Column]
    constraints: Mapping[int, Constraint]
    indexes: Mapping[int, Index]


@dataclass(frozen=True, slots=True)
class DomainCheck:
    """A check of a domain; its expression names the value `VALUE`."""

    oid: int
    name: str
    is_valid: bool
    expression: str


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain; `base` is the OID of its type `base_type`, which may be another domain."""

    oid: int
    name: str
    base: int
    base_type: str
    not_null: bool
    constraints: Mapping[int, DomainCheck]


@dataclass(frozen=True, slots=True)
class Requirements:
    """The tables, domains and enums (their labels) of a database at one time, by OID.

    Attributes:
        next: The first transaction that was not begun then; later ones have higher numbers.
    """

    tables: Mapping[int, Table] = field(default_factory=dict)
    domains: Mapping[int, Domain] = field(default_factory=dict)
    enums: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    next: int = 0

    def has_type(self, column: Column) -> bool:
        """Whether the type of a column exists, as far as it is an enum or a domain."""
        oid = column.type_oid
        return column.kind not in ("d", "e") or oid in self.domains or oid in self.enums

    def family(self, oid: int) -> Iterator[Domain]:
        """Yield a domain, and the domains that it is over; nothing for other types."""
        while domain := self.domains.get(oid):
            yield domain
            oid = domain.base


class Reader:
    """Reads what the rows of tables must satisfy, from a session that no migration runs in."""

    def __init__(self, conn: Connection) -> None:
        """Prepare the query for some tables, as planning it takes longer than running it.

        A pooler, which invents the number of the server process, may assign another session to
        each transaction: nothing is prepared there.
        """
        self._conn = conn
        self._is_prepared = connection.backend_pid(conn) == conn.info.backend_pid
        if self._is_prepared:
            text = _query(_CHANGED.format(tables="$1", since="$2"))
            conn.execute(f"prepare migrator_requirements (oid[], xid) as {text}".encode())

    def read(self) -> Requirements:
        """Read all tables, domains and enums."""
        return self._ask(_query("true"))

    def read_again(self, tables: Collection[int], since: int) -> Requirements:
        """Read some tables, those that are new, and all domains and enums.

        Args:
            tables: By OID.
            since: `next` of an earlier reading.
        """
        oids = "'{" + ",".join(map(str, sorted(tables))) + "}'"
        if self._is_prepared:
            return self._ask(f"execute migrator_requirements ({oids}, '{since}')")
        return self._ask(_query(_CHANGED.format(tables=oids, since=f"'{since}'")))

    def _ask(self, text: str) -> Requirements:
        cursor = self._conn.execute(f"{_PLAN_ONCE}; {text}".encode())
        cursor.nextset()
        row = cursor.fetchone()
        assert row is not None, "the query has no condition"
        answer = json.loads(row[0])
        return Requirements(
            tables={each["oid"]: _table(each) for each in answer["tables"] or ()},
            domains={each["oid"]: _domain(each) for each in answer["domains"] or ()},
            enums={each["oid"]: tuple(each["labels"]) for each in answer["enums"] or ()},
            next=int(answer["next"]),
        )


_CHANGED = "c.oid = any ({tables}::oid[]) or age(c.xmin) <= age({since}::xid)"
_PLAN_ONCE = "set local plan_cache_mode = force_generic_plan"


@cache
def _query(is_wanted: str) -> str:
    text = resources.files(__package__).joinpath("constraints.sql").read_text(encoding="utf-8")
    return text.replace("{is_wanted}", is_wanted)


def _table(row: dict[str, Any]) -> Table:
    columns = [_made(Column, each) for each in row["columns"] or ()]
    constraints = [_made(Constraint, each) for each in row["constraints"] or ()]
    indexes = [_made(Index, each) for each in row["indexes"] or ()]
    parts = {
        "columns": {each.number: each for each in columns},
        "constraints": {each.oid: each for each in constraints},
        "indexes": {each.oid: each for each in indexes},
    }
    return _made(Table, row | parts)


def _domain(row: dict[str, Any]) -> Domain:
    checks = [_made(DomainCheck, each) for each in row["constraints"] or ()]
    return _made(Domain, row | {"constraints": {each.oid: each for each in checks}})


Made = TypeVar("Made")


def _made(kind: type[Made], row: dict[str, Any]) -> Made:
    """Make a noun of a row, which has its fields as keys; lists become tuples."""
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    )
