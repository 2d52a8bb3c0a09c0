"""Fill the tables of a schema with made-up rows that satisfy its constraints.

A row is a function of its number and a seed, written as SQL.  A table is tidy (no nulls, nothing
twice, the same keys as other tables), tidy but for a few odd values, or wild (nulls and
duplicates wherever they are allowed, empty and long texts, negative numbers, old dates).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]

_QUERY = Path(__file__).with_name("fill.sql").read_text(encoding="utf-8")
_CANDIDATES = 20  # for each row of a table with conditions
_TEXT = re.compile(r"'((?:[^']|'')*)'")
_VALUE = re.compile(r"\bVALUE\b")
_NUMBER = re.compile(r"(?<![\w.'])-?\d+(?![\w.'])")
_LONGEST = 3000  # characters of a text, which an index can still hold when it is compressed

# Of the number n of the row.
_TIDY = {
    "bool": "n % 2 = 0",
    "int2": "(n % 30000)::int2",
    "int4": "n::int4",
    "int8": "n",
    "oid": "n::oid",
    "float4": "n::float4",
    "float8": "n::float8",
    "money": "n::int4::money",
    "text": "'value ' || n",
    "varchar": "n || ' value'",
    "bpchar": "n::text",
    "name": "('name ' || n)::name",
    "citext": "('value ' || n)::citext",
    "uuid": "md5(n::text)::uuid",
    "date": "date '2024-01-01' + n::int4",
    "timestamp": "timestamp '2024-01-01' + n * interval '1 hour'",
    "timestamptz": "timestamptz '2024-01-01 00:00+00' + n * interval '1 hour'",
    "time": "time '00:00' + n * interval '1 second'",
    "timetz": "timetz '00:00+00' + n * interval '1 second'",
    "interval": "n * interval '1 hour'",
    "json": "json_build_object('n', n)",
    "jsonb": "jsonb_build_object('n', n)",
    "bytea": "decode(md5(n::text), 'hex')",
    "inet": "inet '10.0.0.0' + n",
    "cidr": "cidr(inet '10.0.0.0' + n)",
    "hstore": "hstore('n', n::text)",
    "int4range": "int4range(n::int4, n::int4 + 1)",
    "int8range": "int8range(n, n + 1)",
    "tstzrange": "tstzrange(timestamptz '2024-01-01 00:00+00' + n * interval '1 hour', null)",
    "tsvector": "to_tsvector('simple', 'value' || n)",
    "xid8": "n::text::xid8",
    "pg_lsn": "('0/' || to_hex(n))::pg_lsn",
}
_WILD = {
    "bool": ["true", "false"],
    "int2": ["-1", "0", "1", "7", "32767", "-32768"],
    "int4": ["-1", "0", "1", "7", "2147483647", "-2147483648"],
    "int8": ["-1", "0", "1", "7", "9223372036854775807", "3000000000"],
    "float4": ["-1.5", "0", "1e30", "NaN", "Infinity"],
    "float8": ["-1.5", "0", "1e300", "NaN", "-Infinity"],
    "text": [
        "",
        " ",
        "a",
        "A",
        "a ",
        "12",
        "-3.5",
        "O'Reilly\\",
        "Größe ✓",
        "t",
        "{}",
        "2024-02-30",
    ],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "date": ["0044-03-15 BC", "1582-10-10", "2024-02-29", "9999-12-31"],
    "timestamp": ["0044-03-15 BC", "1969-12-31 23:59:59.999999", "2024-02-29", "infinity"],
    "timestamptz": ["0044-03-15 BC", "1969-12-31 23:59:59+14", "2024-02-29", "-infinity"],
    "time": ["00:00", "24:00", "23:59:59.999999"],
    "interval": ["0", "-1 day", "1 mon -30 days", "10000 years"],
    "json": ["{}", "[]", "null", '"text"', "-1", '{"a": {"b": null}}'],
    "jsonb": ["{}", "[]", "null", '"text"', "-1", '{"a": {"b": null}}'],
    "bytea": ["", "\\x00ff", "\\x0a"],
    "inet": ["::1", "0.0.0.0/0", "10.1.2.3/8"],
    "hstore": ["", '"a"=>NULL', '"a"=>"b", "": ""'.replace(":", "=>")],
    "int4range": ["empty", "(,)", "[1,5)"],
}
_WILD["varchar"] = _WILD["bpchar"] = _WILD["citext"] = _WILD["text"]


@dataclass(frozen=True, slots=True)
class Filled:
    """The tables that were filled, with the number of their rows, and why others were not."""

    rows: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def fill(
    conn: Connection, count: int = 60, *, seed: int = 0, leave_out: Iterable[str] = ()
) -> Filled:
    """Fill the tables that are empty.

    Args:
        conn: In autocommit mode, as the owner of the tables.
        count: Rows for each table, at most.
        leave_out: Tables by name, with their schema.
    """
    filled = Filled()
    tables = [each for each in described(conn) if each["name"] not in set(leave_out)]
    for table in _parents_first(tables):
        name = table["name"]
        if _is_empty(conn, name):
            try:
                with conn.transaction():
                    done = conn.execute(_insert(table, count, seed).encode()).rowcount
            except psycopg.Error as error:
                filled.skipped[name] = f"{error.sqlstate}: {error.diag.message_primary}"
                continue
            if done:
                filled.rows[name] = done
            else:
                filled.skipped[name] = "no candidate satisfies its constraints"
    return filled


def tables(conn: Connection) -> list[str]:
    """Name the tables that can be filled, with their schemas."""
    return [each["name"] for each in described(conn)]


def described(conn: Connection) -> list[dict[str, Any]]:
    """Describe the tables, without partitions, as the query `fill.sql` does."""
    row = conn.execute(_QUERY.encode()).fetchone()
    assert row is not None
    found: list[dict[str, Any]] = row[0]
    return found


def _is_empty(conn: Connection, table: str) -> bool:
    return conn.execute(f"select from {table} limit 1".encode()).fetchone() is None


def _parents_first(tables: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield tables after those that they reference, as far as there is such an order."""
    waiting = list(tables)
    while waiting:
        names = {each["name"] for each in waiting}
        ready = [each for each in waiting if not _references(each, names)]
        # In a cycle: nullable keys are left null.
        ready = ready or [each for each in waiting if not _needs(each, names)] or waiting[:1]
        yield from ready
        waiting = [each for each in waiting if each not in ready]


def _references(table: dict[str, Any], names: set[str]) -> bool:
    return any(key["other"] in names - {table["name"]} for key in table["keys"])


def _needs(table: dict[str, Any], names: set[str]) -> bool:
    required = {each["number"] for each in table["columns"] if each["not_null"]}
    others = names - {table["name"]}
    return any(key["other"] in others and set(key["columns"]) & required for key in table["keys"])


def _insert(table: dict[str, Any], count: int, seed: int) -> str:
    """Write the INSERT of a table's rows: candidates, of which those are kept that it allows."""
    columns = [each for each in table["columns"] if not each["is_generated"]]
    values, joins = _Values(table, count, seed), list[str]()
    items = {each["number"]: values.of(each) for each in columns}
    for index, key in enumerate(table["keys"]):
        joins += _follow(table, key, index, items, values)
    conditions = list(_conditions(table))
    candidates = count * (_CANDIDATES if conditions else 1)
    selected = ", ".join(f"{items[each['number']]} as {each['name']}" for each in columns)
    source = (
        f"(select {selected} from generate_series(1::int8, {candidates}) as n"
        f"{''.join(joins)}) as {table['alias']}"
    )
    derived = [each for each in table["columns"] if each["is_generated"]]
    if derived:
        more = ", ".join(f"({each['default']}) as {each['name']}" for each in derived)
        source = f"(select *, {more} from {source}) as {table['alias']}"
    names = ", ".join(each["name"] for each in columns)
    # A deferrable constraint cannot skip a row.
    is_deferrable = any(each["is_deferrable"] for each in table["unique"])
    return (
        f"insert into {table['name']} ({names}) overriding system value"
        f" select {names} from {source} where {' and '.join(['true', *conditions])}"
        f" limit {count}{'' if is_deferrable else ' on conflict do nothing'}"
    )


def _conditions(table: dict[str, Any]) -> Iterator[str]:
    for check in table["checks"]:
        yield f"({check['condition']}) is not false"
    for column in table["columns"]:
        for condition in column["checks"]:
            yield f"({_VALUE.sub(column['name'], condition)}) is not false"
    if table["is_partitioned"]:
        yield (
            "(" + " or ".join(f"({each or 'true'})" for each in table["bounds"] or ["false"]) + ")"
        )


def _follow(
    table: dict[str, Any], key: dict[str, Any], index: int, items: dict[int, str], values: _Values
) -> Iterator[str]:
    """Let the columns of a foreign key have values of the table that it references.

    Yields:
        The join that brings them, unless the table references itself: then each row does.
    """
    numbers, followed = key["columns"], values.followed & set(key["columns"])
    columns = {each["number"]: each for each in table["columns"]}
    if followed or any(number not in items for number in numbers):
        return
    values.followed |= set(numbers)
    nullable = [number for number in numbers if not columns[number]["not_null"]]
    if key["other"] == table["name"]:
        by_name = {each["name"]: each["number"] for each in table["columns"]}
        for number, name in zip(numbers, key["referenced"], strict=True):
            items[number] = items[by_name[name]]
        if nullable:
            items[nullable[0]] = f"null::{columns[nullable[0]]['type']}"
        return
    alias, names = f"f{index}", ", ".join(key["referenced"])
    number = "n - 1" if values.is_tidy else values.hash(alias)
    rows = f"(select {names}, row_number() over (order by {names}) - 1 as i from {key['other']})"
    size = f"greatest((select count(*) from {key['other']}), 1)"
    yield f" left join {rows} as {alias} on {alias}.i = ({number}) % {size}"
    for position, name in zip(numbers, key["referenced"], strict=True):
        items[position] = f"{alias}.{name}"
    if key["is_full"]:  # all of them are null, or none
        nullable = nullable if len(nullable) == len(numbers) else []
    else:
        nullable = nullable[:1]
    for each in nullable:
        items[each] = values.sometimes_null(columns[nullable[0]], items[each])


class _Values:
    """Writes the values of a table's columns."""

    def __init__(self, table: dict[str, Any], count: int, seed: int) -> None:
        self._table = table
        self._count = count
        self._seed = seed
        # A type, with the seed, of each table of its own.
        self._kind = ("tidy", "tidy", "odd", "odd", "wild")[self._pick("kind") % 5]
        deferrable = (each["columns"] for each in table["unique"] if each["is_deferrable"])
        self._distinct = {number for numbers in deferrable for number in numbers}
        self.followed: set[int] = set()

    @property
    def is_tidy(self) -> bool:
        return self._kind != "wild"

    def _pick(self, *words: object) -> int:
        """Return a number that only depends on some words, the table and the seed."""
        return zlib.crc32("/".join(map(str, (self._seed, self._table["name"], *words))).encode())

    def hash(self, *words: object) -> str:
        """Return a number, 0 or more, that depends on the row as well."""
        return f"abs(hashint8extended(n, {self._pick(*words)}) % 1000003)"

    def of(self, column: dict[str, Any]) -> str:
        """Return the value of a column, before foreign keys are followed."""
        if column["sequence"]:
            return f"nextval('{column['sequence']}')"
        if column["default"] and column["default"].startswith("nextval("):
            return str(column["default"])
        tidy, wild = self._tidy(column), self._wild(column)
        if pool := self._pool(column):
            chosen = self._chosen(column, pool)
            tidy = wild = chosen
        if column["number"] in self._distinct or self._kind == "tidy":
            return f"({tidy})::{column['type']}"
        if self._kind == "odd":
            odd = 1 + self._pick(column["name"], "odd") % self._count
            is_odd = self._pick(column["name"], "is odd") % 3 == 0
            value = self.sometimes_null(column, wild, every=2)
            given = f"case when n = {odd} then {value} else {tidy} end" if is_odd else tidy
            return f"({given})::{column['type']}"
        return f"({self.sometimes_null(column, wild)})::{column['type']}"

    def sometimes_null(self, column: dict[str, Any], value: str, every: int = 5) -> str:
        """Return a value that is null in one row of some, if the column and the table allow it."""
        if column["not_null"] or self._kind == "tidy":
            return value
        is_null = f"{self.hash(column['name'], 'null')} % {every} = 0"
        return f"case when {is_null} then null else {value} end"

    def _tidy(self, column: dict[str, Any]) -> str:
        base, element = column["base"], column["type"].removesuffix("[]")
        if column["labels"]:
            listed = ", ".join(map(_literal, column["labels"]))
            value = f"(array[{listed}])[1 + n % {len(column['labels'])}]::{element}"
        elif base == "numeric":
            value = f"n % {10 ** _digits(column)}" if column["size"] > 0 else "n"
        elif base in ("bit", "varbit"):
            length = max(column["size"], 1)
            value = f"lpad(substr(n::int4::bit(32)::text, 33 - {min(length, 32)}), {length}, '0')"
        elif base in ("varchar", "bpchar") and column["size"] > 4:
            value = f"left({_TIDY[base]}, {column['size'] - 4})"
        else:
            value = _TIDY.get(base) or column["default"] or "null"
        return f"array[{value}]" if column["is_array"] and value != "null" else value

    def _wild(self, column: dict[str, Any]) -> str:
        base, tidy = column["base"], self._tidy(column)
        if column["labels"] and not column["is_array"]:
            return tidy.replace("[1 + n %", f"[1 + {self.hash(column['name'], 'label')} %")
        if column["is_array"]:
            element = tidy.removeprefix("array[").removesuffix("]")
            many = f"array[{element}, null, {element}]" if tidy != "null" else "null"
            pool = [f"'{{}}'::{column['type']}", tidy, f"{many}::{column['type']}"]
        elif base == "numeric":
            most = 10 ** _digits(column) - 1 if column["size"] > 0 else 10**30
            pool = [str(each) for each in (0, -1, 0.5, 1, most, "'NaN'::numeric")]
        elif base in ("text", "varchar", "bpchar", "citext"):
            length = column["size"] - 4 if column["size"] > 4 else _LONGEST
            texts = [_literal(each[:length]) for each in _WILD["text"]]
            pool = [*texts, f"repeat('x', {min(length, _LONGEST)})", tidy, tidy]
        else:
            type_name = column["type"]
            pool = [f"{_literal(each)}::{type_name}" for each in _WILD.get(base, ())]
            pool += [f"({tidy})::{type_name}"] * 2
            if column["default"]:
                pool.append(f"({column['default']})::{type_name}")
        return self._chosen(column, pool)

    def _chosen(self, column: dict[str, Any], pool: Sequence[str]) -> str:
        number = self.hash(column["name"], "which")
        cases = " ".join(f"when {index} then {each}" for index, each in enumerate(pool))
        return f"case {number} % {len(pool)} {cases} end"

    def _pool(self, column: dict[str, Any]) -> list[str]:
        """Return values that the conditions on a column may want, from their own constants."""
        if column["is_array"] or column["labels"] or column["base"] in ("bool", "json", "jsonb"):
            return []
        texts = [*column["checks"], *self._bounds_of(column)]
        for check in self._table["checks"]:
            texts += [check["condition"]] if column["number"] in (check["columns"] or ()) else []
        pool = [value for text in texts for value in _constants(column, text)]
        return [*dict.fromkeys(pool), self._tidy(column)] if pool else []

    def _bounds_of(self, column: dict[str, Any]) -> list[str]:
        is_key = column["number"] in self._table["partition_key"]
        return [each for each in self._table["bounds"] if each] if is_key else []


def _constants(column: dict[str, Any], condition: str) -> Iterator[str]:
    base, type_name = column["base"], column["type"]
    numbers = [int(each) for each in _NUMBER.findall(condition)]
    if base in ("text", "varchar", "citext"):
        yield from (f"'{each}'::text" for each in _TEXT.findall(condition))
        lengths = [each for each in numbers if 0 < each <= _LONGEST]
        yield from (f"rpad(n::text, {length}, 'x')" for length in lengths)
    elif base == "bytea":
        lengths = [each for each in numbers if 0 < each <= _LONGEST]
        yield from (f"decode(rpad(md5(n::text), {2 * each}, '0'), 'hex')" for each in lengths)
    elif base in ("int2", "int4", "int8", "numeric", "float4", "float8"):
        near = sorted({each + more for each in numbers for more in (-1, 0, 1)})
        yield from (f"({each})::{type_name}" for each in near if abs(each) < 30000)
    elif base in ("date", "timestamp", "timestamptz"):
        for each in _TEXT.findall(condition):
            if re.match(r"\d{4}-", each):
                yield f"('{each}'::{type_name} + n * interval '1 minute')"


def _digits(column: dict[str, Any]) -> int:
    """Return how many digits a numeric has before the point."""
    modifier = int(column["size"]) - 4
    return max((modifier >> 16 & 0xFFFF) - (modifier & 0x7FF), 0)


def _literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
