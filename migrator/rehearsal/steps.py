"""Run pending migrations on a scratch database, and report what they would do to this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath

from ..config import Settings
from ..errors import BlockedError, CancelledError, MigratorError, StatementError
from ..events import Event, Noticed, Notify, Retrying, StatementFinished, Traced, Waiting
from ..execution import runner, transaction
from ..execution.context import Context, tracer
from ..hazards import assess, catalogue
from ..hazards.catalogue import Finding, Size
from ..history import recorder
from ..interrupts import Interrupts
from ..model import AppliedMigration, Direction, Migration, Plan, SourceFile, Step
from ..postgres import connection
from ..postgres.activity import Look, nobody
from ..postgres.connection import Connection
from ..sql import parser
from ..tracing import diff
from . import facts, schema
from .report import DownProof, Rehearsed, TracedStatement
from .schema import Schema, compare, recreated

_ENUM_VALUE_USED_EARLY = "55P04"

Execute = Callable[[Context, Step], None]
"""Runs a step, as `executor` does it."""


class ReplayError(Exception):
    """A history does not make its state again; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a rehearsal takes place.

    Attributes:
        conn: A session of the scratch database, which has the target's state, or of the target.
        watcher: Another one.
        schema: The one of the history.
        small: Below how many bytes a table of the target is not worth a finding.
        pid: The process of the server that works for `conn`.
        observe: Looks at such a process from another session.
        is_guarded: The server is the target's own: nothing may change but the scratch database.
        outcome: What became of the target when a statement was refused.
    """

    conn: Connection
    watcher: Connection
    schema: str
    settings: Settings
    small: int
    interrupts: Interrupts
    notify: Notify
    pid: int
    observe: Look = nobody
    is_guarded: bool = False
    outcome: str = "This was on the scratch database; the target was not touched."


def rehearse(
    stage: Stage, steps: Iterable[Step], before: Iterable[Rehearsed], sizes: dict[str, Size]
) -> tuple[Rehearsed, ...]:
    """Rehearse steps upwards in their order, each with its down and a second up.

    Args:
        before: Those that were rehearsed on another stage; they are applied first.
        sizes: Of the target's tables, before all of them.

    Raises:
        MigratorError: One of those before cannot be applied again.

    Returns:
        One for each step; fewer if an up failed, or if a down has left a step that is not whole:
        the next ones need another stage then.
    """
    for earlier in before:
        _, error = _run(stage, earlier.step, traced=False)
        if error:
            raise error
        sizes = assess.sizes_after(sizes, (each.trace for each in earlier.traced))
    done: list[Rehearsed] = []
    for planned in steps:
        # What production had finished of an interrupted one is not there on the scratch database.
        step = replace(planned, start_at=0, unsure=False, resumes=False)
        done.append(_rehearse(stage, step, sizes))
        if done[-1].error or done[-1].is_stuck:
            break
        sizes = assess.sizes_after(sizes, (each.trace for each in done[-1].traced))
    last = {} if stage.conn.closed else facts.indexes(stage.conn)
    return tuple(
        replace(each, findings=tuple(f for f in each.findings if not assess.settled(f, last)))
        for each in done
    )


def try_on_target(stage: Stage, step: Step, sizes: dict[str, Size]) -> Rehearsed:
    """Run a transactional step on the target, look at what it does, and roll it back.

    Every lock that it takes is held until then.  Its down is not tried.
    """
    try:
        return _up(stage, step, sizes, transaction.try_out, is_brief=True)
    finally:
        if not stage.conn.closed:
            stage.conn.rollback()


def _rehearse(stage: Stage, step: Step, sizes: dict[str, Size]) -> Rehearsed:
    before = schema.read(stage.conn, stage.schema)
    rehearsed = _up(stage, step, sizes, _execute)
    if rehearsed.error:
        return rehearsed
    after = schema.read(stage.conn, stage.schema)
    down = _prove_down(stage, step, before, after)
    is_said = down is None or down.irreversible
    lost = () if is_said or not down else tuple(map(catalogue.data_lost, down.lost))
    return replace(rehearsed, down=down, findings=(*rehearsed.findings, *lost))


def _up(
    stage: Stage, step: Step, sizes: dict[str, Size], execute: Execute, *, is_brief: bool = False
) -> Rehearsed:
    """Run an up, and weigh what it did.

    Args:
        is_brief: Its locks are held in front of everybody: look only at what it can have changed.
    """
    known = facts.before(stage.conn, sizes)
    objects = facts.objects(stage.conn, stage.schema)
    traced, error = _run(stage, step, execute)
    if error:
        return Rehearsed(step, traced, _early_use(step, traced, error), error=error)
    touched = {touch.relation.oid for each in traced for touch in each.trace.touches}
    is_known = is_brief and not _changes_objects(traced)
    there = objects if is_known else facts.objects(stage.conn, stage.schema)
    known = replace(
        known,
        indexes=facts.indexes(stage.conn, touched if is_brief else None),
        partitions={**known.partitions, **facts.partitions(stage.conn)},
        objects=facts.named(there),
        object_changes=diff.difference(objects, there, objects).objects,
    )
    pairs = [(each.statement, each.trace) for each in traced]
    return Rehearsed(step, traced, assess.find(step.script, pairs, facts=known, small=stage.small))


def _changes_objects(traced: Iterable[TracedStatement]) -> bool:
    """Whether statements can have changed anything but relations; a rename takes no lock."""
    return any(
        each.trace.objects
        or each.statement.words[:1] in (("do",), ("call",), ("select",))
        or (each.statement.words[:1] == ("alter",) and each.statement.words[1:2] != ("table",))
        for each in traced
    )


def _prove_down(stage: Stage, step: Step, before: Schema, after: Schema) -> DownProof | None:
    """Take a step back and apply it again; None if it has no down."""
    migration = step.migration
    if not migration or not migration.down:
        return None
    down = _down(step.version, migration.down)
    proof = DownProof(irreversible=down.script.options.irreversible)
    if proof.irreversible and not _does_something(down):
        return proof
    traced, error = _run(stage, down)
    if error:
        # A transaction that failed has left everything as the up had made it.
        is_stuck = not (down.script.transactional or down.script.problems)
        return replace(proof, traced=traced, error=error, is_stuck=is_stuck)
    restored = schema.read(stage.conn, stage.schema)
    _, error = _run(stage, step)
    again = () if error else compare(after, schema.read(stage.conn, stage.schema))
    return replace(
        proof,
        traced=traced,
        left=compare(before, restored),
        lost=tuple(each.label for each in recreated(before, restored)),
        again=again,
        error=error,
        is_second_up=error is not None,
        is_stuck=error is not None,
    )


def replay(stage: Stage, applied: Iterable[AppliedMigration], files: Iterable[Migration]) -> None:
    """Bring an empty database to the state that a history makes, in the order it was made in.

    Args:
        applied: With their scripts.
        files: For scripts that were too long to be stored.

    Raises:
        ReplayError: A script is neither stored nor the one of a file, or it failed.
    """
    by_checksum = {migration.up.checksum: migration for migration in files}
    rows = [row for row in applied if row.under_way is None and row.applied_at]
    for row in sorted(rows, key=lambda row: (row.applied_at, row.number)):
        migration = by_checksum.get(row.checksum)
        text = row.up_script
        if text is None and migration:
            text = migration.up.text
        if text is None:
            raise ReplayError(f"the script of {row.version} is neither stored nor in its file")
        path = PurePath(f"{row.version}.up.sql (stored)")
        source = SourceFile(path, text, row.checksum)
        script = parser.parse(path, text)
        # Not that of the file: two versions can have the same text.
        made = Migration(row.version, source, None)
        _, error = _run(stage, Step(row.version, Direction.UP, script, made), traced=False)
        if error:
            raise ReplayError(f"the script of {row.version} does not run again: {error}")


def make(stage: Stage, migrations: Iterable[Migration]) -> None:
    """Bring an empty database to the state that files make.

    Raises:
        ReplayError: One of them fails.
    """
    for migration in migrations:
        script = parser.parse(migration.up.path, migration.up.text)
        step = Step(migration.version, Direction.UP, script, migration)
        _, error = _run(stage, step, traced=False)
        if error:
            raise ReplayError(f"{migration.version} does not run on an empty database: {error}")


def _down(version: str, source: SourceFile) -> Step:
    return Step(version, Direction.DOWN, parser.parse(source.path, source.text))


def _does_something(step: Step) -> bool:
    return bool(step.script.problems) or any(unit.statements for unit in step.script.units)


def _execute(context: Context, step: Step) -> None:
    runner.execute(context, Plan((step,)))


def _run(
    stage: Stage, step: Step, execute: Execute = _execute, *, traced: bool = True
) -> tuple[tuple[TracedStatement, ...], MigratorError | None]:
    """Run one step, and return what its statements did, and what stopped it."""
    if step.script.problems:
        return (), BlockedError("it cannot be run", errors=step.script.problems)
    seen: list[TracedStatement] = []
    seconds: dict[int, float] = {}

    def listen(event: Event) -> None:
        match event:
            case StatementFinished(statement=statement):
                seconds[statement.offset] = event.seconds
            case Traced(statement=statement, trace=trace):
                took = seconds.get(statement.offset, 0.0)
                seen.append(TracedStatement(statement, trace, took))
            case Noticed() | Waiting() | Retrying():
                stage.notify(event)

    try:
        execute(_context(stage, listen, traced=traced), step)
    except CancelledError:
        raise
    except MigratorError as error:
        if not stage.conn.closed:
            with connection.reported():
                connection.forget(stage.conn)  # the failed script may have left a role
        return tuple(seen), error
    return tuple(seen), None


def _context(stage: Stage, notify: Notify, *, traced: bool) -> Context:
    return Context(
        conn=stage.conn,
        pid=stage.pid,
        recorder=recorder.recorder(stage.schema),
        settings=stage.settings,
        interrupts=stage.interrupts,
        notify=notify,
        observe=stage.observe,
        tracer=tracer(stage.watcher, stage.schema) if traced else None,
        outcome=stage.outcome,
        is_guarded=stage.is_guarded,
    )


def _early_use(
    step: Step, traced: tuple[TracedStatement, ...], error: MigratorError
) -> tuple[Finding, ...]:
    """Return the hazard that the server has told of by an error: a new enum value was used."""
    statements = [s for unit in step.script.units for s in unit.statements][len(traced) :]
    if isinstance(error, StatementError) and error.sqlstate == _ENUM_VALUE_USED_EARLY:
        return (catalogue.enum_value_used(statements[0], error.message),)
    return ()
