"""What a script runs in batches: the options, the placeholder, and what is refused."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.sql import parser
from migrator.sql.script import Backfill, Script

FILE = "-- migrator: no-transaction\n"
FILL = "update orders set a = 1 where a is null /* batch */;"


def parse(text: str) -> Script:
    return parser.parse(PurePath("01_a.up.sql"), text)


def problems(text: str) -> list[tuple[str, str]]:
    """Return the line, column and message of each problem."""
    found = parse(text).problems
    return [(f"{p.location.line}:{p.location.column}", p.message) for p in found if p.location]


def only(text: str) -> Backfill:
    script = parse(text)
    assert script.problems == ()
    (found,) = script.options.backfills
    assert found.statement is not None
    assert script.options.backfill(found.statement) is found
    return found


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("backfill orders", (("orders",), "orders", None)),
        ("backfill app.Orders", (("app", "orders"), "orders", None)),
        ('backfill app."Orders" as O by "Id"', (("app", "Orders"), "o", "Id")),
        ("backfill orders by id", (("orders",), "orders", "id")),
    ],
)
def test_the_option_names_the_table_its_alias_and_a_column(
    option: str, expected: tuple[tuple[str, ...], str, str | None]
) -> None:
    found = only(f"{FILE}select 1;\n-- migrator: {option}\n{FILL}\nselect 2;")
    assert (found.table, found.alias, found.column) == expected
    source = found.statement.source if found.statement else ""
    assert found.place
    assert source[slice(*found.place)] == "/* batch */"


@pytest.mark.parametrize(
    "statement",
    [
        "delete from orders where a is null /*batch*/ returning id",
        "insert into b select a from orders where a > 0 /* BATCH */ on conflict do nothing",
        "insert into b (select a from orders where a > 0 /* batch */) on conflict do nothing",
        "insert into s.b select a from orders o where not exists (select from s.b where b.a = o.a)"
        " /* batch */",
        "with x as (delete from orders where a = 1 /* batch */ returning *) insert into b table x",
        "merge into b using (select * from orders where (a = 1 or b = 2) /* batch */) o"
        " on o.a = b.a when not matched then insert values (o.a)",
        "update orders set a = 1 where case when b or c then d end /* batch */ and e",
    ],
)
def test_a_statement_that_changes_rows_can_be_a_backfill(statement: str) -> None:
    only(f"{FILE}-- migrator: backfill orders\n{statement};")


def test_a_statement_that_limits_itself_can_be_repeated() -> None:
    text = "delete from a where id in (select id from a limit 5)"
    assert only(f"{FILE}-- migrator: repeat\n{text};").place is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"-- migrator: backfill orders\n{FILL}",
            ("1:1", 'option "backfill" in a file that is one transaction'),
        ),
        (
            f"{FILE}begin;\n-- migrator: backfill orders\n{FILL}\ncommit;",
            ("3:1", 'option "backfill" inside BEGIN … COMMIT, which is one transaction'),
        ),
        (
            f"{FILE}-- migrator: backfill orders\nupdate orders set a = 1 where a is null;",
            ("2:1", "the statement has no /* batch */"),
        ),
        (
            f"{FILE}-- migrator: backfill orders\n-- migrator: backfill orders\n{FILL}",
            ("3:1", "a second batch option for one statement"),
        ),
        (f"{FILE}{FILL}\n-- migrator: backfill orders", ("3:1", "no statement below option")),
        (f"{FILE}-- migrator: backfill\n{FILL}", ("2:1", 'invalid option "backfill"')),
        (f"{FILE}-- migrator: backfill a as\n{FILL}", ("2:1", 'invalid option "backfill"')),
        (f"{FILE}-- migrator: backfill a by b c\n{FILL}", ("2:1", 'invalid option "backfill"')),
        (f"{FILE}-- migrator: repeat orders\n{FILL}", ("2:1", 'invalid option "repeat"')),
        (f"{FILE}-- migrator: repeat\n{FILL}", ("2:1", "a repeated statement has no /* batch */")),
        (f"{FILE}/* migrator: backfill orders */\n{FILL}", ("2:1", 'malformed option "backfill"')),
        (
            f"{FILE}-- migrator: backfill t\nselect 1 from t where a /* batch */;",
            ("2:1", "SELECT cannot be run in batches"),
        ),
        (
            f"{FILE}-- migrator: backfill t\nwith x as (delete from t where a /* batch */"
            " returning 1) select count(*) from x;",
            ("2:1", "SELECT cannot be run in batches"),
        ),
        (
            f"{FILE}-- migrator: backfill t\nupdate t set a = 1 where a /* batch */ or b;",
            ("2:1", "/* batch */ does not end the condition of a WHERE"),
        ),
        (
            f"{FILE}-- migrator: backfill t\nupdate t set is_old = true /* batch */;",
            ("2:1", "/* batch */ does not end the condition of a WHERE"),
        ),
        (
            f"{FILE}-- migrator: backfill t\nupdate t set a = 1 where /* batch */;",
            ("2:1", "/* batch */ does not end the condition of a WHERE"),
        ),
        (
            f"{FILE}-- migrator: backfill t\nmerge into t using s on s.id = t.id /* batch */"
            " when not matched then insert default values;",
            ("2:1", "/* batch */ does not end the condition of a WHERE"),
        ),
        (
            f"{FILE}-- migrator: backfill t\ninsert into s select a, count(*) from t where a > 0"
            " /* batch */ group by a on conflict do nothing;",
            ("2:1", "/* batch */ does not end the condition of a WHERE"),
        ),
        (
            f"{FILE}-- migrator: backfill t\nupdate t set a = 1 where a is null or b /* batch */;",
            ("2:1", "the WHERE has an OR outside parentheses before /* batch */"),
        ),
        (
            f"{FILE}-- migrator: backfill t\ninsert into s.b select a from t"
            " where a > 0 /* batch */;",
            ("2:1", "the INSERT would insert the same rows in every pass"),
        ),
    ],
)
def test_what_cannot_run_in_batches_is_refused_with_its_place(
    text: str, expected: tuple[str, str]
) -> None:
    assert any(at == expected[0] and expected[1] in message for at, message in problems(text)), (
        problems(text)
    )
