"""One file in place of many: what it makes, and how databases take it over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from migrator.rehearsal.squash import read_again

from ..conftest import Database, Migrate, Result, ScratchDatabases, Write, dump_schema
from ..sessions import ordinary_role

FILES = {
    "01_a.up.sql": "create table a (id bigint generated always as identity primary key);\n",
    "01_a.down.sql": "drop table a;\n",
    "02_b.up.sql": "create table b (a_id bigint references a);\ninsert into a default values;\n",
    "02_b.down.sql": "drop table b;\ndelete from a;\n",
    "03_c.up.sql": "create index concurrently b_a_id_idx on b (a_id);\n",
    "03_c.down.sql": "drop index b_a_id_idx;\n",
}
LATER = {"04_d.up.sql": "create table d ();\n", "04_d.down.sql": "drop table d;\n"}
VERSIONS = "select version from migration_versions order by ordinal"

# One of everything that a dump may order, quote or read again in another way.
RICH = {
    "01_types.up.sql": """
        create type mood as enum ('sad', 'ok');
        create domain score as integer check (value between 0 and 10);
        create schema "App Data";
        comment on schema "App Data" is 'it''s; a comment';
    """,
    "02_tables.up.sql": """
        create table "App Data"."Users" (
            id bigint generated always as identity primary key,
            kind varchar(20) not null check (kind in ('a', 'b''c')),
            feels mood default 'ok',
            score score,
            full_name text generated always as (kind || '!') stored
        );
        create table nodes (
            id serial primary key,
            parent integer references nodes,
            first_child integer
        );
        alter table nodes add foreign key (first_child) references nodes deferrable;
        create table events (at date not null, what text) partition by range (at);
        create table events_2026 partition of events
            for values from ('2026-01-01') to ('2027-01-01');
        insert into "App Data"."Users" (kind) select 'a' from generate_series(1, 3);
        insert into nodes (parent) values (null), (1);
        insert into events values ('2026-05-05', E'tab\\tand\\nline \\\\.');
    """,
    "03_enum.up.sql": "alter type mood add value 'great' after 'ok';\n",
    "04_functions.up.sql": """
        create function twice(i integer) returns integer language sql as
            $$ select later(i) $$ ;
    """.replace("later(i)", "i * 2"),
    "05_views.up.sql": """
        create view happy as select * from "App Data"."Users" where kind in ('a', 'b');
        create materialized view counted as select count(*) from nodes;
        create function stamp() returns trigger language plpgsql as
            $$ begin new.what := coalesce(new.what, '?'); return new; end $$;
        create trigger stamp before insert on events for each row execute function stamp();
        alter table nodes enable row level security;
        create policy everyone on nodes using (true);
        grant select on nodes to public;
        alter default privileges in schema "App Data" grant select on tables to public;
    """,
    "06_index.up.sql": """
        -- migrator: no-transaction
        create index concurrently events_2026_what_idx on events_2026 (lower(what));
        create sequence tickets start 1000;
        select nextval('tickets'), nextval('tickets');
        drop table if exists nothing;
    """,
}


def squash(migrate: Migrate, *arguments: str) -> Result:
    return migrate("squash", *arguments)


def squashed(migrate: Migrate, *arguments: str) -> str:
    """Squash, and return the text of the up file."""
    result = squash(migrate, *arguments)
    assert result.exit_code == 0, result.stderr
    (up,) = migrate.directory.glob("*_squashed.up.sql")
    return up.read_text()


def versions(database: Database) -> list[str]:
    return [version for (version,) in database.rows(VERSIONS)]


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of every table, and the values of sequences."""
    tables = database.rows(
        "select format('%I.%I', schemaname, tablename) from pg_tables"
        " where schemaname !~ '^(pg_|information)' and tablename !~ '^migration_'"
    )
    found = {name: database.rows(f"select t::text from {name} t order by 1") for (name,) in tables}
    sequences = "select sequencename, last_value from pg_sequences where sequencename !~ '^migr'"
    return {**found, "": sorted(database.rows(sequences))}


def test_the_new_file_makes_what_the_old_ones_make(
    migrate: Migrate, write: Write, second_database: Database, scratch_databases: ScratchDatabases
) -> None:
    write(RICH)
    assert migrate("up").exit_code == 0
    names = ('"App Data"."Users"', "nodes", "public.events_2026")
    text = squashed(migrate, "--to", "6", *(f"--data={name}" for name in names))
    assert "-- migrator: replaces 01..06\n--   01_types " in text
    assert not re.search("(?i)concurrently|owner to|timeout|restrict", text)
    result = migrate("up", database=second_database)
    assert result.exit_code == 0, result.stderr
    ours = "--exclude-table=public.migration_*"
    old, new = (read_again(dump_schema(each, ours)) for each in (migrate.database, second_database))
    assert old == new
    assert contents(second_database) == contents(migrate.database)
    assert second_database.rows("select * from counted") == [(2,)]
    assert scratch_databases() == []
    # Without the row of the rehearsal, its down leaves nothing.
    assert migrate("down", database=second_database).exit_code == 0
    assert migrate("up", database=second_database).exit_code == 0


def test_a_database_with_all_of_them_records_the_new_file_and_runs_nothing(
    migrate: Migrate, write: Write
) -> None:
    write({**FILES, **LATER})
    assert migrate("up").exit_code == 0
    migrate.database.execute("insert into b values (1)")
    before = migrate.database.rows(
        "select max(applied_at), sum(duration_ms) from migration_versions where version < '04'"
    )
    squashed(migrate, "--to", "3", "--no-data")
    states = {r["version"]: r["state"] for r in migrate("status", "--json").json["versions"]}
    assert states == {"03_squashed": "squashed", "04_d": "applied"}
    assert migrate("status", "--check").exit_code == 0
    assert migrate("verify").exit_code == 0
    result = migrate("up")
    assert result.exit_code == 0
    assert "03_squashed takes the place of 3 applied migrations" in result.stderr
    assert result.stdout.startswith("nothing was run; 03_squashed is recorded in place of what")
    assert versions(migrate.database) == ["03_squashed", "04_d"]
    assert before == migrate.database.rows(
        "select applied_at, duration_ms from migration_versions where version = '03_squashed'"
    )
    assert migrate.database.rows("select * from b") == [(1,)]
    assert migrate.database.rows(
        "select version, outcome, message from migration_log where action = 'squash'"
    ) == [("03_squashed", "done", "in place of 01_a, 02_b, 03_c, which were applied")]
    assert "nothing to do" in migrate("up").stdout
    assert migrate("drift").exit_code == 0
    assert migrate("rehearse").exit_code == 0


def test_what_is_pending_is_applied_after_the_new_file_is_recorded(
    migrate: Migrate, write: Write
) -> None:
    write(FILES)
    assert migrate("up").exit_code == 0
    squashed(migrate, "--to", "3", "--no-data")
    write(LATER)
    assert "03_squashed takes the place" in migrate("up", "--dry-run").stdout
    assert versions(migrate.database) == ["01_a", "02_b", "03_c"]
    assert migrate("rehearse").exit_code == 0
    assert migrate("up").stdout.startswith("applied 1 migration ")
    assert versions(migrate.database) == ["03_squashed", "04_d"]


def test_a_dry_run_and_a_failed_run_record_what_they_say(migrate: Migrate, write: Write) -> None:
    write(FILES)
    assert migrate("up").exit_code == 0
    squashed(migrate, "--to", "3", "--no-data")
    write({"04_d.up.sql": "select 1 / 0;\n"})
    assert migrate("up").exit_code == 1
    assert versions(migrate.database) == ["03_squashed"]


@pytest.mark.parametrize("command", [("up",), ("verify",), ("status", "--check")], ids=" ".join)
def test_a_database_with_some_of_them_is_refused(
    migrate: Migrate, write: Write, second_database: Database, command: tuple[str, ...]
) -> None:
    write(FILES)
    assert migrate("up", "--to", "2", database=second_database).exit_code == 0
    squashed(migrate, "--to", "3", "--no-data")
    result = migrate(*command, database=second_database)
    assert result.exit_code == 4
    if "--check" not in command:
        assert "error: 03_squashed replaces 3 migrations, which are not all" in result.stderr
        assert "not applied: 03_c" in result.stderr
    assert versions(second_database) == ["01_a", "02_b"]
    # What the message says to do:
    old = migrate.directory / "squashed"
    assert migrate("up", dir=old, database=second_database).exit_code == 0
    assert migrate("up", database=second_database).exit_code == 0
    assert versions(second_database) == ["03_squashed"]


def test_a_text_that_differs_from_what_was_applied_is_refused(
    migrate: Migrate, write: Write, second_database: Database
) -> None:
    write(FILES)
    assert migrate("up", database=second_database).exit_code == 0
    write({"02_b.up.sql": "create table b (x text);\n"})
    squashed(migrate, "--to", "2", "--no-data")
    result = migrate("up", database=second_database)
    assert (result.exit_code, "applied with another text: 02_b" in result.stderr) == (4, True)
    assert versions(second_database) == ["01_a", "02_b", "03_c"]


def test_down_reverts_what_is_above_and_then_the_new_file(migrate: Migrate, write: Write) -> None:
    write({**FILES, **LATER})
    assert migrate("up").exit_code == 0
    squashed(migrate, "--to", "3", "--no-data")
    for options in (("--all",), ("--steps", "2"), ("--to", "0")):
        result = migrate("down", "--yes", *options)
        assert result.exit_code == 4
        assert "03_squashed is not recorded yet in place of the 3 applied" in result.stderr
    assert migrate("down", "--yes").exit_code == 0
    assert versions(migrate.database) == ["01_a", "02_b", "03_c"]
    assert migrate("redo", "--yes").exit_code == 4
    assert migrate("up").exit_code == 0
    assert versions(migrate.database) == ["03_squashed", "04_d"]
    assert migrate("down", "--yes", "--to", "0").exit_code == 0
    assert migrate.database.rows("select from pg_tables where tablename in ('a', 'b', 'd')") == []


def test_repair_and_baseline_leave_alone_what_is_not_recorded_yet(
    migrate: Migrate, write: Write
) -> None:
    write(FILES)
    assert migrate("up").exit_code == 0
    squashed(migrate, "--to", "3", "--no-data")
    for decision in ("--accept", "--applied", "--reverted"):
        result = migrate("repair", "3", decision, "--reason", "x", "--yes")
        assert "03_squashed is squashed: it has no row in the history yet" in result.stderr
    assert migrate("baseline", "3", "--yes").stdout.startswith("nothing to do")
    assert versions(migrate.database) == ["01_a", "02_b", "03_c"]


def test_rows_need_a_decision(migrate: Migrate, write: Write) -> None:
    write(FILES)
    result = squash(migrate, "--to", "3")
    assert result.exit_code == 2
    assert "the migrations leave rows in 1 table\n  public.a: 1 row\n" in result.stderr
    assert squash(migrate, "--to", "3", "--data", "x", "--no-data").exit_code == 2
    assert not (migrate.directory / "squashed").exists()
    assert "COPY public.a (id) FROM stdin;\n1\n\\.\n" in squashed(migrate, "--to", "3", "--data=a")


def test_without_rows_the_new_file_has_none(
    migrate: Migrate, write: Write, second_database: Database
) -> None:
    write(FILES)
    assert "COPY" not in squashed(migrate, "--to", "3", "--no-data")
    assert migrate("up", database=second_database).exit_code == 0
    assert second_database.rows("select * from a") == []
    second_database.execute("insert into a default values")
    assert second_database.rows("select * from a") == [(2,)]


def test_a_dry_run_changes_no_file(migrate: Migrate, write: Write) -> None:
    write(FILES)
    result = squash(migrate, "--to", "3", "--no-data", "--dry-run", "--json")
    assert result.json == {
        "version": "03_squashed",
        "replaced": ["01_a", "02_b", "03_c"],
        "tables": [],
        "irreversible": None,
        "written": [],
        "moved_to": [],
    }
    assert {path.name for path in migrate.directory.iterdir()} == FILES.keys()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"01_a.up.sql": "create role nobody_x;"}, "01_a.up.sql: create role nobody_x"),
        ({"01_a.up.sql": "select 1 / 0;"}, "01_a cannot be applied to an empty database"),
        ({"01_a.up.sql": "drop schema public;"}, "does not make what the old ones make"),
    ],
    ids=["role", "failing", "unlike"],
)
def test_what_cannot_be_squashed_is_refused_and_leaves_the_files(
    migrate: Migrate, write: Write, files: Mapping[str, str], said: str
) -> None:
    migrate.database.execute("create schema h")
    write({**files, "02_b.up.sql": "select 1;\n"})
    result = migrate("--schema", "h", "squash", "--to", "2")
    assert (result.exit_code, said in result.stderr) == (4, True), result.stderr
    assert {path.name for path in migrate.directory.iterdir()} == {*files, "02_b.up.sql"}


def test_what_cannot_be_dropped_again_is_irreversible(migrate: Migrate, write: Write) -> None:
    write(
        {"01_a.up.sql": FILES["01_a.up.sql"], "02_b.up.sql": "comment on schema public is 'x';\n"}
    )
    result = squash(migrate, "--to", "2", "--json")
    assert result.json["irreversible"] == "it would leave comment on schema public"
    (up,) = result.json["written"]
    assert "-- There is no down script: it would leave comment" in Path(up).read_text()
    assert migrate("up").exit_code == 0
    assert migrate("down", "--yes").exit_code == 4


def test_the_history_in_a_schema_of_its_own_is_not_in_the_file(
    migrate: Migrate, write: Write, second_database: Database
) -> None:
    write(FILES)
    for database in (migrate.database, second_database):
        database.execute("create schema ours")
    assert migrate("--schema", "ours", "up").exit_code == 0
    text = squashed(migrate, "--schema", "ours", "--to", "3", "--no-data")
    assert "ours" not in text
    assert migrate("--schema", "ours", "up", database=second_database).exit_code == 0
    assert migrate("--schema", "ours", "up").exit_code == 0


def test_the_role_that_ran_them_is_not_in_the_file(
    migrate: Migrate, write: Write, postgres: object
) -> None:
    write({**FILES, "02_b.up.sql": "alter default privileges grant select on tables to public;"})
    with ordinary_role(migrate.database, "createdb") as url:
        result = migrate("squash", "--to", "2", database=url)
        assert result.exit_code == 0, result.stderr
        text = (migrate.directory / "02_squashed.up.sql").read_text()
    assert "ALTER DEFAULT PRIVILEGES GRANT SELECT" in text
    assert "FOR ROLE" not in text
    assert "OWNER" not in text


def test_an_old_file_beside_the_new_one_is_refused(migrate: Migrate, write: Write) -> None:
    write(FILES)
    squashed(migrate, "--to", "3", "--no-data")
    (migrate.directory / "squashed" / "02_b.up.sql").rename(migrate.directory / "02_b.up.sql")
    result = migrate("up")
    assert result.exit_code == 4
    assert "02_b.up.sql is replaced by " in result.stderr
    assert "move it into the folder squashed" in result.stderr


def test_the_folder_of_old_files_is_no_surprise(migrate: Migrate, write: Write) -> None:
    write(FILES)
    squashed(migrate, "--to", "3", "--no-data")
    result = migrate("verify", "--offline")
    assert (result.exit_code, "warning" in result.stderr) == (0, False)
    assert len(list((migrate.directory / "squashed").iterdir())) == 6


def test_nothing_is_overwritten(migrate: Migrate, write: Write) -> None:
    write(FILES)
    (migrate.directory / "squashed").mkdir()
    (migrate.directory / "squashed" / "02_b.up.sql").touch()
    result = squash(migrate, "--to", "3", "--no-data")
    assert (result.exit_code, "squashed/02_b.up.sql exists" in result.stderr) == (2, True)
    assert not (migrate.directory / "03_squashed.up.sql").exists()


def test_old_files_stay_in_their_directory(migrate: Migrate, write: Write, tmp_path: Path) -> None:
    write(FILES)
    other = tmp_path / "other"
    other.mkdir()
    for path in migrate.directory.glob("02_*"):
        path.rename(other / path.name)
    result = migrate("--dir", other, "squash", "--to", "3", "--no-data")
    assert result.exit_code == 0, result.stderr
    assert (migrate.directory / "03_squashed.up.sql").exists()
    assert {path.name for path in (other / "squashed").iterdir()} == {
        "02_b.up.sql",
        "02_b.down.sql",
    }


def test_a_squashed_file_is_squashed_again(
    migrate: Migrate, write: Write, second_database: Database
) -> None:
    write({**FILES, **LATER})
    assert migrate("up").exit_code == 0
    squashed(migrate, "--to", "3", "--no-data")
    result = squash(migrate, "--to", "4", "--no-data")
    assert "only some of the migrations up to 4 are recorded" in result.stderr
    assert migrate("up").exit_code == 0
    assert squash(migrate, "--to", "4", "--no-data").exit_code == 0
    assert migrate("up").exit_code == 0
    assert versions(migrate.database) == ["04_squashed"]
    assert migrate("up", database=second_database).exit_code == 0


@pytest.mark.parametrize("target", ["1", "9"])
def test_nothing_to_squash_is_told(migrate: Migrate, write: Write, target: str) -> None:
    write(FILES)
    assert squash(migrate, "--to", target, "--no-data").exit_code == 2


def test_a_cast_of_an_array_is_read_as_postgresql_writes_it_the_second_time(
    database: Database,
) -> None:
    database.execute("create table t (code varchar(9) check (code in ('a', 'it''s, ]b')))")
    query = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 't'::regclass"
    ((first,),) = database.rows(query)
    database.execute(f"create table u (code varchar(9), {first})")
    ((second,),) = database.rows(query.replace("'t'", "'u'"))
    assert first != second
    assert read_again(first) == read_again(second) == second


def test_repeatable_files_are_left_alone(
    migrate: Migrate, write: Write, second_database: Database
) -> None:
    write({**FILES, "R__v.sql": "create view v as select 'replaces' as word from a;\n"})
    assert migrate("up").exit_code == 0
    assert "VIEW" not in squashed(migrate, "--to", "3", "--no-data")
    assert (migrate.directory / "R__v.sql").exists()
    for database in (migrate.database, second_database):
        assert migrate("up", database=database).exit_code == 0
        assert migrate("status", "--check", database=database).exit_code == 0
        assert database.rows("select count(*) from v") is not None
        assert migrate("drift", database=database).exit_code == 0
