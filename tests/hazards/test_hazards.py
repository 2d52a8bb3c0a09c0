"""Hazards: examples on a real server, then tables of made-up traces.

`examples/<id>/bad*.sql` has that finding and no other, `good*.sql` does not have it.  An example
may start with `-- also: ID` for a finding that comes with it, and `-- from: 18` for the oldest
PostgreSQL that can run it.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from migrator import config
from migrator.files.source import read_source
from migrator.hazards.assess import find
from migrator.hazards.catalogue import (
    Facts,
    Finding,
    Hazard,
    Severity,
    Size,
    data_lost,
    hazards,
    problems,
)
from migrator.hazards.pending import sizes_after
from migrator.hazards.possible import may_have
from migrator.hazards.sizes import size_text
from migrator.history import table
from migrator.interrupts import Interrupts
from migrator.model import Direction, Migration, Step
from migrator.postgres import connection
from migrator.rehearsal import facts, steps
from migrator.rehearsal.stage import Stage
from migrator.sql import parser
from migrator.sql.script import Script
from migrator.tracing.trace import Change, ConstraintChange, LockMode, Relation, Touch, Trace

from ..conftest import Database

EXAMPLES = Path(__file__).parent / "examples"
FILE = PurePath("1_a.up.sql")
SCHEMA = "public"
MEGABYTE = 1 << 20
LARGE = Size(41 << 30, 210_000_000)
SMALL = 8 * MEGABYTE


# On a real server


def examples(prefix: str) -> list[str]:
    return sorted(
        str(path.relative_to(EXAMPLES).with_suffix(""))
        for path in EXAMPLES.glob(f"*/{prefix}*.sql")
    )


def header(text: str, name: str) -> list[str]:
    return re.findall(rf"^-- {name}: (.*)$", text, re.MULTILINE)


def rehearse(database: Database, setup: str, text: str) -> tuple[Finding, ...]:
    """Rehearse a script as `migrator rehearse` does, with every table large."""
    database.execute(setup)
    target = config.Database(database.url)
    migration = Migration("1_a", read_source(FILE, text.encode()), None)
    step = Step(migration.version, Direction.UP, script(text), migration)
    with (
        Interrupts() as interrupts,
        closing(connection.connect(target)) as conn,
        closing(connection.connect(target)) as watcher,
    ):
        sizes = dict.fromkeys(facts.sizes(conn), LARGE)
        table.ensure(conn, SCHEMA)
        stage = Stage(
            conn=conn,
            watcher=watcher,
            schema=SCHEMA,
            settings=config.Settings(),
            small=SMALL,
            interrupts=interrupts,
            notify=lambda _event: None,
            pid=connection.backend_pid(conn),
        )
        (rehearsed,) = steps.rehearse(stage, [step], (), sizes)
    assert rehearsed.error is None or rehearsed.findings, rehearsed.error
    units = {each.offset: unit for unit in step.script.units for each in unit.statements}
    for each in rehearsed.findings:
        at = each.statement
        assert at is None or may_have(at, units[at.offset], each.hazard.id), each
    return rehearsed.findings


def rehearse_example(database: Database, example: str) -> tuple[Finding, ...]:
    path = (EXAMPLES / example).with_suffix(".sql")
    text = path.read_text()
    for version in header(text, "from"):
        if database.postgres.version < int(version):
            pytest.skip(f"needs PostgreSQL {version}")
    return rehearse(database, path.with_name("setup.sql").read_text(), text)


@pytest.mark.slow
@pytest.mark.parametrize("example", examples("bad"))
def test_a_bad_example_has_its_hazard_and_no_other(database: Database, example: str) -> None:
    findings = rehearse_example(database, example)
    hazard, text = example.partition("/")[0], (EXAMPLES / f"{example}.sql").read_text()
    open_findings = {finding.hazard.id for finding in findings if finding.is_open}
    if hazard == "outside-transaction":
        assert [finding.hazard.id for finding in findings] == [hazard]
        assert not open_findings
    else:
        assert open_findings == {hazard, *header(text, "also")}, findings
    assert all("{" not in finding.message for finding in findings)


@pytest.mark.slow
@pytest.mark.parametrize("example", examples("good"))
def test_a_good_example_does_not_have_that_hazard(database: Database, example: str) -> None:
    hazard = example.partition("/")[0]
    found = [f for f in rehearse_example(database, example) if f.hazard.id == hazard]
    assert [f for f in found if f.is_open or hazard == "outside-transaction"] == []


def test_every_hazard_has_a_bad_and_a_good_example() -> None:
    # Found in the rehearsal of the down, in the comments, or in the rows of the target or a copy.
    compared = {"down-loses-data", "down-does-not-undo", "allow-unused", "breaks-on-data"}
    compared |= {"lock-too-long", "query-broken", "query-slower"}
    for examples_of in (examples("bad"), examples("good")):
        assert {each.partition("/")[0] for each in examples_of} == set(hazards()) - compared


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "alter table events add check (id > 0);",
        "alter table events alter column id set not null;",
        "alter table events add column note text not null;",
        "alter table events drop column id;",
        "alter table events rename column id to number;",
        "create index on events (id);",
        "drop table events;",
    ],
)
def test_a_partitioned_table_is_reported_without_its_partitions(
    database: Database, text: str
) -> None:
    setup = """
        create table events (id bigint, at date) partition by range (at);
        create table events_1 partition of events for values from ('2024-01-01') to ('2025-01-01');
        create table events_2 partition of events for values from ('2025-01-01') to ('2026-01-01');
    """
    assert [finding.relation for finding in rehearse(database, setup, text)] == ["public.events"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "alter table orders alter column id type bigint;",
            "rewrites public.orders (41 GB, 210 M rows) under ACCESS EXCLUSIVE "
            "(blocks reads and writes)",
        ),
        (
            "create index i on orders (id);",
            "builds public.i on public.orders (41 GB, 210 M rows) under SHARE (blocks writes)",
        ),
        (
            "drop table orders cascade;",
            "drops public.orders (41 GB, 210 M rows), together with "
            "constraint items_order_id_fkey on table public.items and view public.numbers",
        ),
        (
            "alter table items add note text;\n\nselect 1;\nupdate items set note = '';",
            "holds ACCESS EXCLUSIVE (blocks reads and writes) on public.items "
            "(41 GB, 210 M rows) during 2 later statements: line 4 writes public.items",
        ),
        (
            "create table notes (order_id integer references orders);",
            "foreign key notes_order_id_fkey has no index on order_id of public.notes",
        ),
    ],
)
def test_a_message_names_tables_sizes_and_what_is_blocked(
    database: Database, text: str, message: str
) -> None:
    setup = """
        create table orders (id integer primary key, n integer);
        create table items (order_id integer references orders);
        create view numbers as select n from orders;
    """
    if text.startswith("alter table orders"):
        setup = "create table orders (id integer)"
    assert rehearse(database, setup, text)[0].message == message


# Tables of values


ORDERS = Relation(16400, "public.orders", "r")
ITEMS = Relation(16500, "public.items", "r")
ALTER = Touch(ORDERS, LockMode.ACCESS_EXCLUSIVE, is_stronger=True)
NONE = Trace()


def script(text: str) -> Script:
    return parser.parse(FILE, text)


def findings(
    text: str, *traces: Trace, sizes: dict[str, Size] | None = None, known: Facts | None = None
) -> list[Finding]:
    """Return the findings for made-up traces of a script's statements."""
    read = script(text)
    statements = [statement for unit in read.units for statement in unit.statements]
    given = replace(known or Facts(), sizes=sizes or {})
    return list(find(read, list(zip(statements, traces, strict=True)), facts=given, small=SMALL))


REWRITE = Trace((replace(ALTER, rewritten=True),))
DROP = Trace((replace(ALTER, dropped=True),))
REQUIRED = Trace((replace(ALTER, columns_added=("note",), columns_required=("note",)),))


@pytest.mark.parametrize(
    ("trace", "size", "expected"),
    [
        (REWRITE, LARGE, Severity.FINDING),
        (REWRITE, Size(SMALL, 9), Severity.FINDING),
        (REWRITE, Size(SMALL - 1, 9), Severity.INFORMATION),
        (REWRITE, None, Severity.FINDING),  # unknown size
        (DROP, Size(0, 0), Severity.FINDING),  # data is lost, whatever the size
        (REQUIRED, Size(8192, 1), Severity.FINDING),
        (REQUIRED, Size(8192, None), Severity.FINDING),
        (REQUIRED, Size(0, 0), Severity.INFORMATION),
    ],
)
def test_a_small_table_is_a_note_if_only_time_is_at_stake(
    trace: Trace, size: Size | None, expected: Severity
) -> None:
    (finding,) = findings("alter;", trace, sizes={"public.orders": size} if size else {})
    assert finding.severity is expected


@pytest.mark.parametrize(
    ("items", "expected"), [(LARGE, Severity.FINDING), (Size(0, 0), Severity.INFORMATION)]
)
def test_a_lock_on_a_small_table_is_a_finding_if_later_statements_work_on_a_large_one(
    items: Size, expected: Severity
) -> None:
    later = Trace((Touch(ITEMS, LockMode.ROW_EXCLUSIVE, is_stronger=True, scans=1),))
    sizes = {"public.orders": Size(0, 0), "public.items": items}
    (finding,) = findings("alter;\nupdate items;", Trace((ALTER,)), later, sizes=sizes)
    assert (finding.hazard.id, finding.severity) == ("lock-held", expected)


def test_a_lock_is_reported_again_only_if_it_blocks_more() -> None:
    modes = (LockMode.SHARE, LockMode.SHARE_ROW_EXCLUSIVE, LockMode.ACCESS_EXCLUSIVE)
    traces = [Trace((Touch(ORDERS, mode, is_stronger=True),)) for mode in modes]
    found = findings("a;b;c;d;", *traces, NONE)
    assert [f.statement and f.statement.text for f in found] == ["a;", "c;"]


def test_a_table_that_an_earlier_transaction_of_the_file_created_has_no_hazards() -> None:
    created = Trace((replace(ALTER, is_ours=True),), created=(ORDERS,))
    assert findings("-- migrator: no-transaction\na;\nb;", created, REWRITE) == []


def test_a_renamed_table_keeps_its_size() -> None:
    purchases = replace(ORDERS, name="public.purchases")
    renamed = Trace((replace(ALTER, relation=purchases, renamed_from="public.orders"),))
    rewritten = Trace((Touch(purchases, LockMode.ACCESS_EXCLUSIVE, rewritten=True),))
    sizes = {"public.orders": LARGE}
    found = findings("a;b;", renamed, rewritten, sizes=sizes)
    assert "public.purchases (41 GB, 210 M rows)" in found[-1].message
    assert sizes_after(sizes, [renamed]) == {"public.purchases": LARGE}


def test_new_tables_are_empty_after_a_script_and_dropped_tables_have_no_size() -> None:
    traces = [Trace(created=(ITEMS,)), DROP]
    assert sizes_after({"public.orders": LARGE}, traces) == {
        "public.items": Size(0, 0, is_empty=True)
    }


@pytest.mark.parametrize(
    ("indexes", "is_found"),
    [
        ((), True),
        ((("a", "b"),), False),
        ((("b", "a", "c"),), False),
        ((("a", "c", "b"),), True),
        ((("a",),), True),
        ((("",), ("a", "b")), False),
    ],
)
def test_a_foreign_key_has_an_index_if_one_starts_with_its_columns(
    indexes: tuple[tuple[str, ...], ...], is_found: bool
) -> None:
    key = ConstraintChange("k", "f", Change.ADDED_NOT_VALID, ("a", "b"), "public.items")
    trace = Trace((replace(ALTER, constraints=(key,)),))
    found = findings("alter;", trace, known=Facts(indexes={"public.orders": indexes}))
    assert bool(found) is is_found


def test_a_foreign_key_that_an_index_serves_partly_is_a_note_with_the_indexed_columns() -> None:
    key = ConstraintChange("k", "f", Change.ADDED_NOT_VALID, ("a", "b"), "public.items")
    trace = Trace((replace(ALTER, constraints=(key,)),))
    (found,) = findings("alter;", trace, known=Facts(indexes={"public.orders": (("b", "c"),)}))
    assert found.severity is Severity.INFORMATION
    assert found.message == "foreign key k has no index on a and b of public.orders, only on b"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(0, 0), "0 bytes, 0 rows"),
        (Size(8192), "8192 bytes"),
        (Size(SMALL, 9_999), "8192 kB, 9999 rows"),
        (Size(12 * MEGABYTE, 10_000), "12 MB, 10 k rows"),
        (LARGE, "41 GB, 210 M rows"),
        (Size(0, 999_600), "0 bytes, 1.0 M rows"),
        (Size(0, 2_000_000), "0 bytes, 2.0 M rows"),
        (Size(50 << 40, 10**13), "50 TB, 10000 G rows"),
    ],
)
def test_a_size_is_written_as_the_server_does(size: Size, expected: str) -> None:
    assert size_text(size) == expected


# What comments accept


@pytest.mark.parametrize(
    ("comment", "accepted"),
    [
        ("-- migrator: allow table-rewrite the table is read-only at night", True),
        ("--migrator: allow  table-rewrite  at night", True),
        ("-- migrator: allow lock-held at night", False),
        ("-- allow table-rewrite at night", False),
        ("-- migrator: allow table-rewrite", False),
        ("/* -- migrator: allow table-rewrite at night */", False),
    ],
)
def test_a_comment_above_a_statement_accepts_a_hazard(comment: str, accepted: bool) -> None:
    text = f"select 1;\n\n-- because\n{comment}\nalter table orders set unlogged;"
    (finding,) = findings(text, NONE, REWRITE)
    assert (finding.accepted is not None) is accepted
    assert finding.is_open is not accepted


def test_a_comment_accepts_a_hazard_of_the_next_statement_only() -> None:
    text = "-- migrator: allow table-rewrite at night\nalter;\nalter;"
    found = [f for f in findings(text, REWRITE, REWRITE) if f.hazard.id == "table-rewrite"]
    assert [finding.accepted for finding in found] == ["at night", None]


def test_each_comment_above_a_statement_accepts_a_hazard() -> None:
    text = (
        "-- migrator: allow table-rewrite at night\n"
        "-- migrator: allow lock-held for a minute\nalter;\nalter;"
    )
    found = findings(text, REWRITE, NONE)
    assert {f.hazard.id: f.accepted for f in found} == {
        "table-rewrite": "at night",
        "lock-held": "for a minute",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- migrator: allow table-rewrite at night\nalter;", []),
        (
            "alter;\n-- migrator: allow tabel-rewrite at night\nalter;",
            ['1_a.up.sql:2:1: there is no hazard "tabel-rewrite"'],
        ),
        ("-- migrator: allow\nalter;", ["1_a.up.sql:1:1: allow names no hazard"]),
        (
            "  -- migrator: allow lock-held\nalter;",
            ["1_a.up.sql:1:3: allow lock-held gives no reason"],
        ),
        (
            "alter;\n-- migrator: allow lock-held at night",
            ["1_a.up.sql:2:1: allow lock-held is not above a statement"],
        ),
        (
            "-- migrator: allow lock-held at night\nbegin;\nalter;\ncommit;",
            ["1_a.up.sql:1:1: allow lock-held is not above a statement"],
        ),
    ],
)
def test_a_comment_that_accepts_nothing_is_a_problem(text: str, expected: list[str]) -> None:
    assert [str(problem) for problem in problems(script(text))] == expected


# The catalogue


@pytest.mark.parametrize("hazard", hazards().values(), ids=hazards().keys())
def test_a_hazard_has_full_sentences(hazard: Hazard) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", hazard.id)
    for sentence in (hazard.condition, hazard.effect, hazard.workaround):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
    assert not hazard.title.endswith(".")


def test_the_note_on_lost_data_names_what_is_restored() -> None:
    finding = data_lost("column public.users.phone")
    assert finding.hazard.id == "down-loses-data"
    assert finding.message == (
        "the down script restores column public.users.phone, but not its data"
    )
