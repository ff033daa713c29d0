"""Plans of runs that differ in their seeds, as a sweep's; nothing of them is on disk yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc_yolo.config import ClusterConfig, Exact, RetryConfig, SnapshotConfig
from hpc_yolo.frozen import FrozenRun, Launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.types import RunId

_FROZEN = FrozenRun(
    id=RunId("0"), name="grid", task="detect", family="yolo", weights="yolo11n.yaml", weights_digest="w", data_yaml="/d.yaml",
    data_digest="d", data={}, train={"epochs": 3}, train_digests={}, cpu_threads=2, streams=8,
)  # fmt: skip


def make_plans(experiment: Path, count: int, first: int = 0, **cluster: Any) -> list[Plan]:
    """So many, from seed `first` on, all of one shape: `cluster` is what they ask of Slurm."""
    launch = Launch(
        train={}, exact=Exact.WARN, snapshot=SnapshotConfig(), retry=RetryConfig(),
        cluster=ClusterConfig(**{"kind": "slurm", **cluster}),
    )  # fmt: skip
    return [_plan(experiment, seed, launch) for seed in range(first, first + count)]


def _plan(experiment: Path, seed: int, launch: Launch) -> Plan:
    run_id = RunId(f"{seed:04d}")
    frozen = replace(_FROZEN, id=run_id, train={"epochs": 3, "seed": seed})
    return Plan(RunDir(experiment / run_id), frozen, launch)
