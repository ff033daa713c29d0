"""Owns what `scontrol show config` and `scontrol show partition` say of a cluster, as values. Parsers are pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpc_yolo.slurm import commands
from hpc_yolo.slurm.job import fields_of
from hpc_yolo.slurm.limits import parse_largest_array

#: Slurm's own default of AuthInfo's cred_expire (seconds).
_CRED_EXPIRE_S = 120
_KILL_WAIT_S = 30
_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


@dataclass(kw_only=True, frozen=True, slots=True)
class SiteConfig:
    """What slurm.conf says of preemption, requeues and limits, for all partitions."""

    version: str
    name: str
    preempt_type: str
    """none, partition_prio, qos."""
    preempt_mode: str
    has_user_signal: bool
    """Whether a preemption sends the signal that the job asked for (--signal), and not SIGTERM alone."""
    requeues_by_default: bool
    largest_array: int
    cred_expire_s: int
    """How long a requeued job waits at least before it may start again (seconds)."""
    kill_wait_s: int
    """From SIGTERM to SIGKILL, where nothing else grants time (seconds)."""
    submit_plugins: tuple[str, ...]
    """A site's own code that may change or refuse what is submitted."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Partition:
    """One partition. None means that nothing limits it."""

    name: str
    is_default: bool = False
    state: str = "UP"
    tier: int = 1
    """PriorityTier: jobs of a higher one preempt those of a lower one, where the site preempts by partition."""
    preempt_mode: str = ""
    grace_s: int = 0
    max_time_min: float | None = None
    default_time_min: float | None = None
    max_nodes: int | None = None
    total_nodes: int = 0
    max_cpus_per_node: int | None = None
    max_mem_mb: int | None = None
    """Of one node (MB)."""
    allow_accounts: tuple[str, ...] | None = None
    deny_accounts: tuple[str, ...] = ()
    allow_qos: tuple[str, ...] | None = None
    qos: str | None = None
    """Whose limits hold in it besides those of the job's own."""


def read_config() -> SiteConfig:
    """One scontrol.

    Raises:
        SlurmError
    """
    return parse_config(commands.run(["scontrol", "show", "config"]))


def read_partitions() -> list[Partition]:
    """All of them, hidden ones too; one scontrol.

    Raises:
        SlurmError
    """
    return parse_partitions(commands.run(["scontrol", "--all", "--oneliner", "show", "partition"]))


def parse_config(text: str) -> SiteConfig:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    said = {name.strip(): value.strip() for name, _, value in pairs}

    def words(name: str) -> tuple[str, ...]:
        return _list(said.get(name)) or ()

    expire = re.search(r"cred_expire=(\d+)", said.get("AuthInfo", ""))
    return SiteConfig(
        version=said.get("SLURM_VERSION", "?"),
        name=said.get("ClusterName", "?"),
        preempt_type=_plugin(said.get("PreemptType")),
        preempt_mode=said.get("PreemptMode", "OFF"),
        has_user_signal=(
            "preempt_send_user_signal" in words("SlurmctldParameters")
            or "send_user_signal" in words("PreemptParameters")
        ),
        requeues_by_default=said.get("JobRequeue", "1") != "0",
        largest_array=parse_largest_array(text),
        cred_expire_s=int(expire[1]) if expire else _CRED_EXPIRE_S,
        kill_wait_s=_number(said.get("KillWait")) or _KILL_WAIT_S,
        submit_plugins=words("JobSubmitPlugins"),
    )


def parse_partitions(text: str) -> list[Partition]:
    """Of `scontrol --oneliner show partition`."""
    found = [fields_of(line) for line in text.splitlines() if line.startswith("PartitionName=")]
    return [_partition(fields) for fields in found]


def _partition(fields: dict[str, str]) -> Partition:
    return Partition(
        name=fields["PartitionName"],
        is_default=fields.get("Default") == "YES",
        state=fields.get("State", "UP"),
        tier=_number(fields.get("PriorityTier")) or 1,
        preempt_mode=fields.get("PreemptMode", ""),
        grace_s=_number(fields.get("GraceTime")) or 0,
        max_time_min=parse_minutes(fields.get("MaxTime")),
        default_time_min=parse_minutes(fields.get("DefaultTime")),
        max_nodes=_number(fields.get("MaxNodes")),
        total_nodes=_number(fields.get("TotalNodes")) or 0,
        max_cpus_per_node=_number(fields.get("MaxCPUsPerNode")),
        max_mem_mb=_number(fields.get("MaxMemPerNode")) or None,
        allow_accounts=_list(fields.get("AllowAccounts")),
        deny_accounts=_list(fields.get("DenyAccounts")) or (),
        allow_qos=_list(fields.get("AllowQos")),
        qos=None if fields.get("QoS", "N/A") in ("N/A", "(null)", "") else fields["QoS"],
    )


def parse_minutes(text: str | None) -> float | None:
    """Of a duration such as 7-00:00:00; None for UNLIMITED, NONE, INFINITE and nothing."""
    found = _DURATION.fullmatch(text or "")
    if found is None:
        return None
    days, hours, minutes, seconds = (int(it or 0) for it in found.groups())
    return 1440 * days + 60 * hours + minutes + seconds / 60


def _number(text: str | None) -> int | None:
    """The number that it begins with; None for UNLIMITED and the like."""
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else None


def _list(text: str | None) -> tuple[str, ...] | None:
    """None where it is for all, or not said."""
    if text in (None, "", "ALL", "(null)", "N/A"):
        return None
    return tuple(str(text).split(","))


def _plugin(text: str | None) -> str:
    """As preempt/qos; newer releases say (null) for none."""
    return (_list(text) or ("none",))[0].rpartition("/")[2]
