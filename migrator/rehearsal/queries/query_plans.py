"""Compare the plans of queries before and after each migration on a copy with rows.

The tables that the queries read are analyzed first, and again after each migration that may have
changed them.  A restored copy has no statistics, nor has a column that was added or rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from ...errors import listed
from ...events import Remarked
from ...postgres import connection
from ...postgres.cursor import Connection
from ...sql import names
from ...sql.script import Statement
from ...tracing.trace import LockMode, Touch
from ..report import RehearsedMigration
from ..stage import Stage
from . import query_check, runnable
from .regressions import BROKEN, SLOWER, Regressions, with_findings
from .runnable import Runnable
from .running import Queries

_CHEAP = 1000  # units of the planner: about 1,000 pages read in order
_MUCH = 10  # times the cost before
_MORE = 1.5  # times the cost before, with a full scan in place of an index

# What a statement reads, its transaction has locked.  ANALYZE of a partitioned table includes
# the partitions.
_LOCKED = """
select distinct coalesce(pg_partition_root(c.oid)::oid, c.oid)::bigint
from pg_locks l
join pg_class c on c.oid = l.relation
where l.pid = pg_backend_pid()
  and l.locktype = 'relation'
  and c.oid >= 16384
  and c.relkind in ('m', 'p', 'r')
"""
_NAMES = """
select distinct r.oid::bigint, n.nspname, r.relname
from unnest(%s::bigint[]) of_table (oid)
join pg_class c on c.oid = of_table.oid
join pg_class r on r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)
join pg_namespace n on n.oid = r.relnamespace
where r.relkind in ('m', 'p', 'r')
order by r.oid::bigint
"""


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """The plan of a query.

    Attributes:
        cost: In the units of the planner.
        indexes: Those that it uses, quoted as in SQL, like all names.
        scans: The tables that it reads from end to end.
        tables: Those that it may read, by OID; of a partition, the table at the top.
    """

    cost: float
    indexes: frozenset[str]
    scans: frozenset[str]
    tables: frozenset[int]


class PlanComparison:
    """Compares the plans of queries on a stage with those before the first migration."""

    def __init__(self, stage: Stage, queries: Queries) -> None:
        """Analyze the tables that the queries read, and explain them.

        Raises:
            CancelledError: The user stopped it.
        """
        self._stage = stage
        self._regressions = Regressions()
        self._tables: frozenset[int] = frozenset()
        with connection.reported():
            self.check, self._queries = runnable.find(stage, queries)
            self._first, _ = self._explained()

    def add(self, rehearsed: RehearsedMigration) -> None:
        """Compare the plans after a migration that has just been applied.

        Raises:
            CancelledError: The user stopped it.
        """
        if rehearsed.error:
            return
        with connection.reported():
            self._analyze(_changed(rehearsed, self._tables))
            plans, refused = self._explained()
        only = query_check.only_statement(rehearsed.step)
        found = {(query, BROKEN): (text, only) for query, text in refused.items()}
        for query, plan in plans.items():
            before = self._first.get(query)
            if before and _is_slower(before, plan):
                statement = _dropping(rehearsed, before.indexes - plan.indexes) or only
                found[query, SLOWER] = (_text(before, plan), statement)
        self._regressions.add(rehearsed.step, found)

    def with_findings(self, done: Iterable[RehearsedMigration]) -> tuple[RehearsedMigration, ...]:
        """Add a finding for each query that a migration breaks or slows down."""
        return tuple(with_findings(each, self._regressions.found) for each in done)

    def _explained(self) -> tuple[dict[Runnable, QueryPlan], dict[Runnable, str]]:
        """Return the plans of queries, and the errors of those that cannot be planned.

        Tables that they read for the first time are analyzed before that.
        """
        plans, refused = self._explain()
        if new := frozenset(oid for plan in plans.values() for oid in plan.tables) - self._tables:
            self._tables |= new
            self._analyze(new)
            plans, refused = self._explain()
        return plans, refused

    def _explain(self) -> tuple[dict[Runnable, QueryPlan], dict[Runnable, str]]:
        plans, refused = {}, {}
        for query in self._queries:
            runnable.stop_if_interrupted(self._stage)
            try:
                plans[query] = _plan(self._stage.conn, query)
            except psycopg.Error as error:
                text = runnable.message(self._stage.conn, error)
                if runnable.is_refused(error):
                    refused[query] = text
        return plans, refused

    def _analyze(self, tables: frozenset[int]) -> None:
        """Analyze those of some tables, given by OID, that the queries read."""
        conn, role = self._stage.conn, self._stage.settings.role
        for oid, *name in conn.execute(_NAMES, [list(tables)]).fetchall():
            runnable.stop_if_interrupted(self._stage)
            if oid not in self._tables:
                continue
            try:
                with conn.transaction():
                    if role:
                        conn.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
                    conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*name)))
            except psycopg.Error as error:
                text = runnable.message(conn, error)
                label = names.quoted(name)
                self._stage.notify(Remarked(f"{label} could not be analyzed: {text}"))


def _changed(rehearsed: RehearsedMigration, tables: frozenset[int]) -> frozenset[int]:
    """Return the tables that a migration may have changed, by OID.

    Args:
        tables: All of them, as brief locks outside a transaction are not seen.
    """
    traces = [each.trace for each in rehearsed.traced]
    if any(trace.sampled for trace in traces):
        return tables
    return frozenset(t.relation.oid for trace in traces for t in trace.touches if _may_change(t))


def _may_change(touch: Touch) -> bool:
    return touch.mode is None or touch.mode >= LockMode.ROW_EXCLUSIVE


def _plan(conn: Connection, query: Runnable) -> QueryPlan:
    with conn.transaction(force_rollback=True):
        found = runnable.explain(conn, query)
        tables = frozenset(oid for (oid,) in conn.execute(_LOCKED).fetchall())
    nodes = [node for plan in found for node in _nodes(plan, "")]
    return QueryPlan(
        cost=sum(plan["Total Cost"] for plan in found),
        indexes=frozenset(
            names.quoted((schema, node["Index Name"]))
            for schema, node in nodes
            if "Index Name" in node
        ),
        scans=frozenset(
            names.quoted((schema, node["Relation Name"]))
            for schema, node in nodes
            if node["Node Type"] == "Seq Scan"
        ),
        tables=tables,
    )


def _nodes(node: Mapping[str, Any], schema: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each node of a plan, with the schema of the table that it reads.

    That of a Bitmap Index Scan is with its Bitmap Heap Scan, above it.
    """
    schema = node.get("Schema", schema)
    yield schema, node
    for child in node.get("Plans", ()):
        yield from _nodes(child, schema)


def _is_slower(before: QueryPlan, plan: QueryPlan) -> bool:
    """Whether a plan costs ten times as much, or clearly more without an index.

    A cheap one is not slower: small tables change their plans at every opportunity.
    """
    is_unindexed = bool(before.indexes - plan.indexes and plan.scans - before.scans)
    factor = _MORE if is_unindexed else _MUCH
    return plan.cost >= _CHEAP and plan.cost >= factor * before.cost


def _text(before: QueryPlan, plan: QueryPlan) -> str:
    """Say how a plan has changed."""
    costs = f"the planner's cost grew from {before.cost:,.0f} to {plan.cost:,.0f}"
    lost = sorted(before.indexes - plan.indexes)
    if not (lost and plan.scans - before.scans):
        return costs
    noun = "index" if len(lost) == 1 else "indexes"
    return f"{costs}, and the plan no longer uses the {noun} {listed(lost)}"


def _dropping(rehearsed: RehearsedMigration, indexes: frozenset[str]) -> Statement | None:
    """Return the statement that dropped one of some indexes; None if there is none."""
    for traced in rehearsed.traced:
        if any(t.dropped and t.relation.name in indexes for t in traced.trace.touches):
            return traced.statement
    return None
