"""Each check finds what it is for, and is silent about what only looks like it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import pq

from migrator.config import Database as Address
from migrator.doctor.checks import Diagnosis, Finding, checks
from migrator.doctor.examine import Question, examine
from migrator.postgres import connection

from .. import goldens
from ..conftest import Database, Migrate, Postgres, Write
from ..sessions import wait_for

HOSTILE = "a%b \"c' {d}\n$migrator$"
QUOTED = '"a%b ""c\' {d}\n$migrator$"'
ROLE_CHECKS = {"no-createdb", "not-owner", "history-privileges"}


ALL = Question(age=0)


def diagnosis(database: Database, question: Question = ALL, *, url: str = "") -> Diagnosis:
    with connection.connect(Address(url or database.url)) as conn:
        return examine(conn, question)


def found(database: Database, question: Question = ALL, *, url: str = "") -> dict[str, list[str]]:
    """Return what to do about each finding, by the id of its check."""
    return actions_of(diagnosis(database, question, url=url).findings)


def noted(database: Database, question: Question = ALL, *, url: str = "") -> dict[str, list[str]]:
    """Return what to do about each note, by the id of its check."""
    return actions_of(diagnosis(database, question, url=url).notes)


def actions_of(findings: Iterable[Finding]) -> dict[str, list[str]]:
    actions: dict[str, list[str]] = {}
    for each in findings:
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
    assert diagnosis(database) == Diagnosis()


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


def test_a_constraint_that_nothing_can_or_need_validate_is_not_found(
    postgres: Postgres, database: Database
) -> None:
    database.execute("create table t (a int, b int unique)")
    database.execute("alter table t add constraint c check (a > 0) not valid")
    database.execute("alter table t validate constraint c")
    database.execute("alter table t add foreign key (a) references t (b)")
    if postgres.version >= 18:
        database.execute("alter table t add constraint d check (a > 1) not enforced")
    assert found(database) == {}


def test_a_partition_is_not_found_before_and_after_it_is_detached(
    postgres: Postgres, database: Database
) -> None:
    database.execute("create table p (a int) partition by list (a)")
    database.execute("create table q partition of p for values in (1)")
    assert found(database) == {}
    with database.connect() as conn:
        conn.execute(f"alter table p detach partition q{detaching(postgres)}".encode())
    assert found(database) == {}


def detaching(postgres: Postgres) -> str:
    return " concurrently" if postgres.version >= 14 else ""


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
    for granted in (
        f"insert, delete on migration_versions to {role}, public",
        f"update (down_script) on migration_versions to {role}",
        f"update on sequence migration_log_id_seq to {role}",
    ):
        database.execute(f"grant {granted}")
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


def test_a_role_that_may_not_create_schemas_is_noted(database: Database, role: str) -> None:
    url = database.tcp_url(role, "x")
    (action,) = noted(database, url=url)["no-create"]
    database.execute(action)
    assert noted(database, url=url) == {}
    assert noted(database) == {}


def test_a_role_of_the_migrations_is_found_unless_the_login_may_switch_to_it(
    postgres: Postgres, database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    database.execute(f"alter role {role} createdb; grant create on schema public to {role}")
    url = database.tcp_url(role, "x")
    runner = f"{role}_runner"
    question = Question(age=0, role=runner)
    write({"01_a.up.sql": "create schema a;"})
    create, *_ = found(database, question, url=url)["role"]
    database.execute(create)
    try:
        (join,) = found(database, question, url=url)["role"]
        result = migrate("doctor", "--role", runner, "--json", database=url)
        assert [each["id"] for each in result.json["findings"]] == ["role"]
        assert migrate("up", "--role", runner, database=url).exit_code != 0
        if postgres.version >= 16:
            database.execute(f"grant {runner} to {role} with set false")
            assert found(database, question, url=url).keys() == {"role"}
            database.execute(f"revoke {runner} from {role}")
        database.execute(join)
        assert found(database, question, url=url) == {}
        (allow,) = noted(database, question, url=url)["no-create"]
        database.execute(allow)
        assert migrate("up", "--role", runner, database=url).exit_code == 0
    finally:
        database.execute(f"drop owned by {runner} cascade; drop role {runner}")


def test_tables_are_those_of_the_role_that_migrations_run_as(database: Database, role: str) -> None:
    database.execute(f"create table t (); alter table t owner to {role}")
    assert found(database, Question(age=0, role=role)) == {}
    database.execute("create table u ()")
    (action,) = found(database, Question(age=0, role=role))["not-owner"]
    database.execute(action)
    assert found(database, Question(age=0, role=role)) == {}


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


def test_a_table_that_does_not_fit_on_the_disk_again_is_found(
    database: Database, role: str
) -> None:
    database.execute(f"create table {role}_small (); create table large (a text unique)")
    assert found(database) == {}
    # Pages of its index: 8 TB.
    grown = "update pg_class set relpages = {} where relname = 'large_a_key'"
    database.execute(grown.format(1 << 30))
    (finding,) = diagnosis(database).findings
    assert finding.id == "disk-space"
    assert finding.message.endswith("are free, table public.large with its indexes has 8192 GB")
    # Neither a role that may not read where the data are sees the disk, nor another machine.
    assert "disk-space" not in found(database, url=database.tcp_url(role, "x"))
    database.execute(f"grant pg_read_all_settings to {role}")
    assert "disk-space" not in found(database, url=database.tcp_url(role, "x"))
    database.execute(grown.format(1))
    assert found(database) == {}


def test_a_slot_in_use_that_keeps_much_wal_is_found(database: Database) -> None:
    url = f"{database.url}&replication=database"
    with slot(database, reserved=True) as name, psycopg.connect(url, autocommit=True) as consumer:
        ((start,),) = database.rows(
            f"select restart_lsn from pg_replication_slots where slot_name = '{name}'"
        )
        command = f"START_REPLICATION SLOT {name} PHYSICAL {start}"
        assert consumer.pgconn.exec_(command.encode()).status == pq.ExecStatus.COPY_BOTH
        active = f"select 1 from pg_replication_slots where slot_name = '{name}' and active"
        wait_for(lambda: database.rows(active))
        assert found(database) == {}
        database.execute("create table t (a int)")
        question = Question(age=0, wal=1)
        assert found(database, question) == {
            "replication-slot": ["restart its consumer, or let it catch up"]
        }
        (finding,) = diagnosis(database, question).findings
        assert "is far behind, keeps " in finding.message
        consumer.pgconn.finish()


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
    limits = noted(database, url=url)["settings"]
    if place in change:
        (unfreeze,) = found(database, url=url)["settings"]
        assert len(limits) == 2
        for action in (unfreeze, *limits):
            database.execute(action)
        answer = diagnosis(database, url=url)
        assert "settings" not in {each.id for each in (*answer.findings, *answer.notes)}
    else:
        assert found(database, url=url) == {}
        assert limits == ["remove it from PGOPTIONS, the URL or the command line of the server"]


@pytest.mark.parametrize(
    "name",
    [
        "statement_timeout",
        "lock_timeout",
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
    ],
)
def test_a_limit_that_a_run_replaces_is_a_note(
    postgres: Postgres, database: Database, migrate: Migrate, name: str
) -> None:
    if name == "idle_session_timeout" and postgres.version < 14:
        pytest.skip("new in 14")
    database.execute(f"alter database {database.name} set {name} = '1min'")
    result = migrate("doctor", "--json")
    assert (result.exit_code, result.json["findings"]) == (0, [])
    (note,) = result.json["notes"]
    assert note["message"].startswith(f"{name} = 60000ms, set for this database; ")
    text = migrate("doctor")
    assert text.exit_code == 0
    assert text.stdout.startswith("Note: Limits set for this role (settings)\n")
    database.execute(note["action"])
    assert diagnosis(database) == Diagnosis()


@pytest.mark.parametrize("direction", [1, -1])
def test_a_sequence_near_its_end_is_found(database: Database, direction: int) -> None:
    limit = "maxvalue 100" if direction > 0 else "minvalue -100"
    database.execute(f"create sequence {QUOTED} increment {direction} {limit}")
    database.execute("create sequence other maxvalue 100 cycle; select setval('other', 99)")
    database.execute(f"select setval($q${QUOTED}$q$, {direction * 70})")
    assert found(database) == {}
    database.execute(f"select setval($q${QUOTED}$q$, {direction * 90})")
    assert found(database).keys() == {"sequence-near-end"}


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(
    ("column", "most"),
    [
        ("int default nextval('s')", 2**31 - 1),
        ("smallint default nextval('s')", 2**15 - 1),
        ("narrow default nextval('s')", 2**31 - 1),
        ("int generated always as identity (sequence name s)", 2**31 - 1),
    ],
)
def test_a_column_that_is_narrower_than_its_sequence_is_found(
    database: Database, column: str, most: int, direction: int
) -> None:
    database.execute("create domain narrow as int")
    if "identity" in column:
        database.execute(f"create table {QUOTED} (a {column})")
        database.execute("alter sequence s as bigint")
    else:
        database.execute(f"create sequence s; create table {QUOTED} (a {column}, b bigint)")
        database.execute("create table wide (a bigint default nextval('s'))")
    database.execute(f"alter sequence s increment {direction} minvalue {-(2**40)} maxvalue {2**40}")
    span = most + 2**40  # of the sequence, up to what the column holds
    low = -(2**40) if direction > 0 else 2**40
    database.execute(f"select setval('s', {low + direction * span * 7 // 10})")
    assert found(database) == {}
    database.execute(f"select setval('s', {low + direction * span * 9 // 10})")
    assert found(database).keys() == {"sequence-near-end"}
    (finding,) = diagnosis(database).findings
    assert "of what column a of table" in finding.message


def test_a_sequence_of_a_wide_column_is_not_near_its_end(database: Database) -> None:
    database.execute("create table t (a bigserial, b bigint generated always as identity, c int)")
    for sequence in ("t_a_seq", "t_b_seq"):
        database.execute(f"select setval('{sequence}', {2**31 - 2})")
    database.execute("create table narrow (a serial)")  # its sequence ends with it
    database.execute(f"create sequence owned owned by t.c; select setval('owned', {2**31 - 2})")
    assert found(database) == {}


def test_a_prepared_transaction_is_found_when_it_is_old(database: Database) -> None:
    database.execute("create table t ()")
    with database.connect() as conn:
        conn.execute("begin; drop table t; prepare transaction 'a''b%'")
    assert found(database, Question(age=3600)) == {}
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
        assert found(database, Question(age=3600)) == {}
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
    assert (as_json.json["notes"], as_json.json["unchecked"]) == ([], [])


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


OWNED = {
    "01_a.up.sql": """
        create schema s;
        create table s.t (a int);
        create index i on s.t (a);
        create view s.v as select 1;
        create type s.e as enum ('x');
        create domain s.d as int;
        create sequence s.q;
        create function s.f(a int, b character varying) returns int language sql as 'select 1';
        create procedure s.p() language sql as '';
    """,
    "01_a.down.sql": """
        drop procedure s.p; drop function s.f(int, character varying); drop sequence s.q;
        drop type if exists s.e, s.nothing; drop domain s.d; drop view s.v;
        drop index if exists s.i, s.nothing; drop table s.t; drop schema s;
    """,
}


def findings_of(migrate: Migrate, *arguments: str, url: str | None = None) -> dict[str, list[str]]:
    """Return what to do about each finding of the command, by the id of its check."""
    actions: dict[str, list[str]] = {}
    for each in migrate("doctor", "--json", *arguments, database=url).json["findings"]:
        actions.setdefault(each["id"], []).append(each["action"])
    return actions


def test_what_a_stored_down_may_not_drop_is_found(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    write(OWNED)
    assert migrate("up").exit_code == 0
    assert "down-not-owner" not in findings_of(migrate)
    url = database.tcp_url(role, "x")
    database.execute(f"grant select on migration_versions, migration_repeatables to {role}")
    actions = findings_of(migrate, url=url)["down-not-owner"]
    assert len(actions) == 9
    for action in actions:
        database.execute(action)
    assert "down-not-owner" not in findings_of(migrate, url=url)
    database.execute(f"alter role {role} superuser")
    assert migrate("down", "--yes", database=url).exit_code == 0


def test_objects_of_a_plain_role_and_their_versions_are_named_once(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    owner = f"{role}_owner"
    write(
        {
            "01_a.up.sql": "create table t (a int);",
            "01_a.down.sql": "drop table t;",
            "02_b.up.sql": "alter table t add b int;",
            "02_b.down.sql": "alter table t drop b; alter table missing drop c;",
        }
    )
    assert migrate("up").exit_code == 0
    database.execute(f"create role {owner}; alter table t owner to {owner}")
    try:
        result = migrate("doctor", "--json", "--role", role)
        (found,) = (each for each in result.json["findings"] if each["id"] == "down-not-owner")
        assert found["message"] == f"table public.t, of role {owner}: down of 02_b, 01_a"
        database.execute(found["action"])
        assert "down-not-owner" not in findings_of(migrate, "--role", role)
    finally:
        database.execute(f"drop owned by {owner}; drop role {owner}")


def test_the_owner_of_a_schema_may_drop_what_is_in_it(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    write(
        {
            "01_a.up.sql": "create schema s; create table s.t (); create table s.u ();",
            "01_a.down.sql": "drop table s.t, s.u; drop schema s;",
            "02_b.up.sql": "select 1;",
            "02_b.down.sql": "alter table s.u add a int;",
        }
    )
    assert migrate("up").exit_code == 0
    database.execute(f"alter schema s owner to {role}")
    actions = findings_of(migrate, "--role", role)["down-not-owner"]
    assert actions == [f"alter table s.u owner to {role};"]


def test_an_overloaded_function_is_the_one_with_these_arguments(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    body = "returns int language sql as 'select 1'"
    write(
        {
            "01_a.up.sql": f"create function f(a int) {body}; create function f(b text) {body};",
            "01_a.down.sql": "drop function f(int); drop function if exists f(date);",
            "02_b.up.sql": "select 1;",
            "02_b.down.sql": "drop function f;",
        }
    )
    assert migrate("up").exit_code == 0
    database.execute(f"alter function f(int) owner to {role}")
    assert "down-not-owner" not in findings_of(migrate, "--role", role)
    database.execute(f"alter function f(text) owner to {role}")
    database.execute("alter function f(int) owner to current_user")
    actions = findings_of(migrate, "--role", role)["down-not-owner"]
    assert actions == [f"alter routine public.f(integer) owner to {role};"]


def test_names_are_found_on_the_search_path_and_run_as_the_role_of_the_script(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    write(
        {
            "01_a.up.sql": 'create schema s; create table s."T" (); create table public."T" ();',
            "01_a.down.sql": f'-- migrator: role {role}\nalter table "T" add a int;',
        }
    )
    assert migrate("up").exit_code == 0
    assert len(findings_of(migrate)["down-not-owner"]) == 1
    database.execute(f'alter table s."T" owner to {role}; grant usage on schema s to {role}')
    database.execute(f"alter database {database.name} set search_path = s, public")
    assert "down-not-owner" not in findings_of(migrate, "--schema", "public")


def test_only_the_newest_downs_are_read(
    database: Database, migrate: Migrate, write: Write, role: str
) -> None:
    write({"01_a.up.sql": "create table t ();", "01_a.down.sql": "drop table t;"})
    write({f"{n:02}_b.up.sql": "select 1;" for n in range(2, 12)})
    assert migrate("up", "--to", "10").exit_code == 0
    assert "down-not-owner" in findings_of(migrate, "--role", role)
    assert migrate("up").exit_code == 0
    assert "down-not-owner" not in findings_of(migrate, "--role", role)


def test_a_comment_of_a_pending_file_that_cannot_accept_anything_is_found(
    migrate: Migrate, write: Write
) -> None:
    write(
        {
            "01_a.up.sql": "-- migrator: allow lock-held x\ncreate table t (a int);",
            "02_b.up.sql": "-- migrator: allow table-dropped x\nalter table t add b int;",
            "02_b.down.sql": "-- migrator: allow column-dropped x\nalter table t drop b;",
            "R__v.sql": "-- migrator: allow table-renamed x\ncreate or replace view v as select 1;",
        }
    )
    assert migrate("up", "--to", "1").exit_code == 0
    result = migrate("doctor", "--json")
    assert result.exit_code == 4
    found = [(each["id"], each["message"].rpartition("/")[2]) for each in result.json["findings"]]
    assert found == [
        ("allow-unused", "02_b.up.sql:1: allow table-dropped"),
        ("allow-unused", "02_b.down.sql:1: allow column-dropped"),
    ]
    assert migrate("up").exit_code == 0
    assert findings_of(migrate) == {}


def test_files_that_cannot_be_read_leave_their_comments_unchecked(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "select 1;", "02_a.down.sql": "select 1;"})
    result = migrate("doctor", "--json")
    assert (result.exit_code, result.json["findings"]) == (0, [])
    assert [each["id"] for each in result.json["unchecked"]] == ["allow-unused"]


def test_a_history_that_cannot_be_read_leaves_the_scripts_unchecked(
    database: Database, migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": "select 1;"})
    assert migrate("up").exit_code == 0
    database.execute("create schema hello")
    database.execute(f"alter database {database.name} set search_path = hello")
    result = migrate("doctor", "--json")
    assert [each["id"] for each in result.json["findings"]] == ["history"]
    assert [each["id"] for each in result.json["unchecked"]] == ["down-not-owner", "allow-unused"]


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ("version = 'x'", 'has a version without a number: "x"', "delete that row"),
        ("applied_at = 'infinity'", "cannot read the time infinity", "applied_at"),
    ],
)
def test_a_row_that_stops_every_command_is_found(
    database: Database, migrate: Migrate, write: Write, change: str, said: str, hint: str
) -> None:
    write({"01_a.up.sql": "select 1;"})
    assert migrate("up").exit_code == 0
    database.execute(f"update migration_versions set {change}")
    result = migrate("doctor", "--json")
    (found,) = result.json["findings"]
    assert (result.exit_code, found["id"]) == (4, "history")
    assert said in found["message"]
    assert hint in found["action"]
    assert migrate("status").exit_code == 4
