"""The checks, and what they find."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked for; `checks.toml` says what is in each field."""

    id: str
    title: str
    meaning: str
    query: str = ""
    action: str = ""
    gap: str = "null"
    since: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, or only notes.

    Attributes:
        id: That of the check.
        message: What was found, by name.
        meaning: What it does to a migration.
        action: What to type, or to do.
    """

    id: str
    title: str
    message: str
    meaning: str
    action: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not be made, or not completely.

    Attributes:
        reason: Why, or what of it is missing.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of the checks, in their order.

    Attributes:
        notes: What needs no action, such as a limit that a migration replaces.
    """

    findings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()

    def __add__(self, other: Diagnosis) -> Diagnosis:
        """Return both answers."""
        return Diagnosis(
            self.findings + other.findings,
            self.notes + other.notes,
            self.unchecked + other.unchecked,
        )


@cache
def checks() -> tuple[Check, ...]:
    """Return the checks, in the order of `checks.toml`."""
    text = resources.files(__package__).joinpath("checks.toml").read_text(encoding="utf-8")
    return tuple(Check(name, **fields) for name, fields in tomllib.loads(text).items())
