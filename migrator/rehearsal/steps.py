"""Run migrations on a stage, trace what they do, and check their down scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..config import Settings
from ..errors import BlockedError, CancelledError, MigratorError, RequirementError, StatementError
from ..events import Event, Noticed, Notify, Retrying, Traced, Waiting
from ..execution import runner, transaction
from ..execution.context import Asks, Context, tracer
from ..hazards import assess, catalogue, pending, rows
from ..hazards.catalogue import Facts, Finding, Made, Size
from ..history import recorder
from ..interrupts import Interrupts
from ..model import Direction, Migration, Plan, Step
from ..planning.repeatables import Todo
from ..postgres import connection
from ..postgres.activity import Observe, observe_nothing
from ..postgres.cursor import Connection
from ..sql import parser
from ..tracing.trace import Trace
from . import conditions, downs, facts, locks, prerequisites
from .data.estimates import Estimates
from .data.lineage import Lineage
from .meter import Meter
from .report import Condition, DownCheck, RehearsedMigration, TracedStatement
from .schemas import schema
from .schemas.schema import Schema, compare, recreated

_ENUM_VALUE_USED_EARLY = "55P04"

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


def rehearse(
    stage: Stage,
    steps: Iterable[Step],
    before: Sequence[RehearsedMigration],
    sizes: dict[str, Size],
) -> tuple[RehearsedMigration, ...]:
    """Rehearse up steps in order: each up, its down, and the up again; on a copy only the up.

    Args:
        before: Migrations that were rehearsed on another stage; they are applied first.
        sizes: Of the target's tables, before all of these migrations.

    Raises:
        MigratorError: One of the migrations before cannot be applied.

    Returns:
        Those before, then one for each step; fewer if an up failed, or if a migration is stuck,
        so that later ones need another stage.
    """
    return settled([*before, *rehearse_each(stage, steps, before, sizes)])


def rehearse_each(
    stage: Stage,
    steps: Iterable[Step],
    before: Sequence[RehearsedMigration],
    sizes: dict[str, Size],
) -> Iterator[RehearsedMigration]:
    """Do the same, and yield each migration once it is rehearsed, with all its findings."""
    lineage = Lineage(stage.conn) if stage.asks else None
    done = list(before)
    for earlier in done:
        traced, error = _run(stage, earlier.step, traced=stage.asks)
        if error and prerequisites.create(stage, earlier.step, error):
            traced, error = _run(stage, earlier.step, traced=stage.asks)
        if error:
            raise error
        if lineage:
            lineage.questions(stage.conn, earlier.step, traced)
        sizes = pending.sizes_after(sizes, _traces([earlier]))
    todo = Todo(steps)
    while planned := todo.next():
        made = done[-1].facts.made if done else Made()
        stage.ensured.clear()
        rehearsed = _rehearse(stage, planned, sizes, made, lineage)
        if rehearsed.error and prerequisites.create(stage, planned, rehearsed.error):
            rehearsed = _rehearse(stage, planned, sizes, made, lineage)
        rehearsed = replace(rehearsed, conditions=tuple(stage.ensured))
        if todo.postpones(planned, rehearsed.error):
            continue
        done.append(rehearsed)
        yield rehearsed
        if done[-1].error or done[-1].is_stuck:
            break
        sizes = pending.sizes_after(sizes, _traces(done[-1:]))


def _traces(rehearsed: Iterable[RehearsedMigration]) -> list[Trace]:
    return [traced.trace for each in rehearsed for traced in each.traced]


def settled(done: Sequence[RehearsedMigration]) -> tuple[RehearsedMigration, ...]:
    """Leave out the missing indexes that a later migration creates or makes unnecessary."""
    last = [Facts(), *(each.facts for each in done if not each.error)][-1]
    return tuple(
        replace(
            each, findings=tuple(f for f in each.findings if not _is_settled(f, done[n:], last))
        )
        for n, each in enumerate(done)
    )


def _is_settled(finding: Finding, since: Sequence[RehearsedMigration], last: Facts) -> bool:
    if not finding.missing_index or finding.statement is None:
        return False
    own, *rest = since
    at = [traced.statement for traced in own.traced].index(finding.statement)
    later = [*(traced.trace for traced in own.traced[at + 1 :]), *_traces(rest)]
    return not pending.needs_index(finding, later, last)


def run_and_roll_back(stage: Stage, step: Step, sizes: dict[str, Size]) -> RehearsedMigration:
    """Run a transactional up step, trace it and roll it back; its down is not run."""
    try:
        known = _facts_before(stage, step, sizes, Made())
        rehearsed = _up(stage, step, known, transaction.try_out, is_brief=True)
        return settled([rehearsed])[0]
    finally:
        if not stage.conn.closed:
            stage.conn.rollback()


def from_start(step: Step) -> Step:
    """Return a step without what an interrupted run has done of it."""
    return replace(step, start_at=0, unsure=False, resumes=False)


def _rehearse(
    stage: Stage, planned: Step, sizes: dict[str, Size], made: Made, lineage: Lineage | None
) -> RehearsedMigration:
    if stage.meter:
        return _up(stage, planned, _facts_before(stage, planned, sizes, made), _execute)
    # The scratch database has nothing of an interrupted migration.
    step = from_start(planned)
    before = schema.read(stage.conn, stage.schema)
    rehearsed = _up(stage, step, _facts_before(stage, step, sizes, made), _execute)
    if rehearsed.error:
        return rehearsed
    after = schema.read(stage.conn, stage.schema)
    asked = lineage.questions(stage.conn, planned, rehearsed.traced) if lineage else ()
    down = _check_down(stage, step, before, after)
    rehearsed = replace(rehearsed, questions=asked)
    if down is None:
        return rehearsed
    if lineage and not stage.conn.closed:
        lineage.settle(stage.conn, (*rehearsed.traced, *down.traced))
    return replace(
        rehearsed, down=down, findings=(*rehearsed.findings, *downs.find(rehearsed, down))
    )


def _facts_before(stage: Stage, step: Step, sizes: dict[str, Size], made: Made) -> Facts:
    changes = {
        offset: found
        for (version, offset), found in stage.estimates.items()
        if version == step.version
    }
    return replace(facts.before(stage.conn, sizes, made), row_changes=changes)


def _up(
    stage: Stage, step: Step, known: Facts, execute: Execute, *, is_brief: bool = False
) -> RehearsedMigration:
    """Run an up step, and find its hazards.

    Args:
        known: The facts before it.
        is_brief: Read only the facts that the step can have changed, as its locks are held.
    """
    old = facts.objects(stage.conn, stage.schema)
    begin = stage.meter.begin() if stage.meter else 0
    traced, error = _run(stage, step, execute)
    if error:
        findings = _early_use(step, traced, error)
        return RehearsedMigration(step, traced, findings, error=error, facts=known)
    rehearsed, timing = RehearsedMigration(step, traced), None
    if stage.meter:
        rehearsed = stage.meter.end(rehearsed, begin)
        timing = locks.timing(rehearsed, stage.meter.max_lock)
    touched = {touch.relation.oid for each in traced for touch in each.trace.touches}
    is_same = is_brief and not _may_change_objects(traced)
    new = old if is_same else facts.objects(stage.conn, stage.schema)
    known = facts.after(stage.conn, known, old, new, tables=touched if is_brief else None)
    pairs = [(each.statement, each.trace) for each in traced]
    findings = assess.find(step.script, pairs, facts=known, small=stage.small, timing=timing)
    known = replace(known, made=pending.made_after(known, (trace for _, trace in pairs)))
    return replace(rehearsed, findings=findings, facts=known)


def _may_change_objects(traced: Iterable[TracedStatement]) -> bool:
    """Whether statements can have changed objects other than relations.

    Their traces do not show every rename, as it takes no lock.
    """
    return any(
        each.trace.objects
        or each.statement.words[:1] in (("do",), ("call",), ("select",))
        or (each.statement.words[:1] == ("alter",) and each.statement.words[1:2] != ("table",))
        for each in traced
    )


def _check_down(stage: Stage, step: Step, before: Schema, after: Schema) -> DownCheck | None:
    """Revert a step and apply it again; return None if it has no down script."""
    migration = step.migration
    if migration and migration.is_repeatable:
        return _check_earlier(stage, step, migration, before, after)
    if not migration or not migration.down:
        return None
    script = parser.parse(migration.down.path, migration.down.text)
    down = Step(step.version, Direction.DOWN, script)
    check = DownCheck(script=script, irreversible=script.options.irreversible)
    if check.irreversible and not (script.problems or any(u.statements for u in script.units)):
        return check
    traced, error = _run(stage, down)
    if error:
        # A transaction that failed has changed nothing; what is ensured was asked, and ran on.
        is_stuck = not (script.transactional or script.problems)
        is_stuck = is_stuck or isinstance(error, RequirementError)
        return replace(check, traced=traced, error=error, is_stuck=is_stuck)
    restored = schema.read(stage.conn, stage.schema)
    _, error = _run(stage, step, traced=False)
    again = () if error else compare(after, schema.read(stage.conn, stage.schema))
    return replace(
        check,
        traced=traced,
        left=tuple(each for each in compare(before, restored) if not each.is_validation),
        lost=tuple(each.label for each in recreated(before, restored)),
        again=again,
        error=error,
        is_second_up=error is not None,
        is_stuck=error is not None,
    )


def _check_earlier(
    stage: Stage, step: Step, migration: Migration, before: Schema, after: Schema
) -> DownCheck:
    """Apply the earlier text of a repeatable file, if there is one, and the present one again.

    What only the present text makes may be left over.
    """
    old, check = migration.down, DownCheck()
    if old:
        script, made = parser.parse(old.path, old.text), replace(migration, up=old, down=None)
        traced, error = _run(stage, Step(step.version, Direction.UP, script, made))
        if error:
            return replace(check, traced=traced, error=error)
        found = compare(before, schema.read(stage.conn, stage.schema))
        left = tuple(each for each in found if each.sign is not schema.Sign.ADDED)
        check = replace(check, traced=traced, left=left)
    _, error = _run(stage, step, traced=False)
    again = () if error else compare(after, schema.read(stage.conn, stage.schema))
    is_failed = error is not None
    return replace(check, again=again, error=error, is_second_up=is_failed, is_stuck=is_failed)


def try_out(stage: Stage, step: Step) -> MigratorError | None:
    """Run a transactional step up to its commit, and leave its transaction open.

    Returns:
        The error that stopped it; None if its transaction is open.
    """
    return _run(stage, step, transaction.try_out, traced=False)[1]


def run(stage: Stage, step: Step, others: Iterable[str] = ()) -> MigratorError | None:
    """Run a step without tracing it; return the error that stopped it.

    It is run again if what it lacks could be created; `others` are the other scripts.
    """
    error = _run(stage, step, traced=False)[1]
    if error and prerequisites.create(stage, step, error, others):
        return _run(stage, step, traced=False)[1]
    return error


def _execute(context: Context, step: Step) -> None:
    runner.execute(context, Plan((step,)))


def _run(
    stage: Stage, step: Step, execute: Execute = _execute, *, traced: bool = True
) -> tuple[tuple[TracedStatement, ...], MigratorError | None]:
    """Run one step; return what its statements did, and the error that stopped it.

    Args:
        traced: Whether that is wanted: not of a script that has run before.
    """
    if step.script.problems:
        return (), BlockedError.of(step.script.problems, "in the script")
    seen: dict[int, TracedStatement] = {}  # a second attempt traces its statements again

    def listen(event: Event) -> None:
        match event:
            case Traced(_, statement, trace, effort):
                seen[statement.offset] = TracedStatement(statement, trace, effort)
            case Noticed():
                stage.notify(replace(event, is_repeated=not traced))
            case Waiting() | Retrying():
                stage.notify(event)

    context = _context(stage, listen, traced=traced)
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


def _with_written(step: Step, seen: Sequence[TracedStatement]) -> tuple[TracedStatement, ...]:
    traces = rows.with_written(step.script, [(each.statement, each.trace) for each in seen])
    return tuple(replace(a, trace=b) for a, b in zip(seen, traces, strict=True))


def _context(stage: Stage, notify: Notify, *, traced: bool) -> Context:
    wal = stage.meter is not None and stage.meter.has_wal
    return Context(
        conn=stage.conn,
        pid=stage.pid,
        recorder=recorder.recorder(stage.schema),
        settings=stage.settings,
        interrupts=stage.interrupts,
        notify=notify,
        observe=stage.observe,
        tracer=tracer(stage.watcher, stage.schema, wal=wal) if traced else None,
        outcome=stage.outcome,
        is_guarded=stage.is_guarded,
        asks=stage.conditions if traced or stage.conditions is Asks.ALL else Asks.NONE,
    )


def _early_use(
    step: Step, traced: tuple[TracedStatement, ...], error: MigratorError
) -> tuple[Finding, ...]:
    """Return the hazard that the server reports as an error: an enum value used too early."""
    statements = [s for unit in step.script.units for s in unit.statements][len(traced) :]
    if isinstance(error, StatementError) and error.sqlstate == _ENUM_VALUE_USED_EARLY:
        return (catalogue.enum_value_used(statements[0], error.message),)
    return ()
