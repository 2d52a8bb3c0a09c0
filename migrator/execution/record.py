"""Record how far a no-transaction script has come, whatever role and settings it has left."""

from __future__ import annotations

import psycopg

from ..history.recorder import Command
from ..model import Direction, Step
from ..postgres import connection
from ..postgres.cursor import send
from ..postgres.settings import OWN
from . import failure
from .context import Context
from .transaction import set_config

# What the script sets for its session is kept for its later statements, and must not affect a
# record.  A record is written as the role that connected.
SETTINGS: tuple[Command, ...] = (
    (b"set local session authorization default", ()),
    (b"set local role to default", ()),
    (f"select {set_config({**OWN, 'lock_timeout': '1min'}, is_local=True)}".encode(), ()),
)
"""What a record is written under; it ends with the transaction."""


def end_unit(context: Context, step: Step, index: int) -> Command:
    """Record that a unit is done."""
    return context.recorder.end_unit(step.version, done(step, index))


def done(step: Step, index: int) -> int:
    """Return what the history says when a unit is done: below zero for a down."""
    return index + 1 if step.direction is Direction.UP else -index - 1


def write(context: Context, step: Step, command: Command) -> None:
    """Write a record at once.

    Raises:
        HistoryError: Another runner has changed the progress meanwhile.
    """
    with connection.reported(context.recorder.schema):
        context.conn.execute("begin read write")
        try:
            for text, parameters in (*SETTINGS, command):
                send(context.conn, text, parameters)
        except (psycopg.errors.DivisionByZero, psycopg.errors.NotNullViolation) as error:
            raise failure.another_runner(step) from error
        context.conn.execute("commit")
