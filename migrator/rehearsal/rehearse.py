"""Give a scratch database the target's state, and rehearse or compare there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from psycopg import sql

from .. import session
from ..config import Database
from ..errors import CancelledError, EmbeddedServerError, HistoryError, ScratchError
from ..events import Notify, Remarked
from ..hazards.catalogue import Size
from ..history import table
from ..interrupts import Interrupts
from ..model import AppliedMigration, Migration, Plan
from ..postgres import connection
from ..session import Session
from . import clone, facts, schema, scratch, steps
from .report import Report
from .schema import ROLE_KINDS, Change, Difference, compare
from .steps import Stage

_EMBEDDED = Database(embedded="postgres")
_LOOK_TIMEOUT = (
    2000  # milliseconds for a lock on one of the target's tables, while it is only looked at
)


@dataclass(frozen=True, slots=True)
class Wish:
    """How to rehearse.

    Attributes:
        scratch: Any database of the server on which the scratch database is made; None for
            the target's own server.
        from_target: Copy the target's schema; do not make it from the history.
        small: Below how many bytes a table is not worth a finding.
    """

    scratch: Database | None
    from_target: bool
    small: int


@dataclass(frozen=True, slots=True)
class _Staged:
    stage: Stage
    origin: str
    missing: tuple[str, ...]
    is_from_history: bool


def report(work: Session, plan: Plan, wish: Wish, notify: Notify) -> Report:
    """Rehearse a plan on a scratch database; the target is only read.

    Raises:
        ScratchError: There is no scratch database to be had.
        CancelledError: The user stopped it; the scratch database is gone.
        MigratorError: The target's state could not be made there.
    """
    sizes = sizes_of(work)
    with _target_untouched():
        with _staged(work, wish, notify) as staged:
            # Before the rehearsal changes the state that the history makes.
            drifted = _drift(work, staged.stage) if staged.is_from_history else None
            done = steps.rehearse(staged.stage, plan.steps, (), sizes)
            version = connection.version(staged.stage.conn)
        while len(done) < len(plan.steps) and not done[-1].error:
            notify(
                Remarked(f"beginning again behind {done[-1].step.version}, which its down broke")
            )
            with _staged(work, wish, notify) as again:
                rest = plan.steps[len(done) :]
                done += steps.rehearse(again.stage, rest, done, sizes)
    return Report(
        database=work.conn.info.dbname,
        server_version=connection.version(work.conn),
        scratch_version=version,
        origin=staged.origin,
        missing=staged.missing,
        drift=drifted,
        migrations=done,
        sizes=sizes,
        not_rehearsed=tuple(step.version for step in plan.steps[len(done) :]),
    )


def drift(work: Session, wish: Wish, notify: Notify) -> tuple[Difference, ...]:
    """Say in what the target differs from what its history makes.

    Raises:
        HistoryError: The history cannot be run again.
        MigratorError: As `report`.
    """
    with (
        _target_untouched(),
        _scratch(work, wish, notify) as made,
        _stage(work, wish, made, notify) as stage,
    ):
        if why_not := _replay(work, stage):
            raise HistoryError(
                f"the database cannot be compared with its history: {why_not}",
                hint="look at the scripts with: migrator verify; or compare on another server: "
                "--scratch-url URL",
            )
        return _drift(work, stage)


def lacking(
    work: Session, migrations: Iterable[Migration], wish: Wish, notify: Notify
) -> tuple[Difference, ...]:
    """Say what of that which files make is not in the target, or is there in another form.

    Raises:
        HistoryError: The files do not run on an empty database.
        MigratorError: As `report`.
    """
    with (
        _target_untouched(),
        _scratch(work, wish, notify) as made,
        _stage(work, wish, made, notify) as stage,
    ):
        try:
            steps.make(stage, migrations)
        except steps.ReplayError as error:
            raise HistoryError(
                f"the database cannot be compared with the files: {error}",
                hint="compare on another server: --scratch-url URL; or leave it out: --unchecked",
            ) from error
        found = _drift(work, stage)
    return tuple(each for each in found if each.change is not Change.ADDED)


def _drift(work: Session, stage: Stage) -> tuple[Difference, ...]:
    made = schema.read(stage.conn, work.history.schema)
    with connection.reported(), work.conn.transaction():
        _only_look(work)
        there = schema.read(work.conn, work.history.schema)
    # Another server has other roles.
    elsewhere = () if stage.is_guarded else ROLE_KINDS
    return compare(made, there, leave_out=elsewhere)


def sizes_of(work: Session) -> dict[str, Size]:
    """Return how much each of the target's tables holds, by name; only look."""
    with connection.reported(), work.conn.transaction():
        _only_look(work)
        return facts.sizes(work.conn)


def _only_look(work: Session) -> None:
    work.conn.execute("set transaction read only")
    work.conn.execute(f"set local lock_timeout = {_LOOK_TIMEOUT}".encode())


@contextmanager
def _target_untouched() -> Iterator[None]:
    """Say of an interrupted rehearsal that it has touched nothing."""
    try:
        yield
    except CancelledError as error:
        raise CancelledError(
            "interrupted; the target was not touched, and the scratch database is gone",
            signal=error.signal,
        ) from error


@contextmanager
def _staged(work: Session, wish: Wish, notify: Notify) -> Iterator[_Staged]:
    """Make a scratch database in the target's state; it is gone when the `with` ends."""
    origin = "on a copy of its schema, without rows"
    if not wish.from_target:
        with _scratch(work, wish, notify) as made:
            refused = clone.settle(work.database, made)
            with _stage(work, wish, made, notify) as stage:
                why_not = _replay(work, stage)
                if not why_not:
                    origin = "in the state that its history makes"
                    yield _Staged(stage, origin, _refused(refused), is_from_history=True)
                    return
        origin += f", because {why_not}"
        notify(Remarked(f"rehearsing {origin}"))
    with _scratch(work, wish, notify) as made:
        loaded = clone.load_schema(work.database, made, lock_timeout=_LOOK_TIMEOUT)
        with _stage(work, wish, made, notify) as stage:
            yield _Staged(stage, origin, _missing(loaded), is_from_history=False)


def _replay(work: Session, stage: Stage) -> str | None:
    """Run the history's scripts; return why that is not possible, or None."""
    try:
        steps.replay(stage, _applied(work), work.migrations)
    except steps.ReplayError as error:
        return str(error)
    return None


def _missing(loaded: clone.Loaded) -> tuple[str, ...]:
    return (
        *(f"the role {role}" for role in loaded.roles),
        *(f"the extension {extension}" for extension in loaded.extensions),
        *_refused(loaded.skipped),
    )


def _refused(skipped: Iterable[clone.Skipped]) -> tuple[str, ...]:
    return tuple(f"what it refused: {each.statement} ({each.reason})" for each in skipped)


@contextmanager
def _scratch(work: Session, wish: Wish, notify: Notify) -> Iterator[Database]:
    with connection.reported():
        like = scratch.locality(work.conn)
    with ExitStack() as stack:

        def made(server: Database) -> Database:
            admin = stack.enter_context(session.reached(server, notify))
            return stack.enter_context(scratch.database(admin, like, notify))

        try:
            database = made(wish.scratch or work.database)
        except ScratchError as refusal:
            if wish.scratch:
                raise
            notify(Remarked("the server makes no scratch database: trying the embedded PostgreSQL"))
            try:
                database = made(_EMBEDDED)
            except EmbeddedServerError:
                raise refusal from None
        yield database


@contextmanager
def _stage(work: Session, wish: Wish, made: Database, notify: Notify) -> Iterator[Stage]:
    name = work.history.schema
    with (
        Interrupts() as interrupts,
        closing(connection.connect(made)) as conn,
        closing(connection.connect(made)) as watcher,
    ):
        settings = replace(work.settings, lock_attempts=1)
        with connection.reported():
            conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(name)))
            table.ensure(conn, name)
            pid = connection.backend_pid(conn)
            is_same = connection.started_at(conn) == connection.started_at(work.conn)
        yield Stage(
            conn=conn,
            watcher=watcher,
            schema=name,
            settings=settings,
            small=wish.small,
            interrupts=interrupts,
            notify=notify,
            pid=pid,
            is_guarded=is_same,
        )


def _applied(work: Session) -> tuple[AppliedMigration, ...]:
    if not work.history.exists:
        return ()
    with connection.reported(work.history.schema):
        return table.read(work.conn, work.history.schema, downs=True)
