"""Owns the two trainers that are compared: stock ultralytics', and the exact one with all that goes with it.

Import it after `environment.pin`: it imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ultralytics.engine import trainer as upstream_trainer
from ultralytics.models.yolo.detect import DetectionTrainer

from hpc_yolo.events import Ledger
from hpc_yolo.exact import trainer as exact_trainer
from hpc_yolo.exact.journal import Journal
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.exact.trainers import ExactDetectionTrainer
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.schedule import EverySeconds
from hpc_yolo.snapshot.store import SnapshotStore

STOCK, EXACT = "stock", "exact"


def make_trainer(side: str, root: Path, overrides: dict[str, Any], *, threads: int, every_s: float = 300) -> Any:
    """A trainer of that side which trains into `root`, with `threads` CPU threads."""
    _decide_amp_without_a_download()
    overrides = {**overrides, "project": str(root.parent), "name": root.name, "exist_ok": True}
    if side == STOCK:
        trainer: Any = DetectionTrainer(overrides=overrides)
        torch.set_num_threads(threads)  # upstream takes a number that follows the machine
        trainer.args.workers = overrides.get("workers", 0)
        return trainer
    session = make_session(root, every_s)
    session.start_pulse()
    made = ExactDetectionTrainer(
        session=session, overrides=overrides, cpu_threads=threads, streams=max(8, overrides.get("workers", 0))
    )
    made.benchmark_session = session
    return made


def make_session(root: Path, every_s: float) -> Session:
    """What a worker makes: snapshots, heartbeat, ledger and fence, all on."""
    run = RunDir(root)
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    return Session(
        run=run,
        attempt=attempt,
        config_hash="benchmark",
        stop=StopRequest(),
        journal=Journal(Ledger(attempt.events), Heart(attempt.heartbeat)),
        store=SnapshotStore(run.snapshots_dir),
        interval=EverySeconds(every_s),
        environment={},
    )


def finish_writes(trainer: Any) -> None:
    """Wait for what the exact side still has to write; the stock side writes while it waits anyway."""
    session = getattr(trainer, "benchmark_session", None)
    if session is not None:
        session.settle()


def synchronize(trainer: Any) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)


def device_name(device: str) -> str:
    return "cpu" if device == "cpu" else str(torch.cuda.get_device_name(int(device)))


def _decide_amp_without_a_download() -> None:
    """Upstream's test of mixed precision fetches a model; where a GPU trains here, both sides take it for passed."""
    exact_trainer.check_amp = upstream_trainer.check_amp = lambda _model: True
