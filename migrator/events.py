"""What happens during a run, as frozen values: the events and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .model import Plan, Step
from .sql.script import Statement

if TYPE_CHECKING:
    from .tracing.trace import Trace


@dataclass(frozen=True, slots=True)
class Backend:
    """A session of the server, with what a DBA needs to know to act on it.

    Attributes:
        pid: 0 for a prepared transaction, which has no session.
        state: As in `pg_stat_activity`, such as `idle in transaction`; None if it is hidden.
        transaction_age: In seconds; None outside a transaction, or if it is hidden.
        query: What it runs, or ran last, on one line, cut at 200 characters.
    """

    pid: int
    user: str | None
    application: str | None
    host: str | None
    state: str | None
    transaction_age: float | None
    query: str | None

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
        name = f"pid {self.pid}" if self.pid else "no session"
        return f"{name}  {', '.join(filter(None, parts))}".rstrip()


@dataclass(frozen=True, slots=True)
class Objects:
    """What of a database a statement outside a transaction can leave half-made, by OID.

    Attributes:
        invalid_indexes: Those with `indisvalid = false`.
        being_built: Those of them that a session is building right now.
        partitions: Tables that are attached to another one.
        detaching: Those of them whose concurrent DETACH has stopped halfway.
    """

    valid_indexes: frozenset[int] = frozenset()
    invalid_indexes: frozenset[int] = frozenset()
    being_built: frozenset[int] = frozenset()
    partitions: frozenset[int] = frozenset()
    detaching: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notice:
    """What PostgreSQL says beside its answer.

    Attributes:
        severity: `NOTICE`, `WARNING`, `INFO`, … as the server spells it in English.
    """

    severity: str
    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command of the server has come, as it tells itself.

    Attributes:
        command: Such as `CREATE INDEX CONCURRENTLY`.
        phase: In the server's words, such as `building index: scanning table`.
        done: In units; it begins again with each phase.
        total: In units; 0 if the server does not know it.
        unit: `blocks`, `rows`, `bytes`, or `sessions` that are waited for.
    """

    command: str
    phase: str
    done: int
    total: int
    unit: str

    @property
    def share(self) -> float | None:
        """How much of the phase is done, from 0 to 1; None if nobody knows."""
        return min(self.done / self.total, 1.0) if self.total else None


@dataclass(frozen=True, slots=True)
class Observed:
    """What another session sees of one that is at work.

    Attributes:
        blockers: Who holds what it waits for; none if it does not wait.
        progress: How far its command has come; None if the server does not tell.
    """

    blockers: tuple[Backend, ...] = ()
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        plan: The last one, if another runner took a part of the first.
        finished: Steps, in order.
        traces: What the statements of each script did, by version, and by the number of the
            statement in its script, from 0; empty if nothing was traced.
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
    """A statement returned; its transaction, if it has one, is still open.

    Attributes:
        seconds: From the answer before it to its own.
        command: The server's command tag, such as `INSERT 0 3`.
        rows: How many rows it says that it touched; None if it counts none.
        count: How many statements were sent as one batch; `statement` is the first of them.
    """

    step: Step
    statement: Statement
    seconds: float
    command: str
    rows: int | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Noticed:
    """PostgreSQL remarked on a statement; `statement` is None if on one of ours."""

    step: Step
    statement: Statement | None
    notice: Notice


@dataclass(frozen=True, slots=True)
class Traced:
    """What a statement did, as the server tells right after it."""

    step: Step
    statement: Statement
    trace: Trace


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step and its record are committed; `seconds` is the duration that is recorded."""

    step: Step
    seconds: float


@dataclass(frozen=True, slots=True)
class Progressed:
    """A statement is at work, and the server tells how far it has come.

    Attributes:
        seconds: For how long it has been at work.
    """

    step: Step
    statement: Statement
    seconds: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run stands still until somebody else lets go.

    Attributes:
        what: What is waited for: `another runner`, or a step's version.
        blockers: Who is in the way, as far as the server tells.
        seconds: For how long it has waited.
    """

    what: str
    blockers: tuple[Backend, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrying:
    """A step was rolled back for a lock's sake and is tried again.

    Attributes:
        attempt: The try that failed, from 1.
        attempts: How many there may be.
        delay: The pause before the next one, in seconds.
        reason: PostgreSQL's message.
    """

    step: Step
    attempt: int
    attempts: int
    delay: float
    reason: str
    blockers: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class Remarked:
    """Something that the user should know of, as a sentence."""

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
    | Remarked
)

Notify = Callable[[Event], None]
"""Told of every event, in order."""
