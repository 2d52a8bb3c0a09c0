"""Write the SQL that removes one difference, as far as SQL can.

A difference has the definitions that `snapshot.sql` writes, most of which are SQL themselves.  What
is said here need not be complete: `pair` compares again, and what was created without, say, its
owner is then a difference of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from . import attributes
from .attributes import Sides, last_part, table_of
from .definitions import COLUMN, INDEX, NAME, SEQUENCE, STATE, TABLE, TARGET
from .schema import Difference, Sign

Statements = tuple[str, ...]
"""They succeed together, in this order."""

_STATES = {" disabled": "disable", " enabled for replicas": "enable replica"}
_STATES |= {" enabled always": "enable always"}
_STORAGE = {"p": "plain", "e": "external", "x": "extended", "m": "main"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}
_TABLES = frozenset(("table", "view", "materialized view", "foreign table"))


def write(each: Difference, sides: Sides) -> tuple[Statements, ...]:
    """Return ways to turn the first definition into the second, the best first; none if unknown."""
    if each.kind in ("owner", "comment", "privileges", "default privileges"):
        ways = [attributes.write(each, sides)]
    elif each.sign is Sign.REMOVED:
        ways = [_drop(each)]
    elif each.sign is Sign.ADDED:
        ways = [_create(each, sides)]
    else:
        ways = _change(each, sides)
    return tuple(tuple(way) for way in ways if way)


def is_with_another(each: Difference, by_label: Mapping[str, Difference]) -> bool:
    """Whether an object is created or dropped together with another one."""
    parents = [by_label[label] for label in each.parents if label in by_label]
    with_it = [parent for parent in parents if parent.sign is each.sign]
    if each.sign is Sign.REMOVED:
        return bool(with_it)
    if each.sign is Sign.ADDED:
        kinds = {parent.kind for parent in with_it}
        return (
            each.kind == "owner"
            or (each.kind == "column" and bool(kinds & (_TABLES | {"column"})))
            or (each.kind == "index" and bool(kinds & {"constraint", "index"}))
        )
    return each.kind in ("column", "index") and each.kind in {parent.kind for parent in with_it}


# Objects


def _create(each: Difference, sides: Sides) -> list[str]:
    text = each.after or ""
    match each.kind:
        case "table":
            return _create_table(each, sides)
        case "sequence":
            return [] if _is_of_identity(each, sides) else _create_sequence(each.name, text)
        case "type":
            return _create_type(each.name, text)
        case "index" | "trigger" | "rule":
            return _create_part(each, text)
        case "constraint" if each.parents[0].startswith("domain "):
            form = _CREATE["domain constraint"]
        case _:
            form = _CREATE.get(each.kind, "")
    body = _BODIES[each.kind](text) if each.kind in _BODIES else text
    table = table_of(each) if each.parents else ""
    filled = form.format(name=each.name, body=body, table=table, last=last_part(each.name))
    target = TARGET.search(text) if each.kind == "statistics" else None
    set_target = f"alter statistics {each.name} set statistics {target[1]}" if target else ""
    return [statement for statement in (filled, set_target) if statement]


def _create_table(each: Difference, sides: Sides) -> list[str]:
    table = TABLE.fullmatch(each.after or "")
    if table is None or table["type"]:
        return []
    label = each.label
    columns = sorted(
        (c for c in sides.after.values() if c.kind == "column" and c.parents[0] == label),
        key=lambda column: column.position,
    )
    own = [
        f"    {last_part(c.name)} {_column_sql(c.definition)}"
        for c in columns
        if not c.definition.endswith(" inherited")
    ]
    if table["parent"]:
        body = f"partition of {table['parent']} {table['bound']}"
    else:
        body = "(\n" + ",\n".join(own) + "\n)" if own else "()"
    tail = "".join(
        (
            f" inherits ({table['parents']})" if table["parents"] else "",
            f" partition by {table['key']}" if table["key"] else "",
            f" using {table['method']}" if table["method"] else "",
            f" with ({table['options']})" if table["options"] else "",
        )
    )
    return [f"create {_unlogged(table)}table {each.name} {body}{tail}"]


def _create_sequence(name: str, text: str) -> list[str]:
    found = SEQUENCE.fullmatch(text)
    if found is None:
        return []
    return [f"create {_unlogged(found)}sequence {name} {_sequence_sql(found)}"]


def _unlogged(found: re.Match[str]) -> str:
    return "unlogged " if found["unlogged"] else ""


def _create_type(name: str, text: str) -> list[str]:
    kind, _, rest = text.partition(" ")
    if kind == "enum":
        return [f"create type {name} as enum {rest}"]
    if kind == "composite":
        return [f"create type {name} as {rest}"]
    found = re.fullmatch(r"(.+?) \w+_ops(?: (\S+))?", rest) if kind == "range" else None
    if found is None:
        return []
    multirange = f", multirange_type_name = {found[2]}" if found[2] else ""
    return [f"create type {name} as range (subtype = {found[1]}{multirange})"]


def _create_part(each: Difference, text: str) -> list[str]:
    """Create an index, a trigger or a rule, in the state that it is in."""
    if each.kind == "index":
        found = INDEX.fullmatch(text)
        assert found, "any text matches"
        if found["attached"] or found["invalid"]:
            return []
        # Of a partitioned table; without it, its partitions get the index as well.
        sql = re.sub(rf"( INDEX {NAME}) ON ONLY ", r"\1 ON ", found["sql"])
        return [sql, *_marks(each, found)]
    state = STATE.fullmatch(text)
    assert state, "any text matches"
    how = _STATES.get(state["state"] or "")
    change = f"alter table {table_of(each)} {how} {each.kind} {last_part(each.name)}"
    return [state["sql"].rstrip(";"), *([change] if how else [])]


def _marks(each: Difference, index: re.Match[str]) -> Iterator[str]:
    if index["cluster"]:
        yield f"alter table {table_of(each)} cluster on {last_part(each.name)}"
    if index["replica"]:
        yield f"alter table {table_of(each)} replica identity using index {last_part(each.name)}"
    for number, target in re.findall(r"(\d+): (\d+)", index["statistics"] or ""):
        yield f"alter index {each.name} alter column {number} set statistics {target}"


def _drop(each: Difference) -> list[str]:
    match each.kind:
        case "column":
            return [f"alter table {table_of(each)} drop column {last_part(each.name)}"]
        case "constraint":
            kind = "domain" if each.parents[0].startswith("domain ") else "table"
            return [f"alter {kind} {table_of(each)} drop constraint {last_part(each.name)}"]
        case "policy" | "rule" | "trigger":
            return [f"drop {each.kind} {last_part(each.name)} on {table_of(each)}"]
        case "column order":
            return []
        case _:
            return [f"drop {each.kind} {each.name}"]


# Changes


def _change(each: Difference, sides: Sides) -> list[list[str]]:
    before, after = each.before or "", each.after or ""
    match each.kind:
        case "column":
            way = _change_column(each, before, after)
            return [way, *(_with_storage(way, storage) for storage in ("extended", "plain"))]
        case "table":
            return [_change_table(each, before, after)]
        case "sequence":
            return _change_sequence(each.name, after)
        case "domain":
            return [_change_domain(each.name, before, after)]
        case "type" if before.startswith("enum ") and after.startswith("enum "):
            return [_add_values(each.name, before, after)]
        case "extension":
            version = after.rpartition(" version ")[2]
            return [[f"alter extension {each.name} update to '{version}'"]]
        case "function" | "procedure":
            return [[after], [*_drop(each), after]]
        case "view":
            replace = f"create or replace view {each.name} {_view_sql(after)}"
            return [[replace], [*_drop(each), *_create(each, sides)]]
        case _:
            again = _create(each, sides)
            return [[*_drop(each), *again]] if again else []


def _change_column(each: Difference, before: str, after: str) -> list[str]:
    old, new = COLUMN.fullmatch(before), COLUMN.fullmatch(after)
    if old is None or new is None or new["expression"]:
        return []
    changes: list[str] = []
    is_retyped = (old["type"], old["collation"]) != (new["type"], new["collation"])
    if old["expression"]:
        changes.append("drop expression")
    if old["identity"] and not new["identity"]:
        changes.append("drop identity")
    if old["default"] and (is_retyped or not new["default"]):
        changes.append("drop default")
    if is_retyped:
        collation = f" collate {new['collation']}" if new["collation"] else ""
        using = f"using {last_part(each.name)}::{new['type']}"
        changes.append(f"type {new['type']}{collation} {using}")
    if new["default"] and (is_retyped or old["default"] != new["default"]):
        changes.append(f"set default {new['default']}")
    if bool(old["required"]) != bool(new["required"]):
        changes.append("set not null" if new["required"] else "drop not null")
    if new["identity"] != old["identity"] and new["identity"]:
        verb = "set generated" if old["identity"] else "add generated"
        changes.append(f"{verb} {new['identity']}{'' if old['identity'] else ' as identity'}")
    changes += _change_storage(old, new)
    head = f"alter table {table_of(each)} alter column {last_part(each.name)} "
    return [head + change for change in changes]


def _with_storage(way: list[str], storage: str) -> list[str]:
    """Name the storage that is the default of most types; before 16, DEFAULT is not allowed."""
    return [re.sub(" set storage default$", f" set storage {storage}", each) for each in way]


def _change_storage(old: re.Match[str], new: re.Match[str]) -> Iterator[str]:
    if new["storage"] != old["storage"]:
        yield f"set storage {_STORAGE.get(new['storage'] or '', 'default')}"
    if new["compression"] != old["compression"]:
        yield f"set compression {_COMPRESSION.get(new['compression'] or '', 'default')}"
    if new["statistics"] != old["statistics"]:
        yield f"set statistics {new['statistics'] or -1}"
    yield from _change_options(old["options"], new["options"])


def _change_options(old: str | None, new: str | None, prefix: str = "") -> Iterator[str]:
    was, now = ((each or "").split(", ") if each else [] for each in (old, new))
    gone = {each.partition("=")[0] for each in was} - {each.partition("=")[0] for each in now}
    if gone:
        yield f"reset ({', '.join(prefix + each for each in sorted(gone))})"
    if fresh := [each for each in now if each not in was]:
        yield f"set ({', '.join(prefix + each for each in fresh)})"


def _change_table(each: Difference, before: str, after: str) -> list[str]:
    old, new = TABLE.fullmatch(before), TABLE.fullmatch(after)
    same = ("type", "key", "method")
    if old is None or new is None or any(old[part] != new[part] for part in same):
        return []
    changes: list[str] = []
    if bool(old["unlogged"]) != bool(new["unlogged"]):
        changes.append("set unlogged" if new["unlogged"] else "set logged")
    was, now = ((each["parents"] or "").split(", ") for each in (old, new))
    changes += [f"no inherit {parent}" for parent in was if parent and parent not in now]
    changes += [f"inherit {parent}" for parent in now if parent and parent not in was]
    changes += _change_options(old["options"], new["options"])
    changes += _change_options(old["toast"], new["toast"], "toast.")
    if bool(old["security"]) != bool(new["security"]):
        changes.append(f"{'enable' if new['security'] else 'disable'} row level security")
    if bool(old["forced"]) != bool(new["forced"]):
        changes.append(f"{'' if new['forced'] else 'no '}force row level security")
    if old["replica"] != new["replica"]:
        changes.append(f"replica identity {new['replica'] or 'default'}")
    statements = [f"alter table {each.name} {change}" for change in changes]
    if (old["parent"], old["bound"]) != (new["parent"], new["bound"]):
        statements += _change_partition(each.name, old, new)
    return statements


def _change_partition(name: str, old: re.Match[str], new: re.Match[str]) -> Iterator[str]:
    if old["parent"]:
        yield f"alter table {old['parent']} detach partition {name}"
    if new["parent"]:
        yield f"alter table {new['parent']} attach partition {name} {new['bound']}"


def _change_sequence(name: str, after: str) -> list[list[str]]:
    """Return two ways, because that of an identity column keeps its owner."""
    found = SEQUENCE.fullmatch(after)
    if found is None:
        return []
    change = f"alter sequence {name} {_sequence_sql(found)}"
    return [[f"{change} owned by {found['owner'] or 'none'}"], [change]]


def _change_domain(name: str, before: str, after: str) -> list[str]:
    old, new = COLUMN.fullmatch(before), COLUMN.fullmatch(after)
    same = ("type", "collation")
    if old is None or new is None or any(old[part] != new[part] for part in same):
        return []
    changes = []
    if old["default"] != new["default"]:
        changes.append(f"set default {new['default']}" if new["default"] else "drop default")
    if old["required"] != new["required"]:
        changes.append("set not null" if new["required"] else "drop not null")
    return [f"alter domain {name} {change}" for change in changes]


def _add_values(name: str, before: str, after: str) -> list[str]:
    """Add values to an enumeration; nothing else about it can change.

    They cannot be dropped again, so they may exist after a down.
    """
    old, new = (re.findall(r"'(?:[^']|'')*'", each) for each in (before, after))
    if [each for each in new if each in old] != old:
        return []
    found = []
    for position, value in enumerate(new):
        if value not in old:
            where = f"after {new[position - 1]}" if position else f"before {old[0]}" if old else ""
            add = f"alter type {name} add value if not exists {value} {where}"
            found.append(add.rstrip())
    return found


# Texts


def _column_sql(text: str) -> str:
    found = COLUMN.fullmatch(text)
    if found is None:
        return text
    parts: Iterable[str | None] = (
        found["type"],
        f"collate {found['collation']}" if found["collation"] else None,
        f"constraint {found['constraint']}" if found["constraint"] else None,
        "not null" if found["required"] else None,
        "no inherit" if found["alone"] else None,
        f"generated {found['identity']} as identity" if found["identity"] else None,
        f"default {found['default']}" if found["default"] else None,
        f"generated always as ({found['expression']}) {found['kept']}"
        if found["expression"]
        else None,
    )
    return " ".join(part for part in parts if part)


def _sequence_sql(found: re.Match[str]) -> str:
    cycle = "cycle" if found["cycle"] else "no cycle"
    return (
        f"as {found['type']} start {found['start']} increment {found['step']} "
        f"minvalue {found['least']} maxvalue {found['most']} cache {found['cache']} {cycle}"
    )


def _view_sql(text: str) -> str:
    head = re.match(r"(using \S+\n)?(with \(.*\)\n)?", text)
    assert head, "it may be empty"
    return f"{' '.join(head[0].split())} as\n{text[head.end() :].rstrip(';')}".lstrip()


def _is_of_identity(each: Difference, sides: Sides) -> bool:
    column = sides.after.get(each.parents[0]) if each.parents else None
    return column is not None and " as identity" in column.definition


_CREATE = {
    "column": "alter table {table} add column {last} {body}",
    "constraint": "alter table {table} add constraint {last} {body}",
    "domain": "create domain {name} as {body}",
    "domain constraint": "alter domain {table} add constraint {last} {body}",
    "extension": "create extension {name} {body}",
    "function": "{body}",
    "materialized view": "create materialized view {name} {body}",
    "policy": "create policy {last} on {table} as {body}",
    "procedure": "{body}",
    "schema": "create schema {name}",
    "statistics": "{body}",
    "view": "create view {name} {body}",
}
_BODIES: dict[str, Callable[[str], str]] = {
    "column": _column_sql,
    "extension": lambda text: text.partition(" version ")[0],
    "materialized view": _view_sql,
    "statistics": lambda text: TARGET.sub("", text),
    "view": _view_sql,
}
