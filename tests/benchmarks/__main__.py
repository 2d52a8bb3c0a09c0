"""Measure: `make bench`, or `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from ..conftest import find_program, serve
from . import candidates, report, tracing, trips, workloads
from .contest import Result, hold
from .workloads import OURS, Bench

# A checkpoint in the middle of a run would fall on one candidate only.
_CALM = ("max_wal_size=16GB", "checkpoint_timeout=1h", "autovacuum=off", "synchronous_commit=on")
_DURABLE = ("fsync=on", "full_page_writes=on")


def main() -> None:
    """Run what the options ask for."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="migrator-bench-"))
    settings = (*_CALM, *(_DURABLE if options.durable else ()))
    try:
        with serve(options=settings) as postgres:
            bench = Bench(
                postgres=postgres,
                folder=folder,
                psql=candidates.Psql(find_program("psql", postgres)),
                peers=candidates.peers(_tell) if options.peers else (),
                packages=_packages(options.against),
                size=options.n,
                megabytes=options.mb,
            )
            _measure(bench, options)
    finally:
        shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    add("--n", type=int, default=1000, help="how many small migrations [%(default)s]")
    add("--mb", type=int, default=50, help="how large the seeds are [%(default)s]")
    add("--rounds", type=int, default=5, help="how often each candidate runs [%(default)s]")
    add("--only", help=f"workloads, by comma: {', '.join(workloads.ALL)}, trace, trips [all]")
    add("--against", type=Path, help="the directory of another migrator package, to compare")
    add("--output", type=Path, default=Path(".migrator/bench.json"), help="[%(default)s]")
    add("--durable", action="store_true", help="with fsync: then the disk is measured, too")
    add("--no-peers", dest="peers", action="store_false", help="without dbmate and yoyo")
    return parser.parse_args()


def _packages(against: Path | None) -> dict[str, Path]:
    other = {"other": against.resolve()} if against else {}
    return {OURS: candidates.PROJECT, **other}


def _measure(bench: Bench, options: argparse.Namespace) -> None:
    chosen = options.only.split(",") if options.only else [*workloads.ALL, "trace", "trips"]
    results: list[Result] = []
    for name in chosen:
        for contest in workloads.ALL[name](bench) if name in workloads.ALL else ():
            results.append(hold(contest, options.rounds))
            print(report.times(results[-1]), flush=True)
    traces = tracing.costs(bench.postgres, 5 * options.n) if "trace" in chosen else {}
    round_trips = trips.count(bench) if "trips" in chosen else {}
    print()
    print(report.table(results, traces, round_trips))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    report.write(options.output, results, traces, round_trips, _about(bench, options))


def _about(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m tests.benchmarks", *sys.argv[1:]]),
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "postgresql": bench.postgres.server.version,
        "machine": platform.platform(),
        "n": options.n,
        "mb": options.mb,
        "rounds": options.rounds,
        "fsync": options.durable,
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
