"""What can go wrong around a run, and how to bring it about."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import psycopg

from migrator.embedded.server import Shutdown, start, stop
from tests.conftest import Database
from tests.proxy import StrikingProxy


class Fault(enum.StrEnum):
    """What strikes a run."""

    KILL = "SIGKILL"
    ORPHAN = "SIGKILL, server held"
    TERM = "SIGTERM"
    INT = "SIGINT"
    TERMINATE = "terminate backend"
    KILL_BACKEND = "SIGKILL to the backend"
    TERMINATE_KEEPER = "terminate keeper"
    TAKE_LOCK = "take the runner's lock"
    CANCEL = "cancel backend"
    CANCEL_KEEPER = "cancel keeper"
    RESTART = "immediate restart"
    CUT = "cut the network"
    CUT_WORKER = "cut one connection"
    FREEZE = "freeze, then thaw"
    FREEZE_KILL = "freeze, then SIGKILL"
    FREEZE_TERM = "freeze, then SIGTERM"
    LOCK = "table locked"
    SNAPSHOT = "snapshot held"
    RUNNERS = "two runners"
    RUNNERS_KILL = "two runners, one killed"


# How a run may end that was struck; that it may be over, and well, holds for all of them.
CODES: dict[Fault, frozenset[int]] = dict.fromkeys(Fault, frozenset[int]()) | {
    Fault.KILL: frozenset([-9]),
    Fault.ORPHAN: frozenset([-9, 5]),
    Fault.TERM: frozenset([143]),
    Fault.INT: frozenset([130]),
    Fault.TERMINATE: frozenset([6]),
    Fault.KILL_BACKEND: frozenset([6]),
    Fault.TERMINATE_KEEPER: frozenset([6]),
    Fault.TAKE_LOCK: frozenset([4, 6]),
    Fault.CANCEL: frozenset([1]),
    Fault.RESTART: frozenset([6]),
    Fault.CUT: frozenset([6]),
    Fault.CUT_WORKER: frozenset([6]),
    Fault.FREEZE_KILL: frozenset([-9]),
    Fault.FREEZE_TERM: frozenset([143]),
    Fault.LOCK: frozenset([5]),
    Fault.RUNNERS_KILL: frozenset([-9]),
}
AIMED = (Fault.TERMINATE, Fault.CUT_WORKER, Fault.TAKE_LOCK)
"""What can strike exactly between two statements: the second of them does not pass meanwhile."""

GRACE = 9.5
"""Seconds in which a run that was told to stop has to be over: a container gives it ten."""

WEIGHTS = dict.fromkeys(Fault, 3.0) | {
    Fault.KILL: 6.0,
    Fault.FREEZE_TERM: 0.6,  # each of them takes its ten seconds of grace
    Fault.LOCK: 2.0,
}


_PATIENCE = 2.0  # seconds
_RECOVERY = 20.0  # seconds in which a server has to recover
_IS_IDLE = "select from pg_stat_activity where pid = %s and wait_event = 'ClientRead'"
_BLOCKS = "select from pg_stat_activity where %s = any (pg_blocking_pids(pid))"


@dataclass(slots=True)
class Scene:
    """What a fault can reach: the run, the wire and the server.

    Attributes:
        lingering: What goes on during the next run.
        second: Runs the program once more, beside the first.
        signalled_at: By the monotonic clock; None while no signal was sent.
    """

    database: Database
    proxy: StrikingProxy
    process: subprocess.Popen[str]
    random: Random
    tables: tuple[str, ...]
    second: Callable[[], None]
    threads: list[threading.Thread] = field(default_factory=list)
    lingering: list[threading.Thread] = field(default_factory=list)
    signalled_at: float | None = None

    def later(self, work: Callable[[], None]) -> None:
        """Do something beside the run; the round waits for its end."""
        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for what `later` began."""
        for thread in self.threads:
            thread.join()


def settle(scene: Scene) -> None:
    """Wait until the server has done all that the migrations' session has sent."""
    if scene.proxy.worker:
        _await(scene, _IS_IDLE, scene.proxy.worker.pid)


def _await(scene: Scene, query: str, pid: int | None) -> None:
    """Wait until a query about a server process is true, for some seconds at the most."""
    deadline = time.monotonic() + _PATIENCE
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(scene.database.postgres.url(), autocommit=True) as conn,
    ):
        while time.monotonic() < deadline:
            if conn.execute(query.encode(), [pid]).fetchone() is not None:
                return
            time.sleep(0.002)


def strike(fault: Fault, scene: Scene) -> None:
    """Bring a fault about, now."""
    _DEEDS[fault](scene)


def _signal(number: int) -> Callable[[Scene], None]:
    def send(scene: Scene) -> None:
        if scene.process.poll() is None:
            scene.signalled_at = time.monotonic()
            scene.process.send_signal(number)

    return send


def _ask(function: str, *, keeper: bool) -> Callable[[Scene], None]:
    def ask(scene: Scene) -> None:
        link = scene.proxy.keeper if keeper else scene.proxy.worker
        if link and link.pid:
            url = scene.database.postgres.url()
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(url, autocommit=True) as conn,
            ):
                conn.execute(f"select {function}(%s)".encode(), [link.pid])

    return ask


def _kill_backend(scene: Scene) -> None:
    """Kill the migrations' server process: the server ends all others, and recovers."""
    link, url = scene.proxy.worker, scene.database.postgres.url()
    if not link or not link.pid:
        return
    with psycopg.connect(url, autocommit=True) as conn, contextlib.suppress(ProcessLookupError):
        os.kill(link.pid, signal.SIGKILL)
        with contextlib.suppress(psycopg.OperationalError):
            conn.execute("select pg_sleep(5)")
    deadline = time.monotonic() + _RECOVERY
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
            return
        time.sleep(0.02)


def _restart(scene: Scene) -> None:
    server = scene.database.postgres.server
    stop(server, Shutdown.IMMEDIATE)
    start(server)


def _cut(scene: Scene) -> None:
    for link in scene.proxy.links:
        link.cut()


def _cut_one(scene: Scene) -> None:
    if scene.proxy.links:
        scene.random.choice(scene.proxy.links[:2]).cut()


def _freeze(scene: Scene) -> None:
    scene.proxy.freeze()

    def thaw() -> None:
        time.sleep(scene.random.uniform(0.1, 0.8))
        scene.proxy.thaw()

    scene.later(thaw)


def _freeze_and(number: int) -> Callable[[Scene], None]:
    """Freeze, send a signal; the server learns of the end of the client long after that."""

    def act(scene: Scene) -> None:
        scene.proxy.freeze()

        def end() -> None:
            time.sleep(scene.random.uniform(0.05, 0.3))
            _signal(number)(scene)
            try:
                scene.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                scene.process.send_signal(signal.SIGABRT)  # it says where it hangs
            time.sleep(scene.random.uniform(0, 0.8))
            _cut(scene)
            scene.proxy.thaw()

        scene.later(end)

    return act


def _hold(begin: str, shortest: float, longest: float) -> Callable[[Scene], None]:
    """Be somebody else at work on the same tables, for some seconds."""

    def hold(scene: Scene) -> None:
        seconds = scene.random.uniform(shortest, longest)
        statement = begin.format(scene.random.choice(scene.tables))

        def work() -> None:
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(scene.database.url, application_name="somebody") as conn,
            ):
                conn.execute("set lock_timeout = '300ms'")
                conn.commit()
                conn.execute(statement.encode())
                time.sleep(seconds)

        scene.later(work)

    return hold


def _orphan(scene: Scene) -> None:
    """Hold up whatever indexes a table, and kill the client: its statement goes on without it."""
    scene.lingering.append(threading.Thread(target=partial(_write, scene), daemon=True))
    scene.lingering[-1].start()

    def kill() -> None:
        time.sleep(scene.random.uniform(0.05, 0.4))
        _signal(signal.SIGKILL)(scene)

    scene.later(kill)


def _write(scene: Scene) -> None:
    with (
        contextlib.suppress(psycopg.Error),
        psycopg.connect(scene.database.url, application_name="somebody") as conn,
    ):
        conn.execute("lock table t_1, t_2 in row exclusive mode")
        time.sleep(scene.random.uniform(0.8, 2.0))


def _take_lock(scene: Scene) -> None:
    """End the session that holds the runner's lock, unseen by its run, and start another run."""
    keeper = scene.proxy.keeper
    if not keeper:
        return
    keeper.tells.clear()
    _ask("pg_terminate_backend", keeper=True)(scene)
    scene.later(scene.second)
    assert scene.proxy.worker, "a keeper is the second connection"
    _await(scene, _BLOCKS, scene.proxy.worker.pid)

    def tell() -> None:
        time.sleep(scene.random.uniform(0.3, 1.5))
        keeper.tells.set()

    scene.later(tell)


def _join_in(scene: Scene) -> None:
    scene.later(scene.second)


_DEEDS: dict[Fault, Callable[[Scene], None]] = {
    Fault.KILL: _signal(signal.SIGKILL),
    Fault.ORPHAN: _orphan,
    Fault.TERM: _signal(signal.SIGTERM),
    Fault.INT: _signal(signal.SIGINT),
    Fault.TERMINATE: _ask("pg_terminate_backend", keeper=False),
    Fault.KILL_BACKEND: _kill_backend,
    Fault.TERMINATE_KEEPER: _ask("pg_terminate_backend", keeper=True),
    Fault.TAKE_LOCK: _take_lock,
    Fault.CANCEL: _ask("pg_cancel_backend", keeper=False),
    Fault.CANCEL_KEEPER: _ask("pg_cancel_backend", keeper=True),
    Fault.RESTART: _restart,
    Fault.CUT: _cut,
    Fault.CUT_WORKER: _cut_one,
    Fault.FREEZE: _freeze,
    Fault.FREEZE_KILL: _freeze_and(signal.SIGKILL),
    Fault.FREEZE_TERM: _freeze_and(signal.SIGTERM),
    Fault.LOCK: _hold("lock table {} in access exclusive mode", 0.2, 1.5),
    Fault.SNAPSHOT: _hold("set transaction isolation level repeatable read; table {}", 0.1, 0.6),
    Fault.RUNNERS: _join_in,
    Fault.RUNNERS_KILL: _signal(signal.SIGKILL),
}
