"""Ask the target, read-only and in little time, whether its rows break what a migration adds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import psycopg
from psycopg import sql

from ...config import Database
from ...errors import UsageError
from ...hazards import catalogue
from ...hazards.catalogue import Finding
from ...postgres import connection
from ...postgres.cursor import Connection, run_plainly
from ...session import Session
from ..report import Answer, DataCheck, RehearsedMigration
from .violations import MOST, Question

_SETTINGS = {
    "lock_timeout": "100",  # milliseconds
    # A valid check may prove that no row breaks a condition.
    "constraint_exclusion": "on",
    "row_security": "off",
    "jit": "off",
}
_LONGEST = 200  # characters of an example
_CANCELLED = frozenset(["57014", "40001"])  # the second by a standby
# What the rows make of the expressions of the migration: wrong values, and failed checks of
# domains and functions.
_BY_ROWS = ("22", "23", "P0001")


@dataclass(frozen=True, slots=True)
class DataCheckOptions:
    """How to check the rows of the target.

    Attributes:
        limit: For each query, in milliseconds; 0 for no checks at all.
        database: Where to check, a replica of the target; None for the target itself.
        has_examples: Whether a report may contain values of rows.
    """

    limit: int
    database: Database | None = None
    has_examples: bool = True


def answered(
    work: Session, migrations: tuple[RehearsedMigration, ...], options: DataCheckOptions
) -> tuple[RehearsedMigration, ...]:
    """Return migrations with the answers to their questions, and findings for what fails.

    Raises:
        UsageError: The database to ask is not a replica of the target.
        DatabaseConnectionError: It cannot be reached, or the connection was lost.
    """
    if not any(each.questions for each in migrations):
        return migrations
    role = work.settings.role
    with _asked(work, options.database) as conn, connection.reported():
        return tuple(_answered(conn, each, role, options) for each in migrations)


@contextmanager
def _asked(work: Session, replica: Database | None) -> Iterator[Connection]:
    if replica is None:
        yield work.conn
        return
    with closing(connection.connect_own(replica)) as conn:
        with connection.reported():
            ours, theirs = _identity(work.conn), _identity(conn)
        if None in ours or ours != theirs:
            raise UsageError(
                "--data-url is neither the target database nor a replica of it",
                detail=f"target:     {_identified(*ours)}\n--data-url: {_identified(*theirs)}",
            )
        yield conn


def _identity(conn: Connection) -> tuple[str | None, str]:
    """Return what the databases of a server and of its physical replicas share."""
    query = "select oid::text || ' ' || datname from pg_database where datname = current_database()"
    return connection.system_identifier(conn), str(conn.execute(query).fetchall()[0][0])


def _identified(system: str | None, database: str) -> str:
    oid, _, name = database.partition(" ")
    return f'database "{name}" (OID {oid}) of the system {system or "(unknown)"}'


def _answered(
    conn: Connection, rehearsed: RehearsedMigration, role: str | None, options: DataCheckOptions
) -> RehearsedMigration:
    as_role = rehearsed.step.script.options.role or role
    checks = tuple(_answer(conn, each, as_role, options) for each in rehearsed.questions)
    failed = _findings(rehearsed, checks)
    return replace(rehearsed, checks=checks, findings=(*rehearsed.findings, *failed))


def _answer(
    conn: Connection, question: Question, role: str | None, options: DataCheckOptions
) -> DataCheck:
    check = DataCheck(question.statement, question.relation, question.what, Answer.UNKNOWN)
    if question.query is None:
        return replace(check, reason=question.why_not)
    try:
        count, examples = _ask(conn, question, role, options.limit)
    except psycopg.Error as error:
        if conn.closed:
            raise
        return _refused(check, question, error, options)
    if count and question.fewer:
        return replace(check, reason=f"rows break it now, but {question.fewer}")
    if count:
        shown = tuple(map(_printable, examples)) if options.has_examples else ()
        return replace(
            check,
            answer=Answer.FAILS,
            count=min(count, MOST),
            is_more=count > MOST,
            noun=question.noun,
            examples=shown,
        )
    if question.more:
        return replace(check, reason=f"no row breaks it now, but {question.more}")
    return replace(check, answer=Answer.PASSES)


def _ask(
    conn: Connection, question: Question, role: str | None, limit: int
) -> tuple[int, Sequence[str]]:
    settings = [
        f"set local {name} = {value}"
        for name, value in (_SETTINGS | {"statement_timeout": str(limit)}).items()
    ]
    if role:
        settings.append("set local role " + sql.Identifier(role).as_string(conn))
    execute = partial(run_plainly, conn) if question.is_users else conn.execute
    with conn.transaction():
        conn.execute("set transaction isolation level read committed, read only, not deferrable")
        cursor = execute("; ".join([*settings, question.query or ""]).encode())
        for _ in settings:
            cursor.nextset()
        count, examples = cursor.fetchall()[0]
    return count, sorted(examples)  # the order in which a scan finds rows changes


def _refused(
    check: DataCheck, question: Question, error: psycopg.Error, options: DataCheckOptions
) -> DataCheck:
    state, text = error.sqlstate or "", error.diag.message_primary or str(error)
    if state in _CANCELLED:
        return replace(check, answer=Answer.TIMED_OUT, reason=_seconds(options.limit))
    if state == "55P03":
        return replace(check, answer=Answer.TIMED_OUT, reason="another session has locked it")
    if state.startswith(_BY_ROWS) and question.fewer:
        return replace(check, reason=f"rows break it now, but {question.fewer}")
    if state.startswith(_BY_ROWS):
        # The message may quote a value.
        shown = f"{state}: {_printable(text)}" if options.has_examples else state
        return replace(check, answer=Answer.FAILS, reason=shown)
    return replace(check, reason=_printable(text))


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s"


def _printable(text: str) -> str:
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _findings(rehearsed: RehearsedMigration, checks: Iterable[DataCheck]) -> Iterator[Finding]:
    script = rehearsed.step.script
    for check in checks:
        if check.answer is Answer.FAILS:
            hazard = "breaks-on-data"
            finding = Finding(
                catalogue.hazards()[hazard], check.statement, check.relation, check.text
            )
            yield replace(finding, accepted=catalogue.accepted(script, check.statement, hazard))
