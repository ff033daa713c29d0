"""Owns what must hold after a campaign, whatever struck: each check gives what is wrong, in words."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from hpc_yolo.events import Event, Events, Kind, read_events
from hpc_yolo.heartbeat import read_beat
from hpc_yolo.rundir import AttemptDir
from tests.chaos.campaign import Campaign, Struck
from tests.chaos.conftest import assert_same_bits, hpc_yolo
from tests.slurm.conftest import SlurmRun, run_command


def violations(campaign: Campaign) -> list[str]:
    found = [text for run in campaign.runs for text in _of_run(campaign, run)]
    found += [text for it in campaign.struck if (text := _redone_after_warning(it, campaign.struck))]
    found += [f"process {pid} is left: {words}" for pid, words in _left_processes(campaign.root)]
    found += [f"{path} is still locked" for path in campaign.root.rglob(".lock") if _is_locked(path)]
    if queue := run_command("squeue", "--noheader"):
        found.append(f"the queue is not empty: {queue}")
    return found + (_of_doomed(campaign.doomed) if campaign.doomed is not None else [])


def ended_an_attempt(struck: Struck, every: Sequence[Struck]) -> bool:
    """Whether it was the last fault that struck its attempt, which had to be followed by another one."""
    same = [it for it in every if it.run is struck.run and it.attempt == struck.attempt]
    return same[-1] is struck and struck.attempt < len(struck.run.dir.attempts())


def _redone_after_warning(struck: Struck, every: Sequence[Struck]) -> str:
    if not (struck.fault.is_warned and ended_an_attempt(struck, every) and (steps := steps_redone(struck))):
        return ""
    return f"{struck.run.path}: {steps} steps were redone after {struck.fault.name} in attempt {struck.attempt}"


def steps_redone(struck: Struck) -> int:
    """What the next attempt had to do again."""
    attempts = struck.run.dir.attempts()
    return _redone(attempts[struck.attempt - 1], attempts[struck.attempt :])


def seconds_lost(struck: Struck) -> float | None:
    """Until training was under way again; None where the attempt went on, or was the last."""
    later = struck.run.dir.attempts()[struck.attempt :]
    started = (it for attempt in later if (it := read_events(attempt.events).first(Kind.TRAINING_STARTED)))
    first = next(started, None)
    return None if first is None else first.time - struck.at


def _of_run(campaign: Campaign, run: SlurmRun) -> Iterator[str]:
    ends = [
        it for attempt in run.dir.attempts() if (it := read_events(attempt.events)).first(Kind.FINISHED) is not None
    ]
    if not ends:
        yield f"{run.path} was never finished"
        return
    # whoever was killed after its last word comes again, finds that all is done, and says so once more
    if any(it.first(Kind.TRAINING_STARTED) is not None for it in ends[1:]):
        yield f"{run.path} was trained to its end {len(ends)} times"
    try:
        assert_same_bits(run, campaign.twins[run.dir.path.name])
    except AssertionError as error:
        yield f"{run.path} has not the bits of its twin: {str(error)[:300]}"
    for before, after in pairwise(run.dir.attempts()):
        events = read_events(before.events)
        stopped, ended = events.last(Kind.STOPPED), events.last(Kind.ATTEMPT_ENDED)
        redone = _redone(before, [after])
        if stopped is not None and redone:
            yield f"{run.path}: attempt {before.number} had saved at a stop, and {redone} steps were redone"
        if ended is None:
            yield f"{run.path}: nobody has told how attempt {before.number} ended"
        elif not ended.fields.get("why"):
            yield f"{run.path}: attempt {before.number} ended without a reason"
    yield from _unexplained(run)


def _unexplained(run: SlurmRun) -> Iterator[str]:
    told = json.loads(hpc_yolo("explain", run.path, "--all", "--json").stdout)
    for attempt in told["attempts"]:
        if attempt["happened"] in ("", "nothing was told"):
            yield f"{run.path}: attempt {attempt['number']} is not explained"


def _of_doomed(run: SlurmRun) -> list[str]:
    status = run.status()
    if status["state"] != "failed" or not status["exit_code"]:
        return [f"the run that must fail is {status['state']}, exit code {status['exit_code']}"]
    return [] if status["reason"] else ["it is not told why the run that must fail has failed"]


def _redone(before: AttemptDir, later: list[AttemptDir]) -> int:
    resumed = next((it for attempt in later if (it := read_events(attempt.events).first(Kind.RESUMED))), None)
    return 0 if resumed is None else max(0, _last_step(before) - _step(resumed))


def _last_step(attempt: AttemptDir) -> int:
    events: Events = read_events(attempt.events)
    beat = read_beat(attempt.heartbeat)
    return max(events.last_step, beat.step if beat else 0)


def _step(event: Event) -> int:
    return int(event.fields.get("step") or 0)


def _left_processes(root: Path) -> Iterator[tuple[int, str]]:
    """Of these runs: supervisors, workers, data loaders."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"{root}/" in words and int(process.name) != os.getpid() and "fault_fs" not in words:
                yield int(process.name), words


def _is_locked(path: Path) -> bool:
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
