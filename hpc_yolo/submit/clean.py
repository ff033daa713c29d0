"""Owns `hpc-yolo clean`: which files of runs only fill the disk, by rule, and their removal once somebody has seen the list.

Never touched: a run that is queued or trained; weights, results.csv, run.yaml, ledgers; the newest two snapshots of a run that
is not done; links, and whatever is not this project's.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.attempts import occupant
from hpc_yolo.errors import ConfigError, StorageError
from hpc_yolo.report.jobs import look
from hpc_yolo.report.status import SETTLED, status_of
from hpc_yolo.report.tables import counted, render, size
from hpc_yolo.rundir import RunDir, put_aside_of
from hpc_yolo.snapshot import expiry
from hpc_yolo.snapshot.reading import DamagedSnapshotError, read_raw
from hpc_yolo.types import RunState

#: A snapshot may turn out to be damaged.
_FEWEST = 2
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of files that may go."""

    states: frozenset[RunState]
    """Of which runs."""
    find: Callable[[RunDir], list[Path]]
    is_default: bool = True
    """Whether it holds where no rule is named."""


@dataclass(frozen=True, slots=True)
class Find:
    """What of one run goes by one rule."""

    run: RunDir
    rule: str
    paths: tuple[Path, ...]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"run": str(self.run.path), "rule": self.rule, "files": list(map(str, self.paths)), "bytes": self.bytes}


def _matching(run: RunDir, pattern: str) -> list[Path]:
    return sorted(run.path.glob(pattern))


def _old_logs(run: RunDir) -> list[Path]:
    files = [[it.stdout, it.stderr, *it.path.glob("rank*.log")] for it in run.attempts()[:-1]]
    return [path for group in files for path in group if path.is_file()]


def _older(run: RunDir) -> list[Path]:
    """What comes before the newest two that are whole, every byte of them read; nothing where there are no two."""
    snapshots, whole = expiry.by_use(run)[0], 0
    for index in reversed(range(len(snapshots))):
        with suppress(DamagedSnapshotError, StorageError):
            read_raw(snapshots[index])
            whole += 1
        if whole == _FEWEST:
            return snapshots[:index]
    return []


_DONE = frozenset({RunState.DONE})
#: docs/reference.md says what each is about.
RULES = {
    "snapshots": Rule(_DONE, lambda run: expiry.by_use(run)[0]),
    "older": Rule(SETTLED - _DONE, _older),
    "damaged": Rule(SETTLED, lambda run: _matching(run, "snapshots/*.bad")),
    "leftovers": Rule(SETTLED, lambda run: _matching(run, "*/.staged.a*")),
    "series": Rule(_DONE, lambda run: expiry.by_use(run)[1], is_default=False),
    "logs": Rule(SETTLED, _old_logs, is_default=False),
    "aside": Rule(_DONE, lambda _run: [], is_default=False),
}


def find(runs: Sequence[RunDir], rules: Sequence[str] = (), older_than_d: float = 0.0) -> list[Find]:
    """What would go. Slurm is asked once, and a run of which it says nothing is left alone unless it is done.

    Args:
        rules: names of RULES; those that are default where there are none.
        older_than_d: only runs in whose folder nothing has happened for so many days.

    Raises:
        ConfigError: there is no such rule.
    """
    for name in rules:
        if name not in RULES:
            raise ConfigError(f"there is no rule {name!r}. There is: {', '.join(RULES)}.")
    wanted = list(rules) or [name for name, rule in RULES.items() if rule.is_default]
    rows = look(runs, status_of)
    found = []
    for run, row in zip(runs, rows, strict=True):
        if row.state in SETTLED and _age_d(run) >= older_than_d:
            found += [_find(run, name, RULES[name].find(run)) for name in wanted if row.state in RULES[name].states]
    if "aside" in wanted:
        aside = [it for run in runs for it in put_aside_of(run) if _age_d(it) >= older_than_d]
        found += [_find(it, "aside", [it.path]) for it in aside]
    return [it for it in found if it.paths]


def remove(finds: Iterable[Find]) -> int:
    """Remove what was found, unless its run is queued or trained by now. Returns bytes.

    Raises:
        OSError
    """
    freed = 0
    every = list(finds)
    runs = list(dict.fromkeys(it.run for it in every))
    settled = {run for run, row in zip(runs, look(runs, status_of), strict=True) if row.state in SETTLED}
    for it in every:
        if (it.run not in settled and it.rule != "aside") or occupant(it.run) is not None:
            continue
        if it.rule in ("snapshots", "series"):
            freed += expiry.remove(it.run, it.paths)
            continue
        for path in it.paths:
            freed += _size(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return freed


def as_text(finds: Sequence[Find], freed: int | None) -> str:
    """A line a run and rule, and what it comes to.

    Args:
        freed: bytes, where it was removed.
    """
    if not finds:
        return "nothing to remove"
    rows = [(str(it.run.path), it.rule, str(len(it.paths)), size(it.bytes)) for it in finds]
    total = sum(it.bytes for it in finds)
    told = f"{size(total)} in {counted(sum(len(it.paths) for it in finds), 'file')}"
    end = f"removed: {size(freed)}" if freed is not None else f"{told}. Nothing was removed; --yes removes it"
    return f"{render(('RUN', 'RULE', 'FILES', 'SIZE'), rows)}\n\n{end}"


def as_json(finds: Sequence[Find], freed: int | None) -> str:
    values = {"found": [it.to_json() for it in finds], "bytes": sum(it.bytes for it in finds), "freed": freed}
    return json.dumps(values, indent=2)


def _find(run: RunDir, rule: str, paths: Iterable[Path]) -> Find:
    place = run.path.resolve()
    kept = tuple(path for path in paths if path.resolve() == place / path.relative_to(run.path))
    return Find(run, rule, kept, sum(map(_size, kept)))


def _size(path: Path) -> int:
    """Of a folder all that is in it, links not followed."""
    with suppress(OSError):
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode):
            return state.st_size
        return sum(_size(Path(entry.path)) for entry in os.scandir(path))
    return 0


def _age_d(run: RunDir) -> float:
    """Days since its newest attempt, or it itself, was last written to."""
    newest = run.attempts()[-1:]
    places = [run.path, *(it.path for it in newest), *(it.events for it in newest)]
    times = [path.stat().st_mtime for path in places if path.exists()]
    return (time.time() - max(times, default=time.time())) / _DAY_S
