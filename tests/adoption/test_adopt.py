"""A tool's files and history become ours, or nothing is changed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ..conftest import Migrate, Result
from ..sessions import holding

TABLE = "create table schema_migrations (version bigint primary key, dirty boolean not null)"
GOLANG = {
    "000001_a.up.sql": "create table a (id int);\r\n",
    "000001_a.down.sql": "drop table a;\n",
    "000002_b.up.sql": "create table b (id int);\n",
    "000002_b.down.sql": "drop table b;\n",
    "000003_c.up.sql": "create table c (id int);\n",
}
DBMATE = {
    "001_a.sql": "-- first\n-- migrate:up\ncreate table a (id int);\n\n"
    "-- migrate:down\ndrop table a;\n",
    "002_b.sql": "-- migrate:up transaction:false\r\ncreate table b ();\r\n"
    "create index concurrently i on a (id);\r\n"
    "-- migrate:down transaction:false\r\ndrop index concurrently i;\r\ndrop table b;\r\n",
    "003_c.sql": "-- migrate:up\ncreate table c ();\n-- migrate:down\n",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The directory of the other tool."""
    found = tmp_path / "theirs"
    found.mkdir()
    return found


def fill(files: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (files / name).parent.mkdir(exist_ok=True, parents=True)
        (files / name).write_bytes(text.encode())


@pytest.fixture
def golang(migrate: Migrate) -> Migrate:
    """A database that golang-migrate has brought to version 2, and its directory."""
    fill(migrate.directory, GOLANG)
    migrate.database.execute(f"{TABLE}; insert into schema_migrations values (2, false)")
    migrate.database.execute("create table a (id int); create table b (id int)")
    return migrate


@pytest.fixture
def dbmate(migrate: Migrate, files: Path) -> Migrate:
    """A database that dbmate has brought to version 2."""
    fill(files, DBMATE)
    migrate.database.execute("create table schema_migrations (version varchar primary key)")
    migrate.database.execute("insert into schema_migrations values ('001'), ('002')")
    migrate.database.execute("create table a (id int); create table b (); create index i on a (id)")
    return migrate


def states(migrate: Migrate) -> dict[str, str]:
    rows = migrate("status", "--json").json["versions"]
    return {row["version"]: row["state"] for row in rows}


def nothing_is_recorded(migrate: Migrate) -> bool:
    """Whether the history does not exist, or is empty."""
    (exists,) = migrate.database.rows("select to_regclass('migration_versions') is not null")[0]
    return not (exists and migrate.database.rows("select from migration_versions"))


def adopt(migrate: Migrate, *arguments: str | Path) -> Result:
    return migrate("adopt", *arguments)


# Looking


def test_adopt_alone_says_which_tools_were_at_work_and_writes_nothing(golang: Migrate) -> None:
    golang.database.execute(
        "create schema other; create table other.goose_db_version"
        " (id int, version_id bigint, is_applied boolean, tstamp timestamp)"
    )
    result = adopt(golang, "--json")
    assert (result.exit_code, [each["tool"] for each in result.json["found"]]) == (
        0,
        ["goose", "golang-migrate"],
    )
    assert result.json["found"][1]["up_to"] == 2
    text = adopt(golang).stdout
    assert "golang-migrate in public.schema_migrations: applied up to 2" in text
    assert "migrator adopt golang-migrate --files DIR" in text
    assert nothing_is_recorded(golang)


def test_adopt_alone_without_another_tool_says_so(migrate: Migrate) -> None:
    assert adopt(migrate).stdout == "no table of another migration tool was found\n"


# The first up


def test_up_beside_another_tools_history_stops_and_names_adopt(golang: Migrate) -> None:
    for arguments in (("up",), ("up", "--dry-run")):
        result = golang(*arguments)
        assert result.exit_code == 4
        assert "migrator adopt golang-migrate --files DIR" in result.stderr
        assert "--beside-other-tool" in result.stderr
    assert nothing_is_recorded(golang)


def test_up_beside_a_table_in_which_nothing_is_applied_runs(golang: Migrate) -> None:
    golang.database.execute("truncate schema_migrations; drop table a, b")
    assert golang("up").exit_code == 0


def test_up_beside_another_applications_tool_runs_if_asked_to(migrate: Migrate) -> None:
    fill(migrate.directory, GOLANG)
    migrate.database.execute("create table alembic_version (version_num varchar(32) not null)")
    migrate.database.execute("insert into alembic_version values ('aa1')")
    assert migrate("up").exit_code == 4
    assert migrate("up", "--beside-other-tool").exit_code == 0
    (migrate.directory / "04_d.up.sql").write_text("create table d ();")
    assert migrate("up").exit_code == 0, "only an empty history asks"


def test_a_table_that_our_role_may_not_read_counts_as_used(golang: Migrate) -> None:
    golang.database.execute(
        "create role poor login password 'x'; grant create on schema public to poor"
    )
    url = golang.database.tcp_url("poor", "x")
    result = golang("up", database=url)
    golang.database.execute("drop owned by poor; drop role poor")
    assert (result.exit_code, "--beside-other-tool" in result.stderr) == (4, True), result.stderr


def test_a_schema_that_our_role_may_not_use_keeps_nobody_out(golang: Migrate) -> None:
    golang.database.execute(
        "create role poor login password 'x'; grant create on schema public to poor;"
        "grant select on schema_migrations to poor; create schema closed;"
        "create table closed.goose_db_version"
        " (id int, version_id bigint, is_applied boolean, tstamp timestamp)"
    )
    url = golang.database.tcp_url("poor", "x")
    found = golang("adopt", "--json", database=url)
    result = golang("adopt", "golang-migrate", "--dry-run", "--unchecked", database=url)
    refused = golang("adopt", "golang-migrate", "--unchecked", database=url)
    golang.database.execute("drop owned by poor; drop role poor")
    assert (found.exit_code, result.exit_code) == (0, 0), found.stderr + result.stderr
    assert (refused.exit_code, "connect as its owner" in refused.stderr) == (4, True)
    problems = [each["problem"] for each in found.json["found"]]
    assert problems == ["the connected role may not read it", None]


@pytest.mark.slow
def test_a_session_that_locks_the_tools_table_is_named(golang: Migrate) -> None:
    with holding(golang.database, "lock table schema_migrations") as other:
        pid = other.info.backend_pid
        found = adopt(golang, "--json").json["found"]
        result = adopt(golang, "golang-migrate")
    assert [each["problem"] for each in found] == ["another session holds a lock on it"]
    assert result.exit_code == 5
    assert "a lock on public.schema_migrations: another session holds it" in result.stderr
    assert f"pg_terminate_backend({pid})" in result.stderr
    with holding(golang.database, "insert into schema_migrations values (9, false)") as other:
        pid = other.info.backend_pid
        result = adopt(golang, "golang-migrate", "--unchecked")
    assert f"pg_terminate_backend({pid})" in result.stderr
    assert nothing_is_recorded(golang)


# golang-migrate


def test_the_files_of_golang_migrate_are_used_where_they_are(golang: Migrate) -> None:
    before = {path: path.read_bytes() for path in golang.directory.iterdir()}
    result = adopt(golang, "golang-migrate", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.json["applied"] == ["000001_a", "000002_b"]
    assert result.json["pending"] == ["000003_c"]
    assert {path: path.read_bytes() for path in golang.directory.iterdir()} == before
    assert states(golang) == {"000001_a": "applied", "000002_b": "applied", "000003_c": "pending"}
    assert golang("up").exit_code == 0
    assert golang("status", "--check").exit_code == 0
    assert golang("down", "--to", "1").exit_code == 4, "000003_c has no down"
    assert golang.database.rows("select version from schema_migrations") == [(2,)]


def test_a_down_reverts_what_the_other_tool_has_applied(golang: Migrate) -> None:
    assert adopt(golang, "golang-migrate").exit_code == 0
    assert golang("down").exit_code == 0
    assert golang.database.rows("select to_regclass('a')::text, to_regclass('b')") == [("a", None)]


def test_a_dry_run_says_what_would_be_taken_over_and_writes_nothing(golang: Migrate) -> None:
    result = adopt(golang, "golang-migrate", "--dry-run")
    assert result.exit_code == 0
    assert "000002_b: would be recorded as applied" in result.stdout
    assert nothing_is_recorded(golang)


def test_a_table_that_scripts_still_use_is_not_retired(golang: Migrate) -> None:
    text = "-- schema_migrations\nalter table public.schema_migrations add data_version int;\n"
    fill(golang.directory, {"000003_c.up.sql": text, "000002_b.up.sql": GOLANG["000002_b.up.sql"]})
    result = adopt(golang, "golang-migrate", "--retire")
    assert result.exit_code == 4
    assert "public.schema_migrations is used by 000003_c.up.sql" in result.stderr
    assert "leave out --retire" in result.stderr
    assert nothing_is_recorded(golang)
    fill(golang.directory, {"000003_c.up.sql": "-- schema_migrations\ncreate table c ();\n"})
    assert adopt(golang, "golang-migrate", "--retire").exit_code == 0


def test_a_dirty_version_stops(golang: Migrate) -> None:
    golang.database.execute("update schema_migrations set dirty = true")
    result = adopt(golang, "golang-migrate")
    assert result.exit_code == 4
    assert "version 2 is dirty" in result.stderr
    assert nothing_is_recorded(golang)


def test_a_missing_file_stops_unless_it_may_be_left_out(golang: Migrate) -> None:
    golang.database.execute("update schema_migrations set version = 7")
    golang.database.execute("create table c (id int)")
    result = adopt(golang, "golang-migrate")
    assert result.exit_code == 4
    assert "7 is applied, but its file is missing" in result.stderr
    assert nothing_is_recorded(golang)
    assert adopt(golang, "golang-migrate", "--partial").exit_code == 0
    assert set(states(golang).values()) == {"applied"}


def test_what_the_database_lacks_is_listed_and_nothing_is_recorded(golang: Migrate) -> None:
    golang.database.execute("drop table b")
    result = adopt(golang, "golang-migrate")
    assert result.exit_code == 4
    assert "table public.b" in result.stderr
    assert nothing_is_recorded(golang)
    assert adopt(golang, "golang-migrate", "--unchecked").exit_code == 0


def test_a_tool_that_holds_its_lock_keeps_adopt_out(golang: Migrate) -> None:
    from migrator.adoption.dialects import golang_migrate

    for name in (golang.database.name, f"/{golang.database.name}"):
        with golang.database.connect() as other:
            key = golang_migrate.lock_key("public", "schema_migrations", name)
            other.execute("select pg_advisory_lock(%s)", [key])
            pid = other.info.backend_pid
            result = adopt(golang, "golang-migrate")
        assert result.exit_code == 5
        assert "golang-migrate is running" in result.stderr
        assert f"pg_terminate_backend({pid})" in result.stderr
        assert nothing_is_recorded(golang)


def test_a_second_adoption_is_refused(golang: Migrate) -> None:
    assert adopt(golang, "golang-migrate").exit_code == 0
    result = adopt(golang, "golang-migrate")
    assert (result.exit_code, "already has a history" in result.stderr) == (4, True)


def test_a_retired_table_makes_the_old_tool_fail_and_an_undo_restores_it(golang: Migrate) -> None:
    result = adopt(golang, "golang-migrate", "--retire", "--json")
    assert result.json["retired_to"] == "schema_migrations_retired"
    with pytest.raises(psycopg.Error, match="were taken over by migrator"):
        golang.database.rows("select version from schema_migrations")
    with pytest.raises(psycopg.Error, match="cannot insert"):
        golang.database.execute("insert into schema_migrations values (3)")
    assert adopt(golang, "--undo").exit_code == 0
    assert golang.database.rows("select version from schema_migrations") == [(2,)]
    assert nothing_is_recorded(golang)
    assert adopt(golang, "--undo").exit_code == 4, "once"
    assert adopt(golang, "golang-migrate").exit_code == 0


def test_an_adoption_cannot_be_undone_after_a_run(golang: Migrate) -> None:
    assert adopt(golang, "--undo").exit_code == 4
    assert adopt(golang, "golang-migrate").exit_code == 0
    assert golang("up").exit_code == 0
    result = adopt(golang, "--undo")
    assert result.exit_code == 4
    assert "000003_c was run or recorded since the adoption" in result.stderr
    assert states(golang)["000001_a"] == "applied"


def test_a_renamed_table_is_named(golang: Migrate) -> None:
    golang.database.execute("alter table schema_migrations rename to my_migrations")
    assert adopt(golang, "golang-migrate", "--table", "public.my_migrations").exit_code == 0


def test_of_several_tables_one_is_named(golang: Migrate) -> None:
    golang.database.execute(f"create schema s; {TABLE.replace('table ', 'table s.')}")
    result = adopt(golang, "golang-migrate")
    assert (result.exit_code, "--table SCHEMA.NAME" in result.stderr) == (4, True)
    assert adopt(golang, "golang-migrate", "--table", "public.schema_migrations").exit_code == 0


def test_an_unknown_tool_and_one_without_a_table_are_refused(migrate: Migrate) -> None:
    assert "the tools are golang-migrate, dbmate" in adopt(migrate, "make").stderr
    result = adopt(migrate, "dbmat")
    assert (result.exit_code, "did you mean dbmate?" in result.stderr) == (2, True)
    assert adopt(migrate, "goose").exit_code == 4
    migrate.database.execute(TABLE)
    result = adopt(migrate, "goose")
    assert (result.exit_code, "found: golang-migrate in public" in result.stderr) == (4, True)
    assert 'tool named "nix"' in adopt(migrate, "--table", "nix").stdout


# dbmate


def test_the_files_of_dbmate_become_pairs(dbmate: Migrate, files: Path) -> None:
    result = adopt(dbmate, "dbmate", "--files", files)
    assert result.exit_code == 0, result.stderr
    written = {path.name: path.read_bytes().decode() for path in dbmate.directory.iterdir()}
    assert written == {
        "001_a.up.sql": "-- first\ncreate table a (id int);\n\n",
        "001_a.down.sql": "drop table a;\n",
        "002_b.up.sql": "-- migrator: no-transaction\r\ncreate table b ();\r\n"
        "create index concurrently i on a (id);\r\n",
        "002_b.down.sql": "-- migrator: no-transaction\r\n"
        "drop index concurrently i;\r\ndrop table b;\r\n",
        "003_c.up.sql": "create table c ();\n",
    }
    assert states(dbmate) == {"001_a": "applied", "002_b": "applied", "003_c": "pending"}
    log = dbmate.database.rows("select version, action, detail->'row' from migration_log")
    assert log == [("001_a", "adopt", {"version": "001"}), ("002_b", "adopt", {"version": "002"})]
    assert dbmate("status", "--check").exit_code == 3
    assert dbmate("up").exit_code == 0
    assert dbmate("repair", "3", "--reverted", "--reason", "test").exit_code == 0
    assert dbmate("down", "--all").exit_code == 0


def test_files_that_have_to_be_converted_need_another_directory(
    dbmate: Migrate, files: Path
) -> None:
    result = adopt(dbmate, "dbmate", "--files", files, "--into", files)
    assert (result.exit_code, "into another directory" in result.stderr) == (2, True)
    fill(dbmate.directory, {"9_x.up.sql": "select 1;"})
    result = adopt(dbmate, "dbmate", "--files", files)
    assert (result.exit_code, "already has migrations" in result.stderr) == (2, True)
    assert nothing_is_recorded(dbmate)
    assert len(list(dbmate.directory.iterdir())) == 1


def test_what_cannot_be_converted_is_listed_with_its_line(dbmate: Migrate, files: Path) -> None:
    fill(files, {"004_d.sql": "-- migrate:up\nselect 1;\n\\dt\n-- migrate:down\n"})
    fill(files, {"005_e.sql": "select 1;\n"})
    result = adopt(dbmate, "dbmate", "--files", files)
    assert result.exit_code == 4
    assert "004_d.up.sql:2:1: \\dt is a psql command" in result.stderr
    assert "005_e.sql:1:1: the file has no up section" in result.stderr
    assert list(dbmate.directory.iterdir()) == []
    assert nothing_is_recorded(dbmate)
    result = adopt(dbmate, "dbmate", "--files", files, "--partial", "--json")
    assert result.exit_code == 0
    assert [each["line"] for each in result.json["left_out"]] == [1, 2]


def test_a_repeatable_file_that_was_edited_since_is_pending(migrate: Migrate, files: Path) -> None:
    view = "create or replace view v as select 2 as one;\n"
    fill(files, {"V1__a.sql": "create table a ();\n", "R__v.sql": view})
    migrate.database.execute(
        "create table a (); create view v as select 1 as one;"
        "create table flyway_schema_history (installed_rank int primary key, version text,"
        " description text, type text, script text, checksum int, installed_by text,"
        " installed_on timestamp, execution_time int, success boolean);"
        "insert into flyway_schema_history values"
        " (1, '1', 'a', 'SQL', 'V1__a.sql', null, 'ann', '2024-01-01', 5, true),"
        " (2, null, 'v', 'SQL', 'R__v.sql', 7, 'ann', '2024-01-01', 5, true)"
    )
    result = adopt(migrate, "flyway", "--files", files, "--json")
    assert (result.exit_code, result.json["pending"]) == (0, ["R__v"]), result.stderr
    assert migrate("up").exit_code == 0
    assert migrate.database.rows("select one from v") == [(2,)]


# Alembic and Knex, whose migrations are programs


def test_a_program_without_its_sql_stops_with_the_command_that_prints_it(
    migrate: Migrate, files: Path
) -> None:
    fill(files, {"aa1_a.py": "revision = 'aa1'\ndown_revision = None\n"})
    fill(files, {"bb2_b.py": "revision = 'bb2'\ndown_revision = 'aa1'\n"})
    migrate.database.execute(
        "create table alembic_version (version_num varchar(32) not null);"
        "insert into alembic_version values ('aa1')"
    )
    result = adopt(migrate, "alembic", "--files", files)
    assert result.exit_code == 4
    assert f"alembic upgrade base:aa1 --sql > {files}/aa1_a.up.sql" in result.stderr
    assert f"alembic downgrade bb2:aa1 --sql > {files}/bb2_b.down.sql" in result.stderr
    assert "its file is missing" not in result.stderr
    partial = adopt(migrate, "alembic", "--files", files, "--partial")
    assert (partial.exit_code, "none of its files" in partial.stderr) == (4, True)
    assert nothing_is_recorded(migrate)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"b": ("bb2", "'aa1'"), "c": ("cc3", "'aa1'")}, "the files have several heads: bb2, cc3"),
        ({"b": ("bb2", "'gone'")}, "comes after gone, which has no file"),
        ({"b": ("aa1", "None")}, "are both aa1"),
        ({"b": ("bb2", "'cc3'"), "c": ("cc3", "'bb2'")}, "depend on each other"),
    ],
)
def test_revisions_that_are_no_chain_stop(
    migrate: Migrate, files: Path, texts: dict[str, tuple[str, str]], said: str
) -> None:
    for name, (revision, before) in {"a": ("aa1", "None"), **texts}.items():
        text = f"revision = '{revision}'\ndown_revision = {before}\n"
        fill(files, {f"{name}.py": text, f"{name}.up.sql": ""})
    migrate.database.execute(
        "create table alembic_version (version_num varchar(32) not null);"
        "insert into alembic_version values ('aa1')"
    )
    result = adopt(migrate, "alembic", "--files", files)
    assert (result.exit_code != 0, said in result.stderr) == (True, True), result.stderr
    assert nothing_is_recorded(migrate)


def test_what_was_applied_on_one_branch_before_a_merge_is_taken_over(
    migrate: Migrate, files: Path
) -> None:
    chain = {"a1": "None", "b1": "'a1'", "b2": "'a1'", "m": "('b1', 'b2')"}
    for name, before in chain.items():
        source = f"revision = '{name}'\ndown_revision = {before}\ndef upgrade():\n    pass\n"
        fill(files, {f"{name}.py": source})
        if name != "m":
            fill(files, {f"{name}.up.sql": f"create table {name} ();\n"})
    migrate.database.execute(
        "create table alembic_version (version_num varchar(32) not null);"
        "insert into alembic_version values ('b2'); create table a1 (); create table b2 ()"
    )
    result = adopt(migrate, "alembic", "--files", files, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.json["applied"] == ["01_a1", "03_b2"]
    assert result.json["pending"] == ["02_b1", "04_m"]
    assert migrate("up", "--out-of-order").exit_code == 0
    assert migrate("status", "--check").exit_code == 0


# Liquibase


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("--changeset a:1 context:test\nselect 1;\n", 2, "context chooses"),
        ("--changeset a:1 labels:x\nselect 1;\n", 2, "labels chooses"),
        ("--changeset a:1\n--preconditions onFail:HALT\nselect 1;\n", 3, "precondition cannot"),
        ("--changeset a:1 endDelimiter:/\nselect 1\n/\n", 2, "enddelimiter:/ cannot"),
        ("--changeset a:1 runAlways:true\nselect 1;\n", 2, "runalways:true cannot"),
        ("--changeset a:1\nselect ${x};\n", 2, "the placeholder ${x} cannot"),
        ("--changeset a:1\nselect 1;\n--rollback changesetId:0\n", 2, "names another changeset"),
        ("--changeset a:1\nselect 1;\n--changeset a:1\nselect 1;\n", None, "both have"),
    ],
)
def test_what_a_changeset_has_that_cannot_be_converted_is_listed(
    migrate: Migrate, files: Path, text: str, line: int | None, said: str
) -> None:
    fill(files, {"x.sql": f"--liquibase formatted sql\n{text}"})
    migrate.database.execute(
        "create table databasechangelog (id text, author text, filename text, dateexecuted"
        " timestamp, orderexecuted int, exectype text, md5sum text)"
    )
    result = adopt(migrate, "liquibase", "--files", files)
    place = f"x.sql:{line}:1: " if line else ""
    assert (result.exit_code, said in result.stderr) == (4, True), result.stderr
    assert place in result.stderr
    assert nothing_is_recorded(migrate)


# Rails and Django, which start with a baseline


@pytest.mark.parametrize(
    ("tool", "table"),
    [
        (
            "Rails",
            "create table schema_migrations (version varchar primary key);"
            "create table ar_internal_metadata (key varchar primary key, value varchar)",
        ),
        (
            "Django",
            "create table django_migrations (id bigint primary key, app varchar(255),"
            " name varchar(255), applied timestamptz)",
        ),
    ],
)
def test_a_tool_whose_files_cannot_be_converted_starts_with_a_dump_and_a_baseline(
    migrate: Migrate, tool: str, table: str
) -> None:
    migrate.database.execute(f"{table}; create table a (id int primary key)")
    found = adopt(migrate, "--json").json["found"]
    assert [(each["tool"], each["can_adopt"]) for each in found] == [(tool, False)]
    assert "migrator dump --allow-empty --output" in adopt(migrate).stdout
    result = adopt(migrate, tool.lower())
    assert (result.exit_code, "cannot be converted" in result.stderr) == (2, True)
    assert "migrator baseline 01" in result.stderr
    dumped = migrate("dump", "--allow-empty", "--output", migrate.directory / "01_schema.up.sql")
    assert dumped.exit_code == 0, dumped.stderr
    (migrate.directory / "02_b.up.sql").write_text("create table b ();\n")
    result = migrate("up")
    assert (result.exit_code, "migrator baseline 01" in result.stderr) == (4, True), result.stderr
    result = migrate("baseline", "01")
    assert result.exit_code == 0, result.stderr
    assert states(migrate) == {"01_schema": "applied", "02_b": "pending"}
    assert migrate("up").exit_code == 0
    assert migrate("drift").exit_code == 0
