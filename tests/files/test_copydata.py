"""A long file is read like a short one, and its COPY data stay on disk until they are sent."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrator.errors import MigrationFileError
from migrator.files import copydata
from migrator.files.source import BOM, read_source
from migrator.model import SourceFile
from migrator.sql import parser
from migrator.sql.location import line_number
from migrator.sql.script import Abridged, Statement
from migrator.sql.splitter import split

from ..conftest import Database, Migrate, Write
from ..sessions import Runs, holding, wait_for, waiting_for_a_lock

PATH = Path("1_a.up.sql")
FRAGMENTS = [
    b"copy t from stdin;", b"COPY t (a) FROM STDIN;", b"copy t to stdout;", b"\n", b"\r\n", b"\r",
    b"\\.\n", b"\n\\.\r\n", b"\\.", b"\\.x\n", b"1\t2\n", b"x", b" ", b"'", b"$$", b"--",
    b"/*", b"*/", b";", b"select 1;", b"select 'stdin';", "é".encode(), b"\xc3", b"\0", BOM,
    b"(", b")", b"\\restrict a\n",
]  # fmt: skip
RAW = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join)


SIZE = 7
"""So small that every border of a piece occurs in a short text."""


class SlowFile(io.FileIO):
    """A file that returns fewer bytes than asked for, as some file systems do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or -1, 3)) or b""


def read(path: Path) -> SourceFile:
    with SlowFile(path) as file:
        return copydata.read_long(path, file, size=SIZE)


def content(statement: Statement) -> tuple[str, int, tuple[str, ...], bytes | None]:
    """Return everything about a statement but where its data are."""
    data = b"".join(copydata.data(statement, size=SIZE)) if statement.data else None
    line = line_number(statement.source, statement.offset)
    return statement.text, line, statement.words, data


@given(RAW)
@example(b"copy t from stdin; copy u from stdin;\n1\n\\.\n2\n\\.\nselect 1;")
@example(b"copy t from stdin;\n\\.\nselect 1;")
@example(b"copy t from stdin;\n1\n2")
@example(b"copy t from stdin;\n1\r2\r\n\r\\.\n3\r\n\\.\r\nselect 1;")
@example(b"copy t from stdin;\n1\n\\.\r")
@example(BOM + b"copy t from stdin;\n1\n\\.\ncopy t from stdin;\n2\n\\.\n-- end")
def test_a_long_file_is_read_like_a_short_one(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PATH
        path.write_bytes(raw)
        try:
            short = read_source(path, raw)
        except MigrationFileError:
            # Which of several errors comes first depends on the size of a piece.
            with pytest.raises(MigrationFileError, match=r"contains a NUL|is not UTF-8"):
                read(path)
            return
        long = read(path)
        assert long.checksum == short.checksum
        assert [content(s) for s in split(long.text)] == [content(s) for s in split(short.text)]
        assert parser.same_statements(long.text, short.text)
        one, other = parser.parse(path, long.text), parser.parse(path, short.text)
        assert [str(p) for p in one.problems] == [str(p) for p in other.problems]
        assert one.options == other.options


@pytest.mark.parametrize(
    "raw",
    [
        b"select 'a\0b';",
        b"select 'aaaaaaaaaaaaa\0b';",
        "select 'aaaaaaaaaaé';".encode("latin1"),
        "select 1;".encode("utf-16"),
        b"-- aaaaaaaaaa\xed\xa0\x80",
        b"-- aaaaaaaaaa\xc3",
    ],
)
def test_an_invalid_byte_is_reported_as_in_a_short_file(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / PATH
    path.write_bytes(raw)
    with pytest.raises(MigrationFileError) as short:
        read_source(path, raw)
    with pytest.raises(MigrationFileError) as long:
        read(path)
    assert (long.value.message, long.value.hint) == (short.value.message, short.value.hint)


def test_the_text_keeps_only_the_number_of_lines_of_its_data(tmp_path: Path) -> None:
    path = tmp_path / PATH
    path.write_bytes(b"copy t from stdin;\n1\tone\n2\ttwo\n\\.\nselect 1;")
    text = read(path).text
    assert str(text) == "copy t from stdin;\n\\.\nselect 1;"
    assert isinstance(text, Abridged)
    assert line_number(text, text.index("select")) == 5


def test_texts_that_differ_only_in_their_data_are_not_equal(tmp_path: Path) -> None:
    texts = []
    for data in (b"1\n2\n", b"1\n3\n", b""):
        path = tmp_path / PATH
        path.write_bytes(b"copy t from stdin;\n" + data + b"\\.\n")
        texts.append(read(path).text)
    plain = "copy t from stdin;\n\\.\n"
    assert [str(text) for text in texts] == [plain] * 3
    assert texts[0] != texts[1] != texts[2]
    assert plain not in texts
    assert not parser.same_statements(texts[0], texts[1])
    assert parser.same_statements(texts[2], plain)


class ChangingFile(SlowFile):
    """A file that another program overwrites after its first SQL was read."""

    def __init__(self, path: Path, after: bytes) -> None:
        super().__init__(path)
        self._path, self._after = path, after

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if offset:
            self._path.write_bytes(self._after)
        return super().seek(offset, whence)


def test_the_checksum_is_that_of_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / PATH
    before = b"copy t from stdin;\n" + b"1\n" * 100 + b"\\.\nselect 1;\n"
    for after in (before[:50], before.replace(b"1\n", b"2\n"), before + b"select 2;"):
        path.write_bytes(before)
        with ChangingFile(path, after) as file:
            source = copydata.read_long(path, file, size=SIZE)
        assert source.checksum == read_source(path, after).checksum


def test_data_that_have_changed_since_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / PATH
    path.write_bytes(b"copy t from stdin;\n1\n2\n\\.\n")
    (statement,) = split(read(path).text)
    path.write_bytes(b"copy t from stdin;\n1\n3\n\\.\n")
    with pytest.raises(MigrationFileError, match="changed while it was being run"):
        list(copydata.data(statement, size=SIZE))
    path.unlink()
    with pytest.raises(MigrationFileError, match="can no longer be read: No such file"):
        list(copydata.data(statement))


def test_lines_of_data_are_numbered_from_1(tmp_path: Path) -> None:
    path = tmp_path / PATH
    path.write_bytes(b"copy t from stdin;\n1\n2\r\n3\n\\.\nselect 1;")
    statement, _ = split(read(path).text)
    assert statement.block
    assert copydata.lines(statement.block, 2, 3) == ["2", "3"]
    assert copydata.lines(statement.block, 3, 5) == [], "the data have three lines"
    path.unlink()
    assert copydata.lines(statement.block, 2, 3) == []


# With a server, and files above the size from which they are read so


LONG = 1 << 20
"""A file of more bytes is read as a long one."""

# Leading zeros make the file long; PostgreSQL reads the number 7.
SCRIPT = f"""\
create table a (i int, t text);

copy a (i, t) from stdin;
1\tone
2\ttwo
3\tthree
\\.
create table b (i int);
copy b from stdin;
{"7".zfill(LONG)}
\\.
"""


@pytest.fixture
def runs(database: Database, directory: Path, tmp_path: Path) -> Iterator[Runs]:
    """Runs beside a test that locks the table `gate`."""
    database.execute("create table gate ()")
    runs = Runs(database, directory, tmp_path)
    yield runs
    runs.end()


def test_a_long_file_is_applied_and_not_stored(
    migrate: Migrate, write: Write, database: Database
) -> None:
    write({"01_a.up.sql": SCRIPT, "01_a.down.sql": "drop table b, a;"})
    assert migrate("up").exit_code == 0
    assert database.rows("select * from a order by i") == [(1, "one"), (2, "two"), (3, "three")]
    assert database.rows("select * from b") == [(7,)]
    assert database.rows("select up_script, down_script from migration_versions") == [
        (None, "drop table b, a;")
    ]
    assert migrate("verify").exit_code == 0
    assert migrate("down", "--yes").exit_code == 0


def test_an_error_in_the_data_of_a_long_file_is_shown_at_its_line(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": SCRIPT.replace("3\tthree", "three\tthree")})
    result = migrate("up")
    assert result.exit_code == 1
    assert '01_a.up.sql:6:1: invalid input syntax for type integer: "three"' in result.stderr
    assert "4 | 1   one\n  5 | 2   two\n  6 | three   three\n    | ^" in result.stderr


def test_an_error_after_the_data_of_a_long_file_is_shown_at_its_line(
    migrate: Migrate, write: Write
) -> None:
    write({"01_a.up.sql": SCRIPT + "select nothing;\n"})
    result = migrate("up")
    assert '01_a.up.sql:12:8: column "nothing" does not exist' in result.stderr


def test_a_long_file_that_changes_while_it_waits_is_rolled_back(
    migrate: Migrate, write: Write, database: Database, runs: Runs
) -> None:
    first = "lock table gate; create table z ();"
    folder = write({"01_z.up.sql": first, "02_a.up.sql": SCRIPT})
    with holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "1min")
        wait_for(lambda: waiting_for_a_lock(database))
        write({"02_a.up.sql": SCRIPT.replace("two", "2nd")})
    result = run.result()
    assert result.exit_code == 4
    assert f"{folder / '02_a.up.sql'} changed while it was being run" in result.stderr
    assert (
        "02_a was rolled back completely. Already applied in this run, and kept: 01_z."
        in result.stderr
    )
    assert database.rows("select to_regclass('a')::text") == [(None,)]
    assert database.rows("select version from migration_versions") == [("01_z",)]
    assert database.rows("select version, outcome from migration_log where message <> ''") == [
        ("02_a", "failed")
    ]
    assert migrate("up").exit_code == 0
    assert database.rows("select t from a where i = 2") == [("2nd",)]


def test_an_error_in_data_whose_file_is_gone_is_shown_at_the_statement(
    write: Write, database: Database, runs: Runs
) -> None:
    # The server has received all of the data when the trigger of the first row waits.
    database.execute("""
        create table a (i int);
        create function wait() returns trigger language plpgsql as
            'begin lock table gate; return new; end';
        create trigger wait before insert on a for each row execute function wait();
    """)
    data = f"{'1'.zfill(LONG)}\nthree\n"
    folder = write({"01_a.up.sql": f"copy a from stdin;\n{data}\\.\n"})
    with holding(database, "lock table gate"):
        run = runs("up", "--lock-timeout", "1min")
        wait_for(lambda: waiting_for_a_lock(database))
        (folder / "01_a.up.sql").unlink()
    result = run.result()
    assert result.exit_code == 1
    assert '01_a.up.sql:3:1: invalid input syntax for type integer: "three"' in result.stderr
    assert "1 | copy a from stdin;" in result.stderr


@pytest.mark.parametrize("number", ["3", "3".zfill(LONG)], ids=["short", "long"])
def test_data_are_sent_with_a_statement_that_commits_by_itself(
    migrate: Migrate, write: Write, database: Database, number: str
) -> None:
    """Its place was begun by a statement that commits by itself, and that the file has replaced."""
    database.execute("create table a (i int); insert into a values (1), (1)")
    head = "-- migrator: no-transaction\nselect 1;\n"
    write({"01_a.up.sql": f"{head}create unique index concurrently i on a (i);"})
    assert migrate("up").exit_code == 1
    write({"01_a.up.sql": f"{head}copy a from stdin;\n2\n{number}\n\\.\n"})
    result = migrate("up")
    assert result.exit_code == 0, result.stderr
    assert database.rows("select count(*) from a") == [(4,)]


def test_a_plan_counts_the_lines_of_its_data(migrate: Migrate, write: Write) -> None:
    write({"01_a.up.sql": SCRIPT})
    assert "-- and 3 lines of data" in migrate("up", "--dry-run").stdout
