"""The catalogue of what endangers production, and what a file's comments accept of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import MigrationFileError
from ..sql.location import locate
from ..sql.script import Script, Statement
from ..tracing.trace import ObjectChange


@dataclass(frozen=True, slots=True)
class Hazard:
    """A kind of danger; its sentences are those of the README.

    Attributes:
        id: Stable, for `-- migrator: allow ID reason`.
        condition: When it is reported.
        effect: What it does to production.
        workaround: The safe way.
        is_weighed: Whether a small table makes it information: it costs time, and nothing else.
    """

    id: str
    name: str
    condition: str
    effect: str
    workaround: str
    is_weighed: bool = False


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


_CATALOGUE = (
    Hazard(
        "table-rewrite",
        "Table rewrite",
        "A statement writes a table or materialized view that was there into a new file.",
        "ACCESS EXCLUSIVE is held until every row and every index is written anew: nobody reads "
        "or writes the table, and it needs its own size again on disk.",
        "Add a column of the form you want, fill it in batches, then switch. For a volatile "
        "default: add the column without it, set the default, fill in batches. For a "
        "materialized view: REFRESH MATERIALIZED VIEW CONCURRENTLY.",
        is_weighed=True,
    ),
    Hazard(
        "blocking-scan",
        "Full scan under a blocking lock",
        "A statement reads the whole of a table that was there, under a lock of its own that "
        "blocks reads or writes.",
        "The table is blocked for as long as the reading takes.",
        "Let a CHECK constraint prove what the scan looks for: add it NOT VALID, validate it in "
        "the next migration, then run the statement. Before ATTACH PARTITION the check repeats "
        "the bounds of the partition, and IS NOT NULL of its key.",
        is_weighed=True,
    ),
    Hazard(
        "index-built-blocking",
        "Index built without CONCURRENTLY",
        "CREATE INDEX or REINDEX builds an index of a table that was there under a lock that "
        "blocks writes.",
        "INSERT, UPDATE and DELETE wait until the index is built; REINDEX makes those readers "
        "wait, too, who could use the index.",
        "CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY, in a migration of its own. On a "
        "partitioned table: create it ON ONLY the parent, concurrently on each partition, and "
        "attach these.",
        is_weighed=True,
    ),
    Hazard(
        "constraint-builds-index",
        "Constraint that builds its index",
        "UNIQUE, PRIMARY KEY or EXCLUDE is added to a table that was there, and builds its index.",
        "ACCESS EXCLUSIVE is held until the index is built: nobody reads or writes the table.",
        "CREATE UNIQUE INDEX CONCURRENTLY in a migration of its own, then ALTER TABLE … ADD "
        "CONSTRAINT … UNIQUE (or PRIMARY KEY) USING INDEX; for a primary key, set its columns "
        "NOT NULL before. An exclusion constraint has no such way.",
        is_weighed=True,
    ),
    Hazard(
        "index-dropped-blocking",
        "Index dropped without CONCURRENTLY",
        "DROP INDEX removes an index of a table that was there.",
        "ACCESS EXCLUSIVE on the table: it waits for the longest query on it, and everybody who "
        "comes later waits behind it.",
        "DROP INDEX CONCURRENTLY, in a migration of its own.",
        is_weighed=True,
    ),
    Hazard(
        "foreign-key-added-valid",
        "Foreign key checked while it is added",
        "A foreign key is added to a table that was there without NOT VALID.",
        "Both tables are read while SHARE ROW EXCLUSIVE is held on both: writes to either wait.",
        "ADD CONSTRAINT … FOREIGN KEY … NOT VALID, and VALIDATE CONSTRAINT in the next migration.",
        is_weighed=True,
    ),
    Hazard(
        "check-added-valid",
        "Check constraint checked while it is added",
        "A CHECK constraint is added to a table that was there without NOT VALID.",
        "The whole table is read while ACCESS EXCLUSIVE is held: nobody reads or writes it.",
        "ADD CONSTRAINT … CHECK … NOT VALID, and VALIDATE CONSTRAINT in the next migration.",
        is_weighed=True,
    ),
    Hazard(
        "validated-at-once",
        "Constraint validated in the transaction that added it",
        "VALIDATE CONSTRAINT runs in the same transaction as its ADD CONSTRAINT … NOT VALID.",
        "The lock of the ADD is held while the table is read, so that NOT VALID gained nothing.",
        "Move VALIDATE CONSTRAINT into the next migration.",
        is_weighed=True,
    ),
    Hazard(
        "not-null-unproven",
        "NOT NULL set without proof",
        "A column that was there becomes NOT NULL, and no valid CHECK (column IS NOT NULL) "
        "spares the scan.",
        "The whole table is read while ACCESS EXCLUSIVE is held: nobody reads or writes it.",
        "ADD CONSTRAINT … CHECK (column IS NOT NULL) NOT VALID; VALIDATE CONSTRAINT in the next "
        "migration; then SET NOT NULL, which reads nothing, and DROP CONSTRAINT.",
        is_weighed=True,
    ),
    Hazard(
        "required-column-added",
        "Required column added without a default",
        "A column is added NOT NULL and without a default to a table that was there.",
        "The statement fails (23502) as soon as the table holds one row; applications that do "
        "not know the column cannot insert any more.",
        "Add it with a constant default, which reads and rewrites nothing; or without NOT NULL, "
        "fill it in batches, and prove it by a CHECK constraint.",
    ),
    Hazard(
        "lock-held",
        "Blocking lock held over later statements",
        "A statement takes a lock on a table that was there, which blocks reads or writes, and "
        "further statements run in the same transaction; information where none of these reads "
        "or writes a table that was there, or takes such a lock on another one.",
        "Whoever needs the table waits until the last statement is done and committed, and two "
        "tables locked one after the other can end in a deadlock.",
        "Make it the last statement, or give it a migration of its own.",
        is_weighed=True,
    ),
    Hazard(
        "table-dropped",
        "Table dropped",
        "A table that was there is dropped.",
        "Its rows are lost, and whatever still uses it fails. No down brings the rows back.",
        "Deploy applications that do not use it first; rename it, wait, keep a dump, then drop it.",
    ),
    Hazard(
        "table-truncated",
        "Table emptied",
        "A table that was there is emptied by TRUNCATE, in a function or DO block, too.",
        "Its rows are lost, under ACCESS EXCLUSIVE. No down brings them back.",
        "Keep a dump, or copy the rows into another table first; DELETE in batches blocks nobody.",
    ),
    Hazard(
        "column-dropped",
        "Column dropped",
        "A column of a table that was there is dropped.",
        "Its values are lost, indexes and constraints on it go with it, and applications that "
        "name it fail. No down brings the values back.",
        "Deploy applications that neither read nor write it first, then drop it.",
    ),
    Hazard(
        "constraint-dropped",
        "Constraint dropped",
        "A constraint is dropped and nothing in the file takes its place; information for CHECK "
        "and FOREIGN KEY.",
        "Rows that it forbade come in, and to add it again every row has to be checked. Without "
        "its unique constraint ON CONFLICT fails.",
        "Drop it when nothing relies on it, or add what replaces it in the same file.",
    ),
    Hazard(
        "object-dropped",
        "View, sequence, function, type … dropped",
        "Anything else that was there is dropped and not created again in the file.",
        "Whatever still uses it fails.",
        "Deploy applications that do not use it first, then drop it; change views and functions "
        "by CREATE OR REPLACE.",
    ),
    Hazard(
        "table-renamed",
        "Table renamed",
        "A table that was there gets another name or schema, and nothing takes its old name.",
        "Applications that use the old name fail at once, those with the new name until then.",
        "Create a view with the old name in the same file, and drop it when nobody uses it.",
    ),
    Hazard(
        "column-renamed",
        "Column renamed",
        "A column of a table or view that was there is renamed.",
        "Applications that use the old name fail at once, those with the new name until then.",
        "Add a column with the new name, write both, fill it in batches, and drop the old one "
        "when nobody uses it; or leave the name.",
    ),
    Hazard(
        "object-renamed",
        "View, sequence, function, type … renamed",
        "Anything else that was there, indexes excepted, gets another name or schema.",
        "Whatever uses the old name fails.",
        "Create another one with the new name, and drop the old one when nobody uses it.",
    ),
    Hazard(
        "enum-value-used-early",
        "Enum value used in the transaction that adds it",
        "PostgreSQL refuses a statement with 55P04: the enum value is not committed yet.",
        "The migration fails, and is rolled back.",
        "Add the value in a migration of its own, and use it in the next.",
    ),
    Hazard(
        "foreign-key-without-index",
        "Foreign key without an index",
        "A foreign key is added, and after the pending files no index begins with its columns; "
        "information where one begins with some of them.",
        "Each DELETE, or UPDATE of the key, in the referenced table reads the whole referencing "
        "table while it holds its locks.",
        "Create the index: concurrently beforehand, or in the same file if it creates the table.",
        is_weighed=True,
    ),
    Hazard(
        "outside-transaction",
        "Statement outside a transaction",
        "A statement runs outside a transaction; always information.",
        "What it did stays if it fails. With CONCURRENTLY it reads the table twice, and waits "
        "for every older transaction to end.",
        "Look for long transactions before you begin; the next up clears away what a failure "
        "left, and goes on.",
    ),
    Hazard(
        "down-loses-data",
        "Down that restores the shape and not the data",
        "After up and down a table or column has its name again, and is another one; always "
        "information.",
        "The down succeeds, and what the up dropped is gone.",
        "Say so in the down file: -- migrator: irreversible REASON; or rename in the up, and "
        "drop in a later migration.",
    ),
)

HAZARDS: Mapping[str, Hazard] = {hazard.id: hazard for hazard in _CATALOGUE}


def problems(script: Script) -> tuple[MigrationFileError, ...]:
    """Return what is wrong with the `-- migrator: allow` of a script, by place."""
    found = []
    for allowance in script.options.allowances:
        hazard = allowance.hazard
        if hazard not in HAZARDS:
            message = f'there is no hazard "{hazard}"' if hazard else "allow names no hazard"
            hint = f"the hazards are {', '.join(HAZARDS)}"
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
    return Finding(HAZARDS["enum-value-used-early"], statement, None, message)


def data_lost(what: str) -> Finding:
    """Make a finding of a recreated identity.

    Args:
        what: What has its name again, such as `column public.users.phone`.
    """
    message = f"the down restores the shape of {what}, and its data are lost"
    return Finding(HAZARDS["down-loses-data"], None, None, message, Severity.INFORMATION)
