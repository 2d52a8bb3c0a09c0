"""The nouns of a trace: what one statement locked, rewrote, scanned and changed."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any


class LockMode(enum.IntEnum):
    """A table-level lock mode; except for SHARE, a higher one conflicts with at least as much.

    Source: "Explicit Locking" in PostgreSQL's manual, and `lockdefs.h`.
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
        """Write it as in `LOCK TABLE`.

        >>> LockMode.ACCESS_EXCLUSIVE.sql
        'ACCESS EXCLUSIVE'
        """
        return self.name.replace("_", " ")

    @classmethod
    def parse(cls, mode: str) -> LockMode:
        """Read a mode as in `pg_locks.mode`.

        >>> LockMode.parse("ShareUpdateExclusiveLock").name
        'SHARE_UPDATE_EXCLUSIVE'
        """
        return _BY_NAME[mode.removesuffix("Lock").lower()]


_BY_NAME = {mode.name.replace("_", "").lower(): mode for mode in LockMode}


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, index, view, sequence or the like.

    Attributes:
        name: With its schema, quoted as in SQL.
        kind: `pg_class.relkind`: r table, p partitioned table, i index, I partitioned index,
            S sequence, v view, m materialized view, c composite type,
            f foreign table.  TOAST tables are left out.
        table: The name of the table that an index belongs to; None for other relations.
    """

    oid: int
    name: str
    kind: str
    table: str | None = None


class Change(enum.StrEnum):
    """What a statement did to a constraint."""

    ADDED_VALID = "added valid"  # all existing rows were checked
    ADDED_NOT_VALID = "added not valid"
    VALIDATED = "validated"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class ConstraintChange:
    """What a statement did to one constraint of a table.

    Attributes:
        name: Quoted as in SQL.
        kind: `pg_constraint.contype`: c check, f foreign key, p primary key, u unique,
            x exclusion, t constraint trigger, and n for a NOT NULL that was added NOT VALID
            or validated (PostgreSQL 18); any other NOT NULL is in `Touch.not_null_set`.
        columns: In the order of the constraint; may be empty.
        references: The table that a foreign key references; None for other kinds.
    """

    name: str
    kind: str
    change: Change
    columns: tuple[str, ...] = ()
    references: str | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """What one statement did to one relation; names of columns are quoted as in SQL.

    Attributes:
        mode: The strongest lock that the transaction holds after the statement; None if none
            was seen.
        is_stronger: Whether the transaction held no such lock, or a weaker one, before.
        is_ours: Whether the transaction created it, so that its locks block no other session.
        rewritten: Whether it has a new file, by a rewrite, a rebuilt index, TRUNCATE or REFRESH;
            not for sequences.
        renamed_from: The name before, with its schema; None if it was not renamed.
        scans: The number of full scans; 0 for other relations than tables.
        rows_read: The number of rows that these scans read.
        written: Whether the text of the statement writes it, also if there were no rows.
        columns_required: The added columns that are NOT NULL and have no default.
        columns_renamed: As pairs of the name before and after.
        defaults_dropped: Existing columns that no longer have a default, identity or expression.
        defaults_needed: Those of them that are NOT NULL.
        defaults_set: Existing columns that have one now, and had none.
        not_null_set: Existing columns that were set NOT NULL.
        types_changed: Existing columns that have a new type or modifier.
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
    written: bool = False
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    columns_added: tuple[str, ...] = ()
    columns_required: tuple[str, ...] = ()
    columns_dropped: tuple[str, ...] = ()
    columns_renamed: tuple[tuple[str, str], ...] = ()
    defaults_dropped: tuple[str, ...] = ()
    defaults_needed: tuple[str, ...] = ()
    defaults_set: tuple[str, ...] = ()
    not_null_set: tuple[str, ...] = ()
    types_changed: tuple[str, ...] = ()
    constraints: tuple[ConstraintChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What one statement did to an object that is not a relation.

    Attributes:
        kind: Such as `type`, `function`, `schema`, `trigger`, `policy`, `extension`.
        name: With its schema, quoted as in SQL; a trigger or policy as `name on table`.
        is_ours: Whether the transaction created it.
        renamed_from: The name before; None if it was not renamed.
        values_added: New labels of an enum type, in its order.
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
        touches: One for each relation that it locked, rewrote, scanned, changed, created or
            dropped, by name.
        created: The relations that it created, by name; they are in `touches` too.
        objects: As far as locks on objects show them, by kind and name.
        sampled: Whether it was watched from another session: brief locks may be missing, and
            scans and rows are not counted.
    """

    touches: tuple[Touch, ...] = ()
    created: tuple[Relation, ...] = ()
    objects: tuple[ObjectChange, ...] = ()
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a statement took, by the server's clock, and what it wrote.

    Attributes:
        seconds: Without the time of the trace.
        resumed: When the trace of it was complete and the script went on, in seconds since 1970.
        wal: The bytes of WAL that the server wrote meanwhile; None if that was not asked for.
    """

    seconds: float
    resumed: float
    wal: int | None = None


def names_before(traces: Iterable[Trace]) -> dict[int, str]:
    """Return the names that relations had before the first of some traces, by OID."""
    names: dict[int, str] = {}
    for trace in traces:
        for touch in trace.touches:
            names.setdefault(touch.relation.oid, touch.renamed_from or touch.relation.name)
    return names


def to_json(trace: Trace) -> dict[str, Any]:
    """Convert a trace for `json.dumps`, without the values that are defaults."""
    plain = _plain(trace)
    assert isinstance(plain, dict), "a trace is a dataclass"
    return plain


def from_json(document: Mapping[str, Any]) -> Trace:
    """Convert the result of `to_json`, read from JSON, back to a trace."""
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
    """Convert lists, and lists in lists, to tuples."""
    return {
        name: tuple(tuple(each) if isinstance(each, list) else each for each in content)
        if isinstance(content, list)
        else content
        for name, content in document.items()
    }
