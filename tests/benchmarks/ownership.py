"""Owns the account of a training process's time by whose code asked for it: hpc_yolo's, its snapshots', or anybody else's.

The main thread is sampled a thousand times a second; the time since the sample before belongs to the innermost frame of
hpc_yolo or ultralytics on the stack, and what they call (torch, NumPy, json, the system) to them. So what our overrides pass on
to upstream is not counted, what they do with torch is, and no list of seams has to follow the code. A profiler's hook would
do the same without scatter, but it costs five times what our short calls do. Of the other threads, which are all ours (stock
ultralytics has none without dataloader workers), the CPU clocks are read.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

OURS, SNAPSHOT, OTHERS = "ours", "snapshot", "others"
_PERIOD_S = 0.001


class Ownership:
    """Seconds by owner since `start`, which the main thread calls."""

    def __init__(self) -> None:
        import ultralytics

        import hpc_yolo

        package = Path(hpc_yolo.__file__).parent
        self._places = (  # the first that fits
            (f"{package}/snapshot/", SNAPSHOT),
            (f"{package}/exact/state.py", SNAPSHOT),
            (f"{package}/", OURS),
            (f"{Path(ultralytics.__file__).parent}/", OTHERS),
        )
        self._owners: dict[CodeType, str | None] = {}
        self._sampled: Counter[str] = Counter()
        self._last = 0.0

    def start(self) -> None:
        self._last = time.perf_counter()
        signal.signal(signal.SIGALRM, self._sample)
        signal.setitimer(signal.ITIMER_REAL, _PERIOD_S)

    def seconds(self) -> dict[str, float]:
        found = self._sampled + Counter({OURS: 0.0, SNAPSHOT: 0.0})
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and thread.ident is not None:
                clock = time.pthread_getcpuclockid(thread.ident)
                found[OURS if thread.name == "pulse" else SNAPSHOT] += time.clock_gettime(clock)
        return {owner: found[owner] for owner in (OURS, SNAPSHOT)}

    def _sample(self, _signum: int, frame: FrameType | None) -> None:
        """Called between two bytecodes: what was asked of C is counted for the frame that asked."""
        owner = None
        while frame is not None and owner is None:
            owner = self._owner(frame.f_code)
            frame = frame.f_back
        now = time.perf_counter()
        self._sampled[owner or OTHERS] += now - self._last
        self._last = now
        signal.setitimer(signal.ITIMER_REAL, _PERIOD_S)  # once more, and not before this one is done

    def _owner(self, code: CodeType) -> str | None:
        if code not in self._owners:
            name = code.co_filename
            self._owners[code] = next((owner for place, owner in self._places if name.startswith(place)), None)
        return self._owners[code]
