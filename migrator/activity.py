"""The nouns of a server at work: its sessions, what they leave half-made, what they say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backend:
    """A session of the server, as a DBA has to know it to act on it.

    Attributes:
        state: As in `pg_stat_activity`, such as `idle in transaction`.
        transaction_age: In seconds; None outside a transaction.
        query: What it runs or ran last, on one line, cut at 200 characters.
    """

    pid: int
    user: str | None
    application: str | None
    host: str | None
    state: str | None
    transaction_age: float | None
    query: str | None

    def __str__(self) -> str:
        who = (("user", self.user), ("application", self.application), ("host", self.host))
        known = [f"{name} {value}" for name, value in who if value]
        age = self.transaction_age
        since = f"{self.state or 'at work'}" + (f" for {age:.0f} s" if age is not None else "")
        return f"pid {self.pid} ({', '.join([*known, since])}): {self.query or 'no query'}"


@dataclass(frozen=True, slots=True)
class Objects:
    """What of a database a statement outside a transaction can leave half-made, by OID.

    Attributes:
        invalid_indexes: Those with `indisvalid = false`.
        being_built: Those of them that a session is building right now.
        partitions: Tables that are attached to another one.
        detaching: Those of them whose concurrent DETACH has stopped halfway.
    """

    valid_indexes: frozenset[int] = frozenset()
    invalid_indexes: frozenset[int] = frozenset()
    being_built: frozenset[int] = frozenset()
    partitions: frozenset[int] = frozenset()
    detaching: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notice:
    """What PostgreSQL says beside its answer.

    Attributes:
        severity: `NOTICE`, `WARNING`, `INFO`, … as the server spells it in English.
    """

    severity: str
    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command of the server has come, as it tells itself.

    Attributes:
        command: Such as `CREATE INDEX CONCURRENTLY`.
        phase: In the server's words, such as `building index: scanning table`.
        done: In units; it begins again with each phase.
        total: In units; 0 if the server does not know it.
        unit: `blocks`, `rows`, `bytes`, or `sessions` that are waited for.
    """

    command: str
    phase: str
    done: int
    total: int
    unit: str

    @property
    def share(self) -> float | None:
        """How much of the phase is done, from 0 to 1; None if nobody knows."""
        return min(self.done / self.total, 1.0) if self.total else None


@dataclass(frozen=True, slots=True)
class Observed:
    """What another session sees of one that is at work.

    Attributes:
        blockers: Who holds what it waits for; none if it does not wait.
        progress: How far its command has come; None if the server does not tell.
    """

    blockers: tuple[Backend, ...] = ()
    progress: Progress | None = None
