"""A state that is read only where it changed, compared with one that is read in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

import psycopg
import pytest

from migrator.files.source import read_source
from migrator.interrupts import Interrupts
from migrator.model import Direction, Migration, Step
from migrator.rehearsal.meter import Meter
from migrator.rehearsal.schemas import marks
from migrator.rehearsal.stage import carry_out
from migrator.sql import parser

from ..conftest import Postgres
from .readings import Readings, readings
from .test_snapshots import BASE, CHANGES

# What other relations show of the one that changes, and rows that go without a trace.
MORE = [
    "create table public.a (id integer primary key, b integer, c text default 'x')",
    "create table public.d (id integer references public.a,"
    " e integer generated always as identity)",
    "create view public.v as select id, b from public.a",
    "create view public.w as select * from public.v",
    "alter table public.a rename to aa",
    "alter table public.aa rename b to bb",
    "alter view public.v rename to vv",
    "alter view public.vv rename column b to bbb",
    "alter table public.aa disable trigger all",
    "alter table public.aa enable trigger all",
    "grant select (c) on public.aa to snapshot_reader",
    "revoke select (c) on public.aa from snapshot_reader",
    "grant select on pg_catalog.pg_proc to snapshot_reader",
    "revoke select on pg_catalog.pg_proc from snapshot_reader",
    "grant select on public.d to snapshot_reader",
    "revoke all on public.d from snapshot_reader",
    "alter table public.aa alter c drop default",
    "alter table public.aa alter c set statistics 10",
    "comment on column public.d.e is 'x'",
    "comment on constraint d_id_fkey on public.d is 'y'",
    "comment on column public.d.e is null",
    "comment on constraint d_id_fkey on public.d is null",
    "comment on view public.w is 'z'; comment on table public.d is 'z'",
    "comment on view public.w is null",
    "savepoint s; alter table public.d add f text; rollback to s; alter table public.d add g text",
    "do $$ begin alter table public.d add h text; raise 'x'; exception when others then"
    " alter table public.d drop column g; end $$",
    "do $$ begin create table public.i (j integer); drop table public.i; end $$",
    "create table public.p (k integer, l text) partition by list (k)",
    "create table public.q (k integer, l text)",
    "create index on public.p (k)",
    "alter table public.p attach partition public.q for values in (1)",
    "alter table public.p rename l to m",
    "alter table public.p rename to pp",
    "alter index public.p_k_idx rename to other",
    "create function public.t() returns trigger language plpgsql as 'begin return new; end'",
    "create trigger tr before insert on public.pp for each row execute function public.t()",
    "alter table public.q disable trigger tr",
    "alter table public.pp disable trigger tr",
    "alter function public.t() rename to tt",
    "alter table public.pp detach partition public.q",
    "alter table public.q set schema app",
    "alter schema app rename to apps",
    "create sequence public.s",
    "alter sequence public.s owned by public.d.id",
    "alter sequence public.s owned by none",
    "alter table public.d alter id set default nextval('public.s')",
    "alter sequence public.s rename to ss",
    "alter table public.aa set (toast.autovacuum_enabled = false)",
    "create policy r on public.d using (id > 0)",
    "alter policy r on public.d rename to rr",
    "do $$ begin create policy s on public.d; raise 'x'; exception when others then"
    " drop policy rr on public.d; end $$",
    "create rule x as on delete to public.d do instead nothing",
    "drop rule x on public.d",
    "create domain public.dom as integer default 3; alter table public.d add z public.dom",
    "alter domain public.dom drop default",
    "alter domain public.dom add constraint u check (value > 0)",
    "alter domain public.dom drop constraint u",
    "alter domain public.dom rename to dom2",
    "create type public.comp as (a integer)",
    "alter type public.comp rename attribute a to b",
    "drop type public.comp",
    "reassign owned by snapshot_reader to current_user",
    "truncate public.d",
    "create materialized view public.m as select id from public.d",
    "refresh materialized view public.m",
    "create temporary table temp (id integer); drop table temp",
    "insert into public.aa (id) values (1)",
    "comment on schema public is 'x'",
    "comment on schema public is null",
    "comment on extension plpgsql is 'x'",
    "comment on extension plpgsql is null",
    "insert into pg_depend select 'pg_class'::regclass, 'public.d'::regclass, 0,"
    " 'pg_class'::regclass, 'public.aa'::regclass, 0, 'n'",
    "delete from pg_depend where objid = 'public.d'::regclass and refobjid = 'public.aa'::regclass",
    "create index aa_bb on public.aa (bb)",
    "create index pq on only public.pp (m)",
    "create table public.pp2 partition of public.pp for values in (2)",
    "alter index public.pq rename to pqq",
    "create table public.top (x integer not null, y text check (y <> ''))",
    "create table public.sub (z integer) inherits (public.top)",
    "alter table public.top rename x to xx",
    "alter table public.sub no inherit public.top",
    "alter table public.sub inherit public.top",
    "alter table public.top drop column y",
    "create view public.whole as select top from public.top",
    "create view public.part as select (top).xx from public.whole",
    "alter table public.top rename xx to x",
    "create function public.rows() returns setof public.top language sql as 'table public.top'",
    "create view public.called as select * from public.rows()",
    "alter table public.top add y integer",
    "create function public.run(text) returns void language plpgsql as 'begin execute $1; end'",
    "select public.run('alter table public.top add c text; grant select (c) on public.top"
    " to snapshot_reader')",
    "select public.run('alter table public.top rename c to cc')",
    "select public.run('drop table public.sub')",
    "create function public.after() returns event_trigger language plpgsql as"
    " $$ begin execute 'alter table public.top alter x set statistics 7'; end $$",
    "create event trigger e on ddl_command_end when tag in ('CREATE TABLE')"
    " execute function public.after()",
    "create table public.sub (z integer)",
    "drop event trigger e",
    "alter default privileges in schema public grant select on tables to snapshot_reader",
    "create table public.granted (id integer generated always as identity)",
    "alter table public.granted alter id set increment by 3",
    "create publication p for table public.granted",
    "alter table public.granted rename to given",
    "drop publication p",
    "update pg_class set reloptions = '{fillfactor=30}' where oid = 'public.given'::regclass",
    "do $$ begin for i in 1..40 loop"
    " execute format('create table public.many_%s (id serial primary key)', i); end loop; end $$",
    "analyze",
    "alter table public.d drop constraint d_id_fkey",
    "drop table public.aa cascade",
]


@pytest.fixture
def reader_role(postgres: Postgres) -> Iterator[None]:
    """The role that the base and the changes name, unless other tests have it."""
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        query = "select from pg_roles where rolname = 'snapshot_reader'"
        is_there = conn.execute(query).fetchone() is not None
        if not is_there:
            conn.execute("create role snapshot_reader")
        yield
        if not is_there:
            conn.execute("drop role snapshot_reader")


@pytest.fixture
def both(postgres: Postgres, reader_role: None) -> Iterator[Readings]:
    """Give sessions of a new database with one object of each kind."""
    with postgres.database() as database, readings(database.url) as both:
        both.stage.conn.execute(BASE)
        yield both


@pytest.mark.slow
@pytest.mark.parametrize("knows_locks", [True, False])
def test_a_state_that_is_read_where_it_changed_is_that_of_a_full_reading(
    both: Readings, *, knows_locks: bool
) -> None:
    scripts = [*MORE, *(script for script, _ in CHANGES)]
    state = both.full.read()
    wrong = {}
    for script in scripts:
        locked = both.change(script)
        if locked is not None:  # else it needs what another one has dropped
            state, _, found = both.again(state, locked if knows_locks else ())
            if found:
                wrong[script] = found
    assert not wrong


def _parts(both: Readings, scripts: list[str]) -> list[str]:
    """Return those of some scripts after which only a part was read."""
    found = []
    reader = both.reader
    state = reader.read()
    for script in scripts:
        locked = both.change(script)
        assert locked is not None, script
        again = reader.part(state, locked)
        if again:
            found.append(script)
        state = again or reader.read()
    return found


def test_small_changes_of_relations_need_no_full_reading(both: Readings) -> None:
    if both.stage.watcher.info.server_version < marks.FIRST_VERSION:
        pytest.skip("the counters of the catalogs cannot be read at once")
    scripts = [
        "create table public.t (id integer primary key, n text)",
        "alter table public.t add m integer",
        "create index on public.t (m)",
        "grant select (m) on public.t to snapshot_reader",
        "alter table public.t alter m set default 3",
        "alter table public.t alter m drop default",
        "comment on table public.t is 'x'",
        "comment on table public.t is null",
        "alter table public.t add constraint c check (m > 0)",
        "alter table public.t drop constraint c",
        "alter table public.t rename to u",
        "alter table public.u drop column m",
        "drop table public.u",
    ]
    assert _parts(both, scripts) == scripts


_TWICE = [
    "create table public.t (id integer primary key, n text default 'x', m integer default 1)",
    "create table public.k (k integer default 1, t text) partition by list (k)",
    "create table public.k1 partition of public.k default",
    "create table public.l (like public.t including all, o integer generated always as (1) stored)",
    "create table public.c as select 'x' as t",
    "create materialized view public.mv as select 'x' as t",
    "create table public.ch (own integer default 3) inherits (public.t)",
    "alter table public.t add o integer default 5",
    "alter table public.t add p timestamptz not null default clock_timestamp()",
    "drop table public.ch",
    "drop table public.k, public.l",
    "drop table public.t cascade",
]
"""What PostgreSQL writes twice, so that its counters count it twice."""


@pytest.mark.parametrize("columns", ["(f)", "(f, g)", "(f, g, h)", ""])
def test_a_change_without_a_lock_is_found_beside_rows_that_are_written_twice(
    both: Readings, columns: str
) -> None:
    both.change("create table public.other (f integer, g integer, h integer)")
    grant = f"grant select {columns} on public.other to snapshot_reader"
    wrong = {}
    for script in _TWICE:
        state = both.full.read()
        locked = both.change(f"{script}; {grant}")
        assert locked is not None, script
        _, _, found = both.again(state, locked)
        if found:
            wrong[script] = found
        both.change(f"revoke select {columns} on public.other from snapshot_reader")
    assert not wrong


def test_the_counters_of_catalogs_are_not_relied_on_where_a_function_turns_them_off(
    both: Readings,
) -> None:
    both.change(
        "create function public.quiet() returns void language sql"
        " set track_counts = off as 'select'"
    )
    assert both.reader.read().mark is None


def test_the_counters_of_catalogs_are_not_relied_on_where_a_session_does_not_count(
    both: Readings,
) -> None:
    state = both.reader.read()
    both.stage.conn.execute("set track_counts = off")
    both.change("create table public.uncounted (id integer)")
    assert both.reader.part(state, ()) is None
    assert both.reader.read().mark is None


@pytest.mark.parametrize(
    "reset", ["pg_stat_reset()", "pg_stat_reset_single_table_counters('pg_proc'::regclass)"]
)
def test_the_counters_of_catalogs_are_not_relied_on_where_a_script_resets_them(
    both: Readings, reset: str
) -> None:
    script = (
        f"select {reset}; create function public.f{{}}() returns int language sql as 'select 1'"
    )
    both.change(script.format(1))
    state = both.reader.read()
    both.change(script.format(2))
    assert both.reader.part(state, ()) is None


def test_the_counters_of_catalogs_are_not_relied_on_while_there_is_an_unknown_session(
    both: Readings,
) -> None:
    state = both.reader.read()
    with psycopg.connect(both.stage.conn.info.dsn, autocommit=True) as other:
        other.execute("create table public.elsewhere (id integer)")
        assert both.reader.part(state, ()) is None
        state = both.reader.read()
        other.execute("create function public.f() returns int language sql as 'select 1'")
        assert both.reader.part(state, ()) is None


def test_time_and_wal_of_the_first_statement_are_its_own_if_the_state_is_known(
    both: Readings,
) -> None:
    conn = both.stage.conn
    state = both.reader.read()
    known = replace(state, snapshot=replace(state.snapshot, answered=0.0, wal=None))
    source = read_source(PurePath("1_a.up.sql"), b"create table public.timed (id integer);")
    script = parser.parse(source.path, source.text)
    with Interrupts() as interrupts:
        meter = Meter(conn, max_lock=1, has_wal=True)
        stage = replace(both.stage, interrupts=interrupts, meter=meter)
        step = Step("1_a", Direction.UP, script, Migration("1_a", source, None))
        (traced,), error = carry_out(stage, step, known=known)
    assert error is None
    assert traced.effort.seconds < traced.effort.resumed / 2  # seconds since 1970
    assert traced.effort.wal
    assert [each.name for each in traced.trace.created] == ["public.timed"]
