"""Owns the worker's side of tracking: the process that sends the run's metrics to its trackers, beside the training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from hpc_yolo.config import TrackConfig
from hpc_yolo.rundir import AttemptDir, RunDir

#: None of its business: it ends when the worker has.
_SIGNALS = frozenset({signal.SIGUSR1, signal.SIGTERM, signal.SIGINT})


class TrackingProcess:
    """Nothing at all where no tracker is asked for. Its death, and a tracker that is away, cost the run nothing.

    It follows as long as the worker holds its standard input open, which any end of the worker closes.
    """

    def __init__(self, run: RunDir, attempt: AttemptDir, track: TrackConfig) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._run = run
        if not track.names:
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # inherited: a scheduler warns every process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpc_yolo.track", str(run.path), str(attempt.number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def finish(self, within_s: float) -> None:
        """Let it send the rest of a run that is done, as far as that is soon; says where something is missing."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            if self._process.wait(within_s) == 0:
                return
        except subprocess.TimeoutExpired:
            self._process.kill()
        print(
            f"hpc-yolo: not all metrics of {self._run.path} were sent; `hpc-yolo track {self._run.path}` sends what is "
            "missing.",
            file=sys.stderr,
            flush=True,
        )
