"""What Slurm says of a cluster: its config, partitions, nodes, reservations and QOS."""

from __future__ import annotations

import time

import pytest

from hpc_yolo.slurm import commands
from hpc_yolo.slurm.nodes import expand, parse_gpus, parse_nodes, read_nodes
from hpc_yolo.slurm.qos import parse_qos, read_qos
from hpc_yolo.slurm.reservations import parse_reservations, read_reservations
from hpc_yolo.slurm.site import parse_config, parse_minutes, parse_partitions, read_config, read_partitions
from tests.unit.slurm import samples
from tests.unit.stub_commands import Stubs


def test_a_config_of_22_05_with_the_user_signal() -> None:
    site = parse_config(samples.CONFIG_22)

    assert (site.version, site.name) == ("22.05.8", "lab")
    assert (site.preempt_type, site.preempt_mode) == ("partition_prio", "REQUEUE")
    assert site.has_user_signal
    assert site.requeues_by_default
    assert (site.largest_array, site.cred_expire_s, site.kill_wait_s) == (5001, 60, 30)
    assert site.submit_plugins == ()


def test_a_config_of_23_11_that_requeues_nobody_by_default() -> None:
    site = parse_config(samples.CONFIG_23)

    assert (site.preempt_type, site.preempt_mode) == ("qos", "CANCEL")
    assert not site.has_user_signal
    assert not site.requeues_by_default
    assert (site.cred_expire_s, site.kill_wait_s) == (120, 60)
    assert site.submit_plugins == ("lua",)


def test_a_config_of_25_11_that_preempts_nobody() -> None:
    site = parse_config(samples.CONFIG_25)

    assert site.preempt_type == "none"
    assert site.has_user_signal


def test_partitions_with_and_without_limits() -> None:
    low, paid, scrap = parse_partitions(samples.PARTITIONS)

    assert (low.name, low.is_default, low.preempt_mode, low.grace_s) == ("low", True, "REQUEUE", 120)
    assert [it.tier for it in (low, paid, scrap)] == [1, 9, 1]
    assert (low.default_time_min, low.max_time_min, low.max_nodes, low.total_nodes) == (120, 1440, None, 3)
    assert (low.allow_accounts, low.qos, low.max_mem_mb) == (None, None, None)
    assert (paid.allow_accounts, paid.allow_qos, paid.qos) == (("physics", "chem"), ("normal", "high"), "paid")
    assert (paid.max_time_min, paid.max_nodes, paid.max_cpus_per_node, paid.max_mem_mb) == (None, 2, 24, 64000)
    assert (scrap.state, scrap.deny_accounts, scrap.max_time_min) == ("DRAIN", ("guests",), 750)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("7-00:00:00", 10080),
        ("00:01:30", 1.5),
        ("30:00", 30),
        ("UNLIMITED", None),
        ("NONE", None),
        ("", None),
        (None, None),
    ],
)
def test_slurm_s_durations(text: str | None, minutes: float | None) -> None:
    assert parse_minutes(text) == minutes


def test_nodes_with_and_without_gpus() -> None:
    node1, node2, node3 = parse_nodes(samples.NODES)

    assert (node1.name, node1.cpus, node1.mem_mb, node1.features) == ("node1", 32, 128000, {"a100", "ib"})
    assert (node1.gpus_of(), node1.gpus_of("a100"), node1.gpus_of("h100")) == (4, 4, 0)
    assert [node1.is_usable, node2.is_usable, node3.is_usable] == [True, False, True]
    assert (node3.gpus_of(), node3.features) == (0, frozenset())


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:2", (("", 2),)),
        ("gpu:a100:4(S:0-1),gpu:a100_1g.5gb:7(S:0)", (("a100", 4), ("a100_1g.5gb", 7))),
        ("craynetwork:4,gpu:v100:1", (("v100", 1),)),
        ("gpu", (("", 1),)),
        ("gpu:tesla", (("tesla", 1),)),
        ("(null)", ()),
        ("shard:8,nic:2", ()),
    ],
)
def test_the_gpus_of_a_node(gres: str, gpus: tuple[tuple[str, int], ...]) -> None:
    assert parse_gpus(gres) == gpus


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ("node1", {"node1"}),
        ("node[1-3],login", {"node1", "node2", "node3", "login"}),
        ("n[08-10,12]", {"n08", "n09", "n10", "n12"}),
        ("r[1-2]c[1,3]x", {"r1c1x", "r1c3x", "r2c1x", "r2c3x"}),
        ("", frozenset()),
    ],
)
def test_many_hosts_in_one_word(hosts: str, names: set[str]) -> None:
    assert expand(hosts) == names


def test_reservations_of_nodes_and_not_of_licences() -> None:
    autumn, course = parse_reservations(samples.RESERVATIONS)

    assert (autumn.name, autumn.is_maintenance, autumn.nodes) == ("autumn", True, {"node1", "node2", "node3"})
    assert time.strftime("%d %H:%M", time.localtime(autumn.start)) == "24 18:00"
    assert autumn.end - autumn.start == 12 * 3600
    assert (course.name, course.is_maintenance, course.nodes) == ("course", False, {"node3"})
    assert parse_reservations(samples.NO_RESERVATIONS) == []


def test_a_qos_with_and_without_limits() -> None:
    free, normal = parse_qos(samples.QOS), parse_qos(samples.EMPTY_QOS)

    assert free is not None
    assert normal is not None
    assert (free.preempt_mode, free.grace_s, free.max_time_min, free.max_submitted) == ("requeue", 300, 480, 20)
    assert (free.max_of_job, free.max_of_user) == ({"cpu": 64, "gres/gpu": 2}, {"gres/gpu": 4})
    assert (normal.preempt_mode, normal.grace_s, normal.max_time_min, normal.max_of_job) == ("cluster", 0, None, {})
    assert parse_qos("") is None


def test_each_is_asked_of_slurm_once(stubs: Stubs) -> None:
    stubs.add("scontrol", samples.scontrol(reservations=samples.RESERVATIONS))
    stubs.add("sinfo", samples.printing(samples.NODES))
    stubs.add("sacctmgr", samples.printing(samples.QOS))
    qos = read_qos("free")

    assert read_config().name == "lab"
    assert [it.name for it in read_partitions()] == ["low", "paid", "scrap"]
    assert len(read_reservations()) == 2
    assert len(read_nodes("low")) == 3
    assert qos is not None
    assert qos.name == "free"
    assert len(stubs.calls()) == 5


def test_a_cluster_without_accounting_says_so(stubs: Stubs) -> None:
    stubs.add("sacctmgr", 'echo "You are not running a supported accounting_storage plugin" >&2; exit 1')

    with pytest.raises(commands.SlurmError, match="accounting_storage"):
        read_qos("free")
