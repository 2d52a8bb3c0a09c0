"""Traces and their JSON, and comparing snapshots, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator.tracing import diff
from migrator.tracing.diff import Snapshot
from migrator.tracing.trace import (
    Change,
    ConstraintChange,
    LockMode,
    ObjectChange,
    Relation,
    Touch,
    Trace,
    from_json,
    to_json,
)

# Lock modes


@pytest.mark.parametrize(
    ("mode", "spelled", "stops_reads", "stops_writes"),
    [
        ("AccessShareLock", "ACCESS SHARE", False, False),
        ("RowShareLock", "ROW SHARE", False, False),
        ("RowExclusiveLock", "ROW EXCLUSIVE", False, False),
        ("ShareUpdateExclusiveLock", "SHARE UPDATE EXCLUSIVE", False, False),
        ("ShareLock", "SHARE", False, True),
        ("ShareRowExclusiveLock", "SHARE ROW EXCLUSIVE", False, True),
        ("ExclusiveLock", "EXCLUSIVE", False, True),
        ("AccessExclusiveLock", "ACCESS EXCLUSIVE", True, True),
    ],
)
def test_a_lock_mode(mode: str, spelled: str, stops_reads: bool, stops_writes: bool) -> None:
    parsed = LockMode.parse(mode)
    assert parsed.sql == spelled
    assert (parsed.blocks_reads, parsed.blocks_writes) == (stops_reads, stops_writes)


# JSON

FULL = Trace(
    touches=(
        Touch(
            Relation(1, "public.orders", "r"),
            LockMode.ACCESS_EXCLUSIVE,
            is_stronger=True,
            rewritten=True,
            renamed_from='public."Orders"',
            scans=2,
            rows_read=7,
            inserted=1,
            updated=2,
            deleted=3,
            columns_added=("a",),
            columns_dropped=("b",),
            columns_renamed=(("c", '"C"'),),
            not_null_set=("d",),
            types_changed=("e",),
            constraints=(
                ConstraintChange("f", "f", Change.ADDED_NOT_VALID, ("d", "e"), "public.customers"),
                ConstraintChange("g", "c", Change.DROPPED),
            ),
        ),
        Touch(Relation(2, "public.orders_a", "i", "public.orders"), None, is_ours=True),
        Touch(Relation(3, "public.é", "v"), LockMode.SHARE_UPDATE_EXCLUSIVE, dropped=True),
    ),
    created=(Relation(2, "public.orders_a", "i", "public.orders"),),
    objects=(
        ObjectChange("type", "mood", values_added=("x",), values_renamed=(("y", "z"),)),
        ObjectChange("function", "f()", is_ours=True, dropped=True, renamed_from="e()"),
    ),
    sampled=True,
)


@pytest.mark.parametrize("trace", [FULL, Trace()])
def test_a_trace_survives_json(trace: Trace) -> None:
    assert from_json(json.loads(json.dumps(to_json(trace)))) == trace


def test_the_json_of_a_trace_leaves_out_defaults() -> None:
    trace = Trace(touches=(Touch(Relation(1, "public.t", "r"), LockMode.SHARE, is_stronger=True),))
    assert to_json(trace) == {
        "touches": [
            {
                "relation": {"oid": 1, "name": "public.t", "kind": "r"},
                "mode": "SHARE",
                "is_stronger": True,
            }
        ]
    }


# Differences


def table(oid: int, mode: int | None = None, **given: Any) -> list[Any]:
    """Return a table as the server sends it."""
    state = {
        "name": "public.t",
        "kind": "r",
        "file": oid,
        "table": None,
        "counts": None,
        "columns": [[1, "a", 23, -1, False]],
        "constraints": [],
    }
    return [mode, oid, *(state | given).values()]


def snapshot(*relations: list[Any], complete: bool = False, objects: Any = None) -> Snapshot:
    answer = {
        "complete": complete,
        "asked": 0,
        "wal": None,
        "relations": list(relations) or None,
        "objects": objects,
        "answered": 0,
    }
    return diff.read(json.dumps(answer))


START = snapshot(table(1), complete=True)


def test_a_statement_that_does_nothing_has_an_empty_trace() -> None:
    assert diff.difference(START, snapshot(), START) == Trace()


def test_a_lock_held_before_touches_nothing() -> None:
    held = snapshot(table(1, 8))
    assert diff.difference(held, held, START) == Trace()


def test_a_stronger_lock_is_a_touch() -> None:
    before, after = snapshot(table(1, 1, columns=None, constraints=None)), snapshot(table(1, 8))
    (touch,) = diff.difference(before, after, START).touches
    assert touch == Touch(Relation(1, "public.t", "r"), LockMode.ACCESS_EXCLUSIVE, is_stronger=True)


def test_columns_that_were_not_asked_for_before_are_taken_from_the_start() -> None:
    before = snapshot(table(1, 1, columns=None, constraints=None))
    after = snapshot(table(1, 8, columns=[[2, "b", 23, -1, True]]))
    (touch,) = diff.difference(before, after, START).touches
    assert (touch.columns_added, touch.columns_dropped) == (("b",), ("a",))
    assert touch.not_null_set == ()


def test_columns_that_were_not_asked_for_are_not_dropped() -> None:
    after = snapshot(table(1, 3, columns=None, constraints=None, counts=[0, 0, 5, 0, 0]))
    (touch,) = diff.difference(START, after, START).touches
    assert (touch.columns_dropped, touch.inserted) == ((), 5)


def test_a_relation_that_a_statement_creates_and_drops_is_not_in_its_trace() -> None:
    assert diff.difference(START, snapshot([8, 99]), START) == Trace()


def test_a_relation_is_dropped_by_one_statement_only() -> None:
    gone = snapshot([8, 1])
    (touch,) = diff.difference(START, gone, START).touches
    assert touch.dropped
    assert touch.relation.name == "public.t"
    assert diff.difference(gone, gone, START) == Trace()


def test_counters_that_truncate_resets_count_nothing() -> None:
    before = snapshot(table(1, 8, counts=[1, 5, 3, 0, 0]))
    after = snapshot(table(1, 8, counts=[1, 5, 0, 0, 0], file=2))
    (touch,) = diff.difference(before, after, START).touches
    assert (touch.rewritten, touch.inserted, touch.scans) == (True, 0, 0)


def test_an_index_that_replaces_one_of_the_same_name_is_not_new() -> None:
    index: dict[str, Any] = {"name": "public.t_a", "kind": "i", "table": 1}
    index |= {"columns": None, "constraints": None}
    start = snapshot(table(1), table(2, **index), complete=True)
    after = snapshot(table(1, 8), [8, 2], table(3, 6, **index | {"file": 2}))
    kept = diff.difference(start, after, start)
    assert kept.created == ()
    assert [(t.relation.oid, t.mode, t.is_ours, t.rewritten, t.dropped) for t in kept.touches] == [
        (1, LockMode.ACCESS_EXCLUSIVE, False, False, False),
        (3, LockMode.ACCESS_EXCLUSIVE, False, False, False),
    ]
    rebuilt = diff.difference(start, snapshot([8, 2], table(3, 8, **index)), start)
    assert rebuilt.touches[0].rewritten


def test_a_constraint_added_again_for_a_new_type_is_not_new() -> None:
    check = [["t_a_check", "c", True, [1], 0, 0]]
    before, after = ([[oid, *each] for each in check] for oid in (5, 6))
    start = snapshot(table(1, constraints=before), complete=True)
    retyped = [[1, "a", 20, -1, False]]
    same = diff.difference(start, snapshot(table(1, 8, columns=retyped, constraints=after)), start)
    assert same.touches[0].constraints == ()
    other = diff.difference(start, snapshot(table(1, 8, constraints=after)), start)
    assert [each.change for each in other.touches[0].constraints] == [
        Change.DROPPED,
        Change.ADDED_VALID,
    ]


def test_a_relation_missing_in_a_complete_snapshot_was_dropped() -> None:
    after = snapshot(table(7, name="public.u"), complete=True)
    trace = diff.difference(START, after, START)
    assert [(touch.relation.name, touch.dropped) for touch in trace.touches] == [
        ("public.t", True),
        ("public.u", False),
    ]
    assert [relation.name for relation in trace.created] == ["public.u"]


TYPE = 1247


def test_a_dropped_object_has_its_name_from_before() -> None:
    start = snapshot(objects=[[TYPE, 5, "type", "public.mood", [[6, "calm"]]]], complete=True)
    gone = snapshot(objects=[[TYPE, 5, None, None, None]])
    dropped = (ObjectChange("type", "public.mood", dropped=True),)
    assert diff.difference(start, gone, start).objects == dropped
    assert diff.difference(gone, gone, start).objects == ()


def test_enum_labels_are_compared_by_oid() -> None:
    start = snapshot(objects=[[TYPE, 5, "type", "m", [[6, "a"], [7, "b"]]]], complete=True)
    after = snapshot(objects=[[TYPE, 5, "type", "m", [[8, "x"], [6, "a"], [7, "c"]]]])
    assert diff.difference(start, after, start).objects == (
        ObjectChange("type", "m", values_added=("x",), values_renamed=(("b", "c"),)),
    )
