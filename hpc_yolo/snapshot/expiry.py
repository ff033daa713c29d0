"""Owns the end of a done run's snapshots: once nobody will go on from them, they only fill the disk. Weights stay.

Nothing of ours runs once the last job has ended, so runs are looked after by those beside them: at each end of a run, and
at each submission into the same folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from hpc_yolo.attempts import end_of
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.frozen import load_launch
from hpc_yolo.rundir import RunDir, runs_of
from hpc_yolo.snapshot.reading import entries, state_in


def expire_all(experiment: Path, now: float | None = None) -> int:
    """Remove the snapshots of the runs of one experiment that were done longer ago than their `snapshot.ttl_h`.

    What cannot be removed, or is no run that can be read, is left for the next time.

    Returns:
        How many bytes were freed.
    """
    at = time.time() if now is None else now
    freed = 0
    for run in runs_of(experiment):
        try:
            freed += expire(run, at)
        except (OSError, HpcYoloError):
            continue
    return freed


def expire(run: RunDir, now: float) -> int:
    """Remove what is resumable of one run, if its time is over; those of `snapshot.series` stay. Returns bytes.

    Raises:
        HpcYoloError: its launch.yaml cannot be read.
        OSError
    """
    going, _ = by_use(run)
    if not going or (found := end_of(run)) is None:
        return 0
    _, end = found
    ttl_h = load_launch(run.launch_yaml).snapshot.ttl_h
    if ttl_h is None or now - end.time < 3600 * ttl_h:
        return 0
    return remove(run, going, ttl_h)


def by_use(run: RunDir) -> tuple[list[Path], list[Path]]:
    """The snapshots of a run that are there to go on from, and those of its `snapshot.series`; each from old to new.

    Which are of the series, the newest one that can be read says; where none can, nothing is told of any.
    """
    held = entries(run.snapshots_dir)
    state = next((found for it in reversed(held) if (found := state_in(it.path)) is not None), None)
    if state is None:
        return [], []
    series = (state.get("kept") or {}).get("series") or ()
    return [it.path for it in held if it.step not in series], [it.path for it in held if it.step in series]


def remove(run: RunDir, snapshots: Sequence[Path], ttl_h: float | None = None) -> int:
    """Remove snapshots of a done run from old to new: whatever ends us leaves the newest. Returns bytes; it is told.

    Args:
        ttl_h: after which time they go; None where a person removes them.
    """
    freed = sum(_remove(path) for path in snapshots)
    if snapshots and (found := end_of(run)) is not None:
        Ledger(found[0].events).append(Kind.SNAPSHOTS_EXPIRED, files=len(snapshots), bytes=freed, ttl_h=ttl_h)
    return freed


def _remove(path: Path) -> int:
    """Another process may be at the same work."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
