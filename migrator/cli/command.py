"""What all commands share: the program's options, and how errors are reported."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .. import errors
from ..interrupts import ForcedStopError, StoppedError
from .app import App
from .configuration import environments, load
from .keys import variable_of
from .options import duration

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMON = (
    "--config, --env, --dir, --database-url, --wait, --schema, --trust-history-of, --allow-empty, "
    "--json, -v: see migrator --help"
)


def _complete_env(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    app = ctx.find_object(App) or App()
    known = environments(ctx.params.get("config_path") or app.config_path)
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


class _Directories(click.Path):
    """A directory; a variable may hold several, separated as in PATH; empty ones are skipped."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Return the directories of a variable."""
        return [each for each in super().split_envvar_value(rv) if each]


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any], str], ...] = (
    (
        ("--config", "config_path"),
        {"metavar": "FILE"},
        "Configuration file [default: migrator.toml, if there is one].",
    ),
    (
        ("--env",),
        {"metavar": "NAME", "shell_complete": _complete_env},
        "Environment of the configuration file.",
    ),
    (
        ("--dir", "directories"),
        {"type": _Directories(path_type=Path), "multiple": True, "metavar": "DIR"},
        "Directory of the migrations [default: migrations].  May be repeated.",
    ),
    (
        ("--database-url",),
        {"metavar": "URL"},
        "Database to connect to, instead of DATABASE_URL.",
    ),
    (
        ("--wait",),
        {"metavar": "TIME"},
        "Wait this long for a database that does not answer yet [default: 0].",
    ),
    (
        ("--schema",),
        {"metavar": "NAME"},
        "Schema of the history tables [default: first of search_path].",
    ),
    (
        ("--trust-history-of",),
        {"metavar": "ROLE"},
        "Also accept a history owned by this role, and triggers on it.",
    ),
    (
        ("--allow-empty",),
        {"is_flag": True},
        "Accept a directory without migrations.",
    ),
    (("--json", "as_json"), {"is_flag": True}, "Print one JSON document on stdout."),
    (
        ("--verbose", "-v", "verbosity"),
        {"count": True},
        "Show every statement; -vv also logs all SQL that is sent.",
    ),
)


def program_options(*, is_command: bool) -> list[click.Parameter]:
    """Return the options that may come before a command and after it.

    Args:
        is_command: Return those of a command: hidden, and not set by the environment, so that
            only what is typed there replaces what is typed before the command.
    """
    return [
        click.Option(
            names,
            envvar=None if is_command else variable_of("MIGRATOR", names[0]),
            allow_from_autoenv=False,
            hidden=is_command,
            expose_value=False,
            callback=_apply,
            help=text,
            **settings,
        )
        for names, settings, text in _OPTIONS
    ]


def _apply(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    app = ctx.find_object(App)
    name, source = parameter.name, ctx.get_parameter_source(parameter.name or "")
    if not (app and name and source) or source is ParameterSource.DEFAULT:
        return
    if source is ParameterSource.DEFAULT_MAP and name in app.sources:
        return  # it was typed before the command, or is set in the environment
    app.sources[name] = source
    if not value:
        return
    if name in ("directories", "schema", "trust_history_of", "allow_empty"):
        app.settings = replace(app.settings, **{name: value})
        return
    if name == "wait":
        limit = duration(ctx, parameter, value) or 0
        app.settings = replace(app.settings, connect_wait=limit / 1000)
    setattr(app, name, value)


class WrongUsageError(click.UsageError):
    """Wrong arguments, with a suggestion; without one, the error names the help."""

    def __init__(self, message: str, ctx: click.Context, hint: str | None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class Command(click.Command):
    """A command that takes the program's options, too.

    Args:
        is_configured: Whether the configuration file gives its options.
    """

    def __init__(self, *args: Any, is_configured: bool = True, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.is_configured = is_configured
        for option in self.params:
            if isinstance(option, click.Option) and not option.envvar:
                prefix = f"MIGRATOR_{self.name}".upper()
                option.envvar = variable_of(prefix, max(option.opts, key=len))
        self.params = [*self.params, *program_options(is_command=True)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the configuration file and the arguments; suggest an option for a surplus one.

        Raises:
            WrongUsageError: There is an unexpected argument.
            ConfigurationError, BlockedError: The file is wrong.
        """
        ctx.allow_extra_args = True
        app = ctx.find_object(App)
        if app and self.is_configured:
            self._configure(ctx, app, args)
        try:
            extra = super().parse_args(ctx, args)
        except click.BadParameter as error:
            raise _in_file(error, app, self) or error from None
        if extra and not ctx.resilient_parsing:
            known = {name for parameter in self.params for name in parameter.opts}
            words = [each for each in extra if each != "to"] or ["VERSION"]
            options = ("--to",) if "to" in extra else ("--to", "--steps")
            typed = [f"migrator {self.name} {name} {words[0]}" for name in options]
            likely = [each for each in typed if each.split()[2] in known]
            hint = f"did you mean: {' or: '.join(likely)}" if likely else None
            raise WrongUsageError(f"unexpected extra argument ({extra[0]})", ctx, hint)
        return extra

    def _configure(self, ctx: click.Context, app: App, args: list[str]) -> None:
        """Take from the file what is neither typed nor set in the environment."""
        typed: Mapping[str, Any] = {}
        with suppress(click.UsageError):  # which is reported when the arguments are read
            typed = self.make_parser(ctx).parse_args(list(args))[0]
        if any(typed.get(each.name or "") for each in self.get_params(ctx) if each.is_eager):
            return  # it asks for help
        path, env = typed.get("config_path") or app.config_path, typed.get("env") or app.env
        try:
            app.configuration = load(ctx.find_root().command, path, env)
        except errors.MigratorError:
            if not ctx.resilient_parsing:  # for completion
                raise
        ctx.default_map = app.configuration.defaults(self)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, and name the program's."""
        super().format_options(ctx, formatter)
        with formatter.section("Global options"):
            formatter.write_text(_COMMON)


command: Callable[..., Callable[[Callable[..., Any]], Command]] = partial(
    click.command, cls=Command
)
"""As `click.command`, for a `Command`."""


class Commands(click.Group):
    """The commands, in the order of their definition; reports every `MigratorError`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's signature)
        """Write the first sentence of each command, in full, and the topics of `help`."""
        from ..output.reference import TOPICS

        shown = (command for command in self.commands.values() if not command.hidden)
        rows = [(str(each.name), (each.help or "").partition("\n")[0]) for each in shown]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        with formatter.section("Topics (migrator help TOPIC)"):
            formatter.write_dl(list(TOPICS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one if there is none of that name.

        Raises:
            WrongUsageError: There is none.
        """
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            from .suggestion import suggest

            guess = suggest(args[0], self.commands)
            hint = f"did you mean: migrator {guess}" if guess else None
            raise WrongUsageError(f"no such command '{args[0]}'", ctx, hint)
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the options before the command, and report an invalid one as a `MigratorError`."""
        given = tuple(args)  # click takes them out
        for stream in (sys.stdout, sys.stderr):
            # A terminal in Latin-1 must not end a run because of a letter that it cannot show.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            return super().make_context(info_name, args, parent, obj=App(arguments=given), **extra)
        except click.UsageError as error:
            if not given:
                raise  # it is the help
            app = App(as_json="--json" in given)
            raise click.exceptions.Exit(app.fail(_usage(error))) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn its error into a message and an exit code."""
        # A wrong command is reported before the options after it are read.
        asked_for_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            ctx.obj.as_json = ctx.obj.as_json or asked_for_json
            ctx.exit(ctx.obj.fail(_usage(error)))
        except errors.MigratorError as error:
            ctx.obj.as_json = ctx.obj.as_json or asked_for_json  # the file is read before options
            ctx.exit(ctx.obj.fail(error))
        except StoppedError as stop:
            ctx.exit(ctx.obj.fail(_stopped(stop)))
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, it gets reported)
            # Users see no traceback; -vv prints it for a bug report.
            if ctx.obj.logs:
                import traceback

                traceback.print_exc()
            ctx.exit(ctx.obj.fail(_unforeseen(error)))


def _stopped(stop: StoppedError) -> errors.CancelledError:
    at_once = " at once; the server may still be running a statement"
    return errors.CancelledError(
        f"interrupted{at_once if isinstance(stop, ForcedStopError) else ''}",
        hint="to see what was done, run: migrator status",
        signal=stop.signal,
    )


def _unforeseen(error: Exception) -> errors.InternalError:
    text = " ".join(str(error).split())
    return errors.InternalError(
        f"a bug in migrator: {type(error).__name__}{f': {text}' if text else ''}",
        hint="what is committed is recorded; to see it, run: migrator status\n"
        "to report the bug, run the command again with -vv, which shows where it is",
    )


def _in_file(
    error: click.BadParameter, app: App | None, command: Command
) -> errors.ConfigurationError | None:
    """Return the error of a value that comes from the configuration file; None for other values."""
    option, ctx = error.param, error.ctx
    if not (app and ctx and isinstance(option, click.Option) and option.name):
        return None
    if ctx.get_parameter_source(option.name) is not ParameterSource.DEFAULT_MAP:
        return None
    key = app.configuration.key(command, option)
    text = error.message.rstrip(".")
    if key and key[1] not in text:
        text = f'invalid "{key[1]}": {text[:1].lower()}{text[1:]}'
    return errors.ConfigurationError(text, key and app.configuration.place(key))


def _usage(error: click.UsageError) -> errors.UsageError:
    """Rewrite an error of click in the style of our own errors."""
    message = " ".join(error.format_message().split()).rstrip(".").replace("'. (", "' (")
    is_command = error.ctx is not None and error.ctx.parent is not None
    path = f"migrator {error.ctx.info_name}" if error.ctx and is_command else "migrator"
    hint = error.hint if isinstance(error, WrongUsageError) else None
    return errors.UsageError(message[:1].lower() + message[1:], hint=hint or f"see: {path} --help")
