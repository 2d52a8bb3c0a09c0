"""Find the statements that remove what others may rely on, and foreign keys without an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from ..sql import classify, names, splitter
from ..tracing.trace import Change, ConstraintChange, ObjectChange, Relation
from .statement import (
    CONSTRAINTS,
    CONSTRAINTS_WITH_INDEX,
    OTHER_RELATIONS,
    TABLES,
    Candidate,
    StatementContext,
    StatementTrace,
    listed,
    touches_of,
)

_PUBLISHED = "publication relation"


def find(context: StatementContext) -> Iterator[Candidate]:
    """Yield what is dropped, emptied or renamed, lacks an index, or cannot be rolled back."""
    for predicate in _PREDICATES:
        yield from predicate(context)


def _drops(context: StatementContext) -> Iterator[Candidate]:
    """Yield tables, and views and sequences that are not dropped with a table or column."""
    dropped = [t for t in context.existing(TABLES | frozenset(OTHER_RELATIONS)) if t.dropped]
    has_host = _drops_a_host(context)
    for touch in dropped:
        relation, kind = touch.relation, touch.relation.kind
        dependents = _dropped_dependents(context, relation.name)
        if kind in TABLES:
            message = f"drops {relation.name}{{size}}{dependents}"
            yield Candidate("table-dropped", relation, message)
        elif has_host or (kind == "S" and _drops_its_default(context)):
            continue
        elif not _is_created_again(relation, context):
            message = f"drops {OTHER_RELATIONS[kind]} {relation.name}{dependents}"
            yield Candidate("object-dropped", relation, message)


def _drops_a_host(context: StatementContext) -> bool:
    """Whether a table or column is dropped, which can drop other relations with it."""
    return any(
        touch.columns_dropped or (touch.dropped and touch.relation.kind in TABLES)
        for touch in context.trace.touches
    )


def _drops_its_default(context: StatementContext) -> bool:
    """Whether a sequence may be dropped with an identity or a default, and not by itself."""
    is_by_itself = context.statement.words[:1] == ("drop",)
    return not is_by_itself and any(touch.defaults_dropped for touch in context.trace.touches)


def _dropped_dependents(context: StatementContext, name: str) -> str:
    """Name what is dropped with an object and was not dropped before; empty for nothing."""
    earlier = {
        name.rpartition(".")[2]
        for _, trace in context.before
        for touch in trace.touches
        for name in (
            *([touch.relation.name] if touch.dropped else []),
            *(c.name for c in touch.constraints if c.change is Change.DROPPED),
        )
    }
    known = [
        each
        for each in context.facts.dependents.get(name, ())
        if not earlier & set(each.replace(".", " ").split())
    ]
    return f", together with {listed(known)}" if known else ""


def _is_created_again(relation: Relation, context: StatementContext) -> bool:
    if relation.kind == "S":
        return False  # its value is lost
    traces = [context.trace, *(trace for _, trace in context.later)]
    return any(relation.name == created.name for trace in traces for created in trace.created)


def _column_drops(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES | {"c"}):
        table = touch.relation
        added = _columns_added_before(table, context)
        for column in touch.columns_dropped if not touch.dropped else ():
            if column not in added:
                name = f"{table.name}.{column}"
                what = "attribute" if table.kind == "c" else "column"
                message = f"drops {what} {name}{_dropped_dependents(context, name)}"
                made = (context.name_before(table), column) in context.facts.made.columns
                yield Candidate("column-dropped", table, message, is_made=made)


def _default_drops(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES):
        table = touch.relation
        again = {c for later in touches_of(table, context.later) for c in later.defaults_set}
        dropped = [c for c in touch.defaults_dropped if c not in again]
        needed = [c for c in dropped if c in touch.defaults_needed]
        for columns, is_note in ((needed, False), ([c for c in dropped if c not in needed], True)):
            if columns:
                what = f"the default of {listed(columns)} of {table.name}"
                effect = "becomes NULL" if is_note else "fails (NOT NULL)"
                message = f"drops {what}: an INSERT without it {effect}"
                yield Candidate("default-dropped", table, message, is_note=is_note)


def _columns_added_before(table: Relation, context: StatementContext) -> set[str]:
    return {c for earlier in touches_of(table, context.before) for c in earlier.columns_added}


def _truncations(context: StatementContext) -> Iterator[Candidate]:
    is_plain = context.statement.words[:1] == ("truncate",)
    for touch in context.existing("r"):
        if touch.rewritten and not touch.dropped and context.may_empty(touch):
            what = "empties" if is_plain else "empties or rewrites"
            message = f"{what} {touch.relation.name}{{size}}"
            lost = f"the rows of {touch.relation.name}"
            yield Candidate("table-truncated", touch.relation, message, lost=lost)


def _constraint_drops(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES):
        table = touch.relation
        added = {c.name for t in touches_of(table, context.before) for c in t.constraints}
        for constraint in touch.constraints if not touch.dropped else ():
            name, kind = constraint.name, constraint.kind
            is_dropped = constraint.change is Change.DROPPED and kind in CONSTRAINTS
            has_host = set(constraint.columns) & set(touch.columns_dropped) or (
                constraint.references in _dropped_tables(context)
            )
            is_lost = is_dropped and not has_host and name not in added
            if is_lost and not _is_replaced(constraint, table, context):
                message = f"drops {CONSTRAINTS[kind]} {name} of {table.name}"
                is_note = kind not in CONSTRAINTS_WITH_INDEX
                made = (context.name_before(table), name) in context.facts.made.constraints
                yield Candidate("constraint-dropped", table, message, is_note=is_note, is_made=made)


def _dropped_tables(context: StatementContext) -> set[str]:
    return {t.relation.name for t in context.trace.touches if t.dropped}


def _is_replaced(dropped: ConstraintChange, table: Relation, context: StatementContext) -> bool:
    """Whether the script adds one with the same name, or of the same kind on the same columns."""
    traced = [(context.statement, context.trace), *context.later]
    return any(
        (added.name == dropped.name and dropped.kind not in CONSTRAINTS_WITH_INDEX)
        or (added.columns == dropped.columns and _family(added) == _family(dropped))
        for touch in touches_of(table, traced)
        for added in touch.constraints
        if added.change in (Change.ADDED_VALID, Change.ADDED_NOT_VALID)
    )


def _family(constraint: ConstraintChange) -> str:
    return "unique" if constraint.kind in "pu" else constraint.kind


def _renames(context: StatementContext) -> Iterator[Candidate]:
    tables = [t for t in context.existing(TABLES) if t.renamed_from]
    for touch in context.existing(TABLES | frozenset(OTHER_RELATIONS)):
        relation, before = touch.relation, touch.renamed_from
        is_table = relation.kind in TABLES
        has_host = relation.kind == "S" and tables  # moved to another schema with its table
        is_undone = _last_name(relation, context.later) == before
        is_lost = not (touch.dropped or has_host or is_undone or _is_taken(before or "", context))
        if before and before == context.name_before(relation) and is_lost:
            hazard = "table-renamed" if is_table else "object-renamed"
            what = "" if is_table else f"{OTHER_RELATIONS[relation.kind]} "
            message = f"renames {what}{before} to {relation.name}"
            yield Candidate(hazard, relation, message)
        added = {
            c for earlier in touches_of(relation, context.before) for c in earlier.columns_added
        }
        for old, new in touch.columns_renamed:
            if old not in added:
                what = "attribute" if relation.kind == "c" else "column"
                message = f"renames {what} {relation.name}.{old} to {new}"
                made = (context.name_before(relation), old) in context.facts.made.columns
                yield Candidate("column-renamed", relation, message, is_made=made)


def _is_taken(name: str, context: StatementContext) -> bool:
    """Whether a later statement gives a name to something else, such as a view."""
    return any(
        name in (touch.relation.name, *(c.name for c in trace.created))
        for _, trace in context.later
        for touch in trace.touches
    )


def _object_drops(context: StatementContext) -> Iterator[Candidate]:
    tables = _dropped_tables(context)
    publications = {c.name for c in context.trace.objects if c.kind == "publication"}
    has_extension = any(c.kind == "extension" and c.dropped for c in context.trace.objects)
    for change in context.trace.objects:
        exists = (change.kind, change.name) in context.facts.objects
        # The members of an extension are dropped with it.
        is_member = change.kind != "extension" and has_extension
        is_part = _host(change) in tables or _publication(change) in publications
        if change.dropped and not (change.is_ours or exists or is_part or is_member):
            message = f"drops {change.kind} {change.name}"
            if change.kind == _PUBLISHED:
                message = f"drops {_host(change)} from publication {_publication(change)}"
            is_note, made = _has_overload(change, context), _is_made(change, context)
            yield Candidate("object-dropped", None, message, is_note=is_note, is_made=made)


def _host(change: ObjectChange) -> str:
    """Return the table of a trigger, policy or rule, or of its place in a publication."""
    if change.kind == _PUBLISHED:
        return change.name.partition(" in publication ")[0]
    return change.name.rpartition(" on ")[2]


def _publication(change: ObjectChange) -> str | None:
    """Return the publication that a table is dropped from; None for another object."""
    return change.name.partition(" in publication ")[2] if change.kind == _PUBLISHED else None


def _has_overload(change: ObjectChange, context: StatementContext) -> bool:
    """Whether a routine with the same name and other parameters exists after the script."""
    name, parenthesis, _ = change.name.partition("(")
    return bool(parenthesis) and any(
        kind == change.kind and other.startswith(f"{name}(")
        for kind, other in context.facts.objects
    )


def _object_renames(context: StatementContext) -> Iterator[Candidate]:
    """Yield renamed objects.  Many renames take no lock, so only the script shows them."""
    changes = context.facts.object_changes
    schemas = [f"{c.name}." for c in changes if c.kind == "schema" and c.renamed_from]
    for change in [c for c in changes if not c.dropped and _is_made_by(context, c)]:
        has_host = change.name.startswith(tuple(schemas))
        if change.renamed_from and not has_host:
            message = f"renames {change.kind} {change.renamed_from} to {change.name}"
            yield Candidate("object-renamed", None, message, is_made=_is_made(change, context))
        for old, new in change.values_renamed:
            message = f"renames value {old} of {change.kind} {change.name} to {new}"
            yield Candidate("object-renamed", None, message, is_made=_is_made(change, context))


def _is_made(change: ObjectChange, context: StatementContext) -> bool:
    """Whether an earlier pending script made an object, or the table of a trigger or policy."""
    name, made = change.renamed_from or change.name, context.facts.made
    return (change.kind, name) in made.objects or _host(change) in made.relations


def _is_made_by(context: StatementContext, change: ObjectChange) -> bool:
    """Whether the statement is the first ALTER that names an object, or the first of all."""
    own = (context.statement, context.trace)
    statements = [s for s, _ in (*context.before, own, *context.later)]
    name = (change.renamed_from or change.name).partition("(")[0]
    last = _parts(name)[-1:]
    named = [s for s in statements if s.words[:1] == ("alter",) and {*last} <= {*_parts(s.text)}]
    return context.statement is (named or statements)[0]


def _parts(text: str) -> list[str]:
    """Return the names in a text, and their qualifiers, as the catalog has them."""
    return [part for name in names.names(list(splitter.tokens(text))) for part in name]


def _foreign_keys(context: StatementContext) -> Iterator[Candidate]:
    """Yield the foreign keys, also of new tables, without an index after the script."""
    for touch in context.trace.touches:
        table = touch.relation
        name = _last_name(table, context.later)
        for constraint in touch.constraints if table.kind in TABLES else ():
            is_new = constraint.change in (Change.ADDED_VALID, Change.ADDED_NOT_VALID)
            if constraint.kind != "f" or not is_new or _is_dropped(constraint, table, context):
                continue
            found = indexed(constraint.columns, context.facts.indexes.get(name, ()))
            if len(found) < len(constraint.columns):
                columns = f"{listed(constraint.columns)} of {table.name}{{size}}"
                partly = f", only on {listed(found)}" if found else ""
                message = f"foreign key {constraint.name} has no index on {columns}{partly}"
                yield Candidate(
                    "foreign-key-without-index",
                    table,
                    message,
                    is_note=bool(found),
                    missing_index=constraint.columns,
                )


def _is_dropped(constraint: ConstraintChange, table: Relation, context: StatementContext) -> bool:
    return any(
        touch.dropped
        or any(c.name == constraint.name and c.change is Change.DROPPED for c in touch.constraints)
        for touch in touches_of(table, context.later)
    )


def _last_name(table: Relation, later: Iterable[StatementTrace]) -> str:
    return [table, *(touch.relation for touch in touches_of(table, later))][-1].name


def indexed(columns: Sequence[str], indexes: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return those of some columns, in any order, that the best of some indexes starts with.

    >>> indexed(["a", "b"], [["b", "c"], ["b", "a", "c"]])
    ('b', 'a')
    """
    starts = (tuple(takewhile(set(columns).__contains__, index)) for index in indexes)
    return max(starts, key=len, default=())


def _outside_transaction(context: StatementContext) -> Iterator[Candidate]:
    if not context.unit.transactional:
        work = classify.concurrent_work(context.statement)
        what = f"{work}; " if work else ""
        message = f"runs outside a transaction: {what}if it fails, what it did remains"
        yield Candidate("outside-transaction", None, message, is_note=True)


_PREDICATES = (
    _drops,
    _column_drops,
    _default_drops,
    _truncations,
    _constraint_drops,
    _renames,
    _object_drops,
    _object_renames,
    _foreign_keys,
    _outside_transaction,
)
