"""Find the queries of the running release that a pending migration breaks.

Each query is prepared on the scratch database before the migrations and after each of them, and
its plan is explained; it is never run.  PREPARE reports what does not parse.  Only EXPLAIN reports
a revoked privilege, because the executor checks it when it starts (ExecCheckPermissions).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import psycopg
from psycopg import sql

from ..errors import CancelledError, counted
from ..hazards import catalogue
from ..hazards.catalogue import Finding
from ..model import Step
from ..passwords import without_passwords
from ..postgres import connection
from ..postgres.cursor import Connection, prepare, run_plainly
from ..sql.script import Statement
from . import steps
from .queries import Queries, Query, is_planned
from .report import LeftOut, QueryCheck, RehearsedMigration
from .steps import Stage

_SHOWN = 160  # characters of a query
_MOST = 20  # findings of a statement
_TRIALS = 50  # runs of a part of a migration
_NAME = "migrator_query"
_INFERRED = "unknown"
_SETTINGS = {
    # The planner runs immutable functions.
    "transaction_read_only": "on",
    "statement_timeout": "2s",
    "plan_cache_mode": "force_generic_plan",
    "standard_conforming_strings": "on",
}
# Classes of errors that say nothing about a query: a lost connection, a deadlock, resources, a
# timeout or cancel, the system, a bug of the server; and a lock timeout.
_UNRELATED = ("08", "40", "53", "57", "58", "XX", "55P03")
# A driver sends a number, a time or a UUID with its type; text takes every type that fits.
_TYPES = """
select array(
    select case
        when coalesce(e.oid, b.oid) < 16384
            and (coalesce(e.typcategory, b.typcategory) in ('B', 'D', 'N', 'T')
                 or coalesce(e.typname, b.typname) = 'uuid')
        then pg_catalog.format('pg_catalog.%I', b.typname)
        else 'unknown'
    end
    from unnest(s.parameter_types::oid[]) with ordinality p (type, place)
    join pg_catalog.pg_type t on t.oid = p.type
    join pg_catalog.pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    left join pg_catalog.pg_type e on e.oid = b.typelem and b.typcategory = 'A'
    order by p.place
)
from pg_catalog.pg_prepared_statements s
"""
_SEQUENCES = """
select format('%I.%I', schemaname, sequencename),
       coalesce(last_value, start_value),
       last_value is not null
from pg_catalog.pg_sequences
"""


@dataclass(frozen=True, slots=True)
class Runnable:
    """A query that can be planned before the migrations, and how.

    Attributes:
        role: Whose privileges it has; None for those of the rehearsal.
        types: Of its parameters, as in `cursor.prepare`.
    """

    query: Query
    role: str | None
    path: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A query that a migration breaks.

    Attributes:
        error: PostgreSQL's message.
        statement: The one that breaks it; None if that is not known.
        repaired_by: The version after which it can be planned again; None if there is none.
    """

    runnable: Runnable
    step: Step
    error: str
    statement: Statement | None
    repaired_by: str | None = None


def check(
    stage: Stage, done: Iterable[RehearsedMigration], queries: Queries
) -> tuple[QueryCheck, tuple[Broken, ...]]:
    """Check queries on a stage in the state of the target, which applies the migrations.

    Returns:
        What was checked, and the queries that break, by migration.

    Raises:
        CancelledError: The user stopped it.
        MigratorError: A migration fails that succeeded in the rehearsal.
    """
    with connection.reported():
        runnable, left_out = _runnable(stage, queries.queries)
        own = stage.conn.info.user
        others = [each for each in runnable if each.query.role not in (None, own)]
        broken: tuple[Broken, ...] = ()
        before: set[Runnable] = set()
        for step in _steps(done):
            if error := steps.run(stage, step):
                raise error
            failures = _failures(stage, runnable)
            repaired = before - failures.keys()
            broken = tuple(_repaired(each, step, repaired) for each in broken)
            only = _only(_statements(step))
            new = ((each, error) for each, error in failures.items() if each not in before)
            broken += tuple(Broken(each, step, text, only) for each, text in new)
            before = set(failures)
    unprivileged = sum(each.role is None for each in others)
    return QueryCheck(queries, tuple(left_out), unprivileged), broken


def can_locate(broken: Broken) -> bool:
    """Whether `locate` may find the statement that breaks a query."""
    return broken.statement is None and broken.step.script.transactional


def locate(
    stage: Stage, done: Iterable[RehearsedMigration], broken: Sequence[Broken]
) -> tuple[Broken, ...]:
    """Find the statements that break queries, on a stage in the state of the target.

    Returns:
        The same; without a statement where a migration does not run part by part.

    Raises:
        CancelledError: The user stopped it.
    """
    found: dict[tuple[str, Runnable], Statement] = {}
    with connection.reported():
        for step in _steps(done):
            errors = {e.runnable: e.error for e in broken if e.step == step and can_locate(e)}
            trials = iter(range(_TRIALS))
            for each, statement in _culprits(stage, step, errors, trials, _statements(step)):
                found[step.version, each] = statement
            if steps.run(stage, step):
                break  # after `check`, only because of what the trials have left
    return tuple(
        replace(each, statement=found.get((each.step.version, each.runnable), each.statement))
        for each in broken
    )


def with_findings(rehearsed: RehearsedMigration, broken: Iterable[Broken]) -> RehearsedMigration:
    """Add a finding for each query that a migration breaks."""
    by_statement: dict[Statement | None, list[Broken]] = {}
    for each in broken:
        if each.step.version == rehearsed.step.version:
            by_statement.setdefault(each.statement, []).append(each)
    found: list[Finding] = []
    for statement, alike in by_statement.items():
        accepted = catalogue.accepted(rehearsed.step.script, statement, "query-broken")
        found += (catalogue.query_broken(statement, text, accepted) for text in _texts(alike))
    return replace(rehearsed, findings=(*rehearsed.findings, *found))


def _steps(done: Iterable[RehearsedMigration]) -> list[Step]:
    return [steps.from_start(each.step) for each in done if not each.error]


def _runnable(stage: Stage, queries: Iterable[Query]) -> tuple[list[Runnable], list[LeftOut]]:
    """Find out which queries can be planned, and how."""
    path = stage.conn.execute(
        "select reset_val from pg_catalog.pg_settings where name = 'search_path'"
    ).fetchall()[0][0]
    runnable, left_out = [], []
    for query in queries:
        _stop_if_interrupted(stage)
        if not is_planned(query.text):
            left_out.append(LeftOut(query, "it is not one SELECT, INSERT, UPDATE, DELETE or MERGE"))
            continue
        found = _first_runnable(stage.conn, query, path)
        if isinstance(found, str):
            left_out.append(LeftOut(query, found))
        else:
            runnable.append(found)
    return runnable, left_out


def _first_runnable(conn: Connection, query: Query, path: str) -> Runnable | str:
    """Return how a query can be planned: as its role, else as ours; or the reason why not.

    Its parameters have the types that PostgreSQL infers, unless it cannot be planned with them.
    """
    reason = ""
    for role in dict.fromkeys((query.role, None)):
        plain = Runnable(query, role, query.path or path, ())
        try:
            with conn.transaction(force_rollback=True):
                _prepare(conn, plain)
                (types,) = conn.execute(_TYPES).fetchall()[0]
        except psycopg.Error as error:
            reason = _message(conn, error)
            continue
        for declared in (tuple(types), (_INFERRED,) * len(types)):
            runnable = replace(plain, types=declared)
            refusal = _refusal(conn, runnable)
            if refusal is None:
                return runnable
            reason = _message(conn, refusal)
    return reason


def _prepare(conn: Connection, runnable: Runnable) -> None:
    settings = {**_SETTINGS, "search_path": runnable.path}
    if runnable.role:
        settings["role"] = runnable.role
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, true)").format(name, value)
        for name, value in settings.items()
    )
    run_plainly(conn, sql.SQL("deallocate all; select {}").format(calls))
    prepare(conn, _NAME, runnable.types, runnable.query.text)


def _refusal(conn: Connection, runnable: Runnable) -> psycopg.Error | None:
    """Return the error with which PostgreSQL refuses to plan a query."""
    values = ", ".join(["null"] * len(runnable.types))
    try:
        with conn.transaction(force_rollback=True):
            _prepare(conn, runnable)
            run_plainly(conn, f"explain (costs off) execute {_NAME}" + (values and f" ({values})"))
    except psycopg.Error as error:
        if conn.closed:
            raise
        return error
    return None


def _message(conn: Connection, error: psycopg.Error) -> str:
    if conn.closed:
        raise error
    return error.diag.message_primary or " ".join(str(error).split())


def _failures(stage: Stage, runnable: Iterable[Runnable]) -> dict[Runnable, str]:
    """Return the queries that cannot be planned, with PostgreSQL's message."""
    found = {}
    for each in runnable:
        _stop_if_interrupted(stage)
        error = _refusal(stage.conn, each)
        if error and not (error.sqlstate or "").startswith(_UNRELATED):
            found[each] = _message(stage.conn, error)
    return found


def _stop_if_interrupted(stage: Stage) -> None:
    if stage.interrupts.signal:
        raise CancelledError("interrupted", signal=stage.interrupts.signal)


def _repaired(broken: Broken, step: Step, repaired: Collection[Runnable]) -> Broken:
    is_repaired = broken.runnable in repaired and broken.repaired_by is None
    return replace(broken, repaired_by=step.version) if is_repaired else broken


def _statements(step: Step) -> tuple[Statement, ...]:
    return tuple(statement for unit in step.script.units for statement in unit.statements)


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
    runnable: Iterable[Runnable],
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
        is_run = steps.try_out(stage, replace(step, script=script)) is None
        return _failures(stage, runnable) if is_run else None
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


def _texts(broken: Iterable[Broken]) -> Iterator[str]:
    """Say which queries break, each in one line; those that several roles run once."""
    merged: dict[tuple[str, str], list[Broken]] = {}
    for each in broken:
        query = " ".join(without_passwords(each.runnable.query.text).split())
        shown = query if len(query) <= _SHOWN else query[: _SHOWN - 1] + "…"
        merged.setdefault((each.error, shown), []).append(each)
    for (error, query), alike in islice(merged.items(), _MOST):
        yield f"{error}: {query}{_notes(alike)}"
    if len(merged) > _MOST:
        yield f"{len(merged) - _MOST} more queries fail after it"


def _notes(alike: Sequence[Broken]) -> str:
    first, queries = alike[0], [each.runnable.query for each in alike]
    calls = [query.calls for query in queries if query.calls is not None]
    roles = sorted({each.runnable.role for each in alike if each.runnable.role})
    notes = [
        *([str(first.runnable.query.location)] if first.runnable.query.location else []),
        *([counted(sum(calls), "call")] if calls else []),
        *([f"as {', '.join(roles)}"] if roles else []),
        *([f"repaired by {first.repaired_by}"] if first.repaired_by else []),
    ]
    return f" ({', '.join(notes)})" if notes else ""
