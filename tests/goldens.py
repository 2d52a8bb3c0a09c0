"""Compare what users read with the files in `tests/golden/`; `make golden` rewrites them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
_NORMALISED = (
    (re.compile(r"(?:<1 ms|\b[0-9.]+ (?:ms|s|min|h))(?=[);])"), "N ms"),
    (re.compile(r"socket [^\s,;]+"), "socket /run/postgresql:5432"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}"), "2026-05-06 07:08"),
    (re.compile(r"PostgreSQL [0-9.]+,\s+history\s+in\s+schema"), "PostgreSQL N, history in schema"),
    (re.compile(r"test_[0-9a-f]{32}"), "shop"),
    (re.compile(r"port [0-9]+"), "port 5432"),
)


def normalise(text: str, words: Mapping[str, str]) -> str:
    """Replace what differs from run to run: `words`, times, dates, versions, servers, databases."""
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    for pattern, replacement in _NORMALISED:
        text = pattern.sub(replacement, text)
    return text


def check(name: str, text: str, words: Mapping[str, str] | None = None) -> None:
    """Compare a text with its golden file; write it instead if `MIGRATOR_GOLDEN` is set."""
    path = GOLDEN / f"{name}.txt"
    normal = normalise(text, words or {})
    if os.environ.get("MIGRATOR_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(normal, encoding="utf-8")
    assert path.exists(), f"{path} does not exist: make golden"
    assert normal == path.read_text(encoding="utf-8")
