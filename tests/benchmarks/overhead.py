"""What the protection costs: stock ultralytics and the exact trainer in turn, in one process, on the same data.

    python tests/benchmarks/overhead.py [--model yolo11n.yaml] [--imgsz 160] [--images 96] [--batch 8] [--rounds 3]

Prints, for each side, the seconds a step from the second epoch on (the median round), and the ratio. CPU seconds are less
noisy than wall-clock on a shared machine; look at both.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_VERBOSE", "false")

from hpc_yolo.exact import environment

environment.pin(2)

import torch
from ultralytics.models.yolo.detect import DetectionTrainer

from hpc_yolo.events import Ledger
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.exact.trainer import ExactDetectionTrainer
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.schedule import EverySeconds
from hpc_yolo.snapshot.store import SnapshotStore
from tests.material import write_scenes


class Stopwatch:
    """Counts CPU and wall seconds of whole epochs, validation included, from the second epoch on."""

    def __init__(self) -> None:
        self.begin: tuple[float, float] | None = None
        self.end: tuple[float, float] | None = None
        self.steps = 0

    def attach(self, trainer: Any) -> Any:
        trainer.add_callback("on_train_epoch_start", self._epoch)
        trainer.add_callback("on_train_batch_end", self._batch)
        trainer.add_callback("on_fit_epoch_end", self._fit)
        return trainer

    def _epoch(self, trainer: Any) -> None:
        if trainer.epoch == 1:
            self.begin = now()

    def _batch(self, trainer: Any) -> None:
        self.steps += trainer.epoch >= 1

    def _fit(self, trainer: Any) -> None:
        if trainer.epoch == trainer.epochs - 1:
            self.end = now()

    def per_step(self) -> tuple[float, float]:
        assert self.begin is not None
        assert self.end is not None
        return tuple((e - b) / self.steps for b, e in zip(self.begin, self.end, strict=True))  # type: ignore[return-value]


def now() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, time.perf_counter()


def exact_trainer(root: Path, overrides: dict[str, Any]) -> Any:
    run = RunDir(root)
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    session = Session(
        run=run,
        attempt=attempt,
        config_hash="benchmark",
        stop=StopRequest(),
        ledger=Ledger(attempt.events),
        heart=Heart(attempt.heartbeat),
        store=SnapshotStore(run.snapshots_dir),
        interval=EverySeconds(300),
        environment={},
    )
    session.start_pulse()
    return ExactDetectionTrainer(session=session, overrides=overrides, cpu_threads=2, streams=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo11n.yaml")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {"stock": [], "exact": []}
    with tempfile.TemporaryDirectory() as scratch:
        data = write_scenes(Path(scratch) / "data", train=asked.images, val=16)
        for number in range(asked.rounds):
            for side in ("stock", "exact") if number % 2 == 0 else ("exact", "stock"):
                overrides = {
                    "model": asked.model, "data": str(data), "imgsz": asked.imgsz, "epochs": asked.epochs,
                    "batch": asked.batch, "nbs": asked.batch, "optimizer": "SGD", "device": "cpu", "workers": 0,
                    "plots": False, "amp": False, "verbose": False, "close_mosaic": 0, "exist_ok": True,
                    "project": scratch, "name": f"{side}{number}",
                }  # fmt: skip
                watch = Stopwatch()
                if side == "stock":
                    trainer = DetectionTrainer(overrides=overrides)
                    torch.set_num_threads(2)
                else:
                    trainer = exact_trainer(Path(scratch) / f"{side}{number}", overrides)
                watch.attach(trainer).train()
                results[side].append(watch.per_step())
    print()
    for side, values in results.items():
        cpu, wall = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{side}: {cpu * 1e3:.1f} ms CPU, {wall * 1e3:.1f} ms wall-clock a step")
    for column, name in enumerate(("CPU", "wall-clock")):
        ratios = [e[column] / s[column] for s, e in zip(results["stock"], results["exact"], strict=True)]
        print(f"exact / stock, {name}: {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
