"""Which hazards a statement cannot have, by its text alone.

`test_hazards` checks that every finding of a rehearsal was possible.
"""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.hazards import possible
from migrator.sql import parser

IMPOSSIBLE = [
    ("index-built-blocking", "create unique index concurrently i on t (a);"),
    ("index-built-blocking", "reindex (verbose) table concurrently t;"),
    ("index-built-blocking", "comment on table t is 'x';"),
    ("index-dropped-blocking", "drop index concurrently if exists i;"),
    ("index-dropped-blocking", "create index i on t (a);"),
    ("foreign-key-added-valid", "alter table t add foreign key (a) references u not valid;"),
    ("check-added-valid", "alter table t add constraint c check (a > 0) not valid;"),
    ("check-added-valid", "grant select on t to public;"),
    ("not-null-unproven", "drop table t;"),
    ("table-dropped", "alter table t drop column a;"),
    ("table-truncated", "drop table t;"),
    ("rows-deleted", "drop table t;"),
    ("large-update", "alter table t add column a int;"),
    ("column-dropped", "create table t (a int);"),
    ("table-renamed", "drop table t;"),
    ("foreign-key-without-index", "drop table t;"),
    ("outside-transaction", "drop table t;"),
    ("lock-held", "alter table t add column a int;"),
    ("lock-held", "select 1;"),
]
POSSIBLE = [
    ("index-built-blocking", "create index i on t (a);"),
    ("index-built-blocking", 'create index "concurrently" on t (a);'),
    ("foreign-key-added-valid", "alter table t add foreign key (a) references u;"),
    ("foreign-key-added-valid", "alter table t attach partition u default;"),
    ("check-added-valid", "alter table t add check (not valid);"),
    (
        "check-added-valid",
        "alter table t add constraint n not null a not valid, add check (a > 0);",
    ),
    ("table-dropped", "do $$ begin execute 'drop table t'; end $$;"),
    ("table-dropped", "select clean();"),
    ("table-dropped", "create table u as select clean();"),
    ("table-dropped", "alter extension e update;"),
    ("rows-deleted", "insert into t values (1);"),
    ("rows-deleted", "refresh materialized view m;"),
    ("breaks-on-data", "drop table t;"),
    ("query-broken", "comment on table t is 'x';"),
    ("down-loses-data", "create table t ();"),
    ("object-renamed", "drop table t;"),
]


def needless(text: str) -> list[str]:
    script = parser.parse(PurePath("1_a.up.sql"), text)
    assert not script.problems
    return [each.hazard for each in possible.needless(script)]


@pytest.mark.parametrize(("hazard", "statement"), IMPOSSIBLE)
def test_a_comment_accepts_nothing_if_its_statement_cannot_have_that_hazard(
    hazard: str, statement: str
) -> None:
    assert needless(f"-- migrator: allow {hazard} why\n{statement}") == [hazard]


@pytest.mark.parametrize(("hazard", "statement"), POSSIBLE)
def test_a_comment_may_be_needed_if_its_statement_may_have_that_hazard(
    hazard: str, statement: str
) -> None:
    assert needless(f"-- migrator: allow {hazard} why\n{statement}") == []


def test_a_lock_is_held_during_later_statements_of_the_same_transaction_only() -> None:
    comment = "-- migrator: allow lock-held why\n"
    first, last = f"{comment}alter table t add a int;\n", "alter table u add a int;\n"
    assert needless(first + last) == []
    assert needless(f"-- migrator: no-transaction\n{first}{last}") == ["lock-held"]
    assert needless(f"-- migrator: no-transaction\nbegin;\n{first}{last}commit;\n") == []


def test_a_statement_outside_a_transaction_may_have_that_hazard() -> None:
    comment = "-- migrator: allow outside-transaction why\n"
    assert needless(f"{comment}create index concurrently i on t (a);") == []


def test_a_down_script_has_the_hazards_of_downs_only() -> None:
    hazards = ("down-loses-data", "down-does-not-undo", "query-broken", "table-dropped")
    comments = "".join(f"-- migrator: allow {each} why\n" for each in hazards)
    script = parser.parse(PurePath("1_a.down.sql"), f"{comments}drop table t;")
    assert [each.hazard for each in possible.needless_in_down(script)] == ["table-dropped"]
