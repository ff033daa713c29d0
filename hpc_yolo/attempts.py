"""Owns the claim on a run: who may start the next attempt, and whether an attempt is still the newest. No policy."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass

from hpc_yolo.errors import BusyError, StorageError
from hpc_yolo.events import Kind, read_events
from hpc_yolo.heartbeat import STALE_AFTER_S, Heart, is_alive, read_beat
from hpc_yolo.rundir import AttemptDir, RunDir


@dataclass(frozen=True, slots=True)
class Occupant:
    """The living attempt that keeps others out."""

    attempt: AttemptDir
    pid: int
    host: str


def occupant(run: RunDir, now: float | None = None) -> Occupant | None:
    """The newest attempt if its process lives, or None if the run is free.

    An attempt that has no heartbeat yet counts as alive while its folder is young: its claimer is about to write one.
    """
    attempts = run.attempts()
    if not attempts:
        return None
    newest = attempts[-1]
    beat = read_beat(newest.heartbeat)
    if beat is None:
        return Occupant(newest, 0, "") if is_young(newest, now) else None
    return Occupant(newest, beat.pid, beat.host) if is_alive(beat, now) else None


def is_young(attempt: AttemptDir, now: float | None = None) -> bool:
    """Whether it was claimed just now, so that its claimer is about to write the first heartbeat."""
    try:
        return (time.time() if now is None else now) - attempt.path.stat().st_mtime < STALE_AFTER_S
    except OSError:
        return False


def claim(run: RunDir, supersede: bool = False) -> AttemptDir:
    """Start the next attempt: atomically take the next number and copy what it is launched with into it.

    Args:
        supersede: go past a living attempt (the same Slurm job with a higher restart count may).

    Raises:
        BusyError: another attempt lives, or two starts raced and this one lost.
        StorageError: the run directory cannot be written.
    """
    taken = occupant(run)
    if taken is not None and not supersede:
        where = f"process {taken.pid} on {taken.host}" if taken.pid else "a process that is just starting"
        raise BusyError(
            f"{run.path} is being trained already, by {where} (attempt {taken.attempt.number}). "
            f"Follow it with `hpc-yolo logs -f {run.path}`, or stop it first."
        )
    attempts = run.attempts()
    attempt = run.attempt(attempts[-1].number + 1 if attempts else 1)
    try:
        run.attempts_dir.mkdir(exist_ok=True)
        os.mkdir(attempt.path)  # the claim: exactly one of two racing starts gets it
        if run.launch_yaml.exists():
            shutil.copyfile(run.launch_yaml, attempt.launch_yaml)
        Heart(attempt.heartbeat).close()  # speaks for the claimer until the worker's own heartbeat replaces it
    except FileExistsError:
        raise BusyError(f"{run.path} was claimed by another start at this moment. Try again in a minute.") from None
    except OSError as error:
        raise StorageError(
            f"cannot write {attempt.path}: {error.strerror}. Check its owner, permissions and quota."
        ) from error
    return attempt


def is_done(run: RunDir) -> bool:
    """Whether some attempt has completed the run."""
    return any(
        event.kind is Kind.FINISHED for attempt in reversed(run.attempts()) for event in read_events(attempt.events)
    )


def is_newest(run: RunDir, attempt: AttemptDir) -> bool:
    """Whether no later attempt has superseded this one: only the newest may write into the run directory."""
    return run.attempts()[-1].number <= attempt.number
