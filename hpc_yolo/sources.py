"""Owns the digests of what a run starts from: start weights, architecture and data set. Finds nothing that is not there."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import yaml

from hpc_yolo.errors import DataError
from hpc_yolo.frozen import FrozenRun, canonical
from hpc_yolo.train_args import package_dir

_IMAGES = {".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp", ".pfm", ".heic", ".avif", ".jp2"}
_SPLITS = ("train", "val", "test")


def check_weights(frozen: FrozenRun) -> None:
    """Refuse start weights that are not those the run was frozen with.

    Raises:
        DataError: they are gone, or have changed.
    """
    _check_weights("model.weights", Path(frozen.weights), frozen.weights_digest)
    for name, digest in frozen.train_digests.items():
        _check_weights(f"train.{name}", Path(frozen.train[name]), digest)


def weights_of(frozen: FrozenRun) -> list[Path]:
    """Every .pt that the run loads: a pickle, which is a program."""
    return [
        Path(it) for it in (frozen.weights, *(frozen.train[k] for k in frozen.train_digests)) if str(it).endswith(".pt")
    ]


def _check_weights(key: str, path: Path, digest: str) -> None:
    if not path.is_file() and (path.is_absolute() or shipped_architecture(path.name) is None):
        raise DataError(f"{key}={path} is gone. Put the file back, and run it again.")
    if digest_of_weights(path) != digest:
        raise DataError(
            f"{key}={path} has changed since the run was frozen. Put the old file back, or submit it again: "
            "the new weights make a new run."
        )


def check_data(frozen: FrozenRun) -> Path:
    """The data set's folder.

    Raises:
        DataError: it is gone.
    """
    root = Path(str(frozen.data["path"]))
    if not root.is_dir():
        raise DataError(f"the data set's folder {root} is gone. Put it back, and run it again.")
    return root


def has_changed_data(frozen: FrozenRun) -> bool:
    """Whether images or labels were added, removed or changed in size since the run was frozen.

    Raises:
        DataError: the data set is gone.
    """
    return digest_of_data(Path(frozen.data_yaml), check_data(frozen), frozen.data, frozen.task) != frozen.data_digest


def digest_of_weights(path: Path) -> str:
    """SHA-256 of a .pt's bytes, or of a YAML's parsed content (so that a comment changes nothing)."""
    if path.suffix == ".pt":
        return _hash_file(path)
    shipped = path if path.is_file() else shipped_architecture(path.name)
    assert shipped is not None
    scale = match[1] if (match := re.match(r"yolo(?:e-)?v?\d+([nslmx])", path.stem)) else ""
    content = {"scale": scale, "content": read_yaml(shipped)}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def digest_of_data(path: Path, root: Path, content: dict[str, Any], task: str = "detect") -> str:
    """SHA-256 over the YAML (without `path`) and the names and sizes of the images and of what `task` learns from them.

    Raises:
        DataError: a folder that the YAML names is missing or empty.
    """
    found = hashlib.sha256(canonical({k: v for k, v in content.items() if k != "path"}).encode())
    for split in _SPLITS:
        stated = content.get(split)
        if not stated:
            if split != "test":
                raise DataError(f"{path}: `{split}:` is missing. Name the folder of the {split} images there.")
            continue
        for part in stated if isinstance(stated, list) else [stated]:
            source = root / str(part)
            if not source.exists():
                if split == "test":
                    continue
                raise DataError(f"{path}: `{split}: {part}` does not exist ({source}).")
            folder, suffixes = _targets(task, content)
            targets = Path(f"/{folder}/".join(f"{source}/".rsplit("/images/", 1)))
            lines = _listing(source, targets, suffixes)
            if not lines and split != "test":
                raise DataError(f"{path}: `{split}: {part}` holds no images ({source}).")
            if folder != "labels" and source.is_dir() and not targets.is_dir():
                raise DataError(f"{path}: {task} learns from files in {targets}, which is no folder. Put them there.")
            found.update("".join(lines).encode())
    return found.hexdigest()


def shipped_architecture(name: str) -> Path | None:
    """`yolo11n.yaml` ships as `yolo11.yaml`; the letter is the scale."""
    stem = re.sub(r"^(yolo(?:e-)?v?\d+)[nslmx]", r"\1", Path(name).stem)
    for candidate in (Path(name).stem, stem):
        found = next((package_dir() / "cfg" / "models").rglob(f"{candidate}.yaml"), None)
        if found:
            return found
    return None


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no mapping.")
    return content


def head_of(path: Path) -> str | None:
    """The name of an architecture's last module; None of a .pt, and where it has none."""
    if path.suffix == ".pt":
        return None
    shipped = path if path.is_file() else shipped_architecture(path.name)
    try:
        return str(read_yaml(shipped)["head"][-1][2]) if shipped else None
    except (KeyError, IndexError, TypeError):
        return None


def _targets(task: str, content: dict[str, Any]) -> tuple[str, set[str]]:
    """Where ultralytics looks for what a task learns: the folder in place of `images`, and the files' suffixes."""
    if task == "depth":
        return "depth", {".png", ".npy"}
    if task == "semantic" and content.get("masks_dir"):
        return str(content["masks_dir"]), {".png"}
    return "labels", {".txt"}


def _listing(source: Path, targets: Path, suffixes: set[str]) -> list[str]:
    """`name size` of every image below `source` and of its labels or masks; of a .txt list, its lines."""
    if source.is_file():
        return source.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    images = _walk(source, "", _IMAGES)
    return sorted(f"{name} {size}\n" for name, size in images + (_walk(targets, "", suffixes) if images else []))


def _walk(folder: Path, prefix: str, suffixes: set[str]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return found
    for entry in entries:
        if entry.is_dir():
            found += _walk(Path(entry.path), f"{prefix}{entry.name}/", suffixes)
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            found.append((prefix + entry.name, entry.stat().st_size))
    return found


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
