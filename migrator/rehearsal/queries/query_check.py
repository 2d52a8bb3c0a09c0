"""Find the queries of the running release that a pending migration breaks.

Each query is prepared on the scratch database before the migrations and after each of them, and
its plan is explained; it is never run.  PREPARE reports what does not parse.  Only EXPLAIN reports
a revoked privilege, because the executor checks it when it starts (ExecCheckPermissions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import psycopg

from ...model import Step
from ...postgres import connection
from ...sql.script import Statement
from ..report import QueryCheck, RehearsedMigration
from ..stage import Stage, run, try_out
from ..steps import from_start
from . import runnable
from .regressions import BROKEN, Regression, Regressions
from .runnable import Runnable
from .running import Queries

_TRIALS = 50  # runs of a part of a migration
_SEQUENCES = """
select format('%I.%I', schemaname, sequencename),
       coalesce(last_value, start_value),
       last_value is not null
from pg_catalog.pg_sequences
"""


def check(
    stage: Stage, done: Iterable[RehearsedMigration], queries: Queries
) -> tuple[QueryCheck, tuple[Regression, ...]]:
    """Check queries on a stage in the state of the target, which applies the migrations.

    Returns:
        What was checked, and the queries that break, by migration.

    Raises:
        CancelledError: The user stopped it.
        MigratorError: A migration fails that succeeded in the rehearsal.
    """
    found = Regressions()
    with connection.reported():
        checked, plannable = runnable.find(stage, queries)
        for step in _steps(done):
            if error := run(stage, step):
                raise error
            only = only_statement(step)
            failures = _failures(stage, plannable)
            found.add(step, {(each, BROKEN): (text, only) for each, text in failures.items()})
    return checked, found.found


def can_locate(broken: Regression) -> bool:
    """Whether `locate` may find the statement that breaks a query."""
    return broken.statement is None and broken.step.script.transactional


def locate(
    stage: Stage, done: Iterable[RehearsedMigration], broken: Sequence[Regression]
) -> tuple[Regression, ...]:
    """Find the statements that break queries, on a stage in the state of the target.

    Returns:
        The same; without a statement where a migration does not run part by part.

    Raises:
        CancelledError: The user stopped it.
    """
    found: dict[tuple[str, Runnable], Statement] = {}
    with connection.reported():
        for step in _steps(done):
            errors = {e.runnable: e.text for e in broken if e.step == step and can_locate(e)}
            trials = iter(range(_TRIALS))
            for each, statement in _culprits(stage, step, errors, trials, _statements(step)):
                found[step.version, each] = statement
            if run(stage, step):
                break  # after `check`, only because of what the trials have left
    return tuple(
        replace(each, statement=found.get((each.step.version, each.runnable), each.statement))
        for each in broken
    )


def _steps(done: Iterable[RehearsedMigration]) -> list[Step]:
    return [from_start(each.step) for each in done if not each.error]


def _failures(stage: Stage, queries: Iterable[Runnable]) -> dict[Runnable, str]:
    """Return the queries that cannot be planned, with PostgreSQL's message."""
    found = {}
    for each in queries:
        runnable.stop_if_interrupted(stage)
        error = runnable.refusal(stage.conn, each)
        if error and runnable.is_refused(error):
            found[each] = runnable.message(stage.conn, error)
    return found


def _statements(step: Step) -> tuple[Statement, ...]:
    return tuple(statement for unit in step.script.units for statement in unit.statements)


def only_statement(step: Step) -> Statement | None:
    """Return the statement of a step that has one; None if it has more."""
    return _only(_statements(step))


def _only(statements: tuple[Statement, ...]) -> Statement | None:
    return statements[0] if len(statements) == 1 else None


def _culprits(
    stage: Stage,
    step: Step,
    broken: dict[Runnable, str],
    trials: Iterator[int],
    statements: tuple[Statement, ...],
) -> Iterator[tuple[Runnable, Statement]]:
    """Find the statements that break queries, by halves.

    Args:
        broken: They fail with this message after these successive statements of the step; not,
            or with another message, before them.
        trials: One for each time that the step may be run.
    """
    if not (broken and statements):
        return
    if only := _only(statements):
        yield from ((each, only) for each in broken)
        return
    middle = len(statements) // 2
    failures = _failures_after(stage, step, statements[middle - 1], broken, trials)
    if failures is not None:
        early = {each: error for each, error in broken.items() if failures.get(each) == error}
        late = {each: error for each, error in broken.items() if each not in early}
        yield from _culprits(stage, step, early, trials, statements[:middle])
        yield from _culprits(stage, step, late, trials, statements[middle:])


def _failures_after(
    stage: Stage,
    step: Step,
    last: Statement,
    queries: Iterable[Runnable],
    trials: Iterator[int],
) -> dict[Runnable, str] | None:
    """Run a step up to a statement and roll it back; return what fails in between.

    Returns:
        None if there is no trial left, or the step does not run up to there.
    """
    (unit,) = step.script.units
    part = replace(unit, statements=unit.statements[: unit.statements.index(last) + 1])
    script = replace(step.script, units=(part,))
    if next(trials, None) is None:
        return None
    sequences = _sequences(stage)
    try:
        is_run = try_out(stage, replace(step, script=script)) is None
        return _failures(stage, queries) if is_run else None
    finally:
        if not stage.conn.closed:
            stage.conn.rollback()
            _restore(stage, sequences)


def _sequences(stage: Stage) -> dict[str, tuple[int, bool]]:
    """Return the value of each sequence, and whether it has been used, by name."""
    rows = stage.conn.execute(_SEQUENCES).fetchall()
    return {name: (value, is_used) for name, value, is_used in rows}


def _restore(stage: Stage, before: dict[str, tuple[int, bool]]) -> None:
    """Set the sequences back, which a rollback does not."""
    after = _sequences(stage)
    for name, state in before.items():
        if after.get(name) != state:
            with suppress(psycopg.errors.InsufficientPrivilege):
                stage.conn.execute("select setval(%s::regclass, %s, %s)", (name, *state))
