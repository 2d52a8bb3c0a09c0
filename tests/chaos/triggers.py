"""Choose the moment of a fault: a statement on the wire, a time, or a state of the server."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import psycopg

from tests.proxy import Moment, StrikingProxy

# Where a run is worth being struck; each is true for as long as it is there.
_STATES = {
    "concurrently": """
        select from pg_stat_activity
        where datname = current_database()
          and state = 'active'
          and query ~* '^(create|drop|reindex|alter).* concurrently'
    """,
    "building": """
        select from pg_stat_progress_create_index
        where datname = current_database()
          and phase ~ 'building|validation'
    """,
    "waiting": """
        select from pg_stat_progress_create_index
        where datname = current_database()
          and phase ~ 'waiting'
    """,
    "in_step": "select from migration_versions where in_step is not null",
    "between units": """
        select from migration_versions
        where applied_at is null
          and in_step is null
          and statements_done > 0
    """,
    "in batches": "select from migration_versions where progress is not null",
    "sleeping": """
        select from pg_stat_activity
        where datname = current_database()
          and wait_event = 'PgSleep'
    """,
}
# A word of the statement, and how many statements behind it.
_AIMS = (("insert into", 0), ("insert into", 1), ("update", 0), ("commit", 0), ("commit", 1))
_AT_REPEATABLES = 0.25  # of the aimed rounds
_LONGEST = 8.0  # seconds after which a state has not come, and will not


@dataclass(frozen=True, slots=True)
class Trigger:
    """When to strike: exactly one of the three is given.

    Attributes:
        seconds: After the start of the process.
        state: A name in `_STATES`, and `seconds` behind it.
        is_settled: The server has first done all that it was sent until the moment.
    """

    moment: Moment | None = None
    seconds: float = 0.0
    state: str | None = None
    is_settled: bool = False

    def __str__(self) -> str:
        if self.moment:
            return str(self.moment)
        return f"{self.seconds:.3f} s after {self.state or 'the start'}"


def choose(random: Random, statements: Sequence[str], seconds: float) -> Trigger:
    """Draw a trigger for a run that sends such statements, in so many seconds."""
    match random.choices(["wire", "time", "state"], [5, 2, 3])[0]:
        case "wire":
            delay = random.choice([0.0, random.uniform(0, 0.01), random.uniform(0, 0.06)])
            before, withheld = random.random() < 0.5, random.random() < 0.6
            places: Sequence[int] = range(len(statements))
            if random.random() < 0.4:
                places = _landmarks(statements) or places
            moment = Moment(random.choice(places), delay, before, withheld and not before)
            return Trigger(moment)
        case "time":
            return Trigger(seconds=random.uniform(0, seconds * 1.1))
        case _:
            delay = random.choice([0.0, random.uniform(0, 0.005), random.uniform(0, 0.05)])
            return Trigger(seconds=delay, state=random.choice(list(_STATES)))


def aim(random: Random, statements: Sequence[str]) -> Trigger:
    """Draw a claim, a record, a commit or the statement after it: the first that is not done."""
    word, further = random.choice(_AIMS)
    # The repeatable files are the last: few statements of many.
    first = next(n for n, text in enumerate(statements) if _is_record(text, "repeatables"))
    start = first if random.random() < _AT_REPEATABLES else 0
    places = [
        number + further
        for number, text in enumerate(statements[:-1])
        if number >= start and word in text and (word == "commit" or _is_record(text))
    ]
    return Trigger(Moment(random.choice(places), 0.0, before=True), is_settled=True)


def _is_record(text: str, table: str = "(versions|repeatables)") -> bool:
    return re.search(rf"(insert into|update) \S*migration_{table}", text) is not None


def _landmarks(statements: Sequence[str]) -> Sequence[int]:
    """Give the places of what makes work last, and of what is sent behind it."""
    lasting = ("commit", "concurrently", "migration_versions")
    found = {n for n, text in enumerate(statements) if any(word in text for word in lasting)}
    return sorted(found | {n + 1 for n in found if n + 1 < len(statements)})


def arm(
    trigger: Trigger,
    proxy: StrikingProxy,
    url: str,
    ended: threading.Event,
    act: Callable[[], None],
) -> threading.Thread | None:
    """Have `act` called at the trigger's moment, once, unless the run has ended before."""
    if trigger.moment:
        proxy.act = act
        proxy.moment = trigger.moment
        return None

    def wait() -> None:
        if trigger.state:
            with contextlib.suppress(psycopg.OperationalError):
                _await_state(_STATES[trigger.state], url, ended)
        if not ended.wait(trigger.seconds) or not trigger.state:
            act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def _await_state(query: str, url: str, ended: threading.Event) -> None:
    deadline = time.monotonic() + _LONGEST
    with psycopg.connect(url, autocommit=True, application_name="watch") as conn:
        while not ended.wait(0.002) and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                if conn.execute(query.encode()).fetchone() is not None:
                    return
