"""A standby is read, and nothing is said of a scratch database that was never created."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from migrator.embedded.server import url as server_url
from tests.conftest import Migrate, Postgres, Result, Write, call
from tests.replication import copied, serving_standbys
from tests.sessions import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def primary() -> Iterator[Postgres]:
    """A server of its own: it must let a standby connect."""
    with serving_standbys() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def standby(primary: Postgres) -> Iterator[str]:
    """The start of the URL of a hot standby: the name of a database follows."""
    with copied(primary, "-R") as url:
        yield url


@pytest.fixture
def on_primary(primary: Postgres, write: Write, directory: Path) -> Iterator[Migrate]:
    """The program on the primary, with one migration applied, of two."""
    write({"01_a.up.sql": "create table a ();", "02_b.up.sql": "create table b ();"})
    with primary.database() as database:
        migrate = Migrate(call, database, directory)
        assert migrate("up", "--to", "01").exit_code == 0
        yield migrate


@pytest.fixture
def on_standby(on_primary: Migrate, standby: str) -> Callable[..., Result]:
    """The program on a standby whose primary has one migration applied, of two."""
    url = f"{standby}{on_primary.database.name}"

    def has_arrived() -> bool:
        try:
            with psycopg.connect(url) as conn:
                return bool(conn.execute("table migration_versions").fetchall())
        except psycopg.Error:
            return False

    wait_for(has_arrived)
    return partial(on_primary, database=url)


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("command", ["rehearse", "drift"])
def test_on_a_standby_the_embedded_server_is_used(
    on_standby: Callable[..., Result], command: str
) -> None:
    result = on_standby(command)
    assert result.exit_code == 0, result.stderr
    assert "could not create a scratch database on this server" in result.stderr
    assert "drop database" not in result.stderr
    assert "leftover" not in result.stderr


def test_a_standby_for_scratch_databases_is_refused_with_the_reason(
    on_standby: Callable[..., Result], standby: str
) -> None:
    result = on_standby("rehearse", "--scratch-url", f"{standby}postgres", "--json")
    error = result.json["error"]
    assert (result.exit_code, error["code"]) == (6, "scratch")
    assert error["detail"] == "the server is a read-only standby"
    assert "createdb" not in error["hint"]
    assert "drop database" not in result.stderr


def test_doctor_makes_every_check_on_a_standby(on_standby: Callable[..., Result]) -> None:
    result = on_standby("doctor", "--json")
    assert result.json == {"findings": [], "notes": [], "unchecked": []}


def test_a_trial_run_on_a_standby_is_refused(on_standby: Callable[..., Result]) -> None:
    result = on_standby("rehearse", "--on-target")
    assert result.exit_code == 6
    assert "error: the server is a read-only standby" in result.stderr


@pytest.mark.usefixtures("on_standby")
def test_a_standby_is_no_copy(on_primary: Migrate, standby: str) -> None:
    result = on_primary("rehearse", "--on-copy", f"{standby}{on_primary.database.name}")
    assert result.exit_code == 6
    assert "error: the copy is a read-only standby\n" in result.stderr
    assert "select pg_promote();" in result.stderr


def test_the_primary_of_a_standby_is_no_copy(
    on_standby: Callable[..., Result], on_primary: Migrate
) -> None:
    result = on_standby("rehearse", "--on-copy", on_primary.database.url)
    assert result.exit_code == 6
    assert "error: the database is a standby, and the copy may be its primary" in result.stderr


def test_another_database_of_the_primary_can_be_a_copy(
    on_standby: Callable[..., Result], on_primary: Migrate, primary: Postgres
) -> None:
    name = on_primary.database.name
    with psycopg.connect(primary.url(), autocommit=True) as conn:
        conn.execute(f"create database {name}_copy template {name}".encode())
        result = on_standby("rehearse", "--on-copy", primary.url(f"{name}_copy"))
        conn.execute(f"drop database {name}_copy".encode())
    assert result.exit_code == 0, result.stderr


def test_a_physical_copy_is_told_from_its_original(on_primary: Migrate, primary: Postgres) -> None:
    database = on_primary.database
    identity = "select system_identifier from pg_control_system()"
    with copied(primary) as start:
        url = f"{start}{database.name}"
        with psycopg.connect(url) as conn:
            assert conn.execute(identity).fetchall() == database.rows(identity)
        result = on_primary("rehearse", "--on-copy", url)
        assert result.exit_code == 0, result.stderr
        with psycopg.connect(url) as conn:
            assert conn.execute("select from pg_tables where tablename = 'b'").fetchall()
    assert not database.rows("select from pg_tables where tablename = 'b'")


@pytest.mark.parametrize("command", ["rehearse", "drift"])
def test_a_standby_is_compared_with_a_scratch_database_of_the_primary(
    on_standby: Callable[..., Result], primary: Postgres, command: str
) -> None:
    result = on_standby(command, "--scratch-url", server_url(primary.server))
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""


def test_the_rows_of_a_standby_are_asked(
    primary: Postgres, standby: str, write: Write, directory: Path
) -> None:
    write({"01_a.up.sql": "create table a (b int);"})
    with primary.database() as database:
        migrate = Migrate(call, database, directory)
        assert migrate("up").exit_code == 0
        database.execute("insert into a values (null)")
        write({"02_b.up.sql": "alter table a alter b set not null;"})
        url = f"{standby}{database.name}"

        def has_arrived() -> bool:
            try:
                with psycopg.connect(url) as conn:
                    return bool(conn.execute("table a").fetchall())
            except psycopg.Error:
                return False

        wait_for(has_arrived)
        for result in (
            migrate("rehearse", "--data-url", url),
            migrate("rehearse", "--scratch-url", server_url(primary.server), database=url),
        ):
            assert result.exit_code == 4, result.stderr
            said = " ".join(result.stdout.split())
            assert "NOT NULL of public.a.b will fail: 1 row breaks it (ctid=(0,1))" in said
