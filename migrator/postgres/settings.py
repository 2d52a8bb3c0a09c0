"""The settings of our sessions, independent of server, database, role and environment.

A migration runs under the user's settings; migrator's own statements run under `OWN`.
"""

from __future__ import annotations

from collections.abc import Mapping

OWN = {
    # In another schema, someone may have created a function or operator that matches better than
    # PostgreSQL's, and it would run as our role.
    "search_path": "pg_catalog, pg_temp",
    # An error instead of an answer without the rows that a policy hides.
    "row_security": "off",
    "datestyle": "iso",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    # Compiling a query of the catalogs takes longer than running it.
    "jit": "off",
}
"""What each statement of our own runs under, by name; set for its transaction only.

A setting of the session would reach other clients through a pooler, and RESET in a script would
remove it.
"""

SET_OWN = tuple(f"set local {name} = {value}".encode() for name, value in OWN.items())
"""The statements that set `OWN`.  They take no snapshot, so anything may follow."""

KEEPALIVES = {
    "tcp_keepalives_idle": "30",  # seconds
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
    "tcp_user_timeout": "0",
}
"""How the server notices that a client is gone: by default it takes two hours."""


def unlimited(server_version: int) -> tuple[str, ...]:
    """Return the settings that make the server end a session whose transaction takes too long."""
    newer = ("transaction_timeout",) if server_version >= 170000 else ()
    return ("idle_in_transaction_session_timeout", *newer)


def of_idle(server_version: int) -> dict[str, str]:
    """Return the settings that let a session be idle between two statements, by name."""
    newer = {"idle_session_timeout": "0"} if server_version >= 140000 else {}
    return {**KEEPALIVES, **newer}


def of_ours(server_version: int) -> dict[str, str]:
    """Return the settings of a session that runs only statements of our own, by name."""
    return {
        **of_idle(server_version),
        **dict.fromkeys(unlimited(server_version), "0"),
        "statement_timeout": "0",
        "default_transaction_read_only": "off",
    }


def starting(settings: Mapping[str, str], pid: int) -> tuple[bytes, ...]:
    """Return the statements that set settings for a session, in a transaction of their own.

    Args:
        pid: That of the session's server process by libpq.  A pooler invents it: then nothing
            is set, as other clients use the same session.
    """
    rows = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    return (
        b"begin isolation level read committed",
        b"select pg_catalog.set_config(name, value, false)"
        b" from (values %s) as s (name, value)"
        b" where pg_catalog.pg_backend_pid() operator(pg_catalog.=) %d" % (rows.encode(), pid),
        b"commit",
    )
