"""The schema's checks: each says the key, what is wrong and what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hpc_yolo.config import ClusterConfig, Config, DataConfig, ModelConfig, RetryConfig, SnapshotConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.types import ExitCode


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: SnapshotConfig(every_s="soon"), "snapshot.every_s=soon must be a number of seconds, or auto"),
        (lambda: SnapshotConfig(every_s=60, every_steps=5), "exclude each other"),
        (lambda: SnapshotConfig(series="often:3"), "snapshot.series=often:3 is no rule"),
        (lambda: SnapshotConfig(ttl_h=0), "snapshot.ttl_h=0 would remove the snapshots the moment the run is done"),
        (lambda: SnapshotConfig(interruption_h=0), "snapshot.interruption_h=0 must be more than 0"),
        (lambda: ModelConfig(weights="yolo11n"), "model.weights=yolo11n is neither a .pt nor a .yaml"),
        (
            lambda: ModelConfig(weights="a.pt", task="poes"),
            "model.task=poes: there is no such task. There are detect, segm",
        ),
        (
            lambda: ModelConfig(weights="a.pt", family="yolox"),
            "model.family=yolox: there is no such family. There are yolo",
        ),
        (
            lambda: ModelConfig(weights="a.pt", family="rtdetr", task="pose"),
            "model.family=rtdetr is not trained for pose",
        ),
        (DataConfig, "data.yaml is missing"),
        (lambda: DataConfig(yaml="a.yaml", streams=0), "data.streams=0 is too small. Set 1 or more."),
        (lambda: ClusterConfig(cpu_threads=0), "cluster.cpu_threads=0 is too small"),
        (lambda: SnapshotConfig(every_s=0.1), "snapshot.every_s=0.1 is too small"),
        (lambda: SnapshotConfig(keep=1), "snapshot.keep=1 is too small. Set 2 or more."),
        (lambda: RetryConfig(max_restarts=-1), "retry.max_restarts=-1 is too small"),
        (lambda: RetryConfig(max_preemptions=-2), "retry.max_preemptions=-2 is too small"),
        (lambda: RetryConfig(grace_s=0), "retry.grace_s=0 is too small"),
        (lambda: RetryConfig(max_unsaved=-2), "retry.max_unsaved=-2 is too small"),
        (lambda: RetryConfig(exclude_h=-1), "retry.exclude_h=-1 is too small"),
        (lambda: RetryConfig(max_moves=-1), "retry.max_moves=-1 is too small"),
        (lambda: RetryConfig(rules={"quota": {"decision": "wait"}}), "retry.rules.quota.decision=wait must be one of"),
        (lambda: Config(name="a/b"), "name='a/b' must be a plain folder name"),
        (lambda: Config(name=".."), "must be a plain folder name"),
        (lambda: Config(exact="strikt"), "exact=strikt must be warn or strict"),
    ],
)
def test_a_value_out_of_range_is_refused(make: Callable[[], Any], answer: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make()

    assert answer in str(refused.value)
    assert refused.value.exit_code is ExitCode.BAD_CONFIG
