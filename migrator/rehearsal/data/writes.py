"""Find the tables that the statements of a script may write to.

The scratch database has no rows, so locks and words decide, not counts.  In doubt
a statement counts as one that writes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ...hazards.statement import StatementTrace
from ...sql import names, splitter
from ...sql.script import Script, Statement
from ...sql.writes import set_columns
from ...tracing.trace import LockMode, Trace
from .constraints import Constraint, Table

_DML = frozenset(["insert", "update", "delete", "merge", "copy"])
_CODE = frozenset(["do", "call", "select", "with", "execute", "values", "table", "explain"])
# A block without these words only changes the schema.
_WRITING = re.compile(
    r"\b(insert|update|delete|merge|copy|truncate|execute|perform|call)\b", re.IGNORECASE
)
_CHANGING = re.compile(r"\b(update|delete|merge|conflict)\b", re.IGNORECASE)
_HEAD = 4000  # characters
_ACTS = frozenset("cnd")  # CASCADE, SET NULL, SET DEFAULT


@dataclass(frozen=True, slots=True)
class Writes:
    """The tables that a statement may write to, by OID.

    Attributes:
        changed: Rows may be updated, in these columns by name, or deleted; None for any.
        added: Rows are only inserted.
        removed: Rows are only deleted.
        anything: Whether it may write to any table.
    """

    changed: Mapping[int, frozenset[str] | None]
    added: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()
    anything: bool = False


def of_script(
    script: Script, traced: Sequence[StatementTrace], tables: Mapping[int, Table]
) -> Iterator[Writes]:
    """Yield what each statement of a script may write to, in their order.

    Args:
        tables: Those before and after the script, by OID.
    """
    units = {s.offset: index for index, unit in enumerate(script.units) for s in unit.statements}
    known = _Known(tables)
    held: set[int] = set()
    current = -1
    for statement, trace in traced:
        if units[statement.offset] != current:
            current, held = units[statement.offset], set()
        written = _with_consequences(_of_statement(statement, trace, held, known), known)
        yield _with_family(written, known)
        held |= _locked(trace)


class _Known:
    """What is known of tables, by OID; what not every script needs is found when it is needed."""

    def __init__(self, tables: Mapping[int, Table]) -> None:
        self.tables = tables

    @cached_property
    def keys(self) -> Mapping[int, Sequence[tuple[int, Constraint]]]:
        """The tables with foreign keys, and these, by the table that they reference."""
        found: defaultdict[int, list[tuple[int, Constraint]]] = defaultdict(list)
        for oid, table in self.tables.items():
            for key in table.constraints.values():
                found[key.references].append((oid, key))
        return found

    @cached_property
    def children(self) -> Mapping[int, Sequence[int]]:
        """The partitions and children by their parents."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for oid, table in self.tables.items():
            for parent in table.parents:
                found[parent].append(oid)
        return found

    def named(self, oids: Iterable[int], words: Collection[str]) -> frozenset[int]:
        """Return those of some tables whose name is one of some words, without its schema."""
        tables = [self.tables[oid] for oid in oids if oid in self.tables]
        return frozenset(each.oid for each in tables if names.read([each.alias])[0][0] in words)


def _of_statement(
    statement: Statement, trace: Trace, held: Collection[int], known: _Known
) -> Writes:
    """Return what a statement itself may write to.

    Args:
        held: The tables that its transaction had locked as for a write, or more.
    """
    word, text = next(iter(statement.words), ""), statement.text
    found = {t.relation.oid for t in trace.touches if t.inserted or t.updated or t.deleted}
    if word in _DML:
        return _of_dml(statement, trace, held, known)
    if word in _CODE and (word != "do" or _WRITING.search(text)):
        found |= _locked(trace) | set(held)
        return Writes(dict.fromkeys(found), anything=trace.sampled)
    if word == "truncate":
        emptied = {t.relation.oid for t in trace.touches if t.rewritten}
        return Writes(dict.fromkeys(found - emptied), removed=frozenset(emptied))
    if word == "create" and _has_query(text):
        found |= {relation.oid for relation in trace.created}
    return Writes(dict.fromkeys(found))


def _of_dml(statement: Statement, trace: Trace, held: Collection[int], known: _Known) -> Writes:
    word, text = statement.words[0], statement.text
    # The rest of an INSERT can be long, and names only what it reads.
    is_insert = word in ("insert", "copy") and not _CHANGING.search(text)
    tokens = list(splitter.tokens(text[:_HEAD] if is_insert else text))
    target = _target(word, tokens)
    words = {target} if is_insert else {name[-1] for name in names.names(tokens)}
    counted = {t.relation.oid for t in trace.touches if t.inserted or t.updated or t.deleted}
    # A lock that was held before, or too brief to be sampled, does not show.
    found = counted | _locked(trace) | known.named(known.tables if trace.sampled else held, words)
    main = known.named(found, {target})
    if is_insert:
        return Writes(dict.fromkeys(found - main), main)
    if word == "delete":
        main = frozenset(oid for oid in main if not _keeps_deleted(oid, known))
        children = frozenset(oid for oid in found if _ancestors(oid, known) & main)
        removed = main | frozenset(oid for oid in children if not _keeps_deleted(oid, known))
        return Writes(dict.fromkeys(found - removed), removed=removed)
    columns = set_columns(tokens) if word == "update" else None
    return Writes({oid: columns if oid in main else None for oid in found})


def _keeps_deleted(oid: int, known: _Known) -> bool:
    return oid not in known.tables or known.tables[oid].keeps_deleted


def _with_consequences(written: Writes, known: _Known) -> Writes:
    """Add what triggers and foreign keys may write: without rows, the scratch database does not
    show it.
    """
    tables, changed, removed = known.tables, dict(written.changed), set(written.removed)
    waiting = [*changed, *removed]
    while waiting:
        oid = waiting.pop()
        if changed.get(oid) is not None and oid in tables and tables[oid].fills_on_update:
            changed[oid] = None
        for child, is_deletion in _cascades(oid, changed, known):
            if is_deletion and not _keeps_deleted(child, known):
                waiting += [child] * (child not in removed and child not in changed)
                removed.add(child)
            elif changed.get(child, frozenset()) is not None:
                changed[child] = None
                waiting.append(child)
    anything = written.anything or any(
        oid in tables and tables[oid].writes_elsewhere
        for oid in (*changed, *written.added, *removed)
    )
    return Writes(changed, written.added, frozenset(removed), anything)


def _cascades(
    oid: int, changed: Mapping[int, frozenset[str] | None], known: _Known
) -> Iterator[tuple[int, bool]]:
    """Yield the tables whose rows change with the rows of another one.

    Args:
        changed: As in `Writes`; without the table if its rows are only deleted.

    Returns:
        The OID of each, and whether its rows are only deleted.
    """
    table = known.tables.get(oid)
    if table is None:
        return
    is_deletion, columns = oid not in changed, changed.get(oid)
    for child, key in known.keys.get(oid, ()):
        referenced = {table.columns[n].name for n in key.referenced if n in table.columns}
        is_moved = columns is None or bool(columns & referenced)
        if not is_deletion and is_moved and key.on_update in _ACTS:
            yield child, False
        elif columns is None and key.on_delete in _ACTS:
            yield child, key.on_delete == "c"


def _with_family(written: Writes, known: _Known) -> Writes:
    """Add what is written in the tables above and below: they have rows in common."""
    changed: dict[int, frozenset[str] | None] = {}
    for oid, columns in written.changed.items():
        for each in _family(oid, known):
            before = changed.get(each, frozenset())
            changed[each] = None if columns is None or before is None else before | columns
    added, removed = (
        frozenset(each for oid in oids for each in _family(oid, known))
        for oids in (written.added, written.removed)
    )
    return replace(written, changed=changed, added=added, removed=removed)


def _family(oid: int, known: _Known) -> set[int]:
    """Return a table, and those that it is a partition or child of, and the other way round."""
    return {oid} | _ancestors(oid, known) | _descendants(oid, known)


def _descendants(oid: int, known: _Known) -> set[int]:
    children = set(known.children.get(oid, ()))
    return children.union(*(_descendants(each, known) for each in children))


def _ancestors(oid: int, known: _Known) -> set[int]:
    table = known.tables.get(oid)
    parents = set(table.parents) if table else set()
    return parents.union(*(_ancestors(each, known) for each in parents))


def _locked(trace: Trace) -> set[int]:
    return {
        touch.relation.oid
        for touch in trace.touches
        if touch.mode and touch.mode >= LockMode.ROW_EXCLUSIVE and touch.relation.kind in "rp"
    }


def _has_query(text: str) -> bool:
    """Whether a CREATE fills what it creates: `CREATE TABLE … AS`."""
    depth = 0
    for each in splitter.tokens(text):
        depth += (each == "(") - (each == ")")
        if not depth and each.lower() == "as":
            return True
    return False


def _target(word: str, tokens: Sequence[str]) -> str:
    """Return the last part of the name of the table that a statement writes to."""
    skipped = {word, "into", "from", "only"}
    start = next((i for i, each in enumerate(tokens) if each.lower() not in skipped), 0)
    name, _ = names.read(tokens, start)
    return name[-1] if name else ""
