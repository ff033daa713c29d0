"""Owns what a supervisor on Slurm does for other runs of its experiment: frees those that Slurm holds for a failed launch.

All of them look in turn: one squeue in `retry.release_every_s` for the whole experiment, however many run.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.frozen import load_launch
from hpc_yolo.rundir import RunDir, look_mark, runs_of
from hpc_yolo.slurm.held import Held, find_held, release_held
from hpc_yolo.slurm.queue import read_queue
from hpc_yolo.submissions import newest_submission
from hpc_yolo.supervise import tree


def start_looking(run: RunDir) -> None:
    """In a thread of its own, for as long as this process lives: Slurm or the storage may take their time."""
    threading.Thread(target=_keep_looking, args=(run,), name="siblings", daemon=True).start()


def look(run: RunDir, every_s: float, clock: Callable[[], float] = time.time) -> list[Held]:
    """Release what is held of the run's experiment, unless somebody has looked less than `every_s` seconds ago.

    Raises:
        SlurmError: it does not answer.
    """
    if not _is_our_turn(look_mark(run.path.parent), every_s, clock()):
        return []
    own = newest_submission(run)
    if own is None:
        return []
    return release_held(find_held(list(runs_of(run.path.parent)), read_queue([own.user])), by=run.path.name)


def _keep_looking(run: RunDir) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, tree.WARNINGS)  # theirs is the main thread
    every_s = 0.0
    with suppress(HpcYoloError, OSError):
        every_s = load_launch(run.launch_yaml).retry.release_every_s
    while every_s > 0:
        time.sleep(every_s * random.uniform(0.5, 1.0))  # not all of an array at once
        with suppress(HpcYoloError, OSError):
            for it in look(run, every_s):
                print(f"hpc-yolo: {it}", flush=True)


def _is_our_turn(mark: Path, every_s: float, now: float) -> bool:
    with suppress(FileNotFoundError):
        if now - mark.stat().st_mtime < every_s:
            return False
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    os.utime(mark, (now, now))
    return True
