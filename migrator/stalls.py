"""Tell which statements make others wait: rewrites, scans and locks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from . import parsing, places
from .model import Statement
from .scenes import (
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
from .traces import Change, ConstraintChange, LockMode, Relation, Touch

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
    if scene.statement.words[:1] == ("truncate",):
        return
    for touch in scene.existing("rm"):
        if touch.rewritten and not touch.dropped:
            message = f"rewrites {touch.relation.name}{{size}} {_EXCLUSIVE}"
            yield Verdict("table-rewrite", touch.relation, message)


def _index_builds(scene: Scene) -> Iterator[Verdict]:
    for touch in scene.existing(TABLES | {"m"}):
        table, built = touch.relation, scene.built(touch.relation)
        # A type that changes gets its indexes anew: without a scan if their files are kept.
        is_other = touch.rewritten or touch.types_changed
        if not built or is_other or not blocked(table, touch.mode) or not _is_read(scene, touch):
            continue
        by_constraint = [
            f"{CONSTRAINTS[c.kind]} {c.name}"
            for c in touch.constraints
            if c.kind in WITH_INDEX and c.change is Change.ADDED_VALID
        ]
        hazard = "constraint-builds-index" if by_constraint else "index-built-blocking"
        what = f"the index of {listed(by_constraint)}" if by_constraint else listed(built)
        yield Verdict(hazard, table, f"builds {what} on {table.name}{{size}} {_while(touch)}")


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
        if touch.rewritten and not is_other and not _is_concurrent(scene):
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
    return scene.trace.sampled and parsing.is_concurrent(scene.statement)


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
        if columns and not touch.rewritten and scene.reads_rows(touch):
            what = f"{listed(columns)} of {table.name}{{size}}"
            message = f"sets NOT NULL on {what} and reads every row {_EXCLUSIVE}"
            yield Verdict("not-null-unproven", table, message)


def _required_columns(scene: Scene) -> Iterator[Verdict]:
    """Tell of columns added NOT NULL and without a default.

    The server reads the table for them, and for no other column that is added without a
    constraint and without a rewrite (ATExecAddColumn, `verify_new_notnull`).
    """
    for touch in scene.existing(TABLES):
        table = touch.relation
        is_other = touch.rewritten or touch.not_null_set or touch.types_changed
        checks = [c for c in touch.constraints if c.kind in "cf" and c.change is Change.ADDED_VALID]
        if not touch.columns_added or is_other or checks or scene.trace.sampled:
            continue
        if scene.reads_rows(touch):
            size = scene.facts.sizes.get(table.name)
            what = f"{listed(touch.columns_added)} to {table.name}{{size}}"
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
        blocks = blocked(relation, mode)
        known = blocked(relation, scene.held_before(relation))
        if mode is None or touch.dropped or not blocks or blocks == known:
            continue
        over = [each for each in later if _prolongs(each, relation, scene)]
        if over:
            work, is_large = _work(over, scene)
            count = f"{len(over)} later statement{'s' * (len(over) > 1)}{work}"
            what = f"holds {mode.sql} on {relation.name}{{size}} over {count}"
            yield Verdict("lock-held", relation, f"{what}: {blocks}", is_large=is_large)


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
    return not parsing.sets_session(statement) and not added & validated


def _work(over: Iterable[Traced], scene: Scene) -> tuple[str, bool]:
    """Say which of some statements can take long, and whether a large table is the reason."""
    said, is_large, ours = [], False, set(scene.ours)
    for statement, trace in over:
        ours |= {relation.oid for relation in trace.created}
        deeds = {t.relation: _deed(statement, t) for t in trace.touches if _deed(statement, t)}
        for relation in deeds:
            size = scene.facts.sizes.get(relation.name)
            is_large |= relation.oid not in ours and (size is None or size.bytes >= scene.small)
        if deeds:
            line = places.locate(statement.source, statement.offset, scene.path).line
            told = listed([f"{deed} {relation.name}" for relation, deed in deeds.items()])
            said.append(f"line {line} {told}")
    return (f", of which {'; '.join(said)}" if said else ""), is_large


def _deed(statement: Statement, touch: Touch) -> str:
    """Say what of a statement takes the longer the larger a table is; empty for nothing."""
    if touch.relation.kind not in "rpm" or touch.dropped:
        return ""
    if touch.rewritten:
        return "rewrites" if statement.words[:1] != ("truncate",) else ""
    mode = touch.mode or LockMode.ACCESS_SHARE
    is_write = bool(_WRITES & set(statement.words[:1])) and mode >= LockMode.ROW_EXCLUSIVE
    if touch.inserted or touch.updated or touch.deleted or is_write:
        return "writes"
    return "scans" if touch.scans else ""


def _while(touch: Touch) -> str:
    mode = touch.mode or LockMode.ACCESS_EXCLUSIVE  # sampled too late to be seen
    return f"while {mode.sql} is held: {blocked(touch.relation, mode)}"
