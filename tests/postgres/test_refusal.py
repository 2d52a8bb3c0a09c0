"""Each hint on a refused connection fits what a real server and libpq say."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from migrator import config
from migrator.errors import DatabaseConnectionError
from migrator.output.terminal import readable
from migrator.postgres import connection
from migrator.postgres.refusal import HINTS, worded

from ..conftest import Postgres, find_contrib, free_port, serve
from ..sessions import wait_for

# By the role that connects; "unlisted" has no entry.
RULES = """\
local all postgres peer map=migrator
local all peer peer
hostssl all only_tls 127.0.0.1/32 scram-sha-256
hostnossl all only_plain 127.0.0.1/32 scram-sha-256
host all rejected 127.0.0.1/32 reject
hostssl all by_certificate,other 127.0.0.1/32 cert
host all ident 127.0.0.1/32 ident
host all app,full,nologin 127.0.0.1/32 scram-sha-256
"""
ROLES = """
create role only_tls login password 'x'; create role only_plain login password 'x';
create role by_certificate login; create role app login password 'x';
create role full login password 'x' connection limit 0; create role nologin password 'x';
"""
UNUSED = free_port()
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(folder: Path, *arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of two authorities: of the server and a client by `ca`, of another by `no`."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "no"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl(folder, "req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}", *files)
    for name, signer in (("server", "ca"), ("by_certificate", "ca"), ("stranger", "no")):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "req", *KEY, "-subj", f"/CN={name}", *files)
        signed = ("-in", f"{name}.csr", "-CA", f"{signer}.crt", "-CAkey", f"{signer}.key")
        out = ("-CAcreateserial", "-days", "2", "-out", f"{name}.crt")
        openssl(folder, "x509", "-req", *signed, *out)
    shutil.copy(folder / "stranger.key", folder / "readable.key")
    (folder / "readable.key").chmod(0o644)
    return folder


@contextmanager
def guarded(postgres: Postgres, *, tls: bool) -> Iterator[Postgres]:
    """Give a server these rules and roles."""
    # A server that was built without TLS refuses a file that mentions it.
    lines = (line for line in RULES.splitlines() if tls or "ssl " not in line)
    (postgres.server.data / "pg_hba.conf").write_text("\n".join(lines) + "\n")
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(ROLES.encode())
        conn.execute("create database closed")
        conn.execute("alter database closed allow_connections false")
        conn.execute("create database private")
        conn.execute("revoke connect on database private from public")
        conn.execute("select pg_reload_conf()")
    wait_for(lambda: "rejects" in refusal(tcp(postgres, {"user": "rejected"})).message)
    yield postgres


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[Postgres]:
    """A server with TLS."""
    with serve(source=find_contrib()) as postgres:
        account = postgres.server.account
        for name in ("server.key", "server.crt", "ca.crt"):
            copy = shutil.copy(folder / name, postgres.server.data / name)
            if account:
                os.chown(copy, account.pw_uid, account.pw_gid)
        with guarded(postgres, tls=True), psycopg.connect(postgres.url(), autocommit=True) as conn:
            conn.execute("alter system set ssl_ca_file = 'ca.crt'")
            conn.execute("alter system set ssl = on")
            conn.execute("select pg_reload_conf()")
            encrypted = {"user": "rejected", "sslmode": "require"}
            wait_for(lambda: "SSL encryption" in refusal(tcp(postgres, encrypted)).message)
            yield postgres


@pytest.fixture(scope="module")
def plain() -> Iterator[Postgres]:
    """A server without TLS."""
    with serve() as postgres, guarded(postgres, tls=False):
        yield postgres


def client(name: str, *, key: str | None = None) -> dict[str, str]:
    """Use a client's certificate; `{}` is for the folder."""
    files = {"sslcert": f"{{}}/{name}.crt", "sslkey": f"{{}}/{key or name}.key"}
    return {"user": "by_certificate", "sslmode": "require", **files}


UNENCRYPTED = "no encryption|SSL off"  # the second is PostgreSQL 13's
CLIENT = "client certificate|certificate (?:file|present|authentication)|private key|unknown ca"
PARAMETER = " value|parameter|SSL protocol|weak sslmode|port number|method requirement|command-line"
# The pattern in HINTS; what is said; the parameters that are not those of the role "app".
Case = tuple[str, str, Mapping[str, str]]
ON_TLS: tuple[Case, ...] = (
    (UNENCRYPTED, UNENCRYPTED, {"user": "only_tls", "sslmode": "disable"}),
    ("pg_hba.conf", "SSL encryption", {"user": "only_plain", "sslmode": "require"}),
    ("pg_hba.conf", "SSL encryption", {"user": "unlisted", "sslmode": "require"}),
    ("pg_hba.conf", UNENCRYPTED, {"user": "unlisted"}),
    ("pg_hba.conf", UNENCRYPTED, {"user": "unlisted", "sslmode": "allow"}),
    ("pg_hba.conf", "rejects connection", {"user": "rejected"}),
    ("pg_hba.conf", 'user "private key"', {"user": "private key"}),
    ("root certificate", "root certificate file", {"sslmode": "verify-ca"}),
    (
        "root certificate",
        "could not read root certificate file",
        {"sslmode": "verify-ca", "sslrootcert": "{}/ca.key"},
    ),
    (
        "certificate",
        "certificate verify failed",
        {"sslmode": "verify-ca", "sslrootcert": "{}/no.crt"},
    ),
    (
        "certificate",
        "does not match host name",
        {"sslmode": "verify-full", "sslrootcert": "{}/ca.crt"},
    ),
    (CLIENT, "requires a valid client certificate", {"user": "by_certificate"}),
    (CLIENT, "authentication failed", {**client("by_certificate"), "user": "other"}),
    (CLIENT, "but not private key file", client("by_certificate", key="absent")),
    (CLIENT, "key values mismatch", client("by_certificate", key="ca")),
    (CLIENT, "has group or world access", client("stranger", key="readable")),
    (CLIENT, "unknown ca", client("stranger")),
    (
        CLIENT,
        "could not read certificate file",
        {**client("by_certificate"), "sslcert": "{}/ca.key"},
    ),
    (
        PARAMETER,
        "invalid SSL protocol version range",
        {"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"},
    ),
    (PARAMETER, "weak sslmode", {"sslmode": "require", "sslrootcert": "system"}),
)
ON_PLAIN: tuple[Case, ...] = (
    ("pg_hba.conf", UNENCRYPTED, {"user": "unlisted"}),
    (UNENCRYPTED, UNENCRYPTED, {"user": "unlisted", "sslmode": "disable"}),
    ("support SSL", "does not support SSL", {"sslmode": "require"}),
    ("password authentication failed", "authentication failed", {"password": "wrong"}),
    ("no password supplied", "no password supplied", {"password": ""}),
    ("too many|connection slots", "too many connections", {"user": "full"}),
    ("does not exist", 'database "read-only" does not exist', {"dbname": "read-only"}),
    ("not permitted to log in", "not permitted", {"user": "nologin"}),
    ("permission denied for database", "permission denied", {"dbname": "private"}),
    ("not currently accepting", "not currently accepting", {"dbname": "closed"}),
    ("(?:resolve|translate) host", "failed to resolve host", {"host": "absent.invalid"}),
    ("could not match", "2 port numbers to 1 hosts", {"port": "1,2"}),
    ("could not match", "2 host names with 1 hostaddr", {"host": "a,b", "hostaddr": "127.0.0.1"}),
    ("read-only|hot standby", "not read-only", {"target_session_attrs": "read-only"}),
    ("read-only|hot standby", "not in hot standby", {"target_session_attrs": "standby"}),
    ("definition of service", "not found", {"service": "absent"}),
    (PARAMETER, "bad value for connect_timeout", {"connect_timeout": "soon"}),
    (PARAMETER, "invalid sslmode value", {"sslmode": "perhaps"}),
    (PARAMETER, "invalid port number", {"port": "70000"}),
    (PARAMETER, "unrecognized configuration parameter", {"options": "-cabsent=1"}),
    (PARAMETER, 'invalid value for parameter "work_mem"', {"options": "-cwork_mem=x"}),
    (PARAMETER, "command-line argument", {"options": "x"}),
    (PARAMETER, "method requirement", {"require_auth": "md5"}),
    ("FATAL", "Ident authentication failed", {"user": "ident"}),
    ("", "Connection refused", {"port": str(UNUSED)}),
)
# What needs more than parameters has a test of its own below.
OTHERS = {
    "[Pp]eer authentication failed",
    r"\[local\]",
    "SSL negotiation|expected authentication",
    "the database system is",
}


def hinted(error: DatabaseConnectionError) -> str:
    """Return the pattern that the hint belongs to."""
    return {worded(hint): pattern for pattern, hint in HINTS.items()}[error.hint or ""]


def test_no_hint_holds_what_is_hidden_as_a_password() -> None:
    hints = [worded(hint) for hint in HINTS.values()]
    assert list(map(readable, hints)) == hints


def refusal(parameters: Mapping[str, str]) -> DatabaseConnectionError:
    with pytest.raises(DatabaseConnectionError) as caught:
        connection.connect(
            config.Database(f"postgresql://?{urlencode(parameters, quote_via=quote)}")
        )
    return caught.value


def tcp(postgres: Postgres, parameters: Mapping[str, str], folder: str = "") -> dict[str, str]:
    port = str(postgres.server.port)
    given = {"host": "127.0.0.1", "port": port, "dbname": "postgres", "user": "app"}
    used = {**given, "password": "x", **parameters}
    return {name: value.replace("{}", folder) for name, value in used.items() if value}


@pytest.mark.parametrize(("pattern", "said", "parameters"), ON_TLS)
def test_a_server_with_tls_is_answered_with(
    secure: Postgres, folder: Path, pattern: str, said: str, parameters: Mapping[str, str]
) -> None:
    error = refusal(tcp(secure, parameters, str(folder)))
    assert any(each in error.message for each in said.split("|"))
    assert hinted(error) == pattern, error.message


@pytest.mark.parametrize(("pattern", "said", "parameters"), ON_PLAIN)
def test_a_server_without_tls_is_answered_with(
    plain: Postgres, pattern: str, said: str, parameters: Mapping[str, str]
) -> None:
    error = refusal(tcp(plain, parameters))
    assert any(each in error.message for each in said.split("|"))
    assert hinted(error) == pattern, error.message


@pytest.mark.parametrize(
    ("pattern", "user"), [("[Pp]eer authentication failed", "peer"), (r"\[local\]", "app")]
)
def test_a_socket_is_answered_with(plain: Postgres, pattern: str, user: str) -> None:
    socket_of = conninfo_to_dict(plain.url())
    error = refusal({**{name: str(value) for name, value in socket_of.items()}, "user": user})
    assert hinted(error) == pattern, error.message


def test_a_server_that_is_full_or_shutting_down_is_answered_with_what_to_wait_for() -> None:
    few = ("max_connections=4", "superuser_reserved_connections=3", "max_wal_senders=0")
    with serve(options=few) as postgres, ExitStack() as stack:
        stack.enter_context(guarded(postgres, tls=False))
        stack.enter_context(psycopg.connect(postgres.tcp_url("postgres", "app", "x")))
        full = refusal(tcp(postgres, {}))
        postmaster = (postgres.server.data / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGTERM)  # it waits for the sessions to end
        wait_for(lambda: "shutting down" in refusal(tcp(postgres, {})).message)
        ending = refusal(tcp(postgres, {}))
    assert "connection slots are reserved" in full.message
    assert hinted(full) == "too many|connection slots"
    assert hinted(ending) == "the database system is"


@pytest.mark.parametrize("mode", ["prefer", "disable"])
def test_another_kind_of_server_is_told_from_postgresql(mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = str(listener.getsockname()[1])
        error = refusal({"host": "127.0.0.1", "port": port, "sslmode": mode})
        thread.join()
    assert hinted(error) == "SSL negotiation|expected authentication", error.message


def test_every_row_is_tested() -> None:
    tested = {pattern for pattern, _, _ in (*ON_TLS, *ON_PLAIN)}
    assert tested | OTHERS == HINTS.keys()
