"""Decide how to resume a statement outside a transaction after an interruption.

PostgreSQL runs such a statement in several transactions of its own.  It can stop between them, and
it can finish after the client has gone, so that nothing records it.  The catalog before and after
the statement shows how far it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..events import Objects
from ..sql import splitter
from ..sql.script import Statement


@dataclass(frozen=True, slots=True)
class Recovery:
    """What to do before the statement is sent again, and whether it is to be sent.

    Attributes:
        drop: Indexes to drop, by OID: an earlier attempt left them invalid.
        finalize: Partitions whose DETACH is to be finished, by OID.
        is_done: The statement has finished; it must not run a second time.
    """

    drop: frozenset[int] = frozenset()
    finalize: frozenset[int] = frozenset()
    is_done: bool = False


def recover(
    statement: Statement,
    before: Objects,
    now: Objects,
    *,
    unsure: bool,
    own: frozenset[int] | None = None,
) -> Recovery:
    """Compare the catalog from before the statement's first attempt with the present one.

    Args:
        unsure: It is unknown how the last attempt ended: it may have finished.
        own: The indexes that the statement can have created, by their names; None if any can
            be.  Other sessions may have created some as well.
    """
    created = now.valid_indexes - before.valid_indexes - before.invalid_indexes
    everything = now.valid_indexes | now.invalid_indexes
    dropped = (before.valid_indexes | before.invalid_indexes) - everything
    left = now.invalid_indexes - before.invalid_indexes - now.being_built
    if own is not None:
        created, left = created & own, left & own
    match statement.words:
        case ("create", *_):
            return Recovery(drop=left, is_done=unsure and bool(created) and not left)
        case ("drop", *_):
            return Recovery(is_done=unsure and bool(dropped))
        case ("reindex", *_):
            # What was valid before and is not now is the old index, already replaced.
            return Recovery(drop=left)
        case words if "detach" in words:
            pending = now.detaching - before.detaching
            detached = before.partitions - now.partitions
            return Recovery(finalize=pending, is_done=bool(pending) or (unsure and bool(detached)))
    return Recovery()


@dataclass(frozen=True, slots=True)
class Begun:
    """The state before a statement that runs outside a transaction; it is stored in the log.

    Attributes:
        unit: The index of the statement's unit in the script.
        statement: Its text; None if the catalog cannot show how far such a statement came.
        relations: The OIDs of the relations that it names; None for the whole database.
        objects: Those of their objects that the statement can leave half-made.
    """

    unit: int
    statement: str | None = None
    relations: frozenset[int] | None = frozenset()
    objects: Objects = field(default_factory=Objects)

    def parsed(self) -> Statement | None:
        """Return the statement as it was then."""
        return next(splitter.split(self.statement), None) if self.statement else None

    def dump(self) -> str:
        """Return it as JSON.

        >>> noted = Begun(2, "vacuum", frozenset([7]))
        >>> Begun.load(json.loads(noted.dump())) == noted
        True
        """
        relations = None if self.relations is None else sorted(self.relations)
        objects = {name: sorted(oids) for name, oids in asdict(self.objects).items()}
        document = {"unit": self.unit, "statement": self.statement}
        return json.dumps({**document, "relations": relations, "objects": objects})

    @classmethod
    def load(cls, document: Mapping[str, Any] | None) -> Begun | None:
        """Read what `dump` wrote; None if there is nothing to read."""
        if document is None:
            return None
        relations, objects = document["relations"], document["objects"]
        return cls(
            document["unit"],
            document["statement"],
            None if relations is None else frozenset(relations),
            Objects(**{name: frozenset(oids) for name, oids in objects.items()}),
        )
