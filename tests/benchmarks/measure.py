"""Run a program as a child, and measure its time and its peak memory."""

from __future__ import annotations

import os
import re
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_KIBIBYTE = 1024
_INTERVAL = 0.005  # seconds between two readings of a program's memory, at most
_MARGIN = 1 << 20  # bytes: Linux counts the pages of a process only approximately


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost.

    Attributes:
        seconds: From the start of the process to its end; of several runs, the median.
        peak: The most memory that the process held at once, in bytes.
    """

    seconds: float
    peak: int


@dataclass(frozen=True, slots=True)
class Program:
    """A command to run.

    Attributes:
        environ: Its environment variables, in addition to PATH, HOME and LANG.
        measures: Reads the seconds from the program's output; None to time the whole run.
    """

    command: Sequence[str | Path]
    environ: Mapping[str, str]
    measures: Callable[[str], float] | None = None


class ProgramFailedError(Exception):
    """A measured program failed; the message holds its output."""


def run(program: Program) -> Sample:
    """Run a program to its end and measure it.

    Raises:
        ProgramFailedError: Its exit code is not 0.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in program.command],
            env={**kept, **program.environ},
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        peak = _watch(child.pid)
        seconds = time.perf_counter() - started
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if child.returncode:
        shown = " ".join(map(str, program.command))
        raise ProgramFailedError(f"{shown}: exit code {child.returncode}\n{said[-2000:]}")
    if program.measures:
        seconds = program.measures(said)
    return Sample(seconds, _corrected(peak, usage))


def _watch(pid: int) -> int:
    """Wait for the end of a child; return the peak memory seen until then, in bytes.

    The first readings are close together, so that a program of a few milliseconds is seen, too.
    """
    peak, started = _peak(pid), time.monotonic()
    descriptor = os.pidfd_open(pid)
    try:
        while not _is_ready(descriptor, min((time.monotonic() - started) / 10, _INTERVAL)):
            peak = max(peak, _peak(pid))
    finally:
        os.close(descriptor)
    return peak


def _is_ready(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def _peak(pid: int) -> int:
    """Read the peak memory of a process, in bytes; 0 if it has already ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * _KIBIBYTE if found else 0


def _corrected(peak: int, usage: resource.struct_rusage) -> int:
    """Return the exact peak where the kernel has it.

    `ru_maxrss` covers the child to its very end, but it starts at the memory of the parent:
    Linux carries that over through fork, vfork and posix_spawn.  Only a value that exceeds the
    parent's own is the child's.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBIBYTE
    exact = usage.ru_maxrss * _KIBIBYTE
    return max(peak, exact) if exact > own + _MARGIN else peak


def typical(samples: Iterable[Sample]) -> Sample:
    """Return the medians of the times and of the peaks."""
    samples = tuple(samples)
    return Sample(
        median(sample.seconds for sample in samples),
        int(median(sample.peak for sample in samples)),
    )
