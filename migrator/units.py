"""Run a no-transaction script unit by unit, and go on where an earlier run stopped."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from . import (
    answers,
    attempt,
    catalog,
    failures,
    history,
    messages,
    parsing,
    postgres,
    probes,
    recovery,
)
from .errors import MigratorError
from .events import Event, Noticed, Remarked, Traced
from .messages import Context, Piece, Purpose, Tag, ours
from .model import Direction, Objects, Statement, Step, Unit
from .pipeline import Message
from .recorder import Command

_ALREADY_EXISTS = "42P07"

# What a script sets for its session is there for its later units; a record must not see it.
_UNAFFECTED: tuple[Command, ...] = (
    (b"set local session authorization default", ()),
    (
        b"select set_config('role', 'none', true), set_config('search_path', 'pg_catalog', true),"
        b" set_config('lock_timeout', '1min', true), set_config('statement_timeout', '0', true)",
        (),
    ),
)
_SET_TIMEOUTS = (
    b"select set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false)"
)
_SET_ROLE = b"select set_config('role', $1, false)"
# A lock timeout would leave an invalid index behind, and the wait for it blocks no reader
# and no writer.  A value that the file has set by itself stays.
_EXCHANGE_LOCK_TIMEOUT = """
select set_config('lock_timeout', %(new)s, false)
where current_setting('lock_timeout')::interval = %(old)s::interval
"""


def run_step(context: Context, step: Step) -> None:
    """Run what is left of a script that is not one transaction, and record every unit.

    Raises:
        StatementError: A unit failed; those before it are done and recorded.
        MigratorError: As `attempt.run`.
    """
    started = time.monotonic()
    with postgres.reported(context.recorder.schema):
        _run(context, partial(_begin, context, step))
        if step.resumes:
            _restore_session(context, step)
        for index, unit in enumerate(step.script.units[step.start_at :], step.start_at):
            failures.stop_if_interrupted(context, step)
            if unit.transactional:
                _run(context, partial(_block, context, step, index, unit))
            else:
                _run_alone(context, step, index, unit.statements[0])
        postgres.forget(context.conn)
        finish = partial(_finish, context, step)
        attempt.run(context, [finish], recover=lambda: None, started=started)


def _run(context: Context, piece: Piece) -> None:
    attempt.run(context, [piece], recover=lambda: None)


def _begin(context: Context, step: Step) -> Iterator[Message[Tag]]:
    yield ours(step, "begin read write", Purpose.BEGIN)
    if step.direction is Direction.DOWN:
        yield ours(step, context.recorder.begin_unit(step.version, Direction.DOWN, -step.start_at))
    elif step.migration:
        claim = context.recorder.claim(step.migration, again=step.resumes)
        yield ours(step, claim, Purpose.CLAIM)
    limits = messages.timeouts(context, step)
    yield ours(step, (_SET_TIMEOUTS, limits))
    if role := step.script.options.role or context.settings.role:
        yield ours(step, (_SET_ROLE, (role.encode(),)))
    yield ours(step, "commit", Purpose.COMMIT)


def _restore_session(context: Context, step: Step) -> None:
    """Set again what finished units have set: the session that they did it in is gone."""
    for unit in step.script.units[: step.start_at]:
        for statement in unit.statements:
            if parsing.sets_session(statement) and not _ends_with_block(statement):
                _run(context, partial(_alone, step, statement))


def _ends_with_block(statement: Statement) -> bool:
    return statement.words[1:2] in (("local",), ("transaction",), ("constraints",))


def _block(context: Context, step: Step, index: int, unit: Unit) -> Iterator[Message[Tag]]:
    yield messages.begin(step, unit, Purpose.OURS)
    yield from messages.of_statements(context, step, unit.statements)
    if context.tracer:
        yield ours(step, (probes.DEALLOCATE, ()))
    for command in (*_UNAFFECTED, _end_unit(context, step, index)):
        yield ours(step, command)
    yield ours(step, "commit", Purpose.COMMIT)


def _alone(step: Step, statement: Statement) -> Iterator[Message[Tag]]:
    yield Message(Tag(step, Purpose.ALONE, statement), statement.text.encode(), alone=True)


def _run_alone(context: Context, step: Step, index: int, statement: Statement) -> None:
    """Run a statement that commits by itself, recorded as begun before and as done after."""
    with _patience(context, step, statement):
        if not _recovered(context, step, index, statement):
            before = _Before.look(context, statement)
            detail = json.dumps({"unit": index, **before.record()})
            done = index if step.direction is Direction.UP else -index
            begin = context.recorder.begin_unit(step.version, step.direction, done, detail)
            _record(context, begin)
            try:
                _send_alone(context, step, statement, before)
            except MigratorError:
                if not context.conn.closed:
                    _record(context, context.recorder.stop_unit(step.version))
                raise
    _record(context, _end_unit(context, step, index))


@dataclass(frozen=True, slots=True)
class _Before:
    """What a statement found that it can leave half-made.

    Attributes:
        relations: Those that the statement names, by OID; None for the whole database.
    """

    relations: frozenset[int] | None
    objects: Objects

    @classmethod
    def look(cls, context: Context, statement: Statement) -> _Before:
        if not recovery.leaves_traces(statement):
            return cls(frozenset(), Objects())
        names = recovery.names(statement)
        found = None if names is None else catalog.relations(context.conn, names)
        if found and statement.words[:1] == ("reindex",):
            found = catalog.rebuilt(context.conn, found)
        return cls(found, catalog.objects(context.conn, found))

    @classmethod
    def recorded(cls, begun: Mapping[str, Any]) -> _Before:
        found = begun.get("relations")
        relations = None if found is None else frozenset(found)
        return cls(relations, recovery.load(begun["objects"]))

    def record(self) -> dict[str, Any]:
        relations = None if self.relations is None else sorted(self.relations)
        return {"relations": relations, "objects": recovery.dump(self.objects)}


@contextmanager
def _patience(context: Context, step: Step, statement: Statement) -> Iterator[None]:
    """Let what blocks nobody wait for its locks as long as it takes."""
    if not parsing.is_concurrent(statement) or step.script.options.lock_timeout is not None:
        yield
        return
    default = f"{context.settings.lock_timeout}ms"
    context.conn.execute(_EXCHANGE_LOCK_TIMEOUT, {"old": default, "new": "0"})
    yield
    context.conn.execute(_EXCHANGE_LOCK_TIMEOUT, {"old": "0", "new": default})


def _send_alone(context: Context, step: Step, statement: Statement, before: _Before) -> None:
    heard: list[Noticed] = []

    def listen(event: Event) -> None:
        if isinstance(event, Noticed):
            heard.append(event)
        context.notify(event)

    def clear() -> None:
        now = catalog.objects(context.conn, before.relations)
        own = _own_indexes(context, statement)
        plan = recovery.recover(statement, before.objects, now, unsure=False, own=own)
        _clear(context, step, statement, plan)

    listening = replace(context, notify=listen)
    with _sampled(context, step, statement):
        attempt.run(listening, [partial(_alone, step, statement)], recover=clear)
    for event in heard:
        if event.notice.sqlstate == _ALREADY_EXISTS:
            _refuse_invalid(context, step, statement, event.notice.message)


@contextmanager
def _sampled(context: Context, step: Step, statement: Statement) -> Iterator[None]:
    """Watch a statement from another session, if somebody wants to know what it does."""
    tracer = context.tracer
    if not tracer:
        yield
        return
    row = tracer.watcher.execute(tracer.start).fetchone()
    before = answers.read(row[0] if row else "")
    pid = context.conn.info.backend_pid
    with probes.sampling(tracer.watcher, pid, tracer.schema) as future:
        yield
    trace = answers.difference(before, future.result(), before)
    context.notify(Traced(step, statement, trace))


def _refuse_invalid(context: Context, step: Step, statement: Statement, message: str) -> None:
    """Fail if what "already exists" is an index that serves no query."""
    if index := catalog.invalid_index_in(context.conn, message):
        raise failures.of_statement(
            context,
            step,
            statement,
            f"{index} exists, but it is invalid: PostgreSQL skipped the statement",
            f"drop it, then go on: drop index concurrently {index};",
        )


def _recovered(context: Context, step: Step, index: int, statement: Statement) -> bool:
    """Clear what an earlier try left, and return whether that try has finished the statement."""
    if not (step.resumes and index == step.start_at):
        return False
    schema = context.recorder.schema
    begun = history.begun(context.conn, schema, step.version, step.direction)
    if not begun or begun["unit"] != index:
        return False
    if not recovery.leaves_traces(statement):
        if step.unsure:
            context.notify(Remarked(f"{_name(step, index)} was under way, and runs again"))
        return False
    before = _Before.recorded(begun)
    now = catalog.objects(context.conn, before.relations)
    own = _own_indexes(context, statement)
    plan = recovery.recover(statement, before.objects, now, unsure=step.unsure, own=own)
    _clear(context, step, statement, plan)
    if plan.is_done:
        context.notify(Remarked(f"{_name(step, index)} had finished already"))
    return plan.is_done


def _own_indexes(context: Context, statement: Statement) -> frozenset[int] | None:
    """Return the indexes that a statement can have made, by their names; None for any."""
    if statement.words[:1] == ("reindex",):
        return catalog.indexes_named(context.conn, "_cc(new|old)[0-9]*$")
    name = recovery.index_name(statement) if statement.words[:1] == ("create",) else None
    return catalog.indexes_named(context.conn, f"^{re.escape(name)}$") if name else None


def _name(step: Step, index: int) -> str:
    return f"step {index + 1} of {step.version}"


def _clear(context: Context, step: Step, statement: Statement, plan: recovery.Recovery) -> None:
    for index in catalog.names(context.conn, plan.drop):
        context.notify(Remarked(f"dropping the invalid index {index}, left by an earlier try"))
        drop = f"drop index concurrently if exists {index}"
        _run(context, partial(_mend, step, statement, drop))
    for partition in plan.finalize:
        (name,) = catalog.names(context.conn, [partition])
        (parent,) = catalog.names(context.conn, [catalog.parent(context.conn, partition)])
        context.notify(Remarked(f"finishing the detaching of {name} from {parent}"))
        finalize = f"alter table {parent} detach partition {name} finalize"
        _run(context, partial(_mend, step, statement, finalize))


def _mend(step: Step, statement: Statement, command: str) -> Iterator[Message[Tag]]:
    """Give a statement of ours that clears up behind one of the migration, and commits."""
    yield Message(Tag(step, Purpose.COMMIT, statement), command.encode(), alone=True)


def _end_unit(context: Context, step: Step, index: int) -> Command:
    done = index + 1 if step.direction is Direction.UP else -index - 1
    return context.recorder.end_unit(step.version, done)


def _record(context: Context, command: Command) -> None:
    """Write a record at once, whatever role and settings the script has left."""
    with postgres.reported(context.recorder.schema):
        context.conn.execute("begin read write")
        for text, parameters in (*_UNAFFECTED, command):
            postgres.send(context.conn, text, parameters)
        context.conn.execute("commit")


def _finish(context: Context, step: Step) -> Iterable[Message[Tag]]:
    yield ours(step, "begin read write")
    yield from (ours(step, command) for command in messages.last_records(context, step))
    yield ours(step, "commit", Purpose.LAST)
