"""Owns asking Slurm about the jobs of many runs at once: one squeue for all, one sacct for those that it has forgotten.

And how often it is asked by one who looks again and again: its administrators ask for restraint.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from hpc_yolo.forks import in_forks
from hpc_yolo.report.history import JobHistory, RunHistory, read_history
from hpc_yolo.report.ledger_state import state_by_ledger
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.commands import SlurmError
from hpc_yolo.slurm.queue import Entry, read_accounting, read_queue
from hpc_yolo.slurm.strays import note_strays
from hpc_yolo.small_files import read_each
from hpc_yolo.submissions import Submission, read_jobs
from hpc_yolo.types import JobId, RunState

#: Slurm may need so long to show a job that it has just taken (seconds).
_YOUNG_S = 10.0
#: Between two questions of one who looks again and again (seconds); doubled after each that failed or took long.
_EVERY_S = 10.0
_RAREST_S = 120.0
_SLOW_S = 5.0
_Told = TypeVar("_Told")


def read_histories(runs: Sequence[RunDir], *, ask_slurm: bool = True) -> list[RunHistory]:
    """Each run as it lies on disk, with what Slurm says of the job that stands for it, where there is one.

    A job whose submission came to no end is looked for first, and noted.
    """
    return look(runs, lambda history: history, ask_slurm=ask_slurm)


def look(
    runs: Sequence[RunDir], tell: Callable[[RunHistory], _Told], *, ask_slurm: bool = True, may_fork: bool = False
) -> list[_Told]:
    """What `tell` makes of each run's history. Histories themselves are not kept: those of 10,000 runs fill a memory.

    The queue is asked before the ledgers are read: what a run tells of its end is newer than what Slurm said of its job. The
    accounting is asked for what has left the queue and is not done.

    Args:
        may_fork: of very many runs several processes read a part each. What is told must be small, and no process but this
            one may be needed for it.
    """
    if ask_slurm:
        with suppress(SlurmError):
            note_strays({run.path.parent for run in runs})
    with _nothing_thrown_away():
        return _look(runs, tell, ask_slurm, may_fork)


def _look(runs: Sequence[RunDir], tell: Callable[[RunHistory], _Told], ask_slurm: bool, may_fork: bool) -> list[_Told]:
    share = in_forks if may_fork else _all_here
    jobs = share(lambda numbers: list(read_each(read_jobs, [runs[number] for number in numbers])), len(runs))
    wanted = [it for it in (of.submission for of in jobs) if it is not None and not it.withdrawn]
    queue, trouble = _queue(wanted) if wanted and ask_slurm else ({}, None if ask_slurm else "not asked")

    def told_of(numbers: range) -> list[_Told | None]:
        """None where the accounting is to be asked first."""
        part = [(runs[number], jobs[number]) for number in numbers]
        histories = read_each(lambda it: read_history(it[0], jobs=it[1]), part)
        return [
            None if trouble is None and _is_gone(history, queue) else tell(_with_job(history, queue, trouble))
            for history in histories
        ]

    told = share(told_of, len(runs))
    gone = {number: read_history(runs[number], jobs=jobs[number]) for number, it in enumerate(told) if it is None}
    entries = _accounted(queue, [it.submission for it in gone.values() if it.submission])
    return [it if it is not None else tell(_with_job(gone[number], entries, None)) for number, it in enumerate(told)]


def _all_here(work: Callable[[range], list[_Told]], count: int) -> list[_Told]:
    return work(range(count))


@contextmanager
def _nothing_thrown_away() -> Iterator[None]:
    """Values refer to each other one way, so a search for circles among ten thousands of them finds none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class PacedJobs:
    """`jobs_of` for one who looks every few seconds: between two questions, the last answer stands.

    Args:
        clock: seconds, from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.trouble: str | None = None
        """Why Slurm's word is old, or there is none, and when it is asked again; None while it answers."""
        self._clock = clock
        self._entries: dict[JobId, Entry] = {}
        self._known: set[JobId] = set()
        self._pause_s, self._next = _EVERY_S, -float("inf")

    def jobs_of(self, submissions: Sequence[Submission | None]) -> list[JobHistory | None]:
        wanted = [it for it in submissions if it is not None and not it.withdrawn]
        if wanted and self._clock() >= self._next:
            self._ask(wanted)
        return [
            None
            if it is None
            else _history(
                it, self._entries.get(it.job), None if it.job in self._known else self.trouble or "not asked yet"
            )
            for it in submissions
        ]

    def _ask(self, wanted: Sequence[Submission]) -> None:
        began = self._clock()
        entries, trouble = _ask(wanted)
        is_slow = self._clock() - began > _SLOW_S
        self._pause_s = min(_RAREST_S, 2 * self._pause_s) if trouble or is_slow else _EVERY_S
        self._next = self._clock() + self._pause_s
        if trouble is None:
            self._entries, self._known = entries, {it.job for it in wanted}
        at = time.strftime("%H:%M:%S")
        self.trouble = trouble and f"Slurm gave no answer at {at} ({trouble}); asked again in {self._pause_s:g} s"


def _ask(wanted: Sequence[Submission]) -> tuple[dict[JobId, Entry], str | None]:
    queue, trouble = _queue(wanted)
    return _accounted(queue, [] if trouble else [it for it in wanted if _has_left(it, queue)]), trouble


def _queue(wanted: Iterable[Submission]) -> tuple[dict[JobId, Entry], str | None]:
    """What the queue holds, and why it holds nothing where it did not answer."""
    try:
        return read_queue(it.user for it in wanted), None
    except SlurmError as error:
        return {}, error.gist


def _has_left(submission: Submission, queue: Mapping[JobId, Entry]) -> bool:
    return not submission.withdrawn and (submission.job not in queue or queue[submission.job].has_ended)


def _is_gone(history: RunHistory, queue: Mapping[JobId, Entry]) -> bool:
    """Whether the queue has forgotten its job, and its ledger does not tell that it is done."""
    return history.submission is not None and _has_left(history.submission, queue) and not _is_done(history)


def _accounted(queue: Mapping[JobId, Entry], gone: Sequence[Submission]) -> dict[JobId, Entry]:
    """The queue, and what the accounting says of jobs that have left it."""
    accounted = read_accounting(it.job for it in gone) if gone else {}
    return {**queue, **{job: _joined(queue.get(job), accounted[job]) for job in accounted}}


def _with_job(history: RunHistory, entries: Mapping[JobId, Entry], trouble: str | None) -> RunHistory:
    it = history.submission
    return history if it is None else replace(history, job=_history(it, entries.get(it.job), trouble))


def _is_done(history: RunHistory) -> bool:
    return state_by_ledger(history).state is RunState.DONE


def _joined(queued: Entry | None, accounted: Entry) -> Entry:
    """Of an ended job the accounting knows the exit code, the queue the reason."""
    if queued is None:
        return accounted
    return replace(queued, exit_code=accounted.exit_code) if queued.has_ended else queued


def _history(submission: Submission, entry: Entry | None, trouble: str | None) -> JobHistory:
    if entry is None and trouble is None and not submission.withdrawn and time.time() - submission.time < _YOUNG_S:
        trouble = "Slurm does not show it yet"
    return JobHistory(submission, entry, trouble)
