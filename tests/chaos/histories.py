"""What a generated history is made of, and the files that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sql:
    """A statement without its `;`, and the lines of its COPY data; None if it has none."""

    text: str
    data: str | None = None

    def __str__(self) -> str:
        return f"{self.text};\n" + (f"{self.data}\\.\n" if self.data is not None else "")


@dataclass(frozen=True, slots=True)
class Unit:
    """Statements that take effect together.

    Attributes:
        alone: It is one statement that PostgreSQL runs in no transaction.
        is_block: The file writes BEGIN … COMMIT around it.
    """

    statements: tuple[Sql, ...]
    alone: bool = False
    is_block: bool = False

    def __str__(self) -> str:
        body = "".join(map(str, self.statements))
        return f"begin;\n{body}commit;\n" if self.is_block else body


@dataclass(frozen=True, slots=True)
class Version:
    """One migration; a transactional one has one unit."""

    name: str
    units: tuple[Unit, ...]
    transactional: bool = True

    @property
    def text(self) -> str:
        """The up file."""
        head = "" if self.transactional else "-- migrator: no-transaction\n"
        return head + "".join(map(str, self.units))


@dataclass(frozen=True, slots=True)
class History:
    """Migrations in their order."""

    versions: tuple[Version, ...]

    def write(self, directory: Path) -> None:
        """Write the up files; no version has a down file."""
        for version in self.versions:
            (directory / f"{version.name}.up.sql").write_text(version.text)
