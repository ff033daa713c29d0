"""Owns the processes of this node that train one run together, as if they were one: started, warned, ended and judged as one.

Rank 0 speaks for all. Where another one dies, the rest would wait for it in a collective for ever, so they are ended at once,
and its end is the group's. Where rank 0 has left, the others have nothing more to do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.rundir import AttemptDir
from hpc_yolo.types import SUPERVISOR_VARIABLE, ExitCode

#: How long the others may take to leave by themselves after rank 0; and to tell of an error that another's end caused.
_LEAVE_S = 5.0
#: How often the other nodes' reports are looked for.
_LOOK_S = 1.0
#: How long the cause is looked for, here and on other nodes, when a rank says no more than that it has lost another.
_CAUSE_S = 3.0
_FINE = (ExitCode.DONE, ExitCode.STOPPED)
#: Variables that make a process one of several; left over from elsewhere, they would mislead a lone one.
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, slots=True)
class Part:
    """The ranks of this node: `count` from `first` on, of `world`."""

    count: int = 1
    first: int = 0
    world: int = 1


class RankGroup:
    """Speaks as subprocess.Popen does, for all of its processes.

    Args:
        processes: by rank.
        first: the rank of the first of them.
        lost_elsewhere: rank and exit code of each process that another node has lost.
    """

    def __init__(
        self,
        processes: Sequence[subprocess.Popen[bytes]],
        first: int = 0,
        lost_elsewhere: Callable[[], list[tuple[int, int]]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processes = list(processes)
        self._first = first
        self._lost_elsewhere = lost_elsewhere
        self._clock = clock
        self._looked_at = clock()
        self._left_at: float | None = None
        self._echoed_at: float | None = None
        self.lost: tuple[int, int] | None = None
        """Rank and exit code of the process whose end has ended the others."""

    @property
    def size(self) -> int:
        return len(self._processes)

    @property
    def pid(self) -> int:
        return self._processes[0].pid

    def poll(self) -> int | None:
        """The group's exit code once all of it is gone; until then None."""
        codes = [process.poll() for process in self._processes]
        has_left = self._first == 0 and codes[0] in _FINE  # then the others' ends say nothing
        is_looking = self.lost is None and not has_left and self._look_for_losses(codes)
        if has_left:
            self._end_the_rest(codes)
        if None in codes or is_looking:
            return None
        return self.lost[1] if self.lost is not None else codes[0]

    def send_signal(self, signum: int) -> None:
        for process in self._processes:
            process.send_signal(signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look_for_losses(self, codes: Sequence[int | None]) -> bool:
        """Whether a rank was lost, and the cause of that is still to be found."""
        bad = [(self._first + n, code) for n, code in enumerate(codes) if code is not None and code not in _FINE]
        if all(map(_is_echo, bad)):
            bad += self._losses_elsewhere()
        if not bad:
            return False
        if all(map(_is_echo, bad)) and not self._has_waited_for_cause():
            return True
        self.lost = min(bad, key=_distance_from_cause)
        self.kill()
        return False

    def _losses_elsewhere(self) -> list[tuple[int, int]]:
        if self._clock() <= self._looked_at + _LOOK_S:
            return []
        self._looked_at = self._clock()
        return self._lost_elsewhere()

    def _has_waited_for_cause(self) -> bool:
        now = self._clock()
        self._echoed_at = self._echoed_at or now
        return now > self._echoed_at + _CAUSE_S

    def _end_the_rest(self, codes: Sequence[int | None]) -> None:
        now = self._clock()
        self._left_at = self._left_at or now
        if None in codes and now > self._left_at + _LEAVE_S:
            for process in self._processes[1:]:
                process.kill()


def start_ranks(
    command: Sequence[str],
    attempt: AttemptDir,
    part: Part,
    environ: Mapping[str, str],
    lost_elsewhere: Callable[[], list[tuple[int, int]]] = list,
) -> RankGroup:
    """Start this node's processes of an attempt. Rank 0 writes to the attempt's logs, each other one to its own."""
    with ExitStack() as files:

        def log(path: Path) -> int:
            return files.enter_context(path.open("ab")).fileno()

        processes = []
        for local in range(part.count):
            rank = part.first + local
            out, err = (attempt.stdout, attempt.stderr) if rank == 0 else (attempt.rank_log(rank),) * 2
            processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log(out),
                    stderr=log(err),
                    env={**environment_of(local, part, environ), SUPERVISOR_VARIABLE: str(os.getpid())},
                )
            )
    return RankGroup(processes, part.first, lost_elsewhere)


def environment_of(local: int, part: Part, environ: Mapping[str, str]) -> dict[str, str]:
    """What tells the process with that number on this node its place, and shows it its own GPU only.

    Ultralytics lets its LOCAL_RANK 0 do what is to be done once on each node. All nodes share one file system here, so that
    is rank 0 of all.
    """
    made = {name: value for name, value in environ.items() if name not in _PLACE}
    if part.world == 1:
        return made
    rank = str(part.first + local)
    made |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(part.world)}
    gpus = [it for it in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if it.strip()]
    if len(gpus) >= part.count:
        made["CUDA_VISIBLE_DEVICES"] = gpus[local]
    elif "CUDA_VISIBLE_DEVICES" not in environ:
        made["CUDA_VISIBLE_DEVICES"] = str(local)
    return made


def _is_echo(failure: tuple[int, int]) -> bool:
    return failure[1] == ExitCode.GROUP


def _distance_from_cause(failure: tuple[int, int]) -> int:
    """Of several that ended between two looks: a signal is a cause, a lost collective an effect."""
    return 0 if failure[1] < 0 else 2 if _is_echo(failure) else 1
