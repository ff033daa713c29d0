"""Owns the part of every node but the first in a run that several nodes train: ranks for each attempt that the first claims.

It decides nothing. The first node's supervisor tells of attempts and of their ends in the run's ledger, which all nodes see;
a rank that is lost here is told to it by a file in the attempt's folder.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpc_yolo.events import Kind
from hpc_yolo.rundir import AttemptDir, RunDir, write_text_atomic
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.group import Part, RankGroup, start_ranks
from hpc_yolo.supervise.log import say
from hpc_yolo.supervise.past import last_event, started_by
from hpc_yolo.supervise.policy import Decision, Next
from hpc_yolo.types import ExitCode, StopReason

_POLL_S = 0.1
#: How often the ledger is looked at.
_LOOK_S = 1.0
#: How long nothing may be heard of the first node, before an attempt or after its end.
_SILENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Node:
    """Which node of how many."""

    number: int = 0
    count: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Node:
        """As srun tells its tasks, of which there is one a node.

        By the task's number, not the node's: submitit calls `checkpoint` where that is 0, and they need not be the same.
        """
        if environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return cls()
        count = int(environ.get("SLURM_STEP_NUM_NODES") or environ.get("SLURM_NNODES") or 1)
        return cls(int(environ.get("SLURM_PROCID") or 0), count)


class Follower:
    """Speaks to its task as a Supervisor does."""

    def __init__(
        self,
        run: RunDir,
        worker_command: Callable[[AttemptDir], list[str]],
        ranks_of: Callable[[AttemptDir], int],
        node: Node,
        job: Mapping[str, Any],
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.warned: signal.Signals | None = None
        self.verdict: Decision | None = None
        self._run, self._worker_command, self._ranks_of, self._node = run, worker_command, ranks_of, node
        self._job, self._environ, self._clock = job, environ, clock
        self._handled = 0
        self._group: RankGroup | None = None

    def start(self) -> None:
        threading.Thread(target=self._work, name="follower", daemon=True).start()

    def warn(self, signum: signal.Signals) -> None:
        """Safe in a signal handler. The first node finds out what it meant."""
        if self.warned is None:
            self.warned = signum

    def is_over(self) -> bool:
        return self.verdict is not None

    def conclude(self) -> Decision:
        return self.verdict or _left("there is no verdict")

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, tree.WARNINGS)
        tree.adopt_orphans()
        try:
            self.verdict = self._follow()
        except BaseException:
            traceback.print_exc()
            if self._group is not None:
                self._group.kill()
            self.verdict = _left("it failed", ExitCode.BUG)
            raise

    def _follow(self) -> Decision:
        while True:
            attempt = self._await_attempt()
            if attempt is None:
                return _left(f"nothing was heard of the first node for {_SILENCE_S:.0f} s", ExitCode.GROUP)
            self._handled = attempt.number
            self._take_part(attempt)
            tree.kill_children()
            then = self._await_end(attempt)
            if then is None:
                return _left("the first node did not tell the end", ExitCode.GROUP)
            if then != Next.RESTART.value:
                return _left("the first node has told the end")

    def _await_attempt(self) -> AttemptDir | None:
        """The next attempt of this start of the job."""
        until = self._clock() + _SILENCE_S
        while self._clock() < until:
            for attempt in reversed(self._run.attempts()):
                if attempt.number > self._handled and self._is_ours(attempt):
                    return attempt
            time.sleep(_POLL_S)
        return None

    def _is_ours(self, attempt: AttemptDir) -> bool:
        started = started_by(attempt)
        return bool(started) and all(started.get(name) == self._job[name] for name in ("job_id", "restart_count"))

    def _take_part(self, attempt: AttemptDir) -> None:
        ranks = self._ranks_of(attempt)
        part = Part(first=self._node.number * ranks, count=ranks, world=self._node.count * ranks)
        self._group = group = start_ranks(self._worker_command(attempt), attempt, part, self._environ)
        has_warned, looked_at = False, self._clock()
        while (code := group.poll()) is None:
            if self.warned is not None and not has_warned:
                has_warned = True
                group.send_signal(self.warned)
            if self._clock() > looked_at + _LOOK_S:
                looked_at = self._clock()
                if last_event(attempt, Kind.ATTEMPT_ENDED) is not None:
                    group.kill()
            time.sleep(_POLL_S)
        self._group = None
        if group.lost is not None and last_event(attempt, Kind.ATTEMPT_ENDED) is None:
            told = {"rank": group.lost[0], "exit_code": code}
            write_text_atomic(attempt.node_report(self._node.number), json.dumps(told) + "\n")

    def _await_end(self, attempt: AttemptDir) -> str | None:
        until = self._clock() + _SILENCE_S
        while self._clock() < until:
            if (ended := last_event(attempt, Kind.ATTEMPT_ENDED)) is not None:
                return str(ended.fields.get("next"))
            time.sleep(_LOOK_S)
        return None


def lost_elsewhere(attempt: AttemptDir, nodes: int) -> list[tuple[int, int]]:
    """Rank and exit code of the processes that the other nodes have lost."""
    found = []
    for node in range(1, nodes):
        with suppress(OSError, ValueError):
            told = json.loads(attempt.node_report(node).read_text(encoding="utf-8"))
            found.append((int(told["rank"]), int(told["exit_code"])))
    return found


def _left(why: str, code: ExitCode = ExitCode.DONE) -> Decision:
    if code:
        say(why)
    outcome = StopReason.FAILURE.value if code else "done"
    return Decision(next=Next.FAIL if code else Next.DONE, outcome=outcome, exit_code=code, why=why)
