"""Owns what torch and ultralytics say of a place, printed as one line of JSON: a program of its own, for it imports both."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import USER_CONFIG_DIR, WEIGHTS_DIR, checks

_FONT = "Arial.ttf"
_AMP_WEIGHTS = "yolo26n.pt"  # of ultralytics 8.4.190


def main() -> None:
    computed = _compute()
    caches = _caches(has_gpu=bool(computed["devices"]))
    print(json.dumps({"cuda_build": torch.version.cuda, **computed, "caches": caches}))


def _compute() -> dict[str, Any]:
    """Whether each GPU adds two numbers: a driver may be too old, or torch built for other GPUs."""
    devices: list[str] = []
    try:
        torch.cuda.init()
        for index in range(torch.cuda.device_count()):
            torch.ones(2, device=f"cuda:{index}").sum().item()
            devices.append(torch.cuda.get_device_name(index))
    except (RuntimeError, AssertionError) as error:  # torch for CPUs asserts
        return {"devices": devices, "cuda_error": re.split(r"\n|(?<=\w)\. ", str(error))[0]}
    return {"devices": devices, "cuda_error": None}


def _caches(*, has_gpu: bool) -> dict[str, bool]:
    """`check_font` and `check_amp` of ultralytics.utils.checks look there, and download what they do not find."""
    font = Path(USER_CONFIG_DIR) / _FONT
    found = {str(font): font.is_file() or _has_system_font()}
    if not has_gpu:  # without one, mixed precision is off, and not checked
        return found
    named = re.search(r'WEIGHTS_DIR / "([^"]+)"', inspect.getsource(checks.check_amp))
    amp = WEIGHTS_DIR / (named[1] if named else _AMP_WEIGHTS)
    return {**found, str(amp): amp.is_file()}


def _has_system_font() -> bool:
    from matplotlib import font_manager

    return any(_FONT in it.fname and Path(it.fname).is_file() for it in font_manager.fontManager.ttflist)


if __name__ == "__main__":
    main()
