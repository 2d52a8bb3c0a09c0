"""The catalogue of what endangers production, and what a file's comments accept of it."""

from __future__ import annotations

import enum
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from ..errors import MigrationFileError
from ..sql.location import locate
from ..sql.script import Script, Statement
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
    """Whether a finding stands against the migration."""

    FINDING = "finding"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True)
class Finding:
    """One hazard of one statement.

    Attributes:
        statement: Where it lies; None if in none, as with a down that loses data.
        relation: With its schema, as SQL takes it, an index's table for the index; None if it
            concerns none.
        message: What happens, with names and sizes: lower case, no full stop.
        accepted: The reason of `-- migrator: allow ID reason`; None without one.
        wants_index: The columns that an index is wanted on, which a later script may build.
    """

    hazard: Hazard
    statement: Statement | None
    relation: str | None
    message: str
    severity: Severity = Severity.FINDING
    accepted: str | None = None
    wants_index: tuple[str, ...] = ()

    @property
    def stands(self) -> bool:
        """Whether it is left to be settled, so that the rehearsal's exit code is 4."""
        return self.severity is Severity.FINDING and self.accepted is None


@dataclass(frozen=True, slots=True)
class Size:
    """How much a table of the target holds; of a partitioned one, all its partitions together.

    Attributes:
        bytes: On disk, TOAST included, indexes left out.
        rows: As estimated by the server; None if it has never counted them.
    """

    bytes: int
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What catalogs say; relations as `Relation.name`, columns as `Touch` names them.

    Attributes:
        sizes: Of the target's tables and materialized views, before the script.  One that is
            not here is taken for large.
        indexes: By table, after the script: the columns of each valid index that is not
            partial, in order; "" for an expression.
        dependents: By table, view or `table.column`, before the script: what depends on it, as
            sentences such as `view public.v`.
        partitions: By partition, the topmost table that it belongs to, before or after the script.
        proven: By table, before the script: columns that a valid CHECK says are not null.
        objects: What is there after the script and is no relation: kind and name as in
            `ObjectChange`.  What is dropped and created again is not told as dropped.
        object_changes: What became of those over the whole script, by OID.  The traces do not
            show every rename: on a type or function it takes no lock.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    indexes: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    dependents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    partitions: Mapping[str, str] = field(default_factory=dict)
    proven: Mapping[str, frozenset[str]] = field(default_factory=dict)
    objects: frozenset[tuple[str, str]] = frozenset()
    object_changes: tuple[ObjectChange, ...] = ()


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


def problems(script: Script) -> tuple[MigrationFileError, ...]:
    """Return what is wrong with the `-- migrator: allow` of a script, by place."""
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
            message = f"allow {hazard} stands above no statement"
            hint = "move it directly above the statement that it is about"
        else:
            continue
        location = locate(script.source, allowance.offset, script.path)
        found.append(MigrationFileError(message, location=location, hint=hint))
    return tuple(found)


def enum_value_used(statement: Statement, message: str) -> Finding:
    """Make a finding of the server's error 55P04; `message` is the server's."""
    return Finding(hazards()["enum-value-used-early"], statement, None, message)


def data_lost(what: str) -> Finding:
    """Make a finding of a recreated identity.

    Args:
        what: What has its name again, such as `column public.users.phone`.
    """
    message = f"the down restores the shape of {what}, and its data are lost"
    return Finding(hazards()["down-loses-data"], None, None, message, Severity.INFORMATION)
