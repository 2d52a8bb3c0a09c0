"""Run a statement that commits by itself: recorded before and after, cleared up behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from ..errors import MigratorError, StatementError
from ..events import Remarked, Traced
from ..history.recorder import Command
from ..model import Direction, Step
from ..planning.problems import edited_step
from ..postgres import catalog, connection, lock
from ..postgres.inflight import Message
from ..sql import parser
from ..sql.script import Statement
from ..tracing import diff, probe
from . import messages, recovery, retry
from .failure import of_invalid_index, of_shared
from .messages import Context, Purpose, Tag
from .recovery import Begun, Recovery

# What a script sets for its session is there for its later units; a record must not see it.
# The role of a record is the one that the session began with.
UNAFFECTED: tuple[Command, ...] = (
    (b"set local session authorization default", ()),
    (b"set local role to default", ()),
    (
        b"select set_config('search_path', 'pg_catalog', true),"
        b" set_config('lock_timeout', '1min', true), set_config('statement_timeout', '0', true)",
        (),
    ),
)
"""The statements behind which a record is written inside a no-transaction script."""

# A lock timeout would leave an invalid index behind, and the wait for it blocks no reader
# and no writer.  A value that the file has set by itself stays.
_EXCHANGE_LOCK_TIMEOUT = """
select set_config('lock_timeout', %(new)s, false)
where current_setting('lock_timeout')::interval = %(old)s::interval
"""
_MAY_COMMIT = frozenset([("call",), ("do",)])  # in pieces: a second try would repeat some
_INSUFFICIENT_PRIVILEGE = "42501"
_DUPLICATE_TABLE = "42P07"


def run(context: Context, step: Step, index: int, begun: Begun | None) -> None:
    """Run a unit's one statement, and record it as begun before and as done after.

    Args:
        index: Of the unit in its script.
        begun: What an earlier run has begun last; None if none did.

    Raises:
        ScratchError: It changes the server, and the context is guarded.
        InterruptedMigrationError: An earlier run has finished it in another form.
        StatementError: It failed; it is not recorded as done.
        MigratorError: As `retry.run`.
    """
    (statement,) = step.script.units[index].statements
    if context.is_guarded and messages.is_of_server(statement):
        raise of_shared(step)
    if statement.words[:1] in _MAY_COMMIT:
        context = replace(context, settings=replace(context.settings, lock_attempts=1))
    with _patience(context, step, statement):
        if not _recovered(context, step, index, begun):
            _run(context, step, index)
    if statement.words[:1] == ("discard",):
        lock.retake(context.conn, context.recorder.schema)
    _record(context, end_unit(context, step, index))


def of_statement(step: Step, statement: Statement) -> Iterator[Message[Tag]]:
    """Make the message of a statement that is sent by itself."""
    message = messages.of_statement(step, statement)
    yield replace(message, tag=Tag(step, Purpose.ALONE, statement), alone=True)


def end_unit(context: Context, step: Step, index: int) -> Command:
    """Make the statement that records the end of a unit."""
    done = index + 1 if step.direction is Direction.UP else -index - 1
    return context.recorder.end_unit(step.version, done)


def clear_up(context: Context, step: Step, index: int, begun: Begun | None) -> Recovery:
    """Clear what an earlier run has left of a unit, whatever stands there by now.

    Returns:
        What was found; `is_done` if that run has finished its statement.
    """
    earlier = begun.parsed() if begun and begun.unit == index else None
    if not begun or not earlier:
        return Recovery()
    # What a down had under way stays so until it is done.
    unsure = step.unsure or step.direction is Direction.DOWN
    plan = _recovery(context, earlier, begun, unsure=unsure)
    _clear(context, step, step.script.units[index].statements[0], plan)
    return plan


def _recovered(context: Context, step: Step, index: int, begun: Begun | None) -> bool:
    """Clear what an earlier run left, and return whether that run has finished the statement."""
    if index != step.start_at or not begun or begun.unit != index:
        return False
    (statement,) = step.script.units[index].statements
    name = f"step {index + 1} of {step.version}"
    plan = clear_up(context, step, index, begun)
    earlier = begun.parsed()
    if plan.is_done and earlier:
        if parser.statement_tokens(earlier) != parser.statement_tokens(statement):
            raise edited_step(step, statement, earlier.text)
        context.notify(Remarked(f"{name} had finished already"))
    elif step.unsure and not earlier:
        context.notify(Remarked(f"{name} was under way, and runs again"))
    return plan.is_done


def _run(context: Context, step: Step, index: int) -> None:
    (statement,) = step.script.units[index].statements
    begun = _look(context, index, statement)
    begin = context.recorder.begin_unit(step.version, step.direction, begun.dump())
    _record(context, begin)
    try:
        _send(context, step, statement, begun)
    except MigratorError as error:
        # A down that has begun is under way, however its statement ended.
        if not context.conn.closed and step.direction is Direction.UP:
            _record(context, context.recorder.stop_unit(step.version))
        if isinstance(error, StatementError) and error.sqlstate == _DUPLICATE_TABLE:
            _hint_at_invalid(context, statement, error)
        raise


def _look(context: Context, index: int, statement: Statement) -> Begun:
    """See what the statement finds that it can leave half-made."""
    if not recovery.leaves_traces(statement):
        return Begun(index)
    names = recovery.names(statement)
    found = None if names is None else catalog.relations(context.conn, names)
    if found and statement.words[:1] == ("reindex",):
        found = catalog.rebuilt(context.conn, found)
    objects = catalog.objects(context.conn, found)
    return Begun(index, statement.text, found, objects)


@contextmanager
def _patience(context: Context, step: Step, statement: Statement) -> Iterator[None]:
    """Let what blocks nobody wait for its locks as long as it takes."""
    if not parser.is_concurrent(statement) or step.script.options.lock_timeout is not None:
        yield
        return
    default = f"{context.settings.lock_timeout}ms"
    exchanged = context.conn.execute(_EXCHANGE_LOCK_TIMEOUT, {"old": default, "new": "0"})
    yield
    if exchanged.rowcount:
        context.conn.execute(_EXCHANGE_LOCK_TIMEOUT, {"old": "0", "new": default})


def _send(context: Context, step: Step, statement: Statement, begun: Begun) -> None:
    def clear() -> bool:
        plan = _recovery(context, statement, begun, unsure=False)
        _clear(context, step, statement, plan)
        return plan.is_done

    with _sampled(context, step, statement):
        retry.run(context, [partial(of_statement, step, statement)], recover=clear)
    if made := recovery.created_if_absent(statement):
        query = messages.invalid_index(*made)
        if context.conn.execute(*query).fetchone() is not None:
            raise of_invalid_index(context, step, statement)


@contextmanager
def _sampled(context: Context, step: Step, statement: Statement) -> Iterator[None]:
    """Watch a statement from another session, if somebody wants to know what it does."""
    tracer = context.tracer
    if not tracer:
        yield
        return
    row = tracer.watcher.execute(tracer.start).fetchone()
    before = diff.read(row[0] if row else "")
    with probe.sampling(tracer.watcher, context.pid, tracer.schema) as future:
        yield
    trace = diff.difference(before, future.result(), before)
    context.notify(Traced(step, statement, trace))


def _recovery(context: Context, statement: Statement, begun: Begun, *, unsure: bool) -> Recovery:
    now = catalog.objects(context.conn, begun.relations)
    own = _own_indexes(context, statement)
    return recovery.recover(statement, begun.objects, now, unsure=unsure, own=own)


def _own_indexes(context: Context, statement: Statement) -> frozenset[int] | None:
    """Return the indexes that a statement can have made, by their names; None for any."""
    if statement.words[:1] == ("reindex",):
        return catalog.indexes_named(context.conn, "_cc(new|old)[0-9]*$")
    name = recovery.index_name(statement) if statement.words[:1] == ("create",) else None
    return catalog.indexes_named(context.conn, f"^{re.escape(name)}$") if name else None


def _clear(context: Context, step: Step, statement: Statement, plan: Recovery) -> None:
    # Those of TOAST tables last: who does not own the schema pg_toast may not drop them.
    for index in sorted(catalog.names(context.conn, plan.drop), key=_is_of_toast):
        context.notify(Remarked(f"dropping the invalid index {index}, left by an earlier try"))
        _drop(context, step, statement, index)
    for partition in plan.finalize:
        (name,) = catalog.names(context.conn, [partition])
        (parent,) = catalog.names(context.conn, [catalog.parent(context.conn, partition)])
        context.notify(Remarked(f"finishing the detaching of {name} from {parent}"))
        finalize = f"alter table {parent} detach partition {name} finalize"
        retry.run_one(context, partial(_mend, step, statement, finalize))


def _is_of_toast(index: str) -> bool:
    return index.startswith("pg_toast.")


def _drop(context: Context, step: Step, statement: Statement, index: str) -> None:
    drop = f"drop index concurrently if exists {index}"
    try:
        retry.run_one(context, partial(_mend, step, statement, drop))
    except StatementError as error:
        if not (_is_of_toast(index) and error.sqlstate == _INSUFFICIENT_PRIVILEGE):
            raise
        context.notify(Remarked(f"{index} stays; a superuser can drop it: {drop};"))


def _mend(step: Step, statement: Statement, command: str) -> Iterator[Message[Tag]]:
    """Give a statement of ours that clears up behind one of the migration, and commits."""
    yield Message(Tag(step, Purpose.COMMIT, statement), command.encode(), alone=True)


def _hint_at_invalid(context: Context, statement: Statement, error: StatementError) -> None:
    """Say of an index that exists already that it serves nobody, if that is so."""
    name = recovery.index_name(statement) if statement.words[:1] == ("create",) else None
    found = _own_indexes(context, statement) if name else None
    invalid = found and found & catalog.objects(context.conn, None).invalid_indexes
    for index in catalog.names(context.conn, invalid or ()):
        error.hint = (
            f"it is invalid, as an interrupted CREATE INDEX leaves it: drop it, then go on:\n"
            f"drop index concurrently {index};"
        )


def _record(context: Context, command: Command) -> None:
    """Write a record at once, whatever role and settings the script has left."""
    with connection.reported(context.recorder.schema):
        context.conn.execute("begin read write")
        for text, parameters in (*UNAFFECTED, command):
            connection.send(context.conn, text, parameters)
        context.conn.execute("commit")
