"""What is asked for, against what the partition, its nodes, its QOS and its reservations grant."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.finding import Finding, Level
from hpc_yolo.doctor.limits import (
    as_time,
    choose_partitions,
    examine_epoch,
    examine_partition,
    examine_qos,
    examine_reservations,
)
from hpc_yolo.slurm.nodes import parse_nodes
from hpc_yolo.slurm.qos import parse_qos
from hpc_yolo.slurm.reservations import parse_reservations
from hpc_yolo.slurm.site import Partition, parse_partitions
from tests.unit.slurm import samples

PARTITIONS = parse_partitions(samples.PARTITIONS)
LOW, PAID, SCRAP = PARTITIONS
NODES = parse_nodes(samples.NODES)
NOON = time.mktime((2026, 11, 24, 12, 30, 0, 0, 0, -1))


def asked(**options: Any) -> ClusterConfig:
    return ClusterConfig(**{"kind": "slurm", "time_min": 240, "signal_delay_s": 120, **options})


def look(partition: Partition = LOW, **options: Any) -> dict[str, Finding]:
    return {it.name: it for it in examine_partition(asked(**options), partition, NODES)}


def levels(found: dict[str, Finding]) -> dict[str, Level]:
    return {name: it.level for name, it in found.items()}


def test_what_fits_is_well() -> None:
    found = look(gpus_per_node=1, cpus_per_task=8, mem_gb=32)

    assert set(levels(found).values()) == {Level.WELL}
    assert found["partition"].said == "low is UP, 2 of 3 nodes usable"
    assert found["time limit"].said == "4 h of 1 d"
    assert found["resources"].said == "1 x (8 CPUs, 32 GB, 1 GPU): 2 of 3 nodes have that"


def test_the_default_partition_is_taken_where_none_is_named() -> None:
    assert choose_partitions(None, PARTITIONS) == ([LOW], [])
    assert choose_partitions("low,scrap", PARTITIONS) == ([LOW, SCRAP], [])


def test_a_partition_that_is_not_there_is_told_with_those_that_are() -> None:
    chosen, (missing,) = choose_partitions("lwo", PARTITIONS)

    assert chosen == []
    assert missing.level is Level.BAD
    assert missing.advice == "Choose cluster.partition among low, paid, scrap."
    assert choose_partitions(None, [PAID])[1][0].level is Level.BAD


@pytest.mark.parametrize(
    ("partition", "options", "name", "word"),
    [
        (LOW, {"time_min": 1500}, "time limit", "cluster.time_min=1440 or less"),
        (SCRAP, {}, "partition", "another cluster.partition"),
        (PAID, {"account": "guests"}, "account", "physics, chem"),
        (SCRAP, {"account": "guests"}, "account", "any but guests"),
        (PAID, {"qos": "free"}, "qos", "normal, high"),
        (PAID, {"cpus_per_task": 32}, "resources", "Ask for less"),
        (PAID, {"mem_gb": 100}, "resources", "Ask for less"),
        (PAID, {"nodes": 3}, "resources", "Ask for less"),
        (LOW, {"gpus_per_node": 8}, "resources", "32 CPUs, 125 GB, 4 a100"),
        (LOW, {"gres": "gpu:h100:1"}, "resources", "4 a100"),
        (LOW, {"nodes": 3, "gpus_per_node": 1}, "resources", "Ask for less"),
        (LOW, {"constraint": "h100"}, "resources", "Ask for less"),
    ],
)
def test_what_never_starts_is_bad(partition: Partition, options: dict[str, Any], name: str, word: str) -> None:
    found = look(partition, **options)[name]

    assert found.level is Level.BAD
    assert word in found.advice


def test_nodes_that_are_down_are_told() -> None:
    found = look(nodes=2, gpus_per_node=1)["resources"]

    assert found.level is Level.WARN
    assert "too few of them are up" in found.said


def test_a_time_limit_that_the_warning_eats_up() -> None:
    found = look(time_min=5)["time limit"]

    assert found.level is Level.WARN
    assert "the warning takes 120 s and up to 60 s more" in found.said


def test_the_partition_s_own_time_limit_is_told() -> None:
    assert look(time_min=None)["time limit"].said == "120 min of 1 d, by default"
    assert levels(look(PAID, time_min=None))["time limit"] is Level.NOTE


def test_a_start_that_has_no_time_for_an_epoch() -> None:
    (short,) = examine_epoch(4 * 3600, 240, 120)
    (enough,) = examine_epoch(600, 240, 120)

    assert (short.level, enough.level) == (Level.WARN, Level.WELL)
    assert enough.said == "10 min by earlier runs, a start trains for 3.95 h"
    assert examine_epoch(None, 240, 120) == []


@pytest.mark.parametrize(
    ("options", "limit_min", "word"),
    [
        ({}, 600, "MaxWall is 8 h"),
        ({"gpus_per_node": 3}, 240, "3 gres/gpu, but 2 is the most of a job"),
        ({"cpus_per_task": 65}, 240, "65 cpu, but 64 is the most of a job"),
    ],
)
def test_a_qos_that_grants_less(options: dict[str, Any], limit_min: float, word: str) -> None:
    qos = parse_qos(samples.QOS)
    assert qos is not None

    found = examine_qos(asked(**options), qos, limit_min)

    assert found.level is Level.BAD
    assert word in found.said


def test_how_much_of_a_qos_one_may_have_at_once() -> None:
    free, normal = parse_qos(samples.QOS), parse_qos(samples.EMPTY_QOS)
    assert free is not None
    assert normal is not None

    assert examine_qos(asked(), free, 240).said == "free: at most 4 gres/gpu, 20 jobs submitted of a user at once"
    assert examine_qos(asked(), normal, None).level is Level.WELL


def test_a_maintenance_that_begins_within_the_time_limit() -> None:
    (found,) = examine_reservations(parse_reservations(samples.RESERVATIONS), NODES, 720, NOON)

    assert found.level is Level.WARN
    assert "autumn (maintenance) takes 3 of 3 nodes at Tue 24 Nov 18:00" in found.said
    assert "cluster.time_min=325 lets a start in before" in found.advice


def test_a_reservation_of_some_nodes_now_and_one_that_is_later_than_the_limit() -> None:
    (found,) = examine_reservations(parse_reservations(samples.RESERVATIONS), NODES, 240, NOON - 3600)

    assert found.level is Level.NOTE
    assert found.said == "course (reserved) holds 1 of 3 nodes until Tue 24 Nov 12:00"


def test_reservations_of_other_nodes_are_nothing_to_us() -> None:
    others = [replace(node, name=f"x{node.name}") for node in NODES]

    assert examine_reservations(parse_reservations(samples.RESERVATIONS), others, 720, NOON) == []


@pytest.mark.parametrize(
    ("minutes", "text"), [(0.5, "30 s"), (90, "90 min"), (240, "4 h"), (1500, "1 d 1 h"), (10080, "7 d")]
)
def test_times_are_told_as_people_do(minutes: float, text: str) -> None:
    assert as_time(minutes) == text
