"""The patterns of what drift leaves out, without a server."""

from __future__ import annotations

import pytest

from migrator.rehearsal.schemas.ignore import PatternError, parse

TABLE = ("table", "public.events_1")
COLUMN = (("column", "public.events_1.id"), TABLE)
FUNCTION = ("function", "public.f(integer, text)")
GRANT = (("privileges", "of monitor on table public.events_1"), TABLE)

MATCHED: list[tuple[str, tuple[tuple[str, str], ...], bool]] = [
    ("public.events_*", (TABLE,), True),
    ("  public.events_*  ", (TABLE,), True),
    ("public.events_?", (TABLE,), True),
    ("public.EVENTS_1", (TABLE,), True),
    ("public.events_[0-9]", (TABLE,), False),
    ("public.events", (TABLE,), False),
    ("other.events_*", (TABLE,), False),
    ("*.events_1", (TABLE,), True),
    # what belongs to an object is left out with it
    ("public.events_*", COLUMN, True),
    ("table public.events_*", COLUMN, True),
    ("table public.events_*", GRANT, True),
    ("column public.events_1.*", COLUMN, True),
    ("column public.events_1.*", (TABLE,), False),
    # an asterisk does not reach beyond its part of a name
    ("public.*", (("column", "public.other.id"),), False),
    # kinds
    ("view public.events_*", (TABLE,), False),
    ("index", (("index", "public.i"), TABLE), True),
    ("index", (TABLE,), False),
    ("materialized  view", (("materialized view", "public.v"),), True),
    ("view", (("materialized view", "public.v"),), False),
    # quoted names
    ('public."Events"', (("table", 'public."Events"'),), True),
    ('public."events"', (("table", "public.events"),), True),
    ("public.Events", (("table", 'public."Events"'),), False),
    ('public."a*"', (("table", "public.ab"),), False),
    ('public."a*"', (("table", 'public."a*"'),), True),
    ('public."a.""b"', (("table", 'public."a.""b"'),), True),
    # without their arguments, all functions of a name
    ("public.f", (FUNCTION,), True),
    ("function public.f(integer,text)", (FUNCTION,), True),
    ("public.f(integer, *)", (FUNCTION,), True),
    ("public.f(text)", (FUNCTION,), False),
    # schemas, with what is in them
    ("schema partman", (("schema", "partman"),), True),
    ("schema partman", (("table", "partman.jobs"),), True),
    ("schema part*", (("function", "partman.run(text)"),), True),
    ("schema partman", (("table", "public.partman"),), False),
    ("schema partman", (("extension", "partman"),), False),
    (
        "schema partman",
        (("default privileges", "of monitor for role app in schema partman on tables"),),
        True,
    ),
    # what is in no schema
    ("extension pg_cron", (("extension", "pg_cron"),), True),
    ("extension pg_*", (("comment", "on extension pg_cron"), ("extension", "pg_cron")), True),
    ("server far", (("user mapping", "public on server far"),), False),
    ("user mapping public", (("user mapping", "public on server far"),), True),
    # attributes
    ("owner", (("owner", "of table public.events_1"), TABLE), True),
    ("owner", (TABLE,), False),
    ("owner of public.events_*", (("owner", "of table public.events_1"), TABLE), True),
    ("owner of view public.events_*", (("owner", "of table public.events_1"), TABLE), False),
    ("comment on index", (("comment", "on table public.events_1"), TABLE), False),
    ("privileges", GRANT, True),
    ("privileges of monitor", GRANT, True),
    ("privileges of mon*", GRANT, True),
    ("privileges of other", GRANT, False),
    ("privileges of monitor on public.events_*", GRANT, True),
    ("privileges of monitor on schema public", GRANT, True),
    ("privileges on sequence", GRANT, False),
    (
        "privileges of its owner",
        (("privileges", "of its owner on table public.events_1"), TABLE),
        True,
    ),
    (
        "privileges of monitor",
        (("default privileges", "of monitor for role app on tables"),),
        True,
    ),
    ("default privileges", (("default privileges", "of monitor for role app on tables"),), True),
]


@pytest.mark.parametrize(("pattern", "chain", "expected"), MATCHED)
def test_a_pattern_matches(
    pattern: str, chain: tuple[tuple[str, str], ...], expected: bool
) -> None:
    assert parse(pattern).matches(chain) is expected


INVALID: list[tuple[str, str]] = [
    ("", "it is empty"),
    ("   ", "it is empty"),
    ('public."a', "unterminated quoted name at character 8"),
    ("public.", "expected a name at character 8"),
    ("public..a", "expected a name at character 8"),
    ("public.f(integer", '"(" is not closed at character 9'),
    ("public.a b", 'unexpected "b" at character 10'),
    ("table public.a public.b", 'unexpected "public.b" at character 16'),
    ("schema", "expected a name at character 7"),
    ("owner public.a", 'expected "of" at character 7'),
    ("owner of", "expected a name at character 9"),
    ("privileges of", "expected a name at character 14"),
    ("privileges of monitor public.a", 'expected "on" at character 23'),
    ("partman", '"partman" is neither a kind of object nor a name with its schema'),
    ("tables public.a", '"tables" is neither a kind of object (did you mean table?)'),
]


@pytest.mark.parametrize(("pattern", "problem"), INVALID)
def test_a_pattern_that_cannot_be_read_is_an_error_with_its_place(
    pattern: str, problem: str
) -> None:
    with pytest.raises(PatternError) as error:
        parse(pattern)
    assert problem in str(error.value)
