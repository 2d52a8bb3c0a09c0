"""Why no connection was made: libpq's message without passwords, and what to do about it."""

from __future__ import annotations

import re

import psycopg

from ..errors import DatabaseConnectionError, UnavailableError
from ..passwords import without_passwords

# A URL where the name of a host or database was expected.
_CREDENTIALS = re.compile(r":(?!//)[^\s\"']*@")
# What psycopg and Python prepend to messages of libpq and of the operating system.
_PREFIXES = re.compile(r"^(?:connection failed|connection is bad): |\[Errno -?[0-9]+\] ")
# Names and values; [local] is what the server calls its socket.
_QUOTED = re.compile(r'"(?!\[local\])[^"]*"')

_TOO_MANY = (
    "a run needs two connections, and a third to see what blocks it: end idle sessions (see\n"
    "pg_stat_activity), or try again when the system is less busy"
)
HINTS = {
    "password authentication failed": "check the user and the password{}USER, _PASSWORD",
    "no password supplied": "give a password, or use a passfile{}PASSWORD",
    "[Pp]eer authentication failed": (
        "on a socket, the role must have the name of your operating system account: use that one,\n"
        "or connect over TCP with a password{}HOST, _USER"
    ),
    "root certificate": (
        "give the file of the certificate authority: sslrootcert=FILE in the URL, or PGSSLROOTCERT"
    ),
    "client certificate|certificate (?:file|present|authentication)|private key|unknown ca": (
        "check the client's certificate and its key: sslcert=FILE and sslkey=FILE in the URL, or\n"
        "PGSSLCERT and PGSSLKEY"
    ),
    r"\[local\]": "allow this user on the socket in pg_hba.conf, or connect over TCP{}HOST",
    "no encryption|SSL off": (  # the second is PostgreSQL 13's
        "try TLS: DATABASE_SSL=require, or sslmode=require in the URL; if the server has no TLS,\n"
        "allow this user and host in pg_hba.conf"
    ),
    "pg_hba.conf": "allow this user and host in pg_hba.conf, or check{}USER, _SSL",
    "certificate": "check the server's certificate, the host name in it, and sslrootcert{}SSL",
    "too many|connection slots": _TOO_MANY,
    "SSL negotiation|expected authentication": (
        "something other than PostgreSQL answers there: check{}HOST, _PORT"
    ),
    "support SSL": "check whether the server supports SSL{}SSL",
    "does not exist": "create it, or check its name{}NAME, _USER",
    "not permitted to log in": "use another role, or: alter role NAME login;{}USER",
    "permission denied for database": "grant connect on database NAME to ROLE;",
    "not currently accepting": "alter database NAME allow_connections true;",
    "the database system is": "the server is starting or stopping: try again in a moment",
    "(?:resolve|translate) host": "check the host name{}HOST",
    "could not match": "give one port for all hosts, or one for each of them{}HOST, _PORT",
    "read-only|hot standby": (
        "no server has the role that target_session_attrs asks for: check it, and the hosts{}HOST"
    ),
    "definition of service": "check the service's name: PGSERVICE, and the file PGSERVICEFILE",
    " value|parameter|SSL protocol|weak sslmode|port number|method requirement|command-line": (
        "check this parameter of the connection: DATABASE_URL, or libpq's PG* variables"
    ),
    "FATAL": "the server is running, but refused the connection: check{}NAME, _USER",
    "": "check that PostgreSQL is running there{}HOST, _PORT",
}
"""What to do about a message, by a pattern in it, without quoted names; the first match counts.

What follows `{}` are the variables that matter, beside DATABASE_URL.  Each row is tested on a real
server: add yours to `tests/postgres/test_refusal.py`.
"""

# PostgreSQL's codes are not in the errors of libpq.  57P03 is "the database system is", 3D000 is
# "database … does not exist".
_MAY_PASS = re.compile(
    "Connection refused|timeout expired|Connection reset by peer"
    "|server closed the connection unexpectedly|No route to host|Network is unreachable"
    "|(?:resolve|translate) host|on socket .*No such file or directory"
    "|the database system is|database  does not exist"
)


def no_connection(error: psycopg.Error) -> DatabaseConnectionError:
    """Return our error for a connection that libpq did not make."""
    # With several hosts or addresses, psycopg lists the error of each, and repeats the last.
    lines = str(error).partition("All failures were:")[2] or str(error)
    kind = UnavailableError if all(map(_may_pass, _failures(lines))) else DatabaseConnectionError
    text = _PREFIXES.sub("", " ".join(lines.split()))
    # Neither libpq nor the server repeats the password itself.
    masked = without_passwords(_CREDENTIALS.sub(":****@", text))
    return kind(masked, hint=_hint(text, tried_tls=_tried_tls(error)))


def _failures(text: str) -> list[str]:
    """Return why each attempt failed: of each host, and with TLS and without."""
    hosts = [each for each in text.split("- host: ") if each.strip()]
    return [each for host in hosts for each in host.split("connection to server")[1:] or [host]]


def _may_pass(text: str) -> bool:
    return _MAY_PASS.search(_QUOTED.sub("", text)) is not None


def _hint(text: str, *, tried_tls: bool) -> str:
    text = _QUOTED.sub("", text)
    if tried_tls:
        # The second attempt was refused; before it, the first failed, or the server has no TLS.
        text = re.sub("no encryption|SSL off", "", text)
    return worded(next(hint for pattern, hint in HINTS.items() if re.search(pattern, text)))


def worded(hint: str) -> str:
    """Write out the variables of a hint of `HINTS`.

    They are in parentheses: what follows `password:` would be hidden as a password.

    >>> worded("check the password{}USER, _PASSWORD")
    'check the password (DATABASE_URL, or DATABASE_USER, _PASSWORD)'
    """
    text, _, variables = hint.partition("{}")
    return f"{text} (DATABASE_URL, or DATABASE_{variables})" if variables else text


def _tried_tls(error: psycopg.Error) -> bool:
    """Whether libpq has tried TLS, by default or because it was told to."""
    options = error.pgconn.info if error.pgconn else []
    return any(each.keyword == b"sslmode" and each.val != b"disable" for each in options)
