"""Each tool's table, as it is documented, and its files become our history and our pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from migrator.adoption.dialects import flyway, graphile_migrate, postgrator, sqlx
from migrator.adoption.tools import DIALECTS

from ..conftest import Migrate
from .test_adopt import fill, nothing_is_recorded, states

A, B, C = "create table a (id int);\n", "create table b (id int);\n", "create table c (id int);\n"
PARTLY_WRAPPED = f"{C}begin;\ncreate index on c (id);\ncommit;\n"
SCHEMA = "create table a (id int); create table b (id int);"


@dataclass(frozen=True, slots=True)
class Tool:
    """A database in which a tool has applied two of three migrations.

    Attributes:
        table: What creates and fills its table.
        expected: The pairs that its files become; None where they are used where they are.
        stopping: What makes the table one that cannot be adopted, and what is said then.
        edited: A file whose checksum the tool has, if it keeps any.
    """

    table: str
    files: Mapping[str, str]
    expected: Mapping[str, str] | None
    stopping: Mapping[str, str] = field(default_factory=dict)
    edited: str | None = None


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def committed(previous: str | None, body: str) -> tuple[str, str]:
    """Give a file of graphile-migrate, and its hash."""
    total = graphile_migrate.checksum(previous, body)
    return f"--! Previous: {previous or '-'}\n--! Hash: {total}\n\n{body}", total


GRAPHILE_1, HASH_1 = committed(None, A)
GRAPHILE_2, HASH_2 = committed(HASH_1, B)
GRAPHILE_3, _ = committed(HASH_2, "--! no-transaction\ncreate index concurrently i on a (id);\n")
PLAIN = {"1_a.up.sql": A, "2_b.up.sql": B, "3_c.up.sql": C}
PADDED = {"001_a.up.sql": A, "002_b.up.sql": B, "003_c.up.sql": C}
FLYWAY = """
create table {name} (installed_rank int not null, version varchar(50),
    description varchar(200) not null, type varchar(20) not null, script varchar(1000) not null,
    checksum {kind}, installed_by varchar(100) not null,
    installed_on timestamp not null default now(), execution_time int not null,
    success boolean not null, primary key (installed_rank));
insert into {name} values
    (1, '1', 'a', 'SQL', 'V1__a.sql', {a}, 'ann', '2024-01-01', 5, true),
    (2, '1.1', 'b', 'SQL', 'V1_1__b.sql', {b}, 'ann', '2024-01-02', 5, true),
    (3, null, 'v', 'SQL', 'R__v.sql', {v}, 'ann', '2024-01-02', 5, true);
create view v as select 1 as one;
"""
V = "create or replace view v as select 1 as one;\n"
FLYWAY_FILES = {
    "V1__a.sql": A,
    "V1_1__b.sql": B,
    "deeper/V1_10__c.sql": C,
    "U1_1__b.sql": "drop table b;\n",
    "R__v.sql": V,
}
FLYWAY_PAIRS = {
    "01_1_a.up.sql": A,
    "02_1.1_b.up.sql": B,
    "02_1.1_b.down.sql": "drop table b;\n",
    "03_1.10_c.up.sql": C,
    "R__v.sql": V,
}
REVISION = "revision: str = '{}'\ndown_revision = {}\n"
SET_C = "version_num='cc3' WHERE alembic_version.version_num = 'bb2'"


def printed(body: str, own: str, *, between: str = "") -> str:
    """Give SQL as Alembic prints it; `own` is what it does to its own table."""
    return f"BEGIN;\n\n{body}\n{between}{own}\n\nCOMMIT;\n"


TOOLS = {
    "golang-migrate": Tool(
        "create table schema_migrations (version bigint primary key, dirty boolean not null);"
        "insert into schema_migrations values (2, false)",
        PLAIN,
        None,
        {"update schema_migrations set dirty = true": "version 2 is dirty"},
    ),
    "dbmate": Tool(
        "create table schema_migrations (version varchar primary key);"
        "insert into schema_migrations values ('001'), ('002')",
        {f"00{n}_{t[13]}.sql": f"-- migrate:up\n{t}" for n, t in enumerate((A, B, C), 1)},
        PADDED,
        {"insert into schema_migrations values ('009')": "9 is applied, but its file is missing"},
    ),
    "goose": Tool(
        "create table goose_db_version (id int primary key, version_id bigint not null,"
        " is_applied boolean not null, tstamp timestamp not null default now());"
        "insert into goose_db_version values (1, 0, true), (2, 1, true), (3, 2, true),"
        " (4, 3, true), (5, 3, false)",
        {
            "001_a.sql": f"-- +goose Up\n{A}-- +goose Down\ndrop table a;\n",
            "002_b.sql": "-- +goose NO TRANSACTION\n-- +goose Up\n-- +goose StatementBegin\n"
            "create table b (id int)\n-- +goose StatementEnd\ncreate index i on b (id);\n",
            "003_c.sql": f"-- +goose Up\n{C}",
        },
        {
            "001_a.up.sql": A,
            "001_a.down.sql": "drop table a;\n",
            "002_b.up.sql": "-- migrator: no-transaction\ncreate table b (id int)\n;\n"
            "create index i on b (id);\n",
            "003_c.up.sql": C,
        },
        stopping={
            "create table goose_lock (lock_id bigint primary key, locked boolean);"
            " insert into goose_lock values (1, true)": "goose is running",
        },
    ),
    "sql-migrate": Tool(
        "create table gorp_migrations (id text primary key, applied_at timestamptz);"
        "insert into gorp_migrations values ('1-a.sql', '2024-01-01'), ('2_b.sql', '2024-01-02')",
        {
            "1-a.sql": f"-- +migrate Up\n{A}\n-- +migrate Down\ndrop table a;\n",
            "2_b.sql": f"-- +migrate Up notransaction\n{B}",
            "3_c.sql": f"-- +migrate Up\n{C}",
        },
        {
            "1_a.up.sql": f"{A}\n",
            "1_a.down.sql": "drop table a;\n",
            "2_b.up.sql": f"-- migrator: no-transaction\n{B}",
            "3_c.up.sql": C,
        },
        stopping={"insert into gorp_migrations values ('9_x.sql', now())": "9_x.sql is applied"},
    ),
    "sqlx": Tool(
        "create table _sqlx_migrations (version bigint primary key, description text not null,"
        " installed_on timestamptz not null default now(), success boolean not null,"
        " checksum bytea not null, execution_time bigint not null);"
        "insert into _sqlx_migrations values"
        f" (1, 'a', '2024-01-01', true, '\\x{hashlib.sha384(A.encode()).hexdigest()}', 1),"
        f" (2, 'b', '2024-01-01', true, '\\x{hashlib.sha384(B.encode()).hexdigest()}', 1)",
        {"1_a.sql": A, "2_b.sql": B, "3_c.sql": f"-- no-transaction\n{C}"},
        {**PLAIN, "3_c.up.sql": f"-- migrator: no-transaction\n-- no-transaction\n{C}"},
        {"update _sqlx_migrations set success = false": "version 1 was not completed"},
        edited="2_b.sql",
    ),
    "tern": Tool(
        "create table schema_version (version int4 not null primary key);"
        "insert into schema_version values (2)",
        {
            "001_a.sql": f"{A}---- create above / drop below ----\ndrop table a;\n",
            "002_b.sql": f"---- tern: disable-tx ----\n{B}",
            "003_c.sql": C,
        },
        {
            **PADDED,
            "001_a.down.sql": "drop table a;\n",
            "002_b.up.sql": f"-- migrator: no-transaction\n{B}",
        },
        stopping={"update schema_version set version = 9": "9 is applied, but its file is missing"},
    ),
    "flyway": Tool(
        FLYWAY.format(
            name="flyway_schema_history",
            kind="int",
            a=flyway.checksum(A),
            b=flyway.checksum(B),
            v=flyway.checksum(V),
        ),
        FLYWAY_FILES,
        FLYWAY_PAIRS,
        {
            "update flyway_schema_history set success = installed_rank <> 2": "V1_1__b.sql failed",
            "update flyway_schema_history set version = '7', script = 'V7__x.sql'"
            " where installed_rank = 2": "7 is applied, but its file is missing",
        },
        edited="V1_1__b.sql",
    ),
    "dblift": Tool(
        FLYWAY.format(
            name="dblift_schema_history",
            kind="varchar(64)",
            a=f"'{flyway.checksum(A)}'",
            b=f"'{flyway.checksum(B)}'",
            v=f"'{flyway.checksum(V)}'",
        ),
        FLYWAY_FILES,
        FLYWAY_PAIRS,
        {"update dblift_schema_history set success = installed_rank <> 2": "V1_1__b.sql failed"},
        edited="V1_1__b.sql",
    ),
    "sqitch": Tool(
        "create schema sqitch; create table sqitch.changes (change_id text primary key,"
        " script_hash text, change text, project text, note text, committed_at timestamptz,"
        " committer_name text, committer_email text, planned_at timestamptz, planner_name text,"
        " planner_email text); insert into sqitch.changes values"
        f" ('x', '{sha1(f'begin;{A}commit;')}', 'a', 'p', '', '2024-01-01', 'ann', 'a@x', now(),"
        f" '', ''), ('y', '{sha1(B)}', 'b/b', 'p', '', '2024-01-02', 'ann', 'a@x', now(), '', '')",
        {
            "sqitch.plan": "%syntax-version=1.0.0\n%project=p\n\n"
            "a 2024-01-01T00:00:00Z ann <a@x> # first\n"
            "b/b [a] 2024-01-01T00:00:00Z ann <a@x> # second\n@v1 2024-01-01T00:00:00Z ann <a@x>\n"
            "c 2024-01-01T00:00:00Z ann <a@x> # third\n",
            "deploy/a.sql": f"begin;{A}commit;",
            "revert/a.sql": "drop table a;\n",
            "deploy/b/b.sql": B,
            "deploy/c.sql": C,
        },
        {
            "01_a.up.sql": f"begin;{A}commit;",
            "01_a.down.sql": "drop table a;\n",
            "02_b_b.up.sql": B,
            "03_c.up.sql": C,
        },
        {"update sqitch.changes set project = 'q' where change = 'a'": "several projects"},
        edited="deploy/b/b.sql",
    ),
    "node-pg-migrate": Tool(
        "create table pgmigrations (id serial primary key, name varchar(255), run_on timestamp);"
        "insert into pgmigrations (name, run_on) values ('1700000000001_a', '2024-01-01'),"
        " ('1700000000002_b', '2024-01-01')",
        {
            "1700000000001_a.sql": f"-- Up Migration\n{A}-- Down Migration\ndrop table a;\n",
            "1700000000002_b.sql": f"-- Up Migration\n{B}\n-- Down Migration\n",
            "1700000000003_c.sql": C,
        },
        {
            "1700000000001_a.up.sql": A,
            "1700000000001_a.down.sql": "drop table a;\n",
            "1700000000002_b.up.sql": f"{B}\n",
            "1700000000003_c.up.sql": C,
        },
        stopping={
            "insert into pgmigrations (name, run_on) values ('9_x', now())": "9_x is applied"
        },
    ),
    "graphile-migrate": Tool(
        "create schema graphile_migrate; create table graphile_migrate.migrations"
        " (hash text primary key, previous_hash text, filename text not null,"
        " date timestamptz not null default now()); insert into graphile_migrate.migrations values"
        f" ('{HASH_1}', null, '000001.sql'), ('{HASH_2}', '{HASH_1}', '000002.sql')",
        {
            "committed/000001.sql": GRAPHILE_1,
            "committed/000002-b.sql": GRAPHILE_2,
            "committed/000003-c.sql": GRAPHILE_3,
        },
        {
            "000001_migration.up.sql": A,
            "000002_b.up.sql": B,
            "000003_c.up.sql": "-- migrator: no-transaction\n"
            "create index concurrently i on a (id);\n",
        },
        edited="committed/000002-b.sql",
        stopping={
            "insert into graphile_migrate.migrations values ('x', null, '9.sql')": "9 is applied"
        },
    ),
    "prisma": Tool(
        "create table _prisma_migrations (id varchar(36) primary key,"
        " checksum varchar(64) not null, finished_at timestamptz,"
        " migration_name varchar(255) not null, logs text, rolled_back_at timestamptz,"
        " started_at timestamptz not null default now(), applied_steps_count int default 0);"
        "insert into _prisma_migrations values"
        f" ('1', '{sha256(A)}', now(), '20240101000001_a', null, null, '2024-01-01', 1),"
        f" ('2', '{sha256(B)}', null, '20240101000002_b', 'x', now(), '2024-01-02', 0),"
        f" ('3', '{sha256(B)}', now(), '20240101000002_b', null, null, '2024-01-03', 1)",
        {
            "20240101000001_a/migration.sql": A,
            "20240101000002_b/migration.sql": B,
            "20240101000003_c/migration.sql": PARTLY_WRAPPED,
            "migration_lock.toml": "",
        },
        {
            "20240101000001_a.up.sql": A,
            "20240101000002_b.up.sql": B,
            "20240101000003_c.up.sql": f"-- migrator: no-transaction\n{PARTLY_WRAPPED}",
        },
        {
            "update _prisma_migrations set finished_at = null where id = '3'": "20240101000002_b"
            " failed, or is running"
        },
        edited="20240101000002_b/migration.sql",
    ),
    "postgrator": Tool(
        "create table schemaversion (version bigint primary key, name text, md5 text,"
        " run_at timestamptz); insert into schemaversion values (0, null, null, null),"
        f" (1, 'a', '{hashlib.md5(A.encode()).hexdigest()}', '2024-01-01'),"
        f" (2, 'b', '{hashlib.md5(B.encode()).hexdigest()}', '2024-01-01')",
        {
            "001.do.a.sql": A,
            "001.undo.a.sql": "drop table a;\n",
            "002.do.b.sql": B,
            "003.do.sql": PARTLY_WRAPPED,
        },
        {
            "001_a.up.sql": A,
            "001_a.down.sql": "drop table a;\n",
            "002_b.up.sql": B,
            "003_migration.up.sql": f"-- migrator: no-transaction\n{PARTLY_WRAPPED}",
        },
        edited="002.do.b.sql",
        stopping={"insert into schemaversion values (9, 'x', null, now())": "9 is applied"},
    ),
    "pgmigrate": Tool(
        "create type schema_version_type as enum ('auto', 'manual');"
        "create table schema_version (version bigint primary key, description text not null,"
        " type schema_version_type not null default 'auto', installed_by text not null,"
        " installed_on timestamp not null default now()); insert into schema_version values"
        " (1, 'base', 'manual', 'ann', '2024-01-01'), (2, 'b', 'auto', 'ann', '2024-01-01')",
        {
            "migrations/V001__a.sql": A,
            "migrations/V002__b_NONTRANSACTIONAL.sql": B,
            "migrations/V003__c.sql": C,
        },
        {
            "001_a.up.sql": A,
            "002_b_NONTRANSACTIONAL.up.sql": f"-- migrator: no-transaction\n{B}",
            "003_c.up.sql": C,
        },
        stopping={"insert into schema_version values (9, 'x', 'auto', 'ann')": "9 is applied"},
    ),
    "yoyo": Tool(
        "create table _yoyo_migration (migration_hash varchar(64) primary key,"
        " migration_id varchar(255), applied_at_utc timestamp);"
        "create table _yoyo_log (id varchar(36) primary key, migration_hash varchar(64),"
        " migration_id varchar(255), operation varchar(10), username varchar(255));"
        "create table yoyo_lock (locked int default 1, ctime timestamp, pid int not null);"
        "insert into _yoyo_migration values ('x', 'base', '2024-01-01'),"
        " ('y', 'a-second', '2024-01-02')",
        {
            "base.sql": f"-- transactional: false\n{A}",
            "base.rollback.sql": "drop table a;\n",
            "a-second.sql": f"-- depends: base\n{B}",
            "third.sql": f"-- depends: a-second\n{C}",
        },
        {
            "01_base.up.sql": f"-- migrator: no-transaction\n-- transactional: false\n{A}",
            "01_base.down.sql": "-- migrator: no-transaction\ndrop table a;\n",
            "02_a-second.up.sql": f"-- depends: base\n{B}",
            "03_third.up.sql": f"-- depends: a-second\n{C}",
        },
        {"insert into yoyo_lock values (1, now(), 7)": "yoyo is running"},
    ),
    "pop": Tool(
        "create table schema_migration (version varchar(48) not null, version_self int not null"
        " default 0); create unique index on schema_migration (version);"
        "insert into schema_migration values ('20240101000001'), ('20240101000001000000'),"
        " ('20240101000002000000')",
        {
            "20240101000001000000_a.up.sql": "not for us",
            "20240101000001000000_a.postgres.up.sql": A,
            "20240101000001000000_a.mysql.up.sql": "not for us",
            "20240101000001000000_a.down.sql": "drop table a;\n",
            "20240101000002000000_b.up.sql": B,
            "20240101000003000000_c.autocommit.up.sql": C,
        },
        {
            "20240101000001000000_a.up.sql": A,
            "20240101000001000000_a.down.sql": "drop table a;\n",
            "20240101000002000000_b.up.sql": B,
            "20240101000003000000_c.up.sql": f"-- migrator: no-transaction\n{C}",
        },
        stopping={"insert into schema_migration values ('9')": "9 is applied"},
    ),
    "refinery": Tool(
        "create table refinery_schema_history (version int4 primary key, name varchar(255),"
        " applied_on varchar(255), checksum varchar(255)); insert into refinery_schema_history"
        " values (1, 'a', '2024-01-01T00:00:00.123456789Z', '1'),"
        " (2, 'b', '2024-01-01T00:00:00Z', '2')",
        {"V1__a.sql": A, "V2__b.sql": B, "V3__c.sql": C},
        PLAIN,
        stopping={
            "insert into refinery_schema_history values (9, 'x', 'now', '9')": "9 is applied"
        },
    ),
    "liquibase": Tool(
        "create table databasechangeloglock (id int primary key, locked boolean not null,"
        " lockgranted timestamp, lockedby varchar(255)); insert into databasechangeloglock"
        " values (1, false, null, null); create table databasechangelog"
        " (id varchar(255) not null, author varchar(255) not null, filename varchar(255) not null,"
        " dateexecuted timestamp not null, orderexecuted int not null, exectype varchar(10)"
        " not null, md5sum varchar(35), description varchar(255), comments varchar(255),"
        " tag varchar(255), liquibase varchar(20), contexts varchar(255), labels varchar(255),"
        " deployment_id varchar(10)); create view v as select 1 as one;"
        "insert into databasechangelog (id, author, filename, dateexecuted, orderexecuted,"
        " exectype) values ('1', 'ann', 'db/changelog/a.sql', '2024-01-01', 1, 'EXECUTED'),"
        " ('two', 'ann', 'db/changelog/a.sql', '2024-01-01', 2, 'MARK_RAN'),"
        " ('v', 'ann', 'db/changelog/v.sql', '2024-01-01', 3, 'RERAN')",
        {
            "changelog/root.yaml": "databaseChangeLog:\n  - include:\n      file: changelog/a.sql\n"
            "  - includeAll:\n      path: changelog/more/\n  - include: {file: v.sql}\n",
            "changelog/a.sql": "--liquibase formatted sql\n\n--changeset ann:1\n"
            f"--comment: first\n{A}--rollback drop table\n--rollback a;\n"
            f"-- changeset ann:two runInTransaction:false splitStatements:false\n{B}"
            "/* liquibase rollback\ndrop table b;\n*/\n"
            "--changeset ann:3 dbms:oracle\nselect 1 from dual;\n",
            "changelog/more/c.sql": f"--liquibase formatted sql\n--changeset ann:c\n{C}"
            "--rollback not required\n",
            "changelog/v.sql": "-- liquibase formatted sql\n"
            f"--changeset ann:v runOnChange:true\n{V}",
            "changelog/forgotten.sql": "--liquibase formatted sql\n",
        },
        {
            "01_a_1.up.sql": f"--comment: first\n{A}",
            "01_a_1.down.sql": "drop table\na;\n",
            "02_a_two.up.sql": f"-- migrator: no-transaction\n{B}",
            "02_a_two.down.sql": "-- migrator: no-transaction\ndrop table b;\n",
            "03_c.up.sql": C,
            "R__v.sql": V,
        },
        {
            "update databasechangelog set exectype = 'FAILED' where id = 'two'": "two of"
            " db/changelog/a.sql failed",
            "update databasechangeloglock set locked = true": "Liquibase is running",
        },
    ),
    "alembic": Tool(
        "create table alembic_version (version_num varchar(32) not null,"
        " constraint alembic_version_pkc primary key (version_num));"
        "insert into alembic_version values ('bb2')",
        {
            "env.py": "import nothing\n",
            "versions/cc3_c.py": REVISION.format("cc3", "'bb2'"),
            "versions/cc3_c.up.sql": printed(C, f"UPDATE alembic_version SET {SET_C};"),
            "versions/aa9_a.py": REVISION.format("aa9", "None"),
            "versions/aa9_a.up.sql": printed(
                f"CREATE TABLE alembic_version (\n    version_num VARCHAR(32) NOT NULL\n);\n\n{A}",
                "INSERT INTO alembic_version (version_num) VALUES ('aa9');",
            ),
            "versions/aa9_a.down.sql": printed(
                "drop table a;\n",
                "DELETE FROM alembic_version WHERE alembic_version.version_num = 'aa9';",
            ),
            "versions/bb2_b.py": REVISION.format("bb2", "'aa9'"),
            "versions/bb2_b.up.sql": printed(
                B, "UPDATE v SET version_num='bb2' WHERE true;", between="COMMIT;\n\nBEGIN;\n\n"
            ),
        },
        {
            "01_aa9_a.up.sql": f"BEGIN;\n\n{A}\nCOMMIT;\n",
            "01_aa9_a.down.sql": "BEGIN;\n\ndrop table a;\n\nCOMMIT;\n",
            "02_bb2_b.up.sql": f"BEGIN;\n\n{B}\nCOMMIT;\n\n",
            "03_cc3_c.up.sql": f"BEGIN;\n\n{C}\nCOMMIT;\n",
        },
        {
            "update alembic_version set version_num = 'zz'": "zz is applied, but its file",
            "insert into alembic_version values ('aa9')": "several heads: aa9, ",
        },
    ),
    "knex": Tool(
        "create table knex_migrations (id serial primary key, name varchar(255), batch int,"
        " migration_time timestamptz); create table knex_migrations_lock (index serial primary key,"
        " is_locked int); insert into knex_migrations_lock values (1, 0);"
        "insert into knex_migrations (name, batch, migration_time) values"
        " ('20240101000001_a.js', 1, '2024-01-01'), ('20240101000002_b.ts', 1, '2024-01-01')",
        {
            "20240101000001_a.js": "exports.up = 1\n",
            "20240101000001_a.up.sql": A,
            "20240101000001_a.down.sql": "drop table a;\n",
            "20240101000002_b.js": "exports.config = { transaction: false }\n",
            "20240101000002_b.up.sql": B,
            "20240101000003_c.js": "exports.up = 1\n",
            "20240101000003_c.up.sql": C,
        },
        {
            "20240101000001_a.up.sql": A,
            "20240101000001_a.down.sql": "drop table a;\n",
            "20240101000002_b.up.sql": f"-- migrator: no-transaction\n{B}",
            "20240101000003_c.up.sql": C,
        },
        {"update knex_migrations_lock set is_locked = 1": "Knex is running"},
    ),
}


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def files(migrate: Migrate, tool: str, tmp_path: Path) -> Path:
    """The tool's files; its table and the schema are in the database."""
    directory = migrate.directory if TOOLS[tool].expected is None else tmp_path / "theirs"
    fill(directory, dict(TOOLS[tool].files))
    migrate.database.execute(SCHEMA)
    if "create index i on b" in "".join(TOOLS[tool].files.values()):
        migrate.database.execute("create index i on b (id)")
    migrate.database.execute(TOOLS[tool].table)
    return directory


def test_every_tool_is_tried() -> None:
    assert {dialect.name for dialect in DIALECTS} == set(TOOLS)


def test_a_tool_is_found_and_taken_over(migrate: Migrate, tool: str, files: Path) -> None:
    found = migrate("adopt", "--json").json["found"]
    assert [each["tool"] for each in found] == [tool]
    result = migrate("adopt", tool, "--files", files, "--json")
    assert result.exit_code == 0, result.stderr
    expected = TOOLS[tool].expected
    if expected is not None:
        assert {p.name: p.read_text() for p in migrate.directory.iterdir()} == expected
    assert list(states(migrate).values()) == ["applied", "applied", "pending"]
    assert bool(result.json["verified"]) == (TOOLS[tool].edited is not None)
    assert migrate("up").exit_code == 0
    assert migrate("status", "--check").exit_code == 0
    assert "nothing to do" in migrate("up").stdout


def test_an_edited_file_stops(migrate: Migrate, tool: str, files: Path) -> None:
    edited = TOOLS[tool].edited
    if edited is None:
        pytest.skip(f"{tool} has no checksum to compare")
    with (files / edited).open("a") as file:
        file.write("select 1;\n")
    result = migrate("adopt", tool, "--files", files)
    assert result.exit_code == 4
    assert "is not the file that was applied" in result.stderr
    assert f"git log -p -- {files / edited}" in result.stderr
    assert nothing_is_recorded(migrate)


def test_a_state_of_the_tool_that_cannot_be_taken_over_stops(
    migrate: Migrate, tool: str, files: Path
) -> None:
    assert TOOLS[tool].stopping
    for statement, said in TOOLS[tool].stopping.items():
        with migrate.database.connect() as conn:
            conn.execute("begin")
            conn.execute(statement.encode())
            conn.execute("commit")
        result = migrate("adopt", tool, "--files", files)
        assert (result.exit_code, said in result.stderr) == (4, True), result.stderr
        assert migrate("up").exit_code == 4
        assert nothing_is_recorded(migrate)
        if "success =" in statement:
            migrate.database.execute(statement.partition("set")[0] + "set success = true")


def file_of_b(tool: str, files: Path) -> Path:
    """Give the file that creates the second table."""
    texts = TOOLS[tool].files.items()
    return files / next(name for name, text in texts if "create table b" in text)


def test_a_missing_file_stops(migrate: Migrate, tool: str, files: Path) -> None:
    missing = file_of_b(tool, files)
    missing.unlink()
    result = migrate("adopt", tool, "--files", files)
    assert result.exit_code == 4
    said = (f"{missing} cannot be read", "is applied, but its file is missing", "is not SQL")
    assert any(each in result.stderr for each in said), result.stderr
    assert nothing_is_recorded(migrate)


# A copy of the file of the second migration, which the tool, or we, cannot tell from it.
TWINS = {
    "golang-migrate": "2_bb.up.sql",
    "dbmate": "2_bb.sql",
    "goose": "2_bb.sql",
    "sqlx": "2_b.up.sql",
    "tern": "2_bb.sql",
    "flyway": "deeper/V1.1.0__bb.sql",
    "dblift": "V1.1__bb.sql",
    "node-pg-migrate": "1700000000002_b.up.sql",
    "graphile-migrate": "committed/000002-bb.sql",
    "postgrator": "002.do.bb.sql",
    "pgmigrate": "migrations/V2__bb.sql",
    "pop": "20240101000002000000_b.autocommit.up.sql",
    "refinery": "V2__bb.sql",
    "liquibase": "changelog/more/a.sql",
    "alembic": "versions/bb2_bb.py",
    "knex": "20240101000002_b.mjs",
}
# These know their migrations by name, so that two files cannot be the same one.
WITHOUT_TWINS = {"sql-migrate", "prisma", "yoyo", "sqitch"}


def test_two_files_that_are_the_same_migration_stop(
    migrate: Migrate, tool: str, files: Path
) -> None:
    assert TWINS.keys() | WITHOUT_TWINS == TOOLS.keys()
    if tool in WITHOUT_TWINS:
        pytest.skip(f"{tool} knows its migrations by name")
    original = file_of_b(tool, files)
    if TWINS[tool].endswith((".py", ".mjs")):
        original = original.with_name(original.name.partition(".")[0] + ".py").with_suffix(
            ".py" if TWINS[tool].endswith(".py") else ".js"
        )
    fill(files, {TWINS[tool]: original.read_text()})
    result = migrate("adopt", tool, "--files", files)
    assert (result.exit_code, " both " in result.stderr) == (4, True), result.stderr
    assert str(files / TWINS[tool]) in result.stderr
    assert nothing_is_recorded(migrate)


def test_a_second_table_of_the_tool_has_to_be_chosen(
    migrate: Migrate, tool: str, files: Path
) -> None:
    (table,) = (each["table"] for each in migrate("adopt", "--json").json["found"])
    name = table.rpartition(".")[2]
    migrate.database.execute(
        f"create schema other; create table other.{name} (like {table} including all)"
    )
    result = migrate("adopt", tool, "--files", files)
    assert (result.exit_code, "--table SCHEMA.NAME" in result.stderr) == (4, True), result.stderr
    assert f"other.{name}" in result.stderr
    assert nothing_is_recorded(migrate)
    result = migrate("adopt", tool, "--files", files, "--table", table)
    assert result.exit_code == 0, result.stderr


def test_migrations_of_one_number_that_a_tool_knows_by_name_are_numbered(
    migrate: Migrate, tmp_path: Path
) -> None:
    fill(
        tmp_path / "theirs", {f"1_{n}.sql": f"-- +migrate Up\n{t}" for n, t in (("a", A), ("b", B))}
    )
    migrate.database.execute(
        "create table gorp_migrations (id text primary key, applied_at timestamptz);"
        "insert into gorp_migrations values ('1_a.sql', '2024-01-01')"
    )
    migrate.database.execute(A)
    result = migrate("adopt", "sql-migrate", "--files", tmp_path / "theirs")
    assert result.exit_code == 0, result.stderr
    assert states(migrate) == {"1_a": "applied", "2_b": "pending"}


def test_pairs_of_node_pg_migrate_are_used_where_they_are(migrate: Migrate) -> None:
    fill(migrate.directory, {"17_a.up.sql": A, "17_a.down.sql": "drop table a;\n"})
    migrate.database.execute(
        "create table pgmigrations (id serial primary key, name varchar(255), run_on timestamp);"
        "insert into pgmigrations (name, run_on) values ('17_a', '2024-01-01')"
    )
    migrate.database.execute(A)
    result = migrate("adopt", "node-pg-migrate")
    assert result.exit_code == 0, result.stderr
    assert states(migrate) == {"17_a": "applied"}
    assert migrate("down").exit_code == 0


def test_rows_of_flyway_that_undo_repair_or_are_a_baseline_are_understood(
    migrate: Migrate, tmp_path: Path
) -> None:
    files = tmp_path / "theirs"
    fill(
        files,
        {f"V{n}__{name}.sql": f"create table {name} ();\n" for n, name in enumerate("abcd", 1)},
    )
    fill(files, {"V5__i.sql": "create index concurrently i on e (id);\nvacuum e;\n"})
    fill(files, {"V6__f.sql": "select 1;\n", "V6__f.sql.conf": "executeInTransaction=false\n"})
    migrate.database.execute(
        FLYWAY.partition("insert")[0].format(name="flyway_schema_history", kind="int")
        + "".join(
            f"insert into flyway_schema_history values ({rank}, {version}, '', '{kind}',"
            f" '{script}', null, 'ann', '2024-01-01', 5, true);"
            for rank, version, kind, script in (
                (0, "null", "SCHEMA", '"public"'),
                (1, "'1'", "BASELINE", "<< Flyway Baseline >>"),
                (2, "'3'", "SQL", "V3__c.sql"),
                (3, "'2'", "SQL", "V2__b.sql"),
                (4, "'4'", "SQL", "V4__d.sql"),
                (5, "'4'", "UNDO_SQL", "U4__d.sql"),
                (6, "'7'", "SQL", "V7__gone.sql"),
                (7, "'7'", "DELETE", "V7__gone.sql"),
            )
        )
        + "create table a (); create table b (); create table c ();"
    )
    result = migrate("adopt", "flyway", "--files", files)
    assert result.exit_code == 0, result.stderr
    assert "note: it has a baseline at 1" in result.stdout
    assert list(states(migrate).values()) == ["applied"] * 3 + ["pending"] * 3
    for name in ("5_i.up.sql", "6_f.up.sql"):
        text = (migrate.directory / name).read_text()
        assert text.startswith("-- migrator: no-transaction\n"), name


def test_a_tool_that_holds_its_lock_is_waited_for(migrate: Migrate, tool: str, files: Path) -> None:
    from migrator.adoption.dialect import Table

    dialect = next(each for each in DIALECTS if each.name == tool)
    with migrate.database.connect() as conn:
        row = conn.execute(
            "select relnamespace::regnamespace::text, relname from pg_class where relkind = 'r'"
            " and relnamespace::regnamespace::text !~ '^(pg_|information)'"
            " and relname not in ('a', 'b', 'yoyo_lock', '_yoyo_log')"
        ).fetchone()
        assert row
        keys = dialect.locks(Table(row[0], row[1], migrate.database.name))
        if not keys:
            pytest.skip(f"{tool} takes no advisory lock")
        conn.execute("select pg_advisory_lock(%s)", [keys[-1]])
        result = migrate("adopt", tool, "--files", files)
    assert (result.exit_code, f"{tool} is running" in result.stderr) == (5, True)
    assert nothing_is_recorded(migrate)


# Checksums, against values that the tools themselves have written


def test_checksums_are_those_of_the_tools() -> None:
    # Of empty input, as the standards have them.
    assert sqlx.checksum(b"")[2:].startswith("38b060a751ac96384cd9327eb1b1e36a21fdb71114be0743")
    assert "d41d8cd98f00b204e9800998ecf8427e" in postgrator.checksums(b"")
    assert flyway.checksum("") == 0
    # A row of dblift.  Other rows that tools wrote are in `made`.
    assert flyway.checksum("create table a(id int);\n") == -1193849269
    assert flyway.checksum("a\r\nb") == flyway.checksum("a\nb") == flyway.checksum("ab")
