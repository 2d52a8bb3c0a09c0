"""What the catalog before and after says of a statement that was interrupted: a table."""

from __future__ import annotations

import json
from pathlib import PurePath

import pytest

from migrator.events import Objects
from migrator.execution import recovery
from migrator.execution.recovery import Begun, Recovery
from migrator.sql import parser
from migrator.sql.script import Statement

NOTHING = Recovery()
CREATE = "create index concurrently i on t (a)"
DROP = "drop index concurrently i"
REINDEX = "reindex table concurrently t"
DETACH = "alter table t detach partition p concurrently"


def statement(text: str) -> Statement:
    (unit,) = parser.parse(PurePath("x.sql"), f"-- migrator: no-transaction\n{text};").units
    return unit.statements[0]


def objects(
    valid: str = "", invalid: str = "", building: str = "", attached: str = "", detaching: str = ""
) -> Objects:
    """Each word is the OID of an object."""
    texts = (valid, invalid, building, attached, detaching)
    return Objects(*(frozenset(map(int, text.split())) for text in texts))


@pytest.mark.parametrize(
    ("text", "before", "now", "unsure", "expected"),
    [
        # CREATE INDEX: what it left invalid goes; a valid one that is new is its work
        (CREATE, objects(), objects(), True, NOTHING),
        (CREATE, objects("1"), objects("1"), True, NOTHING),
        (CREATE, objects("1"), objects("1", "2"), True, Recovery(drop=frozenset([2]))),
        (CREATE, objects("1"), objects("1", "2"), False, Recovery(drop=frozenset([2]))),
        (CREATE, objects("1"), objects("1 2"), True, Recovery(is_done=True)),
        # it failed for certain, so the new one is somebody else's
        (CREATE, objects("1"), objects("1 2"), False, NOTHING),
        # what was invalid before is not ours, even if it has become valid
        (CREATE, objects("1", "2"), objects("1", "2"), True, NOTHING),
        (CREATE, objects("1", "2"), objects("1 2"), True, NOTHING),
        # somebody is building it right now
        (CREATE, objects(), objects("", "2", "2"), True, NOTHING),
        (CREATE, objects(), objects("", "2 3", "2"), True, Recovery(drop=frozenset([3]))),
        # DROP INDEX: gone is done; half gone is dropped again by the statement itself
        (DROP, objects("1"), objects(), True, Recovery(is_done=True)),
        (DROP, objects("", "1"), objects(), True, Recovery(is_done=True)),
        (DROP, objects("1"), objects(), False, NOTHING),
        (DROP, objects("1"), objects("1"), True, NOTHING),
        (DROP, objects("1"), objects("", "1"), True, NOTHING),
        # REINDEX: never known to be done; the new index, or the replaced one, goes
        (REINDEX, objects("1"), objects("1", "2"), True, Recovery(drop=frozenset([2]))),
        (REINDEX, objects("1"), objects("2", "1"), True, Recovery(drop=frozenset([1]))),
        (REINDEX, objects("1"), objects("1", "2", "2"), True, NOTHING),
        (REINDEX, objects("1"), objects("2"), True, NOTHING),
        # DETACH: pending is finalised, and done by that; gone is done
        (
            DETACH,
            objects(attached="1"),
            objects(attached="1", detaching="1"),
            False,
            Recovery(finalize=frozenset([1]), is_done=True),
        ),
        (DETACH, objects(attached="1 2"), objects(attached="2"), True, Recovery(is_done=True)),
        (DETACH, objects(attached="1 2"), objects(attached="2"), False, NOTHING),
        (DETACH, objects(attached="1"), objects(attached="1"), True, NOTHING),
        # it was pending before the statement began
        (
            DETACH,
            objects(attached="1", detaching="1"),
            objects(attached="1", detaching="1"),
            True,
            NOTHING,
        ),
        # nothing is known of any other
        ("vacuum t", objects("1"), objects("1 2", "3"), True, NOTHING),
        ("call p()", objects("1"), objects("", "3"), True, NOTHING),
    ],
)
def test_what_to_do_before_a_statement_is_sent_again(
    text: str, before: Objects, now: Objects, *, unsure: bool, expected: Recovery
) -> None:
    assert recovery.recover(statement(text), before, now, unsure=unsure) == expected


def test_what_is_dumped_is_loaded_again() -> None:
    everything = objects("1 2", "3", "3", "4 5", "5")
    for begun in (Begun(1, "vacuum a", frozenset([7]), everything), Begun(0, relations=None)):
        assert Begun.load(json.loads(begun.dump())) == begun
