"""What a run needs."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..config import Settings
from ..events import Notify
from ..history.recorder import Recorder
from ..interrupts import Interrupts
from ..model import Direction, Repeatable, Step
from ..postgres.activity import Observe
from ..postgres.cursor import Connection
from ..sql.script import Statement
from ..tracing import probe
from ..tracing.diff import Snapshot


@dataclass(frozen=True, slots=True)
class Tracer:
    """The queries that ask what a statement did, for one server and history.

    Attributes:
        start: Asks what there is before the first statement.
        prepare: Prepares the query for the time after each statement.
        watcher: Another session of the database, to watch statements outside a transaction.
        known: What there is before the first statement, so that `start` asks only for the time
            and the WAL; None if that is not known.
    """

    start: bytes
    prepare: bytes
    watcher: Connection
    known: Snapshot | None = None


def tracer(
    watcher: Connection, schema: str, *, wal: bool = False, known: Snapshot | None = None
) -> Tracer:
    """Make the tracer of a history.

    Args:
        watcher: A session that does nothing else.
        wal: Whether to ask how much WAL each statement wrote.
        known: As in `Tracer`, for a script that is one transaction.
    """
    start = probe.clock(wal=wal) if known else probe.start(schema, wal=wal)
    prepare = probe.prepare(schema, watcher.info.server_version, wal=wal)
    return Tracer(start, prepare, watcher, known)


class Asks(enum.Enum):
    """Which conditions of scripts are asked."""

    ALL = enum.auto()  # all have to be met
    ENSURED = enum.auto()  # only `ensure`; the answers are kept, and none of them stops the run
    NONE = enum.auto()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an `ensure` query of a script gave, in words; `true` if it is met."""

    step: Step
    query: Statement
    gave: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a run works with, and what it has committed.

    Attributes:
        conn: The session that the migrations run in.
        pid: The server process of `conn`.
        observe: Looks at a server process from another session.
        locks: The tables and lock modes of each version, as a rehearsal has shown them.  They are
            taken before the work, all or none.
        remarks: What the log is to say of a version when it is reverted.
        tracer: None if statements are not traced.
        outcome: What an error says in place of what was rolled back and what is kept; it then has
            no hint, and is not logged.  None for a run, a text for a rehearsal.
        repeatables: The repeatable files as they were before the run, to name in errors.
        is_guarded: Whether a change of what all databases of the server share is an error.
        asks: A database without the rows of the target cannot say whether conditions are met.
        asked: The answers with `Asks.ENSURED`; it grows.
        started: When each step began first, by version and direction, by the monotonic clock; it
            grows.
        finished: The steps finished so far, in order; it grows.
        unflushed: Those of them that a crash of the server could undo: no later commit has waited
            for the disk.
    """

    conn: Connection
    pid: int
    recorder: Recorder
    settings: Settings
    interrupts: Interrupts
    notify: Notify
    observe: Observe
    locks: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    tracer: Tracer | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)
    outcome: str | None = None
    repeatables: tuple[Repeatable, ...] = ()
    is_guarded: bool = False
    asks: Asks = Asks.ALL
    asked: list[Asked] = field(default_factory=list)
    started: dict[tuple[str, Direction], float] = field(default_factory=dict)
    finished: list[Step] = field(default_factory=list)
    unflushed: list[Step] = field(default_factory=list)

    def seconds(self, step: Step) -> float | None:
        """Return the time since a step began first; None if it has not."""
        began = self.started.get((step.version, step.direction))
        return None if began is None else time.monotonic() - began
