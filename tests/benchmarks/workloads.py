"""The workloads of `make bench`, each with what is to be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .. import proxy
from ..conftest import Database, Postgres
from . import backfills, candidates, corpus, splitting, tracing
from .candidates import Peer, Psql
from .contest import Contest, Entrant, Measure, Target
from .measure import Program, run

_MEGABYTE = corpus.MEGABYTE
ONE_WAY = 0.005  # seconds: a round trip of 10 ms
FAR = f"{ONE_WAY * 2000:.0f} ms away"
OURS, PSQL, FLOOR = "migrator", "psql", "floor"

Run = Callable[[str], Program]
"""Give the program to run on a database's URL."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the workloads work with.

    Attributes:
        size: How many migrations are a thousand in the names of issue C.
        megabytes: How many are its 50 MB.
        packages: Our candidates by name, each with the directory that holds its package.
    """

    postgres: Postgres
    folder: Path
    psql: Psql
    peers: tuple[Peer, ...]
    packages: dict[str, Path]
    size: int
    megabytes: int

    def pairs(self, size: int) -> Path:
        """Give a directory of so many pairs of files; made once."""
        directory = self.folder / f"pairs-{size}"
        return directory if directory.exists() else corpus.write_pairs(directory, size)

    def ours(self, make: Callable[[Path], Entrant]) -> dict[str, Entrant]:
        """Give an entrant for each package of ours."""
        return {name: make(package) for name, package in self.packages.items()}

    def targets(self, *targets: Target) -> tuple[Target, ...]:
        """Give the targets for each package of ours."""
        return tuple(
            Target(name, t.reference, t.bound, t.measure, t.size)
            for t in targets
            for name in ([t.candidate] if t.candidate != OURS else self.packages)
        )


@contextmanager
def _near(database: Database) -> Iterator[str]:
    yield database.url


@contextmanager
def _far(database: Database) -> Iterator[str]:
    with proxy.delaying(database.url, ONE_WAY) as line:
        yield line.url


Place = Callable[[Database], AbstractContextManager[str]]


def _fresh(bench: Bench, place: Place, program: Run, *before: Run) -> Entrant:
    """Run a program on a database of its own, after what is run there before."""

    @contextmanager
    def entrant() -> Iterator[Program]:
        with bench.postgres.database() as database:
            for each in before:
                run(each(database.url))
            with place(database) as url:
                yield program(url)

    return entrant


def _settled(database: Database, place: Place, program: Run) -> Entrant:
    """Run a program on a database that is there."""

    @contextmanager
    def entrant() -> Iterator[Program]:
        with place(database) as url:
            yield program(url)

    return entrant


def _alone(program: Program) -> Entrant:
    """Run a program that needs no database."""
    return lambda: nullcontext(program)


def _up(directory: Path, package: Path) -> Run:
    return lambda url: candidates.migrator(url, "--dir", directory, "up", package=package)


def _peer_up(peer: Peer, directory: Path, url: str) -> Program:
    return peer.up(url, directory)


def _floor_up(directory: Path) -> Run:
    return lambda url: candidates.floor("up", url, directory)


def apply(bench: Bench, place: Place, size: int, *targets: Target) -> dict[str, Entrant]:
    """Give the entrants that apply small migrations on a fresh database."""
    directory = bench.pairs(size)
    blocks = bench.psql.write_driver(directory, blocks=True)
    whole = bench.psql.write_driver(directory, blocks=False)
    fresh = partial(_fresh, bench, place)
    others = {
        PSQL: fresh(lambda url: bench.psql.file(url, blocks)),
        "psql -1": fresh(lambda url: bench.psql.file(url, whole, one_transaction=True)),
        FLOOR: fresh(_floor_up(directory)),
    }
    for peer in bench.peers:
        files = bench.folder / f"{peer.name}-{size}"
        if not files.exists():
            peer.write(files, size)
        others[peer.name] = fresh(partial(_peer_up, peer, files))
    return bench.ours(lambda package: fresh(_up(directory, package))) | others


def local(bench: Bench) -> Iterator[Contest]:
    """Many small migrations, and taking them back, without a network."""
    entrants = apply(bench, _near, bench.size)
    entrants.pop("yoyo", None)
    targets = bench.targets(Target(OURS, PSQL, 0.8), Target(OURS, "dbmate", 1.0))
    yield Contest(f"{bench.size} small migrations, local", entrants, targets)


def far(bench: Bench) -> Iterator[Contest]:
    """Fewer of them, far away."""
    size = max(bench.size // 10, 1)
    targets = bench.targets(Target(OURS, "dbmate", 0.2), Target(OURS, "psql -1", 0.5))
    yield Contest(f"{size} small migrations, {FAR}", apply(bench, _far, size), targets)


def down(bench: Bench) -> Iterator[Contest]:
    """Take many small migrations back."""
    directory = bench.pairs(bench.size)
    up_driver = bench.psql.write_driver(directory, blocks=True)
    down_driver = bench.psql.write_down_driver(directory)

    def ours(package: Path) -> Entrant:
        def program(url: str) -> Program:
            options = ("--dir", directory, "down", "--all", "--yes")
            return candidates.migrator(url, *options, package=package)

        return _fresh(bench, _near, program, _up(directory, package))

    psql = _fresh(
        bench,
        _near,
        lambda url: bench.psql.file(url, down_driver),
        lambda url: bench.psql.file(url, up_driver),
    )
    targets = bench.targets(Target(OURS, PSQL, 1.0))
    yield Contest(f"down of {bench.size}, local", {**bench.ours(ours), PSQL: psql}, targets)


@contextmanager
def _recorded(bench: Bench, directory: Path) -> Iterator[Database]:
    """Give a database that says of every migration of a directory that it is applied."""
    newest = max(path.name for path in directory.iterdir()).partition(".")[0]
    with bench.postgres.database() as database:
        database.execute("create table thing ()")  # an empty database has nothing of them
        run(
            candidates.migrator(database.url, "--dir", directory, "baseline", "--unchecked", newest)
        )
        yield database


def _look(
    bench: Bench, command: str, size: int, line: tuple[Database, Place]
) -> dict[str, Entrant]:
    """Give the entrants that compare files and history, and find nothing to do."""
    directory, settled = bench.pairs(size), partial(_settled, *line)

    def ours(package: Path) -> Entrant:
        def program(url: str) -> Program:
            return candidates.migrator(url, "--dir", directory, command, package=package)

        return settled(program)

    return {
        **bench.ours(ours),
        FLOOR: settled(lambda url: candidates.floor("check", url, directory)),
    }


def nothing(bench: Bench) -> Iterator[Contest]:
    """Find that nothing is to be done, near and far."""
    targets = bench.targets(Target(OURS, FLOOR, 1.15))
    with _recorded(bench, bench.pairs(bench.size)) as database:
        for words, place in (("local", _near), (FAR, _far)):
            entrants = _look(bench, "up", bench.size, (database, place))
            yield Contest(f"nothing to do, {bench.size} applied, {words}", entrants, targets)


def many(bench: Bench) -> Iterator[Contest]:
    """Look at many files, and at half as many: it has to be linear."""
    targets = bench.targets(Target(OURS, FLOOR, 1.5))
    for size in (bench.size * 5 // 2, bench.size * 5):
        with _recorded(bench, bench.pairs(size)) as database:
            for command in ("status", "verify"):
                entrants = _look(bench, command, size, (database, _near))
                yield Contest(f"{command}, {size} files", entrants, targets)


def offline(bench: Bench) -> Iterator[Contest]:
    """Start, and do without a database."""
    directory = bench.pairs(100)
    bare = candidates.python("-c", "import click")
    targets = bench.targets(Target(OURS, "click", 2.5))
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("--help",),
        ("--dir", directory, "create", "more"),
        ("--dir", directory, "verify", "--offline"),
    )
    for command in commands:

        def ours(package: Path, command: tuple[str | Path, ...] = command) -> Entrant:
            return partial(_without_new_files, directory, package, command)

        name = " ".join(str(word) for word in command if word not in ("--dir", directory))
        entrants: dict[str, Entrant] = {"click": _alone(bare)}
        yield Contest(name, bench.ours(ours) | entrants, targets)


@contextmanager
def _without_new_files(
    directory: Path, package: Path, command: tuple[str | Path, ...]
) -> Iterator[Program]:
    before = set(directory.iterdir())
    yield candidates.migrator("", *command, package=package)
    for path in set(directory.iterdir()) - before:
        path.unlink()


def seeds(bench: Bench) -> Iterator[Contest]:
    """Load much data from one file; COPY from one of half the size, too."""
    size = bench.megabytes * _MEGABYTE
    for kind, bound in (("INSERT statements", 0.5), ("one INSERT", 1.1), ("COPY data", 1.1)):
        entrants = _seed(bench, kind, size)
        peak = Target(OURS, None, 5.0, Measure.PEAK, size)
        targets = bench.targets(Target(OURS, PSQL, bound), peak)
        half = {}
        if kind == "COPY data":
            smaller = _seed(bench, kind, size // 2)
            half = {f"{name}, half": smaller[name] for name in bench.packages}
            targets += tuple(
                Target(name, f"{name}, half", 1.2, Measure.PEAK) for name in bench.packages
            )
        yield Contest(f"{bench.megabytes} MB of {kind}", entrants | half, targets)


def _seed(bench: Bench, kind: str, size: int) -> dict[str, Entrant]:
    directory = bench.folder / f"{kind}-{size}".replace(" ", "-")
    path = directory / "1_seed.up.sql"
    if not path.exists():
        corpus.write_seed(path, kind, size)
    fresh = partial(_fresh, bench, _near)
    psql = fresh(lambda url: bench.psql.file(url, path, one_transaction=True))
    return {**bench.ours(lambda package: fresh(_up(directory, package))), PSQL: psql}


def splitter(bench: Bench) -> Iterator[Contest]:
    """Split SQL of several kinds, and ten times as much; then hostile texts, and half of each."""
    sizes = (bench.megabytes // 5 or 1, bench.megabytes * 2)
    for kind in splitting.SQL:
        for megabytes in sizes:
            size = megabytes * _MEGABYTE
            bound = 4.0 if kind == "DDL" else 8.0
            targets = bench.targets(Target(OURS, None, bound, Measure.SPEED, size))
            entrants = bench.ours(partial(_split, kind, size))
            yield Contest(f"splitter, {megabytes} MB of {kind}", entrants, targets)
    for kind in splitting.HOSTILE:
        entrants = bench.ours(partial(_split, kind, _MEGABYTE))
        half = {
            f"{name}, half": _split(kind, _MEGABYTE // 2, package)
            for name, package in bench.packages.items()
        }
        linear = tuple(Target(name, f"{name}, half", 2.5) for name in bench.packages)
        yield Contest(f"splitter, 1 MB of {kind}", entrants | half, linear)


def _split(kind: str, size: int, package: Path) -> Entrant:
    module = "tests.benchmarks.splitting"
    path = f"{package}:{candidates.PROJECT}"
    program = candidates.python("-m", module, kind, str(size), environ={"PYTHONPATH": path})
    return _alone(replace(program, measures=float))


def rehearse(bench: Bench) -> Iterator[Contest]:
    """Rehearse few small migrations on a large schema; the same without a rehearsal is a run."""
    size, tables = max(bench.size // 10, 1), bench.size * 5
    directory = bench.pairs(size)

    def program(command: str, url: str) -> Program:
        module = ("-m", "tests.benchmarks.rehearsing", command, url, directory)
        environ = {"PYTHONPATH": str(candidates.PROJECT)}
        return replace(candidates.python(*module, environ=environ), measures=float)

    with bench.postgres.database() as database:
        tracing.fill(database, tables)
        entrants = {
            command: _settled(database, _near, partial(program, command))
            for command in ("rehearse", "run")
        }
        targets = (Target("rehearse", "run", 3),)
        name = f"up, down, up of {size} small migrations, {tables} tables"
        yield Contest(name, entrants, targets)


ALL: dict[str, Callable[[Bench], Iterator[Contest]]] = {
    "offline": offline,
    "nothing": nothing,
    "many": many,
    "far": far,
    "local": local,
    "down": down,
    "seeds": seeds,
    "splitter": splitter,
    "rehearse": rehearse,
    "backfill": backfills.contests,
}
"""Every workload, by the name that `only=` takes."""
