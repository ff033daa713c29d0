"""Owns the frozen config of a run: run.yaml (what decides the weights, and its hash), launch.yaml (what may change)."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from hpc_yolo.config import ClusterConfig, Exact, RetryConfig, SnapshotConfig, TrackConfig
from hpc_yolo.errors import ConfigError, StorageError
from hpc_yolo.rundir import RunDir, write_text_atomic
from hpc_yolo.trust import refuse_if_open
from hpc_yolo.types import RunId

FORMAT = 1
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times quicker, where PyYAML was built with it


@dataclass(kw_only=True, frozen=True, slots=True)
class FrozenRun:
    """What decides the weights, resolved once. `train` holds every training argument but owned and launch ones."""

    id: RunId
    name: str
    task: str
    weights: str
    weights_digest: str
    data_yaml: str
    data_digest: str
    data: dict[str, Any]
    """The data YAML's content, its `path` made absolute: editing the file never changes a queued run."""
    train: dict[str, Any]
    cpu_threads: int
    streams: int
    family: str = "yolo"
    train_digests: dict[str, str] = field(default_factory=dict)
    """Digests of the files that training arguments name, such as `distill_model`."""
    parent: str | None = None
    """The id of the run from whose weights it starts. Their digest is what decides bits."""

    @property
    def hash(self) -> str:
        """SHA-256 over all of it but the name and the places: two runs of one hash end with the same bits.

        What a later release added is left out at its default, so that the snapshots of an older one stay good.
        """
        places = ("name", "weights", "data_yaml", "data", "train_digests", "parent")
        decides = {k: v for k, v in asdict(self).items() if k not in places}
        decides["train"] = {**self.train, **self.train_digests}
        if self.family == "yolo":
            del decides["family"]
        return hashlib.sha256(canonical(decides).encode()).hexdigest()


@dataclass(kw_only=True, frozen=True, slots=True)
class Launch:
    """What one attempt is launched with. None of it changes a bit of the result."""

    train: dict[str, Any]
    exact: Exact
    snapshot: SnapshotConfig
    retry: RetryConfig
    cluster: ClusterConfig
    track: TrackConfig = field(default_factory=TrackConfig)
    trust_weights: bool = False
    """Load weights that hold more than upstream knows, which may run anything."""


def canonical(value: Any) -> str:
    """One text for one value: JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def run_text(frozen: FrozenRun) -> str:
    values = {"format": FORMAT, **asdict(frozen), "hash": frozen.hash}
    return yaml.safe_dump({**values, "seal": _seal(values)}, sort_keys=False)


def launch_text(launch: Launch) -> str:
    return yaml.safe_dump(_plain(asdict(launch)), sort_keys=False)


def write_launch(run: RunDir, launch: Launch) -> None:
    """Say what the next attempt is to be launched with."""
    write_text_atomic(run.launch_yaml, launch_text(launch))


def load_run(run: RunDir) -> FrozenRun:
    """Read run.yaml.

    Raises:
        ConfigError: it is missing, unreadable, was edited, or comes from another release's format.
        StorageError: it cannot be read.
    """
    values = _load(run.run_yaml, "RUN is a run's directory or id; `hpc-yolo status` lists them.")
    if values.get("format") != FORMAT:
        raise ConfigError(f"{run.run_yaml} has format {values.get('format')}, but this release reads {FORMAT}.")
    seal = values.pop("seal", None)
    if seal != _seal(values):
        raise ConfigError(
            f"{run.run_yaml} was edited after it was frozen. Undo the edit, or submit the changed config as a new run "
            "with `hpc-yolo train`."
        )
    return FrozenRun(**{k: v for k, v in values.items() if k not in ("format", "hash")})


def load_launch(path: Path) -> Launch:
    """Read a launch.yaml.

    Raises:
        ConfigError: it is missing or holds something else.
    """
    values = _load(path, "Submit the run again with `hpc-yolo train` to write it anew.")
    try:
        return Launch(
            train=dict(values["train"]),
            exact=Exact(values["exact"]),
            snapshot=SnapshotConfig(**values["snapshot"]),
            retry=RetryConfig(**values["retry"]),
            cluster=ClusterConfig(**values["cluster"]),
            track=TrackConfig(**values.get("track", {})),  # an older release wrote none
            trust_weights=bool(values.get("trust_weights", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a launch config ({error}). Submit the run again with `hpc-yolo train`."
        ) from error


def is_launch(path: Path, launch: Launch) -> bool:
    """Whether a launch.yaml says the same.

    Raises:
        ConfigError: it is missing or holds something else.
    """
    text = launch_text(launch)
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return True
    return launch_text(load_launch(path)) == text


def _load(path: Path, next_move: str) -> dict[str, Any]:
    refuse_if_open(path, path.parent)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist. {next_move}") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}. Check its owner and permissions.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable as YAML ({' '.join(str(error).split())}). {next_move}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no mapping. {next_move}")
    return values


def _seal(values: dict[str, Any]) -> str:
    """Tells an edited file from a whole one; no protection against intent."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value.value if isinstance(value, Enum) else value
