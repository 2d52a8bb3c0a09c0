"""The tools that can be taken over, and which of them were at work in a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg

from ..errors import HistoryError, UsageError
from ..history import other_tools
from ..postgres import connection
from ..postgres.cursor import Connection
from ..session import Session
from . import adopt
from .dialect import Dialect, State, Table
from .dialects import (
    alembic,
    dbmate,
    flyway,
    golang_migrate,
    goose,
    graphile_migrate,
    knex,
    liquibase,
    node_pg_migrate,
    pgmigrate,
    pop,
    postgrator,
    prisma,
    refinery,
    sqitch,
    sql_migrate,
    sqlx,
    tern,
    yoyo,
)

DIALECTS: tuple[Dialect, ...] = (
    golang_migrate.DIALECT,
    dbmate.DIALECT,
    goose.DIALECT,
    flyway.DIALECT,
    flyway.DBLIFT,
    sql_migrate.DIALECT,
    sqlx.DIALECT,
    sqitch.DIALECT,
    tern.DIALECT,
    node_pg_migrate.DIALECT,
    graphile_migrate.DIALECT,
    prisma.DIALECT,
    postgrator.DIALECT,
    pgmigrate.DIALECT,
    yoyo.DIALECT,
    refinery.DIALECT,
    liquibase.DIALECT,
    alembic.DIALECT,
    knex.DIALECT,
    pop.DIALECT,
)
"""Each tool that `adopt` takes over."""

LANGUAGES = {"Rails": "Ruby", "Django": "Python"}
"""Tools whose migrations are programs, and what they are written in."""

START = (
    "to start with the schema that the database has, in a new directory, run: "
    "mkdir migrations\n"
    "then: migrator dump --allow-empty --output migrations/01_schema.up.sql\n"
    "then: migrator baseline 01"
)
"""What to do instead of taking over files that cannot be converted."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A tool that was at work in the database.

    Attributes:
        tool: As `other_tools` calls it.
        dialect: None if `adopt` does not know its files.
        state: What its table says; None if that is not known.
        unread: Why that is not known; None if it is, or if `adopt` does not know the tool.
    """

    tool: str
    table: str
    place: Table
    dialect: Dialect | None
    state: State | None
    unread: str | None = None

    @property
    def is_used(self) -> bool:
        """Whether it has applied anything."""
        return self.state is None or not self.state.is_empty


def look(conn: Connection, *, renamed: str | None = None) -> tuple[Trace, ...]:
    """Return the tools that have a table in the database, by schema and table."""
    with connection.reported():
        found = other_tools.find(conn, renamed=renamed)
        return tuple(_trace(conn, each) for each in found)


def _trace(conn: Connection, found: other_tools.Found) -> Trace:
    dialect = next((each for each in DIALECTS if each.recognised == found.tool), None)
    place = Table(found.schema, found.name, conn.info.dbname)
    state, unread = None, None
    try:
        state = adopt.read_state(conn, dialect, place) if dialect else None
    except psycopg.errors.InsufficientPrivilege:
        unread = "the connected role may not read it"
    except psycopg.errors.LockNotAvailable:
        unread = "another session holds a lock on it"
    return Trace(found.tool, found.table, place, dialect, state, unread)


def choose(conn: Connection, tool: str, table: str | None) -> tuple[Dialect, Table]:
    """Return the tool of a name, and its only table.

    Raises:
        UsageError: `adopt` has no such tool.
        HistoryError: It has no table in the database, or several.
    """
    dialect = next((each for each in DIALECTS if each.name == tool.lower()), None)
    if dialect is None:
        for name, language in LANGUAGES.items():
            if name.lower() == tool.lower():
                raise UsageError(
                    f"the migrations of {name} are {language} and cannot be converted", hint=START
                )
        known = ", ".join(each.name for each in DIALECTS)
        near = get_close_matches(tool.lower(), [each.name for each in DIALECTS], 1, 0.7)
        hint = f"did you mean {near[0]}?" if near else f"the tools are {known}"
        raise UsageError(f'cannot adopt "{tool}"', hint=hint)
    with connection.reported():
        every = other_tools.find(conn, renamed=table)
    found = [each for each in every if each.tool == dialect.recognised]
    if not found:
        others = ", ".join(f"{each.tool} in {each.table}" for each in every)
        raise HistoryError(
            f"there is no table of {dialect.name}" + (f' named "{table}"' if table else ""),
            detail=f"found: {others}" if others else None,
            hint="to see which tools have one, run: migrator adopt"
            + ("" if table else "\nif its table has another name: --table NAME"),
        )
    if len(found) > 1:
        raise HistoryError(
            f"there are several tables of {dialect.name}: "
            + ", ".join(each.table for each in found),
            hint="choose one with: --table SCHEMA.NAME",
        )
    return dialect, Table(found[0].schema, found[0].name, conn.info.dbname)


def refuse_other(work: Session) -> None:
    """Check that no other tool has applied migrations, for a database without a history.

    Raises:
        HistoryError: One has.
    """
    traces = [trace for trace in look(work.conn) if trace.is_used]
    if not traces:
        return
    named = ", ".join(f"{trace.tool} in {trace.table}" for trace in traces)
    raise HistoryError(
        f"no migration is recorded, but the database has the history of {named}",
        hint=f"{_instead(traces)}\nto start one beside it: migrator up --beside-other-tool",
    )


def _instead(traces: Sequence[Trace]) -> str:
    known = [trace.dialect.name for trace in traces if trace.dialect]
    if not known:
        return START
    which = "one" if known[1:] else "it"
    commands = "\nor: ".join(f"migrator adopt {name} --files DIR" for name in known)
    return f"to take {which} over, run: {commands}"
