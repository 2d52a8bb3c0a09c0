"""Tell which catalogs changed, by the counters of their inserts, updates and deletes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from ...postgres.cursor import Connection

FIRST_VERSION = 150000
"""The first server version whose statistics can be read without delay."""

Counters = Mapping[str, tuple[int, int, int, int]]
"""By catalog: rows inserted, updated and deleted since the statistics were reset, and rows."""

# A schema shows nothing of these.  A dependency is written with the object that depends, except
# for the members of extensions.
UNSEEN = frozenset({
    "pg_auth_members",
    "pg_database",
    "pg_db_role_setting",
    "pg_depend",
    "pg_init_privs",
    "pg_largeobject",
    "pg_largeobject_metadata",
    "pg_parameter_acl",
    "pg_replication_origin",
    "pg_seclabel",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_tablespace",
})  # fmt: skip
_CATALOGS = """
select array_agg(oid::text)
from pg_class
where relnamespace = 'pg_catalog'::regnamespace
  and relkind = 'r'
  and oid < 16384
"""
# What was rolled back counts as inserted or deleted, but not among the rows that are there.
_NOW = """
prepare migrator_now as
select pg_snapshot_xmax(pg_current_snapshot())::xid::text,
       (select max(oid)::text from pg_class),
       (
           select concat_ws(
               ' ', pg_stat_get_db_stat_reset_time(oid), pg_stat_get_db_stat_reset_time(0)
           )
           from pg_database
           where datname = current_database()
       ),
       (
           select json_object_agg(oid::regclass, json_build_array(
               pg_stat_get_tuples_inserted(oid),
               pg_stat_get_tuples_updated(oid),
               pg_stat_get_tuples_deleted(oid),
               pg_stat_get_live_tuples(oid)
           ))
           from unnest('{{{}}}'::oid[]) as u (oid)
       ),
       (
           select coalesce(array_agg(classid || ' ' || objid || ' ' || refobjid), '{{}}')
           from pg_depend
           where refclassid = 'pg_extension'::regclass
             and deptype = 'e'
       )
"""
# A schema shows the comments on these objects of the server's own: `public` and `plpgsql`.
_COMMENTS = """
select coalesce(json_object_agg(
    classoid || ' ' || objoid || ' ' || objsubid, classoid || ' ' || objoid
), '{}')
from pg_description
where objoid >= 16384
   or classoid in ('pg_namespace'::regclass, 'pg_extension'::regclass)
"""
_SESSIONS = """
array(
    select pid
    from pg_catalog.pg_stat_activity
    where datname = pg_catalog.current_database()
      and usesysid is not null
)
"""
_FLUSH = f"""
select pg_catalog.pg_stat_force_next_flush(),
       pg_catalog.current_setting('track_counts') = 'on',
       {_SESSIONS}
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of the catalogs at one time, when no transaction of the rehearsal was open.

    Attributes:
        xid: The first transaction whose rows are new.
        newest: The highest OID of a relation.
        reset: When counters were last reset, those of this database and those of all.
        members: The members of extensions.
        comments: The commented objects by comment, as pairs of OIDs: the catalog and the object.
    """

    xid: str
    newest: str
    reset: str
    counters: Counters
    members: frozenset[str]
    comments: Mapping[str, str]


def prepare(conn: Connection) -> None:
    """Prepare the query for the counters in a session."""
    ((catalogs,),) = conn.execute(_CATALOGS.encode()).fetchall()
    conn.execute(_NOW.format(",".join(catalogs)).encode())


def sessions(conn: Connection) -> frozenset[int]:
    """Return the process numbers of the sessions of the database."""
    ((pids,),) = conn.execute(f"select {_SESSIONS}".encode()).fetchall()
    return frozenset(pids)


def flush(conn: Connection, known: Collection[int]) -> bool:
    """Make the counters of a session visible; return whether all changes are counted.

    They are not if the session has turned the counters off, or if there is a session that is
    not known, such as one of dblink: it counts later, but before it ends.
    """
    ((_, is_counting, pids),) = conn.execute(_FLUSH.encode()).fetchall()
    return bool(is_counting) and set(pids) <= set(known)


def mark(conn: Connection) -> Mark:
    """Return the mark of now."""
    return replace(counters(conn), comments=comments(conn))


def written(catalog: str, old: Mark, new: Mark) -> int:
    """Return how many rows of a catalog were inserted or updated."""
    return sum(new.counters[catalog][:2]) - sum(old.counters[catalog][:2])


def growth(catalog: str, old: Mark, new: Mark) -> int | None:
    """Return by how many rows a catalog has grown; None if something was rolled back."""
    inserted, _, deleted, rows = (
        now - was for was, now in zip(old.counters[catalog], new.counters[catalog], strict=True)
    )
    return rows if rows == inserted - deleted or catalog in UNSEEN else None


def counters(conn: Connection) -> Mark:
    """Return the mark of now without comments."""
    xid, newest, reset, counts, members = row(conn, "execute migrator_now")
    counts = {name: tuple(each) for name, each in counts.items()}
    return Mark(xid, newest, reset, counts, frozenset(members), {})


def comments(conn: Connection) -> Mapping[str, str]:
    """Return the commented objects, as in `Mark`."""
    (found,) = row(conn, _COMMENTS)
    return cast("Mapping[str, str]", found)


_GENERIC = "set local plan_cache_mode = force_generic_plan; set local jit = off"
# The planner expects a third of all rows to be new.
FEW = ("set local enable_hashjoin = off", "set local enable_mergejoin = off")


def row(conn: Connection, query: str) -> Any:
    """Return the only row of a query about few relations."""
    *_, (found,) = ask(conn, *FEW, query)
    return found


def ask(conn: Connection, *queries: str) -> list[list[Any]]:
    """Return the rows of each query, all in one message and with the plans of `prepare`.

    A statement without rows has none.
    """
    settings = _GENERIC.split("; ")
    answer = conn.execute("; ".join((*settings, *queries)).encode())
    for _ in settings[1:]:
        answer.nextset()
    return [answer.fetchall() if answer.description else [] for _ in queries if answer.nextset()]
