"""Ask what a script requires and ensures, in its own transaction.

The server judges each answer: later messages, up to the commit of the next migrations, are under
way before we see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import MigratorError, RequirementError
from ..events import Subject
from ..model import Direction, Step
from ..postgres.inflight import Answer, Field, Message
from ..sql.script import Statement
from . import failure
from .cleanup import SessionPiece
from .context import Asked, Asks, Context
from .retry import Attempt, run

# The query may run under any search path, and as any role.  As a subquery it cannot change rows,
# but for what the functions do that it calls.
_BEFORE = """\
select
    pg_catalog.json_build_array(answer.rows, answer.columns, answer.type, answer.value, answer.row),
    pg_catalog.set_config(
        'migrator.is_met',
        case
            when answer.rows operator(pg_catalog.=) 1
                and answer.columns operator(pg_catalog.=) 1
                and answer.type operator(pg_catalog.=) 'boolean'
                and answer.value operator(pg_catalog.=) 'true'
            then 'true'
            else 'false'
        end,
        true
    )
from (
    select
        pg_catalog.count(*) as rows,
        pg_catalog.max(each.columns) as columns,
        pg_catalog.max(each.type) as type,
        pg_catalog.max(each.value) as value,
        pg_catalog.max(each.row) as row
    from (
        select
            (
                select pg_catalog.count(*)
                from pg_catalog.json_object_keys(pg_catalog.row_to_json(migrator_asks.*))
            ) as columns,
            pg_catalog.pg_typeof(migrator_asks.migrator_gave)::pg_catalog.text as type,
            pg_catalog.left(migrator_asks.migrator_gave::pg_catalog.text, 1000) as value,
            pg_catalog.left(row(migrator_asks.*)::pg_catalog.text, 1000) as row
        from (
"""
_AFTER = """
        ) as migrator_asks (migrator_gave)
        limit 2
    ) as each
) as answer
"""
_FAIL_UNLESS_MET = b"""
select 1 operator(pg_catalog./) (
    pg_catalog.current_setting('migrator.is_met') operator(pg_catalog.=) 'true'
)::pg_catalog.int4
"""
_NO_COLUMN = "42P10"  # invalid_column_reference: the query has no column to name migrator_gave
_LONGEST = 200  # characters of an answer that a message shows


def required(context: Context, step: Step) -> Iterator[Message]:
    """Ask what a script requires before its first statement."""
    undone = f"No {'further ' * step.resumes}statement of {step.version} was run."
    if context.asks is Asks.ALL:
        yield from _asked(context, step, step.script.options.requires, "requires", undone)


def ensured(context: Context, step: Step) -> Iterator[Message]:
    """Ask what a script ensures after its last statement."""
    script = "the down script of " * (step.direction is Direction.DOWN)
    what = f"{script}{step.version}"
    undone = f"All statements of {what} are done and recorded, but it is not complete."
    if context.asks is not Asks.NONE:
        yield from _asked(context, step, step.script.options.ensures, "ensures", undone)


def ask_again(context: Context, step: Step) -> None:
    """Ask what an interrupted script requires, before the first statement that was not done.

    Raises:
        MigratorError: As `retry.run`.
    """
    if step.script.options.requires and step.start_at < len(step.script.units):
        run(context, [_Questions(context, step)])


def question(query: Statement) -> bytes:
    """Return the SQL that asks a query; its first column is for `in_words`."""
    return f"{_BEFORE}{query.text}{_AFTER}".encode()


def unmet(context: Context, asked: Asked) -> MigratorError:
    """Build the error of a script that did not ensure what it should."""
    condition = _Condition(context, asked.query, "ensures", "", asked.gave)
    return condition.of_answer(failure.Refusal(context, Subject(asked.step, asked.query), {}))


class _Questions(SessionPiece):
    """What a script requires, in a transaction of its own."""

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Yield the transaction."""
        subject, of_own = Subject(self.step), failure.of_own
        yield Message(subject, b"begin read write", of_own)
        yield from required(self.context, self.step)
        yield Message(subject, b"commit", of_own, attempt.committed_piece, asks=True)


def _asked(
    context: Context, step: Step, queries: Sequence[Statement], verb: str, undone: str
) -> Iterator[Message]:
    for query in queries:
        condition = _Condition(context, query, verb, "" if step.script.transactional else undone)
        subject = Subject(step, query)
        yield Message(subject, question(query), condition.of_query, condition.answered)
        if context.asks is Asks.ALL:
            yield Message(subject, _FAIL_UNLESS_MET, condition.of_answer)


@dataclass(slots=True)
class _Condition:
    """A query that has to give one row with one true boolean.

    Attributes:
        verb: What the migration does with it.
        undone: As in `failure.Refusal`.
        gave: What it gave, in words; None before the answer.
    """

    context: Context
    query: Statement
    verb: str
    undone: str
    gave: str | None = None

    def answered(self, answer: Answer) -> None:
        """Keep what the query gave."""
        self.gave = in_words(*json.loads(answer.value or b"[0]"))
        if self.context.asks is Asks.ENSURED:
            self.context.asked.append(Asked(answer.subject.step, self.query, self.gave))

    def of_query(self, refusal: failure.Refusal) -> MigratorError:
        """Build the error of a query that failed."""
        fields = dict(refusal.fields)
        is_ours = "migrator_asks" in fields.get(Field.MESSAGE_PRIMARY, "")
        if is_ours and refusal.sqlstate == _NO_COLUMN:
            self.gave = "no column"
            return self.of_answer(refusal)
        if position := fields.pop(Field.STATEMENT_POSITION, None):
            own = int(position) - len(_BEFORE)
            # An unfinished query fails at what follows it.
            fields[Field.STATEMENT_POSITION] = str(min(own, len(self.query.text)))
        return failure.of_statement(replace(refusal, fields=fields, undone=self.undone))

    def of_answer(self, refusal: failure.Refusal) -> MigratorError:
        """Build the error of a query that gave anything but true."""
        version, direction = refusal.step.version, refusal.step.direction
        message = f"{version} {self.verb} that this query returns true, but it returned {self.gave}"
        text = " ".join(self.query.text.split())
        refusal = replace(
            refusal,
            fields={Field.MESSAGE_PRIMARY: message, Field.MESSAGE_DETAIL: f"query: {text}"},
            undone=self.undone,
        )
        what = (
            "change the data so that it does"
            if self.verb == "requires"
            else "fix the file or the data"
        )
        error = failure.of_statement(refusal, f"{what}, then run: migrator {direction}")
        values: dict[str, Any] = {**vars(error), "query": self.query.text, "gave": self.gave}
        return RequirementError(**values)


def in_words(
    rows: int,
    columns: int | None = None,
    kind: str | None = None,
    value: str | None = None,
    row: str | None = None,
) -> str:
    """Say what a query gave: `true` if the condition is met.

    Args:
        rows: At most 2.
        columns: Of the row; None without exactly one.
        kind: The type of its first column.
        value: The first column, None also for null.
        row: All of it.

    >>> in_words(0), in_words(1, 1, "boolean", "true", "(t)"), in_words(1, 1, "integer", "3", "(3)")
    ('no row', 'true', '3 (integer)')
    """
    if rows != 1:
        return "more than one row" if rows else "no row"
    if columns != 1:
        return f"{columns} columns: {_shortened(row or '')}"
    if value is None:
        return "null"
    if kind == "boolean":
        return value
    shown = _shortened(value)
    return f'"{shown}" (text)' if kind == "text" else f"{shown} ({kind})"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
