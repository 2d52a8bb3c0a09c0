"""The hazards, and the findings and facts that they are reported with."""

from __future__ import annotations

import enum
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from ..errors import MigrationFileError
from ..sql.location import locate
from ..sql.script import Allowance, Script, Statement
from ..tracing.trace import ObjectChange


@dataclass(frozen=True, slots=True)
class Hazard:
    """A kind of danger; `catalogue.toml` says what is in each field."""

    id: str
    title: str
    condition: str
    effect: str
    workaround: str
    costs_only_time: bool = False


class Severity(enum.StrEnum):
    """How much a finding matters; text calls `INFORMATION` a note."""

    FINDING = "finding"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True)
class Finding:
    """One hazard of one statement.

    Attributes:
        statement: None if it is about no statement, such as a down that loses data.
        relation: The table, or the table of the index, with its schema and quoted as in SQL;
            None if the hazard is about no relation.
        message: What happens, with names and sizes: lower case, no full stop.
        accepted: The reason in `-- migrator: allow ID REASON`; None if there is none.
        missing_index: The columns without an index, which a later script may create.
        lost: What no down script can bring back; None if there is nothing.
        rewritten: The statement as it runs in batches; None if that does not help, or is not known.
    """

    hazard: Hazard
    statement: Statement | None
    relation: str | None
    message: str
    severity: Severity = Severity.FINDING
    accepted: str | None = None
    missing_index: tuple[str, ...] = ()
    lost: str | None = None
    rewritten: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is neither a note nor accepted, so that `rehearse` exits with 4."""
        return self.severity is Severity.FINDING and self.accepted is None


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a table of the target; of a partitioned table, that of all its partitions.

    Attributes:
        bytes: On disk, with TOAST and without indexes.
        rows: As estimated by the server; None if the table was never analyzed.
        is_empty: Whether it has no row for certain, as its files have no page.
    """

    bytes: int
    rows: int | None = None
    is_empty: bool = False


@dataclass(frozen=True, slots=True)
class RowChange:
    """What a statement would change in one table of the target, as its planner estimates.

    Attributes:
        verb: `insert`, `update` or `delete`.
        relation: As in `Relation.name`, but a reserved word may be without quotes.
        bytes: Of the rows that the plan returns, so of an INSERT those of the new rows.
    """

    verb: str
    relation: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Made:
    """What the pending scripts before a script made, and no application can use yet.

    Relations and columns are named as in `Touch`, under the names they have before the script.

    Attributes:
        relations: Tables, indexes, views and so on.
        columns: Table and column, of tables that were there.
        constraints: Table and constraint, of tables that were there.
        objects: Kind and name, as in `ObjectChange`.
    """

    relations: frozenset[str] = frozenset()
    columns: frozenset[tuple[str, str]] = frozenset()
    constraints: frozenset[tuple[str, str]] = frozenset()
    objects: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalogs say; relations as in `Relation.name`, columns as in `Touch`.

    Attributes:
        sizes: Of the target's tables and materialized views, before the script.  A table that
            is missing here counts as large.
        indexes: By table, after the script: the columns of each valid index that is not
            partial, in order; "" for an expression.
        foreign_keys: Table and columns of each foreign key that is enforced, after the script.
        dependents: By table, view or `table.column`, before the script: what depends on it, as
            in `pg_describe_object`, such as `view public.v`.
        partitions: By partition, before or after the script: the partitioned table at the top.
        proven: By table, before the script: the columns that a valid CHECK proves not null.
        objects: Kind and name, as in `ObjectChange`, of everything that is no relation and
            exists after the script.  An object that is dropped and created again is not
            reported as dropped.
        objects_created: Those of them that did not exist before it, also by another name.
        object_changes: How such objects differ before and after the script.  The traces miss
            some renames: renaming a type or function takes no lock.
        row_changes: By the offset of a statement that was explained on the target.
        made: What the pending scripts before this one made.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    indexes: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    foreign_keys: frozenset[tuple[str, frozenset[str]]] = frozenset()
    dependents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    partitions: Mapping[str, str] = field(default_factory=dict)
    proven: Mapping[str, frozenset[str]] = field(default_factory=dict)
    objects: frozenset[tuple[str, str]] = frozenset()
    objects_created: frozenset[tuple[str, str]] = frozenset()
    object_changes: tuple[ObjectChange, ...] = ()
    row_changes: Mapping[int, tuple[RowChange, ...]] = field(default_factory=dict)
    made: Made = Made()


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a script held blocking locks on existing relations of a copy with rows.

    Attributes:
        held: By the offset of the statement that took or strengthened the lock, and the OID of
            the relation: the seconds from then to the end of the transaction.
        limit: How long is too long, in seconds.
    """

    held: Mapping[int, Mapping[int, float]]
    limit: float


@cache
def hazards() -> Mapping[str, Hazard]:
    """Return the hazards by id, in the order of `catalogue.toml`."""
    text = resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {
        hazard: Hazard(hazard, **{key: _unwrapped(value) for key, value in given.items()})
        for hazard, given in tomllib.loads(text).items()
    }


def _unwrapped(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def accepted(script: Script, statement: Statement | None, hazard: str) -> str | None:
    """Return the reason for which a script accepts a hazard of a statement; None without one.

    Args:
        statement: None for a finding that may be that of any statement.
    """
    for allowance in script.options.allowances:
        above = allowance.statement
        is_above = statement is None or (above and above.offset == statement.offset)
        if is_above and allowance.hazard == hazard:
            return allowance.reason or None
    return None


def problems(script: Script) -> tuple[MigrationFileError, ...]:
    """Return the errors in the `-- migrator: allow` comments of a script, in its order."""
    found = []
    for allowance in script.options.allowances:
        hazard = allowance.hazard
        if hazard not in hazards():
            message = f'there is no hazard "{hazard}"' if hazard else "allow names no hazard"
            hint = f"the hazards are {', '.join(hazards())}"
        elif not allowance.reason:
            message = f"allow {hazard} gives no reason"
            hint = f"write: -- migrator: allow {hazard} REASON"
        elif not allowance.statement:
            message = f"allow {hazard} is not above a statement"
            hint = "move it directly above the statement that it is about"
        else:
            continue
        location = locate(script.source, allowance.offset, script.path)
        found.append(MigrationFileError(message, location=location, hint=hint))
    return tuple(found)


def enum_value_used(statement: Statement, message: str) -> Finding:
    """Return the finding for the server's error 55P04; `message` is the server's."""
    return Finding(hazards()["enum-value-used-early"], statement, None, message)


def not_undone(what: str, accepted: str | None) -> Finding:
    """Return the finding on a down script that does not undo its up script.

    Args:
        what: What it does instead: lower case, no full stop.
        accepted: As in `Finding`.
    """
    return Finding(hazards()["down-does-not-undo"], None, None, what, accepted=accepted)


def of_query(hazard: str, statement: Statement | None, what: str, accepted: str | None) -> Finding:
    """Return the finding on a query of the running release that a migration breaks or slows down.

    Args:
        hazard: Its id.
        statement: The one that causes it; None if that is not known.
        what: The error or the costs, the query and its calls: lower case, no full stop.
        accepted: As in `Finding`.
    """
    return Finding(hazards()[hazard], statement, None, what, accepted=accepted)


def unused(allowance: Allowance) -> Finding:
    """Return the note on a comment that accepts a finding that its statement does not have."""
    hazard = hazards()["allow-unused"]
    message = f"allow {allowance.hazard} is not needed: there is no such finding"
    return Finding(hazard, allowance.statement, None, message, Severity.INFORMATION)


def rows_lost(finding: Finding) -> Finding:
    """Return the note on rows that the up script deletes or overwrites; `finding` says which."""
    message = f"the down script cannot bring back {finding.lost}"
    return replace(
        finding,
        hazard=hazards()["down-loses-data"],
        message=message,
        severity=Severity.INFORMATION,
        accepted=None,
    )


def data_lost(what: str) -> Finding:
    """Return the note on a table or column that the down script restored without its data.

    Args:
        what: Such as `column public.users.phone`.
    """
    message = f"the down script restores {what}, but not its data"
    return Finding(hazards()["down-loses-data"], None, None, message, Severity.INFORMATION)
