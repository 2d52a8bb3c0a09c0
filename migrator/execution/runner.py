"""Run what is pending as the only runner of a history: lock, plan, execute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby

import psycopg
from psycopg.pq import TransactionStatus

from ..errors import ConfigurationError, HistoryError, TakenError, listed
from ..events import Event, Notify, Outcome, Remarked, Traced
from ..history import recorder, table
from ..interrupts import ForcedStopError, Interrupts
from ..model import Direction, Plan, Step
from ..planning.planner import Request
from ..postgres import activity, connection
from ..postgres.cursor import send
from ..postgres.lock import runner_lock
from ..session import Session
from ..tracing.trace import Trace, to_json
from . import batch, no_transaction, retry, squash
from .context import Context, Tracer, tracer
from .transaction import Transaction

Prepare = Callable[[Plan, Interrupts], None]
"""Called under the runner's lock before a plan is run; if it raises, the plan is not run."""

_CANCEL = 1.0  # seconds for the server to take the request


def carry_out(
    session: Session,
    request: Request,
    notify: Notify,
    *,
    agreed: Plan,
    trace: bool = False,
    remarks: Mapping[str, str] | None = None,
    prepare: Prepare | None = None,
) -> Outcome:
    """Take the runner's lock, plan, and run the plan.

    Args:
        agreed: The plan that the user saw; a request that reverts runs this one or none.
        trace: Whether to ask after each statement what it did, and to log that.
        remarks: What the log is to say of a version when it is reverted.
        prepare: Called once with the plan, before its first step; not if it has none.

    Raises:
        BlockedError: Nothing was run, for these reasons.
        HistoryError: The history has changed since `agreed`, and the request reverts.
        MigratorError: As `execute` and `lock.runner_lock`.
    """
    with (
        locked(session, notify) as lock,
        activity.watching(session.database) as observe,
        _tracing(session, notify, trace=trace) as tracing,
    ):
        context = Context(
            conn=session.conn,
            pid=session.history.pid,
            recorder=recorder.recorder(session.history.schema),
            settings=session.settings,
            interrupts=lock.interrupts,
            notify=tracing.notify,
            observe=observe,
            locks=request.rehearsed.locks if request.rehearsed else {},
            tracer=tracing.tracer,
            remarks=remarks or {},
            repeatables=agreed.repeatables,
        )
        try:
            plan = _plan_and_run(session, request, context, lock, agreed, prepare)
        finally:
            tracing.record(context)
        return Outcome(plan, tuple(context.finished), tracing.traces())


def _plan_and_run(
    session: Session,
    request: Request,
    context: Context,
    lock: Lock,
    agreed: Plan,
    prepare: Prepare | None,
) -> Plan:
    """Plan under the lock and run; plan again if another runner was faster.

    Returns:
        The last plan.
    """
    taken: set[str] = set()
    # Another runner can only take a version if we have lost the lock.  Each time there is one
    # version less to run.
    while True:
        plan = session.plan(request)
        if request.reverts and _versions(plan) != _versions(agreed):
            raise HistoryError(
                "another migrator has changed the history; finished before: "
                + (listed([step.version for step in context.finished]) or "nothing"),
                hint="check it before you decide again: migrator status",
            )
        if lock.shares_sessions:
            _refuse_without_session(plan)
        if prepare and plan.steps:
            prepare(plan, lock.interrupts)
            prepare = None
        squash.record(session, plan.squashed, context.notify)
        try:
            execute(context, plan)
        except TakenError as error:
            if error.message in taken:
                raise  # it is not in the history that we see
            taken.add(error.message)
            context.notify(Remarked(error.message))
        else:
            return plan


def execute(context: Context, plan: Plan) -> None:
    """Run every step of a plan, in order, and stop at the first error.

    Transactional steps are sent without waiting for one another; after a failed one the server
    runs none.  A no-transaction step waits for those before it.

    Raises:
        MigratorError: As `retry.run`; the steps before are kept.
    """
    in_batches = context.tracer is None and batch.are_allowed(context.conn, plan)
    for transactional, group in groupby(plan.steps, key=lambda step: step.script.transactional):
        steps = tuple(group)
        if transactional:
            if steps[0].resumes:
                no_transaction.clear_left(context, steps[0])
            retry.run(context, _transactions(context, steps, in_batches=in_batches))
            continue
        for step in steps:
            retry.stop_if_interrupted(context)
            no_transaction.run_step(context, step)


def _transactions(
    context: Context, steps: Sequence[Step], *, in_batches: bool
) -> list[Transaction]:
    return [
        Transaction(
            context,
            step,
            waits=step is steps[-1] or context.settings.flush_each,
            in_batches=in_batches,
        )
        for step in steps
    ]


@dataclass(frozen=True, slots=True)
class Lock:
    """What the only runner of a history holds.

    Attributes:
        shares_sessions: A pooler gives it another session for each transaction.
    """

    interrupts: Interrupts
    shares_sessions: bool


@dataclass(slots=True)
class _Tracing:
    """What the statements of a run did, if they are traced."""

    forward: Notify
    tracer: Tracer | None
    seen: dict[str, dict[int, Traced]] = field(default_factory=dict)

    def notify(self, event: Event) -> None:
        if isinstance(event, Traced):
            # A retry traces its statements again: the last attempt counts.
            self.seen.setdefault(event.step.version, {})[event.statement.offset] = event
        self.forward(event)

    def record(self, context: Context) -> None:
        """Add what finished steps did to the log."""
        if self.tracer is None or context.conn.info.transaction_status != TransactionStatus.IDLE:
            return  # the connection is lost, or a second signal stopped the wait for a statement
        finished = {s.version for s in context.finished if s.direction is Direction.UP}
        for version in sorted(finished & self.seen.keys()):
            detail = [to_json(event.trace) for event in self.seen[version].values()]
            with connection.reported(context.recorder.schema):
                connection.forget(context.conn)  # a failed script may have left another role
                with connection.writing(context.conn):
                    send(context.conn, *context.recorder.trace(version, json.dumps(detail)))

    def traces(self) -> dict[str, dict[int, Trace]]:
        return {version: _by_number(events) for version, events in self.seen.items()}


def _by_number(events: Mapping[int, Traced]) -> dict[int, Trace]:
    """Return the traces of one script by the number of the statement in it, from 0."""
    script = next(iter(events.values())).step.script
    offsets = [s.offset for unit in script.units for s in unit.statements]
    return {offsets.index(offset): event.trace for offset, event in events.items()}


@contextmanager
def _tracing(session: Session, notify: Notify, *, trace: bool) -> Iterator[_Tracing]:
    if not trace:
        yield _Tracing(notify, None)
        return
    with closing(connection.connect_own(session.database)) as watcher:
        yield _Tracing(notify, tracer(watcher, session.history.schema))


def _refuse_without_session(plan: Plan) -> None:
    """Refuse a no-transaction script where a pooler gives each transaction another session.

    Its settings would reach other clients, and the next runner could not tell that a statement is
    still running.

    Raises:
        ConfigurationError: The plan has such a step.
    """
    versions = dict.fromkeys(s.version for s in plan.steps if not s.script.transactional)
    if versions:
        raise ConfigurationError(
            "the database is behind a pooler in transaction mode, and these run outside a "
            f"transaction, which needs a session of their own: {', '.join(versions)}",
            detail="Nothing was run.",
            hint="connect to PostgreSQL itself, or to a pool in session mode: "
            "migrator --database-url URL up",
        )


@contextmanager
def locked(session: Session, notify: Notify) -> Iterator[Lock]:
    """Hold the runner's lock of this history for a `with`; its tables exist from then on.

    Raises:
        MigratorError: As `connection.check_writable` and `lock.runner_lock`.
    """
    schema = session.history.schema
    with Interrupts() as interrupts, closing(connection.connect_own(session.database)) as keeper:
        with connection.reported(schema):
            override = session.settings.override_read_only
            connection.check_writable(session.conn, override=override)
            shares = session.is_pooled and connection.shares_sessions(session.conn, keeper)
        with runner_lock(
            keeper,
            schema,
            worker=None if shares else session.conn,
            timeout=session.settings.lock_wait,
            notify=notify,
            interrupts=interrupts,
        ):
            with connection.reported(schema):
                session.history = table.ensure(
                    session.conn,
                    schema,
                    trusted=session.settings.trust_history_of,
                    is_named=session.settings.schema is not None,
                )
            try:
                yield Lock(interrupts, shares)
            except ForcedStopError:
                with suppress(psycopg.Error):
                    session.conn.cancel_safe(timeout=_CANCEL)
                raise


def _versions(plan: Plan) -> list[tuple[str, Direction]]:
    return [(step.version, step.direction) for step in plan.steps]
