"""Weigh the hazards of an up script by the target's sizes, and by what its comments accept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..sql.script import Script
from ..tracing.trace import Relation, Trace
from .blocking import stalls
from .catalogue import Facts, Finding, Severity, Size, hazards
from .destructive import indexed, losses
from .statement import Scene, Traced, Verdict


def find(
    script: Script, traced: Sequence[Traced], *, facts: Facts, small: int
) -> tuple[Finding, ...]:
    """Return the hazards of an up script, by statement.

    What the script created concerns nobody.  Where only time is at stake, a table below a size
    makes the finding information.

    Args:
        script: Tells what runs in one transaction, and which findings comments accept.
        traced: Its statements, in order; fewer if one failed.
        small: In bytes.
    """
    reasons = {
        (allowance.statement.offset, allowance.hazard): allowance.reason
        for allowance in script.options.allowances
        if allowance.statement and allowance.reason
    }
    names = _first_names(traced)
    findings: list[Finding] = []
    for scene in _scenes(script, traced, facts, small):
        for verdict in _folded([*stalls(scene), *losses(scene)], facts):
            finding = _weighed(verdict, scene, names)
            accepted = reasons.get((scene.statement.offset, verdict.hazard))
            findings.append(replace(finding, accepted=accepted))
    return tuple(findings)


def sizes_after(sizes: Mapping[str, Size], traces: Iterable[Trace]) -> dict[str, Size]:
    """Carry the target's sizes over a script that is rehearsed, for the next one.

    What it creates is empty, what it renames keeps its size.
    """
    known = dict(sizes)
    for trace in traces:
        for touch in trace.touches:
            name = touch.relation.name
            if touch.renamed_from in known:
                known[name] = known.pop(touch.renamed_from)
            if touch.dropped:
                known.pop(name, None)
        known |= {created.name: Size(0, 0) for created in trace.created}
    return known


def told(size: Size) -> str:
    """Spell a size as a DBA would say it.

    >>> told(Size(41 * 2**30, 210_000_000))
    '41 GB, 210 M rows'
    """
    amount, unit = size.bytes, "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 10_240 or unit == "TB":
            break
        amount = round(amount / 1024)
    return f"{amount} {unit}" + (f", {_count(size.rows)} rows" if size.rows is not None else "")


def _count(number: int) -> str:
    for unit in ("", " k", " M"):
        if number < 10_000:
            return f"{number}{unit}"
        number = round(number / 1000)
    return f"{number} G"


def _scenes(script: Script, traced: Sequence[Traced], facts: Facts, small: int) -> Iterator[Scene]:
    units = {s.offset: unit for unit in script.units for s in unit.statements}
    ours: set[int] = set()
    for index, (statement, trace) in enumerate(traced):
        ours |= {relation.oid for relation in trace.created}
        yield Scene(
            statement=statement,
            trace=trace,
            path=script.path,
            unit=units[statement.offset],
            before=traced[:index],
            later=traced[index + 1 :],
            ours=frozenset(ours),
            facts=facts,
            small=small,
        )


def _first_names(traced: Sequence[Traced]) -> Mapping[int, str]:
    """Return what relations are called before the script, by OID."""
    names: dict[int, str] = {}
    for _, trace in traced:
        for touch in trace.touches:
            names.setdefault(touch.relation.oid, touch.renamed_from or touch.relation.name)
    return names


def _folded(verdicts: Sequence[Verdict], facts: Facts) -> Iterator[Verdict]:
    """Tell of partitions as of the table that they belong to, once, and weigh them together."""
    told = {(verdict.hazard, _table(verdict)) for verdict in verdicts}
    leaves: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        parent = facts.partitions.get(_table(verdict))
        if parent is None:
            yield verdict
        elif (verdict.hazard, parent) not in told:
            leaves.setdefault((verdict.hazard, parent), []).append(verdict)
    for (_, parent), alike in leaves.items():
        first, count = alike[0], len({_table(each) for each in alike})
        if count == 1:
            yield from alike
        else:
            message = first.message.replace(_table(first), f"{count} partitions of {parent}")
            yield replace(first, relation=Relation(0, parent, "p"), message=message)


def _table(verdict: Verdict) -> str:
    relation = verdict.relation
    return (relation.table or relation.name) if relation else ""


def _size(relation: Relation, facts: Facts, names: Mapping[int, str]) -> Size | None:
    return facts.sizes.get(relation.table or names.get(relation.oid, relation.name))


def _weighed(verdict: Verdict, scene: Scene, names: Mapping[int, str]) -> Finding:
    hazard, relation = hazards()[verdict.hazard], verdict.relation
    size = _size(relation, scene.facts, names) if relation else None
    is_small = size is not None and size.bytes < scene.small and not verdict.is_large
    is_mild = verdict.is_mild or (hazard.costs_only_time and is_small)
    return Finding(
        hazard,
        scene.statement,
        (relation.table or relation.name) if relation else None,
        verdict.message.replace("{size}", f" ({told(size)})" if size else ""),
        Severity.INFORMATION if is_mild else Severity.FINDING,
        wants_index=verdict.wants_index,
    )


def settled(finding: Finding, indexes: Mapping[str, Sequence[Sequence[str]]]) -> bool:
    """Whether the index that a finding wants is there after the last of the pending scripts."""
    wanted = finding.wants_index
    found = indexes.get(finding.relation or "", ())
    return bool(wanted) and indexed(wanted, found) == len(wanted)
