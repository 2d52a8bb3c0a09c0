"""Nothing that others have created is run by our own SQL, whatever name it has.

The traps are a function, operator, type and view for each one of PostgreSQL's, with the same
arguments, in a schema that is searched first.  One that is touched is an error that says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import Migrate, Write
from ..sessions import holding

pytestmark = pytest.mark.slow

PLANT = """
create function {schema}.sprung(name text) returns boolean language plpgsql as $f$
begin
    raise exception 'sprung: %', name;
end $f$;

do $do$
declare
    body constant text := $b$ language plpgsql as $f$
        begin perform {schema}.sprung(%L); return null; end $f$ $b$;
    planted integer := 0;
    object record;
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog', true);
    for object in
        -- operators first: their functions have names of their own
        select format('create function {schema}.trap_%s(%s) returns %s', o.oid,
                   concat_ws(', ', nullif(o.oprleft, 0)::regtype, o.oprright::regtype),
                   o.oprresult::regtype)
                   || format(body, o.oprname)
                   || format(
                       '; create operator {schema}.%s (%s, function = {schema}.trap_%s)',
                       o.oprname,
                       concat_ws(', ', 'leftarg = ' || nullif(o.oprleft, 0)::regtype,
                                 'rightarg = ' || o.oprright::regtype), o.oid) as command
        from pg_catalog.pg_operator o
        where oprnamespace = 'pg_catalog'::regnamespace
        union all
        select format('create function {schema}.%I(%s) returns %s', p.proname,
                   oidvectortypes(p.proargtypes),
                   case when p.prorettype = 'record'::regtype then 'text'
                        else p.prorettype::regtype::text end)
                   || format(body, p.proname)
        from pg_catalog.pg_proc p
        where pronamespace = 'pg_catalog'::regnamespace
          and prokind <> 'p'
          and not 2281 = any (proargtypes)  -- internal
        union all
        -- those with arguments of any type, as they are likely called
        select format('create function {schema}.%I(%s) returns text', name, arguments)
                   || format(body, name)
        from unnest(array['format', 'concat_ws', 'concat', 'json_build_array',
                          'jsonb_build_object']) as n (name),
             unnest(array['text, name', 'text, text', 'text, name, name', 'text, name, text',
                          'text, text, text', 'text, text, text, text', 'text, regclass'])
                 as a (arguments)
        union all
        select format('create view {schema}.%I as select * from pg_catalog.%1$I'
                   ' where {schema}.sprung(%1$L)', relname)
        from pg_catalog.pg_class
        where relnamespace = 'pg_catalog'::regnamespace
          and relkind in ('r', 'v')
        union all
        select * from (
            select format('create domain {schema}.%I as pg_catalog.%1$I'
                       ' check ({schema}.sprung(%1$L))', typname)
            from pg_catalog.pg_type
            where typnamespace = 'pg_catalog'::regnamespace
              and typtype = 'b'
              and typcategory <> 'A'
        ) as types
    loop
        begin
            execute object.command;
            planted := planted + 1;
        exception when others then
            null;  -- PostgreSQL does not let everything be created
        end;
    end loop;
    if planted < 2500 then
        raise exception 'only % traps', planted;
    end if;
end
$do$;
"""
OPTION = "-- migrator: no-transaction\n"
FILES = {
    "02_a.up.sql": "create table public.a (n int);\n"
    "create index if not exists i on public.a (n);\n",
    "02_a.down.sql": "drop table public.a;\n",
    "03_b.up.sql": f"{OPTION}create table public.b (n int);\n"
    "create index concurrently if not exists j on public.b (n);\nvacuum public.b;\n",
    "03_b.down.sql": f"{OPTION}drop table public.b;\n",
}


@pytest.fixture(params=["traps", "public", "postgres"])
def planted(migrate: Migrate, write: Write, request: pytest.FixtureRequest) -> Path:
    """A database with the traps, which a first migration has planted."""
    schema: str = request.param
    create = "" if schema == "public" else f"create schema {schema};\n"
    # The history is elsewhere: a view would be in the way of nothing.
    migrate.database.execute("create schema history")
    text = create + PLANT.replace("{schema}", schema)
    result = migrate("--schema", "history", "up", dir=write({"01_traps.up.sql": text}))
    assert result.exit_code == 0, result.stderr
    if schema == "traps":
        path = f"alter database {migrate.database.name} set search_path = traps, pg_catalog, public"
        migrate.database.execute(path)
    return migrate.directory


def test_no_command_runs_what_others_have_created(
    migrate: Migrate, planted: Path, write: Write
) -> None:
    write(FILES)
    for command in (
        "status",
        "verify",
        "up --dry-run",
        "rehearse",
        "rehearse --on-target",
        "up --trace",
        "log",
        "drift",
        "doctor",
        "down --steps 2",
        "up",
        "redo",
        "repair 03 --reverted --reason x",
        "baseline 03",
    ):
        result = migrate("--schema", "history", *command.split())
        assert result.exit_code == 0, (command, result.stderr)
        assert "sprung" not in result.stdout + result.stderr, command


def test_no_look_at_blockers_or_half_made_indexes_runs_what_others_have_created(
    migrate: Migrate, planted: Path, write: Write
) -> None:
    write(FILES)
    assert migrate("--schema", "history", "up", "--to", "02").exit_code == 0
    migrate.database.execute("insert into public.a values (1), (1)")
    index = "create unique index concurrently k on public.a (n);\n"
    write({"03_b.up.sql": "alter table public.a add m int;\n", "04_c.up.sql": index})
    with holding(migrate.database, "lock table public.a"):
        limits = ("--lock-attempts", "1", "--lock-timeout", "500ms")
        result = migrate("--schema", "history", "up", *limits)
    assert result.exit_code == 5
    assert "blocked by" in result.stderr
    for code in (1, 0):
        result = migrate("--schema", "history", "up")
        assert result.exit_code == code, result.stderr
        assert "sprung" not in result.stderr
        migrate.database.execute("truncate public.a")
    assert "dropping the invalid index public.k" in result.stderr


@pytest.mark.parametrize("option", ["", OPTION])
def test_no_statement_of_ours_runs_what_a_script_has_created_for_its_session(
    migrate: Migrate, write: Write, option: str
) -> None:
    """Temporary tables and types are searched before those of PostgreSQL, unless told otherwise."""
    migrate.database.execute("create schema history; create table public.z (n int)")
    text = f"{option}{PLANT.replace('{schema}', 'pg_temp')}"
    index = "create index concurrently if not exists y on public.z (n);\n" * bool(option)
    write({"01_traps.up.sql": f"{text}{index}select 1;\n", "01_traps.down.sql": text, **FILES})
    for command in ("up --trace", "redo --steps 3"):
        result = migrate("--schema", "history", *command.split())
        assert result.exit_code == 0, (command, result.stderr)
        assert "sprung" not in result.stdout + result.stderr, command
