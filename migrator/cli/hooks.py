"""Run the configured commands before and after a run, and make a backup before it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .. import errors
from ..events import Event, StepFinished
from ..planning.planner import Action
from .app import App
from .keys import AFTER_UP, BACKUP_COMMAND, BEFORE_UP, ON_FAILURE
from .schema import newest

if TYPE_CHECKING:
    from ..config import Command
    from ..interrupts import Interrupts
    from ..maintenance.backup import Backup
    from ..model import Plan, Step
    from ..output.json import Json
    from ..session import Session

_LIMIT = 600.0  # seconds for a command before or after a run; one that makes a backup has no limit


@dataclass(slots=True)
class Hooks:
    """The commands and the backup of a run.

    Attributes:
        folder: Where `pg_dump` writes a backup; None for no such backup.
        commands: Those configured for this action, by key.
        backup: The backup of this run; None until it is made.
        finished: The steps so far.
    """

    app: App
    action: Action
    folder: Path | None
    commands: dict[str, Command]
    backup: Backup | None = None
    finished: list[Step] = field(default_factory=list)
    _work: Session | None = None
    _place: Json = field(default_factory=dict)
    _environ: dict[str, str] = field(default_factory=dict)
    _started: float = 0.0

    def notify(self, event: Event) -> None:
        """Pass an event of the run on."""
        if isinstance(event, StepFinished):
            self.finished.append(event.step)
        self.app.notify(event)

    def require_backup(self) -> None:
        """Check that a backup will be made if the configuration requires one.

        Raises:
            BackupError: None will be made.
        """
        has_one = self.folder or BACKUP_COMMAND in self.commands
        if self.action is Action.UP and self.app.configuration.requires_backup and not has_one:
            raise errors.BackupError(
                "the configuration requires a backup (require-backup); nothing was run",
                hint="name a directory for it: migrator up --backup DIR; or set backup-command",
            )

    @contextmanager
    def around(self, work: Session) -> Iterator[None]:
        """Run `after-up` or `on-failure` when the `with` ends; neither if there were no steps."""
        self._open(work)
        try:
            yield
        except Exception as error:
            if self._started:
                self._tell(ON_FAILURE, error)
            raise
        if self._started:
            self._tell(AFTER_UP, None)

    def _open(self, work: Session) -> None:
        """Keep the connection's parameters for the commands; it may be lost when they run."""
        from ..maintenance import command

        self._work = work
        if self.commands:
            self._environ = command.environment(work.conn.info, os.environ)
            self._place = {
                "command": self.action.name.lower(),
                "database": work.conn.info.dbname,
                "server": work.server,
                "env": self.app.configuration.env,
            }

    def prepare(self, plan: Plan, interrupts: Interrupts) -> None:
        """Run `before-up`, then make the backup: jobs that it pauses write nothing after that.

        Raises:
            HookError: `before-up` failed.
            BackupError: There is no backup.
            CancelledError: A signal stopped it.
        """
        from ..maintenance import command

        self._started = time.monotonic()
        if self.action is not Action.UP:
            return
        document = self._document(BEFORE_UP, [*plan.steps])
        try:
            self._run(BEFORE_UP, document, _LIMIT, interrupts)
        except command.FailedError as error:
            raise self._failed(errors.HookError, BEFORE_UP, error) from error
        if self.folder:
            self._dump(self.folder, interrupts)
        if BACKUP_COMMAND in self.commands:
            self._snapshot(plan, interrupts)

    def _dump(self, folder: Path, interrupts: Interrupts) -> None:
        from ..hazards.sizes import bytes_text
        from ..maintenance import backup

        work, started = self._opened, time.monotonic()
        total = bytes_text(backup.size_of_database(work))
        name = backup.file_name(work.conn.info.dbname, newest(work.entries()), datetime.now(UTC))

        def show(size: int) -> None:
            """Show how many bytes are written."""
            self.app.progress(f"backup: {bytes_text(size)} written; the database has {total}")

        path, size = backup.dump(work, folder, name, show, interrupts)
        made = backup.Backup(time.monotonic() - started, path, size)
        self._record(made, f"backup: {path} ({bytes_text(size)})")

    def _snapshot(self, plan: Plan, interrupts: Interrupts) -> None:
        from ..maintenance import backup, command

        started = time.monotonic()
        document = self._document(BACKUP_COMMAND, [*plan.steps])
        try:
            self._run(BACKUP_COMMAND, document, None, interrupts)
        except command.FailedError as error:
            raise self._failed(errors.BackupError, BACKUP_COMMAND, error) from error
        shown = command.shown(self.commands[BACKUP_COMMAND])
        self._record(backup.Backup(time.monotonic() - started, command=shown), "backup: done")

    def _record(self, made: Backup, text: str) -> None:
        from ..maintenance import backup

        backup.record(self._opened, made)
        self.app.remark(f"{text} in {errors.duration(made.seconds)}")
        self.backup = made

    @property
    def _opened(self) -> Session:
        assert self._work, "it is in the `with` of a run"
        return self._work

    def _failed(
        self,
        kind: type[errors.HookError | errors.BackupError],
        key: str,
        error: Exception,
    ) -> errors.MigratorError:
        from ..maintenance import command

        shown = command.shown(self.commands[key])
        return kind(f"{key} {error}; nothing was run", hint=f"to see why, run it yourself: {shown}")

    def _tell(self, key: str, error: Exception | None) -> None:
        """Run `after-up` or `on-failure`; if it fails, only warn."""
        from ..maintenance import command

        document = self._document(key, self.finished)
        document["seconds"] = round(time.monotonic() - self._started, 3)
        if error is not None:
            document["error"] = _of_error(error)
        try:
            self._run(key, document, _LIMIT)
        except command.FailedError as failure:
            self.app.remark(f"warning: {key} {failure}")

    def _run(
        self, key: str, document: Json, limit: float | None, interrupts: Interrupts | None = None
    ) -> None:
        from ..maintenance import command
        from ..output.json import dumps

        if found := self.commands.get(key):
            command.run(
                found,
                dumps(document) + "\n",
                self._environ,
                lambda line: self.app.remark(f"{key}: {line}"),
                limit=limit,
                interrupts=interrupts,
            )

    def _document(self, key: str, steps: list[Step]) -> Json:
        """Return the JSON that a command reads; the README documents the keys."""
        from ..output.json import of_step

        return {
            "event": key,
            **self._place,
            "steps": [of_step(step) for step in steps],
            "backup": backup_json(self.backup),
        }


def _of_error(error: Exception) -> Json:
    from ..output.json import of_error

    if not isinstance(error, errors.MigratorError):
        error = errors.InternalError(f"a bug in migrator: {type(error).__name__}")
    return of_error(error)


def backup_json(made: Backup | None) -> Json | None:
    """Return a backup for JSON; None for none."""
    if made is None:
        return None
    return {
        "path": str(made.path) if made.path else None,
        "bytes": made.bytes,
        "command": made.command,
        "seconds": round(made.seconds, 3),
    }


def hooks(app: App, action: Action, folder: Path | None) -> Hooks:
    """Return the commands and the backup that the configuration asks for.

    Raises:
        ConfigurationError: Someone else could have written the configuration file.
    """
    keys: tuple[str, ...] = (ON_FAILURE,)
    if action is Action.UP:
        keys = (BEFORE_UP, BACKUP_COMMAND, AFTER_UP, ON_FAILURE)
    found = {key: app.configuration.command(key) for key in keys}
    commands = {key: command for key, command in found.items() if command}
    return Hooks(app, action, folder, commands)
