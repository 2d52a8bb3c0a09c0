"""The commands that explain the program: help, version."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import App, exit_code
from .command import command

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_WIDEST = 100  # columns


def _complete_topic(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from ..output.reference import TOPICS

    known = (*_commands(ctx), *TOPICS)
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _commands(ctx: click.Context) -> dict[str, click.Command]:
    program = ctx.find_root().command
    assert isinstance(program, click.Group), "the program is a group of commands"
    return dict(program.commands)


@command("help", is_configured=False, epilog="Example: migrator help hazards")
@click.argument("topic", required=False, shell_complete=_complete_topic)
@click.pass_context
def help_command(ctx: click.Context, *, topic: str | None) -> None:
    """Explain a command or a topic: files, hazards, errors, json."""
    from ..output.reference import TOPICS, topic_text

    commands = _commands(ctx)
    if topic is None:
        click.echo(ctx.find_root().get_help())
    elif topic in commands:
        named = click.Context(commands[topic], info_name=topic, parent=ctx.parent)
        click.echo(commands[topic].get_help(named))
    elif topic in TOPICS:
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        click.echo(topic_text(topic, _exit_codes(), width))
    else:
        known = ", ".join(TOPICS)
        raise errors.UsageError(f'no help on "{topic}"', hint=f"the topics are {known}")


def _exit_codes() -> dict[str, int]:
    """Return the exit code of each error code."""
    kinds = list(errors.MigratorError.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind.code: exit_code(kind("")) for kind in kinds if hasattr(kind, "code")}


@command("version", is_configured=False, hidden=True)
@click.pass_obj
def version(app: App) -> None:
    """Show the version."""
    from ..history import recorder

    text = recorder.tool_version()
    app.show(lambda: f"migrator, version {text}", lambda: {"version": text})
