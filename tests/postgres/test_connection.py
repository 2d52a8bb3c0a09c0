"""Why no connection was made: the server's own words, with no password in them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest

from migrator import config
from migrator.errors import ConfigurationError, DatabaseConnectionError
from migrator.postgres import connection

from ..conftest import Database, free_port


def refusal(url: str | None, environ: Mapping[str, str]) -> DatabaseConnectionError:
    """Return the error of a connection that cannot be made."""
    database = config.database(url, environ)
    assert database
    with pytest.raises(DatabaseConnectionError) as caught:
        connection.connect(database)
    return caught.value


@pytest.mark.parametrize(
    ("user", "password"), [("absent", "absent"), ("absent", "e"), ("x", "x"), ("on", "o")]
)
def test_a_wrong_password_changes_nothing_in_the_message(
    database: Database, user: str, password: str
) -> None:
    error = refusal(database.tcp_url(user, password), {})
    assert error.message.startswith('connection to server at "127.0.0.1", port ')
    assert error.message.endswith(f'FATAL: password authentication failed for user "{user}"')
    assert (error.hint or "").startswith("check the user and the password (DATABASE_URL, or")


@pytest.mark.parametrize("password", ["exit", "exist", "x", "does not exist"])
def test_a_password_may_be_a_part_of_another_name(database: Database, password: str) -> None:
    role = f"role_{database.name}"
    database.execute(f"create role {role} login password '{password}'")
    try:
        error = refusal(database.postgres.tcp_url("exit", role, password), {})
    finally:
        database.execute(f"drop role {role}")
    assert error.message.endswith('FATAL: database "exit" does not exist')
    assert (error.hint or "").startswith("create it, or check its name (DATABASE_URL, or")


def test_an_absent_role_is_named_on_a_socket_too(database: Database) -> None:
    error = refusal(database.url.replace("postgres@", "nobody:x@"), {})
    assert '"nobody"' in error.message
    assert "*" not in error.message


@pytest.mark.parametrize(
    "variables",
    [
        {"DATABASE_HOST": "postgresql://app:s3:cr@et@h/d"},
        {"DATABASE_HOST": "app:s3cr@et@h"},
        {"DATABASE_NAME": "postgresql://app:s3cret@h/d"},
        {"DATABASE_NAME": "host=h password=s3cret"},
        {"DATABASE_NAME": "host=h password='s3 cret' user=u"},
    ],
)
def test_a_password_in_the_name_of_a_host_or_database_is_masked(
    database: Database, variables: Mapping[str, str]
) -> None:
    server = database.postgres
    database.execute("create role named login password 'pass'")
    try:
        error = refusal(
            None,
            {
                "DATABASE_HOST": "127.0.0.1",
                "DATABASE_PORT": str(server.server.port),
                "DATABASE_USER": "named",
                "DATABASE_PASSWORD": "pass",
                **variables,
            },
        )
    finally:
        database.execute("drop role named")
    assert "****" in error.message
    assert not any(part in error.message for part in ("s3", "cr", "et@"))
    hints = {"DATABASE_HOST": "check the host name", "DATABASE_NAME": "create it"}
    assert (error.hint or "").startswith(hints[next(iter(variables))])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:12/cr%20et@h/d",
        "postgresql://app:12@cr%20et@h/d",
        "postgresql://app:12@localhost:1@h/d",
        "postgresql://app:12/cret@h/d?application_name=x",
    ],
)
def test_a_url_that_a_password_cuts_short_is_refused_unread(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connection.connect(config.Database(url=url))
    assert caught.value.message == "the database URL cannot be read"


@pytest.mark.parametrize(
    ("query", "name", "hint"),
    [
        ("schema=app", "schema", "with --schema NAME"),
        ("sslmode=disable&currentSchema=app", "currentSchema", "with --schema NAME"),
        ("sslmod=require", "sslmod", "did you mean sslmode?"),
        ("pool_size=5", "pool_size", "libpq has no such parameter"),
    ],
)
def test_an_unknown_parameter_of_a_url_is_named(query: str, name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connection.connect(config.Database(url=f"postgresql://u:s3cret@h/d?{query}"))
    assert caught.value.message == f'the database URL has an unknown parameter "{name}"'
    assert hint in (caught.value.hint or "")
    assert "s3cret" not in f"{caught.value!r}"


def test_an_unknown_parameter_of_a_connection_string_is_named_before_its_password_only() -> None:
    for text, said, hint in (
        ("host=h bogus=1", 'the database URL has an unknown parameter "bogus"', "remove it"),
        ("host=h password=a b=c", "the database URL cannot be read", "in single quotes"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            connection.connect(config.Database(url=text))
        assert caught.value.message == said
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    ["://s3@cr/et@x", "s3 cr@et", "s3?cr#et", "%41"],
)
def test_a_password_of_any_characters_is_read_where_it_is_quoted(text: str) -> None:
    port = free_port()
    for url in (
        f"postgresql://app:{quote(text, safe='')}@127.0.0.1:{port}/d",
        f"postgresql://127.0.0.1:{port}/d?user=app&password={quote(text, safe='')}",
        f"host=127.0.0.1 port={port} user=app password='{text}'",
    ):
        error = refusal(url, {})
        assert "Connection refused" in error.message
        assert "s3" not in error.message


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("connect_timeout=soon", "bad value for connect_timeout: 'soon'"),
        ("sslmode=perhaps", 'invalid sslmode value: "perhaps"'),
        ("target_session_attrs=x", 'invalid target_session_attrs value: "x"'),
    ],
)
def test_a_parameter_that_cannot_be_right_is_named(
    database: Database, parameter: str, message: str
) -> None:
    error = refusal(f"{database.url}&{parameter}", {})
    assert message in error.message
    assert (error.hint or "").startswith("check this parameter of the connection")


def test_a_server_without_tls_is_told_from_one_that_does_not_run(database: Database) -> None:
    error = refusal(database.tcp_url("postgres", "x") + "?sslmode=require", {})
    assert "SSL" in error.message
    assert (error.hint or "").startswith("check whether the server supports SSL (DATABASE_URL, or")


def test_too_many_connections_are_told_from_a_server_that_does_not_run(database: Database) -> None:
    role = f"role_{database.name}"
    database.execute(f"create role {role} login connection limit 0 password 'x'")
    try:
        error = refusal(database.tcp_url(role, "x"), {})
    finally:
        database.execute(f"drop role {role}")
    assert "too many connections" in error.message
    assert "pg_stat_activity" in (error.hint or "")


def test_several_hosts_are_tried_in_turn(database: Database) -> None:
    given = database.postgres
    ports = f"{free_port()},{given.server.port}"
    role = f"role_{database.name}"
    database.execute(f"create role {role} login password 'x'")
    environ = {
        "DATABASE_HOST": "127.0.0.1,127.0.0.1",
        "DATABASE_PORT": ports,
        "DATABASE_NAME": database.name,
        "DATABASE_USER": role,
        "DATABASE_PASSWORD": "x",
    }
    found = config.database(None, environ)
    assert found
    try:
        with connection.connect(found) as conn:
            assert conn.info.port == given.server.port
    finally:
        database.execute(f"drop role {role}")
    ports = f"{free_port()},{free_port()}"
    error = refusal(None, {**environ, "DATABASE_PORT": ports})
    assert error.message.count("Connection refused") == 2
