"""Find what a migration newly requires of the rows of tables that exist on the target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from ...tracing.trace import Change, Touch
from . import violations
from .constraints import Column, Constraint, Domain, Index, Table
from .conversions import keeps
from .violations import Question, Stretch

_LITERAL = re.compile(r"""'(?:[^']|'')*'(?:::[\w. "]+(?:\[\])?)?""")
_CALL = re.compile(r"(\w+)\(")
_SAFE = frozenset(["and", "any", "coalesce", "in", "lower", "not", "nullif", "or", "upper"])


def find(stretch: Stretch) -> Iterator[Question]:
    """Yield a question for each, by table."""
    is_same = stretch.before.domains == stretch.after.domains
    for oid, table in stretch.after.tables.items():
        was = stretch.before.tables.get(oid)
        if was is None or (was is table and is_same) or stretch.past[0].is_new(oid):
            continue
        yield from _domains(stretch, was, table)
        if was is not table:
            yield from _conversions(stretch, was, table)
            yield from _computed(stretch, was, table)
            yield from _not_nulls(stretch, was, table)
            yield from _constraints(stretch, was, table)
            yield from _indexes(stretch, was, table)
            yield from _bounds(stretch, was, table)


def _conversions(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    for number, column in table.columns.items():
        before = was.columns.get(number)
        if before is None or keeps(stretch.past[-1], table.oid, before, column):
            continue
        if any(_has_type(stretch, parent, column) for parent in table.parents):
            continue
        does = partial(_retypes, column=column.name)
        yield violations.conversion(stretch.at(stretch.index(table, does)), table, column)


def _has_type(stretch: Stretch, parent: int, column: Column) -> bool:
    """Whether a parent, whose rows include those of the table, changes with it."""
    old, new = stretch.before.tables.get(parent), stretch.after.tables.get(parent)
    if old is None or new is None or stretch.past[0].is_new(parent):
        return False
    return {(c.name, c.type) for c in old.columns.values()} != {
        (c.name, c.type) for c in new.columns.values()
    } and (column.name, column.type) in {(c.name, c.type) for c in new.columns.values()}


def _retypes(touch: Touch, column: str) -> bool:
    return column in touch.types_changed


def _computed(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    for number, column in table.columns.items():
        before = was.columns.get(number)
        is_new = before is None or before.expression != column.expression
        if column.is_stored and is_new and not _is_safe(column.expression or ""):
            at = stretch.index(table, partial(_adds_column, column=column.name))
            yield violations.computed(stretch.at(at), table, column)


def _adds_column(touch: Touch, column: str) -> bool:
    return column in touch.columns_added


def _is_safe(expression: str) -> bool:
    """Whether an expression is an error for no value: it only compares, or calls what is known.

    >>> _is_safe("((status = 'open'::text) AND (lower(a) <> b))"), _is_safe("((a)::integer > 0)")
    (True, False)
    """
    plain = _LITERAL.sub("''", expression)
    return not any(part in plain for part in ("::", "/", "*", "+", "-", "%")) and all(
        name.lower() in _SAFE for name in _CALL.findall(plain)
    )


def _not_nulls(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    for number, column in table.columns.items():
        before = was.columns.get(number)
        is_new = column.not_null and not (before and before.not_null)
        # An identity fills its column.
        is_filled = column.is_identity and before is None
        if is_new and not is_filled and not _is_set_on_parent(stretch, table, column.name):
            does = partial(_sets_not_null, column=column.name)
            yield violations.not_null(stretch.at(stretch.index(table, does)), table, column)


def _is_set_on_parent(stretch: Stretch, table: Table, column: str) -> bool:
    """Whether a parent newly has the same NOT NULL, whose rows include those of the table."""
    for oid in table.parents:
        parent, was = stretch.after.tables.get(oid), stretch.before.tables.get(oid)
        if parent and was and not stretch.past[0].is_new(oid):
            old = {each.name for each in was.columns.values() if each.not_null}
            new = {each.name for each in parent.columns.values() if each.not_null}
            if column in new - old:
                return True
    return False


def _sets_not_null(touch: Touch, column: str) -> bool:
    return column in (*touch.not_null_set, *touch.columns_added) or any(
        each.kind in "pn" and column in each.columns for each in touch.constraints
    )


def _constraints(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    for oid, constraint in table.constraints.items():
        before = was.constraints.get(oid)
        is_new = constraint.is_valid and not (before and before.is_valid)
        if not is_new or constraint.kind not in "cf" or _is_of_parent(stretch, table, constraint):
            continue
        if _is_made_again(stretch, was, table, constraint):
            continue
        at = stretch.at(stretch.index(table, partial(_checks, constraint=constraint)))
        if constraint.kind == "c":
            yield violations.check(at, table, constraint)
        else:
            yield violations.foreign_key(at, table, constraint)


def _checks(touch: Touch, constraint: Constraint) -> bool:
    changes = (Change.ADDED_VALID, Change.VALIDATED)
    return any(c.name == constraint.name and c.change in changes for c in touch.constraints)


def _is_of_parent(stretch: Stretch, table: Table, constraint: Constraint) -> bool:
    """Whether a constraint comes from one that is new as well and is asked about."""
    if constraint.is_inherited and not constraint.is_local:
        for oid in table.parents:
            parent, was = stretch.after.tables.get(oid), stretch.before.tables.get(oid)
            old = {each.name for each in was.constraints.values() if each.is_valid} if was else ()
            new = {each.name for each in parent.constraints.values()} if parent else ()
            if constraint.name in new and constraint.name not in old:
                return True
    return bool(constraint.parent) and _is_newly_valid(stretch, constraint.parent)


def _is_newly_valid(stretch: Stretch, oid: int) -> bool:
    old = [t.constraints[oid] for t in stretch.before.tables.values() if oid in t.constraints]
    new = [t.constraints[oid] for t in stretch.after.tables.values() if oid in t.constraints]
    return any(each.is_valid for each in new) and not any(each.is_valid for each in old)


def _indexes(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    for oid, index in table.indexes.items():
        before = was.indexes.get(oid)
        if not index.is_valid or (before and before.is_valid):
            continue
        if index.parent and _is_new_index(stretch, index.parent):
            continue
        if _is_made_again(stretch, was, table, index):
            continue
        constraints = (c for c in table.constraints.values() if c.index == oid and c.kind in "pux")
        constraint = next(constraints, None)
        name = constraint.name if constraint else index.name
        at = stretch.at(stretch.index(table, partial(_adds, name=name), oid))
        if not index.is_unique and not constraint:
            if not all(map(_is_safe, (*index.keys, index.predicate or ""))):
                yield violations.indexed(at, table, index)
        elif constraint and constraint.operators:
            yield violations.exclusion(at, table, index, constraint)
        else:
            yield violations.unique(at, table, index, constraint)


def _is_new_index(stretch: Stretch, oid: int) -> bool:
    before = [oid in t.indexes and t.indexes[oid].is_valid for t in stretch.before.tables.values()]
    return not any(before)


def _adds(touch: Touch, name: str) -> bool:
    return any(c.name == name and c.change is Change.ADDED_VALID for c in touch.constraints)


def _is_made_again(stretch: Stretch, was: Table, table: Table, new: Constraint | Index) -> bool:
    """Whether something was only created again because one of its columns became wider."""
    old = [*was.constraints.values(), *was.indexes.values()]
    if not any(type(o) is type(new) and o.name == new.name and o.is_valid for o in old):
        return False
    pairs = [
        (was.columns[number], table.columns[number])
        for number in new.columns
        if number in was.columns and number in table.columns
    ]
    changed = [(a, b) for a, b in pairs if (a.type_oid, a.modifier) != (b.type_oid, b.modifier)]
    return bool(changed) and all(keeps(stretch.past[-1], table.oid, a, b) for a, b in changed)


def _bounds(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    if table.bound is None or table.bound == was.bound:
        return
    for oid in table.parents:
        parent, before = stretch.after.tables.get(oid), stretch.before.tables.get(oid)
        # The bound of a partition of a partition repeats the outer one.
        if parent and before and parent.bound != before.bound:
            return
    at = stretch.at(stretch.index(table, lambda _touch: False))
    yield violations.bound(at, table)


def _domains(stretch: Stretch, was: Table, table: Table) -> Iterator[Question]:
    for number, column in table.columns.items():
        before = was.columns.get(number)
        if column.kind != "d" or before is None or before.type_oid != column.type_oid:
            continue
        for domain in stretch.after.family(column.type_oid):
            at = stretch.at(_index_of_domain(stretch))
            for name, is_broken in _new_conditions(stretch, domain):
                yield violations.domain(at, table, column, domain, name, is_broken)


def _new_conditions(stretch: Stretch, domain: Domain) -> Iterator[tuple[str, str]]:
    """Yield the name and the condition for breaking it of what a domain newly requires."""
    old = stretch.before.domains.get(domain.oid)
    if domain.not_null and not (old and old.not_null):
        yield "NOT NULL", "value is not distinct from null"
    for oid, check in domain.constraints.items():
        before = old.constraints.get(oid) if old else None
        if check.is_valid and not (before and before.is_valid):
            yield f"check {check.name}", f"not ({check.expression})"


def _index_of_domain(stretch: Stretch) -> int:
    words = [statement.words[:2] for statement, _ in stretch.traced]
    found = [index for index, each in enumerate(words) if each == ("alter", "domain")]
    return found[-1] if found else len(words)
