"""What one statement did to the database: locks, rewrites, scans, changes; told from snapshots."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any


class LockMode(enum.IntEnum):
    """A table-level lock mode; a higher number conflicts with at least as much, save SHARE.

    Source: "Explicit Locking", PostgreSQL's manual, and `lockdefs.h`.
    """

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    @property
    def blocks_reads(self) -> bool:
        """Whether a plain SELECT waits for it."""
        return self is LockMode.ACCESS_EXCLUSIVE

    @property
    def blocks_writes(self) -> bool:
        """Whether INSERT, UPDATE and DELETE wait for it."""
        return self >= LockMode.SHARE

    @property
    def sql(self) -> str:
        """Spell it as `LOCK TABLE` does.

        >>> LockMode.ACCESS_EXCLUSIVE.sql
        'ACCESS EXCLUSIVE'
        """
        return self.name.replace("_", " ")

    @classmethod
    def parse(cls, mode: str) -> LockMode:
        """Read `pg_locks.mode`.

        >>> LockMode.parse("ShareUpdateExclusiveLock").name
        'SHARE_UPDATE_EXCLUSIVE'
        """
        return _BY_NAME[mode.removesuffix("Lock").lower()]


_BY_NAME = {mode.name.replace("_", "").lower(): mode for mode in LockMode}


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, index, view, sequence or the like.

    Attributes:
        name: With its schema, and quoted, as SQL takes it.
        kind: `pg_class.relkind`: r table, p partitioned table, i index, I partitioned index,
            S sequence, v view, m materialized view, c composite type,
            f foreign table.  TOAST is left out: it shares the fate of its table.
        table: The name of the table that an index belongs to; None for other relations.
    """

    oid: int
    name: str
    kind: str
    table: str | None = None


class Change(enum.StrEnum):
    """What became of a constraint."""

    ADDED_VALID = "added valid"  # checked against every row that is there
    ADDED_NOT_VALID = "added not valid"  # for rows to come
    VALIDATED = "validated"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class ConstraintChange:
    """What became of a constraint of a table.

    Attributes:
        name: Quoted, as SQL takes it.
        kind: `pg_constraint.contype`: c check, f foreign key, p primary key, u unique,
            x exclusion, t constraint trigger, and n for a NOT NULL added NOT VALID or
            validated (18); others are in `Touch.not_null_set`.
        columns: The constrained ones, in the constraint's order; none for one of no column.
        references: The table that a foreign key refers to; None for other kinds.
    """

    name: str
    kind: str
    change: Change
    columns: tuple[str, ...] = ()
    references: str | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """What one statement did to one relation; columns are named as SQL takes them.

    Attributes:
        mode: The strongest lock that the transaction holds on it after the statement; None if
            none was seen.
        is_stronger: The statement took it, or a stronger one than was held before.
        is_ours: Created in the same transaction, so that its locks concern nobody.
        rewritten: It got another file: by a rewrite, a rebuilt index, TRUNCATE, REFRESH.  Nobody
            minds it of a sequence.
        renamed_from: Its name before, with its schema; None if it kept it.
        scans: How often the whole table was read; 0 for what is no table.
        rows_read: By those scans.
        columns_required: Those of the added ones that are NOT NULL, and that nothing fills.
        columns_renamed: Pairs of the name before and after.
        not_null_set: Columns that were there and are NOT NULL since.
        types_changed: Columns that were there and have another type or modifier since.
    """

    relation: Relation
    mode: LockMode | None
    is_stronger: bool = False
    is_ours: bool = False
    rewritten: bool = False
    dropped: bool = False
    renamed_from: str | None = None
    scans: int = 0
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    columns_added: tuple[str, ...] = ()
    columns_required: tuple[str, ...] = ()
    columns_dropped: tuple[str, ...] = ()
    columns_renamed: tuple[tuple[str, str], ...] = ()
    not_null_set: tuple[str, ...] = ()
    types_changed: tuple[str, ...] = ()
    constraints: tuple[ConstraintChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What became of an object that is no relation.

    Attributes:
        kind: What it is: `type`, `function`, `schema`, `trigger`, `policy`, `extension`, …
        name: As SQL takes it, with its schema; a trigger or policy as `name on table`.
        is_ours: Created in the same transaction.
        renamed_from: Its name before; None if it kept it.
        values_added: Labels that an enum type got, in its order.
        values_renamed: Labels of an enum type, as pairs of before and after.
    """

    kind: str
    name: str
    is_ours: bool = False
    dropped: bool = False
    renamed_from: str | None = None
    values_added: tuple[str, ...] = ()
    values_renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """What one statement did.

    Attributes:
        touches: One for each relation that it took or strengthened a lock on, rewrote, scanned,
            changed, created or dropped; by name.
        created: Those that it created, by name; they are in `touches` too.
        objects: As far as locks on objects show them; by kind and name.
        sampled: Watched from another session, so that a lock held for a moment may be
            missing, and nothing is known of scans and rows.
    """

    touches: tuple[Touch, ...] = ()
    created: tuple[Relation, ...] = ()
    objects: tuple[ObjectChange, ...] = ()
    sampled: bool = False


def names_before(traces: Iterable[Trace]) -> dict[int, str]:
    """Return the names that relations had before the first of some traces, by OID."""
    names: dict[int, str] = {}
    for trace in traces:
        for touch in trace.touches:
            names.setdefault(touch.relation.oid, touch.renamed_from or touch.relation.name)
    return names


def to_json(trace: Trace) -> dict[str, Any]:
    """Turn a trace into what `json.dumps` takes; what is as usual is left out."""
    plain = _plain(trace)
    assert isinstance(plain, dict), "a trace is a dataclass"
    return plain


def from_json(document: Mapping[str, Any]) -> Trace:
    """Turn what `to_json` gave, after any way through JSON, into the trace again."""
    return Trace(
        touches=tuple(_touch(each) for each in document.get("touches", ())),
        created=tuple(Relation(**each) for each in document.get("created", ())),
        objects=tuple(ObjectChange(**_tuples(each)) for each in document.get("objects", ())),
        sampled=document.get("sampled", False),
    )


def _plain(value: Any) -> Any:
    match value:
        case LockMode():
            return value.sql
        case tuple():
            return [_plain(each) for each in value]
        case Trace() | Touch() | Relation() | ConstraintChange() | ObjectChange():
            given = {each: getattr(value, each.name) for each in fields(value)}
            return {
                each.name: _plain(content)
                for each, content in given.items()
                if each.default is MISSING or content != each.default
            }
        case _:
            return value


def _touch(document: Mapping[str, Any]) -> Touch:
    mode = document["mode"]
    constraints = document.get("constraints", ())
    return Touch(
        **_tuples(document)
        | {
            "relation": Relation(**document["relation"]),
            "mode": LockMode[mode.replace(" ", "_")] if mode else None,
            "constraints": tuple(
                ConstraintChange(**_tuples(each) | {"change": Change(each["change"])})
                for each in constraints
            ),
        }
    )


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """Turn lists, and lists in them, into tuples."""
    return {
        name: tuple(tuple(each) if isinstance(each, list) else each for each in content)
        if isinstance(content, list)
        else content
        for name, content in document.items()
    }
