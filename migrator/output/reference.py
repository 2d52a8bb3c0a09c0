"""The reference texts of `migrator help TOPIC`; the README prints the same data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from functools import cache

TOPICS = {
    "files": "Names of the files, and the options in them.",
    "hazards": "What `rehearse` warns about, and what to do instead.",
    "errors": "Error codes and exit codes.",
    "json": "The keys of --json.",
}
"""The topics, each with a sentence."""


@cache
def table(name: str) -> Mapping[str, str]:
    """Return a table of `reference.toml`."""
    import tomllib  # noqa: PLC0415  (--help lists the topics, and reads none)
    from importlib import resources  # noqa: PLC0415

    text = resources.files(__package__).joinpath("reference.toml").read_text(encoding="utf-8")
    tables: dict[str, dict[str, str]] = tomllib.loads(text)
    return tables[name]


def topic_text(topic: str, codes: Mapping[str, int], width: int) -> str:
    """Write a topic.

    Args:
        topic: One of `TOPICS`.
        codes: The exit code of each error code.
        width: In columns.
    """
    match topic:
        case "files":
            lines = (*_paragraphs(width), *_entries(table("file-options"), width))
        case "hazards":
            lines = tuple(_hazards(width))
        case "errors":
            errors = table("errors").items()
            coded = {f"{code} (exit code {codes[code]})": text for code, text in errors}
            exits = {f"exit code {code}": text for code, text in table("exit-codes").items()}
            lines = (*_entries(coded, width), *_entries(exits, width))
        case _:
            events = {f"event {name}": keys for name, keys in table("events").items()}
            lines = (
                *_wrapped("One document on stdout:", width, 0),
                "",
                *_entries(table("json"), width),
                *_wrapped("While it runs, one line for each event on stderr:", width, 0),
                "",
                *_entries(events, width),
            )
    return "\n".join(lines).rstrip()


def _paragraphs(width: int) -> Iterator[str]:
    for text in table("files").values():
        yield from (*_wrapped(text, width, 0), "")


def _hazards(width: int) -> Iterator[str]:
    from ..hazards.catalogue import hazards  # noqa: PLC0415  (only this topic needs it)

    for hazard in hazards().values():
        yield f"{hazard.id}: {hazard.title}"
        yield from _wrapped(hazard.condition, width, 2)
        yield from _wrapped(hazard.effect, width, 2)
        yield from (*_wrapped(f"Instead: {hazard.workaround}", width, 2), "")


def _entries(texts: Mapping[str, str], width: int) -> Iterator[str]:
    for name, text in texts.items():
        yield name
        yield from (*_wrapped(text, width, 4), "")


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(
        text,
        width,
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )
