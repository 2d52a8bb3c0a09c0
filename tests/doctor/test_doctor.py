"""Each check finds what it is for, and is silent about what only looks like it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from migrator.config import Database as Address
from migrator.doctor.checks import Diagnosis, checks
from migrator.doctor.examine import examine
from migrator.postgres import connection

from .. import goldens
from ..conftest import Database, Migrate, Postgres, Write

HOSTILE = "a%b \"c' {d}\n$migrator$"
QUOTED = '"a%b ""c\' {d}\n$migrator$"'
ROLE_CHECKS = {"no-createdb", "not-owner", "history-privileges"}


def diagnosis(database: Database, *, url: str | None = None, age: int = 0) -> Diagnosis:
    with connection.connect(Address(url or database.url)) as conn:
        return examine(conn, None, age=age)


def found(database: Database, *, url: str | None = None, age: int = 0) -> dict[str, list[str]]:
    """Return what to do about each finding, by the id of its check."""
    actions: dict[str, list[str]] = {}
    for each in diagnosis(database, url=url, age=age).findings:
        actions.setdefault(each.id, []).append(each.action)
    return actions


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role without privileges."""
    name = f"doctor_{uuid.uuid4().hex[:12]}"
    database.execute(f"create role {name} login password 'x'")
    yield name
    database.execute(f"drop owned by {name} cascade; drop role {name}")


def unlucky(database: Database, statement: str) -> None:
    """Run a statement that fails outside a transaction."""
    with database.connect() as conn, pytest.raises(psycopg.Error):
        conn.execute(statement.encode())


def test_a_new_database_has_no_findings(database: Database) -> None:
    assert diagnosis(database) == Diagnosis((), ())


@pytest.mark.parametrize("name", ["i", HOSTILE])
def test_an_invalid_index_is_found_and_dropped_by_what_is_to_be_typed(
    database: Database, name: str
) -> None:
    quoted = QUOTED if name == HOSTILE else name
    database.execute("create table t (a int); insert into t values (1), (1)")
    database.execute("create index valid on t (a)")
    unlucky(database, f"create unique index concurrently {quoted} on t (a)")
    (action,) = found(database)["invalid-index"]
    with database.connect() as conn:
        conn.execute(action.encode())
    assert found(database) == {}


@pytest.mark.parametrize(
    "constraint", ["check (a > 0)", "foreign key (a) references t (b)"], ids=["check", "foreign"]
)
def test_a_constraint_that_is_not_validated_is_found(database: Database, constraint: str) -> None:
    database.execute("create table t (a int, b int unique)")
    database.execute(f"alter table t add constraint {QUOTED} {constraint} not valid")
    (action,) = found(database)["constraint-not-validated"]
    database.execute(action)
    assert found(database) == {}


def test_a_pending_detach_is_found(postgres: Postgres, database: Database) -> None:
    if postgres.version < 14:
        pytest.skip("new in 14")
    database.execute(
        f"create table p (a int) partition by list (a); create table {QUOTED} partition of p"
        " for values in (1); create table other partition of p for values in (2)"
    )
    with database.connect() as reader, database.connect() as conn:
        reader.execute("begin isolation level repeatable read; select * from p")
        conn.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            conn.execute(f"alter table p detach partition {QUOTED} concurrently".encode())
    (action,) = found(database)["detach-pending"]
    database.execute(action)
    assert found(database) == {}


def test_a_history_that_others_may_write_to_is_found(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    write({"01_a.up.sql": "create schema a;"})
    assert migrate("up").exit_code == 0
    database.execute(f"grant select on migration_log to {role}")
    assert found(database) == {}
    database.execute(f"grant insert, delete on migration_versions to {role}, public")
    for action in found(database).pop("history-writable"):
        database.execute(action)
    assert found(database) == {}


def test_a_history_under_row_security_is_found(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create schema a;"})
    assert migrate("up").exit_code == 0
    database.execute("create table t (a int); alter table t enable row level security")
    assert found(database) == {}
    database.execute("alter table migration_log enable row level security")
    (action,) = found(database)["history-row-security"]
    database.execute(action)
    assert found(database) == {}


def test_a_second_history_is_found_beside_all_else(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "create schema a;"})
    assert migrate("up").exit_code == 0
    database.execute("create schema hello; create table t (a int check (a > 0))")
    assert found(database) == {}
    database.execute(f"alter database {database.name} set search_path = hello")
    database.execute("alter table public.t add check (a > 1) not valid")
    actions = found(database)
    assert actions.keys() == {"history", "constraint-not-validated"}
    assert "--schema public" in actions["history"][0]


def test_what_a_role_may_not_do_is_found(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    url = database.tcp_url(role, "x")
    database.execute(f"grant create on database {database.name} to {role}")
    database.execute(f"revoke create on schema public from public; create table {QUOTED} ()")
    assert found(database, url=url).keys() == ROLE_CHECKS
    write({"01_a.up.sql": "create schema a;"})
    assert migrate("up").exit_code == 0
    actions = found(database, url=url)
    assert actions.keys() == ROLE_CHECKS
    for action in (each for name in ROLE_CHECKS for each in actions[name]):
        database.execute(action)
    assert found(database, url=url) == {}
    assert found(database) == {"history-writable": found(database)["history-writable"]}


def test_tables_of_another_plain_role_are_opened_by_membership(
    database: Database, role: str
) -> None:
    owner = f"{role}_owner"
    database.execute(
        f"alter role {role} createdb; grant create on schema public to {role};"
        f"create role {owner}; create table t (); alter table t owner to {owner}"
    )
    url = database.tcp_url(role, "x")
    try:
        assert found(database, url=url) == {"not-owner": [f"grant {owner} to {role};"]}
        database.execute(f"grant {owner} to {role}")
        assert found(database, url=url) == {}
    finally:
        database.execute(f"drop owned by {owner}; drop role {owner}")


@contextmanager
def slot(database: Database, *, reserved: bool) -> Iterator[str]:
    name = f"s_{uuid.uuid4().hex[:12]}"
    database.execute(f"select pg_create_physical_replication_slot('{name}', {reserved})")
    try:
        yield name
    finally:
        database.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            f" where slot_name = '{name}'"
        )


def test_a_slot_that_holds_wal_back_is_found(database: Database) -> None:
    with slot(database, reserved=False):
        assert found(database) == {}
    with slot(database, reserved=True):
        (action,) = found(database)["replication-slot"]
        database.execute(action)
        assert found(database) == {}


@pytest.mark.parametrize("place", ["role", "database", "role in database", "connection"])
def test_a_setting_is_found_with_where_it_comes_from(
    database: Database, role: str, place: str
) -> None:
    database.execute(f"alter role {role} createdb; alter role {role} set work_mem = '1MB'")
    database.execute(f"grant create on schema public to {role}")
    url = database.tcp_url(role, "x")
    assert found(database, url=url) == {}
    change = {
        "role": f"alter role {role} ",
        "database": f"alter database {database.name} ",
        "role in database": f"alter role {role} in database {database.name} ",
    }
    if place in change:
        database.execute(f"{change[place]} set statement_timeout = '5s'")
        database.execute(f"{change[place]} set idle_in_transaction_session_timeout = '5s'")
        database.execute(f"{change[place]} set default_transaction_read_only = on")
    else:
        url += "?options=-cstatement_timeout%3D5s"
    actions = found(database, url=url)["settings"]
    assert len(actions) == (3 if place in change else 1)
    if place in change:
        for action in actions:
            database.execute(action)
        assert found(database, url=url) == {}
    else:
        assert actions == ["remove it from PGOPTIONS, the URL or the command line of the server"]


@pytest.mark.parametrize("direction", [1, -1])
def test_a_sequence_near_its_end_is_found(database: Database, direction: int) -> None:
    limit = "maxvalue 100" if direction > 0 else "minvalue -100"
    database.execute(f"create sequence {QUOTED} increment {direction} {limit}")
    database.execute("create sequence other maxvalue 100 cycle; select setval('other', 99)")
    database.execute(f"select setval($q${QUOTED}$q$, {direction * 70})")
    assert found(database) == {}
    database.execute(f"select setval($q${QUOTED}$q$, {direction * 90})")
    assert found(database).keys() == {"sequence-near-end"}


def test_a_prepared_transaction_is_found_when_it_is_old(database: Database) -> None:
    database.execute("create table t ()")
    with database.connect() as conn:
        conn.execute("begin; drop table t; prepare transaction 'a''b%'")
    assert found(database, age=3600) == {}
    (action,) = found(database)["prepared-transaction"]
    with database.connect() as conn:
        conn.execute(action.encode())
    assert found(database) == {}


def test_a_session_idle_in_transaction_is_found_when_it_is_old(
    database: Database, role: str
) -> None:
    with database.connect() as idle, database.connect():
        assert found(database) == {}
        idle.execute("begin")
        assert found(database, age=3600) == {}
        (action,) = found(database)["idle-in-transaction"]
        assert str(idle.info.backend_pid) in action
        gaps = diagnosis(database, url=database.tcp_url(role, "x")).unchecked
        assert [each.id for each in gaps] == ["idle-in-transaction"]


def test_sequences_that_the_role_may_not_read_are_not_checked(
    database: Database, role: str
) -> None:
    database.execute("create sequence s")
    gaps = diagnosis(database, url=database.tcp_url(role, "x")).unchecked
    assert {each.id for each in gaps} == {"sequence-near-end", "idle-in-transaction"}


def test_a_check_that_fails_is_listed_and_the_others_are_made(
    database: Database, role: str
) -> None:
    database.execute("create table t (a int); alter table t add check (a > 0) not valid")
    database.execute("revoke select on pg_catalog.pg_replication_slots from public")
    answer = diagnosis(database, url=database.tcp_url(role, "x"))
    gaps = {each.id: each.reason for each in answer.unchecked}
    assert gaps["replication-slot"].startswith("permission denied")
    assert "constraint-not-validated" in {each.id for each in answer.findings}


def test_the_command_exits_with_4_if_there_are_findings(
    database: Database, migrate: Migrate
) -> None:
    clean = migrate("doctor")
    assert (clean.exit_code, clean.stdout) == (0, "no findings\n")
    database.execute("create table t (a int); alter table t add check (a > 0) not valid")
    database.execute("create sequence s maxvalue 10; select setval('s', 9)")
    result = migrate("doctor")
    assert result.exit_code == 4
    goldens.check("doctor/findings", result.stdout)
    as_json = migrate("doctor", "--json")
    assert as_json.exit_code == 4
    findings = as_json.json["findings"]
    assert [each["id"] for each in findings] == ["constraint-not-validated", "sequence-near-end"]
    assert as_json.json["unchecked"] == []


@pytest.mark.parametrize(
    ("version", "rows"),
    [
        (120022, [("PostgreSQL 12", None)]),
        (130000, []),
        (180006, []),
        (190000, [("PostgreSQL 19", None)]),
    ],
)
def test_a_server_version_that_was_not_tested_is_found(
    database: Database, version: int, rows: list[tuple[str, None]]
) -> None:
    (check,) = (each for each in checks() if each.id == "server-version")
    assert database.rows(check.query.format(version=version)) == rows
