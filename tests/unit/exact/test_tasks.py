"""Every task and family of ultralytics' keeps the promise: stopped in two epochs and in validation, the bits are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ultralytics.cfg import TASKS as ULTRALYTICS_TASKS
from ultralytics.models.yolo.world.train_world import WorldTrainerFromScratch

from hpc_yolo.exact.trainer import ExactMixin
from hpc_yolo.exact.trainers import TRAINERS
from hpc_yolo.tasks import FAMILIES, TASKS
from hpc_yolo.types import Phase
from tests import tasks_material as material
from tests.material import write_architecture, write_scenes
from tests.tasks_material import small_model
from tests.unit.exact import text_encoder
from tests.unit.exact.conftest import Lab, StopWhen, stop_at


@dataclass(frozen=True)
class Case:
    """What is trained, on what, and how."""

    task: str
    write: Callable[[Path], Path]
    model: dict[str, Any]
    family: str = "yolo"
    options: dict[str, Any] = field(default_factory=dict)


TWO, THREE = [4, 5], [2, 4, 5]  # the layers that a head sees
CASES = {
    "segment": Case("segment", material.write_segments, small_model(TWO, 1, "Segment", ["nc", 8, 16])),
    "pose": Case("pose", material.write_poses, small_model(TWO, 1, "Pose", ["nc", [3, 3]], kpt_shape=[3, 3])),
    "obb": Case("obb", material.write_turned_boxes, small_model(TWO, 1, "OBB", ["nc", 1])),
    "classify": Case("classify", material.write_kinds, small_model(-1, 1, "Classify", ["nc"])),
    "semantic": Case("semantic", material.write_masks, small_model(TWO, 1, "SemanticSegment", ["nc"])),
    "semantic-polygons": Case("semantic", material.write_segments, small_model(TWO, 1, "SemanticSegment", ["nc"])),
    "depth": Case("depth", material.write_depths, small_model(THREE, 1, "Depth", [16], nc=1)),
    "rtdetr": Case(
        "detect",
        write_scenes,
        small_model(THREE, 1, "RTDETRDecoder", ["nc", 32, 20, 2, 4, 2]),
        family="rtdetr",
        options={"optimizer": "AdamW"},
    ),
    "world": Case("detect", write_scenes, small_model(TWO, 1, "WorldDetect", ["nc", 512, True]), family="world"),
    "yoloe": Case("detect", write_scenes, small_model(THREE, 1, "YOLOEDetect", ["nc", 512, True]), family="yoloe"),
    "yoloe-segment": Case(
        "segment",
        material.write_segments,
        small_model(THREE, 1, "YOLOESegment", ["nc", 8, 16, 512, True]),
        family="yoloe",
    ),
}
MOMENTS: tuple[StopWhen, ...] = (
    stop_at(0, 2),
    ("on_val_batch_end", lambda trainer: trainer.epoch == 0 and not trainer._is_final),
    stop_at(1, 1),
)


@pytest.fixture(autouse=True)
def texts_encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return text_encoder.install(monkeypatch)


def made(case: Case, folder: Path, **options: Any) -> dict[str, Any]:
    """The options of an attempt at `case`, its data and model written below `folder`."""
    model = folder / "model.yaml"
    model.write_text(yaml.safe_dump(case.model))
    data = str(case.write(folder / "data"))
    return {
        "task": case.task,
        "family": case.family,
        "data": data,
        "model": str(model),
        "epochs": 2,
        **case.options,
        **options,
    }


def assert_exact(lab: Lab, chosen: dict[str, Any], name: str = "stopped") -> None:
    assert lab.attempt(f"{name}-undisturbed", **chosen) == "done"
    for moment in MOMENTS:
        assert lab.attempt(name, moment, **chosen) == "stopped"
    assert lab.attempt(name, **chosen) == "done"
    assert lab.differences(f"{name}-undisturbed", name) == []


@pytest.mark.parametrize("name", CASES)
def test_a_task_keeps_the_promise(bare_lab: Lab, name: str, tmp_path: Path, texts_encoded: list[str]) -> None:
    case = CASES[name]
    assert_exact(bare_lab, made(case, tmp_path))

    assert bool(texts_encoded) == (case.family in ("world", "yoloe"))


def test_every_task_and_family_has_a_trainer_and_a_case() -> None:
    assert set(TASKS) == set(ULTRALYTICS_TASKS)
    assert set(TRAINERS) == {(family, task) for family, tasks in FAMILIES.items() for task in tasks}
    assert {(case.family, case.task) for case in CASES.values()} == set(TRAINERS) - {("yolo", "detect")}  # test_resume
    assert all(trainer.family == family for (family, _), trainer in TRAINERS.items())


def test_distillation_keeps_the_promise(bare_lab: Lab, tmp_path: Path) -> None:
    """Both are end-to-end models: the loss reads both branches of the teacher's head."""
    student = write_architecture(tmp_path / "student.yaml", end2end=True, reg_max=1)
    chosen = {"model": str(student), "epochs": 2}
    assert bare_lab.attempt("teacher", **{**chosen, "epochs": 1}) == "done"
    teacher = bare_lab.root / "teacher" / "weights" / "last.pt"

    assert_exact(bare_lab, {**chosen, "distill_model": str(teacher)})
    assert "dis_loss" in bare_lab.newest("stopped").plain["loss_names"]


class FromSeveral(ExactMixin, WorldTrainerFromScratch):
    """Trains on several data sets at once; ultralytics has no name for it that a config could give."""


def test_several_data_sets_at_once_keep_the_promise(bare_lab: Lab, tmp_path: Path) -> None:
    first, second = write_scenes(tmp_path / "first"), write_scenes(tmp_path / "second" / "images", train=9)
    chosen = made(CASES["world"], tmp_path)
    chosen["data"] = {"train": {"yolo_data": [str(first), str(second)]}, "val": {"yolo_data": [str(first)]}}
    bare_lab.trainer_class = FromSeveral

    assert_exact(bare_lab, chosen)


class Killed(Exception):  # noqa: N818 (not an error)
    """What a test is killed with, where a stop request would be too kind."""


def test_a_depth_model_is_calibrated_once_whatever_kills_the_run(bare_lab: Lab, tmp_path: Path) -> None:
    chosen = made(CASES["depth"], tmp_path)

    def kill(_trainer: Any) -> bool:
        raise Killed

    assert bare_lab.attempt("undisturbed", **chosen) == "done"
    with pytest.raises(Killed):
        bare_lab.attempt("killed", ("on_train_end", kill), **chosen)
    assert bare_lab.newest("killed").position.phase is not Phase.DONE
    assert bare_lab.attempt("killed", **chosen) == "done"

    calibration = torch.load(bare_lab.root / "undisturbed" / "weights" / "best.pt", weights_only=False)[
        "depth_calibration"
    ]
    assert calibration["candidate"] == "scale-only"  # it changed something: else this test tests nothing
    assert bare_lab.differences("undisturbed", "killed") == []
    assert not list((bare_lab.root / "killed" / "weights").glob(".*"))
