"""Take apart the definitions of objects, as `snapshot.sql` writes them."""

from __future__ import annotations

import re

NAME = r'(?:"(?:[^"]|"")*"|[^\s."(]+)'
"""One part of a name, as PostgreSQL quotes it."""

_OPTIONS = r"(?: with \((?P<options>.*?)\))?"
COLUMN = re.compile(
    rf"(?P<type>.+?)(?: collate (?P<collation>{NAME}(?:\.{NAME})?))?(?P<required> not null)?"
    rf"(?: constraint (?P<constraint>{NAME}))?(?P<alone> no inherit)?(?P<unchecked> not valid)?"
    r"(?: generated (?P<identity>always|by default) as identity)?"
    r"(?: default (?P<default>.+?)| generated always as \((?P<expression>.+?)\) "
    r"(?P<kept>stored|virtual))?"
    r"(?: storage (?P<storage>\w))?(?: compression (?P<compression>\w))?"
    rf"(?: statistics (?P<statistics>\d+))?{_OPTIONS}(?: options \(.*\))?"
    r"(?P<inherited> inherited)?",
    re.DOTALL,
)
TABLE = re.compile(
    r"(?:(?P<unlogged>unlogged) ?)?(?:of (?P<type>\S+) ?)?(?:partition by (?P<key>\w+ \(.+?\)) ?)?"
    rf"(?:partition of (?P<parent>{NAME}\.{NAME}) ?|inherits (?P<parents>{NAME}\.{NAME}"
    rf"(?:, {NAME}\.{NAME})*) ?)?(?P<bound>(?:FOR VALUES|DEFAULT).*?)??"
    rf" ?(?:using (?P<method>{NAME}))?{_OPTIONS.replace('(?: with', '(?: ?with')}"
    r"(?: ?toast \((?P<toast>.*?)\))?(?P<security> ?row level security)?"
    r"(?P<forced> ?forced row level security)?(?: ?replica identity (?P<replica>nothing|full))?",
    re.DOTALL,
)
SEQUENCE = re.compile(
    r"(?:(?P<unlogged>unlogged) )?as (?P<type>.+?) start (?P<start>-?\d+) increment (?P<step>-?\d+)"
    r" from (?P<least>-?\d+) to (?P<most>-?\d+) cache (?P<cache>\d+)(?P<cycle> cycle)?"
    r"(?: owned by (?P<owner>.+))?"
)
INDEX = re.compile(
    r"(?P<sql>.+?)(?P<attached> attached to .+?)?(?P<invalid> invalid)?(?P<cluster> cluster)?"
    r"(?P<replica> replica identity)?(?: statistics (?P<statistics>[\d:, ]+))?",
    re.DOTALL,
)
STATE = re.compile(
    r"(?P<sql>.+?)(?P<state> disabled| enabled for replicas| enabled always)?", re.DOTALL
)
TARGET = re.compile(r" target (\d+)$")
