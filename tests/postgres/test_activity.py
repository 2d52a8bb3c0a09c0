"""What another session sees of a process: the sessions that block it, as a DBA reads them."""

from __future__ import annotations

import pytest

from migrator.events import Backend
from migrator.postgres import activity

from ..conftest import Database


@pytest.mark.parametrize(
    ("session", "text"),
    [
        (
            Backend(17562, "postgres", "shop-api", None, "idle in transaction", 1.6, "select 1"),
            "pid 17562  shop-api, postgres, idle in transaction for 2 s, last query: select 1",
        ),
        (
            Backend(7, "joe", None, "10.0.0.5", "active", 61.2, "update t set a = 1"),
            "pid 7  joe, from 10.0.0.5, active for 61 s, query: update t set a = 1",
        ),
        (
            Backend(7, "joe", "psql", None, "idle", None, "lock t"),
            "pid 7  psql, joe, idle, last query: lock t",
        ),
        (
            Backend(7, "joe", "psql", None, None, None, "<insufficient privilege>"),
            "pid 7  psql, joe, query: <insufficient privilege>",
        ),
        (
            Backend(None, "joe", None, None, "prepared", 3, None, "it's"),
            "prepared transaction 'it''s'  joe, prepared for 3 s",
        ),
        (Backend(7, None, None, None, None, None, None), "pid 7"),
    ],
)
def test_a_session_is_one_line(session: Backend, text: str) -> None:
    assert str(session) == text


def test_an_idle_session_shows_its_last_query(database: Database) -> None:
    with database.connect() as conn, database.connect() as other:
        other.execute("set application_name = 'shop-api'")
        other.execute("begin; select   1 as\n one")
        (seen,) = activity.backends(conn, [other.info.backend_pid])
        assert activity.blockers(conn, other.info.backend_pid) == ()
    assert str(seen).endswith("for 0 s, last query: begin; select 1 as one")
    assert str(seen).startswith(f"pid {seen.pid}  shop-api, postgres, idle in transaction ")
