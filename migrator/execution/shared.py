"""Recognise what would change roles, databases and the like, which all databases share.

In a transaction its locks show it before the commit (`transaction.guard`).  What commits by
itself has to be recognised by its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..postgres import connection
from ..postgres.cursor import Connection
from ..sql.script import Statement

_OF_SERVER = frozenset(
    (verb, noun)
    for verb in ("create", "alter", "drop")
    for noun in ("database", "tablespace", "system", "subscription")
)
_CHANGE = re.compile(
    r"\b(?:create|alter|drop)\s+(?:role|user|group|database|tablespace|subscription)\b(?!\s+mapping)"
    r"|\balter\s+system\b"
    r"|\b(?:grant|revoke)\b(?:(?!\bon\b)[^;])*?\b(?:to|from)\b",  # of a role, not on an object
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_ROUTINES = """
select proname, pg_catalog.string_agg(prosrc, ';')
from pg_catalog.pg_proc
where oid >= 16384
group by 1
"""


def changes_shared(conn: Connection, statement: Statement) -> bool:
    """Whether a statement that runs outside a transaction may change what databases share.

    Of a CALL or DO, its body and those of the routines that it names are searched.  A command
    that the body puts together from parts of words is not found.
    """
    if statement.words[:1] not in (("call",), ("do",)):
        return statement.words[:2] in _OF_SERVER
    with connection.reported():
        routines = dict(conn.execute(_ROUTINES).fetchall())
        conn.rollback()
    return bool(_CHANGE.search(_reachable(statement.text, routines)))


def _reachable(text: str, routines: Mapping[str, str]) -> str:
    """Return a text, and those of the routines that it names, directly or not."""
    found, names = [text], dict.fromkeys(_WORD.findall(text.lower()))
    left = list(names)
    while left:
        body = routines.get(left.pop(), "")
        found.append(body)
        new = dict.fromkeys(_WORD.findall(body.lower()))
        left += [name for name in new if name not in names]
        names |= new
    return ";\n".join(found)
