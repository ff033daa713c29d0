"""Owns the schema of a config: dataclasses with checks. Knows neither Hydra nor files; values come from conf/."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hpc_yolo.errors import ConfigError

#: OmegaConf's mark of a value that a config must give; checks run only once everything is there.
MISSING: Any = "???"


class Exact(Enum):
    """What happens where the result cannot be the bits of an undisturbed run."""

    WARN = "warn"
    STRICT = "strict"


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    weights: str = MISSING
    """Where training starts: a .pt (fine-tune) or a .yaml (from nothing); a path, or a name that ultralytics ships."""
    task: str = "detect"

    def __post_init__(self) -> None:
        if self.task != "detect":
            raise ConfigError(f"model.task={self.task}: this release trains detectors only. Use model.task=detect.")
        if not self.weights.endswith((".pt", ".yaml", ".yml")):
            raise ConfigError(
                f"model.weights={self.weights} is neither a .pt nor a .yaml. For example: model.weights=yolo11n.pt."
            )


@dataclass(kw_only=True, slots=True)
class DigitsConfig:
    """The demonstration data set: scenes of handwritten digits, made once."""

    root: str = "datasets"
    train_images: int = 160
    val_images: int = 48
    imgsz: int = 96
    seed: int = 0


@dataclass(kw_only=True, slots=True)
class DataConfig:
    yaml: str | None = None
    """An ultralytics data set YAML."""
    digits: DigitsConfig | None = None
    """Made where `yaml` is null."""
    streams: int = 8
    """Into how many streams batches fall; a mosaic draws from its own. Decides the bits.

    Best a multiple of train.workers.
    """

    def __post_init__(self) -> None:
        if self.yaml is None and self.digits is None:
            raise ConfigError(
                "data.yaml is missing: name your data set, such as data.yaml=/data/my.yaml, or use data=digits."
            )
        _at_least("data.streams", self.streams, 1)


@dataclass(kw_only=True, slots=True)
class ClusterConfig:
    kind: str = "local"
    cpu_threads: int = 2
    """Threads of the training process. Part of the result's bits, so a constant that never follows the machine."""

    def __post_init__(self) -> None:
        _at_least("cluster.cpu_threads", self.cpu_threads, 1)


@dataclass(kw_only=True, slots=True)
class SnapshotConfig:
    every_s: float = 300.0
    """Seconds between snapshots inside an epoch; one more at each epoch's end and at each stop."""
    keep: int = 3
    """How many are kept. Two at least: the newest may turn out to be damaged."""

    def __post_init__(self) -> None:
        _at_least("snapshot.every_s", self.every_s, 1)
        _at_least("snapshot.keep", self.keep, 2)


@dataclass(kw_only=True, slots=True)
class RetryConfig:
    max_restarts: int = 3
    """Restarts after failures, counted since the last attempt that made new steps."""
    max_preemptions: int = -1
    """-1: unlimited."""
    grace_s: float = 60.0
    """How long a stop may take (seconds) before the worker is killed and the run goes on from its last snapshot."""

    def __post_init__(self) -> None:
        _at_least("retry.max_restarts", self.max_restarts, 0)
        _at_least("retry.max_preemptions", self.max_preemptions, -1)
        _at_least("retry.grace_s", self.grace_s, 1)


@dataclass(kw_only=True, slots=True)
class Config:
    """One composed experiment."""

    model: ModelConfig = MISSING
    data: DataConfig = MISSING
    train: dict[str, Any] = field(default_factory=dict)
    cluster: ClusterConfig = MISSING
    snapshot: SnapshotConfig = MISSING
    retry: RetryConfig = MISSING
    runs_dir: str = "runs"
    name: str = "default"
    """The folder under runs_dir that the runs of one experiment share."""
    exact: str = "warn"
    """warn | strict, see Exact. A text, because Hydra knows an enum by its members' names only: in capitals."""
    wait: bool | None = None
    """Stay and show progress. null: yes on this machine."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"name={self.name!r} must be a plain folder name, such as name=baseline.")
        if self.exact not in [it.value for it in Exact]:
            raise ConfigError(f"exact={self.exact} must be warn or strict.")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{name}={value:g} is too small. Set {least:g} or more.")
