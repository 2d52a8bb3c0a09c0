"""What a generated history is made of, and the files that it becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from migrator.files.source import read_source


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
        batched: The table that its one statement works through in batches; empty for none.
    """

    statements: tuple[Sql, ...]
    alone: bool = False
    is_block: bool = False
    batched: str = ""

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
        if any(unit.batched for unit in self.units):
            head += "-- migrator: batch-time 8ms\n"
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
    """Migrations in their order, and the repeatable files, each after the one that it needs.

    Attributes:
        squashed: How many of the first versions are applied before a round, and in the round
            replaced by one file; 0 for none.
    """

    versions: tuple[Version, ...]
    repeatables: tuple[Repeatable, ...] = ()
    squashed: int = 0

    @property
    def early(self) -> tuple[Version, ...]:
        """The versions that are applied before a round."""
        return self.versions[: self.squashed]

    @property
    def present(self) -> tuple[Version, ...]:
        """The versions of the directory: the first may be one in place of several."""
        if not self.squashed:
            return self.versions
        one = Version(f"{self.squashed:02}_squash", ())
        return (one, *self.versions[self.squashed :])

    @property
    def batched(self) -> tuple[str, ...]:
        """The tables that are worked through in batches."""
        units = (unit for version in self.versions for unit in version.units)
        return tuple(unit.batched for unit in units if unit.batched)

    def names(self) -> set[str]:
        """Return what is applied in the end."""
        return {each.name for each in self.present} | {each.name for each in self.repeatables}

    def write_early(self, directory: Path) -> None:
        """Write the up files that are applied before a round."""
        for version in self.early:
            (directory / f"{version.name}.up.sql").write_text(version.text)

    def write(self, directory: Path) -> None:
        """Write the up files of a round; no version has a down file."""
        for version in self.present:
            text = version.text or self._squashed_text()
            (directory / f"{version.name}.up.sql").write_text(text)
        for each in self.repeatables:
            text = "".join(map(str, each.statements))
            (directory / f"{each.name}.sql").write_text(text)

    def _squashed_text(self) -> str:
        lines = [f"-- migrator: replaces 01..{self.squashed:02}"]
        for version in self.early:
            source = read_source(PurePath(version.name), version.text.encode())
            lines.append(f"--   {version.name} {source.checksum}")
        return "\n".join([*lines, "select 'nobody runs this';\n"])
