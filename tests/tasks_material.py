"""What the tests of tasks other than detection train on: the scenes of material.py with other labels, and small models.

Every kind of label is made from the same bright rectangles, so all tasks can learn a little within a few steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.material import ARCHITECTURE, write_scenes

HEIGHT, WIDTH = 72, 96
NAMES = {0: "red", 1: "green", 2: "blue"}
Box = tuple[int, int, int, int, int]  # kind, x, y, width, height in pixels


def write_segments(root: Path) -> Path:
    """Polygons: the rectangles' corners, one of them pulled in."""
    return _write(root, lambda box: f"{box[0]} " + _numbers(_corners(box, pull=0.2)))


def write_poses(root: Path) -> Path:
    """Boxes with three keypoints: two corners and the middle, each visible."""
    return _write(root, _pose_line, kpt_shape=[3, 3], flip_idx=[0, 1, 2])


def write_turned_boxes(root: Path) -> Path:
    """Rectangles turned by a fifth of a right angle."""
    return _write(root, lambda box: f"{box[0]} " + _numbers(_corners(box, turn=math.pi / 10)))


def write_masks(root: Path) -> Path:
    """A PNG for each image: the kind of the rectangle at each pixel, 255 (ignored) elsewhere for one image in four."""

    def mask(file: Path, number: int, boxes: list[Box]) -> None:
        pixels = np.full((HEIGHT, WIDTH), 255 if number % 4 == 0 else 0, dtype=np.uint8)
        for kind, x, y, w, h in boxes:
            pixels[y : y + h, x : x + w] = kind
        Image.fromarray(pixels).save(file.with_suffix(".png"))

    return _write(root, None, extra=("masks", mask), masks_dir="masks")


def write_depths(root: Path) -> Path:
    """A depth in metres for each pixel: a slope, and the rectangles in front of it."""

    def depth(file: Path, _number: int, boxes: list[Box]) -> None:
        metres = np.tile(np.linspace(4, 9, WIDTH, dtype=np.float32), (HEIGHT, 1))
        for kind, x, y, w, h in boxes:
            metres[y : y + h, x : x + w] = 1 + kind
        np.save(file.with_suffix(".npy"), metres)

    return _write(root, None, extra=("depth", depth), names={0: "depth"})


def write_kinds(root: Path, train: int = 5, val: int = 6) -> Path:
    """Images in a folder for each class, as classification has them; returns the folder that holds the splits."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind, name in NAMES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count - kind % 2):
                image, _ = _scene(random, kinds=[kind] * 4)
                Image.fromarray(image).save(folder / f"{i:03d}.png")
    return root


def small_model(*head: Any, **changes: Any) -> dict[str, Any]:
    """The detector of material.py with another head, such as `small_model([4, 5], 1, "Segment", ["nc", 8, 16])`."""
    return {**ARCHITECTURE, "head": [list(head)], **changes}


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
    "segment": Case("segment", write_segments, small_model(TWO, 1, "Segment", ["nc", 8, 16])),
    "pose": Case("pose", write_poses, small_model(TWO, 1, "Pose", ["nc", [3, 3]], kpt_shape=[3, 3])),
    "obb": Case("obb", write_turned_boxes, small_model(TWO, 1, "OBB", ["nc", 1])),
    "classify": Case("classify", write_kinds, small_model(-1, 1, "Classify", ["nc"])),
    "semantic": Case("semantic", write_masks, small_model(TWO, 1, "SemanticSegment", ["nc"])),
    "semantic-polygons": Case("semantic", write_segments, small_model(TWO, 1, "SemanticSegment", ["nc"])),
    "depth": Case("depth", write_depths, small_model(THREE, 1, "Depth", [16], nc=1)),
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
        write_segments,
        small_model(THREE, 1, "YOLOESegment", ["nc", 8, 16, 512, True]),
        family="yoloe",
    ),
}


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


def _write(
    root: Path,
    line: Callable[[Box], str] | None,
    extra: tuple[str, Callable[[Path, int, list[Box]], None]] | None = None,
    **changes: Any,
) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 14), ("val", 10)):
        for number in range(count):
            image, boxes = _scene(random, kinds=random.integers(0, 3, 4).tolist())
            Image.fromarray(image).save(_file(root, "images", split, number, ".png"))
            if line is not None:
                _file(root, "labels", split, number, ".txt").write_text("".join(f"{line(it)}\n" for it in boxes))
            if extra is not None:
                extra[1](_file(root, extra[0], split, number, ""), number, boxes)
    file = root / "data.yaml"
    content = {"path": str(root), "train": "images/train", "val": "images/val", "names": NAMES, **changes}
    file.write_text(yaml.safe_dump(content))
    return file


def _file(root: Path, kind: str, split: str, number: int, suffix: str) -> Path:
    folder = root / kind / split
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{number:03d}{suffix}"


def _scene(random: np.random.Generator, kinds: list[int]) -> tuple[np.ndarray, list[Box]]:
    image = random.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes: list[Box] = []
    for kind in kinds:
        x, y, w, h = (int(v) for v in (random.integers(0, 60), random.integers(0, 44), *random.integers(12, 28, 2)))
        image[y : y + h, x : x + w, kind] = 230
        boxes.append((kind, x, y, w, h))
    return image, boxes


def _corners(box: Box, *, pull: float = 0.0, turn: float = 0.0) -> list[tuple[float, float]]:
    """The corners in pixels; the first `pull`ed towards the middle, all of them turned about it."""
    _, x, y, w, h = box
    signs = ((-1 + pull, -1 + pull), (1, -1), (1, 1), (-1, 1))
    cos, sin = math.cos(turn), math.sin(turn)
    offsets = [(sx * w / 2, sy * h / 2) for sx, sy in signs]
    turned = [(x + w / 2 + dx * cos - dy * sin, y + h / 2 + dx * sin + dy * cos) for dx, dy in offsets]
    return [(min(max(px, 0), WIDTH), min(max(py, 0), HEIGHT)) for px, py in turned]


def _pose_line(box: Box) -> str:
    kind, x, y, w, h = box
    points = [(x, y), (x + w, y + h), (x + w / 2, y + h / 2)]
    keypoints = " ".join(f"{px / WIDTH:.6f} {py / HEIGHT:.6f} 2" for px, py in points)
    return f"{kind} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f} {keypoints}"


def _numbers(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)
