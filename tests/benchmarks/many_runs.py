"""Owns run directories by the thousand, written as the supervisor and the worker leave them; and looking at them in a process.

Trains nothing. A run's run.yaml and launch.yaml are those of one that was really composed, but for the id.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hpc_yolo import train_args
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.frozen import FrozenRun, launch_text, run_text
from hpc_yolo.heartbeat import RECORD_BYTES, Beat
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.submissions import note_submission
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.types import JobId
from tests.benchmarks.verdict import child_environment
from tests.unit.stub_commands import Stubs
from tests.unit.submit.fake_slurm import FakeSlurm, make_fake_slurm
from tests.unit.submit.plans import make_plans

_STEPS = 10  # an epoch
_SECONDS = 1000.0  # an attempt
#: The kernel's own word for the most memory: getrusage tells of the parent's, too.
_CHILD = """\
import json, re, sys
from hpc_yolo.cli import main
code = main(sys.argv[2:])
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
told = {"peak_mb": peak / 1024, "torch": "torch" in sys.modules, "code": code}
open(sys.argv[1], "w").write(json.dumps(told))
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a command took in a process of its own."""

    seconds: float
    peak_mb: float
    has_torch: bool
    code: int
    out: str


def write_sweep(folder: Path, count: int, attempts: int, epochs: int, *, done: bool = True) -> list[RunDir]:
    """So many runs, each of so many attempts, that were all submitted to Slurm.

    Args:
        epochs: of all attempts together.
        done: all of them. Else every fourth was preempted and its job is gone, and every fourth runs on another machine.
    """
    (plan,) = make_plans(folder, 1)
    texts = run_text(_with_arguments(plan)), launch_text(plan.launch)
    return [
        _write_run(RunDir(folder / f"{number:010x}"), texts, number, attempts, epochs, "done" if done else _end(number))
        for number in range(count)
    ]


def fake_slurm(folder: Path) -> FakeSlurm:
    folder.mkdir()
    return make_fake_slurm(Stubs(folder))


def run_command(words: Sequence[str], slurm: FakeSlurm, scratch: Path) -> Looked:
    """`hpc-yolo WORDS`, with the fake Slurm on its PATH."""
    told = scratch / "told.json"
    environment = {**child_environment(), "PATH": f"{slurm.stubs.bin}:/usr/bin:/bin"}
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", _CHILD, str(told), *words], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if answer.returncode:
        raise SystemExit(f"hpc-yolo {' '.join(words)}: {answer.stderr}")
    found = json.loads(told.read_text())
    return Looked(seconds, found["peak_mb"], found["torch"], found["code"], answer.stdout)


def write_attempt(attempt: AttemptDir, first: int, epochs: int, end: str, job: str) -> None:
    """One that trained `epochs` epochs from `first` on, and was then preempted, or is done, or runs on."""
    attempt.path.mkdir(parents=True)
    moment = time.time() - 1e6 + _SECONDS * attempt.number
    lines: list[bytes] = []

    def tell(kind: Kind, **fields: object) -> None:
        nonlocal moment
        moment += 1
        lines.append(Ledger(attempt.events, clock=lambda: moment).line(kind, **fields))

    tell(
        Kind.ATTEMPT_STARTED,
        attempt=attempt.number,
        role="supervisor",
        pid=7,
        host="node7",
        job_id=job,
        restart_count=0,
        signal_delay_s=120,
    )
    tell(Kind.WORKER_STARTED, pid=8, host="node7", ranks=1)
    tell(Kind.RESUMED, step=_STEPS * first, epoch=first, batch=0, phase="train", snapshot=None, read_s=0.1)
    metrics = {f"metrics/{name}(B)": 0.123456 for name in ("precision", "recall", "mAP50", "mAP50-95")}
    for epoch in range(first, first + epochs):
        step = _STEPS * (epoch + 1)
        tell(Kind.EPOCH_ENDED, epoch=epoch, step=step, metrics=metrics, fitness=0.12)
        name = f"step-{step:09d}.a{attempt.number:03d}.safetensors"
        tell(Kind.SNAPSHOT_COMMITTED, file=name, step=step, bytes=10**7, seconds=0.5, stall_s=0.01, cause="epoch")
    step = _STEPS * (first + epochs)
    if end == "done":
        tell(Kind.FINISHED, step=step, metrics=metrics)
        tell(Kind.ATTEMPT_ENDED, outcome="done", exit_code=0, next="done", why="")
    elif end == "preempted":
        tell(Kind.STOPPED, step=step)
        tell(Kind.ATTEMPT_ENDED, outcome="preemption", exit_code=75, next="requeue", why="")
    attempt.events.write_bytes(b"".join(lines))
    at = time.time() if end == "running" else moment
    beat = Beat(pid=8, host="node7", boot="another", time=at, step=step, steps_total=10**4)
    attempt.heartbeat.write_text(json.dumps(asdict(beat)).ljust(RECORD_BYTES - 1) + "\n")


def _write_run(run: RunDir, texts: tuple[str, str], number: int, attempts: int, epochs: int, end: str) -> RunDir:
    run.path.mkdir(parents=True)
    run.run_yaml.write_text(texts[0].replace("id: '0000'", f"id: '{run.path.name}'", 1))
    run.launch_yaml.write_text(texts[1])
    job = f"100_{number}"
    note_submission(run, JobId(job), run.submitit_dir / "array-001")
    each = epochs // attempts
    for attempt in range(1, attempts + 1):
        write_attempt(
            run.attempt(attempt), each * (attempt - 1), each, end if attempt == attempts else "preempted", job
        )
    return run


def _end(number: int) -> str:
    return {1: "preempted", 2: "running"}.get(number % 4, "done")


def _with_arguments(plan: Plan) -> FrozenRun:
    """A run.yaml has every argument of ultralytics."""
    return replace(plan.frozen, train={"epochs": 30, **train_args.defaults()})
