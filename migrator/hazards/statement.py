"""Show a statement among the others of its script, as the predicates of hazards need it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ..sql.script import Statement, Unit
from ..tracing.trace import LockMode, Relation, Touch, Trace
from .catalogue import Facts

TABLES = frozenset("rpf")
INDEXES = frozenset("iI")
OTHERS = {"v": "view", "m": "materialized view", "S": "sequence"}
CONSTRAINTS = {
    "c": "check",
    "f": "foreign key",
    "p": "primary key",
    "u": "unique constraint",
    "x": "exclusion constraint",
    "t": "constraint trigger",
}
WITH_INDEX = frozenset("pux")  # kinds of constraints
_RUNS_CODE = (("do",), ("call",), ("select",), ("with",))

Traced = tuple[Statement, Trace]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A hazard of one statement, before it is weighed.

    Attributes:
        hazard: Its id.
        relation: What is endangered; None if it is no relation.
        message: With `{size}` where the size of the relation belongs.
        is_large: It weighs whatever the size of the relation.
        is_mild: It is information whatever the size.
        wants_index: As of a finding.
    """

    hazard: str
    relation: Relation | None
    message: str
    is_large: bool = False
    is_mild: bool = False
    wants_index: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One statement among the others of its script.

    Attributes:
        unit: What it takes effect together with.
        before: Those of the script that ran before it, in order.
        later: Those of the script that run after it, in order.
        ours: What the script has created so far, by OID.
        small: Below how many bytes a table is small.
    """

    statement: Statement
    trace: Trace
    path: PurePath
    unit: Unit
    before: Sequence[Traced]
    later: Sequence[Traced]
    ours: Collection[int]
    facts: Facts
    small: int

    def existing(self, kinds: Collection[str]) -> Iterator[Touch]:
        """Yield the touches of relations of some kinds that the script did not create."""
        for touch in self.trace.touches:
            is_ours = touch.is_ours or touch.relation.oid in self.ours
            if touch.relation.kind in kinds and not is_ours:
                yield touch

    def may_be_emptied(self, touch: Touch) -> bool:
        """Whether a table that got another file can be empty by that: by TRUNCATE, anywhere."""
        words = self.statement.words[:1]
        is_ours_to_see = not (touch.types_changed or touch.columns_added or touch.constraints)
        return words == ("truncate",) or (words in _RUNS_CODE and is_ours_to_see)

    def first_name(self, relation: Relation) -> str:
        """Return what a relation was called before the script: the target's name."""
        for _, trace in (*self.before, (self.statement, self.trace), *self.later):
            for touch in trace.touches:
                if touch.relation.oid == relation.oid:
                    return touch.renamed_from or touch.relation.name
        return relation.name

    def table(self, index: Relation) -> Touch | None:
        """Return the touch of the table of an index; None if the statement did not touch it."""
        return next((t for t in self.trace.touches if t.relation.name == index.table), None)

    def reads_rows(self, touch: Touch) -> bool:
        """Whether a table is read for something else than its indexes.

        A partitioned table has no rows but those of its partitions; of a statement that was
        sampled nobody knows.
        """
        touches = self.trace.touches if touch.relation.kind == "p" else (touch,)
        return self.trace.sampled or any(t.scans > len(self.built(t.relation)) for t in touches)

    def built(self, table: Relation) -> list[str]:
        """Return the names of the indexes that the statement created on a table."""
        created = self.trace.created
        return [r.name for r in created if r.kind in INDEXES and r.table == table.name]

    def in_transaction(self, others: Sequence[Traced]) -> list[Traced]:
        """Return those of other statements that run in the same transaction."""
        offsets = {s.offset for s in self.unit.statements} if self.unit.transactional else set()
        return [(s, trace) for s, trace in others if s.offset in offsets]

    def held_before(self, relation: Relation) -> LockMode | None:
        """Return the strongest lock that the transaction held on a relation; None without one."""
        modes = [
            touch.mode
            for _, trace in self.in_transaction(self.before)
            for touch in trace.touches
            if touch.relation.oid == relation.oid and touch.mode
        ]
        return max(modes, default=None)


def blocked(relation: Relation, mode: LockMode | None) -> str:
    """Say whom a lock keeps waiting; nobody writes into a materialized view.

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
