"""Find the relations whose catalog rows changed since a mark, without reading all of the schema.

It holds for a database that only the rehearsal changes, from PostgreSQL 15 on.  Statistics of the
catalogs tell which of them changed at all: their counters count every insert, update and delete.
The xmin of a catalog row tells whether it is new or updated, and the number of rows, whether one
was deleted without a trace.  Rows that are updated in place keep their xmin; transactions update
in place only what no schema shows, such as `relhasindex`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from ...postgres.cursor import Connection

FIRST_VERSION = 150000
"""The first server version whose statistics can be read without delay."""

Counters = Mapping[str, tuple[int, int, int, int]]
"""By catalog: rows inserted, updated and deleted since the statistics were reset, and rows."""

# Catalogs whose rows are about a relation, and the column with its OID.
_ON_RELATION = {
    "pg_class": "oid",
    "pg_attribute": "attrelid",
    "pg_attrdef": "adrelid",
    "pg_constraint": "conrelid",
    "pg_foreign_table": "ftrelid",
    "pg_index": "indrelid",
    "pg_inherits": "inhrelid",
    "pg_partitioned_table": "partrelid",
    "pg_policy": "polrelid",
    "pg_rewrite": "ev_class",
    "pg_sequence": "seqrelid",
    "pg_statistic_ext": "stxrelid",
    "pg_trigger": "tgrelid",
}
# Those of them whose rows are objects, which others can depend on.
_OBJECTS = (
    "pg_attrdef",
    "pg_constraint",
    "pg_policy",
    "pg_rewrite",
    "pg_statistic_ext",
    "pg_trigger",
)
# A schema shows nothing of these.  A dependency is written with the object that depends, except
# for the members of extensions.
_UNSEEN = frozenset({
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
# A change of any other catalog, such as pg_proc or pg_authid, can show anywhere.
_FOLLOWED = _UNSEEN | {*_ON_RELATION, "pg_description", "pg_type"}

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
select pg_snapshot_xmax(pg_current_snapshot())::text,
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

# What PostgreSQL itself creates with a relation is no type of its own.
_IS_TYPE = "typtype <> 'c' and typcategory <> 'A'"
_IS_NEW = "age(x.xmin) <= (select age($1))"
_ROWS = {
    catalog: f"select {column} from {catalog} x where '{catalog}' = any ({{}}) and {_IS_NEW}"  # noqa: S608
    for catalog, column in _ON_RELATION.items()
}
_SCANS = "\n    union all ".join(rows.format("$3") for rows in _ROWS.values())
_FOUND_IN = "'{0}', (select count(*) from base b cross join lateral ({1} and x.{2} = b.oid) y)"
_FOUND = ",\n    ".join(
    _FOUND_IN.format(catalog, rows.format("$4"), _ON_RELATION[catalog])
    for catalog, rows in _ROWS.items()
    if catalog != "pg_class"
)
_CASE = " when '{}'::regclass then (select {} from {} where oid = {{oid}})"
_RELATION_OF = "case {class} when 'pg_class'::regclass then {oid}" + "".join(
    _CASE.format(each, _ON_RELATION[each], each) for each in _OBJECTS
)

# $1 is the mark, $2 relations to read in any case, $3 the catalogs to scan for relations, $4 the
# catalogs whose new rows on these relations are counted.  Objects that depend on a relation can
# show its name or those of its columns.
_CHANGED = """
prepare migrator_changes (xid, oid[], text[], text[]) as
with recursive raw as materialized (
    select * from ({scans}) s
    union
    select unnest($2)
    union
    select {relation_of_comment} else 0 end
    from pg_description x
    where 'pg_description' = any ($3)
      and {is_new}
    union
    select 0
    from pg_type x
    where 'pg_type' = any ($3)
      and {is_type}
      and {is_new}
),
seed as materialized (
    select distinct c.oid, {table_of} as relation
    from raw
    join pg_class c on c.oid = raw.oid
    where c.oid >= 16384
),
base as materialized (
    select oid from seed
    union
    select relation from seed
    union
    select i.indexrelid
    from (select distinct relation from seed) t
    cross join lateral (select indexrelid from pg_index where indrelid = t.relation) i
),
reached (class, oid) as (
    select 'pg_class'::regclass::oid, relation
    from seed
    union
    select d.classid, d.objid
    from reached r
    join pg_depend d on d.refclassid = r.class and d.refobjid = r.oid
),
shown as materialized (
    select distinct
           case
               when r.class = 'pg_type'::regclass
               then (select 0 from pg_type where oid = r.oid and {is_type})
               else {relation_of} else 0 end
           end as oid
    from reached r
),
shown_relation as materialized (
    select distinct {table_of} as oid, c.relkind
    from shown
    join pg_class c on c.oid = shown.oid
)
select (select coalesce(array_agg(oid), '{{}}') from shown_relation where relkind <> 'c'),
       0 in (select oid from raw union all select oid from shown)
           or 'c' in (select relkind from shown_relation),
       json_build_object({found})
"""
# The table of an index; the table of a TOAST table or of its index; else the relation itself.
_TABLE_OF = """(
    select coalesce(d.refobjid, t.oid)
    from pg_class t
    left join pg_depend d
        on t.relkind = 't'
        and d.classid = 'pg_class'::regclass
        and d.objid = t.oid
        and d.refclassid = 'pg_class'::regclass
        and d.deptype = 'i'
    where t.oid = coalesce((select indrelid from pg_index where indexrelid = c.oid), c.oid)
)"""


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of the catalogs at one time, when no transaction of the rehearsal was open.

    Attributes:
        xid: The first transaction whose rows are new.
        reset: When counters were last reset, those of this database and those of all.
        members: The members of extensions.
        comments: The commented objects by comment, as pairs of OIDs: the catalog and the object.
    """

    xid: str
    reset: str
    counters: Counters
    members: frozenset[str]
    comments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a mark.

    Attributes:
        relations: The OIDs of the relations to read again, indexes not included.
        growth: By how many rows each catalog has grown.
    """

    mark: Mark
    relations: Collection[int]
    growth: Mapping[str, int]


def prepare(conn: Connection) -> None:
    """Prepare the queries in a session."""
    text = _CHANGED.format(
        scans=_SCANS,
        relation_of_comment=_RELATION_OF.format(**{"class": "classoid", "oid": "objoid"}),
        relation_of=_RELATION_OF.format(**{"class": "r.class", "oid": "r.oid"}),
        table_of=_TABLE_OF,
        is_new=_IS_NEW,
        is_type=_IS_TYPE,
        found=_FOUND,
    )
    ((catalogs,),) = conn.execute(_CATALOGS.encode()).fetchall()
    for each in (text, _NOW.format(",".join(catalogs))):
        conn.execute(each.encode())


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
    return replace(_now(conn), comments=_comments(conn))


def since(conn: Connection, old: Mark, touched: Collection[int]) -> Changes | None:
    """Return what changed since a mark; None if that can be anything.

    Args:
        touched: OIDs of relations that may have changed, such as those that were locked.
    """
    new = replace(_now(conn), comments=old.comments)
    written = {each for each in new.counters if new.counters[each] != old.counters.get(each)}
    growth = {each: _growth(each, old, new) for each in written}
    if not written <= _FOLLOWED or new.members != old.members or None in growth.values():
        return None
    # A dependency without an object that was written with it may be on any other object.
    if new.reset != old.reset or ("pg_depend" in written and written <= _UNSEEN):
        return None
    if "pg_description" in written:
        new = replace(new, comments=_comments(conn))
        lost = {each for key, each in old.comments.items() if key not in new.comments}
        if not all(each.startswith(_CLASS) for each in lost):
            return None
        touched = {*touched, *(int(each.removeprefix(_CLASS)) for each in lost)}
    relations: Collection[int] = ()
    if written - _UNSEEN:
        counted = (written & _ON_RELATION.keys()) - {"pg_class"}
        relations, is_elsewhere, found = _scan(conn, old, touched, written - counted, counted)
        # A row that was written twice counts twice: the catalog is read, to be sure.
        if missed := {each for each in counted if found[each] != _written(each, old, new)}:
            more, is_there, _ = _scan(conn, old, touched, missed, ())
            relations, is_elsewhere = {*relations, *more}, is_elsewhere or is_there
        if is_elsewhere:
            return None
    return Changes(new, relations, cast("dict[str, int]", growth))


_GENERIC = "set local plan_cache_mode = force_generic_plan; set local jit = off"
# The planner expects a third of all rows to be new.
FEW = ("set local enable_hashjoin = off", "set local enable_mergejoin = off")
_CLASS = "1259 "  # the OID of pg_class


def _written(catalog: str, old: Mark, new: Mark) -> int:
    return sum(new.counters[catalog][:2]) - sum(old.counters[catalog][:2])


def _growth(catalog: str, old: Mark, new: Mark) -> int | None:
    """Return by how many rows a catalog has grown; None if something was rolled back."""
    inserted, _, deleted, rows = (
        now - was for was, now in zip(old.counters[catalog], new.counters[catalog], strict=True)
    )
    return rows if rows == inserted - deleted or catalog in _UNSEEN else None


def _now(conn: Connection) -> Mark:
    xid, reset, counters, members = _row(conn, "execute migrator_now")
    counters = {name: tuple(counts) for name, counts in counters.items()}
    return Mark(xid, reset, counters, frozenset(members), {})


def _comments(conn: Connection) -> Mapping[str, str]:
    (comments,) = _row(conn, _COMMENTS)
    return cast("Mapping[str, str]", comments)


def _scan(
    conn: Connection,
    old: Mark,
    touched: Collection[int],
    scanned: Collection[str],
    counted: Collection[str],
) -> Any:
    """Return the relations, whether other objects changed, and the new rows of each catalog."""
    parts = (",".join(map(str, sorted(each))) for each in (touched, scanned, counted))
    oids, names, others = parts
    text = f"execute migrator_changes ('{old.xid}', '{{{oids}}}', '{{{names}}}', '{{{others}}}')"
    return _row(conn, text)


def _row(conn: Connection, query: str) -> Any:
    *_, (row,) = ask(conn, *FEW, query)
    return row


def ask(conn: Connection, *queries: str) -> list[list[Any]]:
    """Return the rows of each query, all in one message and with the plans of `prepare`.

    A statement without rows has none.
    """
    settings = _GENERIC.split("; ")
    answer = conn.execute("; ".join((*settings, *queries)).encode())
    for _ in settings[1:]:
        answer.nextset()
    return [answer.fetchall() if answer.description else [] for _ in queries if answer.nextset()]
