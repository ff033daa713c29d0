"""Owns how rows become text on a terminal: columns, colour, short numbers and times. Knows no run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TextIO

from hpc_yolo.types import RunState

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_COLOURS = {
    RunState.RUNNING: "36",
    RunState.STOPPING: "33",
    RunState.REQUEUED: "33",
    RunState.DONE: "32",
    RunState.FAILED: "31",
    RunState.CANCELLED: "35",
}


def is_terminal(stream: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Whether a line on it can be rewritten."""
    return stream.isatty() and env.get("TERM") != "dumb"


def wants_colour(stream: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Only on a terminal that has it, and never against https://no-color.org."""
    return is_terminal(stream, env) and not env.get("NO_COLOR")


def paint(state: RunState, colour: bool) -> str:
    code = _COLOURS.get(state)
    return f"\x1b[{code}m{state.value}\x1b[0m" if colour and code else state.value


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one runs on."""
    lines = [header, *rows]
    widths = [max(_width(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(_line(line, widths) for line in lines)


def of_total(done: int, total: int | None) -> str:
    return f"{done}/{total}" if total is not None else str(done)


def short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """1:05 or 2:03:04."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _width(cell: str) -> int:
    return len(_ESCAPE.sub("", cell))
