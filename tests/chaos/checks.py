"""What must hold after a run, whatever struck it; every violation is a sentence."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator
from typing import Any

import psycopg

from .histories import History, Version
from .runs import Run
from .snapshots import Contents, Expected, Record, State, take, total

_TROUBLE = re.compile(r"Traceback|AssertionError|Exception ignored|Fatal Python|Warning:")
_ROLLED_BACK = re.compile(r"([0-9]\S+) was rolled back completely\.")
_STOPS = re.compile(r"([0-9]\S+) (?:stopped at this statement|was interrupted;)")
_STAYS = re.compile(r"Already applied in this run, and kept: ([\w, ]+)\.")
_MAY_BE_LOST = re.compile(r"Committed, but lost if the server has crashed: ([\w, ]+)\.")
_PATIENCE = 5.0  # seconds that a server may take to end sessions without a client
_LEFT = {"broken", "detaching"}


def explained(history: History, expected: Expected, state: State) -> Iterator[str]:
    """Compare a database with what its own history table says of it."""
    records, versions, first = state.records, history.versions, 0
    yield from _batched(history, state)
    if history.squashed and records and records[0].version == history.present[0].name:
        versions, first = history.present, history.squashed - 1
    for record, version in zip(records, versions, strict=False):
        if record.version != version.name:
            yield f"the history has {record.version} where {version.name} is due"
            return
    for record, version in zip(records[:-1], versions, strict=False):
        yield from _wrongly_finished(record, version)
    if not records:
        yield from _differences(expected.before[0, 0], state.contents)
        return
    index, last = len(records) - 1, records[-1]
    if state.repeatables and (len(records) < len(versions) or not last.applied):
        yield f"{sorted(state.repeatables)} came before {versions[index].name}"
    yield from _too_early(history, state.repeatables)
    if last.applied:
        yield from _wrongly_finished(last, versions[index])
        wanted = dict(expected.before[first + index + 1, 0])
        for name in state.repeatables:
            wanted |= expected.added[name]
        yield from _differences(wanted, state.contents)
    else:
        yield from _interrupted(expected, first + index, versions[index], state)


def _batched(history: History, state: State) -> Iterator[str]:
    """Count what statements in batches have done: each row once, and no less than is recorded."""
    records = {record.version: record for record in state.records}
    for version in history.versions:
        record = records.get(version.name)
        for index, unit in enumerate(version.units):
            tally = state.tallies.get(unit.batched)
            if tally is None:
                continue
            yield from tally.wrong
            if version in history.early or (record and (record.applied or record.done > index)):
                if tally.missed:
                    yield f"{unit.batched}: {tally.missed} are not done"
            elif tally.done < (record.rows if record else 0):
                yield f"{unit.batched}: only {tally.done} are done, and {record} says more"


def _too_early(history: History, applied: Collection[str]) -> Iterator[str]:
    for each in history.repeatables:
        if each.name in applied and each.needs and each.needs not in applied:
            yield f"{each.name} came before {each.needs}"


def _wrongly_finished(record: Record, version: Version) -> Iterator[str]:
    if (record.applied, record.done, record.in_step) != (True, total(version), False):
        yield f"{record} of a finished version that has {total(version)} units"


def _interrupted(expected: Expected, index: int, version: Version, state: State) -> Iterator[str]:
    """Compare a database in the middle of a version, with one unit under way at the most."""
    record = state.records[-1]
    if version.transactional:
        yield f"{record}, though it is transactional"
        return
    before = expected.before[index, record.done]
    behind = expected.before.get((index, record.done + 1), before)
    is_alone = record.done < len(version.units) and version.units[record.done].alone
    if not is_alone:
        if record.in_step:
            yield f"{record}, though that unit is transactional"
        yield from _differences(before, state.contents)
        return
    found = {k: v for k, v in state.contents.items() if k.partition(" ")[0] not in _LEFT}
    touched = _differing(before, behind)
    for key in _differing(before, found):
        is_possible = key in touched and record.in_step and found.get(key) == behind.get(key)
        if not is_possible and not _is_detaching(key, state.contents):
            yield f"{record}: {key} is {found.get(key)!r}, not {before.get(key)!r}"


def _is_detaching(key: str, contents: Contents) -> bool:
    """Whether a partition is halfway out: it has a constraint of its own in place of its bounds."""
    table = key.split()[1]
    return f"detaching {table}" in contents and key.startswith(("partition ", "constraint "))


def _differing(one: Contents, other: Contents) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def _differences(expected: Contents, found: Contents) -> Iterator[str]:
    for key in sorted(_differing(expected, found)):
        yield f"{key} is {found.get(key)!r}, not {expected.get(key)!r}"


def truthful(run: Run, state: State, before: Collection[str], *, alone: bool) -> Iterator[str]:
    """Compare what a run said with what is in the database.

    Args:
        before: What was applied when it began, by name.
        alone: No other runner was at work meanwhile.
    """
    yield from _untroubled(run)
    applied = state.applied
    said, output = run.said, run.stdout + run.stderr
    stays, may_be_lost = _names(_STAYS, output, said), _names(_MAY_BE_LOST, output, said)
    lost = set(said) - applied - (set(may_be_lost) if run.code == 6 else set())
    yield from (f"it said {name} was applied, but it is not" for name in sorted(lost))
    if (stays or may_be_lost) and [*stays, *may_be_lost] != said:
        yield f"it summed up {stays} and {may_be_lost}, and had said {said}"
    if "Nothing else changed in this run" in output and said:
        yield f"it said that nothing was changed, and had applied {', '.join(said)}"
    if alone:
        unsaid = applied - set(before) - set(said)
        yield from _complete(run, unsaid)
        yield from _right_about_the_last(output, state)


def _names(sentence: re.Pattern[str], output: str, said: list[str]) -> list[str]:
    """Read versions out of a message, which says of many how many, the first and the last."""
    found = sentence.search(output)
    if not found:
        return []
    if span := re.fullmatch(r"([0-9]+) migrations, (\w+) to (\w+)", found[1]):
        count, first, last = span.groups()
        if {first, last} <= set(said):
            names = said[said.index(first) : said.index(last) + 1]
            return names if len(names) == int(count) else [found[1]]
    return found[1].split(", ")


def _complete(run: Run, unsaid: set[str]) -> Iterator[str]:
    # Of commits whose answers were lost nobody knows, and the message says so.
    is_unknown = "migrator status" in run.stdout + run.stderr and run.code in (6, 130, 143)
    if unsaid and run.code >= 0 and not is_unknown:
        yield f"it did not say that {', '.join(sorted(unsaid))} was applied"


def _right_about_the_last(output: str, state: State) -> Iterator[str]:
    applied = {record.version: record.applied for record in state.records}
    for name in _ROLLED_BACK.findall(output):
        if applied.get(name):
            yield f"it said {name} was rolled back, and it is applied"
    for name in _STOPS.findall(output):
        if applied.get(name) is not False:
            yield f"it said {name} stops at a step, and the history does not know it"


def _untroubled(run: Run) -> Iterator[str]:
    """Look for what no user should ever read; SIGABRT is how we ask a run where it hangs."""
    if run.code != -6 and _TROUBLE.search(run.stderr):
        yield "a traceback"
    if run.as_json and run.code >= 0 and not is_json(run):
        yield "with --json it wrote what is no JSON"


def is_json(run: Run) -> bool:
    """Whether all that a run with `--json` wrote is what it promises: a document, and lines."""
    try:
        json.loads(run.stdout)
        for line in run.stderr.splitlines():
            json.loads(line)
    except ValueError:
        return False
    return True


def tidy(conn: psycopg.Connection[Any]) -> Iterator[str]:
    """Look for sessions, locks and broken objects in a database that nobody uses any more."""
    for who in wait_for_sessions(conn):
        yield f"a session is left: {who}"
    for lock in conn.execute(_ADVISORY).fetchall():
        yield f"an advisory lock is left: {lock}"
    for (name,) in conn.execute(_BROKEN).fetchall():
        yield f"{name} is left invalid"
    doubled = "select version, count(*) from migration_log where (action, outcome) = ('up', 'done')"
    for row in conn.execute(f"{doubled} group by 1 having count(*) <> 1".encode()).fetchall():
        yield f"the log counts wrongly: {row}"


_SESSIONS = """
select format('%s %s, %s: %s', pid, application_name, state, left(query, 200))
from pg_stat_activity
where datname = current_database()
  and pid <> pg_backend_pid()
  and backend_type = 'client backend'
"""
_ADVISORY = """
select pid, classid, objid
from pg_locks
where locktype = 'advisory'
  and database = (select oid from pg_database where datname = current_database())
"""
_BROKEN = """
select c.oid::regclass::text
from pg_index i
join pg_class c on c.oid = i.indexrelid
where not (i.indisvalid and i.indisready and i.indislive)
   or c.relname ~ '_cc(new|old)'
union all
select inhrelid::regclass::text
from pg_inherits
where to_jsonb(pg_inherits) ->> 'inhdetachpending' = 'true'  -- a column from 14 on
"""


def wait_for_sessions(conn: psycopg.Connection[Any]) -> list[str]:
    """Wait until no other client is connected to this database; give who still is."""
    deadline = time.monotonic() + _PATIENCE
    while rows := conn.execute(_SESSIONS.encode()).fetchall():
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return [who for (who,) in rows]


def explained_soon(
    conn: psycopg.Connection[Any], history: History, expected: Expected
) -> tuple[State, list[str]]:
    """Check a database at once; where it is inexplicable, again without those still at work.

    The functions that write a definition see what is newer than the transaction that asks.
    """
    state = take(conn)
    if violations := list(explained(history, expected, state)):
        wait_for_sessions(conn)
        state = take(conn)
        violations = list(explained(history, expected, state))
    return state, violations
