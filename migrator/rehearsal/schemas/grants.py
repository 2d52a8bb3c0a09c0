"""Find the grants that ALTER DEFAULT PRIVILEGES explains."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from ...errors import counted
from .schema import Difference, SchemaObject, schema_of

# As get_user_default_acl() in PostgreSQL's aclchk.c: what is set for a role replaces the built-in
# privileges, and what is set in one schema is added to that.
_DEFAULTS = """
with place as (
    select defaclrole as owner, defaclobjtype as type, defaclnamespace as namespace
    from pg_catalog.pg_default_acl
    union
    select defaclrole, defaclobjtype, 0
    from pg_catalog.pg_default_acl
)
select pg_catalog.pg_get_userbyid(p.owner)::text,
       quote_ident(n.nspname),
       p.type::text,
       case a.grantee
           when 0 then 'public'
           when p.owner then 'its owner'
           else quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
       end,
       lower(a.privilege_type) || case when a.is_grantable then ' with grant option' else '' end
from place p
left join pg_catalog.pg_namespace n on n.oid = p.namespace
left join pg_catalog.pg_default_acl g
    on g.defaclrole = p.owner and g.defaclobjtype = p.type and g.defaclnamespace = 0
left join pg_catalog.pg_default_acl s
    on s.defaclrole = p.owner and s.defaclobjtype = p.type and s.defaclnamespace = p.namespace
    and p.namespace <> 0
cross join lateral (
    select *
    from pg_catalog.aclexplode(
        coalesce(
            g.defaclacl,
            pg_catalog.acldefault(case p.type when 'S' then 's' else p.type end, p.owner)
        )
    )
    union
    select *
    from pg_catalog.aclexplode(s.defaclacl)
) as a
"""

_TYPES = {
    **dict.fromkeys(("table", "view", "materialized view", "foreign table"), "r"),
    **dict.fromkeys(("function", "procedure", "aggregate"), "f"),
    **dict.fromkeys(("type", "domain"), "T"),
    "sequence": "S",
    "schema": "n",
}

Grants = dict[str, set[str]]
"""Privileges, such as `select` or `select with grant option`, by grantee."""

Defaults = dict[tuple[str, str | None, str], Grants]
"""What a new object is given, by owner, schema (None: any other) and type, as in pg_default_acl."""


def read(conn: psycopg.Connection[Any]) -> Defaults:
    """Read the default privileges of the target."""
    found: Defaults = defaultdict(lambda: defaultdict(set))
    for owner, schema, kind, grantee, privilege in conn.execute(sql.SQL(_DEFAULTS)).fetchall():
        found[owner, schema, kind][grantee].add(privilege)
    return found


def split(
    differences: Iterable[Difference], defaults: Defaults, objects: Mapping[str, SchemaObject]
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Return the differences that are kept, and those that the default privileges explain.

    Args:
        objects: Those of both schemas, by label.
    """
    differences = tuple(differences)
    new = {each.label for each in differences if each.before is None}
    kept: list[Difference] = []
    explained: list[Difference] = []
    for each in differences:
        is_grant = each.kind == "privileges" and not new.intersection(each.parents)
        is_explained = is_grant and _is_explained(each, defaults, objects)
        (explained if is_explained else kept).append(each)
    return tuple(kept), tuple(explained)


def notes(explained: Iterable[Difference]) -> Iterator[str]:
    """Say on how many objects each role has privileges that are explained."""
    grantees = (each.name.partition(" on ")[0] for each in explained)
    for grantee, count in sorted(Counter(grantees).items()):
        yield f"privileges {grantee} on {counted(count, 'object')}, given by default privileges"


def _is_explained(
    each: Difference, defaults: Defaults, objects: Mapping[str, SchemaObject]
) -> bool:
    label = each.parents[0]
    owner = objects.get(f"owner of {label}")
    given = objects.get(label)
    if each.after is None or owner is None or given is None or given.kind not in _TYPES:
        return False
    key = _TYPES[given.kind]
    schema = None if given.kind == "schema" else schema_of(given.name)
    usual = defaults.get((owner.definition, schema, key)) or defaults.get(
        (owner.definition, None, key)
    )
    if usual is None:
        return False
    grantee = each.name.removeprefix("of ").removesuffix(f" on {label}")
    before = _privileges(each.before or "none")
    return _privileges(each.after) == before | usual.get(grantee, set())


def _privileges(definition: str) -> set[str]:
    """Split the definition of an object of the kind `privileges`.

    >>> sorted(_privileges("insert, select; update with grant option"))
    ['insert', 'select', 'update with grant option']
    """
    found = set()
    for group in definition.split("; "):
        privileges, grantable, _ = group.partition(" with grant option")
        suffix = " with grant option" if grantable else ""
        found |= {each + suffix for each in privileges.split(", ") if each != "none"}
    return found
