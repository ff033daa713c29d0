"""Options under which a run cannot be exact are told, and only where it holds."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact import trainers
from hpc_yolo.exact.limits import inexact_options
from hpc_yolo.frozen import FrozenRun
from hpc_yolo.types import RunId


def reasons(device: str, family: str = "yolo", **train: Any) -> str:
    frozen = FrozenRun(
        id=RunId("x"), name="x", task="detect", weights="w", weights_digest="", data_yaml="d", data_digest="", data={},
        train=train, cpu_threads=1, streams=1, family=family,
    )  # fmt: skip
    return "; ".join(inexact_options(frozen, device))


@pytest.mark.parametrize(
    ("word", "devices", "options"),
    [
        ("train.time", ("cpu", "cuda"), {"time": 1.5}),
        ("train.quantize=8", ("cpu", "cuda"), {"quantize": 8}),
        ("train.deterministic=false", ("cuda",), {"deterministic": False}),
        ("by their time", ("cuda",), {"compile": "reduce-overhead"}),
        ("by their time", ("cpu", "cuda"), {"compile": "max-autotune-no-cudagraphs"}),
        ("train.multi_scale", ("cpu", "cuda"), {"compile": True, "multi_scale": 0.5}),
        ("train.rect", ("cpu", "cuda"), {"compile": True, "rect": True}),
        ("train.compile", (), {"compile": False, "multi_scale": 0.5, "rect": True}),
        ("grid_sample", ("cuda",), {"family": "rtdetr"}),
    ],
)
def test_a_limit_is_told_where_it_holds(word: str, devices: tuple[str, ...], options: dict[str, Any]) -> None:
    for device in ("cpu", "cuda"):
        assert (word in reasons(device, **options)) == (device in devices)
        assert reasons(device) == ""


def test_a_missing_text_encoder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers.importlib.util, "find_spec", lambda _name: None)

    trainers.check_packages("yolo")
    with pytest.raises(ConfigError, match=r"model.family=world needs the package clip.*pip install git\+https"):
        trainers.check_packages("world")
