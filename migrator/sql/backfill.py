"""Read what a script runs in batches: `-- migrator: backfill`, `repeat` and `/* batch */`.

`/* batch */` is where a condition is added to a WHERE, so it has to end that WHERE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from ..errors import MigrationFileError
from . import names, splitter
from .location import locate
from .script import Backfill, Statement, Unit

BATCHED = BACKFILL, REPEAT = "backfill", "repeat"
"""The options that run the statement below in batches."""

_PLACEHOLDER = re.compile(r"/\*\s*batch\s*\*/", re.IGNORECASE)
_CHANGES = ("update", "delete", "insert", "merge")
_VERBS = (*_CHANGES, "select", "values", "table")
# Words that cannot be in the condition of a WHERE, outside parentheses.
_CLAUSES = frozenset(
    ["from", "group", "having", "limit", "offset", "on", "order", "returning", "select", "set"]
) | {"update", "using", "values", "when", "window"}
_MAY_FOLLOW = frozenset(
    ["", ";", ")", "and", "except", "for", "intersect", "on", "order", "returning", "union"]
)
_EXAMPLE = "where total_cents is null /* batch */"
_FORM = "-- migrator: backfill TABLE [as ALIAS] [by COLUMN]"


def read(option: str, value: str, offset: int, below: Statement | None) -> Backfill:
    """Read one of the two options; `problems` says what is wrong with it.

    >>> found = read("backfill", 'app."Orders" as o by id', 0, None)
    >>> found.table, found.alias, found.column
    (('app', 'Orders'), 'o', 'id')

    Args:
        offset: Of the comment.
        below: The next statement; None at the end of the script.
    """
    tokens = list(splitter.tokens(value))
    table, at = names.read(tokens) if option == BACKFILL else ((), 0)
    words: dict[str, str] = {}
    for word in ("as", "by"):
        if tokens[at : at + 1] and tokens[at].lower() == word:
            name, end = names.read(tokens, at + 1)
            if len(name) == 1:
                words[word], at = name[0], end
    alias = words.get("as") or (table[-1] if table else "")
    place = _placeholders(below)[:1] if below else []
    is_valid = at == len(tokens) and bool(table) == (option == BACKFILL)
    return Backfill(
        offset, option, below, table, alias, words.get("by"), next(iter(place), None), is_valid
    )


def problems(
    path: PurePath,
    source: str,
    backfills: Sequence[Backfill],
    units: Iterable[Unit],
    *,
    is_transactional: bool,
) -> Iterator[MigrationFileError]:
    """Yield why statements cannot be run in batches, in the order of the file."""
    if not backfills:
        return
    in_blocks = {s.offset for unit in units if unit.begin for s in unit.statements}
    for index, each in enumerate(backfills):
        is_second = any(b.statement is each.statement for b in backfills[:index])
        if not each.is_valid:
            form = _FORM if each.option == BACKFILL else f"-- migrator: {REPEAT}"
            found: tuple[str, str] | None = f'invalid option "{each.option}"', f"write: {form}"
        elif each.statement is None:
            found = f'no statement below option "{each.option}"', "move it directly above one"
        elif is_second:
            found = "a second batch option for one statement", "remove one of the lines"
        elif is_transactional:
            hint = "begin the file with: -- migrator: no-transaction"
            found = f'option "{each.option}" in a file that is one transaction', hint
        elif each.statement.offset in in_blocks:
            hint = "move the statement out of the block"
            found = f'option "{each.option}" inside BEGIN … COMMIT, which is one transaction', hint
        else:
            found = _of_statement(each, each.statement)
        if found:
            message, hint = found
            yield MigrationFileError(message, location=locate(source, each.offset, path), hint=hint)


def tokens_of(statement: Statement, end: int) -> list[str]:
    """Return the tokens of a statement up to an offset of the source, in lower case."""
    return [token.lower() for token in splitter.tokens(statement.source[statement.offset : end])]


def condition(backfill: Backfill) -> list[tuple[int, str]] | None:
    """Return the tokens of the WHERE that the placeholder ends, each with its depth.

    The depth counts parentheses and CASE.

    Returns:
        None if the placeholder ends no WHERE.
    """
    assert backfill.statement is not None, "it has no problem"
    assert backfill.place is not None, "it has no problem"
    found: list[tuple[int, str]] = []
    depth = 0
    for word in reversed(tokens_of(backfill.statement, backfill.place[0])):
        depth += (word in (")", "end")) - (word in ("(", "case"))
        if depth < 0 or (not depth and word in _CLAUSES):
            return None
        if not depth and word == "where":
            return found[::-1]
        found.append((depth, word))
    return None


def rewritten(statement: Statement) -> str | None:
    """Write an UPDATE or DELETE so that it runs in batches; None if its WHERE cannot be extended.

    >>> print(rewritten(next(splitter.split("update s.t as a set b = 1 where b is null;"))))
    -- migrator: backfill s.t as a
    update s.t as a set b = 1 where b is null /* batch */;
    """
    text = statement.text.rstrip("; \n")
    end = statement.offset + len(text)
    words = list(splitter.tokens(text))
    start = 2 if statement.words[:2] == ("delete", "from") else 1
    table, at = names.read(words, start + (words[start : start + 1] == ["only"]))
    at += words[at : at + 1] == ["as"]
    alias = words[at] if words[at : at + 1] and words[at].lower() not in _CLAUSES else None
    read = Backfill(0, BACKFILL, statement, table, "", None, (end, end), is_valid=True)
    tokens = (
        condition(read) if table and statement.words[:1] in (("update",), ("delete",)) else None
    )
    if not tokens or (0, "or") in tokens or _placeholders(statement):
        return None
    named = f" as {alias}" if alias and alias.lower() != "where" else ""
    space = "\n" if "--" in text.rpartition("\n")[2] else " "
    return f"-- migrator: backfill {names.quoted(table)}{named}\n{text}{space}/* batch */;"


def _placeholders(statement: Statement) -> list[tuple[int, int]]:
    inside = splitter.comments(statement.source, statement.offset, statement.end)
    return [(at, at + len(text)) for at, text, _ in inside if _PLACEHOLDER.fullmatch(text)]


def _of_statement(backfill: Backfill, statement: Statement) -> tuple[str, str] | None:
    """Return what is wrong with the statement of a backfill, and what to do; None if nothing is."""
    verb = _verb(statement)
    if verb not in _CHANGES:
        what = "UPDATE, DELETE, INSERT or MERGE"
        return f"{(verb or 'this statement').upper()} cannot be run in batches", f"use {what}"
    places = _placeholders(statement)
    if backfill.option == REPEAT:
        hint = "remove the comment, or write: -- migrator: backfill TABLE"
        return ("a repeated statement has no /* batch */", hint) if places else None
    if len(places) != 1:
        number = "more than one" if places else "no"
        return f"the statement has {number} /* batch */", f"end its WHERE with one: {_EXAMPLE}"
    tokens = condition(backfill)
    after = next(splitter.tokens(statement.source[places[0][1] : statement.end]), "").lower()
    if not tokens or after not in _MAY_FOLLOW:
        return "/* batch */ does not end the condition of a WHERE", f"for example: {_EXAMPLE}"
    if (0, "or") in tokens:
        hint = "put parentheses around the condition: where (… or …) /* batch */"
        return "the WHERE has an OR outside parentheses before /* batch */", hint
    if verb == "insert" and _inserts_again(tokens_of(statement, statement.end)):
        hint = "end it with: on conflict do nothing (with a unique index on the table)"
        return "the INSERT would insert the same rows in every pass", hint
    return None


def _inserts_again(words: Sequence[str]) -> bool:
    """Whether an INSERT leaves out no row that it has inserted, and takes none from elsewhere."""
    if not {"conflict", "delete", "update", "merge"}.isdisjoint(words):
        return False
    _, end = names.read(words, words.index("into") + 1)
    return words.count(words[end - 1]) == 1  # otherwise its query may read the table


def _verb(statement: Statement) -> str | None:
    """Return the verb of a statement, after its WITH; None if it is not one that is known."""
    depth = 0
    for word in tokens_of(statement, statement.end):
        depth += (word == "(") - (word == ")")
        if not depth and word in _VERBS:
            return word
        if not depth and statement.words[:1] != ("with",):
            break
    return None
