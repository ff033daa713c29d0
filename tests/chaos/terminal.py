"""A terminal in which `hpc-yolo train` runs, with its supervisor: what a test does there, and what it sees."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import find_runs
from tests.chaos.conftest import DEADLINE_S, HPC_YOLO, Factory, Run, hpc_yolo, wait_until
from tests.edge import environment


@dataclass
class Terminal:
    """One `hpc-yolo train` in a session of its own, as a terminal would have it."""

    factory: Factory
    name: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def train(self, *options: str, edge: dict[str, Any] | None = None) -> subprocess.Popen[str]:
        """Start it; `edge` is what the machine is like (see edge_of_a_process/)."""
        words = [
            *HPC_YOLO,
            "train",
            *self.factory.options,
            f"name={self.name}",
            f"runs_dir={self.factory.root}",
            *options,
        ]
        process = subprocess.Popen(
            words,
            env=environment(edge),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    @property
    def run(self) -> Run:
        return Run(wait_until(lambda: next(find_runs(self.factory.root / self.name), None), "the run directory"))

    def close(self) -> None:
        """End what still runs here."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def pid_of(self, kind: Kind) -> int:
        events = [e for a in self.run.dir.attempts() for e in read_events(a.events) if e.kind is kind]
        return int(events[-1].fields["pid"])

    def pids(self) -> set[int]:
        """Every process that has ever worked for the run."""
        events = [e for a in self.run.dir.attempts() for e in read_events(a.events)]
        return {int(e.fields["pid"]) for e in events if e.kind in (Kind.ATTEMPT_STARTED, Kind.WORKER_STARTED)}


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out


def at_work_for(run: Run) -> list[str]:
    """The command lines of all living processes that name the run: controller, supervisor, worker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [words] if run.dir.path.name in words and run.path in words else []
    return found


def preempt(run: Run) -> None:
    answer = hpc_yolo("preempt", run.path)
    assert answer.returncode == 0, answer.stderr
