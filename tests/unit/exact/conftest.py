"""A real training, small enough to be run dozens of times: stopped anywhere, gone on with, and compared to the bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from hpc_yolo.events import Ledger
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.exact.trainer import ExactDetectionTrainer
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.schedule import Interval
from hpc_yolo.snapshot.store import SnapshotStore

#: A detector with all that the loop and the loss treat specially (batch norm, attention-free C3k2, two scales), 60 k weights.
ARCHITECTURE = {
    "nc": 3,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C3k2", [16, False, 0.25]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C3k2", [32, False, 0.25]],
        [-1, 1, "Conv", [32, 3, 2]],
    ],
    "head": [[[4, 5], 1, "Detect", ["nc"]]],
}

StopWhen = tuple[str, Callable[[Any], bool]]


def stop_at(epoch: int, batch: int) -> StopWhen:
    """A stop request that arrives while `batch` (from 0) of `epoch` is trained."""
    return "on_train_batch_end", lambda trainer: trainer.epoch == epoch and trainer._batch == batch


class Plateau(ExactDetectionTrainer):
    """Its fitness only falls, as it does for a model that has stopped learning."""

    def validate(self) -> Any:
        metrics, _ = super().validate()
        fitness = 1 / (1 + self.epoch)
        self.best_fitness = 1.0
        return metrics, fitness


@dataclass
class Lab:
    """Trains runs in this process. A run is stopped by a callback of ultralytics, which sets the stop request."""

    root: Path
    data_yaml: Path
    architecture: Path
    options: dict[str, Any] = field(default_factory=dict)
    trainer_class: type[ExactDetectionTrainer] = ExactDetectionTrainer

    def attempt(self, name: str, stop: StopWhen | None = None, **options: Any) -> str:
        """One attempt of the run `name`, from its newest snapshot; "done" or "stopped"."""
        run = RunDir(self.root / name)
        attempt = run.attempt(len(run.attempts()) + 1)
        attempt.path.mkdir(parents=True)
        store, request = SnapshotStore(run.snapshots_dir), StopRequest()
        found = store.newest()
        session = Session(
            run=run,
            attempt=attempt,
            config_hash="lab",
            stop=request,
            ledger=Ledger(attempt.events),
            heart=Heart(attempt.heartbeat),
            store=store,
            interval=Interval(float("inf")),
            environment={},
            resumed=found[1] if found else None,
        )
        overrides = {**self._overrides(run), **self.options, **options}
        trainer = self.trainer_class(session=session, overrides=overrides, cpu_threads=1, streams=2)
        if stop is not None:
            event, is_time = stop
            trainer.add_callback(event, lambda it: request.note(10) if is_time(trainer) else None)
        try:
            trainer.train()
        except StopTraining:
            for loader in (trainer.train_loader, trainer.test_loader):
                loader.close()  # a real worker leaves by os._exit, and its children go with it
            return "stopped"
        return "done"

    def newest(self, name: str) -> Snapshot:
        found = SnapshotStore(RunDir(self.root / name).snapshots_dir).newest()
        assert found is not None
        return found[1]

    def differences(self, first: str, second: str) -> list[str]:
        """What differs between the ends of two runs: tensors, plain state, weights files. Empty if nothing does."""
        a, b = self.newest(first), self.newest(second)
        if a.tensors.keys() != b.tensors.keys():
            return sorted(a.tensors.keys() ^ b.tensors.keys())
        found = [name for name in a.tensors if not torch.equal(a.tensors[name], b.tensors[name])]
        plain_a, plain_b = (_comparable(it.plain) for it in (a, b))
        found += [name for name in plain_a if plain_a[name] != plain_b[name]]
        found += [] if a.position == b.position else ["position"]
        for file in ("best.pt", "last.pt"):
            weights = [_weights(self.root / name / "weights" / file) for name in (first, second)]
            found += [file] if any(not torch.equal(x, y) for x, y in zip(*weights, strict=True)) else []
        return found

    def _overrides(self, run: RunDir) -> dict[str, Any]:
        return {
            "task": "detect",
            "mode": "train",
            "model": str(self.architecture),
            "data": str(self.data_yaml),
            "imgsz": 64,
            "epochs": 3,
            "batch": 4,
            "nbs": 8,
            "workers": 0,
            "device": "cpu",
            "optimizer": "SGD",
            "warmup_epochs": 1.5,
            "close_mosaic": 1,
            "plots": False,
            "amp": False,
            "verbose": False,
            "project": str(run.path.parent),
            "name": run.path.name,
            "exist_ok": True,
        }


def _comparable(plain: dict[str, Any]) -> dict[str, Any]:
    rows = [line.split(",") for line in plain["results_csv"].splitlines()]
    return {k: v for k, v in plain.items() if k != "seconds"} | {"results_csv": [r[:1] + r[2:] for r in rows]}


def _weights(file: Path) -> list[torch.Tensor]:
    checkpoint = torch.load(file, weights_only=False)
    return [value for _, value in sorted(checkpoint["model"].state_dict().items())]


def write_scenes(root: Path, train: int = 14, val: int = 18) -> Path:
    """Bright rectangles of three kinds on noise, with their boxes, in YOLO layout; returns the data YAML."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            image = random.integers(0, 90, (72, 96, 3), dtype=np.uint8)
            lines = []
            for kind in random.integers(0, 3, 4):
                x, y, w, h = random.integers(0, 60), random.integers(0, 44), *random.integers(12, 28, 2)
                image[y : y + h, x : x + w, kind] = 230
                lines.append(f"{kind} {(x + w / 2) / 96:.6f} {(y + h / 2) / 72:.6f} {w / 96:.6f} {h / 72:.6f}")
            Image.fromarray(image).save(root / "images" / split / f"{i:03d}.png")
            (root / "labels" / split / f"{i:03d}.txt").write_text("\n".join(lines) + "\n")
    file = root / "scenes.yaml"
    names = {0: "red", 1: "green", 2: "blue"}
    file.write_text(yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": names}))
    return file


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("architecture") / "tiny.yaml"
    file.write_text(yaml.safe_dump(ARCHITECTURE))
    return file


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, scenes: Path, architecture: Path) -> Iterator[Lab]:
    """One lab a module; its run `undisturbed` is what the others are compared with."""
    before = dict(os.environ)
    it = Lab(tmp_path_factory.mktemp("runs"), scenes, architecture)
    assert it.attempt("undisturbed") == "done"
    yield it
    os.environ.clear()
    os.environ.update(before)
