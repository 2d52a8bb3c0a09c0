"""The settings of the database and the role reach every scratch database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Database, Migrate, Postgres, Write
from tests.sessions import ordinary_role

pytestmark = pytest.mark.slow

VALUE = """acme's  "own\\" name"""
CHECK = sql.SQL(
    "do $$ begin if current_setting('app.tenant') <> {} then"
    " raise exception 'wrong %', 'tenant: ' || current_setting('app.tenant'); end if; end $$;"
).format(VALUE)
COMMANDS = [
    ["rehearse"],
    ["rehearse", "--from-target"],
    ["rehearse", "--scratch-url", "embedded:"],
    ["drift"],
    ["baseline", "02"],
]


@pytest.fixture(params=["superuser", "ordinary role"])
def url(request: pytest.FixtureRequest, database: Database) -> Iterator[str]:
    """The URL of the database, as a superuser or as a role that may create databases."""
    if request.param == "superuser":
        yield database.url
        return
    with ordinary_role(database, "createdb") as url:
        database.execute(f"grant create on database {database.name} to {user_of(url)}")
        yield url


def user_of(url: str) -> str:
    return str(conninfo_to_dict(url)["user"])


def put(database: Database, where: str, value: str = VALUE) -> None:
    """Attach the setting to the database, or to a role in it."""
    with database.connect() as conn:
        conn.execute(sql.SQL("alter {} set app.tenant = {}").format(sql.SQL(where), value))


def files(conn: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    check = CHECK.as_string(conn)
    return {
        "01_a.up.sql": f"create table a ();\n{check}",
        "02_b.up.sql": f"create table b ();\n{check}",
        "02_b.down.sql": "drop table b;",
    }


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_setting_of_the_database_that_no_module_defines_is_seen(
    migrate: Migrate,
    write: Write,
    database: Database,
    url: str,
    command: list[str],
) -> None:
    put(database, f"database {database.name}")
    with database.connect() as conn:
        write(files(conn))
    applied = "02" if command == ["drift"] else "01"
    assert migrate("up", "--to", applied, database=url).exit_code == 0
    if command[0] == "baseline":
        created = migrate("up", database=url)
        assert created.exit_code == 0, created.stderr
        database.execute("delete from migration_versions where version = '02_b'")
    result = migrate(*command, database=url)
    for problem in ("wrong tenant", "unrecognized configuration parameter", "cannot"):
        assert problem not in result.stdout + result.stderr
    # On a server with the same roles, what the test has granted is drift.
    assert result.exit_code in (0, 4), result.stderr


@pytest.mark.parametrize("where", ["role {user}", "role {user} in database {database}"])
def test_the_setting_of_the_role_wins_over_that_of_the_database(
    migrate: Migrate, write: Write, database: Database, where: str
) -> None:
    with ordinary_role(database, "createdb") as url:
        put(database, f"database {database.name}", "of the database")
        put(database, where.format(user=user_of(url), database=database.name))
        with database.connect() as conn:
            write(files(conn))
        result = migrate("rehearse", database=url)
        assert "wrong tenant" not in result.stdout
        assert "0 findings" in result.stdout


def test_options_of_the_url_win_over_the_settings(
    migrate: Migrate, write: Write, database: Database
) -> None:
    with ordinary_role(database, "createdb") as url:
        put(database, f"database {database.name}", "of the database")
        write({"01_a.up.sql": "do $$ begin assert current_setting('app.tenant') = 'mine'; end $$"})
        result = migrate("rehearse", database=f"{url}?options=-capp.tenant%3Dmine")
        assert result.exit_code in (0, 4)
        assert "0 findings" in result.stdout, result.stdout
        assert "assertion" not in result.stdout


def test_a_database_that_is_frozen_can_be_rehearsed(
    migrate: Migrate, write: Write, database: Database, postgres: Postgres
) -> None:
    write({"01_a.up.sql": "create table a ();"})
    database.execute(f"alter database {database.name} set default_transaction_read_only = on")
    result = migrate("rehearse", "--scratch-url", postgres.url())
    assert result.exit_code == 0, result.stdout + result.stderr
