"""Try the next migration on the target itself, and roll it back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from ..errors import CancelledError, LockTimeoutError, UsageError
from ..events import Notify, Remarked
from ..hazards.catalogue import Size
from ..interrupts import Interrupts
from ..model import Plan, Step
from ..postgres import activity, connection
from ..session import Session
from . import rehearse, steps
from .report import Rehearsed, Report
from .steps import Stage

_LONGEST_WAIT = 100  # milliseconds for a lock of the target: everybody else waits behind us
_ATTEMPTS = 3
_OUTCOME = "This was a trial: it was rolled back, and the database is as it was."


def report(work: Session, plan: Plan, small: int, notify: Notify) -> Report:
    """Run the first step of a plan in a transaction of the target, which is rolled back.

    Its locks are taken, and held for as long as it runs.  A lock that is not to be had within
    100 ms ends the try, of which there are three.  Those behind the first need its commit, and
    are not tried.

    Args:
        small: Below how many bytes a table is not worth a finding.

    Raises:
        UsageError: The step does not run in a transaction.
        LockTimeoutError: Somebody was in the way in every try.
        CancelledError: The user stopped it.
        MigratorError: As `steps.rehearse`.
    """
    first, *others = plan.steps or (None,)
    if others:
        names = ", ".join(step.version for step in others if step)
        notify(Remarked(f"only the next migration is tried on the database itself, not {names}"))
    sizes = rehearse.sizes_of(work)
    tried = (_tried(work, first, sizes, small, notify),) if first else ()
    return Report(
        database=work.conn.info.dbname,
        server_version=connection.version(work.conn),
        scratch_version=connection.version(work.conn),
        origin="on the database itself, and rolled back",
        missing=(),
        drift=None,
        migrations=tried,
        sizes=sizes,
    )


def _tried(
    work: Session, step: Step, sizes: dict[str, Size], small: int, notify: Notify
) -> Rehearsed:
    if not step.script.transactional:
        raise UsageError(
            f"{step.version} runs outside a transaction: nothing could take it back",
            hint="rehearse it on a scratch database: migrator rehearse",
        )
    # What the file asks for is for the run; here everybody else comes first.
    options = replace(step.script.options, lock_timeout=_LONGEST_WAIT)
    careful = replace(step, script=replace(step.script, options=options))
    with (
        Interrupts() as interrupts,
        closing(connection.connect(work.database)) as watcher,
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
        )
        try:
            tried = steps.try_on_target(stage, careful, sizes)
        except CancelledError as error:
            raise CancelledError(
                "interrupted; the trial was rolled back, and the database is as it was",
                signal=error.signal,
            ) from error
    if isinstance(tried.error, LockTimeoutError):
        hint = "try when the system is less busy, or on a scratch database: migrator rehearse"
        raise replace(tried.error, hint=hint)
    return tried
