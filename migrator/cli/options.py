"""The options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from .app import App

Command = TypeVar("Command", bound=Callable[..., Any])


def _also_here(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Take an option of the program behind its command, where people write it, too."""
    app = ctx.find_object(App)
    if value and app and parameter.name:
        setattr(app, parameter.name, value)


def everywhere(command: Command) -> Command:
    """Give a command the options that say how it speaks."""
    for option in (
        click.option(
            "-v",
            "--verbose",
            "verbosity",
            count=True,
            expose_value=False,
            allow_from_autoenv=False,
            callback=_also_here,
            help="Show every statement.",
        ),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            expose_value=False,
            allow_from_autoenv=False,
            callback=_also_here,
            help="One JSON document on stdout.",
        ),
    ):
        command = option(command)
    return command


def _duration(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    from ..sql.script import milliseconds

    if (limit := milliseconds(value)) is None:
        raise click.BadParameter(f'"{value}" is no duration; write 500ms, 2s or 15min')
    return limit


def runs(command: Command) -> Command:
    """Give a command the options of everything that runs migrations."""
    options = (
        click.option(
            "--flush-each",
            envvar="MIGRATOR_FLUSH_EACH",
            is_flag=True,
            help="Wait for the disk at every commit, not at the last one alone.",
        ),
        click.option(
            "--role",
            envvar="MIGRATOR_ROLE",
            metavar="NAME",
            help="Run the migrations as this role.",
        ),
        click.option(
            "--statement-timeout",
            envvar="MIGRATOR_STATEMENT_TIMEOUT",
            callback=_duration,
            metavar="TIME",
            help="Longest time for one statement [default: no limit].",
        ),
        click.option(
            "--lock-timeout",
            envvar="MIGRATOR_LOCK_TIMEOUT",
            callback=_duration,
            metavar="TIME",
            help="Longest wait for one lock, before the migration is tried again [default: 2s].",
        ),
        click.option(
            "--lock-attempts",
            envvar="MIGRATOR_LOCK_ATTEMPTS",
            type=click.IntRange(min=1),
            metavar="N",
            help="How often a migration is tried for the sake of a lock [default: 10].",
        ),
        click.option(
            "--lock-wait",
            envvar="MIGRATOR_LOCK_WAIT",
            callback=_duration,
            metavar="TIME",
            help="Longest wait for another runner [default: as long as it takes].",
        ),
    )
    for option in options:
        command = option(command)
    return command


def staged(command: Command) -> Command:
    """Give a command the options of everything that needs a scratch database."""
    return click.option(
        "--scratch-url",
        envvar="MIGRATOR_SCRATCH_URL",
        metavar="URL",
        help="Make the scratch database on this server [default: the database's own].",
    )(command)


def size(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Read a size as PostgreSQL spells it, in bytes."""
    match = re.fullmatch(r"([0-9]{1,9})\s*(kB|MB|GB|TB)?", value.strip(), re.IGNORECASE)
    if not match:
        raise click.BadParameter(f'"{value}" is no size; write 500kB, 8MB or 1GB')
    power: int = ("", "kb", "mb", "gb", "tb").index((match[2] or "").lower())
    return int(match[1]) << (10 * power)


def limited(app: App, limits: dict[str, Any]) -> None:
    """Put the options of `runs` that were given into the settings."""
    given = {name: value for name, value in limits.items() if value is not None}
    if "lock_wait" in given:
        given["lock_wait"] /= 1000
    app.settings = replace(app.settings, **given)


def log_statements() -> None:
    """Write every statement that is sent to stderr, with its time."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("migrator")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  (click's signature)
    """Print the program's version and end it."""
    if value and not ctx.resilient_parsing:
        from ..history import recorder

        click.echo(f"migrator, version {recorder.tool_version()}")
        ctx.exit()
