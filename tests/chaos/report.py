"""Sum rounds up: which faults struck where, and what was violated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from .faults import Fault
from .points import Point
from .rounds import Result

_MISSED = "not injected"


def table(results: Sequence[Result]) -> str:
    """Write how many of each fault struck at each point."""
    counts = _counts(results)
    columns = [*(point.value for point in Point), _MISSED]
    head = [" " * 24, *(f"{number:>5}" for number in range(1, len(columns) + 1)), "  all"]
    lines = [*(f"  {number} = {name}" for number, name in enumerate(columns, 1)), "", "".join(head)]
    for fault in Fault:
        row = [counts[fault.value, column] for column in columns]
        lines.append(f"{fault.value:24}" + "".join(f"{n or '.':>5}" for n in [*row, sum(row)]))
    sums = [sum(counts[fault.value, column] for fault in Fault) for column in columns]
    return "\n".join([*lines, f"{'all':24}" + "".join(f"{n:>5}" for n in [*sums, sum(sums)])])


def as_json(results: Sequence[Result], seconds: float) -> str:
    """Give the same as a document, with every violation."""
    counts = _counts(results)
    codes = Counter(f"{result.fault.value}: {result.code}" for result in results)
    document = {
        "rounds": len(results),
        "seconds": round(seconds, 1),
        "faults": {
            fault.value: {point: n for (name, point), n in counts.items() if name == fault.value}
            for fault in Fault
        },
        "exit_codes": dict(sorted(codes.items())),
        "violated": [
            {name: getattr(result, name) for name in ("seed", "fault", "trigger", "violations")}
            for result in results
            if result.violations
        ],
    }
    return json.dumps(document, indent=2)


def violation(result: Result) -> str:
    """Say what was violated in a round, and how to play it again."""
    lines = [
        f"seed {result.seed}: {result.fault}, {result.trigger}, {result.point}, "
        f"exit code {result.code}",
        *(f"  ! {what}" for what in result.violations),
        *(f"  {line}" for evidence in result.evidence for line in evidence.splitlines()),
        f"  again: python -m tests.chaos --rounds 1 --seed {result.seed}",
    ]
    return "\n".join(lines)


def _counts(results: Iterable[Result]) -> Counter[tuple[str, str]]:
    return Counter(
        (result.fault.value, result.point.value if result.point else _MISSED) for result in results
    )
