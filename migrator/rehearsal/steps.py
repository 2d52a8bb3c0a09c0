"""Run migrations on a stage, trace what they do, and check their down scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..errors import MigratorError, RequirementError, StatementError
from ..execution import transaction
from ..hazards import assess, catalogue, pending
from ..hazards.catalogue import Facts, Finding, Made, Size, Timing
from ..model import Direction, Step
from ..planning.repeatables import Todo
from ..sql import parser
from ..sql.script import Script
from . import backfills, downs, facts, locks, prerequisites, settled
from .data.lineage import Lineage
from .report import DownCheck, RehearsedMigration, TracedStatement
from .schemas.reader import Reader
from .schemas.schema import Difference, Sign, compare, recreated
from .schemas.state import State, changed, facts_after
from .stage import Execute, Stage, carry_out, execute_step, touched

_ENUM_VALUE_USED_EARLY = "55P04"


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
    done = rehearse_each(stage, steps, before, sizes)
    return tuple(settled.leave_out([*before, *done]))


def rehearse_each(
    stage: Stage,
    steps: Iterable[Step],
    before: Sequence[RehearsedMigration],
    sizes: dict[str, Size],
) -> Iterator[RehearsedMigration]:
    """Do the same, and yield each migration once it is rehearsed, with all its findings."""
    lineage = Lineage(stage.watcher) if stage.asks else None
    done = list(before)
    for earlier in done:
        traced, error = carry_out(stage, earlier.step, traced=stage.asks)
        if error and prerequisites.create(stage, earlier.step, error):
            traced, error = carry_out(stage, earlier.step, traced=stage.asks)
        if error:
            raise error
        if lineage:
            lineage.questions(earlier.step, traced)
        sizes = pending.sizes_after(sizes, settled.traces([earlier]))
    reader = None if stage.meter else Reader(stage.conn, stage.watcher, stage.schema)
    state = reader.read() if reader else None
    todo = Todo(steps)
    while planned := todo.next():
        stage.ensured.clear()
        known = _known(stage, planned, sizes, done[-1].facts.made if done else Made())
        if reader and state:
            rehearsed, state = _rehearse(stage, reader, planned, state, known, lineage)
            if rehearsed.error and prerequisites.create(stage, planned, rehearsed.error):
                state = reader.read()
                rehearsed, state = _rehearse(stage, reader, planned, state, known, lineage)
        else:
            rehearsed = _up_elsewhere(stage, planned, known, execute_step)
        rehearsed = replace(rehearsed, conditions=tuple(stage.ensured))
        if todo.postpones(planned, rehearsed.error):
            continue
        done.append(rehearsed)
        yield rehearsed
        if done[-1].error or done[-1].is_stuck:
            break
        sizes = pending.sizes_after(sizes, settled.traces(done[-1:]))


def run_and_roll_back(stage: Stage, step: Step, sizes: dict[str, Size]) -> RehearsedMigration:
    """Run a transactional up step, trace it and roll it back; its down is not run."""
    try:
        known = _known(stage, step, sizes, Made())
        rehearsed = _up_elsewhere(stage, step, known, transaction.try_out, is_brief=True)
        return next(settled.leave_out([rehearsed]))
    finally:
        if not stage.conn.closed:
            stage.conn.rollback()


def from_start(step: Step) -> Step:
    """Return a step without what an interrupted run has done of it."""
    return replace(step, start_at=0, unsure=False, resumes=False)


def _rehearse(
    stage: Stage,
    reader: Reader,
    planned: Step,
    before: State,
    known: Facts,
    lineage: Lineage | None,
) -> tuple[RehearsedMigration, State]:
    """Rehearse a step on the scratch database; return the state after it as well."""
    # The scratch database has nothing of an interrupted migration.
    rehearsed, after = _up(stage, reader, from_start(planned), before, known)
    if rehearsed.error:
        return rehearsed, after
    asked = lineage.questions(planned, rehearsed.traced) if lineage else ()
    rehearsed = replace(rehearsed, questions=asked)
    return _with_down(stage, reader, rehearsed, before, after, lineage)


def _up(
    stage: Stage, reader: Reader, step: Step, before: State, known: Facts
) -> tuple[RehearsedMigration, State]:
    """Run an up step, and find its hazards; return the state after it as well.

    Args:
        known: The facts that are not of the scratch database.
    """
    traced, error = carry_out(stage, step, known=before)
    if error:
        return _failed(step, traced, error, known), before
    rehearsed = RehearsedMigration(step, traced)
    rehearsed = backfills.with_estimates(stage.conn, rehearsed, known, stage.settings)
    after = reader.after(step.script, before, touched(traced))
    known = facts_after(before.facts(known), before, after)
    return _assessed(stage, rehearsed, known), after


def _with_down(
    stage: Stage,
    reader: Reader,
    rehearsed: RehearsedMigration,
    before: State,
    after: State,
    lineage: Lineage | None,
) -> tuple[RehearsedMigration, State]:
    """Rehearse the down of a step; return the state after the second up as well."""
    down, last = _check_down(stage, reader, rehearsed, before, after)
    if down is None:
        return rehearsed, last
    if lineage and not stage.conn.closed:
        lineage.settle((*rehearsed.traced, *down.traced))
    findings = (*rehearsed.findings, *downs.find(rehearsed, down))
    return replace(rehearsed, down=down, findings=findings), last


def _known(stage: Stage, step: Step, sizes: dict[str, Size], made: Made) -> Facts:
    changes = {
        offset: found
        for (version, offset), found in stage.estimates.items()
        if version == step.version
    }
    return Facts(sizes=sizes, made=made, row_changes=changes)


def _up_elsewhere(
    stage: Stage, step: Step, known: Facts, execute: Execute, *, is_brief: bool = False
) -> RehearsedMigration:
    """Run an up step where not only the rehearsal makes changes, and find its hazards.

    Args:
        known: The facts that are not of the database.
        is_brief: Read only the facts that the step can have changed, as its locks are held.
    """
    before = facts.before(stage.conn, known.sizes, known.made)
    known = replace(before, row_changes=known.row_changes)
    old = facts.objects(stage.conn, stage.schema)
    begin = stage.meter.begin() if stage.meter else 0
    traced, error = carry_out(stage, step, execute)
    if error:
        return _failed(step, traced, error, known)
    rehearsed, timing = RehearsedMigration(step, traced), None
    if stage.meter:
        rehearsed = stage.meter.end(rehearsed, begin)
        timing = locks.timing(rehearsed, stage.meter.max_lock)
    rehearsed = backfills.with_estimates(stage.conn, rehearsed, known, stage.settings)
    is_same = is_brief and not _may_change_objects(traced)
    new = old if is_same else facts.objects(stage.conn, stage.schema)
    tables = touched(traced) if is_brief else None
    known = facts.after(stage.conn, known, old, new, tables=tables)
    return _assessed(stage, rehearsed, known, timing)


def _failed(
    step: Step, traced: tuple[TracedStatement, ...], error: MigratorError, known: Facts
) -> RehearsedMigration:
    findings = _early_use(step, traced, error)
    return RehearsedMigration(step, traced, findings, error=error, facts=known)


def _assessed(
    stage: Stage, rehearsed: RehearsedMigration, known: Facts, timing: Timing | None = None
) -> RehearsedMigration:
    """Add the hazards of a step.

    Args:
        known: The facts after it.
    """
    script, traced = rehearsed.step.script, rehearsed.traced
    pairs = [(each.statement, each.trace) for each in traced]
    findings = assess.find(script, pairs, facts=known, small=stage.small, timing=timing)
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


def _check_down(
    stage: Stage, reader: Reader, rehearsed: RehearsedMigration, before: State, after: State
) -> tuple[DownCheck | None, State]:
    """Revert a step and apply it again; return None if it has no down script.

    Returns:
        Also the last state, which is of no use if the check is stuck.
    """
    step = rehearsed.step
    migration = step.migration
    if migration and migration.is_repeatable:
        return _check_earlier(stage, reader, rehearsed, before, after)
    if not migration or not migration.down:
        return None, after
    script = parser.parse(migration.down.path, migration.down.text)
    down = Step(step.version, Direction.DOWN, script)
    check = DownCheck(script=script, irreversible=script.options.irreversible)
    if check.irreversible and _is_empty(script):
        return check, after
    traced, error = carry_out(stage, down, known=after)
    if error:
        # A transaction that failed has changed nothing; what is ensured was asked, and ran on.
        is_stuck = not (script.transactional or script.problems)
        is_stuck = is_stuck or isinstance(error, RequirementError)
        return replace(check, traced=traced, error=error, is_stuck=is_stuck), after
    restored = reader.after(script, after, touched(traced))
    _, error = carry_out(stage, step, traced=False)
    again: tuple[Difference, ...] = ()
    last = restored
    if not error:
        last = reader.after(step.script, restored, touched(rehearsed.traced))
        again = compare(*changed(after, last))
    old, new = changed(before, restored)
    check = replace(
        check,
        traced=traced,
        left=tuple(each for each in compare(old, new) if not each.is_validation),
        lost=tuple(each.label for each in recreated(old, new)),
        again=again,
        error=error,
        is_second_up=error is not None,
        is_stuck=error is not None,
    )
    return check, last


def _check_earlier(
    stage: Stage, reader: Reader, rehearsed: RehearsedMigration, before: State, after: State
) -> tuple[DownCheck, State]:
    """Apply the earlier text of a repeatable file, if there is one, and the present one again.

    What only the present text makes may be left over.

    Returns:
        As `_check_down`.
    """
    step, check, restored = rehearsed.step, DownCheck(), after
    migration = step.migration
    if migration and (old := migration.down):
        script, made = parser.parse(old.path, old.text), replace(migration, up=old, down=None)
        traced, error = carry_out(
            stage, Step(step.version, Direction.UP, script, made), known=after
        )
        if error:
            return replace(check, traced=traced, error=error), after
        restored = reader.after(script, after, touched(traced))
        found = compare(*changed(before, restored))
        left = tuple(each for each in found if each.sign is not Sign.ADDED)
        check = replace(check, traced=traced, left=left)
    if error := carry_out(stage, step, traced=False)[1]:
        return replace(check, error=error, is_second_up=True, is_stuck=True), restored
    last = reader.after(step.script, restored, touched(rehearsed.traced))
    return replace(check, again=compare(*changed(after, last))), last


def _is_empty(script: Script) -> bool:
    return not script.problems and not any(unit.statements for unit in script.units)


def _early_use(
    step: Step, traced: tuple[TracedStatement, ...], error: MigratorError
) -> tuple[Finding, ...]:
    """Return the hazard that the server reports as an error: an enum value used too early."""
    statements = [s for unit in step.script.units for s in unit.statements][len(traced) :]
    if isinstance(error, StatementError) and error.sqlstate == _ENUM_VALUE_USED_EARLY:
        return (catalogue.enum_value_used(statements[0], error.message),)
    return ()
