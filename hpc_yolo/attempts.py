"""Owns the claim on a run: who may start the next attempt, and whether an attempt is still the newest. No policy."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpc_yolo.errors import BusyError, StorageError
from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.heartbeat import STALE_AFTER_S, Beat, Heart, is_alive, read_beat
from hpc_yolo.processes import boot_id
from hpc_yolo.rundir import AttemptDir, RunDir

#: How far two clocks of a cluster may be apart: munge, and so Slurm, refuses what is older than five minutes.
_CLOCKS_APART_S = 300.0
#: Three beats.
_GLANCE_S = 6.0
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Occupant:
    """The living attempt that keeps others out."""

    attempt: AttemptDir
    pid: int
    host: str

    @property
    def who(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "a process that is just starting"


class Watch:
    """Tells who keeps a run, by looking again and again. No two machines' clocks are compared to decide it.

    A worker on this machine is asked for itself. The heartbeat of one elsewhere moves every two seconds; some file systems
    show that only half a minute later. So it lives if its heartbeat is seen to move, and is dead if that stands still for a
    minute under our eyes, or for a moment if it looks older than clocks can be apart; or at once, if it told its end.

    Args:
        now: seconds since the epoch; only a hint of how long to look.
        clock: ours, for how long we have looked.
    """

    def __init__(
        self, run: RunDir, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.newest = 0
        """The number of the attempt that was looked at; 0 where there is none."""
        self.is_sure = False
        self._run, self._now, self._clock = run, now, clock
        self._seen: tuple[int, Beat | None] | None = None
        self._seen_at = 0.0

    def look(self) -> Occupant | None:
        """The newest attempt while its process lives, or may live; None if the run is free.

        An attempt that has no heartbeat yet is judged like one elsewhere: its claimer is about to write one.
        """
        attempts = self._run.attempts()
        self.newest = attempts[-1].number if attempts else 0
        if not attempts:
            self.is_sure = True
            return None
        beat = read_beat(attempts[-1].heartbeat)
        taken = Occupant(attempts[-1], beat.pid if beat else 0, beat.host if beat else "")
        if beat is not None and beat.boot == boot_id():
            self.is_sure = True
            return taken if is_alive(beat) else None
        return taken if self._seems_alive(attempts[-1], beat) else None

    def _seems_alive(self, attempt: AttemptDir, beat: Beat | None) -> bool:
        if _has_ended(attempt):
            self.is_sure = True
            return False
        seen, before = (attempt.number, beat), self._seen
        if seen != before:
            self._seen, self._seen_at = seen, self._clock()
            self.is_sure = before is not None
            return True
        stood_s = self._clock() - self._seen_at
        age_s = self._now() - (attempt.path.stat().st_mtime if beat is None else beat.time)
        self.is_sure = stood_s >= (_GLANCE_S if age_s > STALE_AFTER_S + _CLOCKS_APART_S else STALE_AFTER_S)
        return not self.is_sure


def _has_ended(attempt: AttemptDir) -> bool:
    """Whether its ledger says that nobody works for it any more, nor is about to start another attempt."""
    events = list(read_events(attempt.events))
    ended = [event.fields.get("next") for event in events if event.kind is Kind.ATTEMPT_ENDED]
    if any(event.fields.get("role") == "supervisor" for event in events):
        return bool(ended) and ended[-1] not in ("restart", "requeue")
    return any(event.kind in (Kind.STOPPED, Kind.FINISHED, Kind.FAILED) for event in events)


def occupant(run: RunDir, watch: Watch | None = None) -> Occupant | None:
    """The newest attempt if its process lives, or None if the run is free. Of another machine's it takes a look of seconds."""
    watch = watch or Watch(run)
    taken, is_told = watch.look(), False
    while taken is not None and not watch.is_sure:
        if not is_told:
            print(f"hpc-yolo: looking whether {taken.who} still trains {run.path}", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(_LOOK_EVERY_S)
        taken = watch.look()
    return taken


def is_young(attempt: AttemptDir, now: float | None = None) -> bool:
    """Whether it was claimed just now, so that its claimer is about to write the first heartbeat."""
    try:
        return (time.time() if now is None else now) - attempt.path.stat().st_mtime < STALE_AFTER_S
    except OSError:
        return False


def busy(run: RunDir, taken: Occupant) -> BusyError:
    return BusyError(
        f"{run.path} is being trained already, by {taken.who} (attempt {taken.attempt.number}). "
        f"Follow it with `hpc-yolo logs -f {run.path}`, or stop it first."
    )


def claim(run: RunDir, past: int | None = None) -> AttemptDir:
    """Start the next attempt: atomically take the next number and copy what it is launched with into it.

    Args:
        past: the newest attempt, which was judged to have lost the run, alive or not (the same Slurm job with a higher restart
            count may); 0 where there is none. By default it is judged here.

    Raises:
        BusyError: another attempt lives, or two starts raced and this one lost.
        StorageError: the run directory cannot be written.
    """
    if past is None:
        watch = Watch(run)
        taken = occupant(run, watch)
        if taken is not None:
            raise busy(run, taken)
        past = watch.newest
    attempt = run.attempt(past + 1)
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
    return end_of(run) is not None


def end_of(run: RunDir) -> tuple[AttemptDir, Event] | None:
    """The attempt that completed the run, and its event that says so."""
    for attempt in reversed(run.attempts()):
        if (event := read_events(attempt.events).first(Kind.FINISHED)) is not None:
            return attempt, event
    return None


def is_newest(run: RunDir, attempt: AttemptDir) -> bool:
    """Whether no later attempt has superseded this one: only the newest may write into the run directory.

    Attempts are claimed one after the other, so a single question to the storage tells.
    """
    return not run.attempt(attempt.number + 1).path.exists()
