"""Owns the demonstration data set: scenes of real handwritten digits with exact boxes. Knows no torch, no ultralytics."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpc_yolo.errors import ConfigError
from hpc_yolo.rundir import fsync_dir, write_text_atomic

#: Part of the folder's name; raise it when the same parameters give other scenes.
_EDITION = 1
_VAL_SHARE = 0.25  # of the handwritten digits, kept for the scenes of val
_MOST_DIGITS = 5
_TRIES_TO_PLACE = 50
_INK_PX = (0.18, 0.34)  # height of a digit, as a share of the scene

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Digit:
    """One handwritten digit, cut to its ink: rows x columns, 0 (paper) to 255 (ink)."""

    ink: Pixels
    label: int


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a digit stands in a scene, in pixels; right and bottom are one past the last."""

    label: int
    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: _Box) -> bool:
        return not (
            self.right <= other.left or other.right <= self.left or self.bottom <= other.top or other.bottom <= self.top
        )

    def to_yolo(self, imgsz: int) -> str:
        """`class x-centre y-centre width height`, as shares of the scene."""
        x, y = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        width, height = self.right - self.left, self.bottom - self.top
        return " ".join([str(self.label), *(f"{value / imgsz:.6f}" for value in (x, y, width, height))])


def digits_yaml(root: Path, *, train_images: int, val_images: int, imgsz: int, seed: int) -> Path:
    """Where the YAML of the data set of these parameters is, or will be."""
    name = f"digits-{_EDITION}-{train_images}-{val_images}-{imgsz}px-seed{seed}"
    return root.absolute() / name / "digits.yaml"


def ensure_digits(root: Path, *, train_images: int = 160, val_images: int = 48, imgsz: int = 96, seed: int = 0) -> Path:
    """Make the data set below `root`, or find it there; the same parameters give the same bytes.

    Returns:
        The data set's YAML. The folder appears all at once: what a kill leaves behind is never taken for it.

    Raises:
        ConfigError: a parameter is out of range, or scikit-learn is not installed.
    """
    _check(train_images, val_images, imgsz)
    path = digits_yaml(root, train_images=train_images, val_images=val_images, imgsz=imgsz, seed=seed)
    if not path.parent.is_dir():
        _publish(path.parent, {"train": train_images, "val": val_images}, imgsz, seed)
    text = _yaml_text(path.parent)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # new, or the folder was moved
        write_text_atomic(path, text)
    return path


def _check(train_images: int, val_images: int, imgsz: int) -> None:
    for name, value, least in (("train_images", train_images, 1), ("val_images", val_images, 1), ("imgsz", imgsz, 32)):
        if value < least:
            raise ConfigError(f"data.digits.{name}={value} is too small. Set {least} or more.")


def _publish(final: Path, counts: dict[str, int], imgsz: int, seed: int) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed and had our pid
    try:
        sources = _split_sources(_read_digits(), seed)
        for number, (split, count) in enumerate(counts.items()):
            _write_split(staged, split, sources[split], count, imgsz, (seed, number))
        try:
            staged.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was quicker, with the same bytes
                raise
        fsync_dir(final.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _yaml_text(folder: Path) -> str:
    names = "\n".join(f"  {digit}: '{digit}'" for digit in range(10))
    return (
        f"path: '{str(folder).replace(chr(39), chr(39) * 2)}'\ntrain: images/train\nval: images/val\nnames:\n{names}\n"
    )


def _read_digits() -> list[_Digit]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            "the digits data set needs scikit-learn, which is not installed. Run: pip install 'hpc-yolo[demo]'"
        ) from error
    found = load_digits()
    return [_Digit(_cut(image), int(label)) for image, label in zip(found.images, found.target, strict=True)]


def _cut(image: NDArray[np.float64]) -> Pixels:
    """Drop the empty border of an 8 x 8 image with values of 0 to 16."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    inked = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.rint(inked * (255 / 16)).astype(np.uint8)


def _split_sources(digits: list[_Digit], seed: int) -> dict[str, list[_Digit]]:
    """No handwriting sample is in both: val measures what was learned, not what was remembered."""
    order = np.random.default_rng((seed, 99)).permutation(len(digits))
    for_val = round(len(digits) * _VAL_SHARE)
    return {"val": [digits[i] for i in order[:for_val]], "train": [digits[i] for i in order[for_val:]]}


def _write_split(folder: Path, split: str, sources: list[_Digit], count: int, imgsz: int, key: tuple[int, int]) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, digits in enumerate(_deal(sources, count, key)):
        rng = np.random.default_rng((*key, number))
        scene, boxes = _compose(digits, imgsz, rng)
        # Uncompressed: how well zlib packs differs between its versions, and the bytes should not.
        Image.fromarray(scene).save(images / f"{number:05d}.png", compress_level=0)
        lines = (box.to_yolo(imgsz) + "\n" for box in boxes)
        (labels / f"{number:05d}.txt").write_text("".join(lines), encoding="utf-8")


def _deal(sources: list[_Digit], scenes: int, key: tuple[int, int]) -> Iterator[list[_Digit]]:
    """Hand out every source once before any comes twice."""
    rng = np.random.default_rng((*key, 1, 0))
    pile: list[int] = []
    for _ in range(scenes):
        if len(pile) < _MOST_DIGITS:
            pile = [*rng.permutation(len(sources)), *pile]
        yield [sources[pile.pop()] for _ in range(int(rng.integers(2, _MOST_DIGITS + 1)))]


def _compose(digits: list[_Digit], imgsz: int, rng: np.random.Generator) -> tuple[Pixels, list[_Box]]:
    """A scene of imgsz x imgsz x 3 and the boxes of those digits that found room in it."""
    canvas = _background(imgsz, rng)
    boxes: list[_Box] = []
    for digit in digits:
        scale = rng.uniform(*_INK_PX) * imgsz / digit.ink.shape[0]
        height, width = (max(4, round(side * scale)) for side in digit.ink.shape)
        box = _find_room(boxes, digit.label, width, height, imgsz, rng)
        if box is not None:
            _draw(canvas, digit, box, rng)
            boxes.append(box)
    return np.rint(canvas.clip(0, 255)).astype(np.uint8), boxes


def _background(imgsz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Dark paper: a tint, a few soft clouds and a little grain."""
    clouds = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8)).resize(
        (imgsz, imgsz), Image.Resampling.BICUBIC
    )
    soft: NDArray[np.float32] = (np.asarray(clouds, dtype=np.float32) / 255 - np.float32(0.5)) * np.float32(40)
    grain = rng.integers(-8, 9, (imgsz, imgsz, 3)).astype(np.float32)
    tint = rng.integers(30, 90, 3).astype(np.float32)
    return soft[:, :, None] + grain + tint


def _find_room(
    taken: list[_Box], label: int, width: int, height: int, imgsz: int, rng: np.random.Generator
) -> _Box | None:
    if width > imgsz or height > imgsz:
        return None
    for _ in range(_TRIES_TO_PLACE):
        left, top = int(rng.integers(0, imgsz - width + 1)), int(rng.integers(0, imgsz - height + 1))
        box = _Box(label, left, top, left + width, top + height)
        if not any(box.overlaps(other) for other in taken):
            return box
    return None


def _draw(canvas: NDArray[np.float32], digit: _Digit, box: _Box, rng: np.random.Generator) -> None:
    size = (box.right - box.left, box.bottom - box.top)
    ink = np.asarray(Image.fromarray(digit.ink).resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
    colour = rng.integers(170, 256, 3).astype(np.float32)
    spot = canvas[box.top : box.bottom, box.left : box.right]
    spot += ink[:, :, None] * (colour - spot)
