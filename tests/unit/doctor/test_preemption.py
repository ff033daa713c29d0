"""What a site's preemption means for a run, and what to do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpc_yolo.doctor.finding import Finding, Level
from hpc_yolo.doctor.preemption import examine_arrays, examine_preemption, without_higher
from hpc_yolo.slurm.qos import Qos, parse_qos
from hpc_yolo.slurm.site import Partition, SiteConfig, parse_config, parse_partitions
from tests.unit.slurm import samples

LOW, PAID, SCRAP = parse_partitions(samples.PARTITIONS)
BY_PARTITION, BY_QOS, NEVER = map(parse_config, (samples.CONFIG_22, samples.CONFIG_23, samples.CONFIG_25))
FREE = parse_qos(samples.QOS)


def look(site: SiteConfig, partition: Partition, qos: Qos | None = None) -> dict[str, Finding]:
    return {it.name: it for it in examine_preemption(site, partition, qos)}


def test_requeue_with_a_grace_time_and_the_user_signal_is_all_well() -> None:
    found = look(BY_PARTITION, LOW)

    assert {name: it.level for name, it in found.items()} == dict.fromkeys(
        ("preemption", "grace time", "user signal", "requeue", "restart"), Level.WELL
    )
    assert found["preemption"].said == "REQUEUE by partition"
    assert found["grace time"].said == "120 s"


def test_sigterm_alone_is_enough() -> None:
    found = look(replace(BY_PARTITION, has_user_signal=False), LOW)

    assert found["user signal"].level is Level.NOTE
    assert "SIGTERM alone" in found["user signal"].said


def test_no_grace_time_is_told_with_what_is_lost() -> None:
    found = look(BY_PARTITION, replace(LOW, grace_s=0))

    assert found["grace time"].level is Level.WARN
    assert "30 s (KillWait)" in found["grace time"].said
    assert "snapshot.interruption_h" in found["grace time"].advice
    assert "user signal" not in found


@pytest.mark.parametrize(
    ("partition", "level", "advice"),
    [
        (SCRAP, Level.BAD, "hpc-yolo resume"),
        (replace(SCRAP, grace_s=60), Level.WARN, "PreemptMode=REQUEUE"),
        (replace(SCRAP, preempt_mode="GANG,SUSPEND"), Level.WARN, "hpc-yolo requeue"),
        (PAID, Level.NOTE, "time limits"),
    ],
)
def test_other_modes_are_told_with_what_to_do(partition: Partition, level: Level, advice: str) -> None:
    found = look(BY_PARTITION, partition)["preemption"]

    assert found.level is level
    assert advice in found.advice


def test_a_qos_decides_where_the_site_preempts_by_qos() -> None:
    found = look(BY_QOS, SCRAP, FREE)

    assert found["preemption"].level is Level.WELL
    assert found["preemption"].said == "REQUEUE by QOS"
    assert found["grace time"].said == "300 s"


def test_a_qos_that_says_nothing_is_as_the_cluster_is() -> None:
    assert look(BY_QOS, LOW, parse_qos(samples.EMPTY_QOS))["preemption"].level is Level.BAD


def test_a_qos_that_nobody_tells_of_is_no_guess() -> None:
    found = look(BY_QOS, LOW, None)

    assert found["preemption"].level is Level.NOTE
    assert "cluster.qos" in found["preemption"].advice
    assert "grace time" not in found


def test_a_site_that_preempts_nobody() -> None:
    assert look(NEVER, LOW)["preemption"].level is Level.NOTE
    assert "grace time" not in look(NEVER, LOW)


def test_nobody_preempts_the_highest_tier_whatever_its_mode_is() -> None:
    """A site's own mode shows on every partition."""
    known = [LOW, paid := replace(PAID, preempt_mode="REQUEUE"), SCRAP]

    assert look(BY_PARTITION, without_higher(BY_PARTITION, paid, known))["preemption"].level is Level.NOTE
    assert without_higher(BY_PARTITION, LOW, known) == LOW
    assert without_higher(BY_QOS, paid, known) == paid
    assert without_higher(replace(BY_PARTITION, preempt_mode="REQUEUE,WITHIN"), paid, known) == paid


def test_jobs_that_are_requeued_only_if_they_ask() -> None:
    found = look(BY_QOS, LOW, FREE)["requeue"]

    assert found.level is Level.NOTE
    assert "--requeue" in found.advice


def test_a_long_wait_before_a_restart_is_told() -> None:
    assert look(replace(BY_PARTITION, cred_expire_s=600), LOW)["restart"].level is Level.NOTE


@pytest.mark.parametrize(("largest", "level"), [(5001, Level.WELL), (200, Level.NOTE), (1, Level.WARN)])
def test_how_large_an_array_may_be(largest: int, level: Level) -> None:
    assert examine_arrays(replace(BY_PARTITION, largest_array=largest)).level is level
