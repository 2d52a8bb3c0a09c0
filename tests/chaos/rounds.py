"""Play one round: a run that is struck, a look at the database, a run that is not, a look."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from tests.conftest import PROJECT, Database, Postgres
from tests.proxy import striking

from . import backfills, checks, faults, generator, points, runs, snapshots, triggers
from .faults import Fault
from .histories import History
from .points import Point
from .runs import Run
from .snapshots import Expected, State
from .triggers import Trigger

PER_HISTORY = 20
"""So many seeds share a history."""

_AIMED = 0.5  # of the rounds, at the moments between a claim, its work, its record and its commit
_LONGEST = 120.0  # seconds of a run that is struck; on a busy machine some take more than 30
_LONGEST_CLEAN = 60.0  # seconds of a run that is not: it may wait for what the first one left
_TABLES = ("t_1", "t_2", "marks")  # of the first version: there from early on
_DEADLY = {
    Fault.TERM: {-15},
    Fault.INT: {-2},
    Fault.FREEZE_TERM: {-15},
    Fault.KILL: {-9},
    Fault.ORPHAN: {-9},
    Fault.FREEZE_KILL: {-9},
    Fault.RUNNERS_KILL: {-9},
}
# What was cancelled or interrupted has said what became of it; it is not to change afterwards.
_SETTLED = {Fault.TERM, Fault.INT, Fault.FREEZE_TERM, Fault.CANCEL}


@dataclass(frozen=True, slots=True)
class Course:
    """A history, and what a run of it does without a fault."""

    seed: int
    history: History
    expected: Expected
    statements: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class Result:
    """What became of a round; `violations` is empty if all is well."""

    seed: int
    fault: Fault
    trigger: str
    point: Point | None = None
    code: int | None = None
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ring:
    """Where rounds are played: a server, and the package that is tried."""

    postgres: Postgres
    package: Path = PROJECT

    def learn(self, seed: int) -> Course:
        """Find out what the history of a seed makes, and how long the program takes for it."""
        history = generator.generate(seed)
        with runs.database(self.postgres) as database, database.connect() as conn:
            expected = snapshots.expect(conn, history)
        with self._stage(history) as (database, directory):
            with (
                striking(database.url) as proxy,
                runs.running(self.package, directory, proxy.url) as process,
            ):
                run = runs.wait(process, _LONGEST, _now())
            with database.connect() as conn:
                found = list(checks.explained(history, expected, snapshots.take(conn)))
        assert run.code == 0, f"history {seed} fails without a fault:\n{run.stderr}"
        assert not found, f"history {seed} goes wrong without a fault: {found}"
        return Course(seed, history, expected, tuple(proxy.statements), run.seconds)

    def play(self, course: Course, seed: int) -> Result:
        """Play the round of a seed."""
        random = Random(seed)
        if random.random() < _AIMED:
            fault = random.choice(faults.AIMED)
            trigger = triggers.aim(random, course.statements)
        else:
            fault = random.choices(list(faults.WEIGHTS), list(faults.WEIGHTS.values()))[0]
            trigger = triggers.choose(random, course.statements, course.seconds)
        result = Result(seed, fault, str(trigger))
        started = _now()
        with self._stage(course.history) as (database, directory):
            _Round(self, course, random, result, database, directory).play(trigger)
        result.seconds = _now() - started
        return result

    @contextmanager
    def _stage(self, history: History) -> Iterator[tuple[Database, Path]]:
        directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        try:
            history.write(directory)
            with runs.database(self.postgres) as database:
                self._prepare(history, database)
                yield database, directory
        finally:
            shutil.rmtree(directory)

    def _prepare(self, history: History, database: Database) -> None:
        """Apply the versions that a squashed file is to take the place of."""
        if history.early:
            with tempfile.TemporaryDirectory(prefix="chaos-") as name:
                history.write_early(Path(name))
                with runs.running(self.package, Path(name), database.url) as process:
                    run = runs.wait(process, _LONGEST, _now())
            assert run.code == 0, run.stderr


@dataclass(slots=True)
class _Round:
    ring: Ring
    course: Course
    random: Random
    result: Result
    database: Database
    directory: Path
    # Held while a fault is brought about; after `is_over` none is any more.
    acting: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False
    lingering: list[threading.Thread] = field(default_factory=list)
    is_early: bool = False  # the fault struck before the program had connected

    @property
    def early(self) -> set[str]:
        """What is applied before the round, and what takes its place without being run."""
        history = self.course.history
        early = history.early
        return {version.name for version in (*early, *history.present[: len(early[:1])])}

    def play(self, trigger: Trigger) -> None:
        struck = self._struck(trigger)
        fault = self.result.fault
        with self.database.connect() as conn:
            if fault in _SETTLED or (fault is not Fault.ORPHAN and self.random.random() < 0.5):
                for who in checks.wait_for_sessions(conn):
                    self._violated(f"the run is over, and a session is not: {who}")
            state, inexplicable = checks.explained_soon(
                conn, self.course.history, self.course.expected
            )
        for violation in inexplicable:
            self._violated(f"after the fault: {violation}")
        for run in struck:
            self._judge(run, state, alone=len(struck) == 1)
        self._clean(state)
        for thread in self.lingering:
            thread.join()

    def _struck(self, trigger: Trigger) -> list[Run]:
        """Run the program, or two of them, and strike it; the first run is the struck one."""
        ended, started = threading.Event(), _now()
        with (
            self._writers(),
            striking(self.database.url) as proxy,
            self._running(proxy.url, *runs.options(self.random)) as process,
        ):
            others: list[Run] = []
            second = partial(self._other, others)
            scene = faults.Scene(self.database, proxy, process, self.random, _TABLES, second)
            if self.result.fault is Fault.RUNNERS_KILL:
                scene.later(second)
            act = partial(self._act, scene, is_settled=trigger.is_settled)
            thread = triggers.arm(trigger, proxy, self.database.url, ended, act)
            struck = runs.wait(process, _LONGEST, started)
            stopping = _now() - (scene.signalled_at or _now())
            ended.set()
            if thread:
                thread.join()
            with self.acting:  # a restart may end the run before it is done itself
                self.is_over = True
            scene.join()
            self.lingering = scene.lingering
        if stopping > faults.GRACE:
            self._violated(f"it took {stopping:.1f} s to stop")
        return [struck, *others]

    def _act(self, scene: faults.Scene, *, is_settled: bool) -> None:
        with self.acting:
            if not self.is_over:
                if is_settled:
                    faults.settle(scene)
                self.is_early = not scene.proxy.links
                ended = scene.process.poll() is not None
                where = points.guide(self.course.history)
                self.result.point = where.locate(scene.proxy, ended=ended)
                faults.strike(self.result.fault, scene)

    def _other(self, others: list[Run]) -> None:
        time.sleep(self.random.uniform(0, 0.2))
        with self._running(self.database.url) as process:
            others.append(runs.wait(process, _LONGEST, _now()))

    def _writers(self) -> AbstractContextManager[None]:
        return backfills.writers(self.database.url, self.course.history.batched, self.random)

    def _running(self, url: str, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
        return runs.running(self.ring.package, self.directory, url, *options)

    def _judge(self, run: Run, state: State, *, alone: bool) -> None:
        allowed = {0} | faults.CODES[self.result.fault]
        if self.result.point in (None, Point.AFTER):
            allowed = {0}
        if self.result.point in (Point.BEFORE, Point.AFTER) or run.stdout:
            # Python listens from some time after its start until some time before its end, and
            # its connection is closed before it has ended.
            allowed |= _DEADLY.get(self.result.fault, set())
        is_alone = "stopped at this statement" in run.stdout + run.stderr
        if self.result.fault is Fault.TAKE_LOCK and is_alone:
            # A statement by itself has no claim that keeps a second runner away.
            allowed |= {1}
        if run.code not in allowed:
            self._violated(f"exit code {run.code}, not {' or '.join(map(str, sorted(allowed)))}")
        # Until the program listens, Python writes its own traceback at a Ctrl-C.
        if not (self.is_early and run.code < 0):
            for violation in checks.truthful(run, state, self.early, alone=alone):
                self._violated(f"the struck run: {violation}")
        self.result.code = run.code if self.result.code is None else self.result.code
        self.result.evidence.append(f"struck: {run}")

    def _clean(self, before: State) -> None:
        with self._writers(), self._running(self.database.url) as process:
            run = runs.wait(process, _LONGEST_CLEAN, _now())
        self.result.evidence += [f"between: {before.records}", f"clean: {run}"]
        if run.code != 0:
            self._violated(f"the clean run: exit code {run.code}")
        with self.database.connect() as conn:
            for violation in checks.tidy(conn):
                self._violated(f"at the end: {violation}")
            state = snapshots.take(conn)
        for violation in checks.explained(self.course.history, self.course.expected, state):
            self._violated(f"at the end: {violation}")
        if state.applied != self.course.history.names():
            self._violated("at the end: not all is applied")
        for violation in checks.truthful(run, state, before.applied | self.early, alone=False):
            self._violated(f"the clean run: {violation}")

    def _violated(self, what: str) -> None:
        self.result.violations.append(what)


def _now() -> float:
    return time.monotonic()
