"""Real processes, really killed. Every run here has the same frozen config, so all must end with the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.heartbeat import Beat, read_beat
from hpc_yolo.rundir import RunDir, runs_of
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.submit.train_command import main as train
from tests.edge import environment
from tests.material import write_architecture, write_scenes

HPC_YOLO = (sys.executable, "-m", "hpc_yolo")
DEADLINE_S = 240


def wait_until(condition: Callable[[], Any], what: str, pause_s: float = 0.01) -> Any:
    """Poll until `condition` gives something true; a test never sleeps and hopes."""
    until = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {DEADLINE_S} s for {what}"
        time.sleep(pause_s)
    return value


def hpc_yolo(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HPC_YOLO, *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False, **options
    )


@dataclass
class Run:
    """A run on disk, and the bare worker processes that a test drives it with."""

    dir: RunDir
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return str(self.dir.path)

    def start(
        self,
        *words: str,
        edge: dict[str, Any] | None = None,
        packages: Sequence[Path] = (),
        cwd: Path | None = None,
        preexec_fn: Callable[[], None] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a worker.

        Args:
            edge: what its machine is like; see tests/edge_of_a_process.
            packages: folders whose packages shadow the installed ones.
            cwd: where it is started; a package there comes before all others.
        """
        process = subprocess.Popen(
            [*HPC_YOLO, "run", self.path, *words],
            env=environment(edge, packages),
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=preexec_fn,  # noqa: PLW1509 (a limit on file sizes; we have no threads)
        )
        self.processes.append(process)
        return process

    def finish(self) -> None:
        """Start it once more and let it end."""
        code, err = self.end()
        assert code == 0, err

    def end(self, **surroundings: Any) -> tuple[int, str]:
        """Start it once more and let it end: its exit code, and what it said on stderr."""
        process = self.start(**surroundings)
        _, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, err

    def copy(self, name: str) -> Run:
        """The same run, as it stands, in a directory of its own."""
        target = self.dir.path.parent.with_name(name) / self.dir.path.name
        shutil.copytree(self.path, target)
        return Run(RunDir(target))

    def events(self, kind: Kind) -> list[Event]:
        return [e for attempt in self.dir.attempts() for e in read_events(attempt.events) if e.kind is kind]

    def beat(self) -> Beat:
        attempts = self.dir.attempts()
        return (read_beat(attempts[-1].heartbeat) if attempts else None) or Beat()

    def wait_for_step(self, step: int) -> None:
        wait_until(lambda: self.beat().step >= step and self.beat().phase != "start", f"step {step}", pause_s=0.002)

    def warn_at_step(self, step: int, *signums: signal.Signals) -> int:
        """Start, warn as a scheduler does when `step` is done, and give the exit code."""
        process = self.start()
        self.wait_for_step(step)
        for signum in signums:
            process.send_signal(signum)
            time.sleep(0.02)
        return process.wait(DEADLINE_S)

    def kill_when(self, condition: Callable[[], Any], what: str) -> None:
        process = self.start()
        wait_until(condition, what, pause_s=0.0005)
        process.kill()
        process.wait(DEADLINE_S)

    def status(self) -> dict[str, Any]:
        answer = hpc_yolo("status", self.path, "--json")
        assert answer.returncode == 0, answer.stderr
        (row,) = json.loads(answer.stdout)
        return dict(row)


@dataclass
class Factory:
    """Makes runs of one config; the first is trained undisturbed, for the others to be compared with."""

    root: Path
    options: tuple[str, ...]
    made: list[Run] = field(default_factory=list)

    def __call__(self, name: str, *options: str) -> Run:
        assert (
            train([*self.options, f"name={name}", f"runs_dir={self.root}", *options], launch=lambda _run, _wait: 0) == 0
        )
        (run,) = runs_of(self.root / name)
        self.made.append(Run(run))
        return self.made[-1]


def assert_same_bits(run: Run, reference: Run) -> None:
    answer = hpc_yolo("compare", reference.path, run.path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "bit-identical: yes" in answer.stdout


def as_if_saved_with(run: Run, **environment: str) -> None:
    """Make the newest snapshot one that was saved with these surroundings."""
    store = SnapshotStore(run.dir.snapshots_dir)
    found = store.newest()
    assert found is not None
    found[1].plain["environment"].update(environment)
    store.commit(found[1], attempt=1)


def end_processes(factory: Factory) -> None:
    for run in factory.made:
        for process in run.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """60 steps of a tiny model, a snapshot at each epoch's end and every second."""
    root = tmp_path_factory.mktemp("small")
    data = write_scenes(root / "data", train=60, val=40)
    architecture = write_architecture(root / "tiny.yaml")
    options = (
        f"data.yaml={data}", f"model.weights={architecture}", "train.imgsz=64", "train.epochs=4", "train.batch=4",
        "train.nbs=4", "train.device=cpu", "train.optimizer=AdamW", "train.lr0=0.003", "train.plots=false",
        "train.amp=false", "train.close_mosaic=1", "train.warmup_epochs=1.2", "cluster.cpu_threads=1", "snapshot.every_s=1",
        "exact=strict",
    )  # fmt: skip
    factory = Factory(root / "runs", options)
    yield factory
    end_processes(factory)


@pytest.fixture(scope="session")
def undisturbed(small: Factory) -> Run:
    run = small("undisturbed")
    run.finish()
    return run
