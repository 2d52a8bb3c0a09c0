"""Databases that many tests start from: created once, and copied for each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Database, Migrate, Postgres, call


@contextmanager
def prepared(postgres: Postgres, files: Mapping[str, str], rows: str = "") -> Iterator[Database]:
    """Create a database with some migrations applied, and rows that no migration made."""
    with tempfile.TemporaryDirectory() as folder, postgres.database() as database:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        assert Migrate(call, database, Path(folder))("up").exit_code == 0
        if rows:
            database.execute(rows)
        yield database


def fixtures(files: Mapping[str, str], rows: str = "") -> tuple[Any, Any]:
    """Return the fixtures `start`, created once for a module, and `database`, a copy of it."""

    @pytest.fixture(scope="module")
    def start(postgres: Postgres) -> Iterator[Database]:
        with prepared(postgres, files, rows) as database:
            yield database

    @pytest.fixture
    def database(postgres: Postgres, start: Database) -> Iterator[Database]:
        with postgres.database(template=start.name) as database:
            yield database

    return start, database
