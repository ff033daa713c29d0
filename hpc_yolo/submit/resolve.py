"""Owns finding what a config points to: start weights and data set. Says which file to put where."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.config import DataConfig, DigitsConfig
from hpc_yolo.errors import DataError
from hpc_yolo.sources import digest_of_data, digest_of_weights, read_yaml, shipped_architecture

#: A folder that is searched for start weights, for machines without internet.
WEIGHTS_VARIABLE = "HPC_YOLO_WEIGHTS_DIR"

_ARCHITECTURES = Path(__file__).resolve().parent.parent / "architectures"
_DOWNLOAD_S = 120


@dataclass(frozen=True, slots=True)
class ResolvedData:
    """The YAML's path, its content with an absolute `path`, and a digest of both content and files."""

    yaml: str
    content: dict[str, Any]
    digest: str


def resolve_weights(weights: str, *, may_download: bool = True) -> tuple[str, str]:
    """Find the start weights or architecture; returns where, and the digest.

    Raises:
        DataError: they are nowhere, and cannot be had.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return str(path.resolve()), digest_of_weights(path)
    ours = _ARCHITECTURES / weights
    if ours.is_file():
        return str(ours), digest_of_weights(ours)
    if path.suffix in (".yaml", ".yml"):
        shipped = shipped_architecture(path.name)
        if shipped is None:
            raise DataError(
                f"model.weights={weights} does not exist, and ultralytics ships no architecture of that name."
            )
        return path.name, digest_of_weights(Path(path.name))
    found = _search(path.name) or (_download(path.name) if may_download else None)
    if found is None:
        folder = os.environ.get(WEIGHTS_VARIABLE) or Path.cwd()
        tried = " and could not be downloaded" if may_download else ""
        raise DataError(
            f"model.weights={weights} is not on this machine{tried}. Put the file at "
            f"{Path(folder) / path.name}, or train from nothing with model.weights={path.stem}.yaml."
        )
    return str(found.resolve()), digest_of_weights(found)


def resolve_data(data: DataConfig, *, is_dry_run: bool = False) -> ResolvedData:
    """Find the data set and take its digest; the demonstration set is made first where it is asked for.

    Raises:
        DataError: the YAML or a folder that it names does not exist.
    """
    if data.yaml is None:
        assert data.digits is not None
        return _resolve_digits(data.digits, is_dry_run)
    path = Path(data.yaml).expanduser().resolve()
    if not path.is_file():
        raise DataError(f"data.yaml={data.yaml}: there is no such file. Give the path of your data set's YAML.")
    return _resolve_yaml(path)


def _resolve_yaml(path: Path) -> ResolvedData:
    content = read_yaml(path)
    if content.get("names") is None and not isinstance(content.get("nc"), int):
        raise DataError(f"{path}: `names:` is missing. List the names of the classes there, by their number.")
    root = _root(path, content)
    content = {**content, "path": str(root)}
    return ResolvedData(str(path), content, digest_of_data(path, root, content))


def _resolve_digits(digits: DigitsConfig, is_dry_run: bool) -> ResolvedData:
    """A dry run makes what is not there yet elsewhere, for its digest: the id it prints is the one of the real run."""
    from hpc_yolo.digits import digits_yaml, ensure_digits

    options = {
        "train_images": digits.train_images,
        "val_images": digits.val_images,
        "imgsz": digits.imgsz,
        "seed": digits.seed,
    }
    root = Path(digits.root).expanduser().resolve()
    path = digits_yaml(root, **options)
    if not is_dry_run or path.is_file():
        return _resolve_yaml(ensure_digits(root, **options))
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-") as scratch:
        made = _resolve_yaml(ensure_digits(Path(scratch), **options))
    return ResolvedData(str(path), {**made.content, "path": str(path.parent)}, made.digest)


def _root(path: Path, content: dict[str, Any]) -> Path:
    """What `path:` means: absolute, or relative to the YAML (ultralytics would look below its own data folder)."""
    stated = content.get("path")
    root = path.parent if stated in (None, "") else (path.parent / Path(str(stated)).expanduser())
    if not root.is_dir():
        raise DataError(f"{path}: `path: {stated}` is no folder. Write the absolute path of the data set there.")
    return root.resolve()


def _search(name: str) -> Path | None:
    folders = [os.environ.get(WEIGHTS_VARIABLE), "."]
    return next((Path(f) / name for f in folders if f and (Path(f) / name).is_file()), None)


def _download(name: str) -> Path | None:
    """Let ultralytics fetch published weights into the working folder, once, in its own process (it imports torch)."""
    code = "import sys; from ultralytics.utils import downloads; downloads.attempt_download_asset(sys.argv[1], retry=0)"
    print(f"hpc-yolo: {name} is not here; trying to download it", file=sys.stderr, flush=True)
    try:
        subprocess.run([sys.executable, "-c", code, name], timeout=_DOWNLOAD_S, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        return None
    return Path(name) if Path(name).is_file() else None
