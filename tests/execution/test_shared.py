"""What changes roles, databases and the like is recognised by the text of a CALL or DO."""

from __future__ import annotations

from contextlib import closing

import pytest

from migrator import config
from migrator.execution.shared import changes_shared
from migrator.postgres import connection
from migrator.sql.splitter import split

from ..conftest import Database

ROUTINES = """
create procedure plain() language plpgsql as 'begin grant select on t to public; commit; end';
create procedure deep() language plpgsql as 'begin drop role app; commit; end';
create procedure outer_one() language plpgsql as 'begin call deep(); end';
"""


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("create database d", True),
        ("alter system set work_mem = '4MB'", True),
        ("vacuum", False),
        ("do $$ begin alter role app nologin; commit; end $$", True),
        ("do $$ begin execute 'grant a to b'; commit; end $$", True),
        ("do $$ begin revoke a from b; commit; end $$", True),
        ("do $$ begin grant select on t to b; commit; end $$", False),
        ("do $$ begin create user mapping for b server s; commit; end $$", False),
        ("do $$ begin update t set a = 1; commit; end $$", False),
        ("call plain()", False),
        ("call deep()", True),
        ("call public.outer_one()", True),
        ("call none_such()", False),
    ],
)
def test_a_statement_that_changes_what_databases_share(
    database: Database, sql: str, expected: bool
) -> None:
    database.execute(ROUTINES)
    (statement,) = split(f"{sql};")
    with closing(connection.connect(config.Database(database.url))) as conn:
        assert changes_shared(conn, statement) is expected
