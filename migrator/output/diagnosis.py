"""What `doctor` found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import counted

if TYPE_CHECKING:
    from ..doctor.checks import Diagnosis
    from .text import Style


def diagnosis_text(diagnosis: Diagnosis, style: Style) -> str:
    """Write each finding with what it means and what to do, and what was not checked."""
    return "\n".join(_lines(diagnosis, style))


def _lines(diagnosis: Diagnosis, style: Style) -> Iterator[str]:
    for found in (*diagnosis.findings, *diagnosis.notes):
        is_note = found not in diagnosis.findings
        title = f"{'Note: ' if is_note else ''}{found.title} ({found.id})"
        yield style(title, fg=None if is_note else "yellow", bold=True)
        yield from _indented(found.message)
        yield from _indented(found.meaning)
        yield from _indented(f"to do: {found.action}")
        yield ""
    for each in diagnosis.unchecked:
        yield f"not checked: {each.id}: {each.reason}"
    yield counted(len(diagnosis.findings), "finding") if diagnosis.findings else "no findings"


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the findings, the notes and what was not checked."""
    return {
        "findings": [asdict(found) for found in diagnosis.findings],
        "notes": [asdict(found) for found in diagnosis.notes],
        "unchecked": [asdict(each) for each in diagnosis.unchecked],
    }
