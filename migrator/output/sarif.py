"""A rehearsal's report as SARIF 2.1.0, for a code host that shows findings in the files.

Source of the format: the OASIS standard "Static Analysis Results Interchange Format (SARIF)
Version 2.1.0", and GitHub's "SARIF support for code scanning".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath

from ..errors import BlockedError, Location, MigratorError
from ..hazards.catalogue import Finding, Severity, hazards
from ..history.recorder import tool_version
from ..rehearsal.report import RehearsedMigration, Report
from ..sql.location import locate
from .findings import message
from .json import Json

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FAILED = "migration-failed"
_DRIFT = "drift"
_OWN_RULES = {
    _FAILED: ("Migration failed", "The rehearsal of a migration ended with an error."),
    _DRIFT: ("Drift", "The database differs from what its history should have produced."),
}


def report_sarif(report: Report, folder: Path) -> Json:
    """Return a report as a SARIF document; paths are relative to `folder` if they are in it."""
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "migrator",
                        "version": tool_version(),
                        "rules": [*_rules()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"SRCROOT": {"uri": f"{folder.as_uri()}/"}},
                "results": [*_results(report, folder)],
            }
        ],
    }


def _rules() -> Iterator[Json]:
    for hazard in hazards().values():
        yield {
            "id": hazard.id,
            "shortDescription": {"text": hazard.title},
            "fullDescription": {"text": f"{hazard.condition} {hazard.effect}"},
            "help": {"text": hazard.workaround},
        }
    for rule, (title, condition) in _OWN_RULES.items():
        yield {
            "id": rule,
            "shortDescription": {"text": title},
            "fullDescription": {"text": condition},
        }


def _results(report: Report, folder: Path) -> Iterator[Json]:
    for rehearsed in report.migrations:
        for finding in rehearsed.findings:
            yield _of_finding(finding, rehearsed, folder)
        yield from (_of_error(each, rehearsed, folder) for each in _errors(rehearsed))
    if report.drift and report.drift.differences:
        # A code host shows only what is in a file: any of them will do.
        for rehearsed in report.migrations[:1]:
            labels = ", ".join(f"{each.sign} {each.label}" for each in report.drift.differences)
            yield _result(_DRIFT, "error", f"drift: {labels}", _file(rehearsed, folder))


def _errors(rehearsed: RehearsedMigration) -> tuple[MigratorError, ...]:
    error = rehearsed.error
    if isinstance(error, BlockedError):
        return tuple(error.errors)
    return (error,) if error else ()


def _of_finding(finding: Finding, rehearsed: RehearsedMigration, folder: Path) -> Json:
    script, statement = rehearsed.step.script, finding.statement
    place = _file(rehearsed, folder)
    if statement:
        first = locate(script.source, statement.offset, script.path)
        last = locate(script.source, statement.offset + len(statement.text), script.path)
        place["region"] = {
            "startLine": first.line,
            "startColumn": first.column,
            "endLine": last.line,
            "endColumn": last.column,
        }
    level = "note" if finding.severity is Severity.INFORMATION else "error"
    text = f"{message(finding)}. Instead: {finding.hazard.workaround}"
    result = _result(finding.hazard.id, level, text, place)
    if finding.accepted:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.accepted}]
    return result


def _of_error(error: MigratorError, rehearsed: RehearsedMigration, folder: Path) -> Json:
    place = _file(rehearsed, folder)
    location: Location | None = getattr(error, "location", None)
    if location:
        place["region"] = {"startLine": location.line, "startColumn": location.column}
    return _result(_FAILED, "error", error.message, place)


def _result(rule: str, level: str, text: str, place: Json) -> Json:
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


def _file(rehearsed: RehearsedMigration, folder: Path) -> Json:
    path = Path(rehearsed.step.script.path)
    inside = _inside(path, folder)
    if inside is None:
        return {"artifactLocation": {"uri": path.absolute().as_uri()}}
    # `as_uri` quotes what a URI must not hold, and takes absolute paths only.
    uri = PurePath("/", inside).as_uri().removeprefix("file:///")
    return {"artifactLocation": {"uri": uri, "uriBaseId": "SRCROOT"}}


def _inside(path: Path, folder: Path) -> PurePath | None:
    try:
        return path.resolve().relative_to(folder.resolve())
    except ValueError:
        return None
