"""What trackers hold of a run, read by their own libraries: by metric, the epochs in the order in which they came."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Held = dict[str, list[int]]
_BLOCK, _FULL, _LAST = 32 * 1024, 1, 4


def by_tensorboard(folder: Path) -> Held:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    held: Held = defaultdict(list)
    for file in sorted(folder.glob("*tfevents*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                held[value.tag].append(event.step)
    return dict(held)


def mlflow_runs(experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def by_mlflow(run_id: str) -> Held:
    from mlflow import MlflowClient

    client = MlflowClient()
    names = client.get_run(run_id).data.metrics
    return {name: [it.step for it in client.get_metric_history(run_id, name)] for name in names}


def by_wandb(folder: Path) -> tuple[set[str], Held]:
    """The ids of the runs in the files that W&B writes offline, and what they hold together."""
    from wandb.proto.wandb_internal_pb2 import Record

    ids, held = set(), defaultdict(list)
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        ids.add(file.stem.removeprefix("run-"))
        for data in _records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            values = {it.key or "/".join(it.nested_key): json.loads(it.value_json) for it in record.history.item}
            for name in values.keys() - {"_step", "_runtime", "_timestamp"}:
                held[name].append(int(values["_step"]))
    return ids, dict(held)


def _records(content: bytes) -> Iterator[bytes]:
    """A .wandb file is a log as LevelDB's, after seven bytes of its own: blocks of 32 KiB with records, or parts of them."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (_FULL, _LAST):
            yield whole
            whole = b""
