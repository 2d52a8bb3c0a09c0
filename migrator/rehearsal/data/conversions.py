"""Find the expressions that changed types are converted by: `ALTER … TYPE … USING`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ...hazards.statement import StatementTrace
from ...sql import names, splitter
from ...sql.script import Statement
from .constraints import Column, Requirements
from .rows import Past

# From, and to without a modifier: each value is kept as it is.
_WIDENING = frozenset(
    [
        ("smallint", "integer"),
        ("smallint", "bigint"),
        ("integer", "bigint"),
        ("smallint", "numeric"),
        ("integer", "numeric"),
        ("bigint", "numeric"),
        ("real", "double precision"),
        ("character varying", "text"),
    ]
)


def keeps(past: Past, table: int, before: Column, after: Column) -> bool:
    """Whether all values of a column are the same before and after a change of its type."""
    if (before.type_oid, before.modifier) == (after.type_oid, after.modifier):
        return True
    if (table, after.number) in past.conversions or before.collation != after.collation:
        return False
    is_wider = after.modifier == -1 or (
        after.base_type == "character varying" and 0 <= before.modifier <= after.modifier
    )
    is_same = before.type_oid == after.type_oid
    return is_wider and (is_same or (before.base_type, after.base_type) in _WIDENING)


def find(
    traced: Sequence[StatementTrace], before: Requirements, after: Requirements, past: Past
) -> Mapping[tuple[int, int], str | None]:
    """Return the expressions of the columns whose types some statements change.

    Returns:
        By OID of the table and number of the column.  None if the expression cannot be read, or
        names columns that pending migrations have added or renamed.  A column without USING is
        left out.
    """
    found: dict[tuple[int, int], str | None] = {}
    for statement, trace in traced:
        for touch in trace.touches:
            oid = touch.relation.oid
            if not touch.types_changed or oid not in after.tables or past.is_new(oid):
                continue
            old = before.tables[oid].columns if oid in before.tables else {}
            # A later statement may rename the column.
            numbers = {c.name: n for n, c in old.items()}
            numbers |= {c.name: n for n, c in after.tables[oid].columns.items()}
            target = {c.name for c in past.target.tables[oid].columns.values()}
            is_plain = statement.words[:2] == ("alter", "table")
            given = using(statement) if is_plain else {}
            for column in touch.types_changed:
                number = numbers.get(column)
                if number is None:
                    continue
                key = (oid, number)
                was = old.get(number)
                is_first = key not in found and key not in past.conversions
                is_same = was is not None and was.name == column and column in target
                expression = given.get(names.read([column])[0][0])
                if not is_plain or not is_first or (expression is not None and not is_same):
                    found[key] = None
                elif expression is not None:
                    found[key] = expression
    return found


def using(statement: Statement) -> dict[str, str]:
    """Return the USING expressions of an ALTER TABLE, by column as the catalog has it.

    >>> text = "alter table t alter a type int using (a || '0')::int, alter b set data type text;"
    >>> using(next(splitter.split(text)))
    {'a': "( a || '0' ) :: int"}
    """
    return dict(_conversions(list(splitter.tokens(statement.text.removesuffix(";")))))


def _conversions(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    for action in _actions(tokens):
        words = [each.lower() for each in action]
        starts = [i for i, word in enumerate(words) if word == "alter"]
        depths = list(_depths(action))
        ends = [i for i, word in enumerate(words) if word == "using" and not depths[i]]
        if not starts or not ends:
            continue
        start = starts[-1] if starts[-1] < ends[0] else starts[0]
        start += 2 if words[start + 1] == "column" else 1
        name, _ = names.read(action, start)
        yield name[0], " ".join(action[ends[0] + 1 :])


def _actions(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Cut tokens at the commas outside parentheses."""
    action: list[str] = []
    for each, depth in zip(tokens, _depths(tokens), strict=True):
        if each == "," and not depth:
            yield action
            action = []
        else:
            action.append(each)
    yield action


def _depths(tokens: Sequence[str]) -> Iterator[int]:
    depth = 0
    for each in tokens:
        depth -= each in (")", "]")
        yield depth
        depth += each in ("(", "[")


def uncast(expression: str) -> str:
    """Return an expression without its last cast.

    >>> uncast("status :: text :: public . mood"), uncast("lower ( a :: text )")
    ('status :: text', 'lower ( a :: text )')
    >>> uncast('( "type" :: text :: "Type_new" )'), uncast("( a ) || ( b )")
    ('"type" :: text', '( a ) || ( b )')
    """
    tokens = list(splitter.tokens(expression))
    while tokens[:1] == ["("] and _closing(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
    inner, _, name = " ".join(tokens).rpartition(" :: ")
    return inner if inner and re.fullmatch(r'[\w$ ."]+', name) else expression


def _closing(tokens: Sequence[str]) -> int:
    """Return where the parenthesis closes that the first token opens."""
    depth = 0
    for index, each in enumerate(tokens):
        depth += (each == "(") - (each == ")")
        if not depth:
            return index
    return len(tokens)
