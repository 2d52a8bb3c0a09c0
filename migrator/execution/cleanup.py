"""Find and remove what an interrupted statement left: an invalid index, a pending DETACH."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import StatementError
from ..events import Remarked, Subject
from ..model import Direction, Step
from ..postgres import catalog, connection
from ..postgres.inflight import Message
from ..sql import classify
from ..sql.script import Statement
from ..tracing import probe
from . import failure, recovery
from .context import Context
from .recovery import Begun, Recovery
from .retry import Attempt, Piece, Recovered, run

_INSUFFICIENT_PRIVILEGE = "42501"


class SessionPiece(Piece):
    """A part of a no-transaction script; the session is kept between two attempts."""

    def recover(self) -> Recovered:
        """Drop the tracer's prepared query: a rollback does not."""
        if self.context.tracer:
            with connection.reported():
                probe.forget(self.context.conn)
        return Recovered.RUN_AGAIN


def look(context: Context, index: int, statement: Statement) -> Begun:
    """Note the objects that the statement could leave half-made."""
    if not classify.is_recoverable(statement):
        return Begun(index)
    names = classify.relation_names(statement)
    found = None if names is None else catalog.relations(context.conn, names)
    if found and statement.words[:1] == ("reindex",):
        found = catalog.rebuilt(context.conn, found)
    objects = catalog.objects(context.conn, found)
    return Begun(index, statement.text, found, objects)


def look_again(context: Context, statement: Statement, begun: Begun, *, unsure: bool) -> Recovery:
    """Compare the objects with those from before the statement began."""
    now = catalog.objects(context.conn, begun.relations)
    own = own_indexes(context, statement)
    return recovery.recover(statement, begun.objects, now, unsure=unsure, own=own)


def own_indexes(context: Context, statement: Statement) -> frozenset[int] | None:
    """Return the OIDs of the indexes that a statement can have created; None for any."""
    if statement.words[:1] == ("reindex",):
        return catalog.indexes_named(context.conn, "_cc(new|old)[0-9]*$")
    name = classify.index_name(statement)
    return catalog.indexes_named(context.conn, f"^{re.escape(name)}$") if name else None


def clear_up(context: Context, step: Step, index: int, begun: Begun) -> Recovery:
    """Remove what an earlier run left of a unit, even if the file now has another statement."""
    earlier = begun.parsed() if begun.unit == index else None
    if not earlier:
        return Recovery()
    # A down that has started counts as interrupted until it is done.
    unsure = step.unsure or step.direction is Direction.DOWN
    found = look_again(context, earlier, begun, unsure=unsure)
    clear(context, step, step.script.units[index].statements[0], found)
    return found


def clear(context: Context, step: Step, statement: Statement, found: Recovery) -> None:
    """Remove what was found; an error names the statement."""
    # Indexes of TOAST tables come last: only the owner of the schema pg_toast may drop them.
    for index in sorted(catalog.names(context.conn, found.drop), key=_is_of_toast):
        context.notify(Remarked(f"dropping the invalid index {index}, left by an earlier attempt"))
        _drop(context, step, statement, index)
    for partition in found.finalize:
        (name,) = catalog.names(context.conn, [partition])
        (parent,) = catalog.names(context.conn, [catalog.parent(context.conn, partition)])
        context.notify(Remarked(f"finishing the detaching of {name} from {parent}"))
        finalize = f"alter table {parent} detach partition {name} finalize"
        run(context, [_Cleaning(context, step, statement, finalize)])


def _is_of_toast(index: str) -> bool:
    return index.startswith("pg_toast.")


def _drop(context: Context, step: Step, statement: Statement, index: str) -> None:
    drop = f"drop index concurrently if exists {index}"
    try:
        run(context, [_Cleaning(context, step, statement, drop)])
    except StatementError as error:
        if not (_is_of_toast(index) and error.sqlstate == _INSUFFICIENT_PRIVILEGE):
            raise
        context.notify(Remarked(f"{index} is left; a superuser can drop it: {drop};"))


class _Cleaning(SessionPiece):
    """Our own statement that removes what a statement of the script left, and commits."""

    def __init__(self, context: Context, step: Step, statement: Statement, command: str) -> None:
        super().__init__(context, step)
        self.statement, self.command = statement, command

    def messages(self, attempt: Attempt) -> Iterator[Message]:
        """Yield the statement."""
        yield Message(
            Subject(self.step, self.statement),
            self.command.encode(),
            failure.of_statement,
            attempt.committed_piece,
            alone=True,
        )
