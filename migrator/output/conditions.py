"""What a rehearsal found of the conditions of a migration, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..rehearsal.report import Condition


def condition_json(condition: Condition) -> dict[str, Any]:
    """Return a condition and its answer."""
    return {
        "kind": "require" if condition.is_required else "ensure",
        "direction": condition.direction.value,
        "line": condition.line,
        "query": condition.query.text,
        "met": condition.met.value,
        "gave": condition.gave,
        "reason": condition.reason,
    }
