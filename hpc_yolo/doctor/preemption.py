"""Owns what a site's preemption, requeues and arrays mean for a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hpc_yolo.doctor.finding import Finding, bad, note, warn, well
from hpc_yolo.slurm.limits import USUAL_ARRAY_SIZE
from hpc_yolo.slurm.qos import Qos
from hpc_yolo.slurm.site import Partition, SiteConfig

_SHORTER = "A shorter snapshot.every_s, or snapshot.interruption_h as often as you are preempted, loses less."


def examine_preemption(site: SiteConfig, partition: Partition, qos: Qos | None) -> list[Finding]:
    """How runs in a partition are preempted, and whether they come back."""
    modes = modes_of(site, partition, qos)
    return [_mode(site, partition, modes, qos), *_warning(site, partition, modes, qos), _requeue(site), _wait(site)]


def examine_arrays(site: SiteConfig) -> Finding:
    if site.largest_array <= 1:
        return warn(
            "arrays",
            "MaxArraySize lets no arrays in",
            "A sweep is one sbatch a run: submit it in parts if that is slow.",
        )
    said = f"up to {site.largest_array} runs of a sweep in one array"
    if site.largest_array < USUAL_ARRAY_SIZE:
        return note("arrays", said, "A larger sweep becomes several arrays by itself.")
    return well("arrays", said)


def modes_of(site: SiteConfig, partition: Partition, qos: Qos | None) -> frozenset[str]:
    """What may happen to a job that is preempted; empty where none is, or where its QOS decides and is not known.

    Slurm's manual, "Preemption": by QOS, the QOS's mode holds, or the cluster's; by partition, the partition's own.
    """
    if site.preempt_type == "none" or (site.preempt_type == "qos" and qos is None):
        return frozenset()
    said = partition.preempt_mode or site.preempt_mode
    if site.preempt_type == "qos" and qos is not None:
        said = site.preempt_mode if qos.preempt_mode == "cluster" else qos.preempt_mode
    return frozenset(said.upper().split(",")) - {"OFF", "GANG", "WITHIN"}


def without_higher(site: SiteConfig, partition: Partition, known: Iterable[Partition]) -> Partition:
    """As Slurm lets it show: a site's mode is told of every partition, but one of the highest tier is preempted by none."""
    is_highest = all(partition.tier >= it.tier for it in known)
    within = "WITHIN" in f"{partition.preempt_mode},{site.preempt_mode}".upper()
    if site.preempt_type != "partition_prio" or within or not is_highest:
        return partition
    return replace(partition, preempt_mode="OFF")


def grace_of(site: SiteConfig, partition: Partition, qos: Qos | None) -> int:
    """Between the warning of a preemption and its end (seconds)."""
    return qos.grace_s if site.preempt_type == "qos" and qos is not None else partition.grace_s


def _mode(site: SiteConfig, partition: Partition, modes: frozenset[str], qos: Qos | None) -> Finding:
    name, by = "preemption", {"qos": "by QOS", "partition_prio": "by partition"}.get(site.preempt_type, "")
    said = f"{'/'.join(sorted(modes))} {by}".strip()
    if site.preempt_type == "qos" and qos is None:
        return note(
            name, "by QOS; the accounting does not say how", "Name cluster.qos, or ask your site for its PreemptMode."
        )
    if not modes:
        return note(
            name,
            f"nobody preempts {partition.name}",
            "Runs are interrupted by time limits and failures only. A partition that may be preempted often waits less.",
        )
    if modes == {"REQUEUE"}:
        return well(name, said)
    if modes == {"SUSPEND"}:
        return warn(
            name,
            said,
            "A suspended run keeps its node and is not moved. `hpc-yolo requeue RUN` lets it start elsewhere.",
        )
    if grace_of(site, partition, qos) > 0:
        return warn(
            name,
            f"{said}: Slurm cancels what it preempts",
            "Runs ask for their requeue themselves within the grace time. Ask your site for PreemptMode=REQUEUE, or choose "
            "another cluster.partition.",
        )
    return bad(
        name,
        f"{said} without a grace time: Slurm cancels at once",
        "A preempted run stays stopped until `hpc-yolo resume RUN`. Choose another cluster.partition, or ask your site for "
        "PreemptMode=REQUEUE.",
    )


def _warning(site: SiteConfig, partition: Partition, modes: frozenset[str], qos: Qos | None) -> list[Finding]:
    if not modes & {"REQUEUE", "CANCEL"}:
        return []
    grace_s = grace_of(site, partition, qos)
    if grace_s == 0:
        return [
            warn(
                "grace time",
                f"none: SIGTERM, then SIGKILL after {site.kill_wait_s} s (KillWait)",
                f"What cannot be saved by then is trained again. {_SHORTER}",
            )
        ]
    signal = (
        well("user signal", "SIGUSR1 is sent at a preemption")
        if site.has_user_signal
        else note("user signal", "not set; SIGTERM alone, which is taken for a warning as well", "Nothing to do.")
    )
    return [well("grace time", f"{grace_s} s"), signal]


def _requeue(site: SiteConfig) -> Finding:
    if site.requeues_by_default:
        return well("requeue", "JobRequeue=1")
    return note(
        "requeue",
        "JobRequeue=0: jobs come back only if they ask for it",
        "hpc-yolo always asks (--requeue). If the tiny job says that the site takes that back, tell your site.",
    )


def _wait(site: SiteConfig) -> Finding:
    said = f"a requeued job waits {site.cred_expire_s} s at least (cred_expire)"
    if site.cred_expire_s <= 120:
        return well("restart", said)
    return note(
        "restart", said, "That is lost at every interruption: AuthInfo=cred_expire=... is your site's to choose."
    )
