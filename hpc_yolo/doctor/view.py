"""Owns how findings are shown: a table and advices within 80 columns, or JSON. Pure."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence

from hpc_yolo.doctor.finding import Finding, Level, exit_code
from hpc_yolo.report.tables import counted

_MARKS = {Level.WELL: "ok", Level.NOTE: "note", Level.WARN: "WARN", Level.BAD: "BAD"}
_COLOURS = {Level.WELL: "32", Level.WARN: "33", Level.BAD: "31"}
_MARK_WIDTH = 4


def as_text(findings: Sequence[Finding], colour: bool, width: int = 80) -> str:
    """Every finding in the order of the look, then what to do, the worst first."""
    named = max((len(it.name) for it in findings), default=0)
    rows = [line for it in findings for line in _row(it, named, colour, width)]
    worst_first = sorted((it for it in findings if it.advice), key=lambda it: -it.level)
    advices = [line for it in worst_first for line in _advice(it, colour, width)]
    return "\n".join([*rows, "", *advices, *([""] if advices else []), summary(findings)])


def as_json(findings: Sequence[Finding]) -> str:
    counts = Counter(it.level.name.lower() for it in findings)
    return json.dumps(
        {
            "exit_code": int(exit_code(findings)),
            "levels": {it.name.lower(): counts[it.name.lower()] for it in Level},
            "findings": [it.to_json() for it in findings],
        },
        indent=2,
    )


def summary(findings: Sequence[Finding]) -> str:
    counts = Counter(it.level for it in findings)
    if counts[Level.BAD]:
        return f"{counted(counts[Level.BAD], 'thing')} to change before you submit."
    if counts[Level.WARN]:
        return f"Runs work here; {counted(counts[Level.WARN], 'thing')} to look at."
    return "All is well."


def _row(finding: Finding, named: int, colour: bool, width: int) -> list[str]:
    indent = " " * (_MARK_WIDTH + 2 + named + 2)
    lines = _wrap(finding.said, width - len(indent)) or [""]
    first = f"{_mark(finding.level, colour)}  {finding.name:<{named}}  {lines[0]}"
    return [first, *(indent + line for line in lines[1:])]


def _advice(finding: Finding, colour: bool, width: int) -> list[str]:
    lines = _wrap(f"{finding.name}: {finding.advice}", width - _MARK_WIDTH - 2)
    return [f"{_mark(finding.level, colour)}  {lines[0]}", *(" " * (_MARK_WIDTH + 2) + line for line in lines[1:])]


def _wrap(text: str, width: int) -> list[str]:
    """Values that are to be copied stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _mark(level: Level, colour: bool) -> str:
    mark = f"{_MARKS[level]:<{_MARK_WIDTH}}"
    code = _COLOURS.get(level)
    return f"\x1b[{code}m{mark}\x1b[0m" if colour and code else mark
