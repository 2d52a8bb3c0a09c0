"""Follow the tables of the target through the pending migrations, as the scratch database has them.

Between two migrations the OIDs of tables that pending migrations created change, because each is
reverted and applied again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...hazards.statement import StatementTrace
from ...model import Step
from ...postgres.cursor import Connection
from ...tracing.trace import Trace
from ..report import TracedStatement
from . import constraints, conversions, own_rows, requirements, writes
from .constraints import Requirements, Table
from .rows import Past
from .violations import Question, Stretch


class Lineage:
    """The requirements on rows now, and what has happened to rows since the target's state."""

    def __init__(self, conn: Connection) -> None:
        """Begin in the state of the target.

        Args:
            conn: A session of the scratch database that no migration runs in.
        """
        self._reader = constraints.Reader(conn)
        self._now = self._reader.read()
        self._past = Past(self._now)

    def questions(self, step: Step, traced: Sequence[TracedStatement]) -> tuple[Question, ...]:
        """Return what a migration that has just been applied newly requires, also of its own rows.

        Args:
            step: As planned: what an interrupted one has already done is not known.
        """
        pairs = [(each.statement, each.trace) for each in traced]
        before = self._now
        touched = _touched((trace for _, trace in pairs), before)
        after = self._reader.read_again(touched, before.next)
        tables = {**before.tables, **after.tables}
        is_interrupted = step.start_at > 0 or step.resumes or step.unsure
        start = replace(self._past, everything=self._past.everything or is_interrupted)
        past = [start]
        for written in writes.of_script(step.script, pairs, tables):
            past.append(_after(past[-1], written, (before.tables, after.tables)))
        start_to_end = [_with_columns(each, pairs, before, after) for each in past[1:] + past[-1:]]
        self._past = start_to_end[-1]
        self._now = replace(after, tables=_merged(before, after, touched))
        stretch = Stretch(pairs, before, self._now, start_to_end)
        own = own_rows.find(pairs, before.tables, self._past.target.tables.keys())
        return (*requirements.find(stretch), *own)

    def settle(self, traced: Iterable[TracedStatement]) -> None:
        """Read again what the down of the last migration and its second up have changed.

        Args:
            traced: The statements of up and down.
        """
        before = self._now
        touched = _touched((each.trace for each in traced), before)
        found = self._reader.read_again(touched, before.next)
        self._now = replace(found, tables=_merged(before, found, touched))
        self._past = _renumbered(self._past, before.tables, self._now.tables)


def _touched(traces: Iterable[Trace], before: Requirements) -> set[int]:
    """Return the tables that some statements touched, or whose indexes they did, by OID."""
    by_name = {each.name: oid for oid, each in before.tables.items()}
    found: set[int] = set()
    for touch in (touch for trace in traces for touch in trace.touches):
        table = touch.relation.table
        # A lock that was too brief to be seen leaves only the index.
        found |= {by_name[table]} if table in by_name else set()
        found |= {touch.relation.oid} if touch.relation.kind in "rp" else set()
    return found


def _merged(before: Requirements, found: Requirements, touched: set[int]) -> dict[int, Table]:
    kept = {oid: each for oid, each in before.tables.items() if oid not in touched}
    return kept | dict(found.tables)


def _after(past: Past, written: writes.Writes, states: Sequence[Mapping[int, Table]]) -> Past:
    """Return a past with what a statement writes.

    Args:
        states: The tables before and after its script.
    """
    changed = dict(past.changed)
    for oid, names in written.changed.items():
        numbers = _numbers(names, [each[oid] for each in states if oid in each])
        known = changed.get(oid, frozenset())
        changed[oid] = None if numbers is None or known is None else known | numbers
    return replace(
        past,
        changed=changed,
        added=past.added | written.added,
        removed=past.removed | written.removed,
        everything=past.everything or written.anything,
    )


def _numbers(names: frozenset[str] | None, states: Sequence[Table]) -> frozenset[int] | None:
    """Return the numbers of columns; None for any column."""
    if names is None:
        return None
    columns = [column for table in states for column in table.columns.values()]
    if names - {each.name for each in columns}:
        return None
    return frozenset(each.number for each in columns if each.name in names)


def _with_columns(
    past: Past,
    pairs: Sequence[StatementTrace],
    before: Requirements,
    after: Requirements,
) -> Past:
    filled = past.filled | set(_filled(pairs, before, after, past.target))
    found = conversions.find(pairs, before, after, past)
    return replace(past, filled=filled, conversions={**past.conversions, **found})


def _filled(
    pairs: Sequence[StatementTrace],
    before: Requirements,
    after: Requirements,
    target: Requirements,
) -> Iterator[tuple[int, int]]:
    """Yield the columns that are not on the target and got values when a table was rewritten.

    That is, when they were added, or when their type was changed.
    """
    for _, trace in pairs:
        for touch in trace.touches:
            oid = touch.relation.oid
            if not touch.rewritten or oid not in after.tables:
                continue
            old = before.tables[oid].columns if oid in before.tables else {}
            known = target.tables[oid].columns if oid in target.tables else {}
            for number, column in after.tables[oid].columns.items():
                is_added = touch.columns_added and number not in old
                is_changed = column.name in touch.types_changed and number not in known
                if (is_added or is_changed) and column.missing is None:
                    yield oid, number


def _renumbered(past: Past, before: Mapping[int, Table], now: Mapping[int, Table]) -> Past:
    """Return a past with the OIDs and numbers that tables and columns have now, by their names."""
    by_name = {each.name: oid for oid, each in now.items()}
    oids = {oid: oid if oid in now else by_name.get(each.name, oid) for oid, each in before.items()}

    def column(key: tuple[int, int]) -> tuple[int, int]:
        oid, number = key
        table, again = before.get(oid), now.get(oids.get(oid, oid))
        if table is None or again is None or number not in table.columns:
            return key
        name = table.columns[number].name
        numbers = {each.name: each.number for each in again.columns.values()}
        return again.oid, number if number in again.columns else numbers.get(name, number)

    return replace(
        past,
        changed={
            oids.get(oid, oid): numbers and frozenset(column((oid, each))[1] for each in numbers)
            for oid, numbers in past.changed.items()
        },
        added=frozenset(oids.get(oid, oid) for oid in past.added),
        removed=frozenset(oids.get(oid, oid) for oid in past.removed),
        filled=frozenset(map(column, past.filled)),
        conversions={column(key): text for key, text in past.conversions.items()},
    )
