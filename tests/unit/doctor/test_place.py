"""What the probe's answer means for a run that is trained there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.answer import ANSWER, Answer, Torch, read_answer
from hpc_yolo.doctor.finding import Finding, Level
from hpc_yolo.doctor.place import Here, examine_place, examine_writes, recommended_delay_s

VERSIONS = {"hpc-yolo": "0.1.0", "torch": "2.7.0", "ultralytics": "8.4.190", "submitit": "1.5.3", "hydra-core": "1.3.2"}
HERE = Here(nonce="abc", versions=VERSIONS, clock_s=0.01)
TORCH = Torch(
    cuda_build="12.6", devices=("NVIDIA A100", "NVIDIA A100"), caches={"/c/Arial.ttf": True, "/w/yolo26n.pt": True}
)
ANSWER_OF_NODE = Answer(
    host="node1", python="/env/bin/python", versions=dict(VERSIONS), nonce="abc", writes_s=(1.0, 4.2, 2.0), clock_s=0.02,
    gpus=("NVIDIA A100, 550.54", "NVIDIA A100, 550.54"), is_online=True, torch=TORCH,
)  # fmt: skip


def slurm(**options: Any) -> ClusterConfig:
    return ClusterConfig(**{"kind": "slurm", "gpus_per_node": 2, "signal_delay_s": 120, **options})


def look(answer: Answer = ANSWER_OF_NODE, cluster: ClusterConfig | None = None) -> dict[str, Finding]:
    return {it.name: it for it in examine_place(answer, HERE, cluster or slurm())}


def test_a_node_that_has_it_all() -> None:
    found = look()

    assert {name: it.level for name, it in found.items()} == dict.fromkeys(
        ("python", "shared storage", "clock", "gpu", "internet"), Level.WELL
    )
    assert found["gpu"].said == "2 x NVIDIA A100, driver 550.54, torch for CUDA 12.6: each has computed"


@pytest.mark.parametrize(
    ("change", "name", "level", "said"),
    [
        ({"versions": {**VERSIONS, "torch": None}}, "python", Level.BAD, "has no torch"),
        ({"versions": {**VERSIONS, "torch": "2.6.0"}}, "python", Level.WARN, "torch 2.6.0"),
        ({"torch": Torch(error="ImportError: libcudnn.so.9")}, "python", Level.BAD, "libcudnn.so.9"),
        ({"nonce": None}, "shared storage", Level.BAD, "another folder"),
        ({"write_error": "/r/write: Disk quota exceeded"}, "shared storage", Level.BAD, "Disk quota exceeded"),
        ({"clock_s": -30.0}, "clock", Level.WARN, "30 s behind"),
        ({"torch": replace(TORCH, devices=("NVIDIA A100",))}, "gpu", Level.BAD, "1 x NVIDIA A100, but 2 are asked for"),
        (
            {"torch": replace(TORCH, devices=(), cuda_error="The NVIDIA driver on your system is too old")},
            "gpu", Level.BAD, "torch for CUDA 12.6 cannot use it: The NVIDIA driver on your system is too old",
        ),
        (
            {"torch": Torch(cuda_error="Torch not compiled with CUDA enabled"), "gpus": ()},
            "gpu", Level.BAD, "none on node1, with torch for CPUs",
        ),
        ({"missing": ("/home/me/yolo11n.pt",)}, "start weights", Level.BAD, "/home/me/yolo11n.pt is not on node1"),
        ({"is_online": False}, "internet", Level.NOTE, "what ultralytics looks for is there"),
        (
            {"is_online": False, "torch": replace(TORCH, caches={"/c/Arial.ttf": False, "/w/yolo26n.pt": False})},
            "internet", Level.NOTE, "not there: /c/Arial.ttf, /w/yolo26n.pt",
        ),
        ({"is_online": None}, "internet", Level.NOTE, "not asked"),
    ],
)  # fmt: skip
def test_what_a_node_lacks_is_told(change: dict[str, Any], name: str, level: Level, said: str) -> None:
    found = look(replace(ANSWER_OF_NODE, **change))[name]

    assert found.level is level
    assert said in found.said


def test_a_cpu_is_enough_where_no_gpu_is_asked_for() -> None:
    found = look(replace(ANSWER_OF_NODE, torch=Torch(), gpus=()), slurm(gpus_per_node=None))

    assert found["gpu"].level is Level.NOTE


def test_this_machine_needs_no_shared_storage() -> None:
    assert {"shared storage", "clock"} & set(look(cluster=ClusterConfig())) == set()


@pytest.mark.parametrize(("slowest", "together", "advised"), [(0.0, 1, 30), (4.2, 1, 50), (10.0, 4, 190)])
def test_the_delay_is_four_writes_and_a_step(slowest: float, together: int, advised: int) -> None:
    assert recommended_delay_s(slowest, together) == advised


@pytest.mark.parametrize(
    ("delay", "level", "advice"),
    [
        (120, Level.WELL, ""),
        (40, Level.WARN, "Set cluster.signal_delay_s=50."),
        (None, Level.WARN, "cluster.signal_delay_s=50"),
    ],
)
def test_the_delay_is_held_against_the_slowest_write(delay: int | None, level: Level, advice: str) -> None:
    write, found = examine_writes(ANSWER_OF_NODE, slurm(signal_delay_s=delay), 200, 60, where="on node1")

    assert write.said == "200 MB in 4.2 s, the slowest of 3 (on node1)"
    assert found.level is level
    assert advice in found.advice


def test_a_grace_time_that_is_shorter_than_a_write() -> None:
    found = {it.name: it for it in examine_writes(ANSWER_OF_NODE, slurm(), 200, 3, where="on node1")}

    assert found["grace time"].level is Level.WARN
    assert "leaves 3 s, a write takes 4.2 s" in found["grace time"].said


def test_a_write_that_fails_is_bad() -> None:
    answer = replace(ANSWER_OF_NODE, writes_s=(), write_error="/r/write: No space left on device")
    (found,) = examine_writes(answer, slurm(), 200, None, where="here")

    assert (found.level, found.said) == (Level.BAD, "here: /r/write: No space left on device")


def test_an_answer_comes_back_as_it_was_and_half_of_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / ANSWER
    file.write_text("")
    assert read_answer(tmp_path) is None

    text = ANSWER_OF_NODE.to_json()
    file.write_text(text[:-10])
    assert read_answer(tmp_path) is None

    file.write_text(text.replace('"host"', '"of_a_later_release": 1, "host"'))
    assert read_answer(tmp_path) == ANSWER_OF_NODE
