"""What a generated history is made of, and the files that it becomes."""

from __future__ import annotations

import re
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


_MARK = re.compile(r"values \('(mark_[0-9]+)'\)")


@dataclass(frozen=True, slots=True)
class Version:
    """One migration; a transactional one has one unit.

    Attributes:
        asks: Whether it requires that its marks are not there yet, and ensures that each of them
            is there once.
    """

    name: str
    units: tuple[Unit, ...]
    transactional: bool = True
    asks: bool = False

    @property
    def text(self) -> str:
        """The up file."""
        head = "" if self.transactional else "-- migrator: no-transaction\n"
        body = "".join(map(str, self.units))
        marks = _MARK.findall(body) if self.asks else []
        # An interrupted script is asked again.
        most = 0 if self.transactional else 1
        for mark in marks:
            count = f"select count(*) {{}} from public.marks where what = '{mark}'\n"
            head += f"-- migrator: require {count.format(f'<= {most}')}"
            head += f"-- migrator: ensure {count.format('= 1')}"
        return head + body


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A repeatable file.

    Attributes:
        needs: The name of the one that has to be applied before; None for none.
    """

    name: str
    statements: tuple[Sql, ...]
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Migrations in their order, and the repeatable files, each after the one that it needs."""

    versions: tuple[Version, ...]
    repeatables: tuple[Repeatable, ...] = ()

    def write(self, directory: Path) -> None:
        """Write the up files; no version has a down file."""
        for version in self.versions:
            (directory / f"{version.name}.up.sql").write_text(version.text)
        for each in self.repeatables:
            text = "".join(map(str, each.statements))
            (directory / f"{each.name}.sql").write_text(text)
