"""Carry sizes, and objects that no application uses yet, from one pending script to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..tracing.trace import Change, Touch, Trace
from . import destructive
from .catalogue import Facts, Finding, Made, Size


def sizes_after(sizes: Mapping[str, Size], traces: Iterable[Trace]) -> dict[str, Size]:
    """Return the sizes of the target's tables under the names that they have after a script.

    New tables are empty.
    """
    known = dict(sizes)
    for trace in traces:
        for touch in trace.touches:
            name = touch.relation.name
            if touch.renamed_from in known:
                known[name] = known.pop(touch.renamed_from)
            if touch.dropped:
                known.pop(name, None)
        known |= {created.name: Size(0, 0, is_empty=True) for created in trace.created}
    return known


def made_after(facts: Facts, traces: Iterable[Trace]) -> Made:
    """Return what pending scripts have made after a script.

    Args:
        facts: Those after the script.
        traces: Of its statements.
    """
    made = facts.made
    relations = set(made.relations)
    columns, constraints = set(made.columns), set(made.constraints)
    for trace in traces:
        for touch in trace.touches:
            name, before = touch.relation.name, touch.renamed_from
            if before in relations:
                relations = relations - {before} | {name}
            if touch.dropped:
                relations.discard(name)
            columns = _columns_after(columns, touch)
            constraints = _constraints_after(constraints, touch)
        relations |= {created.name for created in trace.created}
    names = set(made.objects)
    renamed = {(c.kind, c.name): (c.kind, c.renamed_from) for c in facts.object_changes}
    names |= {
        each
        for each in facts.objects_created
        if renamed.get(each, each) in {each, (each[0], None), *made.objects}
    }
    return Made(frozenset(relations), frozenset(columns), frozenset(constraints), frozenset(names))


def _columns_after(columns: set[tuple[str, str]], touch: Touch) -> set[tuple[str, str]]:
    table, before = touch.relation.name, touch.renamed_from or touch.relation.name
    new_names = dict(touch.columns_renamed)
    kept = {
        (table, new_names.get(column, column)) if of == before else (of, column)
        for of, column in columns
        if of != before or column not in touch.columns_dropped
    }
    return kept | {(table, column) for column in touch.columns_added}


def _constraints_after(constraints: set[tuple[str, str]], touch: Touch) -> set[tuple[str, str]]:
    table, before = touch.relation.name, touch.renamed_from or touch.relation.name
    kept = {(table, name) if of == before else (of, name) for of, name in constraints}
    for constraint in touch.constraints:
        if constraint.change is Change.DROPPED:
            kept.discard((table, constraint.name))
        elif constraint.change is not Change.VALIDATED:
            kept.add((table, constraint.name))
    return kept


def needs_index(finding: Finding, later: Iterable[Trace], last: Facts) -> bool:
    """Whether a foreign key exists after all pending scripts, and no index starts with it.

    Args:
        finding: The one that names its table and columns.
        later: The traces of the statements after it, also of later scripts.
        last: The facts after all pending scripts.
    """
    table, columns = finding.relation or "", finding.missing_index
    for trace in later:
        for touch in trace.touches:
            if touch.renamed_from == table:
                table = touch.relation.name
            if touch.relation.name == table:
                columns = tuple(dict(touch.columns_renamed).get(each, each) for each in columns)
    found = destructive.indexed(columns, last.indexes.get(table, ()))
    return (table, frozenset(columns)) in last.foreign_keys and len(found) < len(columns)
