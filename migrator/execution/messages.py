"""Make the messages of a step: its statements, and around them what guards and records it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..config import Settings
from ..events import Event
from ..files import copydata
from ..history.recorder import Command, Recorder
from ..interrupts import Interrupts
from ..model import Direction, Step
from ..postgres import connection
from ..postgres.activity import Look
from ..postgres.inflight import Message
from ..sql.script import Statement, Unit
from ..tracing import probe
from . import batch, recovery

_FORGETTING = (("deallocate",), ("discard",))  # it takes our prepared statement, too
_FEW = 100  # statements of a script
# Of a partitioned table, an index is rightly invalid until its partitions have theirs.
_INVALID = """
select
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
where not i.indisvalid
  and c.relkind = 'i'
  and c.relname = {name}
  and c.relnamespace = (
      select relnamespace
      from pg_catalog.pg_class
      where oid = pg_catalog.to_regclass({table})
  )
"""
_LOCK = """
do $migrator$
begin
    if pg_catalog.has_table_privilege('{name}', 'update, delete, truncate') then
        lock table only {table} in {mode} mode nowait;
    end if;
end
$migrator$
"""
# Who changes roles, databases, tablespaces, their settings or subscriptions has these locks
# until the commit.  Every table leaves a trace in pg_shdepend (1214).
_FAIL_IF_SHARED = b"""
select 1 / (
    not exists (
        select
        from pg_catalog.pg_locks
        where pid = pg_catalog.pg_backend_pid()
          and locktype = 'relation'
          and database = 0
          and relation <> 1214
          and mode not in ('AccessShareLock', 'RowShareLock')
    )
)::integer
"""
_OF_SERVER = frozenset(
    (verb, noun)
    for verb in ("create", "alter", "drop")
    for noun in ("database", "tablespace", "system", "subscription")
)
_FAIL_IF_INVALID = (
    f"select 1 / (not exists ({_INVALID.format(name='$1', table='$2')}))::integer".encode()
)


class Purpose(enum.Enum):
    """What a message is for."""

    BEGIN = enum.auto()  # it starts a step
    LIMITS = enum.auto()  # it sets the timeouts, and answers with the server process
    GUARD = enum.auto()  # it fails if the work has touched what all databases share
    SETUP = enum.auto()  # it readies the session of a no-transaction script
    CLAIM = enum.auto()  # it takes the version, or finds it taken
    STATEMENT = enum.auto()  # the migration's own
    TRACE = enum.auto()  # it asks what the statement did; what there is, if of no statement
    ALONE = enum.auto()  # the same, and it commits by itself
    VALID = enum.auto()  # it fails if the index that was there already is invalid
    CHECK = enum.auto()  # it brings out what was deferred to the end
    OURS = enum.auto()
    COMMIT = enum.auto()  # it makes a piece of work last
    OPEN = enum.auto()  # the piece is done, and its transaction stays open
    LAST = enum.auto()  # the same, and the step is finished by it


@dataclass(frozen=True, slots=True)
class Tag:
    """What a message belongs to; `waits` if its commit waits for the disk."""

    step: Step
    purpose: Purpose
    statement: Statement | None = None
    waits: bool = True


Piece = Callable[[], Iterable[Message[Tag]]]
"""Work that is tried as a whole: its messages, of which one is a `COMMIT`, `LAST` or `OPEN`."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """The questions of `probes`, for this server and history.

    Attributes:
        prepare: Prepares the one that is asked after each statement.
        watcher: Another session of the database, to watch what runs outside a transaction.
    """

    start: bytes
    prepare: bytes
    schema: str
    watcher: connection.Connection


@dataclass(frozen=True, slots=True)
class Context:
    """What a run works with.

    Attributes:
        conn: The session that the migrations run in.
        pid: The process of the server that works for `conn`.
        observe: Looks at such a process from another session.
        idle_limits: The settings of this server that end a session in its transaction.
        locks: By version, what a rehearsal has shown that it locks: tables, as SQL takes
            them, and modes.  They are taken at once, before the work begins, or not at all.
        tracer: None if nobody wants to know what each statement does.
        is_logged: Whether what fails is told in the log.
        is_guarded: Whether the work may change nothing that all databases of the server share.
        tells_each: Whether somebody wants to know of each statement that has finished.
        in_heaps: The versions whose INSERTs are sent in heaps; who cannot be is taken out.
        finished: The steps finished so far, in order; it grows.
        unflushed: Those of them that a crash of the server could take back: no commit behind
            them has waited for the disk.
    """

    conn: connection.Connection
    recorder: Recorder
    settings: Settings
    interrupts: Interrupts
    notify: Callable[[Event], None]
    pid: int
    observe: Look
    idle_limits: tuple[str, ...] = ()
    locks: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    tracer: Tracer | None = None
    is_logged: bool = True
    is_guarded: bool = False
    tells_each: bool = True
    in_heaps: set[str] = field(default_factory=set)
    finished: list[Step] = field(default_factory=list)
    unflushed: list[Step] = field(default_factory=list)


def begin(step: Step, unit: Unit, purpose: Purpose = Purpose.BEGIN) -> Message[Tag]:
    """Make the message that begins a unit's transaction: the file's own BEGIN if it has one."""
    text = unit.begin.text if unit.begin else "begin read write"
    return Message(Tag(step, purpose, unit.begin), text.encode())


def ours(
    step: Step,
    command: Command | str,
    purpose: Purpose = Purpose.OURS,
    *,
    waits: bool = True,
    more: tuple[bytes, ...] = (),
) -> Message[Tag]:
    """Make a message of a statement of our own, and of `more` without parameters behind it.

    Args:
        waits: Whether its commit waits for the disk.
    """
    text, parameters = (command.encode(), ()) if isinstance(command, str) else command
    asks = purpose in (Purpose.LIMITS, Purpose.COMMIT, Purpose.LAST)
    return Message(Tag(step, purpose, waits=waits), text, parameters, asks=asks, more=more)


def of_locks(context: Context, step: Step) -> Iterator[Message[Tag]]:
    """Make the messages that take every lock of a step without waiting for one.

    Nobody queues up behind a lock that is not waited for, and none of ours is in anybody's
    way until all of them are had: there is no deadlock.  LOCK TABLE wants more rights than
    some statements do that take the same lock: without them it is left to the statement.
    """
    for table, mode in context.locks.get(step.version, ()):
        lock = _LOCK.format(name=table.replace("'", "''"), table=table, mode=mode)
        yield ours(step, lock)


def of_guard(context: Context, step: Step) -> Iterator[Message[Tag]]:
    """Make the message behind a guarded transaction's work: it fails before anything lasts."""
    if context.is_guarded:
        yield ours(step, (_FAIL_IF_SHARED, ()), Purpose.GUARD)


def is_of_server(statement: Statement) -> bool:
    """Whether a statement outside a transaction changes what all databases of a server share."""
    return statement.words[:2] in _OF_SERVER


def of_statement(step: Step, statement: Statement, *, asks: bool = True) -> Message[Tag]:
    """Make a message of a statement of the migration, with its data if it has some."""
    tag = Tag(step, Purpose.STATEMENT, statement)
    data = partial(copydata.data, statement) if statement.data else None
    return Message(tag, statement.text.encode(), data=data, asks=asks)


def of_statements(
    context: Context, step: Step, statements: Sequence[Statement]
) -> Iterator[Message[Tag]]:
    """Make the messages of a transaction's statements, each with the question what it did."""
    if context.tracer:
        yield ours(step, (context.tracer.prepare, ()))
        yield Message(Tag(step, Purpose.TRACE), context.tracer.start)
    # Whoever waits for one of a few wants to see what is done; thousands answer in heaps.
    asks = len(statements) <= _FEW
    in_heaps = step.version in context.in_heaps
    for heap in batch.cut(statements) if in_heaps else ((each,) for each in statements):
        statement = heap[0]
        if len(heap) > 1:
            yield _of_heap(step, heap)
            continue
        yield of_statement(step, statement, asks=asks)
        if made := recovery.created_if_absent(statement):
            query = (_FAIL_IF_INVALID, tuple(name.encode() for name in made))
            yield Message(Tag(step, Purpose.VALID, statement), *query)
        if context.tracer:
            if statement.words[:1] in _FORGETTING:
                yield ours(step, (context.tracer.prepare, ()))
            yield Message(Tag(step, Purpose.TRACE, statement), probe.EXECUTE)


@dataclass(frozen=True, slots=True)
class _Heap(Sequence[tuple[Tag, int]]):
    """What stands in the text of a heap; made for who asks, which is who looks for an error."""

    step: Step
    statements: Sequence[Statement]

    def __len__(self) -> int:
        return len(self.statements)

    def __getitem__(self, index: Any) -> Any:
        statement = self.statements[index]
        tag = Tag(self.step, Purpose.STATEMENT, statement)
        return tag, statement.offset - self.statements[0].offset


def _of_heap(step: Step, heap: Sequence[Statement]) -> Message[Tag]:
    first, last = heap[0], heap[-1]
    text = first.source[first.offset : last.end].encode()
    return Message(Tag(step, Purpose.STATEMENT, first), text, parts=_Heap(step, heap))


def invalid_index(name: str, table: str) -> tuple[str, dict[str, str]]:
    """Give the query that has a row if an index is invalid that could be of a table.

    Args:
        name: As the catalog has it.
        table: As SQL takes it; the index is looked for in its schema.
    """
    return _INVALID.format(name="%(name)s", table="%(table)s"), {"name": name, "table": table}


def timeouts(context: Context, step: Step) -> tuple[bytes, bytes]:
    """Give the lock timeout and the statement timeout of a step, as PostgreSQL takes them."""
    statement = step.script.options.statement_timeout
    if statement is None:
        statement = context.settings.statement_timeout
    return b"%d" % lock_timeout(context, step), b"%d" % statement


def lock_timeout(context: Context, step: Step) -> int:
    """Give the lock timeout of a step, in milliseconds; 0 for none."""
    asked = step.script.options.lock_timeout
    return context.settings.lock_timeout if asked is None else asked


def last_records(context: Context, step: Step) -> tuple[Command, ...]:
    """Give the statements that record the end of a step."""
    if step.direction is Direction.UP:
        done = 0 if step.script.transactional else len(step.script.units)
        return (context.recorder.finish(step.version, done),)
    timed = step.script.transactional
    log = context.recorder.log(step.version, Direction.DOWN, "done", timed=timed)
    if step.script.transactional:
        return (log,)
    return (context.recorder.release(step.version), log)
