"""What happens during a run, as frozen values that a callback is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .activity import Backend, Notice, Progress
from .model import Step
from .script import Statement

if TYPE_CHECKING:
    from .traces import Trace


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
    """

    step: Step
    statement: Statement
    seconds: float
    command: str
    rows: int | None


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
    """A step and its record are committed; `seconds` is the time since it started."""

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
