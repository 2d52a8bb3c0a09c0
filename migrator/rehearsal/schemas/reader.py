"""Read the state of a scratch database after each step, again only where it changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from operator import attrgetter, itemgetter

from psycopg import sql

from ...postgres.connection import backend_pid
from ...postgres.cursor import Connection
from ...sql.script import Script
from ...tracing import probe
from ...tracing.diff import Row
from .. import facts
from ..facts import UnitRow
from . import changes, marks, schema, state
from .schema import SchemaObject
from .state import Edge, State, Unit

_MANY = 500
"""Relations for which reading everything is not much slower."""
_AND_INDEXES = """
c.oid = any ($1 || array(select indexrelid from pg_catalog.pg_index where indrelid = any ($1)))
"""
# Scripts with these words may turn the counters off, or change dependencies by themselves.
_UNTOLD = ("track_counts", "pg_depend")


class Reader:
    """Reads the states of one scratch database.

    Everything is read from the second session, so that its prepared statements survive what
    migrations do.  Temporary objects have been dropped by then.
    """

    def __init__(self, conn: Connection, watcher: Connection, history: str) -> None:
        self._conn, self._watcher, self._history = conn, watcher, history
        is_new_enough = watcher.info.server_version >= marks.FIRST_VERSION
        self._can_tell = is_new_enough and _is_direct(conn) and _is_direct(watcher)
        if self._can_tell:
            changes.prepare(watcher)
            self._sessions = marks.sessions(watcher)
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
        can_tell = self._can_tell and marks.flush(self._conn, self._sessions)
        # Its settings for the planner would hold to the end of a transaction.
        mark = marks.mark(self._watcher) if can_tell else None
        with self._watcher.transaction(force_rollback=True):
            self._watcher.execute(schema.SETTINGS)
            rows = tuple(schema.rows(self._watcher, self._history))
            snapshot = facts.objects(self._watcher, self._history)
            facts_of_units = facts.units(self._watcher)
        units = _units(rows, snapshot.relations.values(), snapshot.objects, facts_of_units)
        # What this setting turns off, the mark is made of.
        if any("track_counts" in each.definition for each, _ in rows):
            mark = None
        return replace(state.of_units(snapshot, units), mark=mark)

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
        if old.mark is None or not marks.flush(self._conn, self._sessions):
            return None
        tables = {_table(old.snapshot.relations.get(oid)) or oid for oid in touched}
        columns = {oid: old.columns(oid) for oid in tables}
        found = changes.since(self._watcher, old.mark, columns)
        if not found:
            return None
        stale = {*found.relations, *found.gone}
        if len(stale) > _MANY:
            return None
        fresh = self._read_units(sorted(found.relations)) if found.relations else {}
        new = state.replaced(old, fresh, stale) if stale else old
        return replace(new, mark=found.mark) if state.is_explained(old, new, found.growth) else None

    def _read_units(self, oids: Collection[int]) -> dict[int, Unit]:
        chosen = "'{" + ",".join(map(str, oids)) + "}'"
        history = sql.Literal(self._history).as_string(None)
        *_, objects, ((relations, parts),), facts_of_units = marks.ask(
            self._watcher,
            schema.SETTINGS,
            *marks.FEW,
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


def _is_direct(conn: Connection) -> bool:
    """Whether no pooler can give the session to another one: it invents the process's number."""
    return backend_pid(conn) == conn.info.backend_pid


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
