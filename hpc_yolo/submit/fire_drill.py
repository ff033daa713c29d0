"""Owns `hpc-yolo drill`: a small run is preempted for real, on the cluster in question, and must end as its undisturbed twin.

Submits, warns and requeues by the same ways as the commands, and judges by the runs' own ledgers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Kind, read_events
from hpc_yolo.report.compare import compare
from hpc_yolo.report.jobs import look
from hpc_yolo.report.status import SETTLED, RunStatus, status_of
from hpc_yolo.report.tables import duration
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit import operate
from hpc_yolo.submit.train_command import composed, train
from hpc_yolo.types import ExitCode, RunState

#: At which parts of the run it is disturbed, and how; on this machine there is nobody to requeue it.
_WHEN = (0.25, 0.6)
_EVERY_S = {"slurm": 5.0, "local": 0.5}


class DrillError(HpcYoloError):
    """The drill came to no end: what kept it from that is for a person to mend."""

    exit_code = ExitCode.BUG


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One interruption, and how the run came back."""

    how: str
    saved_at: int | None
    """The step whose state was saved; None where it saved nothing."""
    resumed_at: int
    seconds: float
    """From the request to stop until the training was under way again, the queue included."""
    nodes: tuple[str, str]
    """Before and after."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Outcome:
    """What the drill has shown. `problems` is empty where all is as promised."""

    run: str
    twin: str
    disturbances: list[Disturbance]
    steps_redone: int
    is_equal: bool
    problems: list[str] = field(default_factory=list)


def run_drill(words: Sequence[str], *, deadline_s: float, is_json: bool) -> int:
    """Do it and say what came of it; 1 where it did not come back as promised.

    Raises:
        HpcYoloError: the words are not usable, or a run failed or did not end in time.
    """
    every_s = _EVERY_S[composed(_words(words, "drill"))[0].cluster.kind]
    moment = time.strftime("%Y%m%d-%H%M%S")
    with redirect_stdout(sys.stderr):
        run, twin = (_submit(words, f"drill-{moment}{suffix}") for suffix in ("", "-undisturbed"))
        try:
            hows = _disturb_and_wait(run, twin, every_s, time.monotonic() + deadline_s)
        except BaseException:
            _tell("stopped; both runs are cancelled")
            operate.cancel([run, twin])
            raise
    found = judge(run, twin, hows)
    print(json.dumps(asdict(found), indent=1) if is_json else as_text(found))
    return ExitCode.NOT_EQUAL if found.problems else ExitCode.DONE


def judge(run: RunDir, twin: RunDir, hows: Sequence[str]) -> Outcome:
    """By what both have left behind."""
    status = look([run], status_of)[0]
    comparison = compare(run, twin)
    disturbances = disturbances_of(run, hows)
    problems = [
        *([] if len(disturbances) == len(hows) else [f"{len(hows)} disturbances, but {len(disturbances)} returns"]),
        *([f"{status.steps_redone} steps were done twice"] if status.steps_redone else []),
        *([] if comparison.is_equal else [f"the bits differ: `hpc-yolo compare {run.path} {twin.path}` says where"]),
        *([str(status.reason)] if status.reason and "not exact" in status.reason else []),
    ]
    return Outcome(
        run=str(run.path),
        twin=str(twin.path),
        disturbances=disturbances,
        steps_redone=status.steps_redone,
        is_equal=comparison.is_equal,
        problems=problems,
    )


def disturbances_of(run: RunDir, hows: Sequence[str]) -> list[Disturbance]:
    """One for each attempt that another one followed."""
    ledgers = [read_events(attempt.events) for attempt in run.attempts()]
    found = []
    for how, before, after in zip(hows, ledgers, ledgers[1:], strict=False):
        asked, stopped = before.first(Kind.STOP_REQUESTED), before.last(Kind.STOPPED)
        resumed, training = after.first(Kind.RESUMED), after.first(Kind.TRAINING_STARTED)
        begun = [it.first(Kind.ATTEMPT_STARTED) for it in (before, after)]
        if asked is None or resumed is None or training is None:
            continue
        hosts = [str(it.fields.get("host")) if it else "?" for it in begun]
        saved_at = None if stopped is None else stopped.step
        seconds = round(training.time - asked.time, 1)
        found.append(Disturbance(how, saved_at, resumed.step, seconds, (hosts[0], hosts[1])))
    return found


def as_text(found: Outcome) -> str:
    lines = [
        f"{it.how}: saved at step {it.saved_at}, went on from step {it.resumed_at} on {it.nodes[1]} (before: {it.nodes[0]}), "
        f"training again after {duration(it.seconds)}"
        for it in found.disturbances
    ]
    verdict = "exact: it ended with the bits of its undisturbed twin, and no step was done twice"
    lines += [f"NOT as promised: {it}" for it in found.problems] or [verdict]
    return "\n".join([*lines, f"the runs: {found.run} and {found.twin}"])


def _words(words: Sequence[str], name: str) -> list[str]:
    """Its own settings first, so that the user's count more."""
    given = {word.partition("=")[0] for word in words}
    own = {"experiment": "drill", "name": name, "wait": "false"}
    runs_dir = next((word.partition("=")[2] for word in reversed(words) if word.startswith("runs_dir=")), "runs")
    if not given & {"data", "data.yaml", "data.digits.root"}:
        own["data.digits.root"] = str(Path(runs_dir).expanduser().absolute() / "drill-data")  # where every node sees it
    return [*(f"{key}={value}" for key, value in own.items() if key not in given), *words]


def _submit(words: Sequence[str], name: str) -> RunDir:
    runs, codes = train(_words(words, name))
    if not runs or any(codes):
        raise DrillError(f"the drill's run {name} could not be submitted; the reason is above.")
    return runs[0]


def _disturb_and_wait(run: RunDir, twin: RunDir, every_s: float, until: float) -> list[str]:
    """Disturb the one when it is so far, and wait for both; returns how it was disturbed."""
    hows: list[str] = []
    told: tuple[object, ...] = ()
    while True:
        status, other = look([run, twin], status_of)
        now = (status.state.value, status.attempts, other.state.value)
        if now != told:
            told = now
            _tell(f"the run: {_said(status)}; its undisturbed twin: {_said(other)}")
        for it in (status, other):
            if it.state in (RunState.FAILED, RunState.CANCELLED):
                raise DrillError(f"{it.dir} {it.state.value}: {it.reason}. `hpc-yolo explain {it.dir}` tells more.")
        if status.state in SETTLED and other.state in SETTLED:
            return hows
        if time.monotonic() > until:
            raise DrillError(
                f"the drill did not end in time: {_said(status)}, {_said(other)}. Give it a longer --deadline."
            )
        if len(hows) < len(_WHEN) and _is_due(status, len(hows)):
            hows.append(_disturb(run, status, len(hows)))
        time.sleep(every_s if status.state is not RunState.RUNNING else min(every_s, 1.0))


def _is_due(status: RunStatus, done: int) -> bool:
    is_far_enough = status.steps_total is not None and status.step >= _WHEN[done] * status.steps_total
    return status.state is RunState.RUNNING and status.attempts == done + 1 and is_far_enough


def _disturb(run: RunDir, status: RunStatus, number: int) -> str:
    """A warning as before a preemption; the second time a real requeue, where Slurm has the run and allows that."""
    ways: list[tuple[str, Callable[[Sequence[RunDir]], list[operate.Outcome]]]] = [("user signal", operate.preempt)]
    if number == 1 and status.job_id is not None:
        ways.insert(0, ("scontrol requeue", operate.requeue))
    for how, disturb in ways:
        outcomes = disturb([run])
        _tell(f"{how} at step {status.step}: {'; '.join(it.said for it in outcomes)}")
        if operate.worst(outcomes) == ExitCode.DONE:
            return how
    raise DrillError(f"{run.path} could not be disturbed; the reason is above.")


def _said(status: RunStatus) -> str:
    where = f" at step {status.step} of {status.steps_total}" if status.steps_total else ""
    reason = f" ({status.reason})" if status.reason and status.state is not RunState.DONE else ""
    return f"{status.state.value}{where}{reason}"


def _tell(text: str) -> None:
    print(f"hpc-yolo: {text}", file=sys.stderr, flush=True)
