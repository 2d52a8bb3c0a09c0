"""The options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .app import App
from .keys import variable_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..rehearsal.schemas.ignore import Pattern

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class InvalidValueError(click.BadParameter):
    """An invalid value, with a message of our own."""

    def format_message(self) -> str:
        """Return the message as it is, without the option that click would name before it."""
        return self.message


def duration(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Parse a time in PostgreSQL's spelling, such as 2s; return milliseconds."""
    if value is None:
        return None
    from ..sql.script import milliseconds

    if (limit := milliseconds(value)) is None:
        example = "use for example 500ms, 2s or 15min"
        text = f'invalid duration "{value}" for {parameter.opts[0]}: {example}'
        raise InvalidValueError(text, ctx, parameter)
    return limit


def percent(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Parse a share such as 50%, from 1% to 100%; return the number."""
    if value is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]?|100)\s*%?", value.strip())
    if not match:
        text = f'invalid share "{value}" for {parameter.opts[0]}: use for example 50%'
        raise InvalidValueError(text, ctx, parameter)
    return int(match[1])


_TIME = {"metavar": "TIME", "callback": duration}
_RUN_OPTIONS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("--lock-wait", _TIME, "Wait this long for another migrator to finish [default: no limit]."),
    (
        "--lock-attempts",
        {"metavar": "N", "type": click.IntRange(min=1)},
        "Give up after this many attempts to get a lock [default: 10].",
    ),
    ("--lock-timeout", _TIME, "Wait this long for a lock, then roll back and retry [default: 2s]."),
    ("--statement-timeout", _TIME, "Limit the time of each statement [default: no limit]."),
    ("--role", {"metavar": "NAME"}, "Run the migrations as this role."),
    (
        "--flush-each",
        {"is_flag": True},
        "Wait for the disk at every commit, not only at the last one.",
    ),
    ("--batch-time", _TIME, "Let each batch of a backfill take this long [default: 100ms]."),
    (
        "--batch-load",
        {"metavar": "PERCENT", "callback": percent},
        "Let batches work this share of the time, and pause for the rest [default: 50%].",
    ),
    ("--max-lag", _TIME, "Pause a backfill while a standby or slot lags more [default: 10s]."),
    (
        "--max-active",
        {"metavar": "N", "type": click.IntRange(min=0)},
        "Pause a backfill while more sessions are at work [default: no limit].",
    ),
)


def role_option(command: Decorated) -> Decorated:
    """Add the option for the role that runs migrations."""
    return click.option(
        "--role",
        envvar=variable_of("MIGRATOR", "--role"),
        metavar="NAME",
        help="The role that migrations run as.",
    )(command)


def run_options(command: Decorated) -> Decorated:
    """Add the options of every command that runs migrations."""
    for name, settings, text in reversed(_RUN_OPTIONS):
        variable = variable_of("MIGRATOR", name)
        command = click.option(name, envvar=variable, help=text, **settings)(command)
    return command


def _override(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  (click's signature)
    app = ctx.find_object(App)
    if app and value:
        app.settings = replace(app.settings, override_read_only=True)


def override_option(command: Decorated) -> Decorated:
    """Add the option of every command that writes to the database."""
    return click.option(
        "--override-read-only",
        is_flag=True,
        expose_value=False,
        callback=_override,
        help="Write even if the database is read-only by default.",
    )(command)


def scratch_option(command: Decorated) -> Decorated:
    """Add the option of every command that needs a scratch database."""
    return click.option(
        "--scratch-url",
        envvar="MIGRATOR_SCRATCH_URL",
        metavar="URL",
        help="Create the scratch database on this server [default: the database's own].",
    )(command)


def _patterns(
    ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[Pattern, ...]:
    if not value:
        return ()
    from ..rehearsal.schemas.ignore import PatternError, parse

    found = []
    for text in value:
        try:
            found.append(parse(text))
        except PatternError as error:
            problem = f"invalid pattern for {parameter.opts[0]}, {text}: {error}"
            raise click.UsageError(problem, ctx) from error
    return tuple(found)


class _Pattern(click.types.StringParamType):
    """Text, of which a variable holds several: patterns contain spaces and commas."""

    name = "pattern"
    envvar_list_splitter = ";"


def ignore_option(command: Decorated) -> Decorated:
    """Add the option of every command that compares the database with a scratch database."""
    return click.option(
        "--ignore",
        multiple=True,
        type=_Pattern(),
        envvar="MIGRATOR_IGNORE",
        callback=_patterns,
        metavar="PATTERN",
        help='Ignore these objects, for example "public.events_*" or "schema partman".  '
        "May be repeated.",
    )(command)


def size(ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    """Parse a size in PostgreSQL's spelling, such as 8MB; return bytes."""
    match = re.fullmatch(r"([0-9]{1,9})\s*(kB|MB|GB|TB)?", value.strip(), re.IGNORECASE)
    if not match:
        example = "use for example 500kB, 8MB or 1GB"
        text = f'invalid size "{value}" for {parameter.opts[0]}: {example}'
        raise InvalidValueError(text, ctx, parameter)
    power: int = ("", "kb", "mb", "gb", "tb").index((match[2] or "").lower())
    return int(match[1]) << (10 * power)


def apply_limits(app: App, limits: dict[str, Any]) -> None:
    """Put the values of `run_options` that were given into the settings."""
    given = {name: value for name, value in limits.items() if value is not None}
    if "lock_wait" in given:
        given["lock_wait"] /= 1000
    app.settings = replace(app.settings, **given)


def complete_version(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a version from the names of the files, by ascending number.

    Where one may be named, repeatable files come last.
    """
    from click.shell_completion import CompletionItem

    from ..model import number_of

    app = ctx.find_object(App) or App()
    files = (path for each in app.settings.directories for path in each.glob("[0-9]*.up.sql"))
    versions = sorted((path.name.removesuffix(".up.sql") for path in files), key=number_of)
    if ctx.info_name in ("log", "repair"):
        last = (path for each in app.settings.directories for path in each.glob("R__*.sql"))
        versions += sorted(path.stem for path in last)
    return [CompletionItem(version) for version in versions if version.startswith(incomplete)]


yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")

target_option = click.option(
    "--to",
    "target",
    metavar="VERSION",
    shell_complete=complete_version,
    help="Stop after this version.",
)
