"""Find what to do if the first run fails because the database already has the schema."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from ..history import other_tools, table
from ..model import Direction, Step
from ..postgres import connection
from ..sql.script import Statement
from .context import Context

_EXISTS = frozenset(["42P06", "42P07", "42701", "42710", "42723"])
"""duplicate_schema, _table, _column, _object and _function."""


_OF_SERVER = frozenset(("create", kind) for kind in ("role", "user", "group"))
"""What all databases of a server share, so that another one may have brought it."""


def hint(
    context: Context, step: Step, sqlstate: str | None, statement: Statement | None
) -> str | None:
    """Return what to do about a failed statement; None if this is not why it failed.

    The transaction of the statement is rolled back.
    """
    if context.outcome or sqlstate not in _EXISTS or step.direction is Direction.DOWN:
        return None
    if statement and statement.words[:2] in _OF_SERVER:
        return None
    schema, conn = context.recorder.schema, context.conn
    with suppress(psycopg.Error):
        connection.forget(conn)  # the script may have left another role
        ours = {step.version, *(each.version for each in context.finished)}
        if table.has_only(conn, schema, ours):
            found = other_tools.find(conn)
            return "\n".join([*map(_of_tool, found), _BASELINE])
    return None


_BASELINE = (
    "if the database had this schema before its first run, record the last migration that it "
    "has: migrator baseline VERSION\notherwise fix the file, then run: migrator up"
)


def _of_tool(found: other_tools.Found) -> str:
    return f"the history of {found.tool} is in {found.table}: the migrations there are applied"
