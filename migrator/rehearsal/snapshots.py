"""Take a snapshot of a database's schema: one statement that reads the system catalogs."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import psycopg

from .schema import SchemaObject, Snapshot

# What decides how PostgreSQL spells names and values, and what slows it down: to compile the
# statement would take longer than to run it.
_SETTINGS = """
select set_config(name, value, true)
from (
    values ('search_path', 'pg_catalog, pg_temp'),
           ('quote_all_identifiers', 'off'),
           ('datestyle', 'ISO, YMD'),
           ('intervalstyle', 'postgres'),
           ('timezone', 'UTC'),
           ('extra_float_digits', '1'),
           ('bytea_output', 'hex'),
           ('jit', 'off'),
           ('work_mem', '64MB')
) as s (name, value)
"""


@cache
def _statement() -> str:
    return resources.files(__package__).joinpath("snapshot.sql").read_text(encoding="utf-8")


def take(conn: psycopg.Connection[Any], history: str | None) -> Snapshot:
    """Read the schema of a database, inside the transaction if there is one; write nothing.

    System schemas, temporary tables and the members of extensions are no part of it.
    The session's settings and locks are afterwards what they were before.

    Args:
        history: The schema whose `migration_versions` and `migration_log` are left out; None
            for no schema.

    Raises:
        psycopg.Error: As PostgreSQL has it, such as a lock on a view that it could not have.
    """
    with conn.transaction(force_rollback=True):
        conn.execute(_SETTINGS)
        rows = conn.execute(_statement().encode(), {"history": history}).fetchall()
    return tuple(
        SchemaObject(kind, name, definition, identity, tuple(parents), position)
        for kind, name, definition, identity, parents, position in rows
    )
