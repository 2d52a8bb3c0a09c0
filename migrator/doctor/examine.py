"""Ask a database all checks, without writing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from ..errors import HistoryError
from ..history import place
from ..postgres import connection
from ..postgres.cursor import Connection, run_plainly
from .checks import Check, Diagnosis, Finding, Unchecked, checks

_AGE = 120  # seconds that a transaction may be idle
_WAL = 10 << 30  # bytes that a slot in use may keep

# A migration runs under these settings; statements of our own have others.  The directory is null
# to a role that may not read it.
_SETTINGS = """
select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s))::pg_catalog.text,
       (select d.setting from pg_catalog.pg_settings d
        where d.name operator(pg_catalog.=) 'data_directory')
from pg_catalog.pg_settings s
where s.name operator(pg_catalog.=) any (array[
    'statement_timeout', 'lock_timeout', 'default_transaction_read_only', 'transaction_timeout',
    'idle_session_timeout', 'idle_in_transaction_session_timeout'
]::pg_catalog.text[])
"""
_BEGIN = (
    "begin isolation level read committed read only",
    "set local statement_timeout = '10s'",
    "set local lock_timeout = '1s'",
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about.

    Attributes:
        schema: That of the history; None for the first one of the search path.
        trusted: As for `place.locate`.
        role: The one that runs migrations; None for the one that is connected.
        shares_sessions: Whether a pooler assigns sessions by transaction; None without a pooler.
        age: In seconds; younger transactions are not reported.
        wal: In bytes; slots in use that keep less are not reported.
    """

    schema: str | None = None
    trusted: str | None = None
    role: str | None = None
    shares_sessions: bool | None = None
    age: int = _AGE
    wal: int = _WAL


def examine(conn: Connection, question: Question) -> Diagnosis:
    """Make every check that the server and the role allow.

    Raises:
        DatabaseConnectionError: The connection was lost.
    """
    with connection.reported():
        conn.is_settled = True  # our own session settings would hide those that the role has
        settings, directory = run_plainly(conn, _SETTINGS).fetchone()
        found, problems = _history(conn, question.schema, question.trusted)
        version = conn.info.server_version
        known = {
            "schema": found,
            "settings": settings,
            "role": question.role,
            "shares_sessions": question.shares_sessions,
            "version": version,
            "age": question.age,
            "wal": question.wal,
            "free": _free_space(conn, directory),
        }
        usable = [check for check in checks() if check.query and version >= check.since]
        answers = _answers(conn, usable, known)
    return Diagnosis(
        (*problems, *(each for answer in answers for each in answer.findings)),
        tuple(each for answer in answers for each in answer.notes),
        tuple(each for answer in answers for each in answer.unchecked),
    )


def _free_space(conn: Connection, directory: str | None) -> int | None:
    """Return the free bytes of the disk of a server; None if it cannot be seen from here."""
    if directory is None or not conn.info.host.startswith("/"):
        return None  # another machine may have such a directory, too
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def _history(
    conn: Connection, schema: str | None, trusted: str | None
) -> tuple[str | None, tuple[Finding, ...]]:
    """Return the schema of the history, or None and what is wrong with the history."""
    try:
        return place.locate(conn, schema, trusted=trusted).schema, ()
    except HistoryError as error:
        return schema, (unusable(error),)


def unusable(error: HistoryError) -> Finding:
    """Return the finding on a history that cannot be used."""
    meaning = "Every command that needs the history will fail."
    message = "\n".join(filter(None, (str(error), error.detail)))
    return Finding("history", "Unusable history", message, meaning, error.hint or "")


def _answers(
    conn: Connection, checks: Sequence[Check], known: Mapping[str, Any]
) -> list[Diagnosis]:
    """Make checks in one round trip; if one of them fails, each in its own."""
    try:
        return _asked(conn, checks, known)
    except psycopg.Error as error:
        if conn.closed:
            raise
        conn.rollback()
        if len(checks) > 1:
            return [each for check in checks for each in _answers(conn, [check], known)]
        reason = error.diag.message_primary or str(error)
        return [Diagnosis(unchecked=(Unchecked(checks[0].id, reason),))]


def _asked(conn: Connection, checks: Sequence[Check], known: Mapping[str, Any]) -> list[Diagnosis]:
    values = {name: sql.Literal(value) for name, value in known.items()}
    queries = [query for check in checks for query in (check.query, f"select {check.gap}")]
    statements = [*_BEGIN, *queries, "commit"]
    # A semicolon on its own line: a query may end in a comment.
    text = sql.SQL("\n;\n".join(statements)).format(**values)
    cursor = conn.execute(text)
    results = [cursor.fetchall() for _ in cursor.results() if cursor.description]
    pairs = zip(checks, results[::2], results[1::2], strict=True)
    return [_answer(check, rows, gaps) for check, rows, gaps in pairs]


def _answer(
    check: Check, rows: Sequence[tuple[Any, ...]], gaps: Sequence[tuple[Any, ...]]
) -> Diagnosis:
    found: dict[bool, list[Finding]] = {False: [], True: []}
    for message, command, *is_note in rows:
        action = command or check.action
        found[any(is_note)].append(Finding(check.id, check.title, message, check.meaning, action))
    unchecked = tuple(Unchecked(check.id, gap) for (gap,) in gaps if gap)
    return Diagnosis(tuple(found[False]), tuple(found[True]), unchecked)
