"""Find the statements that block other sessions: rewrites, scans and locks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from ..errors import duration
from ..sql import classify
from ..sql.location import locate
from ..sql.script import Statement
from ..tracing.trace import Change, ConstraintChange, LockMode, Relation, Touch
from .statement import (
    CONSTRAINTS,
    CONSTRAINTS_WITH_INDEX,
    INDEXES,
    OTHER_RELATIONS,
    TABLES,
    Candidate,
    StatementContext,
    StatementTrace,
    blocked,
    listed,
    touches_of,
)

_QUERIED = TABLES | frozenset(OTHER_RELATIONS) - {"c"}
_EXCLUSIVE = "under ACCESS EXCLUSIVE (blocks reads and writes)"
_MOST_NAMED = 5  # of the statements that run while a lock is held, and write nothing


def find(context: StatementContext) -> Iterator[Candidate]:
    """Yield what blocks other sessions; a scan that a more specific hazard explains only once."""
    found = [candidate for predicate in _SPECIFIC for candidate in predicate(context)]
    yield from found
    explained = {c.relation.table or c.relation.name for c in found if c.relation}
    yield from _blocking_scans(context, explained)
    yield from _detached_references(context)
    yield from _held_locks(context)
    yield from _long_locks(context)


def _rewrites(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing("rm"):
        if touch.rewritten and not touch.dropped and not context.may_empty(touch):
            message = f"rewrites {touch.relation.name}{{size}} {_EXCLUSIVE}"
            yield Candidate("table-rewrite", touch.relation, message)


def _index_builds(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES | {"m"}):
        table, built = touch.relation, context.built(touch.relation)
        # After a change of type, indexes are new too; they are not built if they keep their files.
        is_side_effect = touch.rewritten or touch.types_changed
        if not built or is_side_effect or not blocked(table, touch.mode):
            continue
        if not _is_built_from_rows(context, touch):
            continue
        added = _added_with_index(touch)
        if added:
            yield _constraint_builds(touch, added)
        else:
            message = f"builds {listed(built)} on {table.name}{{size}} {_under(touch)}"
            yield Candidate("index-built-blocking", table, message)


def _added_with_index(touch: Touch) -> dict[str, str]:
    """Return the constraints that were added with their indexes, as kind by name."""
    return {
        c.name: CONSTRAINTS[c.kind]
        for c in touch.constraints
        if c.kind in CONSTRAINTS_WITH_INDEX and c.change is Change.ADDED_VALID
    }


def _constraint_builds(touch: Touch, added: Mapping[str, str]) -> Candidate:
    what = listed([f"{kind} {name}" for name, kind in added.items()])
    message = f"builds the index of {what} on {touch.relation.name}{{size}} {_under(touch)}"
    return Candidate("constraint-builds-index", touch.relation, message)


def _is_built_from_rows(context: StatementContext, touch: Touch) -> bool:
    """Whether the build of an index scans the table, or a partition of it."""
    if touch.relation.kind != "p":
        return bool(touch.scans) or context.trace.sampled
    return any(each.scans and context.built(each.relation) for each in context.existing("r"))


def _index_rebuilds(context: StatementContext) -> Iterator[Candidate]:
    rebuilt: dict[str | None, list[Relation]] = {}
    for touch in context.existing(INDEXES):
        table = context.table(touch.relation)
        is_side_effect = table and (table.rewritten or table.types_changed)
        if not touch.rewritten or is_side_effect or _is_concurrent(context):
            continue
        # A constraint that is dropped and added again has a new index of the same name.
        added = _added_with_index(table) if table else {}
        if table and touch.relation.name.rpartition(".")[2] in added:
            yield _constraint_builds(table, added)
        else:
            rebuilt.setdefault(touch.relation.table, []).append(touch.relation)
    for name, indexes in rebuilt.items():
        what = f"rebuilds {listed(index.name for index in indexes)} of {name}{{size}}"
        message = f"{what} (blocks writes, and reads that could use the index)"
        yield Candidate("index-built-blocking", indexes[0], message)


def _index_drops(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(INDEXES):
        index, table = touch.relation, context.table(touch.relation)
        is_alone = touch.dropped and not _is_dropped_with_more(index, table, context)
        if is_alone and not _is_concurrent(context):
            message = f"drops {index.name} of {index.table}{{size}} {_EXCLUSIVE}"
            yield Candidate("index-dropped-blocking", index, message)


def _is_concurrent(context: StatementContext) -> bool:
    # CONCURRENTLY runs outside a transaction, and its last locks are too brief to be sampled.
    return context.trace.sampled and classify.is_concurrent(context.statement)


def _is_dropped_with_more(index: Relation, table: Touch | None, context: StatementContext) -> bool:
    """Whether an index is dropped as part of something else, or replaced."""
    if index.name in {created.name for created in context.trace.created}:
        return True
    return table is not None and (
        table.dropped
        or bool(table.columns_dropped)
        or bool(table.types_changed)
        or any(
            c.change is Change.DROPPED and index.name.endswith(f".{c.name}")
            for c in table.constraints
        )
    )


def _added_constraints(context: StatementContext) -> Iterator[Candidate]:
    """Yield the checks and foreign keys that are added without NOT VALID."""
    for touch in context.existing(TABLES):
        table = touch.relation
        for constraint in touch.constraints:
            name, kind = constraint.name, constraint.kind
            if constraint.change is not Change.ADDED_VALID or kind not in "cf":
                continue
            # DETACH … CONCURRENTLY adds a check that repeats the bounds, and scans nothing.
            if context.reads_rows(touch) and not _is_concurrent(context):
                hazard = "check-added-valid" if kind == "c" else "foreign-key-added-valid"
                other = constraint.references if constraint.references != table.name else None
                tables = listed([f"{table.name}{{size}}", *filter(None, [other])])
                what = f"adds {CONSTRAINTS[kind]} {name} and reads {tables}"
                yield Candidate(hazard, table, f"{what} {_under(touch)}")


def _validations(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES):
        table = touch.relation
        for constraint in touch.constraints:
            if _was_added_in_transaction(constraint, table, context):
                what = f"{constraint.name} of {table.name}{{size}}"
                held = blocked(table, context.held_before(table))
                message = f"validates {what} under the lock that was taken to add it ({held})"
                yield Candidate("validated-at-once", table, message)


def _was_added_in_transaction(
    constraint: ConstraintChange, table: Relation, context: StatementContext
) -> bool:
    return constraint.change is Change.VALIDATED and any(
        earlier.name == constraint.name and earlier.change is Change.ADDED_NOT_VALID
        for touch in touches_of(table, context.in_transaction(context.before))
        for earlier in touch.constraints
    )


def _not_null(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES):
        table = touch.relation
        # A primary key that builds its index is reported as that.
        keys = {c for k in touch.constraints if k.kind == "p" for c in k.columns}
        columns = [c for c in touch.not_null_set if c not in keys or not context.built(table)]
        columns = [c for c in columns if c not in context.facts.proven.get(table.name, ())]
        if columns and not touch.rewritten and context.reads_rows(touch):
            what = f"{listed(columns)} of {table.name}{{size}}"
            message = f"sets NOT NULL on {what} and scans the table {_EXCLUSIVE}"
            yield Candidate("not-null-unproven", table, message)


def _required_columns(context: StatementContext) -> Iterator[Candidate]:
    for touch in context.existing(TABLES):
        table = touch.relation
        if touch.columns_required:
            size = context.facts.sizes.get(table.name)
            what = f"{listed(touch.columns_required)} to {table.name}{{size}}"
            message = f"adds {what} as NOT NULL without a default: fails if the table has a row"
            is_empty = size is not None and size.rows == 0
            yield Candidate("required-column-added", table, message, is_note=is_empty)


_SPECIFIC = (
    _rewrites,
    _index_builds,
    _index_rebuilds,
    _index_drops,
    _added_constraints,
    _validations,
    _not_null,
    _required_columns,
)


def _blocking_scans(context: StatementContext, explained: Collection[str]) -> Iterator[Candidate]:
    """Yield the scans, under a blocking lock of the statement's own, that are not explained."""
    referenced = {c.references for t in context.trace.touches for c in t.constraints}
    for touch in context.existing("rm"):
        relation = touch.relation
        is_known = relation.name in explained or relation.name in referenced or touch.rewritten
        if touch.scans and not is_known and touch.is_stronger and blocked(relation, touch.mode):
            yield Candidate(
                "blocking-scan", relation, f"scans {relation.name}{{size}} {_under(touch)}"
            )


def _detached_references(context: StatementContext) -> Iterator[Candidate]:
    """Yield the tables that DETACH … CONCURRENTLY scans: their foreign keys name the parent.

    Its locks are too brief to be sampled.  Source: `ATDetachCheckNoForeignKeyRefs`.
    """
    if not context.trace.sampled or "detach" not in context.statement.words:
        return
    parents = {context.facts.partitions.get(t.relation.name, "") for t in context.existing("rp")}
    for parent in sorted(parents):
        for each in context.facts.dependents.get(parent, ()):
            _, on, table = each.partition(" on table ")
            if on and each.startswith("constraint "):
                what = f"scans {table}{{size}} under SHARE (blocks writes)"
                message = f"{what} for rows that reference the partition"
                yield Candidate("blocking-scan", Relation(0, table, "r"), message)


def _held_locks(context: StatementContext) -> Iterator[Candidate]:
    later = context.in_transaction(context.later)
    for touch in context.existing(_QUERIED):
        relation, mode = touch.relation, touch.mode
        blocks = _blocks_while_held(touch, context)
        known = blocked(relation, context.held_before(relation))
        if mode is None or not blocks or blocks == known:
            continue
        meanwhile = [each for each in later if _prolongs(each, relation, context)]
        if meanwhile:
            work, is_large, is_idle = _work(meanwhile, relation, context)
            count = f"{len(meanwhile)} later statement{'s' * (len(meanwhile) > 1)}"
            what = f"holds {mode.sql} ({blocks}) on {relation.name}{{size}}"
            message = f"{what} during {count}{work}"
            yield Candidate("lock-held", relation, message, is_finding=is_large, is_note=is_idle)


def _long_locks(context: StatementContext) -> Iterator[Candidate]:
    """Yield the blocking locks that were held too long on a copy with rows."""
    taken = context.timing.held.get(context.statement.offset, {}) if context.timing else {}
    for touch in context.existing(_QUERIED):
        relation, seconds = touch.relation, taken.get(touch.relation.oid, 0.0)
        blocks = _blocks_while_held(touch, context)
        if touch.mode and blocks and context.is_too_long(seconds):
            what = f"{touch.mode.sql} ({blocks}) on {relation.name}{{size}}"
            message = f"held {what} for {duration(seconds)} on the copy"
            yield Candidate("lock-too-long", relation, message)


def _blocks_while_held(touch: Touch, context: StatementContext) -> str:
    """Say what a lock blocks on a relation that exists after the script."""
    if not touch.dropped:
        return blocked(touch.relation, touch.mode)
    # A materialized view that is created again is missing until its query is done.
    again = any(
        created.name == touch.relation.name and created.kind == "m"
        for _, trace in context.later
        for created in trace.created
    )
    return "blocks reads" if touch.relation.kind == "m" and again else ""


def _prolongs(later: StatementTrace, relation: Relation, context: StatementContext) -> bool:
    """Whether a later statement does work that `validated-at-once` does not report."""
    statement, trace = later
    added = {
        (touch.relation.oid, c.name)
        for touch in context.trace.touches
        for c in touch.constraints
        if c.change is Change.ADDED_NOT_VALID
        if relation.name in (touch.relation.name, c.references)
    }
    validated = {
        (touch.relation.oid, c.name)
        for touch in trace.touches
        for c in touch.constraints
        if c.change is Change.VALIDATED
    }
    return not classify.sets_session(statement) and not added & validated


def _work(
    meanwhile: Iterable[StatementTrace], held: Relation, context: StatementContext
) -> tuple[str, bool, bool]:
    """Say which of some statements can take long or wait for a lock.

    Returns:
        What they do; whether a large table is among theirs; whether none of them takes time.
    """
    writing: list[str] = []
    texts: list[str] = []
    is_large, is_idle, created = False, True, set(context.created)
    for statement, trace in meanwhile:
        created |= {relation.oid for relation in trace.created}
        actions = {
            t.relation: action
            for t in trace.touches
            if t.relation.oid not in created and not context.is_made(t.relation)
            if (action := _action(statement, t, held))
        }
        is_idle &= not actions
        # The query of a materialized view can take any time.
        is_idle &= not any(relation.kind == "m" for relation in trace.created)
        for relation in actions:
            size = context.facts.sizes.get(context.name_before(relation))
            is_large |= size is None or size.bytes >= context.small
        if actions:
            line = locate(statement.source, statement.offset, context.path).line
            what = listed([f"{action} {relation.name}" for relation, action in actions.items()])
            texts.append(f"line {line} {what}")
            writing += texts[-1:] if "writes" in actions.values() else []
    named = [each for at, each in enumerate(texts) if at < _MOST_NAMED or each in writing]
    more = [f"{len(texts) - len(named)} more"] if len(texts) > len(named) else []
    text = "; ".join([*named, *more])
    return f": {text}" if text else "", is_large, is_idle


def _action(statement: Statement, touch: Touch, held: Relation) -> str:
    """Say what in a statement takes time or waits for a lock; empty for nothing."""
    if touch.relation.kind not in "rpm" or touch.dropped:
        return ""
    if touch.rewritten:
        return "rewrites" if statement.words[:1] != ("truncate",) else ""
    mode = touch.mode or LockMode.ACCESS_SHARE
    is_write = touch.written or (touch.is_stronger and mode is LockMode.ROW_EXCLUSIVE)
    if touch.inserted or touch.updated or touch.deleted or is_write:
        return "writes"
    if touch.scans:
        return "scans"
    is_other = touch.relation.oid != held.oid and touch.is_stronger
    return "locks" if is_other and blocked(touch.relation, mode) else ""


def _under(touch: Touch) -> str:
    mode = touch.mode or LockMode.ACCESS_EXCLUSIVE  # the sample came too late to see it
    return f"under {mode.sql} ({blocked(touch.relation, mode)})"
