"""Read the answers to the queries of `probe`, and compare two of them into a trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .trace import Change, ConstraintChange, Effort, LockMode, ObjectChange, Relation, Touch, Trace

Row = list[Any]
"""A relation or object as the server sent it; `_State` and `_Object` name its items."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer to one query.

    Attributes:
        locks: The strongest lock mode held on each relation, by OID.
        gone: Relations that are locked and no longer exist, by OID.
        relations: All relations if `complete`, else the locked ones, by OID.
        objects: All objects if `complete`, else those that a lock shows, dropped ones too; by the
            OIDs of the catalog and of the object.
        complete: Whether it has everything, so that what is missing no longer exists.
        sampled: Whether the locks were seen from another session.
        asked, answered: When the query began and ended, in seconds since 1970.
        wal: How many bytes of WAL the server had written before; None if not asked for.
    """

    locks: Mapping[int, LockMode] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    relations: Mapping[int, Row] = field(default_factory=dict, repr=False)
    objects: Mapping[tuple[int, int], Row] = field(default_factory=dict, repr=False)
    complete: bool = False
    sampled: bool = False
    asked: float = 0.0
    answered: float = 0.0
    wal: int | None = None


class _Column(NamedTuple):
    number: int
    name: str
    type: int
    modifier: int
    not_null: bool
    is_filled: bool = True  # by a default, an identity or a generated value


class _Constraint(NamedTuple):
    oid: int
    name: str
    kind: str
    is_valid: bool
    columns: list[int] | None
    references: int
    parent: int


class _Counts(NamedTuple):
    scans: int = 0
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class _State(NamedTuple):
    """A relation at one time; columns and constraints are None if they were not asked for."""

    oid: int
    name: str
    kind: str
    file: int
    table: int | None
    counts: _Counts
    columns: tuple[_Column, ...] | None
    constraints: tuple[_Constraint, ...] | None


class _Object(NamedTuple):
    """An object at one time; kind and name are None if it no longer exists."""

    kind: str | None
    name: str | None
    labels: dict[int, str]


def read(text: str | bytes) -> Snapshot:
    """Read the answer to a query of `probe`."""
    answer = json.loads(text)
    rows: list[Row] = answer["relations"] or []
    return Snapshot(
        locks={row[1]: LockMode(row[0]) for row in rows if row[0] is not None},
        gone=frozenset(row[1] for row in rows if len(row) == _GONE),
        relations={row[1]: row for row in rows if len(row) > _GONE},
        objects={(row[0], row[1]): row for row in answer["objects"] or []},
        complete=answer["complete"],
        asked=answer["asked"],
        answered=answer["answered"],
        wal=answer["wal"],
    )


_GONE = 2  # items of a relation that no longer exists: the lock and the OID


def effort(before: Snapshot, after: Snapshot) -> Effort:
    """Return how long the one statement between two snapshots took, and how much WAL it wrote."""
    wal = None if before.wal is None or after.wal is None else after.wal - before.wal
    return Effort(after.asked - before.answered, after.answered, wal)


def difference(before: Snapshot, after: Snapshot, start: Snapshot) -> Trace:
    """Return what one statement did.

    Args:
        before: Before the statement; `start` for the first one of a transaction.
        after: After the statement.
        start: At the start of the transaction; it is `complete`.
    """
    seen = _Snapshots(before, after, start, _replaced(before, after, start))
    touches = [touch for oid in _touched(seen) if (touch := _touch(seen, oid))]
    created = (t.relation for t in touches if not t.dropped and seen.was(t.relation.oid) is None)
    return Trace(
        touches=tuple(sorted(touches, key=lambda touch: (touch.relation.name, touch.relation.oid))),
        created=tuple(sorted(created, key=lambda relation: relation.name)),
        objects=tuple(sorted(_object_changes(seen), key=lambda each: (each.kind, each.name))),
        sampled=after.sampled,
    )


@dataclass(frozen=True, slots=True)
class _Snapshots:
    """Three snapshots, and the relations in them.

    Attributes:
        replaced: The OID of the index of the same name that an index replaced, by its OID.
    """

    before: Snapshot
    after: Snapshot
    start: Snapshot
    replaced: Mapping[int, int]

    def was(self, oid: int) -> _State | None:
        """Return a relation before the statement; None if it did not exist."""
        oid = self.replaced.get(oid, oid)
        if oid in self.before.gone:
            return None
        at_start = _state(self.start.relations.get(oid))
        state = _state(self.before.relations.get(oid)) or at_start
        if state and at_start and state.columns is None:
            return state._replace(columns=at_start.columns, constraints=at_start.constraints)
        return state

    def now(self, oid: int) -> _State | None:
        """Return a relation after the statement; None if it no longer exists."""
        return _state(self.after.relations.get(oid))

    def mode(self, snapshot: Snapshot, oid: int) -> LockMode | None:
        """Return the strongest lock on a relation, or on the index that it replaced."""
        oids = (oid, self.replaced.get(oid, oid))
        return max((snapshot.locks[each] for each in oids if each in snapshot.locks), default=None)

    def name(self, oid: int) -> str | None:
        """Return the latest known name of a relation."""
        rows = (each.relations.get(oid) for each in (self.after, self.before, self.start))
        return next((str(row[2]) for row in rows if row), None)


def _replaced(before: Snapshot, after: Snapshot, start: Snapshot) -> dict[int, int]:
    """Match the indexes that ALTER … TYPE or REINDEX CONCURRENTLY created to replace others."""

    def known(oid: int) -> Row | None:
        return before.relations.get(oid) or start.relations.get(oid)

    lost = before.relations.keys() if after.complete else after.gone - before.gone
    names = {
        row[2]: oid
        for oid in lost
        if oid not in after.relations and (row := known(oid)) and row[3] in "iI"
    }
    return {
        oid: names[row[2]]
        for oid, row in (after.relations.items() if names else ())
        if row[2] in names and row[3] in "iI" and not known(oid)
    }


def _touched(seen: _Snapshots) -> Iterator[int]:
    """Yield the relations that a statement may have touched: locked or different ones."""
    before, after = seen.before.relations, seen.after.relations
    replaced = set(seen.replaced.values())
    yield from seen.after.gone - replaced
    for oid, row in after.items():
        if not seen.after.complete or row[1:] != before.get(oid, ())[1:] or oid in seen.after.locks:
            yield oid
    if seen.after.complete:
        yield from before.keys() - after.keys() - seen.after.gone - replaced


def _touch(seen: _Snapshots, oid: int) -> Touch | None:
    """Return what a statement did to one relation; None if it did nothing."""
    was, now = seen.was(oid), seen.now(oid)
    state = now or was
    if state is None:
        return None  # created and dropped by the statement, such as the copy in a rewrite
    mode, held = seen.mode(seen.after, oid), seen.mode(seen.before, oid)
    table = seen.name(state.table) if state.table else None
    untouched = Touch(
        Relation(oid, state.name, state.kind, table),
        mode,
        is_ours=seen.replaced.get(oid, oid) not in seen.start.relations,
    )
    changes: dict[str, Any] = {
        "is_stronger": mode is not None and (held is None or mode > held),
        "dropped": now is None,
        "constraints": tuple(_constraint_changes(was, now, seen)),
        **(_changes(was, now) if was and now else {}),
        **_counts(was, now),
    }
    touch = replace(untouched, **changes)
    return touch if was is None or touch != untouched else None


def _changes(was: _State, now: _State) -> dict[str, Any]:
    """Return how a relation differs, except for its constraints."""
    changes: dict[str, Any] = {
        "rewritten": was.file != now.file and now.kind != "S",
        "renamed_from": was.name if was.name != now.name else None,
    }
    if was.columns is None or now.columns is None:
        return changes
    before = {column.number: column for column in was.columns}
    after = {column.number: column for column in now.columns}
    both = [(before[number], column) for number, column in after.items() if number in before]
    return changes | {
        "columns_added": tuple(each.name for each in now.columns if each.number not in before),
        "columns_required": tuple(
            each.name
            for each in now.columns
            if each.number not in before and each.not_null and not each.is_filled
        ),
        "columns_dropped": tuple(each.name for each in was.columns if each.number not in after),
        "columns_renamed": tuple((a.name, b.name) for a, b in both if a.name != b.name),
        "defaults_dropped": tuple(b.name for a, b in both if a.is_filled and not b.is_filled),
        "defaults_needed": tuple(
            b.name for a, b in both if a.is_filled and not b.is_filled and b.not_null
        ),
        "defaults_set": tuple(b.name for a, b in both if b.is_filled and not a.is_filled),
        "not_null_set": tuple(b.name for a, b in both if b.not_null and not a.not_null),
        "types_changed": tuple(b.name for a, b in both if _type(a) != _type(b)),
    }


def _type(column: _Column) -> tuple[int, int, int]:
    return column.number, column.type, column.modifier


def _counts(was: _State | None, now: _State | None) -> dict[str, int]:
    before = was.counts if was else _Counts()
    # TRUNCATE resets some counters, and a dropped relation has none.
    after = now.counts if now else before
    return {name: max(0, getattr(after, name) - getattr(before, name)) for name in _Counts._fields}


def _constraint_changes(
    was: _State | None, now: _State | None, seen: _Snapshots
) -> Iterator[ConstraintChange]:
    """Yield how the constraints of a relation differ, by name; nothing if it was dropped."""
    if now is None or now.constraints is None:
        return
    before = {each.oid: each for each in (was.constraints if was else None) or ()}
    after = {each.oid: each for each in now.constraints}
    fresh = [each for oid, each in after.items() if oid not in before]
    lost = [each for oid, each in before.items() if oid not in after]
    renewed = {
        (a.name, a.kind)
        for a in lost
        for b in fresh
        if (a.name, a.kind) == (b.name, b.kind) and _is_retyped(seen, (now.oid, b.references))
    }
    changes = [(each, was, Change.DROPPED) for each in lost]
    changes += [(each, now, _ADDED[each.is_valid]) for each in fresh]
    changes = [each for each in changes if (each[0].name, each[0].kind) not in renewed]
    changes += [
        (each, now, Change.VALIDATED)
        for oid, each in after.items()
        if each.is_valid and oid in before and not before[oid].is_valid
    ]
    for constraint, state, change in sorted(changes, key=lambda each: each[0].name):
        # A foreign key to a partitioned table has a child for each of its partitions.
        is_child = constraint.parent in (before | after)
        is_of_column = constraint.kind == "n" and change in _NOT_NULL_OF_COLUMN
        if state and not is_child and not is_of_column:
            yield _constraint_change(constraint, state, change, seen)


_ADDED = {True: Change.ADDED_VALID, False: Change.ADDED_NOT_VALID}
_NOT_NULL_OF_COLUMN = {Change.ADDED_VALID, Change.DROPPED}


def _constraint_change(
    constraint: _Constraint, state: _State, change: Change, seen: _Snapshots
) -> ConstraintChange:
    names = {column.number: column.name for column in state.columns or ()}
    return ConstraintChange(
        constraint.name,
        constraint.kind,
        change,
        tuple(names[number] for number in constraint.columns or () if number in names),
        seen.name(constraint.references) if constraint.references else None,
    )


def _is_retyped(seen: _Snapshots, oids: Iterable[int]) -> bool:
    """Whether a column has a new type, for which its constraints are dropped and added again."""
    states = ((seen.was(oid), seen.now(oid)) for oid in oids)
    return any(
        [_type(each) for each in was.columns] != [_type(each) for each in now.columns]
        for was, now in states
        if was and now and was.columns is not None and now.columns is not None
    )


def _object_changes(seen: _Snapshots) -> Iterator[ObjectChange]:
    """Yield what a statement did to objects that are not relations."""
    before, after, start = seen.before.objects, seen.after.objects, seen.start.objects
    for key in after.keys() | (before.keys() if seen.after.complete else set()):
        was, now = _object(before.get(key) or start.get(key)), _object(after.get(key))
        if was.name is None or was.kind is None:
            continue  # created by the statement, or dropped before it
        change = ObjectChange(was.kind, now.name or was.name, is_ours=key not in start)
        both = [(was.labels[oid], now.labels[oid]) for oid in now.labels if oid in was.labels]
        changed = replace(
            change,
            dropped=now.name is None,
            renamed_from=was.name if now.name not in (None, was.name) else None,
            values_added=tuple(now.labels[oid] for oid in now.labels if oid not in was.labels),
            values_renamed=tuple((a, b) for a, b in both if a != b),
        )
        if changed != change:
            yield changed


def _object(row: Row | None) -> _Object:
    if row is None:
        return _Object(None, None, {})
    _, _, kind, name, labels = row
    return _Object(kind, name, dict(labels or ()))


def _state(row: Row | None) -> _State | None:
    if row is None:
        return None
    _, oid, name, kind, file, table, counts, columns, constraints = row
    return _State(
        oid,
        name,
        kind,
        file,
        table,
        _Counts(*(counts or ())),
        None if columns is None else tuple(_Column(*each) for each in columns),
        None if constraints is None else tuple(_Constraint(*each) for each in constraints),
    )
