"""Find the hazards of an up script in what its statements did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..sql.location import locate
from ..sql.script import Script, Statement
from ..tracing.trace import Relation, names_before
from . import blocking, destructive, rows
from .catalogue import Facts, Finding, Severity, Size, Timing, hazards, unused
from .sizes import size_text
from .statement import Candidate, StatementContext, StatementTrace

# Another database has other rows and queries, and a scratch database has no rows.
_OF_TARGET = frozenset(["breaks-on-data", "lock-too-long", "query-broken", "query-slower"])


def find(
    script: Script,
    traced: Sequence[StatementTrace],
    *,
    facts: Facts,
    small: int,
    timing: Timing | None = None,
) -> tuple[Finding, ...]:
    """Return the hazards of an up script, in the order of its statements.

    Relations that the script created itself have none; what an earlier pending script made is a
    note, as no application can use it yet.

    Args:
        traced: The statements of the script, in order; fewer if one failed.
        small: If a hazard costs only time, it is a note for a table below this size in bytes.
        timing: If a hazard costs only time, it is a note if the blocking lock was held for less
            than the limit; None if there were no rows to measure that with.
    """
    reasons = {
        (allowance.statement.offset, allowance.hazard): allowance.reason
        for allowance in script.options.allowances
        if allowance.statement and allowance.reason
    }
    findings: list[Finding] = []
    for context in _contexts(script, traced, facts, small, timing):
        found = [*blocking.find(context), *destructive.find(context), *rows.find(context)]
        found = [_timed(candidate, context) for candidate in found]
        for candidate in _merge_partitions(found, facts):
            accepted = reasons.get((context.statement.offset, candidate.hazard))
            findings.append(replace(_finding(candidate, context), accepted=accepted))
    return tuple(findings)


def unused_allowances(
    script: Script, ran: Sequence[Statement], found: Sequence[Finding]
) -> Iterator[Finding]:
    """Yield a note for each comment of an up script that accepts what its statement does not have.

    Args:
        ran: The statements that have run; another one may have had the finding.
        found: All findings of the migration.
    """
    offsets = {statement.offset for statement in ran}
    known = {(each.hazard.id, each.statement.offset) for each in found if each.statement}
    of_down = {each.hazard.id for each in found if each.statement is None}
    for allowance in script.options.allowances:
        statement = allowance.statement
        if statement is None or statement.offset not in offsets or allowance.hazard in of_down:
            continue
        is_of_target = allowance.hazard in _OF_TARGET
        if (allowance.hazard, statement.offset) not in known and not is_of_target:
            yield unused(allowance)


def unused_in_down(script: Script, found: Sequence[Finding]) -> Iterator[Finding]:
    """Yield a note for each comment of a down script that accepts no finding on the down."""
    of_down = {each.hazard.id for each in found if each.statement is None}
    for allowance in script.options.allowances:
        if allowance.hazard not in of_down:
            place = locate(script.source, allowance.offset, script.path)
            note = unused(replace(allowance, statement=None))
            yield replace(note, message=f"{place.path.name}:{place.line}: {note.message}")


def _contexts(
    script: Script,
    traced: Sequence[StatementTrace],
    facts: Facts,
    small: int,
    timing: Timing | None,
) -> Iterator[StatementContext]:
    units = {s.offset: unit for unit in script.units for s in unit.statements}
    names = names_before(trace for _, trace in traced)
    created: set[int] = set()
    batched = {b.statement.offset for b in script.options.backfills if b.statement}
    for index, (statement, trace) in enumerate(traced):
        created |= {relation.oid for relation in trace.created}
        yield StatementContext(
            statement=statement,
            trace=trace,
            path=script.path,
            unit=units[statement.offset],
            before=traced[:index],
            later=traced[index + 1 :],
            created=frozenset(created),
            names=names,
            facts=facts,
            small=small,
            timing=timing,
            is_batched=statement.offset in batched,
        )


def _timed(candidate: Candidate, context: StatementContext) -> Candidate:
    relation = candidate.relation
    # What a missing index costs, it costs later.
    if relation is None or candidate.missing_index:
        return candidate
    return replace(candidate, held=context.seconds_held(relation))


def _merge_partitions(found: Sequence[Candidate], facts: Facts) -> Iterator[Candidate]:
    """Report what several partitions of a table have in common once, for the table."""
    reported = {(candidate.hazard, _table(candidate)) for candidate in found}
    partitions: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in found:
        parent = facts.partitions.get(_table(candidate))
        if parent is None:
            yield candidate
        elif (candidate.hazard, parent) not in reported:
            partitions.setdefault((candidate.hazard, parent), []).append(candidate)
    for (_, parent), alike in partitions.items():
        first = max(alike, key=lambda each: each.held or 0.0)
        count = len({_table(each) for each in alike})
        if count == 1:
            yield from alike
        else:
            message = first.message.replace(_table(first), f"{count} partitions of {parent}")
            yield replace(first, relation=Relation(0, parent, "p"), message=message)


def _table(candidate: Candidate) -> str:
    relation = candidate.relation
    return (relation.table or relation.name) if relation else ""


def _finding(candidate: Candidate, context: StatementContext) -> Finding:
    hazard, relation = hazards()[candidate.hazard], candidate.relation
    is_made = candidate.is_made or (relation is not None and context.is_made(relation))
    size = _size(relation, context) if relation else None
    is_small = size is not None and size.bytes < context.small and not candidate.is_finding
    is_quick = candidate.held is not None and not context.is_too_long(candidate.held)
    is_cheap = hazard.costs_only_time and (is_small or is_quick)
    is_note = candidate.is_note or is_made or is_cheap
    made = ", made by an earlier pending migration" if is_made else ""
    return Finding(
        hazard,
        context.statement,
        _table(candidate) or None,
        candidate.message.replace("{size}", f" ({size_text(size)})" if size else "") + made,
        Severity.INFORMATION if is_note else Severity.FINDING,
        missing_index=candidate.missing_index,
        lost=None if is_made else candidate.lost,
        rewritten=candidate.rewritten,
    )


def _size(relation: Relation, context: StatementContext) -> Size | None:
    return context.facts.sizes.get(relation.table or context.name_before(relation))
