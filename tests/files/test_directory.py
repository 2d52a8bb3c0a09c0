"""The migrations directory: what is read, what is refused, and what `create` writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.errors import BlockedError, DirectoryError, UsageError
from migrator.files.directory import create, ignored, read_migrations
from migrator.files.names import renames, suggestion
from migrator.sql import parser

from ..conftest import Write

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


def versions(directory: Path) -> list[str]:
    return [migration.version for migration in read_migrations(directory)]


def problems(directory: Path) -> list[str]:
    """Return every problem of a directory, without the name of the directory."""
    with pytest.raises(BlockedError) as caught:
        read_migrations(directory)
    assert all(error.hint for error in caught.value.errors), "every problem has a hint"
    return [str(error).replace(f"{directory}/", "") for error in caught.value.errors]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["01_a.up.sql", "01_a.down.sql"], ["01_a"]),
        (["10_b.up.sql", "9_a.up.sql", "100_c.up.sql"], ["9_a", "10_b", "100_c"]),
        (["20240102030405_a.up.sql", "1_b.up.sql"], ["1_b", "20240102030405_a"]),
        (["99999999999999999999_b.up.sql", "9_a.up.sql"], ["9_a", "99999999999999999999_b"]),
        (["0_a.up.sql", "1_A-b.c_9.up.sql"], ["0_a", "1_A-b.c_9"]),
        (["01_a.up.sql", "README.md", "seed.sql.gz", ".02_b.up.sql", "notes.txt"], ["01_a"]),
        (["01_a.up.sql", "01_a.up.sql~", "01_a.up.sql.orig", "#1_a.up.sql#"], ["01_a"]),
    ],
)
def test_migrations_are_read_by_ascending_number(
    write: Write, names: list[str], expected: list[str]
) -> None:
    assert versions(write(dict.fromkeys(names, "select 1;\n"))) == expected


def test_a_subdirectory_is_ignored_whatever_its_name(directory: Path) -> None:
    (directory / "01_a.up.sql").mkdir()
    assert versions(directory) == []
    assert (ignored(directory) or "").endswith(
        ": the directory 01_a.up.sql (a migration is a file)"
    )


def test_a_migration_without_a_down_file_is_irreversible(write: Write) -> None:
    (migration,) = read_migrations(write({"01_a.up.sql": "select 1;"}))
    assert migration.down is None


MISNAMED = "is not named NN_name.up.sql, NN_name.down.sql or R__name.sql"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["schema.sql"], [f"schema.sql {MISNAMED}"]),
        (["a_01.up.sql"], [f"a_01.up.sql {MISNAMED}"]),
        (["01.up.sql"], [f"01.up.sql {MISNAMED}"]),
        (["01_a.sql"], [f"01_a.sql {MISNAMED}"]),
        (["01-a.up.sql"], [f"01-a.up.sql {MISNAMED}"]),
        (["01_a b.up.sql"], [f"01_a b.up.sql {MISNAMED}"]),
        (["01_é.up.sql"], [f"01_é.up.sql {MISNAMED}"]),
        (["01_a.UP.sql"], [f"01_a.UP.sql {MISNAMED}"]),
        (["01_a.up.SQL"], [f"01_a.up.SQL {MISNAMED}"]),
        (["٠١_a.up.sql"], [f"٠١_a.up.sql {MISNAMED}"]),
        (["01_a.down.sql"], ["01_a.down.sql has no up file"]),
        (
            ["01_a.up.sql", "1_b.up.sql"],
            ["01_a.up.sql and 1_b.up.sql both have number 1"],
        ),
        (
            ["01_a.up.sql", "01_b.up.sql", "001_c.up.sql"],
            [
                "001_c.up.sql and 01_a.up.sql both have number 1",
                "01_a.up.sql and 01_b.up.sql both have number 1",
            ],
        ),
        (
            ["x.sql", "y.sql", "02_b.down.sql", "03_c.up.sql", "3_d.up.sql"],
            [
                f"x.sql {MISNAMED}",
                f"y.sql {MISNAMED}",
                "02_b.down.sql has no up file",
                "03_c.up.sql and 3_d.up.sql both have number 3",
            ],
        ),
    ],
)
def test_every_file_that_is_not_a_migration_is_reported(
    write: Write, names: list[str], expected: list[str]
) -> None:
    assert problems(write(dict.fromkeys(names, "select 1;\n"))) == expected


@pytest.mark.parametrize(
    ("names", "free"),
    [
        (["01_a", "1_b", "09_c"], "10"),
        (["001_a", "1_b", "009_c"], "010"),
        (["99_a", "099_b"], "100"),
    ],
)
def test_the_hint_on_a_duplicate_number_names_a_free_one(
    write: Write, names: list[str], free: str
) -> None:
    directory = write({f"{name}.up.sql": "" for name in names})
    with pytest.raises(BlockedError, match="1 problem in the migrations directory") as caught:
        read_migrations(directory)
    assert f"the next free number is {free};" in (caught.value.errors[0].hint or "")


def test_problems_in_the_scripts_are_reported_with_those_of_the_directory(write: Write) -> None:
    directory = write({"x.sql": "", "01_a.up.sql": "select 1;\ncommit;\n", "02_b.up.sql": b"\xff"})
    assert [line.partition(" ")[0] for line in problems(directory)] == [
        "02_b.up.sql",
        "x.sql",
        "01_a.up.sql:2:1:",
    ]


def test_a_dangling_link_is_a_file_that_cannot_be_read(directory: Path) -> None:
    (directory / "01_a.up.sql").symlink_to(directory / "gone")
    assert problems(directory) == ["01_a.up.sql cannot be read: No such file or directory"]


@not_as_root
def test_an_unreadable_file_or_directory_is_reported(write: Write) -> None:
    directory = write({"01_a.up.sql": ""})
    (directory / "01_a.up.sql").chmod(0)
    assert problems(directory) == ["01_a.up.sql cannot be read: Permission denied"]
    directory.chmod(0)
    with pytest.raises(DirectoryError, match="cannot be read: Permission denied"):
        read_migrations(directory)
    directory.chmod(0o700)


def test_a_directory_that_does_not_exist_or_is_a_file_is_reported(directory: Path) -> None:
    with pytest.raises(DirectoryError, match=r'migrations directory ".*/none" does not exist'):
        read_migrations(directory / "none")
    (directory / "file").touch()
    with pytest.raises(DirectoryError, match="cannot be read: Not a directory"):
        read_migrations(directory / "file")


@pytest.mark.parametrize("broken", [b"\xff\xfes\x00", b"select '\xe9';", b"select 1;\0"])
def test_a_file_that_cannot_be_read_is_one_error(write: Write, broken: bytes) -> None:
    directory = write({"01_a.up.sql": broken, "01_a.down.sql": ""})
    (problem,) = problems(directory)
    assert problem.startswith("01_a.up.sql ")


def test_a_misnamed_up_file_is_one_error(write: Write) -> None:
    directory = write({"01_a.UP.sql": "", "01_a.down.sql": ""})
    assert problems(directory) == [f"01_a.UP.sql {MISNAMED}"]


# Names of other tools


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("V1__a.sql", "1_a.up.sql"),
        ("U1__a.sql", "1_a.down.sql"),
        ("20240101_add_x.sql", "20240101_add_x.up.sql"),
        ("001.do.a.sql", "001_a.up.sql"),
        ("001.undo.a.sql", "001_a.down.sql"),
        ("01_a.UP.SQL", "01_a.up.sql"),
        ("01-a b.Down.sql", "01_a_b.down.sql"),
        ("01_a_rollback.sql", "01_a.down.sql"),
        ("01_a.up.pgsql", "01_a.up.sql"),
        ("01_a.down.sql.gz", "01_a.down.sql"),
        ("01_a.up.sql.txt", "01_a.up.sql"),
        ("20240101_dump.sql.gz", None),
        ("V1.2__a.sql", None),
        ("schema.sql", None),
        ("seed.sql.gz", None),
        ("01_a.up.sql~", None),
        ("01_a.up.sql.orig", None),
        ("2024-report.txt", None),
        ("01_notes.md", None),
        ("01_a.up.sqll", "01_a.up.sql"),
        ("01_a.DOWN.slq", "01_a.down.sql"),
        ("01_a.up.sqlx", "01_a.up.sql"),
        ("01_a.upsql", "01_a.up.sql"),
        ("01_a.up", "01_a.up.sql"),
        (".01_a.up.sql.swp", None),
        ("01_a.up.md", None),
        ("01_cleanup.sh", None),
    ],
)
def test_what_looks_like_a_migration_is_told_its_name(name: str, expected: str | None) -> None:
    assert suggestion(name) == expected


def test_what_is_ignored_and_looks_like_a_migration_is_named_in_one_sentence(
    directory: Path, write: Write
) -> None:
    write(dict.fromkeys(["01_a.up.sql", "01_a.up.sql.gz", "02_b.up.pgsql", "README.md"], ""))
    for name in ("2024/03_c.up.sql", "20240101_init/migration.sql", "docs/notes.txt"):
        (directory / name).parent.mkdir()
        (directory / name).touch()
    assert ignored(directory) == (
        "ignored, although they look like migrations: 02_b.up.pgsql (name it 02_b.up.sql), "
        "the directory 2024 (move its files up, or name it with --dir), "
        "the directory 20240101_init (move its migration.sql to 20240101_init.up.sql)"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["1_add_x.up.sql", "1_drop_x.down.sql"], {"1_drop_x.down.sql": "1_add_x.down.sql"}),
        (["01_add_x.up.sql", "1_drop_x.down.sql"], {"1_drop_x.down.sql": "01_add_x.down.sql"}),
        (["01_a.UP.sql", "01_a.down.sql"], {"01_a.UP.sql": "01_a.up.sql"}),
        (["01_a.up.sql", "01_a.down.sql", "1_b.down.sql"], {}),
        (["01_a.up.sql", "1_b.up.sql", "1_c.down.sql"], {}),
        (["01_a.up.sql", "1_b.down.sql", "001_c.down.sql"], {}),
        (["01_a.up.sql", "02_b.down.sql"], {}),
        (["01_a.UP.sql", "01_a.Up.sql"], {}),
        (["01_a.UP.sql", "01_a.up.sql"], {}),
        (["V1__a.sql"], {}),
    ],
)
def test_a_file_is_renamed_where_only_one_name_is_possible(
    names: list[str], expected: dict[str, str]
) -> None:
    assert renames(names) == expected


def test_the_hint_on_a_down_file_with_another_name_than_its_up_says_what_to_rename(
    write: Write,
) -> None:
    directory = write(dict.fromkeys(["1_add_x.up.sql", "1_drop_x.down.sql"], ""))
    with pytest.raises(BlockedError) as caught:
        read_migrations(directory)
    (error,) = caught.value.errors
    assert (error.hint or "").splitlines() == [
        "rename it to 1_add_x.down.sql",
        "to let migrator rename it: migrator verify --fix",
    ]


# create


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "01_x"),
        (["01_a"], "02_x"),
        (["1_a"], "2_x"),
        (["9_a"], "10_x"),
        (["09_a"], "10_x"),
        (["99_a"], "100_x"),
        (["0001_a", "0002_b"], "0003_x"),
        (["000_a"], "001_x"),
        (["2_a", "10_b"], "11_x"),
        (["20250102030405_a"], "20260506070809_x"),
        (["20990102030405_a"], "20990102030406_x"),
        (["1700000000_a"], "1700000001_x"),  # seconds since 1970 look like any other number
        (["99999999999999999999_a"], "100000000000000000000_x"),
    ],
)
def test_create_uses_the_next_number_with_as_many_digits_as_the_newest(
    write: Write, names: list[str], expected: str
) -> None:
    directory = write({f"{name}.up.sql": "" for name in names})
    up_path, down_path = create([directory], "x", now=NOW)
    assert (up_path.name, down_path.name) == (f"{expected}.up.sql", f"{expected}.down.sql")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("add_phone", "add_phone"),
        ("Add Phone", "add_phone"),
        ("  add   phone!  ", "add_phone"),
        ("add-phone", "add-phone"),
        ("v1.2", "v1.2"),
        ("2fa", "2fa"),
        ("naïve", "na_ve"),
        ("-x", "x"),
    ],
)
def test_create_converts_any_words_into_a_name(directory: Path, name: str, stem: str) -> None:
    up_path, _ = create([directory], name, now=NOW)
    assert up_path.name == f"01_{stem}.up.sql"
    assert versions(directory) == [f"01_{stem}"]


@pytest.mark.parametrize("name", ["a/b", "../a", "a\\b", "/etc/passwd"])
def test_create_refuses_a_path(directory: Path, name: str) -> None:
    with pytest.raises(UsageError, match="contains a path separator"):
        create([directory], name, now=NOW)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("name", ["", " ", "!!", "---", "漢字"])
def test_create_refuses_a_name_without_letters_and_digits(directory: Path, name: str) -> None:
    with pytest.raises(UsageError, match="contains no ASCII letter or digit"):
        create([directory], name, now=NOW)
    assert list(directory.iterdir()) == []


def test_create_creates_the_directory(tmp_path: Path) -> None:
    up_path, _ = create([tmp_path / "db" / "migrations"], "x", now=NOW)
    assert up_path == tmp_path / "db" / "migrations" / "01_x.up.sql"


def test_create_writes_templates_that_are_refused_while_their_first_line_is_there(
    directory: Path,
) -> None:
    for path in create([directory], "x", now=NOW):
        text = path.read_text()
        (problem,) = parser.parse(path, text).problems
        assert str(problem) == f"{path}:1:1: the file is a draft"
        script = parser.parse(path, text.partition("\n")[2])
        assert (script.problems, script.units[0].statements) == ((), ())
        assert "01_x" in text


def test_create_overwrites_nothing_and_leaves_no_half_of_a_pair(
    directory: Path, write: Write
) -> None:
    (directory / "01_x.up.sql").mkdir()  # `read` ignores it, so its number is free
    with pytest.raises(DirectoryError, match=r"cannot write .*01_x\.up\.sql: File exists"):
        create([directory], "x", now=NOW)
    assert [path.name for path in directory.iterdir()] == ["01_x.up.sql"]
    (directory / "01_x.up.sql").rmdir()
    (directory / "01_x.down.sql").mkdir()
    with pytest.raises(DirectoryError, match=r"cannot write .*01_x\.down\.sql: File exists"):
        create([directory], "x", now=NOW)
    assert [path.name for path in directory.iterdir()] == ["01_x.down.sql"]


@pytest.mark.parametrize(
    "broken", [{"x.sql": ""}, {"01_a.up.sql": "", "1_b.up.sql": ""}, {"01_a.up.sql": b"\xff"}]
)
def test_create_adds_nothing_to_a_directory_with_problems(
    write: Write, broken: Mapping[str, str | bytes]
) -> None:
    directory = write(broken)
    with pytest.raises(BlockedError):
        create([directory], "x", now=NOW)
    assert sorted(path.name for path in directory.iterdir()) == sorted(broken)


@not_as_root
def test_create_reports_a_directory_that_cannot_be_written(directory: Path) -> None:
    directory.chmod(0o500)
    with pytest.raises(DirectoryError, match=r"cannot write .*: Permission denied"):
        create([directory], "x", now=NOW)
    directory.chmod(0o700)


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "01_a.up.sql").symlink_to("01_a.up.sql")
    with pytest.raises(BlockedError) as caught:
        read_migrations(tmp_path)
    (error,) = caught.value.errors
    assert "01_a.up.sql cannot be read: Too many levels" in str(error)
