"""The command that finds what will make migrations fail or wait: doctor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .. import errors
from .app import DISAGREEING, App, style
from .command import command
from .options import role_option

if TYPE_CHECKING:
    from ..doctor.checks import Diagnosis
    from ..doctor.examine import Question
    from ..postgres.cursor import Connection


@command(epilog="Example: migrator doctor")
@role_option
@click.pass_obj
def doctor(app: App, /, *, role: str | None) -> None:
    """Find what will make migrations fail or wait, without writing.

    Each finding says what it means and what to type.  Exits with 4 if there are any; notes do
    not count.
    """
    from ..doctor.examine import Question, examine
    from ..output.diagnosis import diagnosis_json, diagnosis_text

    with app.connected() as conn:
        question = Question(
            app.settings.schema,
            trusted=app.settings.trust_history_of,
            role=role,
            shares_sessions=_shares_sessions(app, conn),
        )
        found = examine(conn, question) + _of_scripts(app, conn, question)
    app.show(lambda: diagnosis_text(found, style(sys.stdout)), lambda: diagnosis_json(found))
    if found.findings:
        sys.exit(DISAGREEING)


def _of_scripts(app: App, conn: Connection, question: Question) -> Diagnosis:
    from ..doctor.scripts import examine_scripts, unread
    from ..files.directory import read_migrations

    try:
        migrations = read_migrations(*app.settings.directories)
    except errors.MigratorError as error:
        # The history is still there: only the comments in the files stay unread.
        found = examine_scripts(conn, question, ())
        missing = unread(f"{error} (see: migrator verify)", "allow-unused")
        return found if found.unchecked else found + missing
    return examine_scripts(conn, question, migrations)


def _shares_sessions(app: App, conn: Connection) -> bool | None:
    """Whether a pooler assigns sessions by transaction; None if there is no pooler."""
    from ..postgres import connection

    with connection.reported():
        if connection.backend_pid(conn) == conn.info.backend_pid:
            connection.forget(conn)  # the settings of the role are examined
            return None
        with app.connected() as other:
            return connection.shares_sessions(conn, other)
