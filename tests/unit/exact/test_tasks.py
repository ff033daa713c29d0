"""Every task and family of ultralytics' keeps the promise: stopped in two epochs and in validation, the bits are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import tasks_material as material
from tests.material import write_scenes
from tests.unit.exact.conftest import Lab, StopWhen, stop_at


@dataclass(frozen=True)
class Case:
    """What is trained, on what, and how."""

    task: str
    write: Callable[[Path], Path]
    model: dict[str, Any]
    family: str = "yolo"
    options: dict[str, Any] = field(default_factory=dict)


HEADS = [4, 5]
CASES = {
    "segment": Case("segment", material.write_segments, material.small_model(HEADS, 1, "Segment", ["nc", 8, 16])),
    "pose": Case(
        "pose", material.write_poses, material.small_model(HEADS, 1, "Pose", ["nc", [3, 3]], kpt_shape=[3, 3])
    ),
    "obb": Case("obb", material.write_turned_boxes, material.small_model(HEADS, 1, "OBB", ["nc", 1])),
    "classify": Case("classify", material.write_kinds, material.small_model(-1, 1, "Classify", ["nc"])),
    "semantic": Case("semantic", material.write_masks, material.small_model(HEADS, 1, "SemanticSegment", ["nc"])),
    "semantic-polygons": Case(
        "semantic", material.write_segments, material.small_model(HEADS, 1, "SemanticSegment", ["nc"])
    ),
    "depth": Case("depth", material.write_depths, material.small_model([2, 4, 5], 1, "Depth", [16], nc=1)),
    "rtdetr": Case(
        "detect",
        write_scenes,
        material.small_model([2, 4, 5], 1, "RTDETRDecoder", ["nc", 32, 20, 2, 4, 2]),
        family="rtdetr",
        options={"optimizer": "AdamW"},
    ),
}
MOMENTS: tuple[StopWhen, ...] = (
    stop_at(0, 2),
    ("on_val_batch_end", lambda trainer: trainer.epoch == 0 and not trainer._is_final),
    stop_at(1, 1),
)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_a_task_keeps_the_promise(bare_lab: Lab, case: Case, tmp_path: Path) -> None:
    model = tmp_path / "model.yaml"
    model.write_text(yaml.safe_dump(case.model))
    chosen = {
        "task": case.task,
        "family": case.family,
        "data": str(case.write(tmp_path / "data")),
        "model": str(model),
        "epochs": 2,
        **case.options,
    }

    assert bare_lab.attempt("undisturbed", **chosen) == "done"
    for moment in MOMENTS:
        assert bare_lab.attempt("stopped", moment, **chosen) == "stopped"
    assert bare_lab.attempt("stopped", **chosen) == "done"
    assert bare_lab.differences("undisturbed", "stopped") == []
