"""The command that looks for what will hurt: doctor."""

from __future__ import annotations

import sys

import click

from .app import DISAGREEING, App, style
from .command import command


@command(epilog="Example: migrator doctor")
@click.pass_obj
def doctor(app: App, /) -> None:
    """Find what will make migrations fail or wait, without writing.

    Each finding says what it means and what to type.  Exits with 4 if there are any.
    """
    from ..doctor.examine import examine
    from ..output.diagnosis import diagnosis_json, diagnosis_text

    with app.connected() as conn:
        found = examine(conn, app.settings.schema, trusted=app.settings.trust_history_of)
    app.show(lambda: diagnosis_text(found, style(sys.stdout)), lambda: diagnosis_json(found))
    if found.findings:
        sys.exit(DISAGREEING)
