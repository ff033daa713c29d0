"""Every task and family of ultralytics' keeps the promise: stopped in two epochs and in validation, the bits are the same."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.cfg import TASKS as ULTRALYTICS_TASKS
from ultralytics.models.yolo.world.train_world import WorldTrainerFromScratch

from hpc_yolo import staging
from hpc_yolo.exact import upstream
from hpc_yolo.exact.trainer import ExactMixin
from hpc_yolo.exact.trainers import TRAINERS
from hpc_yolo.rundir import fsync_file
from hpc_yolo.tasks import FAMILIES, TASKS
from hpc_yolo.types import Phase
from tests.lab import Lab, StopWhen, give_up, stop_at
from tests.material import write_architecture, write_scenes
from tests.tasks_material import CASES, made
from tests.unit.exact import text_encoder

MOMENTS: tuple[StopWhen, ...] = (
    stop_at(0, 2),
    ("on_val_batch_end", lambda trainer: trainer.epoch == 0 and not trainer._is_final),
    stop_at(1, 1),
)


@pytest.fixture(autouse=True)
def texts_encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return text_encoder.install(monkeypatch)


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
    snapshot = bare_lab.newest("stopped")
    assert "dis_loss" in snapshot.plain["loss_names"]
    assert [name for name in snapshot.tensors if "projector" in name]
    assert [name for name in snapshot.tensors if "teacher" in name] == []  # it is frozen, and lies in its own file


class FromSeveral(ExactMixin, WorldTrainerFromScratch):
    """Trains on several data sets at once; ultralytics has no name for it that a config could give."""


def test_several_data_sets_at_once_keep_the_promise(bare_lab: Lab, tmp_path: Path) -> None:
    first, second = write_scenes(tmp_path / "first"), write_scenes(tmp_path / "second" / "images", train=9)
    chosen = made(CASES["world"], tmp_path)
    chosen["data"] = {"train": {"yolo_data": [str(first), str(second)]}, "val": {"yolo_data": [str(first)]}}
    bare_lab.trainer_class = FromSeveral

    assert_exact(bare_lab, chosen)


def _sync_slowly(seconds: float, file: Path) -> None:
    time.sleep(seconds)
    fsync_file(file)


def test_a_depth_model_is_calibrated_once_whatever_kills_the_run(
    bare_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = made(CASES["depth"], tmp_path)

    assert bare_lab.attempt("undisturbed", **chosen) == "done"
    at_the_end = ("on_train_end", lambda _trainer: True)
    assert bare_lab.attempt("killed", at_the_end, ends=give_up, **chosen) == "killed"
    assert bare_lab.newest("killed").position.phase is not Phase.DONE
    # the writer has the last epoch's best.pt still in hand when the final evaluation wants to replace it
    for module, seconds in ((staging, 0.2), (upstream, 0.8)):
        monkeypatch.setattr(module, "fsync_file", partial(_sync_slowly, seconds))
    assert bare_lab.attempt("killed", **chosen) == "done"

    calibration = torch.load(bare_lab.root / "undisturbed" / "weights" / "best.pt", weights_only=False)[
        "depth_calibration"
    ]
    assert calibration["candidate"] == "scale-only"  # it changed something: else this test tests nothing
    assert bare_lab.differences("undisturbed", "killed") == []
    assert not list((bare_lab.root / "killed" / "weights").glob("*.uncalibrated"))
