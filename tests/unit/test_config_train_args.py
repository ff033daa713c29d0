"""What is known of ultralytics' training arguments, and what is answered to a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo import train_args
from hpc_yolo.errors import ConfigError


def test_the_defaults_are_ultralytics_own() -> None:
    found = train_args.defaults()

    assert found["epochs"] == 100
    assert found["optimizer"] == "auto"
    assert found["conf"] is None
    assert "close_mosaic" in found


def test_upstreams_own_check_takes_all_that_ours_takes_for_the_defaults() -> None:
    cfg = pytest.importorskip("ultralytics.cfg")

    assert set(train_args.defaults()) <= set(cfg.DEFAULT_CFG_DICT)
    assert train_args.checked(train_args.defaults()) == train_args.defaults()
    cfg.check_cfg(train_args.defaults())


def test_every_argument_of_ultralytics_is_taken_or_refused_with_a_reason() -> None:
    cfg = pytest.importorskip("ultralytics.cfg")

    assert set(cfg.DEFAULT_CFG_DICT) <= set(train_args.arguments()) | set(train_args.OWNED) | train_args.foreign()


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("epoch", 3, "Did you mean train.epochs?"),
        ("lr", 0.1, "Did you mean train.lr"),
        ("zzz", 1, "--cfg job -p train"),
        ("model", "x.pt", "use model.weights=..."),
        ("data", "x.yaml", "use data.yaml=..."),
        ("project", "x", "use runs_dir=..."),
        ("name", "x", "use name=..."),
        ("resume", True, "submit the same thing again"),
        ("exist_ok", True, "submit the same thing again"),
        ("save_dir", "x", "use runs_dir=..."),
        ("mode", "val", "leave it out"),
        ("format", "onnx", "not to training"),
        ("tracker", "x.yaml", "not to training"),
        ("epochs", "abc", "must be a whole number (default: 100)"),
        ("epochs", 1.5, "must be a whole number"),
        ("epochs", 0, "must be 1 or more"),
        ("epochs", None, "must be a whole number"),
        ("epochs", True, "must be a whole number"),
        ("imgsz", "big", "must be a whole number or a list"),
        ("lr0", 2.0, "must be 1 or less"),
        ("lr0", -0.1, "must be 0 or more"),
        ("lr0", [0.1], "must be a number"),
        ("scale", 1.5, "must be 1 or less"),
        ("cos_lr", "yes", "must be true or false"),
        ("workers", -1, "must be 0 or more"),
        ("batch", 0, "-1 (as many as fit)"),
        ("fraction", 0, "a share above 0"),
        ("optimizer", "sdg", "must be one of auto, SGD"),
        ("amp", "fp8", "must be one of true, false, fp16"),
    ],
)
def test_a_wrong_argument_is_answered_in_one_line(name: str, value: Any, answer: str) -> None:
    with pytest.raises(ConfigError) as refused:
        train_args.checked({name: value})

    assert str(refused.value).startswith(f"train.{name}")
    assert answer in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", -1),
        ("batch", 0.7),
        ("imgsz", 96),
        ("scale", [0.5, 1.5]),
        ("fraction", 200),
        ("fraction", [0.5, 1.0]),
        ("freeze", [0, 1]),
        ("classes", [0, 2]),
        ("cache", "disk"),
        ("device", [0]),
        ("optimizer", "sgd"),
        ("workers", None),
        ("time", None),
        ("auto_augment", "augmix"),
    ],
)
def test_what_ultralytics_takes_is_taken(name: str, value: Any) -> None:
    assert train_args.checked({name: value}) == {name: value}


def test_one_value_has_one_spelling() -> None:
    found = train_args.checked({"box": 8, "epochs": 1e2, "lr0": 1, "batch": 16})

    assert [(it, type(it)) for it in found.values()] == [(8.0, float), (100, int), (1.0, float), (16, int)]


def test_reading_them_imports_neither_ultralytics_nor_torch() -> None:
    code = (
        "import sys; from hpc_yolo import train_args; train_args.checked(train_args.defaults()); "
        "sys.exit('ultralytics' in sys.modules or 'torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
