"""Owns the attempts of one run on this node: claims, starts workers, relays stops, tells the end.

Two threads that share no lock. The helper does all the work; it has a third look at the fence. The main thread sleeps, takes
signals, and only ever sets `warned` and reads `verdict`: a lock or a wait that a signal handler interrupted would never be let
go.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from hpc_yolo.attempts import Watch, busy, claim, is_newest
from hpc_yolo.causes import Found, Symptoms, known_rules, recognise
from hpc_yolo.config import RetryConfig
from hpc_yolo.errors import HpcYoloError, StorageError
from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.processes import boot_id, node_name, process_start
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.allocation import Allocation, LocalAllocation, Meaning
from hpc_yolo.supervise.endings import Ending
from hpc_yolo.supervise.follower import lost_elsewhere
from hpc_yolo.supervise.group import Part, RankGroup, start_ranks
from hpc_yolo.supervise.hangs import HangWatch, told
from hpc_yolo.supervise.log import say
from hpc_yolo.supervise.past import (
    fields_of,
    has_saved,
    is_awaited,
    last_step,
    meant_exit_code,
    past_of,
    place_of,
    settle_silence,
    started_by,
)
from hpc_yolo.supervise.policy import Decision, Next, decide, leave_between, superseded, with_cause
from hpc_yolo.supervise.sick_nodes import NodeList
from hpc_yolo.supervise.symptoms import cause_of, oom_kills
from hpc_yolo.types import ExitCode, StopReason

POLL_S = 0.1
#: A warning that reaches a whole job may reach the worker, and end it, a moment before it reaches us.
_SETTLE_S = 0.5
#: Kept back from the grace period, for the kill and for the requeue after it.
_MARGIN_S = 5.0
#: Of which so much is for telling how the requeue went: the main thread leaves at the very end of the grace period.
_TELL_S = 1.0
#: How often we look whether a newer attempt has taken the run over.
_FENCE_S = 2.0
#: How long an answer is awaited once the worker has stopped.
_ANSWER_S = 5.0

WorkerCommand = Callable[[AttemptDir], list[str]]


class Supervisor:
    """Trains one run with as many attempts as it takes, until `verdict` says that there is nothing more to do here."""

    def __init__(
        self,
        run: RunDir,
        worker_command: WorkerCommand,
        retry_of: Callable[[AttemptDir], RetryConfig],
        allocation: Allocation | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        ranks_of: Callable[[AttemptDir], int] = lambda _attempt: 1,
        nodes: int = 1,
    ) -> None:
        self.warned: signal.Signals | None = None  # written by the main thread only
        self.verdict: Decision | None = None  # written by the helper only, once, as the last thing it does
        self._run = run
        self._worker_command = worker_command
        self._retry_of = retry_of
        self._ranks_of, self._nodes = ranks_of, nodes
        self._allocation = allocation or LocalAllocation()
        self._node_list = NodeList(run, can_move=self._allocation.has_other_nodes and nodes == 1)
        self._environ = environ
        self._clock = clock
        self._warned_at = 0.0
        self._grace_s = RetryConfig().grace_s
        self._deadline: float | None = None  # on our clock, once somebody said how long the grace period is
        self._meaning: Meaning | None = None
        self._worker_pid: int | None = None
        self._asked_of: int | None = None  # pid of the worker that the warning was passed on to
        self._has_inquired = False

    def start(self) -> None:
        """Begin. The helper is a daemon: a worker that cannot even be killed must not keep us from leaving."""
        threading.Thread(target=self._work, name="supervisor", daemon=True).start()

    def warn(self, signum: signal.Signals) -> None:
        """Ask for a stop. Safe in a signal handler; the first warning stands, what it meant is found out by the helper."""
        if self.warned is None:
            self._warned_at = self._clock()
            self.warned = signum

    def is_over(self) -> bool:
        """Whether there is a verdict, or no hope of one within the grace period. Safe in a signal handler."""
        return self.verdict is not None or (self.warned is not None and self._clock() > self._ends_at())

    def conclude(self) -> Decision:
        """The verdict; where the helper could not tell in time (the file system hangs), the worker is killed for it."""
        if self.verdict is None and self._worker_pid is not None:
            tree.send([self._worker_pid], signal.SIGKILL)
        meaning = self._meaning or self._allocation.guess(self.warned or signal.SIGUSR1)
        return self.verdict or leave_between(meaning.reason)

    def _ends_at(self) -> float:
        return self._warned_at + self._grace_s if self._deadline is None else self._deadline

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, tree.WARNINGS)  # theirs is the main thread; and workers inherit it
        try:
            verdict = self._supervise()
        except StorageError as error:
            verdict = self._despite_storage(str(error))
        except OSError as error:
            verdict = self._despite_storage(f"{error.filename or self._run.path}: {error.strerror}")
        except HpcYoloError as error:
            verdict = _given_up(str(error), error.exit_code)
        except BaseException as error:  # the thread's boundary: without a verdict the main thread would sleep for ever
            with suppress(OSError):
                traceback.print_exc()
            self.verdict = _given_up(f"this is a bug: {type(error).__name__}: {error}", ExitCode.BUG)
            raise
        self.verdict = verdict

    def _despite_storage(self, why: str) -> Decision:
        """A warned run is not lost for a storage that does not let us read or write its ledger."""
        if self.warned is None:
            return _given_up(why, ExitCode.STORAGE)
        say(f"{why}; leaving all the same")
        decision = leave_between(self._await_meaning(self.warned, None).reason)
        self._hand_back(decision, None)
        return decision

    def _supervise(self) -> Decision:
        tree.adopt_orphans()
        while self.warned is None:
            attempt = self._claim()
            if attempt is None:
                break
            decision = self._train_once(attempt)
            if decision.next is not Next.RESTART:
                return decision
            self._pause(decision.delay_s)
        assert self.warned is not None
        return self._leave_between(self.warned)

    def _claim(self) -> AttemptDir | None:
        """The next attempt; None if a warning came while another one kept us out.

        Neither one of our own, whose worker died before its first heartbeat, nor one that the scheduler has given up on
        keeps us out; for others we wait a while, as they may be on their way out.
        """
        until = self._clock() + self._allocation.patience_s
        watch = Watch(self._run)
        while self.warned is None:
            try:
                if (claimed := self._claim_if_free(watch, until)) is not None:
                    return claimed
            except (StorageError, OSError):  # most of its troubles pass, and a job that ends here is queued no more
                if self._clock() >= until:
                    raise
            self._pause(1.0)
        return None

    def _claim_if_free(self, watch: Watch, until: float) -> AttemptDir | None:
        taken = watch.look()
        is_ours = taken is not None and (taken.pid, taken.host) == (os.getpid(), node_name())
        is_past = taken is not None and self._allocation.may_supersede(started_by(taken.attempt))
        if taken is None or is_ours or is_past:
            return claim(self._run, past=watch.newest)
        if watch.is_sure and self._clock() >= until:
            raise busy(self._run, taken)
        return None

    def _train_once(self, attempt: AttemptDir) -> Decision:
        ledger = Ledger(attempt.events)
        ledger.append(Kind.ATTEMPT_STARTED, attempt=attempt.number, **self._identity())
        try:
            retry = self._retry_of(attempt)
            self._grace_s = retry.grace_s
            left = settle_silence(self._run, attempt, self._allocation.silence, retry)
            left = left or self._node_list.leave(past_of(self._run, attempt), retry)
            if left is not None:
                _tell_end(ledger, left, int(left.exit_code))
                self._hand_back(left, ledger)
                return left
            killed_before = oom_kills()
            worker = self._spawn(attempt)
        except (HpcYoloError, OSError) as error:
            return _not_started(ledger, error)
        hangs = self._watch_for_hangs(worker, attempt, ledger, retry)
        code, is_overdue = self._watch(worker, attempt, ledger)
        self._worker_pid = None
        if worker.lost is not None and worker.size * self._nodes > 1:
            _tell(ledger, Kind.RANK_LOST, rank=worker.lost[0], exit_code=worker.lost[1])
        tree.kill_children()
        if not is_newest(self._run, attempt):
            _tell_end(ledger, superseded(), code)
            return superseded()
        if code != ExitCode.DONE:
            self._pause(_SETTLE_S)
        rank = worker.lost[0] if worker.lost is not None else 0
        meant = meant_exit_code(attempt, code)
        was_oom_killed, hung = oom_kills() > killed_before, "" if hangs.found is None else told(hangs.found)
        found = cause_of(attempt, meant, retry, rank=rank, was_oom_killed=was_oom_killed, hung=hung)
        decision = decide(past_of(self._run, attempt), self._ending(attempt, meant, is_overdue, found), retry)
        _tell_end(ledger, decision, code)
        self._node_list.tell(decision, retry)
        self._hand_back(decision, ledger)
        return decision

    def _watch_for_hangs(self, worker: RankGroup, attempt: AttemptDir, ledger: Ledger, retry: RetryConfig) -> HangWatch:
        made = HangWatch(
            attempt,
            retry.hang_s,
            worker.send_signal,
            lambda: self._worker_pid != worker.pid or self.warned is not None,
            lambda hang: _tell(ledger, Kind.HUNG, **asdict(hang)),
        )
        made.start()
        return made

    def _ending(self, attempt: AttemptDir, code: int, is_overdue: bool, found: Found | None) -> Ending:
        meaning = None if self.warned is None else self._await_meaning(self.warned, Ledger(attempt.events))
        events = list(read_events(attempt.events))
        return Ending(
            exit_code=code,
            step=last_step(attempt, events),
            asked=None if meaning is None else meaning.reason,
            is_overdue=is_overdue,
            grace_s=self._ends_at() - self._warned_at,
            found=found,
            node=node_name(),
            failed_at=place_of(attempt),
            has_saved=has_saved(events),
            can_move=self._allocation.has_other_nodes,
        )

    def _identity(self) -> dict[str, Any]:
        """Who we are, so that a fire drill can be sure whom it warns."""
        pid = os.getpid()
        return {
            "role": "supervisor",
            "pid": pid,
            "pgid": os.getpgid(pid),
            "started": process_start(pid),
            "boot": boot_id(),
            "host": node_name(),
            **self._allocation.identity(),
        }

    def _spawn(self, attempt: AttemptDir) -> RankGroup:
        ranks = self._ranks_of(attempt)
        part, elsewhere = Part(ranks, 0, ranks * self._nodes), partial(lost_elsewhere, attempt, self._nodes)
        worker = start_ranks(self._worker_command(attempt), attempt, part, self._environ, elsewhere)
        self._worker_pid = worker.pid
        return worker

    def _watch(self, worker: RankGroup, attempt: AttemptDir, ledger: Ledger) -> tuple[int, bool]:
        """Wait for the worker's end; pass a warning on, once, and kill the worker when it takes too long to stop."""
        is_overdue, is_over = False, threading.Event()
        fence = (self._run, attempt, worker, is_over)
        threading.Thread(target=_kill_when_superseded, args=fence, name="fence", daemon=True).start()
        try:
            while (code := worker.poll()) is None:
                if self.warned is not None:
                    is_overdue = self._press(worker, self.warned, ledger) or is_overdue
                elif self._allocation.is_near_its_limit():
                    os.kill(os.getpid(), signal.SIGUSR1)  # in the scheduler's place; the main thread takes it
                time.sleep(POLL_S)
        finally:
            is_over.set()
        return code, is_overdue

    def _press(self, worker: RankGroup, warned: signal.Signals, ledger: Ledger) -> bool:
        """Bring the worker to stop; returns whether its time is over."""
        if self._asked_of != worker.pid:
            self._asked_of = worker.pid
            self._inquire(warned)
            worker.send_signal(warned)
            _tell(ledger, Kind.STOP_REQUESTED, signal=warned.name, by="supervisor")
        self._take_meaning(ledger)
        is_overdue = self._clock() > self._warned_at + stop_within_s(self._ends_at() - self._warned_at)
        if is_overdue:
            worker.kill()
        return is_overdue

    def _inquire(self, warned: signal.Signals) -> None:
        if not self._has_inquired:
            self._has_inquired = True
            self._allocation.inquire(warned)

    def _take_meaning(self, ledger: Ledger | None) -> Meaning | None:
        """What the warning meant, once that is known: from then on its deadline counts."""
        if self._meaning is None and (meaning := self._allocation.meaning()) is not None:
            self._note_meaning(meaning, ledger)
        return self._meaning

    def _note_meaning(self, meaning: Meaning, ledger: Ledger | None) -> None:
        self._meaning = meaning
        if meaning.grace_s is not None:
            self._deadline = self._warned_at + meaning.grace_s
        if ledger is not None and meaning.said:
            told = {"reason": meaning.reason.value, "grace_s": meaning.grace_s, "said": meaning.said}
            _tell(ledger, Kind.STOP_EXPLAINED, **told)

    def _await_meaning(self, warned: signal.Signals, ledger: Ledger | None) -> Meaning:
        self._inquire(warned)
        until = min(self._clock() + _ANSWER_S, self._ends_at())
        while (meaning := self._take_meaning(ledger)) is None and self._clock() < until:
            time.sleep(POLL_S)
        if meaning is None:
            meaning = self._allocation.guess(warned)
            self._note_meaning(meaning, ledger)
        return meaning

    def _hand_back(self, decision: Decision, ledger: Ledger | None) -> None:
        """Told after the end: once the scheduler has the job again, it may kill us at any moment."""
        if decision.next in (Next.FAIL, Next.HOLD):
            self._allocation.withdraw()
        if decision.next is not Next.REQUEUE:
            return
        began = self._clock()
        left_s = self._grace_s if self.warned is None else self._ends_at() - began
        handed = self._allocation.hand_back(max(left_s - _TELL_S, _MARGIN_S / 2))
        if handed is not None and ledger is not None:
            seconds = round(self._clock() - began, 3)
            _tell(ledger, Kind.HANDED_BACK, how=handed.how, said=handed.said, seconds=seconds)

    def _pause(self, seconds: float) -> None:
        """Let time pass, but no warning."""
        until = self._clock() + seconds
        while self.warned is None and self._clock() < until:
            time.sleep(POLL_S)

    def _leave_between(self, warned: signal.Signals) -> Decision:
        """Go although no worker is running: what was promised of the newest attempt is kept, or taken back."""
        attempts = self._run.attempts()
        ledger = Ledger(attempts[-1].events) if attempts and is_awaited(self._run) else None
        decision = leave_between(self._await_meaning(warned, ledger).reason)
        if decision.next is Next.STOP and ledger is not None:  # it would promise another attempt for ever
            _tell_end(ledger, decision, decision.exit_code)
        self._hand_back(decision, ledger)
        return decision


def _kill_when_superseded(run: RunDir, attempt: AttemptDir, worker: RankGroup, is_over: threading.Event) -> None:
    """In a thread of its own: a storage that hangs must not keep a warning from the worker. An error of it kills nobody."""
    while not is_over.wait(_FENCE_S):
        with suppress(OSError):
            if not is_newest(run, attempt) and not is_over.is_set():
                worker.kill()


def stop_within_s(grace_s: float) -> float:
    """How long a worker may take to stop (seconds): the grace period less what we need ourselves."""
    return max(grace_s - _MARGIN_S, grace_s / 2)


def _not_started(ledger: Ledger, error: HpcYoloError | OSError) -> Decision:
    """The worker could not even be started: no retry mends that."""
    mapped = error if isinstance(error, HpcYoloError) else StorageError(f"{error.filename}: {error.strerror}")
    _tell(ledger, Kind.FAILED, error=str(mapped), exit_code=int(mapped.exit_code))
    symptoms = Symptoms(exit_code=int(mapped.exit_code), error=str(mapped))
    decision = with_cause(_given_up(str(mapped), mapped.exit_code), recognise(symptoms, known_rules()))
    _tell_end(ledger, decision, int(mapped.exit_code))
    return decision


def _given_up(why: str, code: ExitCode) -> Decision:
    say(why)
    return Decision(next=Next.FAIL, outcome=StopReason.FAILURE.value, exit_code=code, why=why)


def _tell_end(ledger: Ledger, decision: Decision, code: int) -> None:
    _tell(ledger, Kind.ATTEMPT_ENDED, **fields_of(decision, code))


def _tell(ledger: Ledger, kind: Kind, **fields: Any) -> None:
    """Append an event; a full disk must not cost the worker its orderly stop."""
    try:
        ledger.append(kind, **fields)
    except OSError as error:
        what = f"{kind.value} {fields}"
        say(f"{ledger.path}: {error.strerror}; not written: {what}")
