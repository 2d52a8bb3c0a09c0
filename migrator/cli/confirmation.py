"""Ask before a command changes the database."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from .. import errors
from ..interrupts import StoppedError
from .app import App, exit_code

if TYPE_CHECKING:
    from ..session import Session


def confirm(app: App, work: Session, what: str, *, yes: bool, is_usual: bool = False) -> None:
    """Ask for confirmation; in a protected environment, ask for the name of the database.

    Args:
        what: What would be done, beginning with a verb.
        yes: Whether `--yes` was given: then nothing is asked.
        is_usual: Ask on a terminal in every environment.

    Raises:
        UsageError: The environment is protected, and there is no terminal to ask on.
        CancelledError, SystemExit: The answer is no, or another name.
    """
    is_protected = app.configuration.is_protected
    is_terminal = sys.stdin is not None and sys.stdin.isatty()  # None if the shell closed it
    if yes or not (is_protected or (is_usual and is_terminal)):
        return
    name = work.conn.info.dbname
    if not is_terminal:
        raise _unconfirmed(app, name)
    question = f"{what} on database {name} ({work.server})?"
    number = signal.SIGINT
    try:
        if _agrees_by_name(question, name) if is_protected else _agrees(question):
            return
    except click.Abort:
        click.echo(err=True)  # at the end of the input
    except StoppedError as stop:
        number = signal.Signals(stop.signal)
        click.echo(err=True)  # after ^C
    aborted = errors.CancelledError("aborted; nothing was run", signal=number)
    if app.as_json:
        raise aborted
    app.say(aborted.message)
    sys.exit(exit_code(aborted))


def _unconfirmed(app: App, name: str) -> errors.UsageError:
    import shlex

    env, command = app.configuration.env, click.get_current_context().info_name or ""
    which = f'the environment "{env}" is protected' if env else "this configuration is protected"
    rest = list(app.arguments)
    before = rest[: rest.index(command)] if command in rest else []
    again = shlex.join(["migrator", *before, command, "--yes", *rest[len(before) + 1 :]])
    return errors.UsageError(
        f'{which}: confirm that "{name}" is the right database; nothing was run',
        hint=f"if it is, run: {again}",
    )


def _agrees(question: str) -> bool:
    from ..output.terminal import readable

    return click.confirm(readable(question), err=True)


def _agrees_by_name(question: str, name: str) -> bool:
    from ..output.terminal import readable

    text = readable(f"{question}\ntype the name of the database")
    return str(click.prompt(text, default="", show_default=False, err=True)).strip() == name
