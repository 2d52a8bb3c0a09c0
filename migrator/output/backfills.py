"""What a statement in batches would cost, for the forms of a rehearsal's report."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import duration, listed
from ..hazards.sizes import bytes_text, rows_text
from ..rehearsal.report import BackfillEstimate
from .json import Json
from .progress import lock_text
from .text import line_of


def backfill_lines(estimate: BackfillEstimate) -> Iterator[str]:
    """Say what the batches would cost, whether an index serves them, and what they lock."""
    if estimate.rows is not None:
        yield f"in batches: {_cost(estimate, estimate.rows)}"
    else:
        yield "in batches: nothing to change yet"
    if estimate.indexes is not None:
        yield from _index(estimate, estimate.indexes)
    for relation, mode in estimate.locks:
        yield f"each batch takes more than row locks: {lock_text(mode)} on {relation}"


def _cost(estimate: BackfillEstimate, rows: int) -> str:
    about = "" if estimate.is_measured else "about "
    parts = [f"{about}{rows_text(rows)} row{'s' * (rows != 1)}"]
    if estimate.batches is not None:
        parts.append(f"{estimate.batches:,} batch{'es' * (estimate.batches != 1)}")
    if estimate.seconds is not None:
        parts.append(f"{duration(estimate.seconds)} with the pauses")
    if estimate.wal is not None:
        parts.append(f"{bytes_text(estimate.wal)} of WAL")
    how = (
        "from the times on the copy" if estimate.is_measured else "a guess; measure: --on-copy URL"
    )
    return ", ".join(parts) + (f" ({how})" if len(parts) > 1 else "")


def _index(estimate: BackfillEstimate, indexes: tuple[str, ...]) -> Iterator[str]:
    names = listed(indexes)
    if estimate.is_repeated:
        yield (
            f"each batch finds its rows by {names}"
            if indexes
            else "no index serves its WHERE: each batch reads the whole table"
        )
    elif not indexes:
        yield "no index serves its WHERE: each pass reads the whole table"
    elif estimate.is_few:
        yield f"{names} serves its WHERE: to read only these rows, add: by COLUMN"
    else:
        yield f"{names} serves its WHERE"


def backfill_json(estimate: BackfillEstimate) -> Json:
    """Return an estimate as JSON."""
    return {
        "line": line_of(estimate.statement),
        "table": estimate.table,
        "rows": estimate.rows,
        "batches": estimate.batches,
        "seconds": None if estimate.seconds is None else round(estimate.seconds, 3),
        "wal_bytes": estimate.wal,
        "measured": estimate.is_measured,
        "indexes": None if estimate.indexes is None else list(estimate.indexes),
        "locks": [{"relation": name, "mode": mode.sql} for name, mode in estimate.locks],
    }
