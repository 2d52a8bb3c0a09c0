"""The command that shows every setting, and where its value comes from."""

from __future__ import annotations

import click

from .app import App
from .command import command


@command(epilog="Example: migrator config --env production")
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show every setting, and where its value comes from.

    That is an option, a variable, a line of the configuration file, or the default.
    Passwords are hidden.
    """
    from ..output.settings import settings_json, settings_text
    from .settings import effective

    app = ctx.ensure_object(App)
    program = ctx.find_root().command
    assert isinstance(program, click.Group), "the program is a group of commands"
    found = effective(app, program)
    app.show(lambda: settings_text(found), lambda: settings_json(found))
