"""The memory that is measured is the program's own."""

from __future__ import annotations

import resource
import sys

from .measure import Program, run

MEGABYTE = 1 << 20


def test_a_small_program_is_not_charged_with_the_memory_of_this_process() -> None:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = run(Program(["sleep", "0.1"], {})).peak
    assert 0 < peak < own / 4


def test_a_program_that_allocates_memory_shows_it() -> None:
    allocate = f"bytearray(b'x') * {200 * MEGABYTE}"
    peak = run(Program([sys.executable, "-c", allocate], {})).peak
    assert 200 <= peak / MEGABYTE < 225
