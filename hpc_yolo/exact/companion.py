"""Owns the side of a rank that is not the first: it trains and stops with the others, and publishes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hpc_yolo.events import Kind
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.heartbeat import Beat
from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.snapshot.schedule import EverySeconds, Interval
from hpc_yolo.staging import Stage


@dataclass
class _Journal:
    record: Beat
    images: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Companion:
    """What the trainer asks of its session (session.py), for a rank that rank 0 speaks for."""

    stop: StopRequest
    environment: dict[str, Any]
    resumed: Snapshot | None = None
    keeps_best: bool = False
    interval: Interval = field(default_factory=lambda: EverySeconds(float("inf")))
    journal: _Journal = field(default_factory=lambda: _Journal(Beat()))

    def note_position(self, position: Position, *, loss: float | None = None, metric: float | None = None) -> None:
        self.journal.record.step = position.step

    def tell(self, kind: Kind, **fields: Any) -> None:
        pass

    def save(self, position: Position, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], cause: str) -> None:
        pass

    def note_best(self, step: int) -> None:
        pass

    def publish(self, path: Path, content: bytes) -> None:
        pass

    def stage(self, folder: Path) -> Stage:
        return Stage(folder, 0)

    def settle(self, within_s: float | None = None) -> None:
        pass

    def check_fence(self) -> None:
        pass

    def check_fence_now(self) -> None:
        pass
