"""Run a plan, and record each step in the same breath as its work."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby

from ..errors import BlockedError
from ..history import table
from ..model import Direction, Plan, Step
from ..planning.problems import edited_step
from ..postgres import connection
from ..postgres.inflight import Message
from ..sql.script import Unit
from . import alone, batch, messages, no_transaction, retry
from .failure import stop_if_interrupted
from .messages import Context, Purpose, Tag, ours
from .recovery import Begun

_SET_LIMITS = (
    "select pg_catalog.pg_backend_pid(),"
    " set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)"
)
_SET_ROLE = b"select set_config('role', $1, true)"

# Deferred constraints are checked before the commit: the error can still name the file.
_CHECK = "set constraints all immediate"

# Everything that a migration can leave in its session: neither its record nor the next
# migration may see it.  DISCARD ALL, which is the same, cannot run in a transaction.
_RESET = (
    b"reset session authorization",
    b"reset role",
    b"reset all",
    b"deallocate all",
    b"unlisten *",
    b"discard temp",
    b"discard sequences",
    # RESET ALL resets, behind a pooler, the encoding that we connected with.
    b"set client_encoding to 'UTF8'",
)


def execute(context: Context, plan: Plan) -> None:
    """Run every step of a plan, in order, and stop at the first error.

    Transactional steps are sent without waiting for one another; the server runs none
    behind one that failed.  A step that is not transactional waits for those before it.

    Raises:
        BlockedError: The plan has blockers; nothing was run.
        MigratorError: As `retry.run`; the steps before stay.
    """
    if plan.blockers:
        raise BlockedError("nothing was run", errors=plan.blockers)
    if not context.tells_each and not context.tracer:
        context.in_heaps.update(batch.allowed(context.conn, plan))
    for transactional, steps in groupby(plan.steps, key=lambda step: step.script.transactional):
        if transactional:
            group = tuple(steps)
            if group[0].resumes:
                _clear_up(context, group[0])
            pieces = [partial(_transaction, context, step, group[-1]) for step in group]
            retry.run(context, pieces, recover=partial(_forget, context))
        else:
            for step in steps:
                stop_if_interrupted(context)
                no_transaction.run_step(context, step)


def _forget(context: Context) -> bool:
    with connection.reported():
        connection.forget(context.conn)
    return False


def _clear_up(context: Context, step: Step) -> None:
    """Clear what a script has left when it was not one transaction yet."""
    schema = context.recorder.schema
    with connection.reported(schema):
        begun = Begun.load(table.begun(context.conn, schema, step.version, step.direction))
        if begun and begun.unit == 0 and alone.clear_up(context, step, 0, begun).is_done:
            raise edited_step(step, None, begun.statement or "")


def _transaction(context: Context, step: Step, last: Step) -> Iterator[Message[Tag]]:
    """Give the messages of a whole migration: its work and its record in one transaction.

    The flush of the last commit to disk makes all those before it durable as well, so that
    they need not wait for one of their own.
    """
    (unit,) = step.script.units
    yield from _begin(context, step, unit)
    if step.direction is Direction.DOWN:
        yield ours(step, context.recorder.release(step.version), Purpose.CLAIM)
    elif step.migration:
        claim = context.recorder.claim(step.migration, again=step.resumes)
        yield ours(step, claim, Purpose.CLAIM)
    if role := step.script.options.role or context.settings.role:
        yield ours(step, (_SET_ROLE, (role.encode(),)))
    if step.direction is Direction.UP:
        yield from messages.of_locks(context, step)
    yield from messages.of_statements(context, step, unit.statements)
    waits = step is last or context.settings.flush_each
    again = [b"set local lock_timeout = %d" % messages.lock_timeout(context, step)]
    again += [] if waits else [b"set local synchronous_commit = off"]
    yield ours(step, _CHECK, Purpose.CHECK)
    yield from messages.of_guard(context, step)
    yield ours(step, "close all", more=(*_RESET, *again))
    yield from (ours(step, command) for command in messages.last_records(context, step))
    yield ours(step, "commit", Purpose.LAST, waits=waits)


def try_out(context: Context, step: Step) -> None:
    """Run a transactional step up to its commit, and leave its transaction open, unrecorded.

    Raises:
        MigratorError: As `retry.run`; it was rolled back.
    """
    piece = partial(_attempt_at, context, step)
    retry.run(context, [piece], recover=partial(_forget, context))


def _begin(context: Context, step: Step, unit: Unit) -> Iterator[Message[Tag]]:
    yield messages.begin(step, unit)
    if unit.begin and not {"only", "write"} & set(unit.begin.words):
        yield ours(step, "set transaction read write")
    limits = dict.fromkeys(context.idle_limits, "0") | connection.KEEPALIVES
    more = "".join(f", set_config('{name}', '{value}', true)" for name, value in limits.items())
    timeouts = messages.timeouts(context, step)
    yield ours(step, (f"{_SET_LIMITS}{more}".encode(), timeouts), Purpose.LIMITS)


def _attempt_at(context: Context, step: Step) -> Iterator[Message[Tag]]:
    """Give the messages of a trial; its lock timeout holds whatever the script sets."""
    (unit,) = step.script.units
    yield from _begin(context, step, unit)
    if role := step.script.options.role or context.settings.role:
        yield ours(step, (_SET_ROLE, (role.encode(),)))
    for message in messages.of_statements(context, step, unit.statements):
        yield message
        if message.tag.purpose is Purpose.STATEMENT:
            yield ours(step, f"set local lock_timeout = {messages.lock_timeout(context, step)}")
    yield ours(step, _CHECK, Purpose.CHECK)
    yield ours(step, "reset role", Purpose.OPEN)
