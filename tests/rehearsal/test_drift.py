"""What drift leaves out, and what it says instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.rehearsal.schemas import schema
from migrator.rehearsal.schemas.ignore import KINDS, parse
from tests.conftest import Database, Migrate, Result, Write

from .test_snapshots import BASE

pytestmark = pytest.mark.slow

EVENTS = """
create table public.events (
    id bigint generated always as identity,
    at date not null,
    note text default 'none' check (note <> ''),
    primary key (id, at)
) partition by range (at);
create index events_by_note on public.events (note);
create table public.events_2020 partition of public.events
    for values from ('2020-01-01') to ('2021-01-01');
"""


@pytest.fixture
def monitor(database: Database) -> Iterator[str]:
    """A role that reads."""
    role = f"monitor_{database.name[-8:]}"
    database.execute(f"create role {role}")
    yield role
    database.execute(f"drop owned by {role}; drop role {role}")


def start(migrate: Migrate, write: Write, sql: str) -> Database:
    """Apply a first migration, and return the database."""
    write({"01_start.up.sql": sql})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    return migrate.database


def found(result: Result) -> list[str]:
    """Return the lines of the differences."""
    assert result.exit_code in (0, 4), result.stderr
    return [line for line in result.stdout.splitlines() if line[:2] in ("+ ", "- ", "~ ", "  ")]


def notes(result: Result) -> list[str]:
    lines = result.stdout.splitlines()
    return [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


# The form


def test_drift_reads_like_a_diff(
    migrate: Migrate, write: Write, database: Database, monitor: str
) -> None:
    start(migrate, write, "create table orders (id int primary key, note text);")
    database.execute(
        f"""
        alter table orders add hotfix text default 'x', alter note set not null;
        create unique index by_note on orders (note);
        create view shown as select id from orders;
        grant select, insert on orders to {monitor};
        comment on table orders is 'What was
            sold';
        """
    )
    result = migrate("drift")
    assert result.exit_code == 4
    assert result.stdout.replace("SELECT orders.id", "SELECT id") == (  # before 16
        "drift: the schema does not match its history\n"
        "--- the history\n"
        f"+++ the database {database.name}\n"
        "+ column public.orders.hotfix text default 'x'::text\n"
        "~ column public.orders.note\n"
        "  - text\n"
        "  + text not null\n"
        "+ index public.by_note UNIQUE ON public.orders USING btree (note)\n"
        "+ comment on table public.orders: What was sold\n"
        f"+ privileges of {monitor} on table public.orders: insert, select\n"
        "+ view public.shown: SELECT id FROM orders; (with 1 × column)\n"
        "\n"
        "6 differences\n"
    ).replace("FROM orders", "FROM public.orders")


def test_drift_as_json_has_both_definitions(migrate: Migrate, write: Write) -> None:
    database = start(migrate, write, "create table a (id int); create table b ();")
    database.execute("alter table a alter id type bigint; drop table b; create table c (id int)")
    result = migrate("drift", "--json")
    assert result.exit_code == 4
    keys = ("kind", "name", "change", "before", "after", "part_of")
    assert {tuple(each) for each in result.json["drift"]} == {keys}
    assert [tuple(each.values()) for each in result.json["drift"] if each["kind"] != "owner"] == [
        ("column", "public.a.id", "changed", "integer", "bigint", None),
        ("table", "public.b", "removed", "", None, None),
        ("table", "public.c", "added", None, "", None),
        ("column", "public.c.id", "added", None, "integer", "table public.c"),
    ]
    assert result.json["notes"] == []


# What is ignored


def test_what_patterns_name_is_left_out_on_both_sides(migrate: Migrate, write: Write) -> None:
    database = start(
        migrate, write, "create table kept (id int); create schema old; create table old.t ();"
    )
    database.execute(
        "drop schema old cascade; create table events_1 (id int primary key, n serial);"
        "create index by_hand on kept (id); create schema partman; create table partman.jobs ()"
    )
    patterns = ("schema old", "public.events_*", "schema partman")
    ignoring = [option for each in patterns for option in ("--ignore", each)]
    result = migrate("drift", *ignoring)
    assert found(result) == ["+ index public.by_hand ON public.kept USING btree (id)"]
    assert notes(result) == ["16 differences ignored"]
    clean = migrate("drift", *ignoring, "--ignore", "index public.by_hand")
    assert (clean.exit_code, found(clean)) == (0, [])
    rehearsed = migrate("rehearse", *ignoring, "--json")
    assert [each["name"] for each in rehearsed.json["drift"]] == ["public.by_hand"]
    assert rehearsed.json["drift_notes"] == ["16 differences ignored"]


def test_a_pattern_that_matches_nothing_is_said(migrate: Migrate, write: Write) -> None:
    start(migrate, write, "create table a (id int);")
    result = migrate("drift", "--ignore", "public.b", "--ignore", "table public.a")
    assert result.exit_code == 0
    assert notes(result) == ["--ignore matches nothing: public.b"]
    assert migrate("drift", "--ignore", "public.b", "--json").json["notes"] == notes(result)


@pytest.mark.parametrize("command", [["drift"], ["rehearse"], ["baseline", "01"]])
def test_a_pattern_that_cannot_be_read_is_a_usage_error(
    migrate: Migrate, write: Write, command: list[str]
) -> None:
    write({"01_start.up.sql": "create table a ();"})
    result = migrate(*command, "--ignore", 'public."a')
    assert result.exit_code == 2
    assert "--ignore" in result.stderr
    assert "unterminated quoted name at character 8" in result.stderr


def test_baseline_leaves_out_what_patterns_name(migrate: Migrate, write: Write) -> None:
    write({"01_start.up.sql": "create table a (id int); create table later (id int);"})
    migrate.database.execute("create table a (id int)")
    assert migrate("baseline", "01").exit_code == 4
    result = migrate("baseline", "01", "--ignore", "public.later", "--ignore", "public.nix")
    assert result.exit_code == 0, result.stderr
    assert "--ignore matches nothing: public.nix" in result.stderr


def test_every_label_is_a_pattern_that_matches_its_object(database: Database, monitor: str) -> None:
    database.execute(BASE.replace("snapshot_reader", monitor))
    database.execute(
        f"alter default privileges in schema app grant select on tables to {monitor};"
        f"alter default privileges revoke execute on functions from public;"
        'create table app."Odd ""name" ("a.b" int); revoke all on app."Odd ""name" from postgres;'
        "create operator class public.odd for type integer using btree"
        " as operator 1 <, function 1 btint4cmp(integer, integer);"
        'create function app."f(x" ("in" "char", text[]) returns int language sql as $$select 1$$'
    )
    with database.connect() as conn:
        objects = schema.read(conn, None)
    labels = {each.label: each for each in objects}
    attributes = {"comment", "owner", "privileges"}
    assert {each.kind for each in objects} <= KINDS | attributes
    for each in objects:
        parents = [labels[label] for label in each.parents[:1]]
        chain = [(known.kind, known.name) for known in (each, *parents)]
        assert parse(each.label).matches(chain), each.label


# Partitions made at run time


def test_partitions_made_at_run_time_are_a_note(
    migrate: Migrate, write: Write, monitor: str
) -> None:
    database = start(migrate, write, EVENTS)
    database.execute(
        f"""
        create table events_2021 partition of events
            for values from ('2021-01-01') to ('2022-01-01') with (fillfactor = 70);
        create table events_2022 (like events including all excluding identity);
        create index renamed on events_2022 (at);
        drop index renamed;
        alter table events attach partition events_2022
            for values from ('2022-01-01') to ('2023-01-01');
        create table events_2023 partition of events
            for values from ('2023-01-01') to ('2024-01-01') partition by range (at);
        create table events_2023_x partition of events_2023 default;
        alter index events_2021_note_idx rename to any_name;
        grant select on events, events_2021 to {monitor};
        """
    )
    result = migrate("drift")
    assert found(result) == [f"+ privileges of {monitor} on table public.events: select"]
    assert notes(result) == ["4 partitions of public.events, made outside the history"]
    database.execute(f"revoke all on events from {monitor}")
    assert found(migrate("drift")) == [
        f"+ privileges of {monitor} on table public.events_2021: select"
    ]
    database.execute(f"revoke all on events_2021 from {monitor}")
    assert migrate("drift").exit_code == 0
    write({"02_more.up.sql": "alter table events add more int;"})
    result = migrate("rehearse", "--json")
    assert result.json["drift"] == []
    assert result.json["drift_notes"] == ["4 partitions of public.events, made outside the history"]
    # The rehearsal itself has only what the history made.
    assert "events_2021" not in str(result.json["migrations"])


def test_a_partition_that_deviates_from_its_parent_is_drift(migrate: Migrate, write: Write) -> None:
    database = start(migrate, write, EVENTS)
    database.execute(
        """
        create table events_2021 partition of events
            for values from ('2021-01-01') to ('2022-01-01');
        alter table events_2021 alter note set default 'other';
        create index by_hand on events_2021 (at);
        create unlogged table events_2022 partition of events
            for values from ('2022-01-01') to ('2023-01-01');
        """
    )
    result = migrate("drift")
    assert found(result) == [
        "~ column public.events_2021.note",
        "  - text default 'none'::text inherited",
        "  + text default 'other'::text inherited",
        "+ index public.by_hand ON public.events_2021 USING btree (at)",
        "~ table public.events_2022",
        "  - partition of public.events FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')",
        "  + unlogged partition of public.events FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')",
    ]
    assert notes(result) == ["2 partitions of public.events, made outside the history"]


def test_a_partition_of_a_table_that_the_history_did_not_make_is_drift(
    migrate: Migrate, write: Write
) -> None:
    database = start(migrate, write, "create table a ();")
    database.execute("create table p (id int) partition by list (id)")
    database.execute("create table p1 partition of p default")
    assert found(migrate("drift")) == [
        "+ table public.p partition by LIST (id) (with 1 × column)",
        "+ table public.p1 partition of public.p DEFAULT (with 1 × column)",
    ]


# Grants of default privileges


def test_grants_that_default_privileges_explain_are_a_note(
    migrate: Migrate, write: Write, database: Database, monitor: str
) -> None:
    database.execute(
        f"alter default privileges grant select on tables to {monitor};"
        f"alter default privileges grant usage on schemas to {monitor};"
        f"alter default privileges in schema public grant update on tables to {monitor};"
        f"alter default privileges revoke execute on functions from public"
    )
    start(
        migrate,
        write,
        "create table a (id int); create table b (id int); create schema app; create sequence s;"
        "create function f() returns int language sql as 'select 1';",
    )
    database.execute(f"grant usage on sequence s to {monitor}; grant delete on b to {monitor}")
    result = migrate("drift", "--ignore", "default privileges")
    assert found(result) == [
        f"+ privileges of {monitor} on table public.b: delete, select, update",
        f"+ privileges of {monitor} on sequence public.s: usage",
    ]
    assert notes(result) == [
        f"privileges of {monitor} on 2 objects, given by default privileges",
        "privileges of public on 1 object, given by default privileges",
        "4 differences ignored",
    ]
