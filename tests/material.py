"""What the tests train on: small scenes and a small detector, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

#: A detector with all that the loop and the loss treat specially (batch norm, attention-free C3k2, two scales), 60 k weights.
ARCHITECTURE: dict[str, Any] = {
    "nc": 3,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C3k2", [16, False, 0.25]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C3k2", [32, False, 0.25]],
        [-1, 1, "Conv", [32, 3, 2]],
    ],
    "head": [[[4, 5], 1, "Detect", ["nc"]]],
}


def write_scenes(root: Path, train: int = 14, val: int = 18) -> Path:
    """Bright rectangles of three kinds on noise, with their boxes, in YOLO layout; returns the data YAML."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            image = random.integers(0, 90, (72, 96, 3), dtype=np.uint8)
            lines = []
            for kind in random.integers(0, 3, 4):
                x, y, w, h = random.integers(0, 60), random.integers(0, 44), *random.integers(12, 28, 2)
                image[y : y + h, x : x + w, kind] = 230
                lines.append(f"{kind} {(x + w / 2) / 96:.6f} {(y + h / 2) / 72:.6f} {w / 96:.6f} {h / 72:.6f}")
            Image.fromarray(image).save(root / "images" / split / f"{i:03d}.png")
            (root / "labels" / split / f"{i:03d}.txt").write_text("\n".join(lines) + "\n")
    file = root / "scenes.yaml"
    names = {0: "red", 1: "green", 2: "blue"}
    file.write_text(yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": names}))
    return file


def write_architecture(file: Path, **changes: Any) -> Path:
    file.write_text(yaml.safe_dump({**ARCHITECTURE, **changes}))
    return file
