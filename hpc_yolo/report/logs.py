"""Owns `hpc-yolo logs`: what the attempts of a run wrote, once or as it grows. Copies bytes; interprets none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Kind, read_events
from hpc_yolo.heartbeat import read_beat
from hpc_yolo.report.jobs import read_histories
from hpc_yolo.report.status import SETTLED, status_of
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.submissions import newest_submission
from hpc_yolo.types import ExitCode, RunState

_POLL_S = 0.3
#: A run that failed may be started again by what drives it; follow on for so long before believing it.
_SETTLE_S = 3.0
_CHUNK = 1 << 16
#: How often Slurm is asked at most.
_ASK_S = 10.0


class NoLogError(HpcYoloError):
    """There is no such attempt, or it wrote no log; look at another one."""

    exit_code = ExitCode.USAGE


@dataclass(slots=True)
class _Tail:
    """Copies what is new in a file since the last call."""

    path: Path
    to: BinaryIO
    offset: int = 0

    def copy(self) -> None:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.offset)
            while chunk := file.read(_CHUNK):
                self.to.write(chunk)
                self.offset += len(chunk)
        self.to.flush()


@dataclass(slots=True)
class LogPrinter:
    """Prints attempts to two streams: their stdout to `out`, with a line where each begins, their stderr to `err`."""

    out: BinaryIO
    err: BinaryIO
    _tails: list[_Tail] = field(default_factory=list)

    def begin(self, attempt: AttemptDir) -> None:
        self.copy()
        self._tails = [_Tail(attempt.stdout, self.out), _Tail(attempt.stderr, self.err)]
        self.out.write(f"── attempt {attempt.number}{_place(attempt)} ──\n".encode())
        self.copy()

    def copy(self) -> None:
        for tail in self._tails:
            tail.copy()


def print_logs(run: RunDir, number: int | None, printer: LogPrinter) -> None:
    """Print one attempt, the newest by default; before the first one, what its job on Slurm wrote.

    Raises:
        NoLogError: there is no such attempt, or it wrote to a terminal.
    """
    if not run.attempts() and _print_job(run, printer):
        return
    attempt = _attempt(run, number)
    if not attempt.stdout.exists() and not attempt.stderr.exists():
        raise NoLogError(
            f"attempt {attempt.number} of {run.path} has no log: it wrote to the terminal it was started in."
        )
    printer.begin(attempt)


def follow_logs(
    run: RunDir,
    number: int | None,
    printer: LogPrinter,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Print from the beginning of the newest attempt (or of attempt `number`, and then only it) until nothing can come.

    That is when the run is done, failed or cancelled; of a single attempt also when a later one has begun.
    """
    current: int | None = None
    settled_at: float | None = None
    asked_at: float | None = None
    while True:
        may_ask = asked_at is None or clock() - asked_at >= _ASK_S
        asked_at = clock() if may_ask else asked_at
        is_over = _is_over(run, number, may_ask)  # asked before copying, so that the last lines are not missed
        for attempt in _to_print(run, number, current):
            printer.begin(attempt)
            current = attempt.number
        printer.copy()
        settled_at = (settled_at or clock()) if is_over is not None else None
        if is_over is not None and settled_at is not None and clock() - settled_at >= is_over:
            if current is None:
                _print_job(run, printer)
            return
        sleep(_POLL_S)


def _attempt(run: RunDir, number: int | None) -> AttemptDir:
    attempts = run.attempts()
    if not attempts:
        submission = newest_submission(run)
        onward = f"Start it with `hpc-yolo run {run.path}`."
        if submission is not None:
            onward = f"It was submitted as job {submission.job}; `hpc-yolo status {run.path}` says why it waits."
        raise NoLogError(f"{run.path} has not been started yet. {onward}")
    if number is None:
        return attempts[-1]
    found = next((attempt for attempt in attempts if attempt.number == number), None)
    if found is None:
        raise NoLogError(
            f"{run.path} has no attempt {number}; there are {attempts[0].number} to {attempts[-1].number}."
        )
    return found


def _print_job(run: RunDir, printer: LogPrinter) -> bool:
    """What the script and the supervisor of a job wrote that came to no attempt; False where there is nothing."""
    submission = newest_submission(run)
    if submission is None or not submission.log.exists() or not submission.log.stat().st_size:
        return False
    printer.err.write(submission.log.read_bytes())
    printer.err.flush()
    return True


def _to_print(run: RunDir, number: int | None, current: int | None) -> list[AttemptDir]:
    """Attempts that have begun since `current`, oldest first; of a run just opened, its newest."""
    if number is not None:
        return [_attempt(run, number)] if current is None else []
    attempts = run.attempts()
    return attempts[-1:] if current is None else [attempt for attempt in attempts if attempt.number > current]


def _is_over(run: RunDir, number: int | None, may_ask: bool) -> float | None:
    """For how long to follow on (seconds) before leaving, or None while more may come. Slurm is asked now and then only."""
    attempts = run.attempts()
    if number is not None and attempts and attempts[-1].number > number:
        return 0.0
    state = status_of(read_histories([run], ask_slurm=False)[0]).state
    if state is not RunState.DONE and newest_submission(run) is not None:
        is_settled = may_ask and status_of(read_histories([run])[0]).state in SETTLED
        return 0.0 if is_settled else None
    if state not in SETTLED:
        return None
    return _SETTLE_S if state is RunState.FAILED else 0.0


def _place(attempt: AttemptDir) -> str:
    beat = read_beat(attempt.heartbeat)
    told = (
        e.fields.get("host")
        for e in read_events(attempt.events)
        if e.kind in (Kind.ATTEMPT_STARTED, Kind.WORKER_STARTED)
    )
    host = (beat.host if beat else None) or next(filter(None, told), None)
    return f" on {host}" if host else ""
