"""Owns the run id: a hash of what was asked for where it differs from the defaults and decides the weights. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from hpc_yolo.config import ClusterConfig, DataConfig
from hpc_yolo.frozen import canonical
from hpc_yolo.types import RunId

_LENGTH = 10


def run_id(
    *,
    task: str,
    family: str = "yolo",
    weights_digest: str,
    data_digest: str,
    train: dict[str, Any],
    train_defaults: dict[str, Any],
    cpu_threads: int,
    streams: int,
) -> RunId:
    """The id of the run that these values decide.

    Values that equal their default are left out, so an option that a later release adds changes no old id. Paths, names
    and everything that may change between attempts never come here.
    """
    asked: dict[str, Any] = {
        "weights": weights_digest,
        "data": data_digest,
        "train": {k: v for k, v in train.items() if v != train_defaults.get(k)},
    }
    for name, value, default in (
        ("task", task, "detect"),
        ("family", family, "yolo"),
        ("cpu_threads", cpu_threads, ClusterConfig().cpu_threads),
        ("streams", streams, DataConfig.__dataclass_fields__["streams"].default),
    ):
        if value != default:
            asked[name] = value
    return RunId(hashlib.sha256(canonical(asked).encode()).hexdigest()[:_LENGTH])
