"""Owns the names of what can be trained: tasks, families of models, and what a head or a file name says of both. Pure."""

from __future__ import annotations

import re
from pathlib import Path

from hpc_yolo.errors import ConfigError

#: ultralytics' tasks.
TASKS = ("detect", "segment", "semantic", "depth", "classify", "pose", "obb")

#: Families that ultralytics trains in ways of their own, each with its tasks.
FAMILIES: dict[str, tuple[str, ...]] = {
    "yolo": TASKS,
    "rtdetr": ("detect",),
    "world": ("detect",),
    "yoloe": ("detect", "segment"),
}

#: What the name of a head holds; the first that fits counts (SemanticSegment is no Segment).
_HEADS = (
    ("semantic", "semantic"), ("segment", "segment"), ("classify", "classify"), ("pose", "pose"), ("obb", "obb"),
    ("depth", "depth"), ("rtdetr", "detect"), ("detect", "detect"),
)  # fmt: skip
_FAMILY_HEADS = (("rtdetr", "rtdetr"), ("world", "world"), ("yoloe", "yoloe"))
_SUFFIXES = {"seg": "segment", "sem": "semantic", "cls": "classify", "pose": "pose", "obb": "obb", "depth": "depth"}


def kind_of_head(head: str) -> tuple[str, str] | None:
    """The family and the task of a model whose last module is `head`; None for one that is not known."""
    name = head.lower()
    task = next((task for mark, task in _HEADS if mark in name), None)
    family = next((family for mark, family in _FAMILY_HEADS if mark in name), "yolo")
    return (family, task) if task else None


def kind_of_name(file: str) -> tuple[str, str]:
    """The family and the task that a file's name speaks of, as ultralytics reads it: `yolo11n-seg.pt`, `rtdetr-l.pt`."""
    stem = Path(file).stem.lower()
    family = next(
        (it for mark, it in (("rtdetr", "rtdetr"), ("-world", "world"), ("yoloe", "yoloe")) if mark in stem), "yolo"
    )
    found = re.search(rf"-({'|'.join(_SUFFIXES)})\b", stem)
    task = _SUFFIXES[found[1]] if found else "detect"
    return family, task if task in FAMILIES[family] else "detect"


def check(family: str, task: str) -> None:
    """Refuse a family or a task that is not there, or a pair that does not go together.

    Raises:
        ConfigError: with those there are.
    """
    if task not in TASKS:
        raise ConfigError(f"model.task={task}: there is no such task. There are {', '.join(TASKS)}.")
    if family not in FAMILIES:
        raise ConfigError(f"model.family={family}: there is no such family. There are {', '.join(FAMILIES)}.")
    if task not in FAMILIES[family]:
        raise ConfigError(f"model.family={family} is not trained for {task}: it knows {', '.join(FAMILIES[family])}.")


def check_head(head: str, *, weights: str, family: str, task: str) -> None:
    """Refuse a model that was built for something else.

    Raises:
        ConfigError: with what it was built for.
    """
    kind = kind_of_head(head)
    if kind is not None and kind != (family, task):
        raise ConfigError(
            f"model.weights={weights} ends with {head}, a model of family {kind[0]} for {kind[1]}, but model.family={family} "
            f"and model.task={task}. Set model.family={kind[0]} model.task={kind[1]}, or choose other weights."
        )
