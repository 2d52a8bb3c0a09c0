"""Where migrations are rehearsed, and how one of them is run and traced there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..config import Settings
from ..errors import BlockedError, CancelledError, MigratorError
from ..events import Event, Noticed, Notify, Retrying, StatementFinished, Traced, Waiting
from ..execution import runner, transaction
from ..execution.context import Asks, Context, tracer
from ..hazards import rows
from ..history import recorder
from ..interrupts import Interrupts
from ..model import Plan, Step
from ..postgres import connection
from ..postgres.activity import Observe, observe_nothing
from ..postgres.cursor import Connection
from ..tracing.diff import Snapshot
from . import conditions, prerequisites
from .data.estimates import Estimates
from .meter import Meter
from .report import Condition, TracedStatement
from .schemas.state import State

Execute = Callable[[Context, Step], None]
"""Runs a step."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where migrations are rehearsed.

    Attributes:
        conn: A session of the scratch database or, to roll back, of the target.
        watcher: Another session of the same database.
        schema: That of the history.
        small: As in `RehearsalOptions`.
        pid: The server process of `conn`.
        observe: Looks at a server process from another session.
        is_guarded: Whether the server is the target's own, so that only the scratch database
            may change.
        asks: Whether to find out what migrations newly require of rows.
        conditions: Which conditions are asked, of scripts that run for the first time.
        ensured: What the scripts of one migration ensured without the rows of the target; it grows.
        outcome: What an error says about the target.
        estimates: What the target's planner says of the pending statements.
        meter: Measures the migrations on a copy with rows, where no down is run; None elsewhere.
        target: A session of the target that an empty database stands for; None on a copy of it.
    """

    conn: Connection
    watcher: Connection
    schema: str
    settings: Settings
    small: int
    interrupts: Interrupts
    notify: Notify
    pid: int
    observe: Observe = observe_nothing
    is_guarded: bool = False
    asks: bool = False
    conditions: Asks = Asks.ENSURED
    ensured: list[Condition] = field(default_factory=list)
    outcome: str = "This was on the scratch database; the target database was not touched."
    estimates: Estimates = field(default_factory=dict)
    meter: Meter | None = None
    target: Connection | None = None


def execute_step(context: Context, step: Step) -> None:
    """Run a step as a plan of its own."""
    runner.execute(context, Plan((step,)))


def carry_out(
    stage: Stage,
    step: Step,
    execute: Execute = execute_step,
    *,
    traced: bool = True,
    known: State | None = None,
) -> tuple[tuple[TracedStatement, ...], MigratorError | None]:
    """Run one step; return what its statements did, and the error that stopped it.

    Args:
        traced: Whether that is wanted: not of a script that has run before.
        known: The state before the step; None to ask for what a trace needs.
    """
    if step.script.problems:
        return (), BlockedError.of(step.script.problems, "in the script")
    seen: dict[int, TracedStatement] = {}  # a second attempt traces its statements again

    def listen(event: Event) -> None:
        match event:
            case Traced(_, statement, trace, effort):
                seen[statement.offset] = TracedStatement(statement, trace, effort)
            case StatementFinished(_, statement, took, _, rows) if statement.offset in seen:
                done = seen[statement.offset]
                seen[statement.offset] = replace(done, took=took, changed=rows)
            case Noticed():
                stage.notify(replace(event, is_repeated=not traced))
            case Waiting() | Retrying():
                stage.notify(event)

    # Only a script of one transaction is traced from a single start.
    start = known.snapshot if known and known.mark and step.script.transactional else None
    context = _context(stage, listen, traced=traced, known=start)
    try:
        execute(context, step)
    except CancelledError:
        raise
    except MigratorError as error:
        if not stage.conn.closed:
            with connection.reported():
                connection.forget(stage.conn)  # the failed script may have left a role
        return _with_written(step, tuple(seen.values())), error
    return _with_written(step, tuple(seen.values())), conditions.judge(context, stage.ensured)


def try_out(stage: Stage, step: Step) -> MigratorError | None:
    """Run a transactional step up to its commit, and leave its transaction open.

    Returns:
        The error that stopped it; None if its transaction is open.
    """
    return carry_out(stage, step, transaction.try_out, traced=False)[1]


def run(stage: Stage, step: Step, others: Iterable[str] = ()) -> MigratorError | None:
    """Run a step without tracing it; return the error that stopped it.

    It is run again if what it lacks could be created; `others` are the other scripts.
    """
    error = carry_out(stage, step, traced=False)[1]
    if error and prerequisites.create(stage, step, error, others):
        return carry_out(stage, step, traced=False)[1]
    return error


def _with_written(step: Step, seen: Sequence[TracedStatement]) -> tuple[TracedStatement, ...]:
    traces = rows.with_written(step.script, [(each.statement, each.trace) for each in seen])
    return tuple(replace(a, trace=b) for a, b in zip(seen, traces, strict=True))


def _context(stage: Stage, notify: Notify, *, traced: bool, known: Snapshot | None) -> Context:
    wal = stage.meter is not None and stage.meter.has_wal
    return Context(
        conn=stage.conn,
        pid=stage.pid,
        recorder=recorder.recorder(stage.schema),
        settings=stage.settings,
        interrupts=stage.interrupts,
        notify=notify,
        observe=stage.observe,
        tracer=tracer(stage.watcher, stage.schema, wal=wal, known=known) if traced else None,
        outcome=stage.outcome,
        is_guarded=stage.is_guarded,
        asks=stage.conditions if traced or stage.conditions is Asks.ALL else Asks.NONE,
    )


def touched(traced: Iterable[TracedStatement]) -> set[int]:
    """Return the OIDs of the relations that statements locked or changed."""
    return {touch.relation.oid for each in traced for touch in each.trace.touches}
