"""What a head or a file name says of family and task."""

from __future__ import annotations

import pytest

from hpc_yolo.errors import ConfigError
from hpc_yolo.tasks import check_head, kind_of_head, kind_of_name


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("yolo11n.pt", ("yolo", "detect")),
        ("/w/yolo26s-seg.pt", ("yolo", "segment")),
        ("yolo26n-sem.yaml", ("yolo", "semantic")),
        ("yolo11n-cls.pt", ("yolo", "classify")),
        ("yolov8-pose-p6.yaml", ("yolo", "pose")),
        ("yolo11n-obb.pt", ("yolo", "obb")),
        ("yolo26n-depth.pt", ("yolo", "depth")),
        ("rtdetr-l.pt", ("rtdetr", "detect")),
        ("yolov8s-worldv2.pt", ("world", "detect")),
        ("yoloe-11s.pt", ("yoloe", "detect")),
        ("yoloe-11s-seg.pt", ("yoloe", "segment")),
        ("mine-segfault.pt", ("yolo", "detect")),
    ],
)
def test_a_name_tells_family_and_task_as_ultralytics_reads_it(file: str, kind: tuple[str, str]) -> None:
    assert kind_of_name(file) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("v10Detect", ("yolo", "detect")),
        ("Segment26", ("yolo", "segment")),
        ("SemanticSegment", ("yolo", "semantic")),
        ("RTDETRDecoder", ("rtdetr", "detect")),
        ("WorldDetect", ("world", "detect")),
        ("YOLOESegment26", ("yoloe", "segment")),
        ("Sequential", None),
    ],
)
def test_a_head_tells_them_for_certain(head: str, kind: tuple[str, str] | None) -> None:
    assert kind_of_head(head) == kind


def test_weights_for_another_task_say_what_to_set() -> None:
    with pytest.raises(
        ConfigError, match=r"best\.pt ends with Pose.* Set model.family=yolo model.task=pose, or choose"
    ):
        check_head("Pose", weights="best.pt", family="yolo", task="detect")
