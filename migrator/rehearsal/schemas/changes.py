"""Find the relations whose catalog rows changed since a mark, without reading all of the schema.

It holds for a database that only the rehearsal changes, from PostgreSQL 15 on.  Statistics of the
catalogs tell which of them changed at all: their counters count every insert, update and delete.
The xmin of a catalog row tells whether it is new or updated, and the number of rows, whether one
was deleted without a trace.  Rows that are updated in place keep their xmin; transactions update
in place only what no schema shows, such as `relhasindex`.

New rows are looked up by the relations that were locked or created.  If there are as many as the
counters say, no other relation has changed.  If there are fewer, the catalog is searched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, cast

from ...postgres.cursor import Connection
from . import marks
from .marks import UNSEEN, Mark

Columns = tuple[int, int]
"""The highest number of a column of a relation, and how many of its columns have a default."""

UNKNOWN: Columns = (32767, 0)
"""Of a relation of which it is not known: it had every column that it has."""

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
# A change of any other catalog, such as pg_proc or pg_authid, can show anywhere.
_FOLLOWED = UNSEEN | {*_ON_RELATION, "pg_description", "pg_type"}

# What PostgreSQL itself creates with a relation is no type of its own.
_IS_TYPE = "typtype <> 'c' and typcategory <> 'A'"
_IS_NEW = "age(x.xmin) <= (select age($1))"
_ROWS = "select {1} from {0} x where '{0}' = any ({2}) and {3}"
_SCANS = "\n    union all ".join(
    _ROWS.format(catalog, column, "$2", _IS_NEW) for catalog, column in _ON_RELATION.items()
)
_COUNT = "'{}', (select count(*) from base b cross join lateral ({} and x.{} = b.oid) y)"
_FOUND = ",\n           ".join(
    _COUNT.format(catalog, _ROWS.format(catalog, column, "$6", _IS_NEW), column)
    for catalog, column in _ON_RELATION.items()
)
_CASE = " when '{}'::regclass then (select {} from {} where oid = {{oid}})"
_RELATION_OF = "case {class} when 'pg_class'::regclass then {oid}" + "".join(
    _CASE.format(each, _ON_RELATION[each], each) for each in _OBJECTS
)

# $1 is the mark, $2 catalogs to search for relations with new rows.
_SEARCH = """
prepare migrator_search (xid, text[]) as
select coalesce(array_agg(distinct s.oid), '{{}}')
from (
    {scans}
    union all
    select 0
    from pg_type x
    where 'pg_type' = any ($2)
      and {is_type}
      and {is_new}
) s (oid)
"""
# $1 is the mark, $2 relations to read in any case, $3 the highest number of a column that each of
# these had, $4 how many columns with a default, $5 the newest relation at the mark, and $6 the
# catalogs whose new rows on these relations are counted.  Objects that depend on a relation can
# show its name or those of its columns.
#
# A row that is created and then updated counts twice, but only its last version is found.  What
# PostgreSQL always does so is counted as well: it sets `reltoastrelid` after creating a table, and
# `atthasdef` after creating a column with a default and before dropping one.
_CHANGED = """
prepare migrator_changes (xid, oid[], integer[], integer[], oid, text[]) as
with recursive touched as materialized (
    select * from unnest($2, $3, $4) as u (oid, width, defaults)
),
raw as materialized (
    select oid from touched
    union
    select oid from pg_class where oid > $5
    union
    select {relation_of_comment} else 0 end
    from pg_description x
    where 'pg_description' = any ($6)
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
       (select coalesce(array_agg(oid), '{{}}') from base),
       json_build_object(
           {found},
           'pg_type', (
               select count(*)
               from base b
               join pg_class c on c.oid = b.oid
               join pg_type t on t.oid = c.reltype
               join pg_type x on x.oid = any (array[t.oid, t.typarray])
               where 'pg_type' = any ($6)
                 and {is_new}
           )
       ),
       json_build_object(
           'pg_class', (
               select count(*)
               from base b
               join pg_class c on c.oid = b.oid
               where b.oid > $5
                 and c.reltoastrelid <> 0
           ),
           'pg_attribute', (
               select count(*)
               from base b
               join pg_attrdef d on d.adrelid = b.oid
               left join touched t on t.oid = b.oid
               where b.oid > $5
                  or d.adnum > t.width
           ) + (
               select coalesce(sum(t.defaults), 0)
               from touched t
               where not exists (select from pg_class c where c.oid = t.oid)
           )
       )
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
class Changes:
    """What changed since a mark.

    Attributes:
        relations: The OIDs of the relations to read again.
        gone: Those of relations that are not there any more, as far as they were touched.
        growth: By how many rows each catalog has grown.
    """

    mark: Mark
    relations: Set[int]
    gone: Set[int]
    growth: Mapping[str, int]


def prepare(conn: Connection) -> None:
    """Prepare the queries in a session."""
    search = _SEARCH.format(scans=_SCANS, is_type=_IS_TYPE, is_new=_IS_NEW)
    text = _CHANGED.format(
        relation_of_comment=_RELATION_OF.format(**{"class": "classoid", "oid": "objoid"}),
        relation_of=_RELATION_OF.format(**{"class": "r.class", "oid": "r.oid"}),
        table_of=_TABLE_OF,
        is_new=_IS_NEW,
        is_type=_IS_TYPE,
        found=_FOUND,
    )
    marks.prepare(conn)
    for each in (search, text):
        conn.execute(each.encode())


def since(conn: Connection, old: Mark, touched: Mapping[int, Columns]) -> Changes | None:
    """Return what changed since a mark; None if that can be anything.

    Args:
        touched: By OID, the relations that may have changed, such as those that were locked.
    """
    new = replace(marks.counters(conn), comments=old.comments)
    written = {each for each in new.counters if new.counters[each] != old.counters.get(each)}
    growth = {each: marks.growth(each, old, new) for each in written}
    if not written <= _FOLLOWED or new.members != old.members or None in growth.values():
        return None
    # A dependency without an object that was written with it may be on any other object.
    if new.reset != old.reset or ("pg_depend" in written and written <= UNSEEN):
        return None
    if "pg_description" in written:
        new = replace(new, comments=marks.comments(conn))
        lost = {each for key, each in old.comments.items() if key not in new.comments}
        if not all(each.startswith(_CLASS) for each in lost):
            return None
        commented = {int(each.removeprefix(_CLASS)) for each in lost}
        touched = {**dict.fromkeys(commented, UNKNOWN), **touched}
    nowhere: set[int] = set()
    found = _relations(conn, old, new, touched, written) if written - UNSEEN else (nowhere, nowhere)
    return Changes(new, *found, cast("dict[str, int]", growth)) if found else None


_CLASS = "1259 "  # the OID of pg_class


def _relations(
    conn: Connection,
    old: Mark,
    new: Mark,
    touched: Mapping[int, Columns],
    written: Set[str],
) -> tuple[set[int], set[int]] | None:
    """Return the relations to read again and those gone; None if other objects changed."""
    relations, is_elsewhere, known, found, twice = _look_up(conn, old, touched, written)
    counted = written & {*_ON_RELATION, "pg_type"}
    missed = {
        each
        for each in counted
        if found[each] + twice.get(each, 0) != marks.written(each, old, new)
    }
    if missed and not is_elsewhere:
        others = set(_search(conn, old, missed)).difference(known)
        is_elsewhere = 0 in others
        if others and not is_elsewhere:
            more = {**dict.fromkeys(others, UNKNOWN), **touched}
            relations, is_elsewhere, known, *_ = _look_up(conn, old, more, written)
    there, gone = touched.keys() & known, touched.keys() - known
    return None if is_elsewhere else ({*relations, *there}, gone)


def _look_up(
    conn: Connection, old: Mark, touched: Mapping[int, Columns], written: Collection[str]
) -> Any:
    """Return the row of the query for the changes of some relations and of new ones."""
    oids = sorted(touched)
    columns = zip(*(touched[oid] for oid in oids), strict=True) if oids else ((), ())
    arrays = ", ".join(map(_array, (oids, *columns)))
    text = f"('{old.xid}', {arrays}, {old.newest}, {_array(written)})"
    return marks.row(conn, f"execute migrator_changes {text}")


def _search(conn: Connection, old: Mark, catalogs: Collection[str]) -> Collection[int]:
    (oids,) = marks.row(conn, f"execute migrator_search ('{old.xid}', {_array(catalogs)})")
    return cast("Collection[int]", oids)


def _array(items: Iterable[object]) -> str:
    return "'{" + ",".join(map(str, items)) + "}'"
