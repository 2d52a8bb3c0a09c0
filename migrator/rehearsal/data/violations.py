"""Ask for the rows that break one requirement, by a query for the target."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from ...hazards.statement import StatementTrace
from ...sql.script import Statement
from ...tracing.trace import Touch
from . import conversions, rows
from .constraints import Column, Constraint, Domain, Index, Requirements, Table
from .rows import EXAMPLE, Past, UnknownRowsError

MOST = 1000
"""How many rows that break something are counted; more are only said to be more."""

KINDS = {"p": "primary key", "u": "unique constraint", "x": "exclusion constraint"}
_HASH = re.compile(r"satisfies_hash_partition\('(\d+)'::oid")
_VARIABLE = ("character varying", "character")
_INSERTED = "the migration inserts more"
_DELETED = "the migration deletes rows first"
_BITS = {"bit": "<>", "bit varying": ">"}


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a row of the target breaks something.

    Attributes:
        statement: The one that checks it; None if that is not known.
        relation: The table, as it is called after the migration.
        what: Such as `check positive of public.orders`.
        query: Returns one row: how many break it, `MOST` + 1 for more; up to three of them as
            text.  None if it cannot be asked.
        why_not: Why not; None if it can be asked.
        noun: What is counted.
        more: What the migration does before that may break it; None for nothing.
        fewer: What the migration does before that may leave no row that breaks it; None for
            nothing.
        is_users: Whether the query has an expression of the script in it, so that it runs under
            the settings of the user.
    """

    statement: Statement | None
    relation: str
    what: str
    query: str | None
    why_not: str | None = None
    noun: str = "row"
    more: str | None = None
    fewer: str | None = None
    is_users: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A migration, as far as its questions need it.

    Attributes:
        traced: Its statements, in order.
        before: The requirements before it; `after` likewise.
        past: What pending statements have done by the end of each of its statements, and once
            more by its own end.
    """

    traced: Sequence[StatementTrace]
    before: Requirements
    after: Requirements
    past: Sequence[Past]

    def index(self, table: Table, does: Callable[[Touch], bool], created: int = 0) -> int:
        """Return which statement did something to a table, from 0.

        Args:
            does: Whether a touch of the table shows it.
            created: The OID of a relation that it created; 0 for none.

        Returns:
            The last statement that did it, else the last that took a strong lock on the table,
            else the number of statements.
        """
        found, likely = len(self.traced), len(self.traced)
        for index, (_, trace) in enumerate(self.traced):
            if created in {each.oid for each in trace.created}:
                found = index
            for touch in trace.touches:
                if touch.relation.oid == table.oid:
                    found = index if does(touch) else found
                    likely = index if touch.is_stronger or touch.constraints else likely
        return found if found < len(self.traced) else likely

    def at(self, index: int) -> Moment:
        """Return the end of a statement."""
        statement = self.traced[index][0] if index < len(self.traced) else None
        return Moment(statement, self.past[index], self.after)


@dataclass(frozen=True, slots=True)
class Moment:
    """The end of a statement, where a question is asked.

    Attributes:
        statement: None for the end of a script without statements.
        after: The requirements after the migration.
    """

    statement: Statement | None
    past: Past
    after: Requirements

    def question(self, table: Table, what: str, query: Callable[[], str]) -> Question:
        """Return a question about a table.

        Args:
            query: Writes the query that counts what breaks it.
        """
        question = Question(
            self.statement,
            table.name,
            what,
            None,
            more=_INSERTED if table.oid in self.past.added else None,
            fewer=_DELETED if table.oid in self.past.removed else None,
        )
        try:
            return replace(question, query=query())
        except UnknownRowsError as why:
            return replace(question, why_not=str(why))

    def condition(
        self,
        table: Table,
        what: str,
        columns: Collection[int],
        is_broken: str,
        *,
        only: bool = False,
    ) -> Question:
        """Return a question about single rows.

        Args:
            columns: The numbers of the columns in the condition.
            only: As in `rows.source`.
        """

        def query() -> str:
            source = rows.source(self.past, table, columns, only=only)
            return _counted(f"select {EXAMPLE} as example from {source} where {is_broken}")

        return self.question(table, what, query)


def not_null(moment: Moment, table: Table, column: Column) -> Question:
    """Ask for nulls; a row value whose fields are null is none."""
    what = f"NOT NULL of {table.name}.{column.name}"

    def query() -> str:
        # Whatever the type, which may be one that the migration makes.
        rows.check_known(moment.past, table, [column.number])
        rows.value(moment.past, table, column)
        source = rows.source(moment.past, table, (), only=False)
        is_broken = "false" if column.missing else "true"
        return _counted(f"select {EXAMPLE} as example from {source} where {is_broken}")

    target = moment.past.target.tables.get(table.oid)
    if target and column.number not in target.columns and not column.is_generated:
        return moment.question(table, what, query)
    return moment.condition(
        table, what, [column.number], f"{column.name} is not distinct from null"
    )


def check(moment: Moment, table: Table, constraint: Constraint) -> Question:
    """Ask for rows for which a check is false."""
    what, is_broken = f"check {constraint.name} of {table.name}", f"not ({constraint.expression})"
    only = constraint.only_here
    return moment.condition(table, what, constraint.columns, is_broken, only=only)


def bound(moment: Moment, table: Table) -> Question:
    """Ask for rows of a partition that do not belong there."""
    what = f"partition bound of {table.name}"
    columns = [number for number, each in table.columns.items() if each.name in (table.bound or "")]

    def query() -> str:
        is_broken = f"not ({_HASH.sub(parent, table.bound or 'true')})"
        source = rows.source(moment.past, table, columns, only=False)
        return _counted(f"select {EXAMPLE} as example from {source} where {is_broken}")

    def parent(found: re.Match[str]) -> str:
        target = moment.past.target.tables.get(int(found[1]))
        if target is None:
            raise UnknownRowsError("the migration makes the partitioned table")
        return f"satisfies_hash_partition({rows.literal(target.name)}::regclass"

    return moment.question(table, what, query)


def foreign_key(moment: Moment, table: Table, key: Constraint) -> Question:
    """Ask for rows without a row that they reference."""
    what = f"foreign key {key.name} of {table.name}"
    columns = [table.columns[number].name for number in key.columns]

    def query() -> str:
        other = moment.after.tables.get(key.references)
        if other is None or "PERIOD " in key.definition:
            raise UnknownRowsError("it uses PERIOD" if other else "its referenced table is gone")
        referenced = [other.columns[number].name for number in key.referenced]
        mine = rows.source(moment.past, table, key.columns, only=True)
        theirs = rows.source(moment.past, other, key.referenced, only=True)
        pairs = zip(referenced, key.operators, columns, strict=True)
        matches = " and ".join(f"pk.{theirs} {op} fk.{ours}" for theirs, op, ours in pairs)
        is_orphan = f"not exists (select from (select * from {theirs}) as pk where {matches})"
        return _counted(
            f"select {EXAMPLE} as example from (select * from {mine}) as fk"
            f" where {_references(columns, key.match, is_orphan)}"
        )

    question = moment.question(table, what, query)
    # Rows of the referenced table count the other way round.
    if key.references in moment.past.removed and not question.more:
        question = replace(question, more="the migration deletes rows that it may reference")
    if key.references in moment.past.added and not question.fewer:
        question = replace(question, fewer="the migration inserts rows that it may reference")
    return question


def _references(columns: Sequence[str], match: str, is_orphan: str) -> str:
    any_null = " or ".join(f"fk.{each} is null" for each in columns)
    all_null = " and ".join(f"fk.{each} is null" for each in columns)
    if match == "f":
        return f"not ({all_null}) and (({any_null}) or {is_orphan})"
    return f"not ({any_null}) and {is_orphan}"


def computed(moment: Moment, table: Table, column: Column) -> Question:
    """Ask for rows for which the expression of a new generated column is an error."""
    what = f"generated column {table.name}.{column.name}"
    is_broken = f"pg_column_size({column.name}) < 0"
    return moment.condition(table, what, [column.number], is_broken)


def indexed(moment: Moment, table: Table, index: Index) -> Question:
    """Ask for rows for which an expression or the predicate of an index is an error."""
    keys = " or ".join(f"pg_column_size({key}) < 0" for key in index.keys)
    # A CASE keeps the order: the predicate decides which rows have keys.
    is_broken = f"case when {index.predicate or 'true'} then {keys} end"
    what = f"index {index.name} of {table.name}"
    return moment.condition(table, what, index.columns, is_broken, only=True)


def unique(moment: Moment, table: Table, index: Index, constraint: Constraint | None) -> Question:
    """Ask for keys that several rows have."""
    kind = KINDS[constraint.kind] if constraint else "unique index"
    what = f"{kind} {index.name} of {table.name}"

    def query() -> str:
        if not index.is_usual:
            raise UnknownRowsError("its operator class has its own equality")
        source = rows.source(moment.past, table, index.columns, only=True)
        keys = [
            f"({key}){collation}"
            for key, collation in zip(index.keys, index.collations, strict=True)
        ]
        conditions = [f"({index.predicate})"] if index.predicate else []
        if not index.nulls_equal:
            conditions += [f"{key} is not null" for key in keys]
        where = f" where {' and '.join(conditions)}" if conditions else ""
        names = [f"k{number}" for number in range(1, len(keys) + 1)]
        items = ", ".join(f"{key} as {name}" for key, name in zip(keys, names, strict=True))
        groups = f"select {items}, count(*) as n from {source}{where} group by {', '.join(names)}"
        example = rows.named(zip(index.keys, names, strict=True))
        return _counted(
            f"select concat({example}, ' (', n, ' rows)') as example"
            f" from ({groups} having count(*) > 1) as d"
        )

    return replace(moment.question(table, what, query), noun="duplicated key")


def exclusion(moment: Moment, table: Table, index: Index, constraint: Constraint) -> Question:
    """Ask for pairs of rows that exclude each other."""
    what = f"{KINDS[constraint.kind]} {constraint.name} of {table.name}"

    def query() -> str:
        source = rows.source(moment.past, table, index.columns, only=True)
        items = ", ".join(f"({key}) as k{number}" for number, key in enumerate(index.keys))
        where = f" where {index.predicate}" if index.predicate else ""
        each = f"(select {items}, {EXAMPLE}, ctid, tableoid from {source}{where})"
        operators = enumerate(constraint.operators)
        conflicts = " and ".join(f"a.k{number} {op} b.k{number}" for number, op in operators)
        return _counted(
            f"select concat(a.{EXAMPLE}, ' and ', b.{EXAMPLE}) as example"
            f" from {each} as a join {each} as b"
            f" on a.tableoid = b.tableoid and a.ctid < b.ctid and {conflicts}"
        )

    return replace(moment.question(table, what, query), noun="pair")


def domain(
    moment: Moment, table: Table, column: Column, domain: Domain, name: str, is_broken: str
) -> Question:
    """Ask for values of a column that a domain does not allow.

    Args:
        name: What of the domain, such as `check positive`.
        is_broken: In terms of `value`.
    """
    what = f"{name} of domain {domain.name} in {table.name}.{column.name}"

    def query() -> str:
        source = rows.source(moment.past, table, [column.number], only=False)
        values = f"(select {column.name} as value, {EXAMPLE} from {source}) as v"
        return _counted(f"select {EXAMPLE} as example from {values} where {is_broken}")

    return moment.question(table, what, query)


def conversion(moment: Moment, table: Table, column: Column) -> Question:
    """Ask for values that cannot be converted to a new type."""
    what = f"type {column.type} of {table.name}.{column.name}"
    key = (table.oid, column.number)

    def query() -> str:
        target = moment.past.target.tables[table.oid]
        # A USING may name any column.
        columns = table.columns if key in moment.past.conversions else [column.number]
        rows.check_known(moment.past, table, columns)
        given = rows.converted(moment.past, table, column)
        is_broken = _unconvertible(moment, column, given)
        return _counted(
            f"select {rows.example(target)} as example from {target.name} where {is_broken}"
        )

    is_users = moment.past.conversions.get(key) is not None
    return replace(moment.question(table, what, query), is_users=is_users)


def _unconvertible(moment: Moment, column: Column, given: str) -> str:
    """Return the condition on an expression that cannot become the value of a column.

    Some only raise an error.
    """
    if not moment.past.target.has_type(column):
        labels = moment.after.enums.get(column.type_oid)
        return (
            _outside_domain(moment, column, given) if labels is None else _unlisted(given, labels)
        )
    # An explicit cast would cut what an assignment refuses.
    if column.base_type in _VARIABLE and column.modifier >= 0:
        text = f"pg_catalog.rtrim(({given})::pg_catalog.text, ' ')"
        return f"pg_catalog.char_length({text}) operator(pg_catalog.>) {column.modifier - 4}"
    if column.base_type in _BITS and column.modifier >= 0:
        operator = f"operator(pg_catalog.{_BITS[column.base_type]})"
        return f"pg_catalog.length(({given})::pg_catalog.varbit) {operator} {column.modifier}"
    return f"pg_catalog.pg_column_size(({given})::{column.type}) operator(pg_catalog.<) 0"


def _unlisted(given: str, labels: Iterable[str]) -> str:
    """Return the condition for an expression that is no label of an enum that is new."""
    listed = ", ".join(map(rows.literal, labels))
    text = f"({conversions.uncast(given)})::pg_catalog.text"
    return f"{text} operator(pg_catalog.<>) all (array[{listed}]::pg_catalog.text[])"


def _outside_domain(moment: Moment, column: Column, given: str) -> str:
    """Return the condition for an expression that a domain that is new does not allow."""
    family = list(moment.after.family(column.type_oid))
    if not family:
        raise UnknownRowsError(f"the migration makes the type {column.type}")
    base = family[-1].base_type
    checks = [each.expression for domain in family for each in domain.constraints.values()]
    broken = [f"not ({each})" for each in checks]
    broken += ["value is not distinct from null"] * any(each.not_null for each in family)
    broken += ["pg_catalog.pg_column_size(value) operator(pg_catalog.<) 0"]
    values = f"(select ({conversions.uncast(given)})::{base} as value) as v"
    return f"exists (select from {values} where {' or '.join(broken)})"


def _counted(query: str) -> str:
    """Return the query that counts rows, and shows up to three of them."""
    return (
        f"with broken as materialized ({query} limit {MOST + 1})"
        " select (select pg_catalog.count(*) from broken),"
        " array(select pg_catalog.left(example, 200) from broken limit 3)"
    )
