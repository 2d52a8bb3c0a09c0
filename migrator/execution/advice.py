"""Find what to do about a statement that PostgreSQL refused.

`advice.toml` has the table, by SQLSTATE.  What depends on a place in the statement is found here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ..events import Backend
from ..history import layout
from ..model import Direction, Repeatable, Step
from ..planning import repeatables
from ..postgres import activity
from ..postgres.inflight import Field
from ..sql import characters
from ..sql.location import locate
from ..sql.names import quoted
from ..sql.script import Statement

NEEDS_NO_TRANSACTION = frozenset(["25001", "2D000"])
"""active_sql_transaction, invalid_transaction_termination: it has to run outside a transaction."""

QUERIES = frozenset((word,) for word in ("select", "insert", "update", "delete", "merge", "with"))
"""First words of the statements that never have to run outside a transaction."""

_BODIES, _COMMITS = (("do",), ("call",)), ("2D000",)
_CHANGES = (("drop",), ("alter",), ("revoke",), ("do",))
_THE_FILE, _STOP = "the file", "stop"
_OUT_OF_BLOCK = "move it out of its BEGIN … COMMIT, which is one transaction"
# undefined_parameter, indeterminate_datatype, protocol_violation: which one depends on whether the
# server parses the statement at once, and on whether it can infer a type.
_PARAMETER_CODES = frozenset(["42P02", "42P18", "08P01"])
_NAME_CLASS, _SYNTAX_ERROR = "42", "42601"
_DEPENDED_ON = frozenset(["2BP01", "0A000"])
"""dependent_objects_still_exist, feature_not_supported: a view uses the column."""
_PARAMETER = re.compile(r"\$[0-9]+")
_PLACEHOLDER = re.compile(r":\w+|%s|%\(\w+\)s|\?|\$\{|\{\{?|@\w+|\$\w+")
_KEY = re.compile(r"\((.+?)\)=\(")  # of the server's detail, in any language


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table; `advice.toml` says what is in each field."""

    sqlstate: tuple[str, ...]
    hint: str
    statement: str = ""
    message: str = ""
    fix: str = _THE_FILE
    yields: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do.

    Attributes:
        hint: On one or more lines; empty if the message says it all.
        fix: As in `Row`.
        offset: The place in the source that the hint is about; None for that of PostgreSQL.
    """

    hint: str = ""
    fix: str = _THE_FILE
    offset: int | None = None

    def with_next_step(self, step: Step) -> str:
        """Add the command to continue with."""
        again = "" if self.fix == _STOP else _next_step(step, self.fix)
        return "\n".join(line for line in (self.hint, again) if line)


@cache
def rows() -> tuple[Row, ...]:
    """Return the table, in the order of `advice.toml`."""
    # Only a failed statement needs it.
    import tomllib  # noqa: PLC0415
    from importlib import resources  # noqa: PLC0415

    text = resources.files(__package__).joinpath("advice.toml").read_text(encoding="utf-8")
    return tuple(
        Row(**{**row, "sqlstate": tuple(row["sqlstate"])}) for row in tomllib.loads(text)["advice"]
    )


def of(
    fields: Mapping[Field, str], step: Step, statement: Statement | None, *, role: str
) -> Advice:
    """Return what to do about a refused statement.

    Args:
        fields: PostgreSQL's diagnostics.
        statement: None for what is checked at the end of the script.
        role: The one that ran the statement.
    """
    sqlstate = fields.get(Field.SQLSTATE, "")
    first = statement.words[:1] if statement else ()
    # What a function or DO block cannot run, it cannot run outside a transaction either.
    is_body = first in QUERIES or (first in _BODIES and sqlstate not in _COMMITS)
    if sqlstate in NEEDS_NO_TRANSACTION and not (step.script.transactional or is_body):
        return Advice(_OUT_OF_BLOCK)
    found = statement and _of_place(fields, sqlstate, step, statement)
    return found or _of_table(fields, sqlstate, statement, role)


def of_dependents(
    fields: Mapping[Field, str], step: Step, repeatable: Sequence[Repeatable]
) -> Advice | None:
    """Return what to do if an object of a repeatable file depends on what the statement drops."""
    if fields.get(Field.SQLSTATE) not in _DEPENDED_ON:
        return None
    found = dict(repeatables.named_in(repeatable, fields.get(Field.MESSAGE_DETAIL, "")))
    if not found:
        return None
    made = "; ".join(f"{name}.sql creates {each}" for name, each in found.items())
    when = "this up" if step.direction is Direction.UP else "the next up"
    return Advice(
        f"{made}\ndrop it (IF EXISTS) in an earlier statement: {when} applies the file again"
    )


def of_blockers(blockers: Sequence[Backend], step: Step) -> str:
    """Return what to do about a lock that was not acquired, by the sessions that held it."""
    again = f"try again when the system is less busy: migrator {step.direction}"
    end = activity.termination(blockers)
    sessions = f"to end the blocking session{'s' * ((end or '').count('(') > 1)}: {end}"
    what = "the blocking sessions" if end else "the prepared transaction"
    ends = (*([sessions] if end else []), *activity.resolutions(blockers))
    return "\n".join([f"end {what}, or {again}" if ends else again, *ends])


def of_lost_history(step: Step, schema: str) -> str:
    """Return what to do about a script that removes the history; `schema` is quoted."""
    moves = " ".join(f"alter table {schema}.{table} set schema migrator;" for table in layout.NAMES)
    return (
        "leave the tables of the history as they are, or move them out first:\n"
        f"create schema migrator; {moves}\n"
        f"after that, run: migrator --schema migrator {step.direction}"
    )


def against_history(step: Step, schema: str) -> Statement | None:
    """Return the first statement that may change the history or its schema; None if none does."""
    for unit in step.script.units:
        for statement in unit.statements:
            text = statement.text
            words = set(re.findall(r"\w+", text.lower()))
            is_about = words & {*layout.NAMES, "owned"} or ("schema" in words and schema in text)
            if is_about and statement.words[:1] in _CHANGES:
                return statement
    return None


def _of_place(
    fields: Mapping[Field, str], sqlstate: str, step: Step, statement: Statement
) -> Advice | None:
    """Return the advice that depends on the characters of the statement; None for others."""
    place = statement.offset + int(fields.get(Field.STATEMENT_POSITION, 1)) - 1
    if sqlstate in _PARAMETER_CODES:
        for at, token in characters.code(statement):
            if at >= place and _PARAMETER.fullmatch(token):
                return Advice(
                    f"{token} is a parameter of an application: write the value", offset=at
                )
    if sqlstate.startswith(_NAME_CLASS) and (found := characters.find(statement, place)):
        at, character = found
        where = locate(statement.source, at, step.script.path)
        what = characters.describe(character)
        return Advice(f"line {where.line}, column {where.column} has {what}", offset=at)
    if sqlstate == _SYNTAX_ERROR and (placeholder := _placeholder(statement, place)):
        what = f"{placeholder[0]} looks like a placeholder of an application or a template"
        return Advice(f"{what}: write the value", offset=placeholder.start())
    return None


def _placeholder(statement: Statement, place: int) -> re.Match[str] | None:
    """Return the placeholder at a place or right before it: `?` is an operator to PostgreSQL."""
    source, end = statement.source, place
    while end > statement.offset and source[end - 1].isspace():
        end -= 1
    return _PLACEHOLDER.match(source, place) or re.compile(r"\?").match(source, max(0, end - 1))


def _of_table(
    fields: Mapping[Field, str], sqlstate: str, statement: Statement | None, role: str
) -> Advice:
    words = " ".join(statement.words) + " " if statement else ""
    message = fields.get(Field.MESSAGE_PRIMARY, "")
    for row in rows():
        said = re.search(row.message, message)
        if (
            (sqlstate in row.sqlstate or sqlstate[:2] in row.sqlstate)
            and re.match(row.statement, words)
            and said
        ):
            names = {**_names(fields, role), **said.groupdict()}
            is_hinted = row.yields and Field.MESSAGE_HINT in fields
            return Advice("" if is_hinted else _filled(row.hint, names), row.fix)
    return Advice()


def _names(fields: Mapping[Field, str], role: str) -> dict[str, str]:
    """Return the names that a hint can have."""
    table = [fields.get(field) for field in (Field.SCHEMA_NAME, Field.TABLE_NAME)]
    key = _KEY.search(fields.get(Field.MESSAGE_DETAIL, ""))
    names = {
        "table": quoted(name for name in table if name) if table[1] else "",
        "column": quoted([fields.get(Field.COLUMN_NAME, "")]),
        "constraint": quoted([fields.get(Field.CONSTRAINT_NAME, "")]),
        "columns": key[1] if key else "",
        "role": quoted([role]),
    }
    return {name: value for name, value in names.items() if value not in ("", '""')}


def _filled(hint: str, names: Mapping[str, str]) -> str:
    lines = hint.splitlines()
    known = (line for line in lines if set(re.findall(r"{(\w+)}", line)) <= names.keys())
    return "\n".join(re.sub(r"{(\w+)}", lambda found: names[found[1]], line) for line in known)


def _next_step(step: Step, fix: str) -> str:
    if step.direction is Direction.DOWN and fix == _THE_FILE:
        is_stored = step.script.path.name.endswith("(stored)")
        write = f"put a working script into {step.version}.down.sql"
        what = write if is_stored else "fix the down file"
        return f"{what}, then run: migrator down --from-files"
    return (
        f"fix {fix}, then run: migrator {step.direction}"
        if fix
        else f"after that, run: migrator {step.direction}"
    )
