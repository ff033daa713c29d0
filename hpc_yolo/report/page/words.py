"""Owns how numbers, times and states read on a report. Pure."""

from __future__ import annotations

import time

from hpc_yolo.types import RunState, StopReason

#: A sign beside each word, so that none is told by colour alone.
STATES = {
    RunState.PENDING: "…",
    RunState.RUNNING: "▶",
    RunState.STOPPING: "◐",
    RunState.REQUEUED: "↻",
    RunState.DONE: "✓",
    RunState.FAILED: "✕",
    RunState.CANCELLED: "■",
}

#: The causes that allocated time is split by, in the order of the bars: name, word, what it means.
CAUSES = (
    ("productive", "productive", "training and validation whose result stayed"),
    ("start_up", "start-up", "from an attempt's start to the end of its first batch"),
    ("restore", "restore", "reading and verifying snapshots"),
    ("save", "save", "pauses for copies of the state; saving and leaving at a stop and at the end"),
    ("redone", "redone", "training that was lost with an attempt, and done again"),
    ("other", "other", "from a failure to the attempt's end, pauses before a restart in place"),
)

#: In place of what there is none of.
NONE = "\N{EN DASH}"
_NO_WORD = "left no word"


def reason_word(reason: str | None) -> str:
    known = {it.value: it.value.replace("_", " ") for it in StopReason}
    return known.get(reason or "", reason or _NO_WORD)


def number(value: float | None, digits: int = 4) -> str:
    """Short; a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}g}"


def count(value: float | None) -> str:
    """Whole, its thousands apart."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float | None) -> str:
    if share is None:
        return NONE
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def spoken(seconds: float) -> str:
    """3 h 12 min, 4 min 5 s, 12.5 s."""
    if seconds < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def hours(value: float) -> str:
    """Hours, with as many digits as they are worth."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def moment(seconds: float) -> str:
    """In this machine's zone, which the page's foot names."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
