"""Tell which statements take away what somebody may rely on: drops, renames, missing indexes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from ..sql import classify
from ..tracing.trace import Change, ConstraintChange, ObjectChange, Relation, Touch
from .statement import CONSTRAINTS, OTHERS, TABLES, WITH_INDEX, Scene, Traced, Verdict, listed


def losses(scene: Scene) -> Iterator[Verdict]:
    """Yield what is dropped, emptied or renamed, and what is missing or cannot be undone."""
    for predicate in _PREDICATES:
        yield from predicate(scene)


def _drops(scene: Scene) -> Iterator[Verdict]:
    """Tell of tables, and of views and sequences that do not go with one."""
    dropped = [touch for touch in scene.existing(TABLES | frozenset(OTHERS)) if touch.dropped]
    has_host = _drops_a_host(scene)
    for touch in dropped:
        relation, kind = touch.relation, touch.relation.kind
        if kind in TABLES:
            message = f"drops {relation.name}{{size}}{_with_it(scene, relation.name)}"
            yield Verdict("table-dropped", relation, message)
        elif not has_host and not _is_created_again(relation, scene):
            message = f"drops {OTHERS[kind]} {relation.name}{_with_it(scene, relation.name)}"
            yield Verdict("object-dropped", relation, message)


def _drops_a_host(scene: Scene) -> bool:
    """Whether a table or column goes, and other things with it."""
    return any(
        touch.columns_dropped or (touch.dropped and touch.relation.kind in TABLES)
        for touch in scene.trace.touches
    )


def _with_it(scene: Scene, name: str) -> str:
    """Say what depends on a thing that is dropped, and was not dropped before."""
    earlier = {
        name.rpartition(".")[2]
        for _, trace in scene.before
        for touch in trace.touches
        for name in (
            *([touch.relation.name] if touch.dropped else []),
            *(c.name for c in touch.constraints if c.change is Change.DROPPED),
        )
    }
    known = [
        each
        for each in scene.facts.dependents.get(name, ())
        if not earlier & set(each.replace(".", " ").split())
    ]
    return f", and with it {listed(known)}" if known else ""


def _is_created_again(relation: Relation, scene: Scene) -> bool:
    if relation.kind == "S":
        return False  # it counts from the beginning again
    traces = [scene.trace, *(trace for _, trace in scene.later)]
    return any(relation.name == created.name for trace in traces for created in trace.created)


def _column_drops(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(TABLES):
        table = touch.relation
        added = {c for earlier in _earlier(scene, table) for c in earlier.columns_added}
        for column in touch.columns_dropped if not touch.dropped else ():
            if column not in added:
                name = f"{table.name}.{column}"
                message = f"drops column {name}{_with_it(scene, name)}"
                yield Verdict("column-dropped", table, message)


def _earlier(scene: Scene, table: Relation) -> list[Touch]:
    return [t for _, trace in scene.before for t in trace.touches if t.relation.oid == table.oid]


def _truncations(scene: Scene) -> Iterator[Verdict]:
    is_plain = scene.statement.words[:1] == ("truncate",)
    for touch in scene.existing("r"):
        if touch.rewritten and not touch.dropped and scene.may_be_emptied(touch):
            what = "empties" if is_plain else "empties, or rewrites,"
            message = f"{what} {touch.relation.name}{{size}}"
            yield Verdict("table-truncated", touch.relation, message)


def _constraint_drops(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(TABLES):
        table = touch.relation
        added = {c.name for t in _earlier(scene, table) for c in t.constraints}
        for constraint in touch.constraints if not touch.dropped else ():
            name, kind = constraint.name, constraint.kind
            is_gone = constraint.change is Change.DROPPED and kind in CONSTRAINTS
            goes_along = set(constraint.columns) & set(touch.columns_dropped) or (
                constraint.references in _dropped_tables(scene)
            )
            is_missed = is_gone and not goes_along and name not in added
            if is_missed and not _is_replaced(constraint, table, scene):
                message = f"drops {CONSTRAINTS[kind]} {name} of {table.name}"
                is_mild = kind not in WITH_INDEX
                yield Verdict("constraint-dropped", table, message, is_mild=is_mild)


def _dropped_tables(scene: Scene) -> set[str]:
    return {t.relation.name for t in scene.trace.touches if t.dropped}


def _is_replaced(dropped: ConstraintChange, table: Relation, scene: Scene) -> bool:
    """Whether the file adds one of the same name, or of the same kind for the same columns."""
    touches = [t for _, trace in scene.later for t in trace.touches] + [*scene.trace.touches]
    return any(
        (added.name == dropped.name and dropped.kind not in WITH_INDEX)
        or (added.columns == dropped.columns and _family(added) == _family(dropped))
        for touch in touches
        if touch.relation.oid == table.oid
        for added in touch.constraints
        if added.change in (Change.ADDED_VALID, Change.ADDED_NOT_VALID)
    )


def _family(constraint: ConstraintChange) -> str:
    return "unique" if constraint.kind in "pu" else constraint.kind


def _renames(scene: Scene) -> Iterator[Verdict]:
    tables = [t for t in scene.existing(TABLES) if t.renamed_from]
    for touch in scene.existing(TABLES | frozenset(OTHERS)):
        relation, before = touch.relation, touch.renamed_from
        is_table = relation.kind in TABLES
        goes_along = relation.kind == "S" and tables  # with its table, into another schema
        is_back = _last_name(relation, scene.later) == before
        is_missed = not (touch.dropped or goes_along or is_back or _is_taken(before or "", scene))
        if before and before == scene.first_name(relation) and is_missed:
            hazard = "table-renamed" if is_table else "object-renamed"
            what = "" if is_table else f"{OTHERS[relation.kind]} "
            message = f"renames {what}{before} to {relation.name}"
            yield Verdict(hazard, relation, message)
        added = {c for earlier in _earlier(scene, relation) for c in earlier.columns_added}
        for old, new in touch.columns_renamed:
            if old not in added:
                message = f"renames column {relation.name}.{old} to {new}"
                yield Verdict("column-renamed", relation, message)


def _is_taken(name: str, scene: Scene) -> bool:
    """Whether something else, such as a view, has a name after the file."""
    return any(
        name in (touch.relation.name, *(c.name for c in trace.created))
        for _, trace in scene.later
        for touch in trace.touches
    )


def _object_drops(scene: Scene) -> Iterator[Verdict]:
    tables = _dropped_tables(scene)
    has_extension = any(c.kind == "extension" and c.dropped for c in scene.trace.objects)
    for change in scene.trace.objects:
        is_there = (change.kind, change.name) in scene.facts.objects
        # What belongs to an extension goes with it.
        is_part_of_more = change.kind != "extension" and has_extension
        is_part = change.name.rpartition(" on ")[2] in tables  # a trigger, policy or rule
        if change.dropped and not (change.is_ours or is_there or is_part or is_part_of_more):
            message = f"drops {change.kind} {change.name}"
            is_mild = _has_namesake(change, scene)
            yield Verdict("object-dropped", None, message, is_mild=is_mild)


def _has_namesake(change: ObjectChange, scene: Scene) -> bool:
    """Whether a routine of the same name, with other parameters, is there after the script."""
    name, parenthesis, _ = change.name.partition("(")
    return bool(parenthesis) and any(
        kind == change.kind and other.startswith(f"{name}(") for kind, other in scene.facts.objects
    )


def _object_renames(scene: Scene) -> Iterator[Verdict]:
    """Tell of renamed objects; those of the whole script, as a rename takes no lock on many."""
    known = scene.facts.object_changes
    schemas = [f"{c.name}." for c in known if c.kind == "schema" and c.renamed_from]
    for change in [c for c in known if not c.dropped and _is_placed(c, scene)]:
        goes_along = change.name.startswith(tuple(schemas))
        if change.renamed_from and not goes_along:
            message = f"renames {change.kind} {change.renamed_from} to {change.name}"
            yield Verdict("object-renamed", None, message)
        for old, new in change.values_renamed:
            message = f"renames value {old} of {change.kind} {change.name} to {new}"
            yield Verdict("object-renamed", None, message)


def _is_placed(change: ObjectChange, scene: Scene) -> bool:
    """Whether a statement is the first that can have renamed something."""
    statements = [s for s, _ in (*scene.before, (scene.statement, scene.trace), *scene.later)]
    name = (change.renamed_from or change.name).partition("(")[0].rpartition(".")[2]
    named = [s for s in statements if s.words[:1] == ("alter",) and name in s.text]
    return scene.statement is (named or statements)[0]


def _foreign_keys(scene: Scene) -> Iterator[Verdict]:
    """Tell of foreign keys of old and new tables that no index serves after the script."""
    for touch in scene.trace.touches:
        table = touch.relation
        name = _last_name(table, scene.later)
        for constraint in touch.constraints if table.kind in TABLES else ():
            is_new = constraint.change in (Change.ADDED_VALID, Change.ADDED_NOT_VALID)
            if constraint.kind != "f" or not is_new or _is_dropped(constraint, table, scene):
                continue
            served = indexed(constraint.columns, scene.facts.indexes.get(name, ()))
            if served < len(constraint.columns):
                columns = f"{listed(constraint.columns)} of {table.name}{{size}}"
                partly = f", only on {listed(constraint.columns[:served])}" if served else ""
                message = f"foreign key {constraint.name} has no index on {columns}{partly}"
                yield Verdict(
                    "foreign-key-without-index",
                    table,
                    message,
                    is_mild=served > 0,
                    wants_index=constraint.columns,
                )


def _is_dropped(constraint: ConstraintChange, table: Relation, scene: Scene) -> bool:
    return any(
        touch.dropped
        or any(c.name == constraint.name and c.change is Change.DROPPED for c in touch.constraints)
        for _, trace in scene.later
        for touch in trace.touches
        if touch.relation.oid == table.oid
    )


def _last_name(table: Relation, later: Iterable[Traced]) -> str:
    names = [
        t.relation.name for _, trace in later for t in trace.touches if t.relation.oid == table.oid
    ]
    return names[-1] if names else table.name


def indexed(columns: Sequence[str], indexes: Iterable[Sequence[str]]) -> int:
    """Return how many of a key's columns, in any order, the best of some indexes begins with.

    >>> indexed(["a", "b"], [["b", "c"], ["b", "a", "c"]])
    2
    """

    def served(index: Sequence[str]) -> int:
        wanted = list(takewhile(set(columns).__contains__, index))
        return len(wanted)

    return max(map(served, indexes), default=0)


def _outside(scene: Scene) -> Iterator[Verdict]:
    if not scene.unit.transactional:
        is_concurrent = classify.is_concurrent(scene.statement)
        what = "reads the table twice and waits for older transactions; " * is_concurrent
        message = f"runs outside a transaction: {what}what it did stays if it fails"
        yield Verdict("outside-transaction", None, message, is_mild=True)


_PREDICATES = (
    _drops,
    _column_drops,
    _truncations,
    _constraint_drops,
    _renames,
    _object_drops,
    _object_renames,
    _foreign_keys,
    _outside,
)
