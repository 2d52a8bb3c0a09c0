"""The bytes of a file: its text and its checksum."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from migrator.errors import MigrationFileError
from migrator.files.source import read_source

PATH = PurePath("01_a.up.sql")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"select 1;\n", b"select 1;\r\n", True),
        (b"select 1;\n", b"\xef\xbb\xbfselect 1;\n", True),
        (b"select 1;\n", b"select 1;", True),
        (b"select 1;\n", b"select 1; \t\r\n\r\n\n", True),
        (b"select\n1;", b"select\r\n1;", True),
        (b"select 1;", b" select 1;", False),
        (b"select 1;", b"select  1;", False),
        (b"select 1;", b"SELECT 1;", False),
    ],
)
def test_the_checksum_ignores_line_ends_a_bom_and_white_space_at_the_end(
    one: bytes, other: bytes, same: bool
) -> None:
    checksums = {read_source(PATH, raw).checksum for raw in (one, other)}
    assert (len(checksums) == 1) == same


def test_the_text_is_that_of_the_file_without_its_bom() -> None:
    assert read_source(PATH, b"\xef\xbb\xbfselect 'a\r\nb';\r\n").text == ("select 'a\r\nb';\r\n")


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (b"select 'a\0b';", "contains a NUL: byte 9 is 0x00 (counted from 0)", "remove it"),
        (
            "select 'é';".encode("latin1"),
            "is not UTF-8: byte 8 is 0xE9 (counted from 0)",
            "iconv -f LATIN1 -t UTF-8 01_a.up.sql",
        ),
        (
            "select 1;".encode("utf-16"),
            "is UTF-16, not UTF-8: byte 0 is 0xFF (counted from 0)",
            "iconv -f UTF-16 -t UTF-8 01_a.up.sql",
        ),
        (b"-- \xed\xa0\x80", "is not UTF-8: byte 3 is 0xED (counted from 0)", "iconv"),
    ],
)
def test_the_first_invalid_byte_is_reported(raw: bytes, message: str, hint: str) -> None:
    with pytest.raises(MigrationFileError) as caught:
        read_source(PATH, raw)
    assert caught.value.message == f"01_a.up.sql {message}"
    assert hint in (caught.value.hint or "")
