"""The nouns of a rehearsal: what the pending migrations would do to a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import MigratorError
from ..hazards.catalogue import Finding, Size
from ..model import Step
from ..sql.script import Statement
from ..tracing.trace import LockMode, Trace
from .schema import Difference


@dataclass(frozen=True, slots=True)
class TracedStatement:
    """One statement, and what it did on the scratch database; `seconds` it took there."""

    statement: Statement
    trace: Trace
    seconds: float


@dataclass(frozen=True, slots=True)
class DownProof:
    """Whether a down undoes its up.

    Attributes:
        traced: The statements of the down.
        left: In what the schema after up and down differs from before; none if it is undone.
        lost: What has its shape again, and not its data: tables, and columns with their table.
        again: In what the schema after a second up differs from that after the first.
        irreversible: The reason that the down file gives; None if it gives none.
        error: What stopped the down or the second up.
        is_second_up: It was the second up that it stopped.
        is_stuck: The migration is not whole on the scratch database any more, so that those
            behind it cannot be rehearsed.
    """

    traced: tuple[TracedStatement, ...] = ()
    left: tuple[Difference, ...] = ()
    lost: tuple[str, ...] = ()
    again: tuple[Difference, ...] = ()
    irreversible: str | None = None
    error: MigratorError | None = None
    is_second_up: bool = False
    is_stuck: bool = False

    @property
    def undoes(self) -> bool:
        """Whether nothing is left of the up, and a second one does the same."""
        return not (self.left or self.lost or self.again or self.error)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One pending migration on the scratch database.

    Attributes:
        traced: The statements of the up, in order; fewer if one failed.
        findings: By statement.
        down: None if there is no down script, the up failed, or it was not tried.
        error: What stopped the up; the migrations behind it were not rehearsed.
    """

    step: Step
    traced: tuple[TracedStatement, ...] = ()
    findings: tuple[Finding, ...] = ()
    down: DownProof | None = None
    error: MigratorError | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether its down has left it neither applied nor taken back."""
        return self.down is not None and self.down.is_stuck


@dataclass(frozen=True, slots=True)
class Report:
    """A rehearsal.

    Attributes:
        origin: How the scratch database got the target's state, as a sentence.
        missing: What the scratch server lacks, such as roles and extensions, as sentences.
        drift: In what the target differs from what its history makes; None if not compared.
        sizes: Of the target's tables, by name.
        not_rehearsed: The versions behind one that failed, in their order.
    """

    database: str
    server_version: str
    scratch_version: str
    origin: str
    missing: tuple[str, ...]
    drift: tuple[Difference, ...] | None
    migrations: tuple[Rehearsed, ...]
    sizes: dict[str, Size]
    not_rehearsed: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left that somebody has to decide on; the downs do not count."""
        return not (self.drift or self.not_rehearsed) and not any(
            each.error or any(finding.stands for finding in each.findings)
            for each in self.migrations
        )


def first_names(traces: Iterable[Trace]) -> dict[int, str]:
    """Return what the relations of a script are called before it, by OID."""
    names: dict[int, str] = {}
    for touch in (touch for trace in traces for touch in trace.touches):
        names.setdefault(touch.relation.oid, touch.renamed_from or touch.relation.name)
    return names


def strong_locks(traces: Iterable[Trace]) -> tuple[tuple[str, LockMode], ...]:
    """Return the locks of a script that can be taken before it starts: tables, by name.

    Those on tables that were there before, from SHARE UPDATE EXCLUSIVE up, each in the
    strongest mode that the script comes to hold, and under the name that it has before the
    script.  LOCK TABLE takes tables only.
    """
    traces = tuple(traces)
    names, modes = first_names(traces), dict[int, LockMode]()
    for touch in (touch for trace in traces for touch in trace.touches):
        oid = touch.relation.oid
        if touch.mode and not touch.is_ours and touch.relation.kind in "rp":
            modes[oid] = max(touch.mode, modes.get(oid, touch.mode))
    strong = LockMode.SHARE_UPDATE_EXCLUSIVE
    return tuple(sorted((names[oid], mode) for oid, mode in modes.items() if mode >= strong))
