"""Find the value of every setting, and where it comes from: option, variable, file or default."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..config import DATABASE_VARIABLES
from ..output.settings import HIDDEN, Setting, Source
from .app import App
from .keys import ALONE, PASSWORD_COMMAND, PROTECTED, REQUIRE_BACKUP, Key, is_at_top, name_of

if TYPE_CHECKING:
    from psycopg.pq import ConninfoOption

    from ..config import Database

_SOURCES = {
    ParameterSource.COMMANDLINE: Source.OPTION,
    ParameterSource.ENVIRONMENT: Source.VARIABLE,
    ParameterSource.DEFAULT_MAP: Source.FILE,
}
_VARIABLES = {parameter: variable for variable, parameter in DATABASE_VARIABLES.items()}
_VARIABLES["sslmode"] = "DATABASE_SSL"
_ALWAYS = tuple(_VARIABLES)  # the parameters that are shown whatever gives them
_DEFAULT = re.compile(r"\[default: (.*)\]")


def effective(app: App, program: click.Group) -> list[Setting]:
    """Return every setting, and where its value comes from; passwords are hidden.

    Raises:
        ConfigurationError: A variable or the file has an invalid value.
        click.BadParameter: The same, of an option's variable.
    """
    return [*_of_program(app, program), *_of_database(app), *_of_commands(app, program)]


def _of_program(app: App, program: click.Group) -> Iterator[Setting]:
    seen = {"database-url"}  # its parts are shown
    for option in _options(program):
        name = name_of(option)
        if name not in seen:
            yield _of_program_option(app, option)
            seen.add(name)
    for each in program.commands.values():
        for option in _options(each):
            if is_at_top(option) and not option.hidden and name_of(option) not in seen:
                yield _effective(app, option, "", ("", name_of(option)))
                seen.add(name_of(option))
    for name in ALONE:
        value = app.configuration.get(("", name))
        yield _of_key(app, name, bool(value) if name in (PROTECTED, REQUIRE_BACKUP) else value)


def _options(each: click.Command) -> list[click.Option]:
    options = [option for option in each.params if isinstance(option, click.Option)]
    return [option for option in options if not option.is_eager]


def _of_key(app: App, name: str, value: Any) -> Setting:
    place = _place(app, ("", name))
    return Setting("", name, value, Source.FILE if place else Source.DEFAULT, place)


def _place(app: App, key: Key) -> str | None:
    place = app.configuration.place(key)
    return f"{place.path}:{place.line}" if place else None


def _of_program_option(app: App, option: click.Option) -> Setting:
    """Return the setting of a program option, which may also be typed after this command."""
    name, key = option.name or "", name_of(option)
    source = _SOURCES.get(app.sources.get(name, ParameterSource.DEFAULT), Source.DEFAULT)
    if source is Source.DEFAULT:
        file = app.configuration.file
        default = file and str(file.path) if name == "config_path" else _default(option)
        return Setting("", key, default, source)
    value = getattr(app.settings if hasattr(app.settings, name) else app, name)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    origin = {
        Source.OPTION: f"--{key}",
        Source.VARIABLE: str(option.envvar),
        Source.FILE: _place(app, ("", key)),
    }
    return Setting("", key, _shown(value), source, origin[source])


def _of_commands(app: App, program: click.Group) -> Iterator[Setting]:
    for each in program.commands.values():
        for option in _options(each):
            key = app.configuration.key(each, option)
            if not is_at_top(option) or (key and key[0]):
                own = (each.name or "", name_of(option))
                yield _effective(app, option, own[0], key or own)


def _effective(app: App, option: click.Option, table: str, key: Key) -> Setting:
    """Return the value of an option that is not typed now: by variable, file or default."""
    name, ctx = name_of(option), click.get_current_context()
    if (given := option.value_from_envvar(ctx)) is not None:
        value = _shown(option.type_cast_value(ctx, given))
        return Setting(table, name, value, Source.VARIABLE, str(option.envvar))
    if place := _place(app, key):
        return Setting(table, name, _shown(app.configuration.get(key)), Source.FILE, place)
    return Setting(table, name, _default(option), Source.DEFAULT)


def _default(option: click.Option) -> Any:
    """Return the default of an option; some options have it only in their help."""
    if found := _DEFAULT.search(option.help or ""):
        return found[1]
    default = option.get_default(click.get_current_context())
    return default if isinstance(default, str | int) else None


def _shown(value: Any) -> Any:
    """Return a value as JSON has it, with the password of a URL hidden."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    from ..config_file import has_password

    if isinstance(value, str) and has_password(value):
        import psycopg
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        try:
            parts = conninfo_to_dict(value)
        except psycopg.Error:
            return HIDDEN
        return make_conninfo("", **{key: _hidden(key, each) for key, each in parts.items()})
    return value


def _hidden(parameter: str, value: Any) -> str:
    return HIDDEN if parameter.endswith("password") else str(value)


def _of_database(app: App) -> Iterator[Setting]:
    """Return the parameters of the connection, and where each value comes from."""
    database = app.database()
    if database is None:
        yield Setting("database", "dbname", None, Source.DEFAULT)
    elif database.embedded is not None:
        yield Setting("database", "dbname", f"embedded:{database.embedded}", *_of_url(app))
    else:
        yield from _of_server(app, database)


def _of_url(app: App) -> tuple[Source, str | None]:
    """Return where the URL comes from."""
    source = app.sources.get("database_url")
    if source is ParameterSource.COMMANDLINE:
        return Source.OPTION, "--database-url"
    if source is ParameterSource.ENVIRONMENT:
        return Source.VARIABLE, "MIGRATOR_DATABASE_URL"
    if os.environ.get("DATABASE_URL", "").strip():
        return Source.VARIABLE, "DATABASE_URL"
    return Source.FILE, _place(app, ("", "database-url"))


def _of_server(app: App, database: Database) -> Iterator[Setting]:
    from psycopg import pq

    from ..postgres import connection

    of_libpq = {each.keyword.decode(): each for each in pq.Conninfo.get_defaults()}
    in_url = connection.given_parameters(database, of_url_alone=True)
    given = connection.given_parameters(database)
    command = database.password_command is not None and not given.get("password")
    of_libpq_alone = (n for n, each in of_libpq.items() if os.environ.get(_envvar(each)))
    for name in dict.fromkeys((*_ALWAYS, *given, *of_libpq_alone)):
        libpq = of_libpq.get(name)
        variable = _envvar(libpq)
        if name == "password" and command:
            place = _place(app, ("", PASSWORD_COMMAND))
            yield Setting("database", name, HIDDEN, Source.FILE, place)
        elif name in database.parameters or (name in database.defaults and name not in in_url):
            value = _hidden(name, given[name])
            yield Setting("database", name, value, Source.VARIABLE, _VARIABLES[name])
        elif name in in_url:
            yield Setting("database", name, _hidden(name, given[name]), *_of_url(app))
        elif os.environ.get(variable):
            value = _hidden(name, os.environ[variable])
            yield Setting("database", name, value, Source.VARIABLE, variable)
        else:
            default = libpq.val.decode() if libpq and libpq.val and name != "password" else None
            yield Setting("database", name, default, Source.DEFAULT)


def _envvar(libpq: ConninfoOption | None) -> str:
    return libpq.envvar.decode() if libpq and libpq.envvar else ""
