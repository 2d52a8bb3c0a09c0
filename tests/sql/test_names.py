"""Names are read as PostgreSQL reads them."""

from __future__ import annotations

import pytest

from migrator.sql import names, splitter

from ..conftest import Database

FORMS = [
    "plain",
    "FOLDED_Ä",
    "größe",
    "a$1",
    '"Quoted"',
    '"with ""quotes"" and . dots"',
    'U&"\\0061bc"',
    'u&"d\\0061t\\+000061"',
    "U&\"d!0061t!!a\" UESCAPE '!'",
    'u&"\\\\ ""x"""',
    'U&"\\D83D\\DE00"',
    '"漢字"',
    "x" * 70,
    '"' + "é" * 40 + '"',
]


def read(text: str) -> tuple[str, ...]:
    return names.read(list(splitter.tokens(text)))[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_name_is_what_the_catalog_has(database: Database, form: str) -> None:
    database.execute(f"create table {form} ()")
    ((known,),) = database.rows("select relname from pg_class where relnamespace = 2200")
    (name,) = read(form)
    assert name == known
    quoted = names.quoted((name,)).replace("'", "''")
    assert database.rows(f"select to_regclass('{quoted}') is not null") == [(True,)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", ("a", "b")),
        ('db . "S" . U&"!0074" UESCAPE \'!\'', ("db", "S", "t")),
        ("U&\"!0073\" UESCAPE '!' . t", ("s", "t")),
        ("a.*", ("a",)),
        ("'a'", ()),
        ("$$a$$", ()),
        ("", ()),
    ],
)
def test_a_qualified_name_has_all_its_parts(text: str, expected: tuple[str, ...]) -> None:
    assert read(text) == expected
