"""Read the queries of the running release: from a file, or from `pg_stat_statements`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psycopg
from psycopg import sql

from ...errors import BlockedError, Location, UsageError
from ...files.source import read_source
from ...postgres import connection
from ...postgres.cursor import Connection
from ...sql import parser, splitter
from ...sql.location import locate

STATISTICS = "pg_stat_statements"
"""The name of the extension, and of its view."""

MOST = 500
"""How many queries are checked."""

_FETCHED = 4 * MOST  # before utility statements are left out
_PLANNED = frozenset(["delete", "insert", "merge", "select", "table", "update", "values", "with"])
_HIDDEN = "<insufficient privilege>"  # what the view has in place of another role's query

_VIEW = """
select n.nspname
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""
# The search path is what the role's next session would have, as far as the catalogs say.
_CALLED = """
with settings as (
    select s.setrole, s.setdatabase, pg_catalog.substr(line, 13) as path
    from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) line
    where line ^@ 'search_path='
), here as (
    select oid from pg_catalog.pg_database where datname = current_database()
), called as (
    select userid, query, sum(calls)::bigint as calls
    from {view}, here
    where dbid = here.oid
      and query is not null
      and query !~ '\\mmigration_(versions|repeatables|log)\\M'
    group by userid, query
)
select c.query, c.calls, r.rolname, pg_catalog.replace(
    coalesce(
        (
            select s.path
            from settings s, here
            where s.setrole in (0, c.userid) and s.setdatabase in (0, here.oid)
            order by s.setrole <> 0 desc, s.setdatabase <> 0 desc
            limit 1
        ),
        (
            select case when source in ('default', 'configuration file')
                then reset_val
                else boot_val
            end
            from pg_catalog.pg_settings
            where name = 'search_path'
        )
    ),
    '"$user"',
    coalesce(pg_catalog.quote_ident(r.rolname), '"$user"')
)
from called c
left join pg_catalog.pg_roles r on r.oid = c.userid
order by c.calls desc, c.query
limit {fetched}
"""


@dataclass(frozen=True, slots=True)
class Query:
    """A query of the running release.

    Attributes:
        text: One statement; its parameters are `$1`, `$2`, ….
        calls: How often it has run; None if that is not known.
        role: The role that ran it; None for the role that rehearses.
        path: The search path of that role; None for that of the session.
        location: Where it is in its file; None if it is from no file.
    """

    text: str
    calls: int | None = None
    role: str | None = None
    path: str | None = None
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries to check.

    Attributes:
        source: Where they come from: a path, or `pg_stat_statements`.
        queries: At most 500; of the statistics, the most called ones first.
        hidden: How many of the statistics belong to roles whose queries we may not see.
        is_cut: Whether there are more than 500.
    """

    source: str
    queries: tuple[Query, ...]
    hidden: int = 0
    is_cut: bool = False


def read(conn: Connection, source: str) -> Queries:
    """Read queries from a file or, if `source` is `pg_stat_statements`, from the target.

    Raises:
        UsageError: The file cannot be read or has no statement; or the extension is missing.
        MigrationFileError: The file is not UTF-8.
        BlockedError: The file has psql commands.
    """
    return _from_statistics(conn) if source == STATISTICS else _from_file(Path(source))


def _from_file(path: Path) -> Queries:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    source = read_source(path, raw).text
    statements = tuple(splitter.split(source))
    if problems := tuple(parser.psql_commands(path, statements)):
        raise BlockedError.of(problems, f"in {path}")
    if not statements:
        raise UsageError(f"there is no query in {path}")
    queries = (
        Query(_without_end(each.text), location=locate(source, each.offset, path))
        for each in statements[:MOST]
    )
    return Queries(str(path), tuple(queries), is_cut=len(statements) > MOST)


def _from_statistics(conn: Connection) -> Queries:
    with connection.reported(), conn.transaction():
        conn.execute("set transaction read only")
        row = conn.execute(_VIEW).fetchone()
        if row is None:
            raise UsageError(
                f"the database has no extension {STATISTICS}",
                hint=f"add {STATISTICS} to shared_preload_libraries, restart the server, and run: "
                f"create extension {STATISTICS};\nor give the queries in a file: --queries FILE",
            )
        view = sql.Identifier(row[0], STATISTICS)
        query = sql.SQL(_CALLED).format(view=view, fetched=sql.Literal(_FETCHED))
        try:
            rows = conn.execute(query).fetchall()
        except (
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.ObjectNotInPrerequisiteState,
        ) as error:
            raise UsageError(
                f"{STATISTICS} cannot be read",
                detail=error.diag.message_primary,
                hint="correct that, or give the queries in a file: --queries FILE",
            ) from error
    found = [Query(_without_end(text), *more) for text, *more in rows if text != _HIDDEN]
    planned = [query for query in found if is_planned(query.text)]
    hidden = sum(text == _HIDDEN for text, *_ in rows)
    return Queries(STATISTICS, tuple(planned[:MOST]), hidden, is_cut=len(planned) > MOST)


def is_planned(text: str) -> bool:
    """Whether a text is one statement that PostgreSQL plans, rather than a utility statement.

    >>> is_planned("/* api */ (select 1)"), is_planned("vacuum"), is_planned("select 1; select 2")
    (True, False, False)
    """
    statements = list(islice(splitter.split(text), 2))
    first = next((word for word in splitter.tokens(text) if word != "("), "")
    return len(statements) == 1 and first.lower() in _PLANNED


def _without_end(text: str) -> str:
    return text.removesuffix(";").rstrip()
