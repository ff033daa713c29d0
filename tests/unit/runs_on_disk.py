"""Builds run directories as the supervisor and the worker leave them, by the project's own writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from hpc_yolo.events import Kind, Ledger
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import AttemptDir, RunDir

Tensors = dict[str, np.ndarray[Any, Any]]

HEADER = "epoch,time,train/box_loss,metrics/mAP50-95(B)\n"
EARLIER = 1_700_000_000.0


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@dataclass
class AttemptOnDisk:
    """One attempt being written; `beat` speaks for this living test process unless told to be dead."""

    dir: AttemptDir
    clock: float = EARLIER

    def tell(self, kind: Kind, **fields: Any) -> AttemptOnDisk:
        self.clock += 1
        Ledger(self.dir.events, clock=lambda: self.clock).append(kind, **fields)
        return self

    def at(self, moment: float) -> AttemptOnDisk:
        """What is told next happens then (seconds since the epoch)."""
        self.clock = moment - 1
        return self

    def start(
        self, resumed_at: int | None = 0, epoch: int = 0, host: str = "node7", ranks: int = 1, **fields: Any
    ) -> AttemptOnDisk:
        self.tell(Kind.ATTEMPT_STARTED, attempt=self.dir.number, role="worker", pid=1, host=host, **fields)
        self.tell(Kind.WORKER_STARTED, pid=os.getpid(), host=host, ranks=ranks)
        if resumed_at is not None:
            snapshot = f"step-{resumed_at:09d}.a001.safetensors" if resumed_at else None
            self.tell(Kind.RESUMED, step=resumed_at, epoch=epoch, batch=0, phase="train", snapshot=snapshot)
        return self

    def beat(
        self, step: int, epoch: int = 0, alive: bool = False, at: float | None = None, **values: Any
    ) -> AttemptOnDisk:
        """Args: at: when (seconds since the epoch); None is now."""
        heart = Heart(self.dir.heartbeat, clock=time.time if at is None else lambda: at)
        defaults = {"host": "node7", "epochs": 10, "steps_total": 100, "phase": "train", "step": step, "epoch": epoch}
        for name, value in {**defaults, **values}.items():
            setattr(heart.record, name, value)
        if not alive:
            heart.record.pid = a_dead_pid()
        heart.beat()
        heart.close()
        return self

    def end(self, outcome: str, then: str, why: str = "") -> AttemptOnDisk:
        return self.tell(Kind.ATTEMPT_ENDED, outcome=outcome, exit_code=0, next=then, why=why)


def make_run(path: Path, run_id: str | None = None, name: str = "digits") -> RunDir:
    path.mkdir(parents=True)
    run = RunDir(path)
    run.run_yaml.write_text(yaml.safe_dump({"id": run_id or path.name, "name": name, "train": {"epochs": 10}}))
    return run


def begin(run: RunDir, number: int = 1) -> AttemptOnDisk:
    attempt = run.attempt(number)
    attempt.path.mkdir(parents=True)
    return AttemptOnDisk(attempt, EARLIER + 1000 * number)


def some_tensors(seed: int = 0) -> Tensors:
    random = np.random.default_rng(seed)
    return {
        "model/0.weight": random.normal(size=(4, 3)).astype(np.float32),
        "model/0.count": np.array(7, dtype=np.int64),
        "ema/0.weight": random.normal(size=(4, 3)).astype(np.float16),
        "optimizer/0/momentum_buffer": random.normal(size=(4, 3)).astype(np.float32),
    }


def some_state() -> dict[str, Any]:
    return {
        "ema_updates": 40,
        "best_fitness": 0.41,
        "metrics": {"metrics/mAP50-95(B)": 0.41},
        "optimizer_groups": [{"lr": 0.01, "momentum": 0.9}],
        "stopper": {"best_epoch": 3, "patience": 100},
        "seconds": 12.5,
        "environment": {"cpu": "this one"},
        "results_csv": "epoch,time\n1,12.5\n",
    }


def write_snapshot(
    run: RunDir,
    tensors: Tensors | None = None,
    state: dict[str, Any] | None = None,
    step: int = 100,
    attempt: int = 1,
    phase: str = "done",
) -> Path:
    held = some_tensors() if tensors is None else tensors
    body = {
        "format": 1, "config_hash": "c0ffee", "step": step, "epoch": 9, "batch": 10, "phase": phase,
        "state": some_state() if state is None else state,
        "digests": {name: zlib.crc32(value.tobytes()) for name, value in held.items()},
    }  # fmt: skip
    text = json.dumps(body)
    run.snapshots_dir.mkdir(exist_ok=True)
    path = run.snapshots_dir / f"step-{step:09d}.a{attempt:03d}.safetensors"
    save_file(held, path, metadata={"hpc_yolo": text, "crc32": str(zlib.crc32(text.encode()))})
    return path


def write_weights(path: Path, storages: list[bytes], date: str = "today") -> None:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", date)
        for number, storage in enumerate(storages):
            archive.writestr(f"{path.stem}/data/{number}", storage)


def make_done_run(path: Path, time_s: float = 1.5) -> RunDir:
    """A finished run with everything that a comparison looks at."""
    run = make_run(path)
    begin(run).start().beat(100, epoch=9).tell(Kind.FINISHED, step=100, metrics={"metrics/mAP50-95(B)": 0.41})
    write_snapshot(run, state={**some_state(), "seconds": time_s})
    run.results_csv.write_text(HEADER + f"1,{time_s},1.2,0.3\n2,{2 * time_s},1.1,0.41\n")
    for name in ("best.pt", "last.pt"):
        write_weights(run.weights_dir / name, [b"0123456789abcdef", b"\x00" * 8], date=str(time_s))
    return run
