"""Owns what is asked for against what a partition, its nodes, a QOS and its reservations grant. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.finding import Finding, bad, note, warn, well
from hpc_yolo.slurm.nodes import Node
from hpc_yolo.slurm.qos import Qos
from hpc_yolo.slurm.reservations import Reservation
from hpc_yolo.slurm.site import Partition
from hpc_yolo.supervise.meaning import EARLY_S

_GRES = re.compile(r"gpu(?::([^:,=()]*[^:,=()\d][^:,=()]*))?(?:[:=](\d+))?$")


def choose_partitions(asked: str | None, known: Sequence[Partition]) -> tuple[list[Partition], list[Finding]]:
    """Those that a job is submitted to, and what is wrong with the others that are named."""
    names = asked.split(",") if asked else [it.name for it in known if it.is_default]
    by_name = {it.name: it for it in known}
    there = ", ".join(by_name) or "none"
    missing = [
        bad("partition", f"{name}: there is no such partition", f"Choose cluster.partition among {there}.")
        for name in names
        if name not in by_name
    ]
    if not names:
        missing = [
            bad("partition", "none is named, and the cluster has no default", f"Set cluster.partition: {there}.")
        ]
    return [by_name[name] for name in names if name in by_name], missing


def examine_partition(cluster: ClusterConfig, partition: Partition, nodes: Sequence[Node] | None) -> list[Finding]:
    """Without what depends on its nodes, where they are not known."""
    found = [_state(partition, nodes), *_access(cluster, partition), _time(cluster, partition)]
    return found if nodes is None else [*found, _room(cluster, partition, nodes)]


def _state(partition: Partition, nodes: Sequence[Node] | None) -> Finding:
    if nodes is None and partition.state == "UP":
        return well("partition", f"{partition.name} is UP")
    nodes = nodes or []
    usable = sum(node.is_usable for node in nodes)
    said = f"{partition.name} is {partition.state}, {usable} of {len(nodes)} nodes usable"
    if partition.state != "UP":
        return bad("partition", said, "Nothing starts there. Choose another cluster.partition, or wait for your site.")
    if not usable:
        return bad("partition", said, "Nothing starts there now: `sinfo -R` says why.")
    return well("partition", said)


def _access(cluster: ClusterConfig, partition: Partition) -> list[Finding]:
    found = []
    account, qos = cluster.account, cluster.qos
    if account and (account in partition.deny_accounts or account not in (partition.allow_accounts or (account,))):
        allowed = ", ".join(partition.allow_accounts or ()) or f"any but {', '.join(partition.deny_accounts)}"
        found.append(bad("account", f"{account} may not use {partition.name}", f"Set cluster.account: {allowed}."))
    if qos and qos not in (partition.allow_qos or (qos,)):
        allowed = ", ".join(partition.allow_qos or ())
        found.append(bad("qos", f"{qos} may not use {partition.name}", f"Set cluster.qos: {allowed}."))
    return found


def time_limit_min(cluster: ClusterConfig, partition: Partition) -> float | None:
    """Of one start: as asked, or what the partition grants to whoever does not ask."""
    return cluster.time_min or partition.default_time_min or partition.max_time_min


def _time(cluster: ClusterConfig, partition: Partition) -> Finding:
    limit, most = time_limit_min(cluster, partition), partition.max_time_min
    if limit is None:
        return note(
            "time limit",
            "none",
            "Set cluster.time_min: shorter jobs start earlier, and a run takes as many as it needs.",
        )
    said = f"{as_time(limit)} of {as_time(most)}" if most else as_time(limit)
    if most is not None and limit > most:
        return bad(
            "time limit",
            f"{said} at most",
            f"Set cluster.time_min={int(most)} or less; a run goes on in the next start.",
        )
    usable_s = 60 * limit - (cluster.signal_delay_s or 0) - EARLY_S
    if usable_s < 60 * limit / 2:
        return warn(
            "time limit",
            f"{said}, of which the warning takes {cluster.signal_delay_s or 0} s and up to {EARLY_S:g} s more",
            "Ask for a longer cluster.time_min, or for a shorter cluster.signal_delay_s.",
        )
    if cluster.time_min is None:
        return note(
            "time limit", f"{said}, by default", "Set cluster.time_min if one start should be longer or shorter."
        )
    return well("time limit", said)


def examine_epoch(epoch_s: float | None, limit_min: float | None, signal_delay_s: int | None) -> list[Finding]:
    """Whether a start has time for one epoch, by what earlier runs of the experiment took; nothing where there is none."""
    if epoch_s is None or limit_min is None:
        return []
    usable_s = 60 * limit_min - (signal_delay_s or 0) - EARLY_S
    said = f"{as_time(epoch_s / 60)} by earlier runs, a start trains for {as_time(max(0.0, usable_s) / 60)}"
    if usable_s < epoch_s:
        return [
            warn(
                "epoch",
                said,
                "A run goes on inside an epoch, but each start costs its way in. Ask for a longer cluster.time_min.",
            )
        ]
    return [well("epoch", said)]


def _room(cluster: ClusterConfig, partition: Partition, nodes: Sequence[Node]) -> Finding:
    """Whether there are nodes that have all of it at once."""
    wanted, kind = _gpus(cluster)
    cpus, mem_mb, count = cluster.cpus_per_task or 1, 1024 * (cluster.mem_gb or 0), cluster.nodes or 1
    what = f"{count} x ({_as_list(cpus, mem_mb, wanted, kind)})"
    limits = [("MaxCPUsPerNode", partition.max_cpus_per_node, cpus), ("MaxMemPerNode", partition.max_mem_mb, mem_mb)]
    limits.append(("MaxNodes", partition.max_nodes, count))
    for name, most, asked in limits:
        if most is not None and asked > most:
            return bad("resources", f"{what}, but {name}={most}", "Ask for less, or choose another cluster.partition.")
    feature = cluster.constraint if re.fullmatch(r"[\w.-]+", cluster.constraint or "") else None
    fit = [
        node
        for node in nodes
        if node.cpus >= cpus
        and node.mem_mb >= mem_mb
        and node.gpus_of(kind) >= wanted
        and (feature is None or feature in node.features)
    ]
    said = f"{what}: {len(fit)} of {len(nodes)} nodes have that"
    if len(fit) < count:
        return bad(
            "resources", said, f"The largest have {_largest(nodes)}. Ask for less, or choose another cluster.partition."
        )
    if sum(node.is_usable for node in fit) < count:
        return warn("resources", f"{said}, but too few of them are up", "Jobs wait for them: `sinfo -R` says why.")
    return well("resources", said)


def _gpus(cluster: ClusterConfig) -> tuple[int, str]:
    """How many of one node, and of which type."""
    found = next(filter(None, map(_GRES.match, (cluster.gres or "").split(","))), None)
    if found is None:
        return cluster.gpus_per_node or 0, ""
    return int(found[2] or 1), found[1] or ""


def _as_list(cpus: int, mem_mb: float, gpus: int, kind: str) -> str:
    told = [f"{cpus} CPUs"]
    told += [f"{mem_mb / 1024:g} GB"] if mem_mb else []
    told += [f"{gpus} {kind or 'GPU'}{'s' if gpus > 1 and not kind else ''}"] if gpus else []
    return ", ".join(told)


def _largest(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "nothing: sinfo shows none"
    gpus = sorted({f"{count} {kind or 'GPUs'}" for node in nodes for kind, count in node.gpus})
    mem_mb = max(node.mem_mb for node in nodes)
    return ", ".join([f"{max(node.cpus for node in nodes)} CPUs", f"{mem_mb // 1024} GB", *(gpus or ["no GPU"])])


def examine_qos(cluster: ClusterConfig, qos: Qos, limit_min: float | None) -> Finding:
    name, advice = "qos", "Ask for less, or choose another cluster.qos."
    wanted, _ = _gpus(cluster)
    nodes = cluster.nodes or 1
    asked = {"node": nodes, "cpu": nodes * (cluster.cpus_per_task or 1), "gres/gpu": nodes * wanted}
    if qos.max_time_min is not None and limit_min is not None and limit_min > qos.max_time_min:
        said = f"{qos.name}: {as_time(limit_min)}, but MaxWall is {as_time(qos.max_time_min)}"
        return bad(name, said, f"Set cluster.time_min={int(qos.max_time_min)} or less.")
    for limits, whose in ((qos.max_of_job, "a job"), (qos.max_of_user, "all jobs of a user")):
        for what, count in asked.items():
            if count > limits.get(what, count):
                return bad(name, f"{qos.name}: {count} {what}, but {limits[what]} is the most of {whose}", advice)
    told = [f"{most} {what}" for what, most in qos.max_of_user.items()]
    told += [f"{qos.max_submitted} jobs submitted"] if qos.max_submitted is not None else []
    return note(name, f"{qos.name}: at most {', '.join(told)} of a user at once") if told else well(name, qos.name)


def examine_reservations(
    found: Sequence[Reservation], nodes: Sequence[Node], limit_min: float | None, now: float
) -> list[Finding]:
    """Those that begin before a job which starts now would have ended, or have begun, on nodes of the partition."""
    names = {node.name for node in nodes}
    until = float("inf") if limit_min is None else now + 60 * limit_min
    told = []
    for it in sorted(found, key=lambda it: it.start):
        held = len(it.nodes & names)
        if held and it.start < until and it.end > now:
            told.append(_reservation(it, held, len(names), now))
    return told


def _reservation(it: Reservation, held: int, of: int, now: float) -> Finding:
    kind = "maintenance" if it.is_maintenance else "reserved"
    where = f"{held} of {of} nodes"
    if it.start <= now:
        said = f"{it.name} ({kind}) holds {where} until {_at(it.end)}"
        return warn("reservation", said, "Jobs wait for its end.") if held == of else note("reservation", said)
    left_min = int((it.start - now) / 60) - 5
    fit = f"cluster.time_min={left_min} lets a start in before." if left_min > 5 else "Submit: it starts after that."
    said = f"{it.name} ({kind}) takes {where} at {_at(it.start)}, within the time limit"
    if held == of:
        return warn("reservation", said, f"A job waits until {_at(it.end)}. {fit}")
    return note("reservation", said, f"Those nodes start no job that is longer. {fit}")


def _at(moment: float) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(moment))


def as_time(minutes: float) -> str:
    """Such as 2 d 4 h, 90 min or 20 s."""
    if minutes < 1:
        return f"{round(60 * minutes)} s"
    hours = minutes / 60
    if hours < 3:
        return f"{minutes:g} min" if minutes == int(minutes) else f"{minutes:.1f} min"
    days, rest = divmod(hours, 24)
    return " ".join(filter(None, [f"{int(days)} d" if days else "", f"{rest:.3g} h" if rest else ""]))
