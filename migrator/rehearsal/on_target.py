"""Run the next migration on the target itself, and roll it back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace

from ..errors import CancelledError, LockTimeoutError, UsageError, counted, listed
from ..events import Notify, Remarked
from ..execution.context import Asks
from ..hazards.catalogue import Size
from ..interrupts import Interrupts
from ..model import Plan, Step
from ..postgres import activity, connection
from ..session import Session
from . import downs, steps
from .data import estimates
from .rehearse import table_sizes
from .report import RehearsedMigration, Report
from .stage import Stage

_LOCK_TIMEOUT = 100  # milliseconds: other sessions queue while we wait for a lock
_ATTEMPTS = 3
_NO_CHECKS = "no queries look for rows that break it: it stops at the first such row itself"
_OUTCOME = "This was a trial run: it was rolled back, and nothing has changed."


def rehearse_on_target(work: Session, plan: Plan, small: int, notify: Notify) -> Report:
    """Run the first step of a plan in a transaction on the target, and roll it back.

    Its locks are real and held until it has run.  It waits at most 100 ms for a lock, and is
    tried three times.  Later steps need the first to be committed, so they are not run.

    Args:
        small: As in `RehearsalOptions`.

    Raises:
        DatabaseConnectionError: The server is a standby.
        UsageError: The step does not run in a transaction.
        LockTimeoutError: No attempt got all locks.
        CancelledError: The user stopped it.
        MigratorError: As in `connection.check_writable` and `steps.rehearse`.
    """
    first, *others = plan.steps or (None,)
    if others:
        names = listed([step.version for step in others if step])
        notify(Remarked(f"only the next migration can be run on the database itself, not {names}"))
    if first:
        notify(Remarked(_NO_CHECKS))
    with connection.reported():
        connection.check_writable(work.conn, override=work.settings.override_read_only)
    sizes = table_sizes(work)
    migrations = (_run(work, first, sizes, small, notify),) if first else ()
    return Report(
        database=work.conn.info.dbname,
        server=work.server,
        server_version=connection.version(work.conn),
        scratch_version=connection.version(work.conn),
        origin=f"the database itself, and rolled back; it leaves {_left(migrations)}",
        missing=(),
        drift=None,
        migrations=tuple(downs.with_unused(each) for each in migrations),
        sizes=sizes,
    )


def _left(migrations: Iterable[RehearsedMigration]) -> str:
    """Say what a run that is rolled back leaves; its DELETEs leave no dead rows."""
    touches = [t for each in migrations for traced in each.traced for t in traced.trace.touches]
    dead = sum(touch.inserted + touch.updated for touch in touches if not touch.is_ours)
    rows = f"{counted(dead, 'dead row')}, " if dead else ""
    return f"{rows}WAL and replication traffic"


def _run(
    work: Session, step: Step, sizes: dict[str, Size], small: int, notify: Notify
) -> RehearsedMigration:
    if not step.script.transactional:
        raise UsageError(
            f"{step.version} runs outside a transaction, so it cannot be rolled back",
            hint="rehearse it on a scratch database: migrator rehearse",
        )
    # A longer lock timeout of the file is for `up`.
    options = replace(step.script.options, lock_timeout=_LOCK_TIMEOUT)
    careful = replace(step, script=replace(step.script, options=options))
    try:
        rehearsed = _run_on_stage(work, careful, sizes, small, notify)
    except CancelledError as error:
        raise CancelledError(
            "interrupted; the trial run was rolled back, and nothing has changed",
            signal=error.signal,
        ) from error
    if isinstance(rehearsed.error, LockTimeoutError):
        hint = "try again when the system is less busy, or on a scratch database: migrator rehearse"
        raise replace(rehearsed.error, hint=hint)
    return rehearsed


def _run_on_stage(
    work: Session, step: Step, sizes: dict[str, Size], small: int, notify: Notify
) -> RehearsedMigration:
    with (
        Interrupts() as interrupts,
        closing(connection.connect_own(work.database)) as watcher,
        activity.watching(work.database) as observe,
        connection.reported(work.history.schema),
    ):
        stage = Stage(
            conn=work.conn,
            watcher=watcher,
            schema=work.history.schema,
            settings=replace(work.settings, lock_attempts=_ATTEMPTS),
            small=small,
            interrupts=interrupts,
            notify=notify,
            observe=observe,
            pid=work.history.pid,
            outcome=_OUTCOME,
            conditions=Asks.ALL,
            estimates=estimates.read(work, (step,)),
        )
        return steps.run_and_roll_back(stage, step, sizes)
