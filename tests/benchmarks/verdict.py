"""Owns how a benchmark is judged and how it ends: medians with intervals, turns, one line of JSON, an exit code.

Knows no benchmark. The last line of each is `{"benchmark": ..., "ratio": ..., "low": ..., "high": ..., "holds": ...}`, with
what else it measured behind; the exit code is 0 where `holds` is true, and 1 where it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def median_of(values: Sequence[float]) -> Estimate:
    """The median, with the percentile bootstrap's 95 % interval; the same values give the same interval."""
    seen = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).choice(seen, (_RESAMPLES, len(seen)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return Estimate(float(np.median(seen)), float(low), float(high))


def ratio_of(ours: Sequence[float], other: Sequence[float]) -> Estimate:
    """The median ratio of pairs that were measured next to each other: what slows the machine down slows both."""
    return median_of([a / b for a, b in zip(ours, other, strict=True)])


def in_turn(sides: Sequence[str], rounds: int) -> Iterator[str]:
    """Each side once a round; every other round backwards, so that none is always the one that comes first."""
    for number in range(rounds):
        yield from sides if number % 2 == 0 else reversed(sides)


def conclude(benchmark: str, ratio: Estimate, *, holds: bool, **figures: Any) -> int:
    """Print the line of JSON that ends a benchmark; returns its exit code."""
    line = {"benchmark": benchmark, "ratio": ratio.value, "low": ratio.low, "high": ratio.high, "holds": bool(holds)}
    print(json.dumps(_rounded({**line, **figures})), flush=True)
    return 0 if holds else 1


def parser(doc: str) -> argparse.ArgumentParser:
    """One whose --help is the script's own docstring, with its examples."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="seconds, to see that it runs; its figures mean nothing")
    made.add_argument("--dir", help="folder for scratch files (default: the machine's temporary one)")
    return made


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print columns: the first to the left, the others to the right."""
    lines = [list(map(str, head)), *[list(map(str, row)) for row in rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        print("  ".join([first.ljust(widths[0]), *(t.rjust(w) for t, w in zip(rest, widths[1:], strict=True))]))
    print(flush=True)


def machine() -> str:
    """What the figures were measured on, without its name."""
    return f"{os.cpu_count()} CPU cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"


def child_environment() -> dict[str, str]:
    """For processes that a benchmark starts: this checkout's package, no network."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}


def note(text: str) -> None:
    """Tell a person who waits where it stands, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
