"""What happens during a run, as frozen values: the events and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .model import Plan, Step
from .sql.script import Statement

if TYPE_CHECKING:
    from .tracing.trace import Effort, Trace


@dataclass(frozen=True, slots=True)
class Backend:
    """A session or a prepared transaction, with what a DBA needs to know to act on it.

    Attributes:
        pid: None for a prepared transaction, which has no session.
        state: As in `pg_stat_activity`, such as `idle in transaction`; `prepared` for a prepared
            transaction; None if it is hidden.
        transaction_age: In seconds, of a prepared one since it was prepared; None outside a
            transaction, or if it is hidden.
        query: What it runs, or ran last, on one line, cut at 200 characters.
        gid: The identifier of a prepared transaction; None for a session.
    """

    pid: int | None
    user: str | None
    application: str | None
    host: str | None
    state: str | None
    transaction_age: float | None
    query: str | None
    gid: str | None = None

    def __str__(self) -> str:
        age = "" if self.transaction_age is None else f" for {self.transaction_age:.0f} s"
        is_idle = (self.state or "").startswith("idle")
        parts = (
            self.application,
            self.user,
            self.host and f"from {self.host}",
            self.state and f"{self.state}{age}",
            self.query and f"{'last query' if is_idle else 'query'}: {self.query}",
        )
        name = f"pid {self.pid}" if self.gid is None else f"prepared transaction {self.gid_sql}"
        return f"{name}  {', '.join(filter(None, parts))}".rstrip()

    @property
    def gid_sql(self) -> str:
        """The identifier of a prepared transaction as SQL writes it."""
        return "'{}'".format((self.gid or "").replace("'", "''"))


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects that an interrupted statement outside a transaction can leave, by OID.

    Attributes:
        invalid_indexes: Those with `indisvalid = false`.
        being_built: The invalid indexes that a session is building now.
        partitions: Tables that are attached to a partitioned table.
        detaching: The partitions whose DETACH CONCURRENTLY is pending.
    """

    valid_indexes: frozenset[int] = frozenset()
    invalid_indexes: frozenset[int] = frozenset()
    being_built: frozenset[int] = frozenset()
    partitions: frozenset[int] = frozenset()
    detaching: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that PostgreSQL sends besides its answer.

    Attributes:
        severity: `NOTICE`, `WARNING`, `INFO`, …, always in English.
    """

    severity: str
    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Batches:
    """How the batches of a statement go.

    Attributes:
        rows: How many rows were changed so far.
        rate: Rows changed in a second, in this run, pauses included.
        left: The time that the rest of the pass will take, in seconds; None if unknown.
        size: Of the last batch, in blocks or rows.
        seconds: What the last batch took.
        waits_for: Why the next one waits longer; None if it does not.
    """

    rows: int
    rate: float
    left: float | None
    size: int
    seconds: float
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command is, from a view `pg_stat_progress_*`.

    Attributes:
        command: Such as `CREATE INDEX CONCURRENTLY`.
        phase: As the server calls it, such as `building index: scanning table`.
        done: In units; starts again at 0 with each phase.
        total: In units; 0 if unknown.
        unit: `blocks`, `rows`, `bytes`, `batches`, or `sessions` that the command waits for.
        batches: Of a statement that runs in batches; None for others.
    """

    command: str
    phase: str
    done: int
    total: int
    unit: str
    batches: Batches | None = None

    @property
    def share(self) -> float | None:
        """The part of the phase that is done, from 0 to 1; None if unknown."""
        return min(self.done / self.total, 1.0) if self.total else None


@dataclass(frozen=True, slots=True)
class Observed:
    """What another session sees of a running statement.

    Attributes:
        blockers: The sessions that hold the lock it waits for; none if it does not wait.
        progress: None if the server does not report any.
    """

    blockers: tuple[Backend, ...] = ()
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        plan: The one that was run; if another runner did a part of the first plan, a later one.
        finished: In order.
        traces: By version, then by the number of the statement in its script, from 0; empty
            if nothing was traced.
    """

    plan: Plan
    finished: tuple[Step, ...]
    traces: Mapping[str, Mapping[int, Trace]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a message to the server is about.

    Attributes:
        statement: The statement of the script; None if it is one of ours.
    """

    step: Step
    statement: Statement | None = None


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The server has begun a step."""

    step: Step


@dataclass(frozen=True, slots=True)
class StatementFinished:
    """A statement or a batch of them succeeded; its transaction may still be open.

    Attributes:
        statement: The first one of a batch.
        seconds: Since the answer to the statement before.
        command: The server's command tag, such as `INSERT 0 3`.
        rows: The rows that it affected; None if the command does not count them.
        count: How many statements were sent as one batch; 1 without a batch.
    """

    step: Step
    statement: Statement
    seconds: float
    command: str
    rows: int | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Noticed:
    """PostgreSQL sent a notice.

    Attributes:
        statement: None if it concerns one of ours.
        is_repeated: The script has run before, here or on the target, and is run again.
    """

    step: Step
    statement: Statement | None
    notice: Notice
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Traced:
    """A statement was traced."""

    step: Step
    statement: Statement
    trace: Trace
    effort: Effort


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step and its record are committed; `seconds` is the duration that is recorded."""

    step: Step
    seconds: float


@dataclass(frozen=True, slots=True)
class Progressed:
    """A statement is still running, and the server reports its progress.

    Attributes:
        seconds: Since it was sent.
    """

    step: Step
    statement: Statement
    seconds: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run waits for another session.

    Attributes:
        what: `another runner`, or the version that waits for a lock.
        blockers: The sessions that hold the lock, as far as the server shows them.
        seconds: How long it has waited.
        lock: The lock mode that it waits for, such as `ACCESS EXCLUSIVE`; None if unknown.
        relation: The relation to be locked, with its schema; None if unknown.
        statement: The statement that waits; None if it is not one of the migration's.
    """

    what: str
    blockers: tuple[Backend, ...]
    seconds: float
    lock: str | None = None
    relation: str | None = None
    statement: Statement | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """A step was rolled back after a lock timeout or deadlock, and is retried.

    Attributes:
        attempt: The one that failed, from 1.
        attempts: The highest number of attempts.
        delay: The pause before the next attempt, in seconds.
        reason: PostgreSQL's message.
    """

    step: Step
    attempt: int
    attempts: int
    delay: float
    reason: str
    blockers: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class Losing:
    """A step will remove data; sent before the first step of the run begins.

    Attributes:
        text: What will be removed, such as `drops public.payments, 1.0 M rows, 72 MB`.
        rows: Of the table, or of all tables of the schema, as estimated; None if unknown.
        bytes: Of the same, without indexes; None if unknown.
    """

    step: Step
    statement: Statement
    text: str
    rows: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Remarked:
    """Something that the user should know, as a sentence."""

    text: str


Event = (
    StepStarted
    | StatementFinished
    | Traced
    | Noticed
    | StepFinished
    | Progressed
    | Waiting
    | Retrying
    | Losing
    | Remarked
)

Notify = Callable[[Event], None]
"""Told of every event, in order."""
