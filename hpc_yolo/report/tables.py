"""Owns how rows become text on a terminal: columns, colour, short numbers and times. Knows no run."""

from __future__ import annotations

import os
import re
import shutil
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


def fit(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, expendable: Sequence[str]) -> str:
    """`render`, without as many of the `expendable` columns, the first ones first, as make the others fit into `width`.

    The last column does not count: it runs on, over the edge where it must.
    """
    if width is None:
        return render(header, rows)
    kept = list(range(len(header)))
    for name in expendable:
        widths = [max(_width(line[i]) for line in [header, *rows]) for i in kept[:-1]]
        if sum(widths) + 2 * len(widths) <= width:
            break
        kept = [i for i in kept if header[i] != name]
    return render([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def cut(line: str, width: int) -> str:
    """The line's first `width` columns; colours count for nothing, and none stays on behind the cut."""
    if _width(line) <= width:
        return line
    kept, room, parts = "", width, re.split(f"({_ESCAPE.pattern})", line)
    for part in parts:
        is_escape = _ESCAPE.fullmatch(part) is not None
        kept += part if is_escape else part[:room]
        room -= 0 if is_escape else len(part[:room])
    return kept


def terminal_size(stream: TextIO) -> tuple[int, int] | None:
    """Columns and lines of the terminal behind it; None where there is none."""
    if not is_terminal(stream):
        return None
    found = shutil.get_terminal_size()
    return found.columns, found.lines


def window(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the very terminal that the stream is; 80 and 24 where that is not known."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns or 80, found.lines or 24


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"


def of_total(done: int, total: int | None) -> str:
    return f"{done}/{total}" if total is not None else str(done)


def short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """1:05 or 2:03:04."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(count_bytes: int) -> str:
    """Such as 31.6 MB."""
    power = min((len(str(count_bytes)) - 1) // 3, 4)
    return f"{count_bytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _width(cell: str) -> int:
    return len(_ESCAPE.sub("", cell) if "\x1b" in cell else cell)
