"""Be the one runner of a history: take its lock, plan again, run the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from psycopg.pq import TransactionStatus

from ..errors import ConfigurationError, HistoryError, TakenError
from ..events import Event, Outcome, Remarked, Traced
from ..history import recorder, table
from ..interrupts import Interrupts
from ..model import Direction, Plan
from ..planning.planner import Request
from ..postgres import activity, connection
from ..postgres.lock import runner_lock
from ..session import Notify, Session
from ..tracing import probe
from ..tracing.trace import Trace, to_json
from . import transaction
from .messages import Context, Tracer


@dataclass(frozen=True, slots=True)
class Lock:
    """What the one runner of a history has.

    Attributes:
        shares_sessions: A pooler gives it a session for each transaction only.
    """

    interrupts: Interrupts
    shares_sessions: bool


def carry_out(
    session: Session,
    request: Request,
    notify: Notify,
    *,
    agreed: Plan,
    trace: bool = False,
    tells_each: bool = True,
) -> Outcome:
    """Take the runner's lock, plan and run.

    Args:
        agreed: The plan that the user saw; a request that reverts runs this one or none.
        trace: Whether to ask after each statement what it did, and to log that.
        tells_each: Whether `notify` is to hear of each statement that has finished.

    Raises:
        BlockedError: Nothing was run, for these reasons.
        HistoryError: The history has changed since, and the plan reverts.
        MigratorError: As `transaction.execute` and `lock.runner_lock`.
    """
    with (
        locked(session, notify) as lock,
        activity.watching(session.database) as observe,
        _tracing(session, notify, trace=trace) as tracing,
    ):
        context = Context(
            conn=session.conn,
            recorder=recorder.recorder(session.history.schema),
            settings=session.settings,
            interrupts=lock.interrupts,
            notify=tracing.notify,
            observe=observe,
            pid=session.history.pid,
            idle_limits=connection.idle_limits(session.conn),
            locks=request.rehearsed.locks if request.rehearsed else {},
            tracer=tracing.tracer,
            tells_each=tells_each,
        )
        try:
            plan = _run(session, request, context, lock, agreed=agreed)
        finally:
            tracing.record(context)
        return Outcome(plan, tuple(context.finished), tracing.traces())


def _run(
    session: Session,
    request: Request,
    context: Context,
    lock: Lock,
    *,
    agreed: Plan,
) -> Plan:
    """Plan under the lock and run, again where another runner was faster; return the last plan."""
    taken: set[str] = set()
    # A version can only be taken by a runner that had the lock when we had lost it;
    # each time it is one version less for us.
    while True:
        plan = session.plan(request)
        if request.reverts and _versions(plan) != _versions(agreed):
            raise HistoryError(
                "another runner has changed the history meanwhile; finished before: "
                + (", ".join(step.version for step in context.finished) or "nothing"),
                hint="look at it, and decide again: migrator status",
            )
        if lock.shares_sessions:
            _refuse_without_session(plan)
        try:
            transaction.execute(context, plan)
        except TakenError as error:
            if error.message in taken:
                raise  # a row that we are not let see, as by row security
            taken.add(error.message)
            context.notify(Remarked(error.message))
        else:
            return plan


@dataclass(slots=True)
class _Tracing:
    """What the statements of a run did, as far as somebody wants to know."""

    forward: Notify
    tracer: Tracer | None
    seen: dict[str, dict[int, Traced]] = field(default_factory=dict)

    def notify(self, event: Event) -> None:
        if isinstance(event, Traced):
            # What is tried again is seen again: the last try counts.
            self.seen.setdefault(event.step.version, {})[event.statement.offset] = event
        self.forward(event)

    def record(self, context: Context) -> None:
        """Add what finished steps did to the log."""
        if self.tracer is None or context.conn.info.transaction_status != TransactionStatus.IDLE:
            return  # the connection is lost, or the user did not wait for the statement's end
        finished = {s.version for s in context.finished if s.direction is Direction.UP}
        for version in sorted(finished & self.seen.keys()):
            detail = [to_json(event.trace) for event in self.seen[version].values()]
            with connection.reported(context.recorder.schema):
                connection.forget(context.conn)  # a failed script may have left another role
                connection.send(context.conn, *context.recorder.trace(version, json.dumps(detail)))

    def traces(self) -> dict[str, dict[int, Trace]]:
        return {version: _by_number(events) for version, events in self.seen.items()}


def _by_number(events: Mapping[int, Traced]) -> dict[int, Trace]:
    """Give the traces of one script by the number of the statement in it, from 0."""
    script = next(iter(events.values())).step.script
    offsets = [s.offset for unit in script.units for s in unit.statements]
    return {offsets.index(offset): event.trace for offset, event in events.items()}


@contextmanager
def _tracing(session: Session, notify: Notify, *, trace: bool) -> Iterator[_Tracing]:
    if not trace:
        yield _Tracing(notify, None)
        return
    schema, version = session.history.schema, session.conn.info.server_version
    with closing(connection.connect(session.database)) as watcher:
        tracer = Tracer(probe.start(schema), probe.prepare(schema, version), schema, watcher)
        yield _Tracing(notify, tracer)


def _refuse_without_session(plan: Plan) -> None:
    """Refuse what needs a session of its own, where a pooler hands out any for a transaction.

    Raises:
        ConfigurationError: A step runs statement by statement: its settings would reach
            other clients, and nothing could tell the next runner that it is still at work.
    """
    versions = dict.fromkeys(s.version for s in plan.steps if not s.script.transactional)
    if versions:
        raise ConfigurationError(
            "the database is behind a pooler in transaction mode, and this needs a session "
            f"of its own, because it runs outside a transaction: {', '.join(versions)}",
            detail="Nothing was run.",
            hint="connect to PostgreSQL itself, or to a pool in session mode: "
            "migrator --database-url URL up",
        )


@contextmanager
def locked(session: Session, notify: Notify) -> Iterator[Lock]:
    """Be the one runner of this history for a `with`; the history is there from then on.

    Raises:
        MigratorError: As `lock.runner_lock`.
    """
    schema = session.history.schema
    with Interrupts() as interrupts, closing(connection.connect(session.database)) as keeper:
        with connection.reported(schema):
            connection.refuse_standby(session.conn)
            shares = session.is_pooled and connection.shares_sessions(session.conn, keeper)
        with runner_lock(
            keeper,
            schema,
            worker=None if shares else session.conn,
            patience=session.settings.lock_wait,
            notify=notify,
            interrupts=interrupts,
        ):
            with connection.reported(schema):
                session.history = table.ensure(session.conn, schema)
            yield Lock(interrupts, shares)


def _versions(plan: Plan) -> list[tuple[str, Direction]]:
    return [(step.version, step.direction) for step in plan.steps]
