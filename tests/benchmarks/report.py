"""Print what was measured beside what is to be reached, and write it as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .contest import Measure, Result, Target
from .tracing import ASKED, BOUND

_MET, _MISSED = "met", "NOT MET"


def times(result: Result) -> str:
    """Give the medians of a contest, a line a candidate."""
    lines = [f"\n{result.contest.name}"]
    for name, sample in result.samples.items():
        peak = sample.peak / 1e6
        lines.append(f"  {name:<16} {sample.seconds * 1000:>10,.0f} ms {peak:>8,.0f} MB")
    lines += [f"  {name:<16} failed: {reason}" for name, reason in result.failed.items()]
    return "\n".join(lines)


def table(
    results: Iterable[Result],
    traces: Mapping[str, float],
    round_trips: Mapping[str, list[int]],
) -> str:
    """Give every target as a row of a table in Markdown, then traces and round trips."""
    lines = ["| workload | measured | reach | |", "|---|---|---|---|"]
    for result in results:
        for target in result.contest.targets:
            what, bound = _words(target), _bound(target)
            value = result.value(target)
            found = "–" if value is None else f"{value:.2f}"
            lines.append(
                f"| {result.contest.name}: {what} | {found} | {bound} | {verdict(target, value)} |"
            )
    lines += ["", "| a trace | ms | reach | |", "|---|---|---|---|"] if traces else []
    for name, cost in traces.items():
        reach = (f"≤ {BOUND:g}", _MET if cost <= BOUND else _MISSED) if name == ASKED else ("", "")
        lines.append(f"| {name} | {cost:.2f} | {' | '.join(reach)} |")
    lines += ["", "| round trips of | in all | a connection |", "|---|---|---|"]
    lines += [
        f"| {name} | {sum(each)} | {', '.join(map(str, each))} |"
        for name, each in round_trips.items()
    ]
    return "\n".join(lines)


def verdict(target: Target, value: float | None) -> str:
    """Say whether a target is reached.

    >>> verdict(Target("migrator", "psql", 0.8), 0.79)
    'met'
    >>> verdict(Target("migrator", None, 8, Measure.SPEED, 1), 7.9)
    'NOT MET'
    """
    if value is None:
        return "not measured"
    is_met = value >= target.bound if target.measure is Measure.SPEED else value <= target.bound
    return _MET if is_met else _MISSED


def _words(target: Target) -> str:
    if target.measure is Measure.SPEED:
        return f"{target.candidate}, MB/s"
    against = target.reference or "the file"
    return f"{target.candidate} / {against}, {target.measure}"


def _bound(target: Target) -> str:
    sign = "≥" if target.measure is Measure.SPEED else "≤"
    return f"{sign} {target.bound:g}"


def write(
    path: Path,
    results: Iterable[Result],
    traces: Mapping[str, float],
    round_trips: Mapping[str, list[int]],
    about: Mapping[str, Any],
) -> None:
    """Write everything as one JSON document."""
    document = {
        "about": dict(about),
        "traces": dict(traces),
        "round_trips": dict(round_trips),
        "workloads": [_json(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _json(result: Result) -> dict[str, Any]:
    values = ((target, result.value(target)) for target in result.contest.targets)
    return {
        "name": result.contest.name,
        "candidates": {
            name: {"seconds": sample.seconds, "peak_bytes": sample.peak}
            for name, sample in result.samples.items()
        },
        "failed": dict(result.failed),
        "targets": [
            {
                "what": _words(target),
                "value": value,
                "bound": target.bound,
                "verdict": verdict(target, value),
            }
            for target, value in values
        ],
    }
