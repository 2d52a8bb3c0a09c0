"""Play many rounds, on as many servers as there are workers: `python -m tests.chaos`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import PROJECT, stop_ignoring_signals, variables_of_the_user

from . import play, report
from .rounds import Result


def main() -> int:
    """Play, report, and return 1 if anything was violated."""
    options = _options()
    stop_ignoring_signals()
    for name in variables_of_the_user():
        del os.environ[name]
    started, results = time.monotonic(), []
    for result in _results(options):
        results.append(result)
        if result.violations:
            print(report.violation(result), flush=True)
        if len(results) % 50 == 0:
            print(f"{len(results)} rounds in {time.monotonic() - started:.0f} s", flush=True)
        if options.stop and result.violations:
            break
    print(report.table(results))
    violated = sum(bool(result.violations) for result in results)
    seconds = time.monotonic() - started
    print(f"\n{len(results)} rounds in {seconds:.0f} s, {violated} of them violated something")
    if options.json:
        options.json.write_text(report.as_json(results, seconds))
    return 1 if violated or len(results) < options.rounds else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--workers", type=int, default=4, help="each with a server of its own")
    parser.add_argument("--package", type=Path, default=PROJECT, help="where `migrator` lies")
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    parser.add_argument("--stop", action="store_true", help="at the first violation")
    return parser.parse_args()


def _results(options: argparse.Namespace) -> Iterator[Result]:
    """Yield results as they come; the seeds are dealt out by their histories."""
    seeds = range(options.seed, options.seed + options.rounds)
    hands = play.deal(seeds, options.workers)
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[Result | None] = context.Queue()
    workers = [
        context.Process(target=play.work, args=(hand, options.package, queue)) for hand in hands
    ]
    for worker in workers:
        worker.start()
    try:
        left = len(workers)
        while left:
            result = queue.get()
            left -= result is None
            if result is not None:
                yield result
    finally:
        for worker in workers:
            worker.terminate() if left else worker.join()


if __name__ == "__main__":
    sys.exit(main())
