"""The statement under assessment, and its context in the script."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ..sql.script import Statement, Unit
from ..tracing.trace import LockMode, Relation, Touch, Trace
from .catalogue import Facts, Timing

TABLES = frozenset("rpf")
INDEXES = frozenset("iI")
OTHER_RELATIONS = {"v": "view", "m": "materialized view", "S": "sequence", "c": "composite type"}
CONSTRAINTS = {
    "c": "check",
    "f": "foreign key",
    "p": "primary key",
    "u": "unique constraint",
    "x": "exclusion constraint",
    "t": "constraint trigger",
}
CONSTRAINTS_WITH_INDEX = frozenset("pux")
_RUNS_CODE = (("do",), ("call",), ("select",), ("with",))

StatementTrace = tuple[Statement, Trace]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hazard of one statement, before the size of the relation and comments are considered.

    Attributes:
        hazard: The id of the hazard.
        relation: None if the hazard is about no relation.
        message: With `{size}` where the size of the relation goes.
        is_finding: Whether it is a finding even if the relation is small.
        is_note: Whether it is a note even if the relation is large.
        is_made: Whether it is about something else than a relation that an earlier pending script
            made.
        missing_index: As in `Finding`.
        lost: As in `Finding`.
        rewritten: As in `Finding`.
        held: For how many seconds the table's blocking lock was held; None if not measured.
    """

    hazard: str
    relation: Relation | None
    message: str
    is_finding: bool = False
    is_note: bool = False
    is_made: bool = False
    missing_index: tuple[str, ...] = ()
    lost: str | None = None
    rewritten: str | None = None
    held: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementContext:
    """The statement under assessment, and what its script did before and after it.

    Attributes:
        unit: The transaction, or the single statement, that it belongs to.
        before: The earlier statements of the script, in order.
        later: The later statements of the script, in order.
        created: The relations that the script has created so far, by OID.
        names: The names that relations had before the script, by OID.
        small: A table below this size in bytes is small.
        timing: None if the script did not run on a copy with rows.
        is_batched: Whether the statement runs in batches, each in a transaction of its own.
    """

    statement: Statement
    trace: Trace
    path: PurePath
    unit: Unit
    before: Sequence[StatementTrace]
    later: Sequence[StatementTrace]
    created: Collection[int]
    names: Mapping[int, str]
    facts: Facts
    small: int
    timing: Timing | None = None
    is_batched: bool = False

    def existing(self, kinds: Collection[str]) -> Iterator[Touch]:
        """Yield the touches of relations of some kinds that the script did not create."""
        for touch in self.trace.touches:
            is_ours = touch.is_ours or touch.relation.oid in self.created
            if touch.relation.kind in kinds and not is_ours:
                yield touch

    def may_empty(self, touch: Touch) -> bool:
        """Whether a table may have a new file because of a TRUNCATE, here or in a function."""
        words = self.statement.words[:1]
        is_rewrite = touch.types_changed or touch.columns_added or touch.constraints
        return words == ("truncate",) or (words in _RUNS_CODE and not is_rewrite)

    def name_before(self, relation: Relation) -> str:
        """Return the name that a relation had before the script."""
        return self.names.get(relation.oid, relation.name)

    def is_made(self, relation: Relation) -> bool:
        """Whether an earlier pending script made a relation; of an index, its table counts."""
        return (relation.table or self.name_before(relation)) in self.facts.made.relations

    def table(self, index: Relation) -> Touch | None:
        """Return the touch of the table of an index; None if the statement did not touch it."""
        return next((t for t in self.trace.touches if t.relation.name == index.table), None)

    def reads_rows(self, touch: Touch) -> bool:
        """Whether a table is scanned more often than its new indexes explain.

        The rows of a partitioned table are in its partitions.  A sampled trace counts no scans,
        so any table may have been read.
        """
        touches = self.trace.touches if touch.relation.kind == "p" else (touch,)
        return self.trace.sampled or any(t.scans > len(self.built(t.relation)) for t in touches)

    def built(self, table: Relation) -> list[str]:
        """Return the names of the indexes that the statement created on a table."""
        created = self.trace.created
        return [r.name for r in created if r.kind in INDEXES and r.table == table.name]

    def in_transaction(self, others: Sequence[StatementTrace]) -> list[StatementTrace]:
        """Return those of some statements that run in the same transaction."""
        offsets = {s.offset for s in self.unit.statements} if self.unit.transactional else set()
        return [(s, trace) for s, trace in others if s.offset in offsets]

    def held_before(self, relation: Relation) -> LockMode | None:
        """Return the strongest lock that the transaction already held; None if it held none."""
        earlier = touches_of(relation, self.in_transaction(self.before))
        return max((touch.mode for touch in earlier if touch.mode), default=None)

    def is_too_long(self, seconds: float) -> bool:
        """Whether a blocking lock was held longer than the limit, on a copy with rows."""
        return self.timing is not None and seconds > self.timing.limit

    def seconds_held(self, relation: Relation) -> float | None:
        """Return the longest time that the table had a blocking lock, on a copy with rows.

        Only locks that the transaction had after this statement count; None if it had none.
        """
        table = self.table(relation) if relation.table else None
        oid = table.relation.oid if table else relation.oid
        held = self.timing.held if self.timing else {}
        statements = [self.statement, *(each for each, _ in self.in_transaction(self.before))]
        times = (held[s.offset].get(oid) for s in statements if s.offset in held)
        return max((each for each in times if each is not None), default=None)


def touches_of(relation: Relation, traced: Iterable[StatementTrace]) -> list[Touch]:
    """Return what some statements did to a relation, in their order."""
    touches = (touch for _, trace in traced for touch in trace.touches)
    return [touch for touch in touches if touch.relation.oid == relation.oid]


def blocked(relation: Relation, mode: LockMode | None) -> str:
    """Say what a lock blocks; empty for nothing.  A materialized view has no other writers.

    >>> blocked(Relation(1, "public.t", "r"), LockMode.SHARE)
    'blocks writes'
    """
    if mode and mode.blocks_reads:
        return "blocks reads and writes"
    return "blocks writes" if mode and mode.blocks_writes and relation.kind != "m" else ""


def listed(names: Iterable[str]) -> str:
    """Join names for a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last
