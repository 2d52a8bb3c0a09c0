"""The state of a scratch database at one time, by relation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

from ...hazards.catalogue import Facts
from ...tracing import diff
from ...tracing.diff import Row, Snapshot
from .. import facts
from ..facts import COUNTED
from .changes import UNKNOWN, Columns
from .marks import Mark
from .schema import SchemaObject

_SERIALS = count(1)
_TRAIL = 3  # states of one migration

K = TypeVar("K")
V = TypeVar("V")

Edge = tuple[int, int, str]
"""A relation that others depend on, its column or 0, and what depends on it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A relation and everything on it: what is read together.

    Attributes:
        relations: The relation and its indexes, as in `Snapshot`.
        edges: The relations that it depends on.
        proven, indexes, foreign_keys: As in `Facts`.
        parent: The OID of the table that it is a partition of; None for none.
        parts: Its triggers, policies and rules, as in `Snapshot.objects`.
        counts: Its rows in the catalogs, of which `COUNTED` are counted.
    """

    objects: tuple[SchemaObject, ...] = ()
    relations: tuple[Row, ...] = ()
    edges: tuple[Edge, ...] = ()
    proven: frozenset[str] = frozenset()
    indexes: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[frozenset[str], ...] = ()
    parent: int | None = None
    parts: tuple[Row, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """The state of a database at one time.

    Attributes:
        units: By the OID of the relation; under 0, what is on no relation.
        snapshot: All relations and objects.
        totals: The sums of the units' counts.
        mark: None if what changes later cannot be told.
        named: The indexes, foreign keys, proven columns and objects that `Facts` has by name.
        parents: The parents of partitions, by OID.
        edges: As in `Unit`, by the OID of the relation; only those that there are.
        serial: Which state it is.
        trail: Its last predecessors by `serial`, each with the units that changed after it.
    """

    units: Mapping[int, Unit]
    snapshot: Snapshot
    totals: Mapping[str, int]
    mark: Mark | None
    named: Facts
    parents: Mapping[int, int]
    edges: Mapping[int, tuple[Edge, ...]]
    serial: int = 0
    trail: tuple[tuple[int, frozenset[int]], ...] = ()

    def objects(self) -> Iterable[SchemaObject]:
        """Return its schema."""
        return (each for unit in self.units.values() for each in unit.objects)

    def facts(self, known: Facts) -> Facts:
        """Add the facts before a script."""
        return replace(
            known,
            dependents=self._dependents(),
            partitions=self.partitions(),
            proven=self.named.proven,
        )

    def _dependents(self) -> dict[str, tuple[str, ...]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for edges in self.edges.values():
            for relation, number, description in edges:
                if row := self.snapshot.relations.get(relation):
                    found[row[2]].add(description)
                    for column in row[7] or () if number else ():
                        if column[0] == number:
                            found[f"{row[2]}.{column[1]}"].add(description)
        return {name: tuple(sorted(what)) for name, what in found.items()}

    def partitions(self) -> dict[str, str]:
        """Return the topmost table of each partition, by the name of the partition."""
        found = {}
        for oid, parent in self.parents.items():
            top = parent
            while above := self.parents.get(top):
                top = above
            found[self._name(oid)] = self._name(top)
        return found

    def since(self, before: State) -> Collection[int]:
        """Return the units that may differ from those of an earlier state."""
        changed: set[int] = set()
        for serial, units in reversed(self.trail):
            if before.serial == self.serial:
                break
            changed |= units
            if serial == before.serial:
                return changed
        return () if before.serial == self.serial else before.units.keys() | self.units.keys()

    def columns(self, oid: int) -> Columns:
        """Return what is known of the columns of a relation."""
        unit, row = self.units.get(oid), self.snapshot.relations.get(oid)
        if not unit or not row:
            return UNKNOWN
        width = max((column[0] for column in row[7] or ()), default=0)
        return width, unit.counts.get("pg_attrdef", 0)

    def _name(self, oid: int) -> str:
        return str(self.snapshot.relations[oid][2])


def changed(before: State, after: State) -> tuple[list[SchemaObject], list[SchemaObject]]:
    """Return the objects of two states, without units that are the same in both."""
    old, new = (
        [state.units.get(oid, _NONE).objects for oid in after.since(before)]
        for state in (before, after)
    )
    pairs = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
    return [each for was, _ in pairs for each in was], [each for _, now in pairs for each in now]


def facts_after(known: Facts, old: State, new: State) -> Facts:
    """Add the facts after a script to those before it."""
    was, now = old.snapshot, new.snapshot
    is_same = was.objects is now.objects
    objects = new.named.objects
    return replace(
        known,
        indexes=new.named.indexes,
        foreign_keys=new.named.foreign_keys,
        partitions={**known.partitions, **new.partitions()},
        objects=objects,
        objects_created=frozenset() if is_same else objects - old.named.objects,
        object_changes=() if is_same else diff.difference(was, now, was).objects,
    )


def is_explained(old: State, new: State, growth: Mapping[str, int]) -> bool:
    """Whether the catalogs have as many rows as the units: no deleted row was overlooked."""
    grown = {each: new.totals[each] - old.totals[each] for each in COUNTED}
    grown["pg_class"] += grown["pg_index"]
    return all(growth.get(each, 0) == count for each, count in grown.items())


def _totals(units: Iterable[Unit]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for unit in units:
        totals.update(unit.counts)
    return {name: totals[name] for name in COUNTED}


def replaced(old: State, fresh: Mapping[int, Unit], stale: Collection[int]) -> State:
    """Return a state with fresh units in place of stale ones."""
    gone = [old.units[oid] for oid in stale if oid in old.units]
    was = old.snapshot
    relations = _patched(
        was.relations,
        (row[1] for unit in gone for row in unit.relations),
        {row[1]: row for unit in fresh.values() for row in unit.relations},
    )
    objects = _patched(
        was.objects,
        ((row[0], row[1]) for unit in gone for row in unit.parts),
        {(row[0], row[1]): row for unit in fresh.values() for row in unit.parts},
    )
    snapshot = replace(was, relations=relations)
    if objects != was.objects:
        snapshot = replace(snapshot, objects=objects)
    new = _with_units(old, snapshot, fresh, stale)
    return replace(new, mark=old.mark, trail=(*old.trail, (old.serial, frozenset(stale)))[-_TRAIL:])


def of_units(snapshot: Snapshot, units: Mapping[int, Unit]) -> State:
    """Return the state of all units, without a mark."""
    return _with_units(_EMPTY, snapshot, units, ())


def _with_units(
    old: State, snapshot: Snapshot, fresh: Mapping[int, Unit], stale: Collection[int]
) -> State:
    """Return a new state with fresh units in place of stale ones; without a mark and a trail."""
    gone = {oid: old.units[oid] for oid in stale if oid in old.units}
    was, now = dict(_by_name(gone, old.snapshot)), dict(_by_name(fresh, snapshot))
    lost, come = _totals(gone.values()), _totals(fresh.values())
    is_same = snapshot.objects is old.snapshot.objects
    named = Facts(
        indexes=_patched(
            old.named.indexes, was, {name: u.indexes for name, u in now.items() if u.indexes}
        ),
        foreign_keys=(old.named.foreign_keys - _foreign_keys(was)) | _foreign_keys(now),
        proven=_patched(
            old.named.proven, was, {name: u.proven for name, u in now.items() if u.proven}
        ),
        objects=old.named.objects if is_same else facts.names(snapshot),
    )
    return State(
        units=_patched(old.units, stale, fresh),
        snapshot=snapshot,
        totals={name: old.totals[name] - lost[name] + come[name] for name in COUNTED},
        mark=None,
        named=named,
        parents=_patched(
            old.parents, stale, {oid: u.parent for oid, u in fresh.items() if u.parent}
        ),
        edges=_patched(old.edges, stale, {oid: u.edges for oid, u in fresh.items() if u.edges}),
        serial=next(_SERIALS),
    )


def _by_name(units: Mapping[int, Unit], snapshot: Snapshot) -> Iterator[tuple[str, Unit]]:
    known = snapshot.relations
    return ((str(known[oid][2]), unit) for oid, unit in units.items() if oid in known)


def _foreign_keys(units: Mapping[str, Unit]) -> frozenset[tuple[str, frozenset[str]]]:
    return frozenset((name, each) for name, unit in units.items() for each in unit.foreign_keys)


def _patched(old: Mapping[K, V], gone: Iterable[K], fresh: Mapping[K, V]) -> dict[K, V]:
    """Return a copy without some keys and with fresh items."""
    new = dict(old)
    for key in gone:
        new.pop(key, None)
    new.update(fresh)
    return new


_NONE = Unit()
_EMPTY = State({}, Snapshot(), dict.fromkeys(COUNTED, 0), None, Facts(), {}, {})
