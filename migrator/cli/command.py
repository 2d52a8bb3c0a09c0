"""What every command has in common: the program's options, and a word about wrong arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import config
from .app import App, WrongUsageError

_COMMON = "--dir, --database-url, --schema, --json, -v: see migrator --help"


def program_options(*, is_command: bool) -> list[click.Parameter]:
    """Return the options that may come before a command and after it.

    Args:
        is_command: Return those of a command: hidden, without default and environment, so
            that only what is typed replaces the options before the command.
    """
    declared: Sequence[tuple[Sequence[str], str | None, dict[str, Any]]] = (
        (
            ("--dir", "directory"),
            "MIGRATOR_DIR",
            {
                "type": click.Path(path_type=Path),
                "default": None if is_command else config.DEFAULT_DIRECTORY,
                "show_default": True,
                "help": "Directory of the migrations.",
            },
        ),
        (
            ("--database-url",),
            "MIGRATOR_DATABASE_URL",
            {"metavar": "URL", "help": "Database to connect to, instead of DATABASE_URL."},
        ),
        (
            ("--schema",),
            "MIGRATOR_SCHEMA",
            {
                "metavar": "NAME",
                "help": "Schema of the history tables [default: first of search_path].",
            },
        ),
        (
            ("--json", "as_json"),
            "MIGRATOR_JSON",
            {"is_flag": True, "help": "Print one JSON document on stdout."},
        ),
        (
            ("-v", "--verbose", "verbosity"),
            "MIGRATOR_VERBOSE",
            {"count": True, "help": "Show every statement; -vv also logs all SQL that is sent."},
        ),
    )
    return [
        click.Option(
            names,
            envvar=None if is_command else variable,
            allow_from_autoenv=False,
            hidden=is_command,
            expose_value=False,
            callback=_apply,
            **settings,
        )
        for names, variable, settings in declared
    ]


def _apply(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    app = ctx.find_object(App)
    if not (app and value and parameter.name):
        return
    if parameter.name in ("directory", "schema"):
        app.settings = replace(app.settings, **{parameter.name: value})
    else:
        setattr(app, parameter.name, value)


class Command(click.Command):
    """A command that takes the program's options, too."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params = [*self.params, *program_options(is_command=True)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; suggest an option for one too many.

        Raises:
            WrongUsageError: There is one too many.
        """
        ctx.allow_extra_args = True
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            known = {name for parameter in self.params for name in parameter.opts}
            typed = [f"migrator {self.name} {name} {extra[0]}" for name in ("--to", "--steps")]
            likely = [each for each in typed if each.split()[2] in known]
            hint = f"did you mean: {' or: '.join(likely)}" if likely else None
            raise WrongUsageError(f"unexpected extra argument ({extra[0]})", ctx, hint)
        return extra

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, and name the program's."""
        super().format_options(ctx, formatter)
        with formatter.section("Options of the program"):
            formatter.write_text(_COMMON)


command: Callable[..., Callable[[Callable[..., Any]], Command]] = partial(
    click.command, cls=Command
)
"""As `click.command`, for a `Command`."""
