"""Which database options and environment choose, and what is invalid."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from migrator import config
from migrator.config import Database
from migrator.errors import ConfigurationError
from migrator.postgres import connection

URL = "postgresql://app:s3cret@db.example:5432/shop"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HOME": "/root"}, None),
        ({"DATABASE_URL": ""}, None),
        ({"DATABASE_URL": "  "}, None),
        ({"PGPASSWORD": "x"}, None),  # does not say where
        ({"PGSSLMODE": "require"}, None),
        ({"DATABASE_URL": URL}, Database(url=URL)),
        ({"DATABASE_URL": f" {URL}\n"}, Database(url=URL)),
        ({"DATABASE_URL": "postgres://h/d"}, Database(url="postgres://h/d")),
        ({"DATABASE_URL": "host=h dbname=d"}, Database(url="host=h dbname=d")),
        ({"DATABASE_URL": "host=h password=a://b"}, Database(url="host=h password=a://b")),
        ({"DATABASE_URL": "service=prod"}, Database(url="service=prod")),
        ({"DATABASE_URL": URL, "DATABASE_HOST": "other"}, Database(url=URL)),
        ({"DATABASE_URL": URL, "DATABASE_PORT": "x"}, Database(url=URL)),
        (
            {"DATABASE_URL": URL, "DATABASE_SSL": "true"},
            Database(url=URL, defaults={"sslmode": "require"}),
        ),
        ({"DATABASE_URL": "embedded:"}, Database(embedded="postgres")),
        ({"DATABASE_URL": "embedded:shop"}, Database(embedded="shop")),
        ({"PGHOST": "h"}, Database()),
        ({"PGSERVICE": "prod"}, Database()),
        ({"DATABASE_HOST": "h"}, Database(parameters={"host": "h"})),
        (
            {
                "DATABASE_HOST": "h",
                "DATABASE_PORT": "5433",
                "DATABASE_NAME": "d",
                "DATABASE_USER": "u",
                "DATABASE_PASSWORD": " p ",
                "DATABASE_SSL": "true",
            },
            Database(
                parameters={
                    "host": "h",
                    "port": "5433",
                    "dbname": "d",
                    "user": "u",
                    "password": " p ",
                    "sslmode": "require",
                }
            ),
        ),
    ],
)
def test_the_environment_chooses_the_database(
    environ: Mapping[str, str], expected: Database | None
) -> None:
    assert config.database(None, environ) == expected


def test_the_option_overrides_the_environment() -> None:
    assert config.database(URL, {"DATABASE_URL": "postgresql://other/x"}) == Database(url=URL)
    assert config.database("", {"DATABASE_URL": URL}) == Database(url=URL)


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("true", "require"),
        ("TRUE ", "require"),
        ("false", "disable"),
        ("prefer", "prefer"),
        ("verify-full", "verify-full"),
    ],
)
def test_ssl_is_true_false_or_a_mode_of_libpq(word: str, mode: str) -> None:
    database = config.database(None, {"DATABASE_SSL": word})
    assert database == Database(parameters={"sslmode": mode})


@pytest.mark.parametrize(
    ("environ", "message", "hint"),
    [
        ({"DATABASE_SSL": "yes"}, 'invalid DATABASE_SSL "yes"', "use true, false or"),
        ({"DATABASE_SSL": "1"}, 'invalid DATABASE_SSL "1"', "verify-full"),
        ({"DATABASE_PORT": "54x"}, 'invalid DATABASE_PORT "54x"', "for example 5432"),
        ({"DATABASE_PORT": "-1"}, 'invalid DATABASE_PORT "-1"', "for example 5432"),
        ({"DATABASE_PORT": "0"}, 'invalid DATABASE_PORT "0"', "from 1 to 65535"),
        ({"DATABASE_PORT": "65536"}, 'invalid DATABASE_PORT "65536"', "65535"),
        (
            {"DATABASE_URL": "mysql://u:s3cret@h/d"},
            'the database URL starts with "mysql://"',
            "migrator works with PostgreSQL only",
        ),
        (
            {"DATABASE_URL": "postgresql+psycopg://u:s3cret@h/d"},
            'the database URL starts with "postgresql+psycopg://"',
            "start it with postgresql://",
        ),
        (
            {"DATABASE_URL": "u:s3cret@h/d"},
            "the database URL is neither a URL nor a libpq connection string",
            "use postgresql://",
        ),
        (
            {"DATABASE_URL": '"postgresql://u:s3cret@h/d"'},
            "the database URL is in quotes",
            "remove them",
        ),
        (
            {"DATABASE_URL": "Embedded:"},
            "the database URL is neither a URL nor a libpq connection string",
            "or embedded:",
        ),
    ],
)
def test_an_invalid_value_is_named_with_valid_ones(
    environ: Mapping[str, str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.database(None, environ)
    assert caught.value.message == message
    assert hint in (caught.value.hint or "")
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_no_repr_shows_a_password() -> None:
    database = config.database(None, {"DATABASE_USER": "u", "DATABASE_PASSWORD": "s3cret"})
    assert "s3cret" not in repr(config.Settings(database=database))
    assert "s3cret" not in repr(config.database(URL, {}))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3@cret@h/d",
        "postgresql://u:s3/cret@h/d",
        "postgresql://u:s3cr%zzet@h/d",
        "postgresql://u:s3cr%ffet@h/d",
        "postgresql://u:x@y?s3=cret@h/d",
        "postgresql://u:s3 cret@h:x/d",
        "postgresql://u:s3cret@h:x/d",
        "host=h password=s3cret bogus=1",
        "host=h password='s3cret",
    ],
)
def test_an_unreadable_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connection.connect(Database(url=url))
    assert caught.value.message == "the database URL cannot be read"
    form = "%40 (@)" if "://" in url else "host=… dbname=… user=…"
    assert form in (caught.value.hint or "")
    assert not any(part in f"{caught.value!r}" for part in ("s3", "cret"))
