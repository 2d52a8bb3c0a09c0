"""A configuration file is read safely, and every key in it has a line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import config_file
from migrator.errors import ConfigurationError

KEYS_OF_EVERY_KIND = '''\
# dir = "a comment"
dir = "x"

schema = """
dir = "text"
a = 3
"""
"lock-timeout" = "3s"
a.b . c = [
  # a comment
  1,
  2]
rehearse = { small = "1MB", "sm.al" = 3 }
env.staging.dir = "y"

[env.prod]

  # a comment
   'dir' = "z"
[env.prod.rehearse]\r
small = """one \\
    two"""\r
[up]
[x."y.z"]
q = 1
'''


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (("dir",), (2, 1)),
        (("schema",), (4, 1)),
        (("lock-timeout",), (8, 1)),
        (("a",), (9, 1)),
        (("a", "b", "c"), (9, 1)),
        (("rehearse", "small"), (13, 1)),
        (("rehearse", "sm.al"), (13, 1)),
        (("env",), (14, 1)),
        (("env", "staging", "dir"), (14, 1)),
        (("env", "prod"), (16, 1)),
        (("env", "prod", "dir"), (19, 4)),
        (("env", "prod", "rehearse"), (20, 1)),
        (("env", "prod", "rehearse", "small"), (21, 1)),
        (("up",), (23, 1)),
        (("x",), (24, 1)),
        (("x", "y.z", "q"), (25, 1)),
    ],
)
def test_a_key_has_the_line_where_it_is_given(
    tmp_path: Path, keys: tuple[str, ...], place: tuple[int, int]
) -> None:
    path = tmp_path / "migrator.toml"
    path.write_bytes(b"\xef\xbb\xbf" + KEYS_OF_EVERY_KIND.encode())
    found = config_file.read(path).place(keys)
    assert (found.line, found.column) == place


NAMES = st.text("ab.# '\"=é-", min_size=1, max_size=4)
VALUES = st.sampled_from(["1", '"""\nk = 1\n"""', "[\n1,\n# k\n]", "'''\n[k]'''", "{ k = 1 }"])


@given(
    st.lists(
        st.tuples(NAMES, VALUES, st.sampled_from(["", "\n", "# [x\n"])),
        unique_by=lambda item: item[0],
    )
)
def test_every_key_of_any_file_has_its_line(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, str, str]]
) -> None:
    text, lines = "", {}
    for name, value, before in items:
        text += before
        lines[name] = text.count("\n") + 1
        quoted = name.replace('"', '\\"')
        text += f'"{quoted}" = {value}\n'
    assert list(tomllib.loads(text)) == list(lines)
    path = tmp_path_factory.mktemp("any") / "migrator.toml"
    path.write_text(text, encoding="utf-8")
    file = config_file.read(path)
    assert {name: file.place((name,)).line for name in lines} == lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dir = \n", "1:7: invalid TOML: invalid value"),
        ('\ndir = "a"\ndir = "b"\n', "3:10: invalid TOML: cannot overwrite a value"),
        ("\n[rehearse\n", '2:10: invalid TOML: expected "]" at the end of a table declaration'),
        ("dir", "1:4: invalid TOML: expected '=' after a key in a key/value pair"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    error = refused(tmp_path, text.encode())
    assert str(error).replace("'", '"') == f"{tmp_path}/migrator.toml:{said}".replace("'", '"')


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"dir = 'caf\xe9'", "migrator.toml is not UTF-8: byte 10 is 0xE9"),
        ("dir = 'x'".encode("utf-16"), "migrator.toml is not UTF-8: byte 0 is 0x"),
        (b"# x\n" * (1 << 15), "migrator.toml is larger than 64 kB"),
        (b"x = " + b"[" * 9000, "too long or nested too deeply"),
        (b"x = " + b"1" * 9000, "too long or nested too deeply"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in str(refused(tmp_path, content))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, said in (
        ("fifo", "fifo is not a file"),
        (".", "Is a directory"),
        ("none.toml", "none.toml: No such file"),
        ("dangling", "dangling: No such file"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            config_file.read(tmp_path / name)
        assert said in caught.value.message
        assert "--config" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('password = "s3cret"', 1),
        ("\npassword = 12345", 2),
        ('dir = "x"\n[env.prod]\n"password" = "s3cret"', 3),
        ('[env.prod]\n\nsslpassword = "s3cret"', 3),
        ('DATABASE_PASSWORD = "s3cret"', 1),
        ('database-url = "postgresql://app:s3cret@db/shop"', 1),
        ('database-url = "postgresql://app:s3/cret@db/shop"', 1),
        ('database-url = "postgresql://app:s3@cret@db/shop"', 1),
        ('database-url = "postgresql://app@db/shop?sslmode=require&password=s3cret"', 1),
        ('database-url = "postgresql://app@db/shop?%70assword=s3cret"', 1),
        ('database-url = "postgresql://app@db/shop?sslpassword=s3cret"', 1),
        ("database-url = \"host=db password = 's3cret'\"", 1),
        ('[rehearse]\nscratch-url = "host=db sslpassword=s3cret"', 2),
        ('password-command = [\n"curl",\n"https://me:s3cret@vault/"]', 1),
        ('unknown = { x = ["postgresql://app:s3cret@db/shop"] }', 1),
    ],
)
def test_a_password_is_refused_and_not_repeated(tmp_path: Path, text: str, line: int) -> None:
    error = refused(tmp_path, text.encode())
    assert error.message == "a password does not belong in this file"
    assert error.location is not None
    assert error.location.line == line
    assert "password-command = [" in (error.hint or "")
    assert not any(part in f"{error!r}" for part in ("s3cret", "12345", "cret@"))


@pytest.mark.parametrize(
    "url",
    [
        "embedded:",
        "postgresql://app@db.example:5432/shop?sslmode=verify-full",
        "postgresql://app:@db/shop",
        "postgresql://one:5432,two:5433/shop?application_name=a@b",
        "postgresql:///shop?options=-csearch_path%3Dtenant1",
        "postgresql://[::1]:5432/shop?application_name=a@b",
        "host=db dbname=shop passfile=/etc/pgpass",
        "service=prod",
    ],
)
def test_a_url_without_a_password_is_accepted(tmp_path: Path, url: str) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(f'database-url = "{url}"')
    assert config_file.read(path).values == {"database-url": url}


def refused(folder: Path, content: bytes) -> ConfigurationError:
    path = folder / "migrator.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        config_file.read(path)
    return caught.value
