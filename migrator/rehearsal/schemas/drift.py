"""Compare the target with a scratch database, except for what the user ignores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ...errors import counted
from ...postgres import connection
from ...postgres.cursor import Connection
from ...session import Session
from . import grants, pair, partitions, schema
from .ignore import Pattern
from .pair import Pair
from .schema import ROLE_KINDS, Difference, Schema, SchemaObject

READ_LOCK_TIMEOUT = 2000  # milliseconds that a read of the target waits for a lock


@dataclass(frozen=True, slots=True)
class Drift:
    """How the target differs from a scratch database.

    Attributes:
        differences: Before is the scratch database, after is the target.
        notes: What differs but is not drift, and patterns that match nothing, one sentence each.
    """

    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Target:
    found: Schema
    partitions: partitions.Partitions
    defaults: grants.Defaults


def find(
    work: Session, scratch: Connection, patterns: Iterable[Pattern], *, has_roles: bool
) -> Drift:
    """Return how the target differs from a scratch database, which is the same afterwards.

    Args:
        patterns: What to leave out.
        has_roles: Whether the scratch database has the roles of the target, so that owners and
            grants are compared.

    Raises:
        MigratorError: One of the databases cannot be read.
    """
    target = _read(work)
    with connection.reported(), _scratch(work, scratch, target) as (expected, made):
        return _compare(target, expected, made, tuple(patterns), () if has_roles else ROLE_KINDS)


def find_and_write(
    work: Session, scratch: Connection, patterns: Iterable[Pattern], *, has_roles: bool
) -> tuple[Drift, Pair | None]:
    """Return what `find` does, and the scripts that bring it into the history; None for no drift.

    Raises:
        MigratorError: As `find`.
    """
    target = _read(work)
    patterns = tuple(patterns)
    leave_out = () if has_roles else ROLE_KINDS
    with connection.reported(), _scratch(work, scratch, target) as (expected, made):
        found = _compare(target, expected, made, patterns, leave_out)
        if not found.differences:
            return found, None

        def compare(now: Schema) -> tuple[Difference, ...]:
            return _compare(target, now, made, patterns, leave_out).differences

        return found, pair.write(scratch, work.history.schema, compare, target.found)


@contextmanager
def _scratch(
    work: Session, scratch: Connection, target: _Target
) -> Iterator[tuple[Schema, tuple[partitions.Partition, ...]]]:
    """Read the scratch database, with the partitions that the target was given at run time."""
    expected = schema.read(scratch, work.history.schema)
    with partitions.made(scratch, target.partitions, expected) as made:
        yield schema.read(scratch, work.history.schema) if made else expected, made


def read_only(work: Session) -> None:
    """Make the transaction of the target read-only, with a limit for locks."""
    work.conn.execute("set transaction read only, not deferrable")
    work.conn.execute(f"set local lock_timeout = {READ_LOCK_TIMEOUT}".encode())


def _read(work: Session) -> _Target:
    with connection.reported(), work.conn.transaction():
        read_only(work)
        found = schema.read(work.conn, work.history.schema)
        return _Target(found, partitions.read(work.conn), grants.read(work.conn))


def _compare(
    target: _Target,
    expected: Schema,
    made: Collection[partitions.Partition],
    patterns: Collection[Pattern],
    leave_out: Collection[str],
) -> Drift:
    objects = {each.label: each for each in (*expected, *target.found)}
    differences = schema.compare(
        *partitions.in_manner_of_parents(made, expected, target.found), leave_out=leave_out
    )
    differences, ignored = _split(differences, patterns, objects)
    differences, explained = grants.split(differences, target.defaults, objects)
    notes = [*partitions.notes(made), *grants.notes(explained)]
    notes += _about_patterns(ignored, _unmatched(patterns, ignored, objects))
    return Drift(differences, tuple(notes))


def _about_patterns(ignored: Collection[Difference], unmatched: Iterable[Pattern]) -> Iterator[str]:
    if ignored:
        yield f"{counted(len(ignored), 'difference')} ignored"
    for each in unmatched:
        yield f"--ignore matches nothing: {each.text}"


def _split(
    differences: Iterable[Difference],
    patterns: Iterable[Pattern],
    objects: Mapping[str, SchemaObject],
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Return the differences that are kept, and those that the patterns leave out.

    Args:
        objects: Those of both schemas, by label.
    """
    patterns = tuple(patterns)
    kept: list[Difference] = []
    left_out: list[Difference] = []
    for each in differences:
        chain = _chain(each, objects)
        is_left_out = any(pattern.matches(chain) for pattern in patterns)
        (left_out if is_left_out else kept).append(each)
    return tuple(kept), tuple(left_out)


def _unmatched(
    patterns: Iterable[Pattern],
    left_out: Iterable[Difference],
    objects: Mapping[str, SchemaObject],
) -> tuple[Pattern, ...]:
    """Return the patterns that match nothing.

    Args:
        left_out: As `_split` returned them.
        objects: As in `_split`.
    """
    every: list[Difference | SchemaObject] = [*left_out, *objects.values()]
    return tuple(
        pattern
        for pattern in patterns
        if not any(pattern.matches(_chain(each, objects)) for each in every)
    )


def _chain(
    each: Difference | SchemaObject, objects: Mapping[str, SchemaObject]
) -> list[tuple[str, str]]:
    """Return the object and all that it belongs to, by kind and name."""
    found: dict[str, Difference | SchemaObject] = {each.label: each}
    queue: list[Difference | SchemaObject] = [each]
    while queue:
        part = queue.pop()
        for label in part.parents:
            parent = objects.get(label)
            # An inherited column and the index of a partition are parts of their own tables.
            if parent and parent.kind != part.kind and label not in found:
                found[label] = parent
                queue.append(parent)
    return [(known.kind, known.name) for known in found.values()]
