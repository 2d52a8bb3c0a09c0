"""Write the SQL that sets the owner, the comment and the privileges of an object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ...sql.names import in_quotes
from .definitions import NAME
from .schema import Difference, SchemaObject

_PARTS = re.compile(rf"{NAME}(?:\.{NAME})*?(?=\.{NAME}$)")
_TABLE_KIND = re.compile(r"(?:domain|foreign table|materialized view|table|view) ")
_DEFAULTS = re.compile(rf"of (?P<role>its owner|{NAME}) (?P<where>for role .+) on (?P<what>\w+)")
_NAMED_IN_A_TABLE = frozenset(("constraint", "policy", "rule", "trigger"))
_GRANTED_AS_TABLES = frozenset(("table", "view", "materialized view", "foreign table"))


@dataclass(frozen=True, slots=True)
class Sides:
    """All objects of both schemas, by label."""

    before: Mapping[str, SchemaObject]
    after: Mapping[str, SchemaObject]


def write(each: Difference, sides: Sides) -> list[str]:
    """Return the statements for a difference of the kind owner, comment or (default) privileges."""
    if each.kind == "default privileges":
        return _default_privileges(each)
    label = each.parents[0]
    target = sides.after.get(label) or sides.before.get(label)
    if target is None:
        return []
    if each.kind == "comment":
        text = "null" if each.after is None else _literal(each.after)
        return [f"comment on {_on(target)} is {text}"]
    if each.kind == "owner":
        role = in_quotes(each.after or "")
        return [f"alter {target.label} owner to {role}"] if each.after else []
    return _privileges(each, target, sides)


def last_part(name: str) -> str:
    """Return the last part of a name.

    >>> last_part('public.t."a.b"')
    '"a.b"'
    """
    head = _PARTS.match(name)
    return name[head.end() + 1 :] if head else name


def table_of(each: Difference | SchemaObject) -> str:
    """Return the name of the table, or the domain, that an object belongs to."""
    return _TABLE_KIND.sub("", each.parents[0], count=1)


def _privileges(each: Difference, target: SchemaObject, sides: Sides) -> list[str]:
    role = each.name.removeprefix("of ").removesuffix(f" on {target.label}")
    if role == "its owner":
        owner = sides.after.get(f"owner of {target.label}")
        role = in_quotes(owner.definition) if owner else "current_user"
        each = replace(each, after=each.after or "all")
    if target.kind == "column":
        return list(
            _grants(each, f"table {table_of(target)}", role, f" ({last_part(target.name)})")
        )
    kind = "table" if target.kind in _GRANTED_AS_TABLES else target.kind
    return list(_grants(each, f"{kind} {target.name}", role))


def _default_privileges(each: Difference) -> list[str]:
    found = _DEFAULTS.fullmatch(each.name)
    if found is None:
        return []
    role = found["role"]
    if role == "its owner":
        role = found["where"].removeprefix("for role ").partition(" in schema ")[0]
        each = replace(each, after=each.after or "all")
    head = f"alter default privileges {found['where']} "
    return [head + change for change in _grants(each, found["what"], role)]


def _grants(each: Difference, target: str, role: str, columns: str = "") -> Iterator[str]:
    """Revoke what was granted, and grant what is wanted.

    Without a definition, the role has PostgreSQL's default privileges.
    """
    if each.before != "none" and (each.before or each.after == "none"):
        yield f"revoke all{columns} on {target} from {role}"
    after = each.after or ("all" if each.before == "none" else "none")
    for group in after.split("; "):
        privileges, option, _ = group.partition(" with grant option")
        if privileges != "none":
            granted = ", ".join(privilege + columns for privilege in privileges.split(", "))
            yield f"grant {granted} on {target} to {role}{option}"


def _on(target: SchemaObject) -> str:
    """Write an object as COMMENT ON expects it."""
    if target.kind not in _NAMED_IN_A_TABLE:
        return target.label
    domain = "domain " if target.parents[0].startswith("domain ") else ""
    return f"{target.kind} {last_part(target.name)} on {domain}{table_of(target)}"


def _literal(text: str) -> str:
    quoted = "'" + text.replace("'", "''") + "'"
    return "e" + quoted.replace("\\", "\\\\") if "\\" in text else quoted
