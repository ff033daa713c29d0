"""Owns what the accounting says of a QOS: its limits, and how its jobs are preempted. Parser is pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpc_yolo.slurm import commands
from hpc_yolo.slurm.site import parse_minutes

_FIELDS = "Name,PreemptMode,GraceTime,MaxWall,MaxTRES,MaxTRESPU,MaxSubmitPU"


@dataclass(kw_only=True, frozen=True, slots=True)
class Qos:
    """One QOS. None means that nothing limits it."""

    name: str
    preempt_mode: str
    """`cluster`: as slurm.conf says."""
    grace_s: int
    max_time_min: float | None
    max_of_job: dict[str, int]
    """By resource: cpu, gres/gpu, node."""
    max_of_user: dict[str, int]
    max_submitted: int | None
    """Jobs of one user, each task of an array for itself."""


def read_qos(name: str) -> Qos | None:
    """One sacctmgr; None where there is no such QOS.

    Raises:
        SlurmError: the cluster keeps no accounting, or does not answer.
    """
    words = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", f"name={name}", f"format={_FIELDS}"]
    return parse_qos(commands.run(words))


def parse_qos(text: str) -> Qos | None:
    parts = next((line.split("|") for line in text.splitlines() if line.count("|") == _FIELDS.count(",")), None)
    if parts is None:
        return None
    name, mode, grace, wall, of_job, of_user, submitted = parts
    grace_min = parse_minutes(grace)
    return Qos(
        name=name,
        preempt_mode=mode or "cluster",
        grace_s=0 if grace_min is None else round(60 * grace_min),
        max_time_min=parse_minutes(wall),
        max_of_job=_resources(of_job),
        max_of_user=_resources(of_user),
        max_submitted=int(submitted) if submitted.isdigit() else None,
    )


def _resources(text: str) -> dict[str, int]:
    """Of cpu=8,gres/gpu=2,mem=64G: those that are plain numbers."""
    return {name: int(count) for name, count in re.findall(r"([\w/:]+)=(\d+)(?=,|$)", text)}
