"""Read the state of a scratch database after each step, again only where it changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from operator import attrgetter, itemgetter
from typing import TypeVar

from psycopg import sql

from ...hazards.catalogue import Facts
from ...postgres.connection import backend_pid
from ...postgres.cursor import Connection
from ...sql.script import Script
from ...tracing import diff, probe
from ...tracing.diff import Row, Snapshot
from .. import facts
from ..facts import COUNTED, UnitRow
from . import changes, schema
from .changes import Mark
from .schema import SchemaObject

_MANY = 500
"""Relations for which reading everything is not much slower."""
_AND_INDEXES = """
c.oid = any ($1 || array(select indexrelid from pg_catalog.pg_index where indrelid = any ($1)))
"""


# Scripts with these words may turn the counters off, or change dependencies by themselves.
_UNTOLD = ("track_counts", "pg_depend")
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

    def _name(self, oid: int) -> str:
        return str(self.snapshot.relations[oid][2])


class Reader:
    """Reads the states of one scratch database.

    Everything is read from the second session, so that its prepared statements survive what
    migrations do.  Temporary objects have been dropped by then.
    """

    def __init__(self, conn: Connection, watcher: Connection, history: str) -> None:
        self._conn, self._watcher, self._history = conn, watcher, history
        is_new_enough = watcher.info.server_version >= changes.FIRST_VERSION
        self._can_tell = is_new_enough and _is_direct(conn) and _is_direct(watcher)
        if self._can_tell:
            changes.prepare(watcher)
            self._sessions = changes.sessions(watcher)
            relations = probe.of_relations(history, _AND_INDEXES)
            parts = probe.of_objects("relation = any ($1)")
            for name, parameters, text in (
                ("objects", "text, oid[]", schema.query_of_relations()),
                ("relations", "oid[]", f"select ({relations}), ({parts})"),
                ("facts", "oid[]", facts.query_of_units("c.oid = any ($1)")),
            ):
                watcher.execute(f"prepare migrator_{name} ({parameters}) as {text}".encode())

    def read(self) -> State:
        """Read everything."""
        can_tell = self._can_tell and changes.flush(self._conn, self._sessions)
        # Its settings for the planner would hold to the end of a transaction.
        mark = changes.mark(self._watcher) if can_tell else None
        with self._watcher.transaction(force_rollback=True):
            self._watcher.execute(schema.SETTINGS)
            rows = tuple(schema.rows(self._watcher, self._history))
            snapshot = facts.objects(self._watcher, self._history)
            facts_of_units = facts.units(self._watcher)
        units = _units(rows, snapshot.relations.values(), snapshot.objects, facts_of_units)
        # What this setting turns off, the mark is made of.
        if any("track_counts" in each.definition for each, _ in rows):
            mark = None
        return replace(_with_units(_EMPTY, snapshot, units, ()), mark=mark)

    def after(self, script: Script, old: State, touched: Collection[int]) -> State:
        """Read the state after a script; only where it changed, if that can be told.

        Args:
            touched: As in `again`.
        """
        return self.again(old, touched) if can_tell(script) else self.read()

    def again(self, old: State, touched: Collection[int]) -> State:
        """Read what has changed since a state, by transactions that are committed.

        Args:
            touched: The OIDs of relations that were locked or changed as far as is known.
        """
        return self.part(old, touched) or self.read()

    def part(self, old: State, touched: Collection[int]) -> State | None:
        """As `again`; None if what changed cannot be told, or is too much."""
        if old.mark is None or not changes.flush(self._conn, self._sessions):
            return None
        tables = {_table(old.snapshot.relations.get(oid)) or oid for oid in touched}
        found = changes.since(self._watcher, old.mark, tables)
        if not found:
            return None
        stale = {*tables, *found.relations} if found.growth else set()
        if len(stale) > _MANY:
            return None
        new = _replaced(old, self._read_units(sorted(stale)), stale) if stale else old
        return replace(new, mark=found.mark) if _is_explained(old, new, found.growth) else None

    def _read_units(self, oids: Collection[int]) -> dict[int, Unit]:
        chosen = "'{" + ",".join(map(str, oids)) + "}'"
        history = sql.Literal(self._history).as_string(None)
        *_, objects, ((relations, parts),), facts_of_units = changes.ask(
            self._watcher,
            schema.SETTINGS,
            *changes.FEW,
            f"execute migrator_objects ({history}, {chosen})",
            f"execute migrator_relations ({chosen})",
            f"execute migrator_facts ({chosen})",
        )
        by_key = {(row[0], row[1]): row for row in parts or ()}
        return _units(map(schema.of_row, objects), relations or (), by_key, facts_of_units)


def can_tell(script: Script) -> bool:
    """Whether it can be told what a script changes, other than by a full reading."""
    source = script.source.lower()
    return script.transactional and not any(word in source for word in _UNTOLD)


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


def _is_direct(conn: Connection) -> bool:
    """Whether no pooler can give the session to another one: it invents the process's number."""
    return backend_pid(conn) == conn.info.backend_pid


def _is_explained(old: State, new: State, growth: Mapping[str, int]) -> bool:
    """Whether the catalogs have as many rows as the units: no deleted row was overlooked."""
    grown = {each: new.totals[each] - old.totals[each] for each in COUNTED}
    grown["pg_class"] += grown["pg_index"]
    return all(growth.get(each, 0) == count for each, count in grown.items())


def _units(
    objects: Iterable[tuple[SchemaObject, int]],
    relations: Iterable[Row],
    parts: Mapping[tuple[int, int], Row],
    facts_of_units: Iterable[UnitRow],
) -> dict[int, Unit]:
    by_unit: defaultdict[int, list[SchemaObject]] = defaultdict(list)
    for each, oid in objects:
        by_unit[oid].append(each)
    rows: defaultdict[int, list[Row]] = defaultdict(list)
    for row in relations:
        rows[_table(row) or row[1]].append(row)
    known: defaultdict[int, defaultdict[str, list[Edge]]]
    known = defaultdict(lambda: defaultdict(list))
    for what, oid, number, column, text in facts_of_units:
        known[oid][what].append((number, column, text))
    return {
        oid: Unit(
            objects=tuple(sorted(by_unit[oid], key=attrgetter("kind", "name"))),
            relations=tuple(sorted(rows[oid], key=itemgetter(1))),
            edges=tuple(sorted(known[oid]["edge"])),
            proven=frozenset(text for _, _, text in known[oid]["proven"]),
            indexes=tuple(sorted(tuple(text.split("\x1f")) for *_, text in known[oid]["index"])),
            foreign_keys=tuple(
                sorted(
                    (frozenset(text.split("\x1f")) for *_, text in known[oid]["foreign key"]),
                    key=sorted,
                )
            ),
            parent=next((number for number, *_ in known[oid]["parent"]), None),
            parts=tuple(
                parts[catalog, number]
                for catalog, number, _ in sorted(known[oid]["object"], key=itemgetter(0, 1))
                if (catalog, number) in parts
            ),
            counts={text: number for number, _, text in known[oid]["count"]},
        )
        for oid in {*by_unit, *rows, *known}
    }


def _table(row: Row | None) -> int | None:
    """Return the OID of the table of an index; None for other relations."""
    return row[5] if row else None


def _totals(units: Iterable[Unit]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for unit in units:
        totals.update(unit.counts)
    return {name: totals[name] for name in COUNTED}


def _replaced(old: State, fresh: Mapping[int, Unit], stale: Collection[int]) -> State:
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
