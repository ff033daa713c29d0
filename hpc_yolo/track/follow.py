"""Owns following one attempt: rows are sent as they appear. A process of its own, so that no tracker can slow a training."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hpc_yolo.attempts import end_of, is_newest
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import FrozenRun, load_launch, load_run
from hpc_yolo.result_rows import read_rows
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.track.tracker import Tracker, check_trackers, one_line, open_tracker
from hpc_yolo.types import RunState

_POLL_S = 5.0
_RETRY_S = (30.0, 60.0, 120.0, 300.0, 600.0)
#: How long the last pass may take: of a run that is done, and of one that goes on (the next attempt sends the rest).
_DONE_S, _LEFT_S = 60, 10
_NICENESS = 10
#: Set where nobody has: a server that is away is asked again by us, and nobody reads what a library says to a terminal.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_SILENT": "true",
}


@dataclass
class Sender:
    """One run's way to one tracker, begun again after an error."""

    name: str
    run: RunDir
    frozen: FrozenRun
    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    _tracker: Tracker | None = None
    _not_before: float = field(default=float("-inf"))

    def send(self) -> int:
        """Send what is missing, unless it has just failed; returns how many epochs. Raises nothing."""
        if self.clock() < self._not_before:
            return 0
        return self._guarded(lambda tracker: tracker.send(read_rows(self.run.results_csv)))

    def end(self, state: RunState, final: Mapping[str, float]) -> bool:
        """Send the rest and close; returns whether that went well."""
        self._not_before, before = float("-inf"), self.failures
        self.send()
        if self.failures == before:
            self._guarded(lambda tracker: tracker.close(state, final))
        return self.failures == before

    def _guarded(self, act: Callable[[Tracker], int | None]) -> int:
        try:
            self._tracker = self._tracker or open_tracker(self.name, self.run, self.frozen)
            return act(self._tracker) or 0
        except Exception as error:  # noqa: BLE001 (a tracker's library may raise anything, and none of it matters to the run)
            self._tracker = None
            if not self.failures:
                print(
                    f"hpc-yolo: {self.run.path} was not sent to {self.name} ({one_line(error)}). It is tried again; "
                    f"`hpc-yolo track {self.run.path}` sends what is missing.",
                    file=sys.stderr,
                    flush=True,
                )
            self._not_before = self.clock() + _RETRY_S[min(self.failures, len(_RETRY_S) - 1)]
            self.failures += 1
            return 0


def follow(run: RunDir, attempt: AttemptDir) -> int:
    """Send rows until standard input ends, which the worker holds open; then the rest. Returns an exit code: 0, all is sent."""
    os.nice(_NICENESS)
    prepare_environment()
    track = load_launch(attempt.launch_yaml).track
    try:
        check_trackers(track)
    except ConfigError as error:  # as where this node has another environment than the one that it was submitted from
        print(f"hpc-yolo: nothing of {run.path} is sent to a tracker: {error}", file=sys.stderr, flush=True)
        return 1
    names = track.names
    senders = [Sender(name, run, load_run(run)) for name in names]
    while True:
        is_left = bool(select.select([sys.stdin], [], [], _POLL_S)[0])
        if not is_newest(run, attempt):
            return 0
        if is_left:
            final = final_of(run)
            signal.alarm(_LEFT_S if final is None else _DONE_S)
            state = RunState.RUNNING if final is None else RunState.DONE
            failed = [it.name for it in senders if not it.end(state, final or {})]
            return 1 if failed else 0
        for sender in senders:
            sender.send()


def prepare_environment() -> None:
    """For the libraries, before they are imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def final_of(run: RunDir) -> dict[str, float] | None:
    """What the final evaluation came to, named apart from the epochs' metrics; None of a run that is not done."""
    if (end := end_of(run)) is None:
        return None
    found = dict(end[1].fields.get("metrics") or {})
    return {f"final/{name.removeprefix('metrics/')}": float(value) for name, value in found.items()}
