"""Ask the target how many rows the pending statements would change, by EXPLAIN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg

from ...hazards.catalogue import RowChange
from ...model import Step
from ...postgres import connection
from ...postgres.cursor import Connection, explain, run_plainly
from ...session import Session
from ...sql import names
from ...sql.script import Statement
from ...sql.writes import Write, writes

Estimates = Mapping[tuple[str, int], tuple[RowChange, ...]]
"""What statements would change, by version and offset; without those that were not explained."""

# EXPLAIN runs immutable functions: nothing may be changed, and no session may have to wait.
_SETTINGS = (
    "set transaction read only, not deferrable",
    "set local lock_timeout = '100ms'",
    "set local statement_timeout = '2s'",
)
_SET_ROLE = "select pg_catalog.set_config('role', %s, true)"
_EXPLAINED = frozenset(["insert", "update", "delete", "merge", "with"])
_PATHS = (("search_path",), ("schema",), ("role",))
_MOST = 500  # statements


def read(work: Session, steps: Iterable[Step]) -> Estimates:
    """Explain the row-changing statements of pending scripts on the target.

    What does not parse there, such as a statement on a column that the script adds, is left
    out.  EXPLAIN takes the locks of the statement, for as long as it plans.

    Raises:
        MigratorError: As in `connection.reported`: the connection was lost.
    """
    wanted = [step for step in steps if any(_is_wanted(each) for each in _statements(step))]
    if not wanted:
        return {}
    found: dict[tuple[str, int], tuple[RowChange, ...]] = {}
    with connection.reported(), work.conn.transaction(force_rollback=True):
        for setting in _SETTINGS:
            run_plainly(work.conn, setting)
        for step in wanted:
            role = step.script.options.role or work.settings.role
            with work.conn.transaction(force_rollback=True):
                for statement, changes in _explained(work.conn, step, role, _MOST - len(found)):
                    found[step.version, statement.offset] = changes
    return found


def _statements(step: Step) -> Iterator[Statement]:
    return (statement for unit in step.script.units for statement in unit.statements)


def _is_wanted(statement: Statement) -> bool:
    if statement.words[:1] and statement.words[0] not in _EXPLAINED:
        return False
    return any(each.verb != "insert" or each.is_query for each in writes(statement))


def _explained(
    conn: Connection, step: Step, role: str | None, most: int
) -> Iterator[tuple[Statement, tuple[RowChange, ...]]]:
    if role and _try(conn, lambda: run_plainly(conn, _SET_ROLE, (role,))) is None:
        return
    for statement in _statements(step):
        if _sets_path(statement):
            if _try(conn, lambda text=statement.text: run_plainly(conn, text.encode())) is None:
                return
        elif "search_path" in statement.text.lower():
            return  # by a function: from here on, the search path is not known
        elif most > 0 and _is_wanted(statement):
            plan = _try(conn, lambda text=statement.text: explain(conn, text))
            if plan is not None:
                most -= 1
                yield statement, tuple(_changes(plan, writes(statement)))


def _sets_path(statement: Statement) -> bool:
    words = [word for word in statement.words[:3] if word not in ("local", "session")]
    return words[:1] == ["set"] and tuple(words[1:2]) in _PATHS


def _try(conn: Connection, run: Any) -> Any:
    """Run one statement; None if the server refuses it, which changes nothing then."""
    try:
        with conn.transaction():
            return run()
    except psycopg.Error:
        if conn.closed:
            raise
        return None


def _changes(plan: Mapping[str, Any], written: tuple[Write, ...]) -> Iterator[RowChange]:
    """Yield what a plan changes; which commands a MERGE has is in its text only."""
    for node in _nodes(plan):
        if node["Node Type"] != "ModifyTable":
            continue
        relation = names.quoted((node["Schema"], node["Relation Name"]))
        sources = [
            each
            for each in node.get("Plans", ())
            if each.get("Parent Relationship") in ("Outer", "Member")
        ]
        rows = sum(each["Plan Rows"] for each in sources)
        size = sum(each["Plan Rows"] * each["Plan Width"] for each in sources)
        verb = node["Operation"].lower()
        merged = [each.verb for each in written if each.is_of(relation)]
        for each in merged if verb == "merge" else (verb,):
            yield RowChange(each, relation, rows, size)


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
