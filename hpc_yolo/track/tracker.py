"""Owns what a tracker is, which there are, and the key by which they know a run again. What is sent is results.csv's rows."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol

from hpc_yolo.config import TrackConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import FrozenRun
from hpc_yolo.rundir import RunDir, write_text_atomic
from hpc_yolo.types import RunState

Rows = Mapping[int, Mapping[str, float]]

_FORMAT = 1
#: No metric, but when and where a row was made.
_NO_METRICS = frozenset({"epoch", "time"})
#: User and password of an address, which an error message may repeat.
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


class Tracker(Protocol):
    """One run at one tracker. It raises whatever its library raises: nothing that stops a training."""

    def send(self, rows: Rows) -> int:
        """Send the epochs that it has not got; returns how many those were.

        Args:
            rows: what each epoch came to, counted from 1.
        """

    def close(self, state: RunState, final: Mapping[str, float]) -> None:
        """Have all that was sent arrive, and say how the run stands.

        Args:
            final: the metrics of the final evaluation, of a run that is done.
        """


def check_trackers(track: TrackConfig) -> None:
    """Refuse a tracker that could not work, while a person is looking.

    Raises:
        ConfigError
    """
    for name in track.names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"track.{name}=true needs the package {name}, which is not installed here: pip install 'hpc-yolo[{name}]'."
            )
    if track.mlflow and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError(
            "track.mlflow=true, but MLFLOW_TRACKING_URI is not set. Export it in the shell that you submit from, such as "
            "MLFLOW_TRACKING_URI=http://server:5000."
        )


def open_tracker(name: str, run: RunDir, frozen: FrozenRun) -> Tracker:
    """Begin the run at a tracker, or go on with it. Imports its library, which takes seconds."""
    if name == "tensorboard":
        from hpc_yolo.track.to_tensorboard import TensorBoardFiles

        return TensorBoardFiles(run)
    if name == "mlflow":
        from hpc_yolo.track.to_mlflow import MLflowRun

        return MLflowRun(key_of(run), frozen)
    from hpc_yolo.track.to_wandb import WandbRun

    return WandbRun(run, frozen)


def metrics_of(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in _NO_METRICS}


def missing(rows: Rows, sent: Collection[tuple[str, int]]) -> dict[int, dict[str, float]]:
    """The metrics, by epoch, that are not among those (name and epoch) that were sent."""
    found = {
        epoch: {name: value for name, value in metrics_of(row).items() if (name, epoch) not in sent}
        for epoch, row in sorted(rows.items())
    }
    return {epoch: values for epoch, values in found.items() if values}


def key_of(run: RunDir) -> str:
    """Made once, before anything is made at a tracker: whoever comes later asks for it.

    It is not the run's id: a run that is trained anew (`resubmit=all`) has the same one, and is another experiment.
    """
    noted = read_note(run)
    if "key" not in noted:
        noted = {"format": _FORMAT, "key": secrets.token_hex(8), **noted}
        write_note(run, noted)
    return str(noted["key"])


def read_note(run: RunDir) -> dict[str, Any]:
    with suppress(FileNotFoundError, ValueError):
        noted = json.loads(run.tracking_json.read_text(encoding="utf-8"))
        return noted if isinstance(noted, dict) else {}
    return {}


def write_note(run: RunDir, noted: Mapping[str, Any]) -> None:
    write_text_atomic(run.tracking_json, json.dumps(noted) + "\n")


def params_of(frozen: FrozenRun) -> dict[str, str]:
    """What decides the weights, as a tracker's parameters."""
    own = {"task": frozen.task, "family": frozen.family, "weights": frozen.weights, "data": frozen.data_yaml}
    return {name: str(value) for name, value in {**frozen.train, **own, "hpc_yolo_run": frozen.id}.items()}


def one_line(error: BaseException) -> str:
    """Without the secrets that an address may hold."""
    return _CREDENTIALS.sub("//", " ".join(f"{type(error).__name__}: {error}".split()))[:300]
