"""Run a program as a child, and tell how long it took and how much memory it had."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_KIBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost.

    Attributes:
        seconds: From the start of the process to its end; of several runs, the median.
        peak: The most memory that the process had at once, in bytes.
    """

    seconds: float
    peak: int


@dataclass(frozen=True, slots=True)
class Program:
    """A command, as it is started.

    Attributes:
        environ: What it has of an environment beside PATH, HOME and the locale.
        measures: Read from what it wrote, instead of the time that it took; in seconds.
    """

    command: Sequence[str | Path]
    environ: Mapping[str, str]
    measures: Callable[[str], float] | None = None


class ProgramFailedError(Exception):
    """A program that is measured ended with an error; its words are the message."""


def run(program: Program) -> Sample:
    """Run a program to its end.

    The memory is Linux's `ru_maxrss` of the child alone.  A child starts with its parent's
    memory, so this process has to stay small, and what is big is made in children.

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
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if child.returncode:
        shown = " ".join(map(str, program.command))
        raise ProgramFailedError(f"{shown}: exit code {child.returncode}\n{said[-2000:]}")
    if program.measures:
        seconds = program.measures(said)
    return Sample(seconds, usage.ru_maxrss * _KIBIBYTE)


def typical(samples: Iterable[Sample]) -> Sample:
    """Give the medians of the times and of the peaks."""
    samples = tuple(samples)
    return Sample(
        median(sample.seconds for sample in samples),
        int(median(sample.peak for sample in samples)),
    )
