"""Owns asking Slurm about what a config asks for; what cannot be asked is said, and the rest goes on. Judges nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.finding import Finding, bad, note, well
from hpc_yolo.doctor.limits import (
    choose_partitions,
    examine_partition,
    examine_qos,
    examine_reservations,
    time_limit_min,
)
from hpc_yolo.doctor.preemption import examine_arrays, examine_preemption, grace_of, modes_of, without_higher
from hpc_yolo.slurm.commands import NoSlurmError, SlurmError
from hpc_yolo.slurm.nodes import read_nodes
from hpc_yolo.slurm.qos import Qos, read_qos
from hpc_yolo.slurm.reservations import Reservation, read_reservations
from hpc_yolo.slurm.site import Partition, SiteConfig, read_config, read_partitions

T = TypeVar("T")


@dataclass(slots=True)
class Site:
    """What Slurm said, as findings, and what others need of it."""

    is_there: bool = True
    findings: list[Finding] = field(default_factory=list)
    limit_min: float | None = None
    """The shortest time limit of one start."""
    grace_s: int | None = None
    """The shortest that a preemption leaves; None where nobody is preempted."""
    seen_on: str | None = None
    """Another machine, which has read what this one wrote in runs_dir."""


def look_at_cluster(cluster: ClusterConfig) -> Site:
    """A few calls of scontrol and sinfo, and of sacctmgr where a QOS counts."""
    site = Site()
    try:
        config = read_config()
        known = read_partitions()
    except SlurmError as error:
        advice = "Work on the cluster's login node, or load its module. If you do: is slurmctld up?"
        said = "scontrol is not on PATH" if isinstance(error, NoSlurmError) else error.gist
        return Site(is_there=False, findings=[bad("slurm", said, advice)])
    partitions, missing = choose_partitions(cluster.partition, known)
    site.findings += [well("slurm", f"{config.name}, Slurm {config.version}"), *missing]
    reservations = _asked(read_reservations, site, "reservation") or []
    for partition in [without_higher(config, it, known) for it in partitions]:
        _look_at_partition(cluster, config, partition, reservations, site, is_one=len(partitions) == 1)
    site.findings.append(examine_arrays(config))
    return site


def _look_at_partition(
    cluster: ClusterConfig,
    config: SiteConfig,
    partition: Partition,
    reservations: list[Reservation],
    site: Site,
    *,
    is_one: bool,
) -> None:
    nodes = _asked(lambda: read_nodes(partition.name), site, "nodes")
    qos = _read_qos(cluster.qos, site)
    limits = _read_qos(partition.qos, site)
    limit_min = time_limit_min(cluster, partition)
    found = [
        *examine_partition(cluster, partition, nodes),
        *(examine_qos(cluster, it, limit_min) for it in (qos, limits) if it is not None),
        *examine_reservations(reservations, nodes or [], limit_min, time.time()),
        *examine_preemption(config, partition, qos),
    ]
    site.findings += found if is_one else [_of(partition, it) for it in found]
    site.limit_min = _least(site.limit_min, limit_min)
    if modes_of(config, partition, qos) & {"REQUEUE", "CANCEL"}:
        site.grace_s = int(_least(site.grace_s, grace_of(config, partition, qos)) or 0)


def _read_qos(name: str | None, site: Site) -> Qos | None:
    if name is None:
        return None
    return _asked(lambda: read_qos(name), site, "qos")


def _asked(ask: Callable[[], T], site: Site, name: str) -> T | None:
    """None where there is no answer; clusters without accounting have none for a QOS."""
    try:
        return ask()
    except SlurmError as error:
        site.findings.append(note(name, f"cannot be asked: {error.gist}"))
        return None


def _of(partition: Partition, finding: Finding) -> Finding:
    said = finding.said if finding.name == "partition" else f"{partition.name}: {finding.said}"
    return Finding(finding.name, finding.level, said, finding.advice)


def _least(known: float | None, other: float | None) -> float | None:
    return other if known is None else known if other is None else min(known, other)
