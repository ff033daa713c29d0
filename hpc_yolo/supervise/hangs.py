"""Owns noticing that a worker hangs: it lives, but it gets no further, for longer than its own pace explains.

Told from the heartbeat's position, not from its time: a thread of the worker renews that while the training stands still. Where
that thread is silent too, the storage may be what hangs: then whoever looks must get through to it himself first.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from hpc_yolo.heartbeat import Beat, read_beat
from hpc_yolo.processes import STACKS_SIGNAL
from hpc_yolo.rundir import AttemptDir
from hpc_yolo.types import Phase

_LOOK_S = 1.0
#: A step's bound is so many times the longest one so far, and never less than that (seconds).
#: A file server that fails over may take ten minutes, and NCCL's own watchdog waits as long.
_TIMES, _LEAST_S = 20.0, 600.0
#: What nothing is known of yet: the first batch of an epoch (workers, compilation), a validation, the end (seconds).
_GENEROUS_S = 3600.0
#: Start-up, in which upstream reads every label of a new data set, and may cache every image (seconds).
_START_S = 6 * 3600.0
#: So many steps must have been seen before their time counts.
_ENOUGH_STEPS = 10
#: Where the bound is set by the user, what is no step may take so many times as long.
_TIMES_ELSEWHERE = 10.0
#: Whoever has not looked for so long was stopped himself, as Slurm does to suspend a job (seconds).
_ASLEEP_S = 30.0
#: A heartbeat that is older was not renewed: a thread of the worker does so every two seconds.
_FRESH_S = 5.0
#: How long the stacks may take to be written.
_STACKS_S = 2.0

_Place = tuple[str, int, int, int]


@dataclass(kw_only=True, frozen=True, slots=True)
class Hang:
    """A worker that got no further."""

    phase: str
    step: int
    seconds: float
    """For how long."""
    bound_s: float


class Progress:
    """Learns from the times between two moves of the heartbeat how long the next one may take. Pure.

    Args:
        hang_s: the bound of a step (seconds); None learns it.
    """

    def __init__(self, hang_s: float | None) -> None:
        self._hang_s = hang_s
        self._place: _Place | None = None
        self._since = self._looked = math.nan
        self._longest: dict[str, float] = {}
        self._steps = 0

    def look(self, beat: Beat | None, now: float) -> Hang | None:
        """Take in a look at the heartbeat.

        Args:
            beat: None where it tells nothing.
            now: seconds, from anywhere.

        Returns:
            A hang, where there is one.
        """
        if now - self._looked > _ASLEEP_S:
            self._since += now - self._looked
        self._looked = now
        place = None if beat is None else (beat.phase, beat.epoch, beat.step, beat.batch)
        if place is not None and place != self._place:
            self._learn(now)
            self._place = place
        elif math.isnan(self._since) or (beat is not None and beat.trouble is not None):
            self._since = now  # whoever waits for a storage that fails does not hang
        phase, _, step, _ = self._place or (Phase.START.value, 0, 0, 0)
        seconds, bound_s = now - self._since, self.bound_s
        return Hang(phase=phase, step=step, seconds=seconds, bound_s=bound_s) if seconds > bound_s else None

    @property
    def bound_s(self) -> float:
        """How long it may stand where it stands now (seconds)."""
        kind = self._kind
        generous_s = _START_S if kind == Phase.START.value else _GENEROUS_S
        is_step = kind == Phase.TRAIN.value
        if self._hang_s is not None:
            return self._hang_s * (1.0 if is_step else _TIMES_ELSEWHERE)
        longest = self._longest.get(kind)
        if longest is None or (is_step and self._steps < _ENOUGH_STEPS):
            return generous_s
        return max(_LEAST_S if is_step else generous_s / 2, _TIMES * longest)

    @property
    def _kind(self) -> str:
        """What it is doing. An epoch's first batch is another thing than those after it."""
        phase, _, _, batch = self._place or (Phase.START.value, 0, 0, 0)
        return f"first {phase}" if phase == Phase.TRAIN.value and batch == 0 else phase

    def _learn(self, now: float) -> None:
        if self._place is not None:
            kind = self._kind
            self._longest[kind] = max(self._longest.get(kind, 0.0), now - self._since)
            self._steps += kind == Phase.TRAIN.value
        self._since = now


class HangWatch:
    """Watches one worker, in a thread of its own: a storage that hangs must not keep a warning from the worker.

    Args:
        hang_s: as `retry.hang_s`: seconds, `auto`, or None for never.
        send: sends a signal to the worker's processes on this node.
        is_over: whether nobody needs to know any more; also once the worker is asked to stop, since then the grace counts.
        tell: called with a hang, before the worker is killed.
    """

    def __init__(
        self,
        attempt: AttemptDir,
        hang_s: float | str | None,
        send: Callable[[int], None],
        is_over: Callable[[], bool],
        tell: Callable[[Hang], None],
        look_s: float = _LOOK_S,
    ) -> None:
        self.found: Hang | None = None
        self._attempt = attempt
        self._progress = Progress(hang_s if isinstance(hang_s, int | float) else None)
        self._send, self._is_over, self._tell, self._look_s = send, is_over, tell, look_s
        self._is_wanted = hang_s is not None

    def start(self) -> None:
        if self._is_wanted:
            threading.Thread(target=self._work, name="hangs", daemon=True).start()

    def _work(self) -> None:
        while not self._is_over():
            with suppress(OSError):
                hang = self._look()
                if hang is not None and not self._is_over():
                    self.found = hang
                    self._end(hang)
                    return
            time.sleep(self._look_s)

    def _look(self) -> Hang | None:
        beat = read_beat(self._attempt.heartbeat)
        hang = self._progress.look(beat, time.monotonic())
        if hang is None or (beat is not None and time.time() - beat.time <= _FRESH_S):
            return hang
        self._get_through()  # a heartbeat may be written just then, by those who had waited as well
        return self._progress.look(read_beat(self._attempt.heartbeat), time.monotonic())

    def _get_through(self) -> None:
        """Write to the storage as the worker does. Where it does not answer, we hang here and nobody is blamed.

        Raises:
            OSError: it fails; so it may for the worker.
        """
        fd = os.open(self._attempt.path / ".answers", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, b"x")
            os.fsync(fd)
        finally:
            os.close(fd)
        time.sleep(3 * self._look_s)

    def _end(self, hang: Hang) -> None:
        self._tell(hang)
        self._send(STACKS_SIGNAL)
        time.sleep(_STACKS_S)
        self._send(signal.SIGKILL)


def told(hang: Hang) -> str:
    """In words."""
    place = f"in phase {hang.phase} after step {hang.step}"
    return f"the worker got no further in {hang.seconds:.0f} s, {place} ({hang.bound_s:.0f} s are allowed there)"
