"""Options of single tasks, stops by patience around a resume, and what a task adds to the state: left out, it is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.errors import ConfigError, DataError
from hpc_yolo.exact import trainer as exact_trainer
from hpc_yolo.exact.loader import make_quiet
from tests.lab import Lab, Plateau, stop_at
from tests.material import write_scenes
from tests.tasks_material import CASES, made
from tests.unit.exact.test_tasks import assert_exact

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "classify-autoaugment": ("classify", {"auto_augment": "autoaugment", "erasing": 0.9, "workers": 1}),
    "classify-augmix": ("classify", {"auto_augment": "augmix", "erasing": 0.0, "cache": "ram", "dropout": 0.3}),
    "classify-fraction": ("classify", {"fraction": 0.7, "hsv_h": 0.1, "flipud": 0.5, "cache": "disk"}),
    "segment-masks-apart": ("segment", {"overlap_mask": False, "mask_ratio": 2, "copy_paste": 0.5}),
    "semantic-mixed": ("semantic", {"cutmix": 0.5, "mixup": 0.5, "workers": 1, "cls_pw": 0.5}),
    "pose-augmented": ("pose", {"degrees": 10, "mixup": 0.3, "multi_scale": 0.5}),
    "obb-augmented": ("obb", {"degrees": 30, "rect": True}),
    "depth-cached": ("depth", {"cache": "ram", "flipud": 0.5}),
    "rtdetr-cached": ("rtdetr", {"cache": "ram", "mosaic": 0.5}),
}


@pytest.mark.matrix
@pytest.mark.parametrize("name", OPTIONS)
def test_a_task_s_options_keep_the_promise(bare_lab: Lab, tmp_path: Path, name: str) -> None:
    case, options = OPTIONS[name]
    assert_exact(bare_lab, made(CASES[case], tmp_path, **options))


def test_a_classifier_s_validation_order_must_not_go_on(
    bare_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of make_ordered: with upstream's shuffling loader, the mean of the losses tells how often it validated."""
    chosen = made(CASES["classify"], tmp_path, batch=2, optimizer="AdamW", lr0=0.05, epochs=3)
    monkeypatch.setattr(exact_trainer, "make_ordered", make_quiet)
    assert bare_lab.attempt("undisturbed", **chosen) == "done"
    assert bare_lab.attempt("stopped", stop_at(1, 1), **chosen) == "stopped"
    assert bare_lab.attempt("stopped", **chosen) == "done"

    assert bare_lab.differences("undisturbed", "stopped") != []


def test_losses_come_back_in_the_order_of_their_columns(bare_lab: Lab, tmp_path: Path) -> None:
    """A snapshot's tensors are sorted by name, which is not the order of a segmenter's columns."""
    chosen = made(CASES["segment"], tmp_path)
    assert bare_lab.attempt("stopped", stop_at(0, 3), **chosen) == "stopped"
    assert bare_lab.attempt("stopped", **chosen) == "done"

    names = bare_lab.newest("stopped").plain["loss_names"]
    assert names != sorted(names)
    header = (bare_lab.root / "stopped" / "results.csv").read_text().splitlines()[0].split(",")
    assert header[2 : 2 + len(names)] == [f"train/{name}" for name in names]


@pytest.mark.parametrize("moment", [(0, 1), (1, 3), (2, 0)], ids=str)
def test_patience_counts_across_a_stop(bare_lab: Lab, monkeypatch: pytest.MonkeyPatch, moment: tuple[int, int]) -> None:
    monkeypatch.setattr(bare_lab, "trainer_class", Plateau)
    options = {"patience": 2, "epochs": 6}
    assert bare_lab.attempt("plateau", **options) == "done"
    assert bare_lab.attempt("stopped", stop_at(*moment), **options) == "stopped"
    assert bare_lab.attempt("stopped", **options) == "done"

    assert bare_lab.newest("stopped").position.epoch == 2
    assert bare_lab.differences("plateau", "stopped") == []


def test_an_automatic_batch_size_is_settled_once(bare_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"batch": -1, "epochs": 1}
    before = exact_trainer.ExactMixin.auto_batch
    assert bare_lab.attempt("auto", stop_at(0, 0), **options) == "stopped"
    settled = bare_lab.newest("auto").plain["args"]["batch"]
    assert settled > 1

    asked: list[int] = []
    monkeypatch.setattr(exact_trainer.ExactMixin, "auto_batch", lambda it: asked.append(before(it)) or asked[-1])
    assert bare_lab.attempt("auto", **options) == "done"
    assert bare_lab.newest("auto").plain["args"]["batch"] == settled
    assert [it for it in asked if it != settled] == []


def test_weights_for_another_task_are_refused_when_they_are_opened(bare_lab: Lab, tmp_path: Path) -> None:
    chosen = made(CASES["classify"], tmp_path, epochs=1)
    assert bare_lab.attempt("classifier", **chosen) == "done"
    weights = bare_lab.root / "classifier" / "weights" / "last.pt"

    with pytest.raises(ConfigError, match=r"last.pt ends with Classify.*Set model.family=yolo model.task=classify"):
        bare_lab.attempt("detector", model=str(weights))


def test_boxes_are_no_data_for_a_segmenter(bare_lab: Lab, tmp_path: Path) -> None:
    chosen = made(CASES["segment"], tmp_path)
    chosen["data"] = str(write_scenes(tmp_path / "boxes"))

    with pytest.raises(DataError, match=r"scenes.yaml cannot be trained on: Segment dataset requires equal numbers of"):
        bare_lab.attempt("boxes", **chosen)
