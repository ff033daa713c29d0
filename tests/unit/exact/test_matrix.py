"""The long form of test_resume: every optimizer, augmentation, cache and data option, and a stop at every batch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import Lab, stop_at

pytestmark = pytest.mark.matrix

OPTIMIZERS = ["auto", "SGD", "AdamW", "Adam", "Adamax", "MuSGD", "NAdam", "RAdam", "RMSProp"]

OPTIONS: dict[str, dict[str, Any]] = {
    "no-mosaic": {"mosaic": 0.0},
    "some-mosaic": {"mosaic": 0.5, "mixup": 0.5, "close_mosaic": 0},
    "copy-paste-mixup-mode": {"copy_paste": 0.5, "copy_paste_mode": "mixup"},
    "cutmix": {"cutmix": 1.0},
    "cache-disk": {"cache": "disk"},
    "fraction": {"fraction": 0.9},
    "single-class": {"single_cls": True},
    "some-classes": {"classes": [0, 2]},
    "class-weights": {"cls_pw": 0.5},
    "no-validation": {"val": False},
    "no-weights-but-the-last": {"save": False},
    "weights-of-every-epoch": {"save_period": 1},
    "accumulating-much": {"nbs": 64},
    "warm-up-to-the-end": {"warmup_epochs": 3.0},
    "plots": {"plots": True},
    "frozen-layers": {"freeze": [0, 1]},
    "dropout-and-perspective": {"perspective": 0.0005, "shear": 5.0, "flipud": 0.5, "bgr": 0.5},
    "compiled": {"compile": True},
    "yolo11n": {"model": "yolo11n.yaml"},
    "yolo26n": {"model": "yolo26n.yaml", "optimizer": "SGD"},
    "yolov8n": {"model": "yolov8n.yaml"},
}


def assert_exact(lab: Lab, name: str, options: dict[str, Any]) -> None:
    assert lab.attempt(f"{name}-undisturbed", **options) == "done"
    for moment in (stop_at(0, 1), stop_at(1, 2)):
        assert lab.attempt(name, moment, **options) == "stopped"
    assert lab.attempt(name, **options) == "done"
    assert lab.differences(f"{name}-undisturbed", name) == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(lab: Lab, optimizer: str) -> None:
    assert_exact(lab, optimizer, {"optimizer": optimizer})


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(lab: Lab, name: str) -> None:
    assert_exact(lab, name, OPTIONS[name])


@pytest.mark.parametrize("position", [(epoch, batch) for epoch in range(3) for batch in range(4)], ids=str)
def test_a_stop_at_every_batch(lab: Lab, position: tuple[int, int]) -> None:
    name = f"at-{position[0]}-{position[1]}"
    assert lab.attempt(name, stop_at(*position)) == "stopped"
    assert lab.attempt(name) == "done"
    assert lab.differences("undisturbed", name) == []
