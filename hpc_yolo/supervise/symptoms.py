"""Owns gathering what is known of a worker's end: its last words, the end of its log, what the kernel killed for memory."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from hpc_yolo.causes import Found, Symptoms, recognise, rules_of
from hpc_yolo.config import RetryConfig
from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import AttemptDir
from hpc_yolo.types import ExitCode

#: The end of a log that is looked through: a traceback, and what native code says before it aborts.
_TAIL_BYTES = 6000
_FINE = (ExitCode.DONE, ExitCode.STOPPED)
_OWN_CGROUPS, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cause_of(
    attempt: AttemptDir,
    code: int,
    retry: RetryConfig,
    *,
    rank: int = 0,
    was_oom_killed: bool = False,
    hung: str = "",
) -> Found | None:
    """The cause of an end, as far as a rule recognises it; None of an orderly one.

    Args:
        code: as subprocess has it.
        rank: of the process whose end it was; only rank 0 tells its error to the ledger.
        was_oom_killed: meanwhile the kernel has killed a process of this job for its memory.
        hung: how it hung, in words, where it was killed for that.
    """
    if code in _FINE:
        return None
    if hung:
        found = recognise(Symptoms(state="HANG"), rules_of(retry.rules))
        return found and Found(found.rule, hung)
    symptoms = symptoms_of(attempt, code, rank=rank, was_oom_killed=was_oom_killed)
    return recognise(symptoms, rules_of(retry.rules))


def symptoms_of(attempt: AttemptDir, code: int, *, rank: int = 0, was_oom_killed: bool = False) -> Symptoms:
    """What is known. Of a storage that does not answer, the exit code alone."""
    exception, error, tail = "", "", ""
    with suppress(OSError):
        failed = read_events(attempt.events).last(Kind.FAILED) if rank == 0 else None
        if failed is not None:
            exception, error = str(failed.fields.get("exception") or ""), str(failed.fields.get("error") or "")
        elif code != -signal.SIGKILL:  # whom others kill has said nothing about it
            tail = _end_of(attempt.stderr if rank == 0 else attempt.rank_log(rank))
    state = "OOM_KILL" if was_oom_killed else ""
    return Symptoms(exit_code=code, exception=exception, error=error, tail=tail, state=state)


def oom_kills(own: Path = _OWN_CGROUPS, root: Path = _CGROUPS) -> int:
    """How many processes of this control group the kernel has killed for their memory so far; 0 where it does not tell.

    Slurm gives each task's step one of its own where it limits memory.
    """
    counts = [0]
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":  # version 2
                counts.append(_count(root / path.lstrip("/") / "memory.events"))
            elif "memory" in controllers.split(","):
                counts.append(_count(root / "memory" / path.lstrip("/") / "memory.oom_control"))
    return max(counts)


def _count(file: Path) -> int:
    """Of the line `oom_kill N`."""
    with suppress(OSError, ValueError):
        values = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
        return int(values.get("oom_kill", 0))
    return 0


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        return file.read().decode(errors="replace")
