"""Name what a migration's own INSERT, UPDATE or DELETE may break, which depends on the rows.

No query can answer that before the migration runs, so the report lists it as not checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ...hazards.statement import StatementTrace
from ...sql import names
from ...sql.script import Statement
from ...sql.writes import Write, writes
from .constraints import Constraint, Index, Table
from .violations import KINDS, Question

_REFUSES = frozenset("ar")  # NO ACTION, RESTRICT
_SHOWN = 3  # constraints


def find(
    traced: Sequence[StatementTrace], before: Mapping[int, Table], target: Collection[int]
) -> Iterator[Question]:
    """Yield a question that cannot be asked for each kind of statement and table of the target.

    Args:
        traced: The statements of a script.
        before: The tables before it, by OID.
        target: The OIDs of those that exist on the target.
    """
    seen = set()
    for statement, trace in traced:
        for write in writes(statement):
            for oid in sorted(touch.relation.oid for touch in trace.touches):
                table = before.get(oid) if oid in target else None
                if table is None or not write.is_of(table.name) or (write.verb, oid) in seen:
                    continue
                if found := list(_breakable(write, table, before)):
                    seen.add((write.verb, oid))
                    yield _question(statement, write, table, found)


def _question(statement: Statement, write: Write, table: Table, found: Sequence[str]) -> Question:
    shown = [*found[:_SHOWN], *(["others"] if len(found) > _SHOWN else [])]
    what = f"{write.verb.upper()} of rows of {table.name}"
    return Question(
        statement,
        table.name,
        what,
        None,
        why_not=f"whether it breaks {' or '.join(shown)} depends on the rows",
    )


def _breakable(write: Write, table: Table, before: Mapping[int, Table]) -> Iterator[str]:
    """Yield what a statement may break, as messages call it."""
    written = frozenset(
        number
        for number, column in table.columns.items()
        if not write.columns or column.name in (names.quoted([each]) for each in write.columns)
    )
    if write.verb != "delete":
        if not write.handles_conflict:
            yield from (
                _unique(i, table) for i in table.indexes.values() if _is_at_risk(i, written)
            )
        for key in table.constraints.values():
            if key.kind == "f" and written & set(key.columns):
                yield f"foreign key {key.name}"
    for other in before.values() if write.verb in ("update", "delete") else ():
        for key in other.constraints.values():
            if key.references == table.oid and _is_refused(write, key, written):
                yield f"foreign key {key.name} of {other.name}"


def _is_at_risk(index: Index, written: frozenset[int]) -> bool:
    return index.is_valid and index.is_unique and bool(written & set(index.columns))


def _unique(index: Index, table: Table) -> str:
    kinds = (
        KINDS[c.kind]
        for c in table.constraints.values()
        if c.index == index.oid and c.kind in KINDS
    )
    return f"{next(kinds, 'unique index')} {index.name}"


def _is_refused(write: Write, key: Constraint, written: frozenset[int]) -> bool:
    """Whether a foreign key may prevent the deletion of rows that it references."""
    if write.verb == "delete":
        return key.on_delete in _REFUSES
    return key.on_update in _REFUSES and bool(written & set(key.referenced))
