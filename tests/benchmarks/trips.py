"""Count the round trips of every candidate, exactly; on unencrypted connections."""

from __future__ import annotations

from ..proxy import counting
from . import candidates
from .measure import Program, ProgramFailedError, run
from .workloads import FLOOR, PSQL, Bench

_SIZE = 100


def count(bench: Bench) -> dict[str, list[int]]:
    """Give the round trips of a hundred small migrations, by command, a number a connection."""
    found: dict[str, list[int]] = {}
    directory = bench.pairs(_SIZE)
    for name, package in bench.packages.items():
        with bench.postgres.database() as database, counting(database.url) as line:
            for arguments in (("up",), ("up",), ("status",), ("verify",), ("down", "--all")):
                words = " ".join((name, *arguments))
                again = ", nothing to do" if f"{name} up" == words and words in found else ""
                program = candidates.migrator(
                    line.url, "--dir", directory, *arguments, package=package
                )
                found[words + again] = _count(program, line.round_trips)
    driver = bench.psql.write_driver(directory, blocks=True)
    whole = bench.psql.write_driver(directory, blocks=False)
    for name in (PSQL, "psql -1", FLOOR):
        with bench.postgres.database() as database, counting(database.url) as line:
            programs = {
                PSQL: bench.psql.file(line.url, driver),
                "psql -1": bench.psql.file(line.url, whole, one_transaction=True),
                FLOOR: candidates.floor("up", line.url, directory),
            }
            found[name] = _count(programs[name], line.round_trips)
    return found | _count_peers(bench)


def _count_peers(bench: Bench) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for peer in bench.peers:
        files = bench.folder / f"{peer.name}-{_SIZE}"
        if not files.exists():
            peer.write(files, _SIZE)
        with bench.postgres.database() as database, counting(database.url, quiet=0) as line:
            for name in (f"{peer.name} up", f"{peer.name} up, nothing to do"):
                found[name] = _count(peer.up(line.url, files), line.round_trips)
    return found


def _count(program: Program, round_trips: list[int]) -> list[int]:
    """Run a program, and give what it added; nothing if it fails."""
    round_trips.clear()
    try:
        run(program)
    except ProgramFailedError:
        return []
    return list(round_trips)
