"""Say at which point of a run a fault struck, by what its client had sent until then."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tests.proxy import StrikingProxy

from .backfills import NOTED
from .histories import History


class Point(enum.StrEnum):
    """Where a run was when its fault struck."""

    BEFORE = "before anything"
    TRANSACTION = "in a transactional migration"
    BETWEEN = "between"
    BLOCK = "in a transactional unit"
    BATCH = "in a batch"
    CONCURRENT = "in a concurrent statement"
    UNRECORDED = "behind it, before its record"
    RECORD = "at a record or commit"
    AFTER = "after the end"


@dataclass(frozen=True, slots=True)
class Guide:
    """Which statement of a history belongs where."""

    alone: frozenset[str]
    blocks: frozenset[str]
    transactional: frozenset[str]

    def locate(self, proxy: StrikingProxy, *, ended: bool) -> Point:
        """Tell where the client of a proxy is."""
        if ended or (proxy.worker and not proxy.worker.is_open):
            return Point.AFTER
        sent = [text.rstrip(";") for text in (proxy.worker.sent if proxy.worker else ())]
        if not any("insert into" in text and "migration_versions" in text for text in sent):
            return Point.BEFORE
        last = sent[-1]
        if last in self.alone:
            is_behind = len(proxy.statements) and proxy.statements[-1].rstrip(";") != last
            return Point.UNRECORDED if is_behind else Point.CONCURRENT
        if last == "commit" or "migration_log" in last or "migration_versions" in last:
            return Point.RECORD
        return self._within(sent)

    def _within(self, sent: list[str]) -> Point:
        """Look back to the newest statement that tells what the client is at."""
        for whole in reversed(sent):
            # Of many INSERTs that are sent as one, the first tells.
            text = whole.partition(";\ninsert into t_")[0]
            if text in self.alone:
                return Point.UNRECORDED
            if text in self.blocks:
                return Point.BLOCK
            if text.startswith(NOTED):
                return Point.BATCH
            if text in self.transactional:
                return Point.TRANSACTION
            if text == "commit":
                break
        return Point.BETWEEN


def guide(history: History) -> Guide:
    """Sort the statements of a history."""
    alone: set[str] = set()
    blocks: set[str] = set()
    transactional: set[str] = set()
    for each in history.repeatables:
        transactional.update(statement.text for statement in each.statements)
    for version in history.versions:
        for unit in version.units:
            inside = transactional if version.transactional else blocks
            (alone if unit.alone else inside).update(s.text for s in unit.statements)
    return Guide(frozenset(alone), frozenset(blocks), frozenset(transactional))
