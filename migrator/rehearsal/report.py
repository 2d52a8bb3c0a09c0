"""The nouns of a rehearsal: what the pending migrations would do to a database."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import MigratorError
from ..hazards.catalogue import Facts, Finding, Size
from ..model import Direction, Plan, Step
from ..sql.script import Script, Statement
from ..tracing.trace import Effort, LockMode, Trace
from .data.violations import Question
from .queries.running import Queries, Query
from .schemas.drift import Drift
from .schemas.schema import Difference


@dataclass(frozen=True, slots=True)
class TracedStatement:
    """A statement, and what it did in the rehearsal.

    Attributes:
        rewritten: The size of the tables and indexes that it rewrote or built, in bytes; None
            if that was not measured, as there are no rows.
        took: Of a statement in batches, the seconds of all of them; the trace is of the first.
        changed: The rows that they have changed.
    """

    statement: Statement
    trace: Trace
    effort: Effort
    rewritten: int | None = None
    took: float | None = None
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class BackfillEstimate:
    """What a statement in batches would cost on the target; None for what is not known.

    Attributes:
        table: The one that is walked, or that a repeated statement changes.
        is_repeated: Whether the statement limits itself.
        indexes: Those that serve its WHERE; empty if it reads the whole table.
        locks: Tables and modes, stronger than a change of rows needs.
        rows: How many it changes.
        batches: How many batches, as their time is chosen.
        seconds: With the pauses between the batches.
        wal: In bytes.
        is_few: Whether it walks a whole table for few rows.
        is_measured: Whether the numbers are from a copy with rows.
    """

    statement: Statement
    table: str | None
    is_repeated: bool
    indexes: tuple[str, ...] | None
    locks: tuple[tuple[str, LockMode], ...] = ()
    rows: int | None = None
    batches: int | None = None
    seconds: float | None = None
    wal: int | None = None
    is_few: bool = False
    is_measured: bool = False


@dataclass(frozen=True, slots=True)
class DownCheck:
    """Whether a down script undoes its up script.

    Attributes:
        script: The down script; None only in tests.
        traced: The statements of the down script.
        left: How the schema after up and down differs from before; none if it does not.
        lost: The tables, and columns of other tables, that were restored without their data.
        again: How the schema after a second up differs from that after the first.
        irreversible: The reason that the down file gives; None if it gives none.
        error: What stopped the down script or the second up.
        is_second_up: Whether the error stopped the second up.
        is_stuck: Whether the migration is neither applied nor reverted on the scratch database,
            so that later ones need another one.
    """

    script: Script | None = None
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
        """Whether the down script restores everything, and a second up does the same again."""
        return not (self.left or self.lost or self.again or self.error)


class Answer(enum.StrEnum):
    """Whether the rows of the target break what a migration adds."""

    FAILS = "fails"
    PASSES = "passes"
    TIMED_OUT = "timed-out"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What a migration newly requires of rows, and whether those of the target break it.

    Attributes:
        statement: The one that checks it; None if that is not known.
        relation: The table, as it is called after the migration.
        what: Such as `check positive of public.orders`.
        count: How many `noun`s break it; 0 unless it fails, or if the first ended the check.
        is_more: Whether there are more than that.
        examples: Up to three of them, printable.
        reason: Why there is no answer, or the error that a row causes; None for other answers.
    """

    statement: Statement | None
    relation: str
    what: str
    answer: Answer
    count: int = 0
    is_more: bool = False
    noun: str = "row"
    examples: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def text(self) -> str:
        """Say it in one line."""
        match self.answer:
            case Answer.FAILS if self.reason:
                return f"{self.what} will fail: {self.reason}"
            case Answer.FAILS:
                return f"{self.what} will fail: {self._broken}"
            case Answer.PASSES:
                return f"{self.what}: checked, no row breaks it"
            case Answer.TIMED_OUT:
                return f"{self.what}: not checked in time ({self.reason})"
        return f"{self.what} cannot be checked: {self.reason}"

    @property
    def _broken(self) -> str:
        count = f"{self.count:,}"
        number = f"more than {count}" if self.is_more else count
        verb = "breaks" if number == "1" else "break"
        text = f"{number} {self.noun}{'s' * (number != '1')} {verb} it"
        rest = ", …" if self.count > len(self.examples) else ""
        return text + (f" ({'; '.join(self.examples)}{rest})" if self.examples else "")


class Met(enum.StrEnum):
    """Whether a condition of a script is met."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a script requires or ensures, and what its query gave.

    Attributes:
        line: Of the query in its file.
        is_required: Whether it was asked on the target, before; else on the scratch database.
        reason: Why it is not known, or why the query failed; None for other answers.
    """

    query: Statement
    line: int
    direction: Direction
    is_required: bool
    met: Met
    gave: str | None = None
    reason: str | None = None

    @property
    def text(self) -> str:
        """Say it in one line."""
        down = "down: " * (self.direction is Direction.DOWN)
        what = f"{down}{'require' if self.is_required else 'ensure'} line {self.line}"
        where = "database" if self.is_required else "scratch database"
        gave = f"returned {self.gave} on the {where}" if self.gave else ""
        told = "; ".join(part for part in (gave, self.reason) if part)
        word = {Met.YES: "met", Met.NO: "NOT MET", Met.UNKNOWN: "not known"}[self.met]
        return f"{what}: {word} ({told})" if told else f"{what}: {word}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a migration used on a copy with rows.

    Attributes:
        seconds: From its first statement to its commit, without the time of the traces.
        commit: How many seconds of that the commit took, with the deferred checks before it.
        temporary: The bytes written to temporary files.
    """

    seconds: float
    commit: float
    temporary: int


@dataclass(frozen=True, slots=True)
class RehearsedMigration:
    """A pending migration, and what it did in the rehearsal.

    Attributes:
        traced: The statements of the up script, in order; fewer if one failed.
        findings: In the order of the statements.
        down: None if there is no down script, the up failed, or the down was not run.
        error: What stopped the up; later migrations were not rehearsed.
        facts: What the catalogs said after it, before its down; before it if it failed.
        questions: What it newly requires of rows.
        checks: The answers of the target; none if it was not asked.
        conditions: What the target said of what it requires, and the scratch database of what it
            ensures.
        backfills: What its statements in batches would cost.
        usage: What it used; None if it did not run on a copy with rows, or failed.
    """

    step: Step
    traced: tuple[TracedStatement, ...] = ()
    findings: tuple[Finding, ...] = ()
    down: DownCheck | None = None
    error: MigratorError | None = None
    facts: Facts = field(default_factory=Facts, repr=False)
    questions: tuple[Question, ...] = ()
    checks: tuple[DataCheck, ...] = ()
    conditions: tuple[Condition, ...] = ()
    backfills: tuple[BackfillEstimate, ...] = ()
    usage: Usage | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether it is a repeatable file: its down is the text that was applied before."""
        return self.step.migration is not None and self.step.migration.is_repeatable

    @property
    def is_stuck(self) -> bool:
        """Whether its down script left it neither applied nor reverted."""
        return self.down is not None and self.down.is_stuck


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A query that was not checked, and why: PostgreSQL's message before any migration."""

    query: Query
    reason: str


@dataclass(frozen=True, slots=True)
class QueryCheck:
    """Which queries of the running release were checked.

    Attributes:
        queries: All that were read.
        left_out: Those that cannot be planned before the migrations either.
        unprivileged: How many were checked without the privileges of their role, which the
            scratch database does not have or the rehearsal may not take.
    """

    queries: Queries
    left_out: tuple[LeftOut, ...] = ()
    unprivileged: int = 0

    @property
    def checked(self) -> int:
        """How many queries were checked."""
        return len(self.queries.queries) - len(self.left_out)


@dataclass(frozen=True, slots=True)
class Report:
    """A rehearsal.

    Attributes:
        server: That of the database, as its users know it.
        origin: Where the migrations were rehearsed: what follows "rehearsed on".
        missing: What the scratch server does not have or refused, one sentence each.
        drift: How the target differs from its history; None if they were not compared.
        sizes: Of the target's tables, by name.
        not_rehearsed: The versions after one that failed, in their order.
        queries: None if no queries were given, or nothing is pending.
    """

    database: str
    server: str
    server_version: str
    scratch_version: str
    origin: str
    missing: tuple[str, ...]
    drift: Drift | None
    migrations: tuple[RehearsedMigration, ...]
    sizes: dict[str, Size]
    not_rehearsed: tuple[str, ...] = ()
    queries: QueryCheck | None = None

    @property
    def is_clean(self) -> bool:
        """Whether it leaves nothing to decide."""
        has_drift = self.drift is not None and self.drift.differences
        return not (has_drift or self.not_rehearsed) and not any(
            each.error
            or any(finding.is_open for finding in each.findings)
            or any(condition.met is Met.NO for condition in each.conditions)
            for each in self.migrations
        )


def left(plan: Plan, done: Iterable[RehearsedMigration]) -> tuple[Step, ...]:
    """Return the steps of a plan that were not rehearsed; a repeatable file may come later."""
    versions = {each.step.version for each in done}
    return tuple(step for step in plan.steps if step.version not in versions)
