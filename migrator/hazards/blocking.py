"""Tell which statements make others wait: rewrites, scans and locks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from ..sql import classify
from ..sql.location import locate
from ..sql.script import Statement
from ..tracing.trace import Change, ConstraintChange, LockMode, Relation, Touch
from .statement import (
    CONSTRAINTS,
    INDEXES,
    OTHERS,
    TABLES,
    WITH_INDEX,
    Scene,
    Traced,
    Verdict,
    blocked,
    listed,
)

_NAMED = TABLES | frozenset(OTHERS)  # by queries
_WRITES = frozenset(["insert", "update", "delete", "merge", "copy"])
_EXCLUSIVE = "while ACCESS EXCLUSIVE is held: blocks reads and writes"


def stalls(scene: Scene) -> Iterator[Verdict]:
    """Yield what makes others wait; a scan under a blocking lock only once."""
    found = [verdict for predicate in _SPECIFIC for verdict in predicate(scene)]
    yield from found
    explained = {v.relation.table or v.relation.name for v in found if v.relation}
    yield from _blocking_scans(scene, explained)
    yield from _held_locks(scene)


def _rewrites(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing("rm"):
        if touch.rewritten and not touch.dropped and not scene.may_be_emptied(touch):
            message = f"rewrites {touch.relation.name}{{size}} {_EXCLUSIVE}"
            yield Verdict("table-rewrite", touch.relation, message)


def _index_builds(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(TABLES | {"m"}):
        table, built = touch.relation, scene.built(touch.relation)
        # A type that changes gets its indexes anew: without a scan if their files are kept.
        is_other = touch.rewritten or touch.types_changed
        if not built or is_other or not blocked(table, touch.mode) or not _is_read(scene, touch):
            continue
        added = _added_with_index(touch)
        if added:
            yield _constraint_builds(touch, added)
        else:
            what = f"builds {listed(built)} on {table.name}{{size}} {_while(touch)}"
            yield Verdict("index-built-blocking", table, what)


def _added_with_index(touch: Touch) -> dict[str, str]:
    """Return the constraints that were added with their indexes: kinds by name."""
    return {
        c.name: CONSTRAINTS[c.kind]
        for c in touch.constraints
        if c.kind in WITH_INDEX and c.change is Change.ADDED_VALID
    }


def _constraint_builds(touch: Touch, added: Mapping[str, str]) -> Verdict:
    what = listed([f"{kind} {name}" for name, kind in added.items()])
    message = f"builds the index of {what} on {touch.relation.name}{{size}} {_while(touch)}"
    return Verdict("constraint-builds-index", touch.relation, message)


def _is_read(scene: Scene, touch: Touch) -> bool:
    """Whether an index is built by reading; on a partitioned table, by reading a partition."""
    if touch.relation.kind != "p":
        return bool(touch.scans) or scene.trace.sampled
    return any(each.scans and scene.built(each.relation) for each in scene.existing("r"))


def _index_rebuilds(scene: Scene) -> Iterator[Verdict]:
    rebuilt: dict[str | None, list[Relation]] = {}
    for touch in scene.existing(INDEXES):
        table = scene.table(touch.relation)
        is_other = table and (table.rewritten or table.types_changed)
        if not touch.rewritten or is_other or _is_concurrent(scene):
            continue
        # A constraint that is dropped and added has another index of the same name.
        added = _added_with_index(table) if table else {}
        if table and touch.relation.name.rpartition(".")[2] in added:
            yield _constraint_builds(table, added)
        else:
            rebuilt.setdefault(touch.relation.table, []).append(touch.relation)
    for name, indexes in rebuilt.items():
        what = f"rebuilds {listed(index.name for index in indexes)} of {name}{{size}}"
        message = f"{what}: blocks writes, and reads that could use it"
        yield Verdict("index-built-blocking", indexes[0], message)


def _index_drops(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(INDEXES):
        index, table = touch.relation, scene.table(touch.relation)
        if touch.dropped and not _goes_with(index, table, scene) and not _is_concurrent(scene):
            message = f"drops {index.name} of {index.table}{{size}} {_EXCLUSIVE}"
            yield Verdict("index-dropped-blocking", index, message)


def _is_concurrent(scene: Scene) -> bool:
    # Only what runs outside a transaction can be; its last locks are too short to be sampled.
    return scene.trace.sampled and classify.is_concurrent(scene.statement)


def _goes_with(index: Relation, table: Touch | None, scene: Scene) -> bool:
    """Whether an index is dropped with something else, or made anew."""
    if index.name in {created.name for created in scene.trace.created}:
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


def _additions(scene: Scene) -> Iterator[Verdict]:
    """Tell of checks and foreign keys that are added valid."""
    for touch in scene.existing(TABLES):
        table = touch.relation
        # A column's type takes its constraints along: dropped and added by the same name.
        again = {c.name for c in touch.constraints if c.change is Change.DROPPED}
        for constraint in touch.constraints:
            name, kind = constraint.name, constraint.kind
            if constraint.change is not Change.ADDED_VALID or name in again or kind not in "cf":
                continue
            # DETACH … CONCURRENTLY leaves a check that repeats the bounds: it reads nothing.
            if scene.reads_rows(touch) and not _is_concurrent(scene):
                hazard = "check-added-valid" if kind == "c" else "foreign-key-added-valid"
                other = constraint.references if constraint.references != table.name else None
                tables = listed([f"{table.name}{{size}}", *filter(None, [other])])
                what = f"adds {CONSTRAINTS[kind]} {name} and reads {tables}"
                yield Verdict(hazard, table, f"{what} {_while(touch)}")


def _validations(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(TABLES):
        table = touch.relation
        for constraint in touch.constraints:
            if _is_validated_at_once(constraint, table, scene):
                what = f"{constraint.name} of {table.name}{{size}}"
                held = blocked(table, scene.held_before(table))
                message = f"validates {what} under the lock that added it: {held}"
                yield Verdict("validated-at-once", table, message)


def _is_validated_at_once(constraint: ConstraintChange, table: Relation, scene: Scene) -> bool:
    return constraint.change is Change.VALIDATED and any(
        earlier.name == constraint.name and earlier.change is Change.ADDED_NOT_VALID
        for _, trace in scene.in_transaction(scene.before)
        for touch in trace.touches
        if touch.relation.oid == table.oid
        for earlier in touch.constraints
    )


def _not_null(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(TABLES):
        table = touch.relation
        keys = {c for k in touch.constraints if k.kind == "p" for c in k.columns}
        # A new primary key that builds its index is told of by that.
        columns = [c for c in touch.not_null_set if c not in keys or not scene.built(table)]
        columns = [c for c in columns if c not in scene.facts.proven.get(table.name, ())]
        if columns and not touch.rewritten and scene.reads_rows(touch):
            what = f"{listed(columns)} of {table.name}{{size}}"
            message = f"sets NOT NULL on {what} and reads every row {_EXCLUSIVE}"
            yield Verdict("not-null-unproven", table, message)


def _required_columns(scene: Scene) -> Iterator[Verdict]:
    """Tell of columns added NOT NULL that nothing fills."""
    for touch in scene.existing(TABLES):
        table = touch.relation
        if touch.columns_required:
            size = scene.facts.sizes.get(table.name)
            what = f"{listed(touch.columns_required)} to {table.name}{{size}}"
            message = f"adds {what}, required and without a default: fails if there is a row"
            is_empty = size is not None and size.rows == 0
            yield Verdict("required-column-added", table, message, is_mild=is_empty)


_SPECIFIC = (
    _rewrites,
    _index_builds,
    _index_rebuilds,
    _index_drops,
    _additions,
    _validations,
    _not_null,
    _required_columns,
)


def _blocking_scans(scene: Scene, explained: Collection[str]) -> Iterator[Verdict]:
    """Tell of scans under a lock of the statement's own that nothing else tells of."""
    referenced = {c.references for t in scene.trace.touches for c in t.constraints}
    for touch in scene.existing("rm"):
        relation = touch.relation
        is_told = relation.name in explained or relation.name in referenced or touch.rewritten
        if touch.scans and not is_told and touch.is_stronger and blocked(relation, touch.mode):
            message = f"reads the whole of {relation.name}{{size}} {_while(touch)}"
            yield Verdict("blocking-scan", relation, message)


def _held_locks(scene: Scene) -> Iterator[Verdict]:
    later = scene.in_transaction(scene.later)
    for touch in scene.existing(_NAMED):
        relation, mode = touch.relation, touch.mode
        blocks = _blocks_while_held(touch, scene)
        known = blocked(relation, scene.held_before(relation))
        if mode is None or not blocks or blocks == known:
            continue
        over = [each for each in later if _prolongs(each, relation, scene)]
        if over:
            work, is_large, is_idle = _work(over, relation, scene)
            count = f"{len(over)} later statement{'s' * (len(over) > 1)}{work}"
            what = f"holds {mode.sql} on {relation.name}{{size}} over {count}"
            yield Verdict(
                "lock-held", relation, f"{what}: {blocks}", is_large=is_large, is_mild=is_idle
            )


def _blocks_while_held(touch: Touch, scene: Scene) -> str:
    """Say whom a lock keeps waiting for a thing that will be there in the end."""
    if not touch.dropped:
        return blocked(touch.relation, touch.mode)
    # A materialized view that is made again is missed until its query is done.
    again = any(
        created.name == touch.relation.name and created.kind == "m"
        for _, trace in scene.later
        for created in trace.created
    )
    return "blocks reads" if touch.relation.kind == "m" and again else ""


def _prolongs(later: Traced, relation: Relation, scene: Scene) -> bool:
    """Whether a later statement is work, and none that `validated-at-once` tells of."""
    statement, trace = later
    added = {
        (touch.relation.oid, c.name)
        for touch in scene.trace.touches
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


_MOST_SAID = 5  # of the statements that a lock is held over


def _work(over: Iterable[Traced], held: Relation, scene: Scene) -> tuple[str, bool, bool]:
    """Say which of some statements can take long, or wait for somebody.

    Returns:
        What they do; whether a large table is the reason; whether none of them takes time.
    """
    said: list[str] = []
    is_large, is_idle, ours = False, True, set(scene.ours)
    for statement, trace in over:
        ours |= {relation.oid for relation in trace.created}
        deeds = {
            t.relation: deed
            for t in trace.touches
            if t.relation.oid not in ours and (deed := _deed(statement, t, held))
        }
        is_idle &= not deeds
        # What made a materialized view reads whatever it reads.
        is_idle &= not any(relation.kind == "m" for relation in trace.created)
        for relation in deeds:
            size = scene.facts.sizes.get(scene.first_name(relation))
            is_large |= size is None or size.bytes >= scene.small
        if deeds:
            line = locate(statement.source, statement.offset, scene.path).line
            told = listed([f"{deed} {relation.name}" for relation, deed in deeds.items()])
            said.append(f"line {line} {told}")
    more = f"; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    shown = f", of which {'; '.join(said[:_MOST_SAID])}{more}" if said else ""
    return shown, is_large, is_idle


def _deed(statement: Statement, touch: Touch, held: Relation) -> str:
    """Say what of a statement takes its time, or waits; empty for nothing."""
    if touch.relation.kind not in "rpm" or touch.dropped:
        return ""
    if touch.rewritten:
        return "rewrites" if statement.words[:1] != ("truncate",) else ""
    mode = touch.mode or LockMode.ACCESS_SHARE
    is_write = bool(_WRITES & set(statement.words[:1])) and mode >= LockMode.ROW_EXCLUSIVE
    if touch.inserted or touch.updated or touch.deleted or is_write:
        return "writes"
    if touch.scans:
        return "scans"
    is_other = touch.relation.oid != held.oid and touch.is_stronger
    return "waits for" if is_other and blocked(touch.relation, mode) else ""


def _while(touch: Touch) -> str:
    mode = touch.mode or LockMode.ACCESS_EXCLUSIVE  # sampled too late to be seen
    return f"while {mode.sql} is held: {blocked(touch.relation, mode)}"
