"""Run a no-transaction script unit by unit, and go on where an earlier run stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from ..errors import StatementError
from ..history import table
from ..model import Direction, Step
from ..postgres import connection
from ..postgres.inflight import Message
from ..sql import parser
from ..sql.script import Statement, Unit
from ..tracing import probe
from . import alone, diagnosis, messages, retry
from .alone import UNAFFECTED
from .failure import log, stop_if_interrupted
from .messages import Context, Purpose, Tag, ours
from .recovery import Begun

_SET_TIMEOUTS = (
    "select set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false)"
)
_SET_ROLE = b"select set_config('role', $1, false)"


def run_step(context: Context, step: Step) -> None:
    """Run what is left of a script that is not one transaction, and record every unit.

    Raises:
        StatementError: A unit failed; those before it are done and recorded.
        MigratorError: As `retry.run`.
    """
    started = time.monotonic()
    schema = context.recorder.schema
    with connection.reported(schema):
        # Before the script's role is set, which may not read the log.
        noted = table.begun(context.conn, schema, step.version, step.direction)
        begun = Begun.load(noted)
        retry.run_one(context, partial(_begin, context, step))
        if step.resumes:
            _restore_session(context, step)
        for index in range(step.start_at, len(step.script.units)):
            stop_if_interrupted(context, step)
            _run_unit(context, step, index, begun)
        connection.forget(context.conn)
        finish = partial(_finish, context, step)
        retry.run_one(context, finish, started=started)


def _run_unit(context: Context, step: Step, index: int, begun: Begun | None) -> None:
    """Run a unit in a transaction with its record, if that can be."""
    unit = step.script.units[index]
    was_alone = begun is not None and begun.unit == index
    if unit.transactional and (unit.begin or len(unit.statements) != 1):
        retry.run_one(context, partial(_block, context, step, index, unit))
    elif unit.transactional and not was_alone:
        _try_whole(context, step, index, begun)
    else:
        alone.run(context, step, index, begun)


def _try_whole(context: Context, step: Step, index: int, begun: Begun | None) -> None:
    """Run a statement in a transaction, or alone where the server refuses it there.

    What a CALL or DO does, and which utility commands commit by themselves, only the server
    knows; what it refuses has done nothing.
    """
    quiet = replace(context, is_logged=False)
    try:
        retry.run_one(quiet, partial(_block, quiet, step, index, step.script.units[index]))
    except StatementError as error:
        if error.sqlstate not in diagnosis.ALONE:
            log(context, step, error.sqlstate, error.message)
            raise
        if context.tracer:
            probe.forget(context.conn)
        alone.run(context, step, index, begun)


def _begin(context: Context, step: Step) -> Iterator[Message[Tag]]:
    yield ours(step, "begin read write", Purpose.BEGIN)
    if step.direction is Direction.DOWN:
        yield ours(step, context.recorder.hold(step.version), Purpose.CLAIM)
    elif step.migration:
        claim = context.recorder.claim(step.migration, again=step.resumes)
        yield ours(step, claim, Purpose.CLAIM)
    settings = dict.fromkeys(context.idle_limits, "0") | connection.KEEPALIVES
    # As `begin read write` does it for what has a transaction.
    settings["default_transaction_read_only"] = "off"
    more = "".join(f", set_config('{name}', '{value}', false)" for name, value in settings.items())
    yield ours(
        step, (f"{_SET_TIMEOUTS}{more}".encode(), messages.timeouts(context, step)), Purpose.SETUP
    )
    if role := step.script.options.role or context.settings.role:
        yield ours(step, (_SET_ROLE, (role.encode(),)), Purpose.SETUP)
    yield ours(step, "commit", Purpose.COMMIT)


def _restore_session(context: Context, step: Step) -> None:
    """Set again what finished units have set: the session that they did it in is gone."""
    for unit in step.script.units[: step.start_at]:
        for statement in unit.statements:
            if parser.sets_session(statement) and not _ends_with_block(statement):
                retry.run_one(context, partial(alone.of_statement, step, statement))


def _ends_with_block(statement: Statement) -> bool:
    return statement.words[1:2] in (("local",), ("transaction",), ("constraints",))


def _block(context: Context, step: Step, index: int, unit: Unit) -> Iterator[Message[Tag]]:
    yield messages.begin(step, unit, Purpose.OURS)
    yield from messages.of_statements(context, step, unit.statements)
    if context.tracer:
        yield ours(step, (probe.DEALLOCATE, ()))
    yield from messages.of_guard(context, step)
    for command in (*UNAFFECTED, alone.end_unit(context, step, index)):
        yield ours(step, command)
    yield ours(step, "commit", Purpose.COMMIT)


def _finish(context: Context, step: Step) -> Iterable[Message[Tag]]:
    yield ours(step, "begin read write")
    yield from (ours(step, command) for command in messages.last_records(context, step))
    yield ours(step, "commit", Purpose.LAST)
