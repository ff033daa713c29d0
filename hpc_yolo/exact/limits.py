"""Owns the options under which a run cannot be exact, and why. Pure; the worker says them before the first step."""

from __future__ import annotations

from hpc_yolo.frozen import FrozenRun


def inexact_options(frozen: FrozenRun, device: str) -> list[str]:
    """The reasons, in words; none for a run that ends with the bits of an undisturbed one. `device` is cpu or cuda."""
    train = frozen.train
    compile_mode = str(train.get("compile") or "")
    reasons = {
        "train.time is a wall-clock budget, which decides the number of epochs": bool(train.get("time")),
        "train.deterministic=false lets the GPU choose its kernels": (
            device == "cuda" and not train.get("deterministic", True)
        ),
        "RT-DETR's grid_sample has no deterministic backward pass on a GPU": (
            device == "cuda" and frozen.family == "rtdetr"
        ),
        "train.compile lets the compiler choose kernels by their time (on a GPU, and with max-autotune)": (
            bool(compile_mode) and (device == "cuda" or "max-autotune" in compile_mode)
        ),
        "train.compile makes other kernels for a size that comes after another (train.multi_scale, train.rect)": (
            bool(compile_mode) and bool(train.get("multi_scale") or train.get("rect"))
        ),
        "train.quantize=8 trains with fake quantization, whose state is not in a snapshot": train.get("quantize") == 8,
    }
    return [reason for reason, holds in reasons.items() if holds]
