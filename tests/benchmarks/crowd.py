"""Run a command while four writers and a slow reader work, and print how long the writers waited.

python -m tests.benchmarks.crowd p99|longest URL COMMAND…
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event

import psycopg

_WRITERS = 4
_PAUSE = 0.005  # seconds between two writes of a writer
_READ = 1.0  # seconds for which the reader keeps a snapshot
_WARM_UP = 0.5  # seconds before the command


def main() -> None:
    """Run the command, and print the waits in seconds."""
    which, url, *command = sys.argv[1:]
    stop, waits = Event(), list[tuple[float, float]]()
    with ThreadPoolExecutor(_WRITERS + 1) as pool:
        crowd = [pool.submit(_write, url, seed, stop, waits) for seed in range(_WRITERS)]
        crowd.append(pool.submit(_read, url, stop))
        time.sleep(_WARM_UP)
        started = time.monotonic()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        stop.set()
        for each in crowd:
            each.result()
    if done.returncode:
        sys.exit(done.stderr)
    seconds = sorted(took for ended, took in waits if ended >= started)
    print(seconds[-1] if which == "longest" else seconds[len(seconds) * 99 // 100])


def _write(url: str, seed: int, stop: Event, waits: list[tuple[float, float]]) -> None:
    ids = Random(seed)
    with psycopg.connect(url, autocommit=True) as conn:
        query = "select max(id) from orders"
        ((most,),) = conn.execute(query).fetchall()
        while not stop.wait(_PAUSE):
            began = time.monotonic()
            text = "update orders set note = note || '.' where id = %s"
            conn.execute(text, [ids.randint(1, most)])
            waits.append((time.monotonic(), time.monotonic() - began))


def _read(url: str, stop: Event) -> None:
    with psycopg.connect(url) as conn:
        while not stop.is_set():
            conn.execute("set transaction isolation level repeatable read")
            conn.execute("select sum(total) from orders")
            stop.wait(_READ)
            conn.rollback()


if __name__ == "__main__":
    main()
