"""Real controllers, real supervisors through real submitit; only the worker is fake_worker.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc_yolo.config import ClusterConfig, Exact, RetryConfig, SnapshotConfig
from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.frozen import Launch, write_launch
from hpc_yolo.heartbeat import read_beat
from hpc_yolo.report.history import read_history
from hpc_yolo.report.status import RunStatus, status_of
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.supervise.pack import MemberTask, PackTask
from hpc_yolo.supervise.task import TrainTask

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
FINISH: dict[str, Any] = {"then": "finish"}
TRAIN_ON: dict[str, Any] = {"then": "train on"}
HANG: dict[str, Any] = {"then": "hang"}
CRASH: dict[str, Any] = {"then": "fail", "code": 70}


class FakeTask(TrainTask):
    """The real task with another worker."""

    def worker_command(self, attempt: AttemptDir) -> list[str]:
        return [sys.executable, str(FAKE_WORKER), self.run_dir, str(attempt.number)]


class FakeMember(MemberTask):
    """The real one of several, with another worker."""

    worker_command = FakeTask.worker_command


class FakePack(PackTask):
    """The real task of several, with other workers."""

    def member_command(self, run: RunDir, runs: int) -> list[str]:
        script = "import sys; from tests.unit.supervised import FakeMember; FakeMember(sys.argv[1], int(sys.argv[2]))()"
        return [sys.executable, "-c", script, str(run.path), str(runs)]


def make_run(path: Path, *parts: dict[str, Any], **retry: Any) -> RunDir:
    path.mkdir(parents=True)
    run = RunDir(path)
    run.run_yaml.write_text(f"{{id: {path.name}}}")
    (path / "part.json").write_text(json.dumps(parts))
    write_launch(run, replace(launch_of(), retry=RetryConfig(**retry)))
    return run


def launch_of(**snapshot: Any) -> Launch:
    """What an attempt is launched with by default."""
    return Launch(
        train={},
        exact=Exact.WARN,
        snapshot=SnapshotConfig(**snapshot),
        retry=RetryConfig(),
        cluster=ClusterConfig(),
    )


def task_of(run: RunDir) -> FakeTask:
    return FakeTask(str(run.path.absolute()))


def events(run: RunDir, kind: Kind) -> list[Event]:
    return [event for attempt in run.attempts() for event in read_events(attempt.events) if event.kind is kind]


def endings(run: RunDir) -> list[tuple[str, str]]:
    """(outcome, next) of each attempt that has ended."""
    return [(e.fields["outcome"], e.fields["next"]) for e in events(run, Kind.ATTEMPT_ENDED)]


def status(run: RunDir) -> RunStatus:
    return status_of(read_history(run))


def supervisor(run: RunDir) -> int:
    """Its pid, which is its process group's too."""
    return int(events(run, Kind.ATTEMPT_STARTED)[-1].fields["pid"])


def worker(run: RunDir) -> int:
    return int(events(run, Kind.WORKER_STARTED)[-1].fields["pid"])


def warn(run: RunDir) -> None:
    """As Slurm warns: every process of the job step."""
    os.killpg(supervisor(run), signal.SIGUSR1)


def until(what: Callable[[], Any], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def until_attempt(run: RunDir, number: int, step: int = 1) -> None:
    """Attempt `number` has got to `step`."""

    def is_there() -> bool:
        attempts = run.attempts()
        beat = read_beat(attempts[-1].heartbeat) if len(attempts) == number else None
        return beat is not None and beat.step >= step

    until(is_there)


def processes_of(run: RunDir) -> list[str]:
    """Command lines of all living processes that name the run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(run.path) in line or str(run.submitit_dir) in line:
            found.append(line)
    return found
