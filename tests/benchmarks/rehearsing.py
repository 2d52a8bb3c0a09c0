"""Run migrations up, down and up again, with a rehearsal or without; print the seconds.

python -m tests.benchmarks.rehearsing rehearse URL DIRECTORY     as `rehearse` does it
python -m tests.benchmarks.rehearsing run URL DIRECTORY          without a trace or a comparison

The migrations are not there before, and not afterwards.  All work of a rehearsal on its scratch
database counts, except for making it.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from migrator.model import Direction, Step
from migrator.rehearsal import steps
from migrator.rehearsal.stage import Stage, run
from tests.rehearsal.readings import migrations, readings, step


def main() -> None:
    """Do what the arguments ask for."""
    command, url, directory = sys.argv[1:]
    gc.set_threshold(100_000)  # as in `python -m migrator`
    found = migrations(Path(directory))
    ups = [step(each, Direction.UP) for each in found]
    downs = [step(each, Direction.DOWN) for each in found]
    with readings(url) as both:
        stage = both.stage
        began = time.perf_counter()
        if command == "rehearse":
            asking = replace(stage, asks=True, is_guarded=True)  # as by default
            done = steps.rehearse(asking, ups, (), {})
            assert [each.down is not None for each in done] == [True] * len(ups)
        else:
            _run(stage, [each for pair in zip(ups, downs, ups, strict=True) for each in pair])
        print(time.perf_counter() - began)
        _run(stage, downs[::-1])


def _run(stage: Stage, scripts: Sequence[Step]) -> None:
    for each in scripts:
        if error := run(stage, each):
            raise error


if __name__ == "__main__":
    main()
