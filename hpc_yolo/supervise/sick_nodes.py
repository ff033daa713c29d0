"""Owns the list of nodes that the runs of one experiment stay off: which, until when, by whose word.

One line an entry, appended whole, so that many runs may write at once. A run that fails in the end takes back what it has said
of nodes: it was its own fault, or nobody's that is known.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.config import RetryConfig
from hpc_yolo.processes import node_name
from hpc_yolo.rundir import RunDir, sick_nodes
from hpc_yolo.supervise.endings import Past
from hpc_yolo.supervise.policy import Decision, Next, leave_sick_node

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class SickNode:
    """A node, and why its runs stay off it."""

    node: str
    run: str
    """The id of the run that it failed."""
    why: str
    until: float
    """Seconds since the epoch."""


def find(path: Path, node: str, now: float) -> SickNode | None:
    """The newest entry about the node that holds; None where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return next((it for it in reversed(holding(text, now)) if it.node == node), None)


def holding(text: str, now: float) -> list[SickNode]:
    """The entries that were not taken back and have not run out, oldest first. Pure."""
    found: list[SickNode] = []
    for values in _lines(text):
        if values.get("taken_back"):
            found = [it for it in found if it.run != values.get("run")]
        elif isinstance(values.get("node"), str) and isinstance(values.get("until"), int | float):
            told = str(values.get("run") or ""), str(values.get("why") or "")
            found.append(SickNode(values["node"], *told, float(values["until"])))
    return [it for it in found if it.until > now]


def note(path: Path, node: str, run: str, why: str, now: float, hours: float) -> None:
    _append(path, {"node": node, "run": run, "why": why, "until": round(now + hours * _HOUR_S)})


def take_back(path: Path, run: str, now: float) -> None:
    """Where the run has an entry that holds."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    if any(it.run == run for it in holding(text, now)):
        _append(path, {"run": run, "taken_back": True})


def _append(path: Path, values: dict[str, Any]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, (json.dumps(values) + "\n").encode())
    finally:
        os.close(fd)


def _lines(text: str) -> Iterator[dict[str, Any]]:
    """What a kill cut short is passed over."""
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield values


class NodeList:
    """The list as one start of a run uses it. A list that cannot be read or written keeps nobody from training.

    Args:
        can_move: a requeue may start the run elsewhere. Of several nodes it is not known which one is sick, and of several
            runs in a job the others would have to move along: then the list is left alone.
    """

    def __init__(self, run: RunDir, *, can_move: bool, clock: Callable[[], float] = time.time) -> None:
        self._path, self._run, self._clock = sick_nodes(run.path.parent), run.path.name, clock
        self._can_move = can_move
        self._has_looked = False

    def leave(self, past: Sequence[Past], retry: RetryConfig) -> Decision | None:
        """What follows where this node is on the list; asked for once a start, later it is None."""
        if self._has_looked or not self._can_move:
            return None
        self._has_looked = True
        with suppress(OSError):
            sick = find(self._path, node_name(), self._clock())
            if sick is not None:
                return leave_sick_node(past, f"{sick.node} has failed run {sick.run} ({sick.why})", retry)
        return None

    def tell(self, decision: Decision, retry: RetryConfig) -> None:
        """Put this node on the list, or take back what this run has put there, as the decision about its failure wants."""
        with suppress(OSError):
            if decision.is_node_sick and self._can_move and retry.exclude_h > 0:
                why = decision.cause or decision.why
                note(self._path, node_name(), self._run, why, self._clock(), retry.exclude_h)
            elif decision.next is Next.FAIL:
                take_back(self._path, self._run, self._clock())
