"""Owns finding what a config points to: start weights and data set. Says which file to put where."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo import tasks
from hpc_yolo.config import DataConfig, DigitsConfig, ModelConfig
from hpc_yolo.errors import DataError
from hpc_yolo.redaction import redacted
from hpc_yolo.sources import digest_of_data, digest_of_weights, head_of, read_yaml, shipped_architecture

#: A folder that is searched for start weights, for machines without internet.
WEIGHTS_VARIABLE = "HPC_YOLO_WEIGHTS_DIR"

#: Training arguments whose text is the path or name of a .pt.
_FILE_ARGUMENTS = ("distill_model", "pretrained")

#: The names of a classification set's validation folder, in the order in which ultralytics looks for them.
_VALIDATION = ("val", "validation", "valid", "test")

_ARCHITECTURES = Path(__file__).resolve().parent.parent / "architectures"
_DOWNLOAD_S = 120


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Where the start weights or the architecture are, their digest, and what they are trained as."""

    weights: str
    digest: str
    family: str
    task: str


@dataclass(frozen=True, slots=True)
class ResolvedData:
    """The YAML's path, its content with an absolute `path`, and a digest of both content and files.

    Of a classification set, the folder and what a YAML of it would say.
    """

    yaml: str
    content: dict[str, Any]
    digest: str


def resolve_model(model: ModelConfig, *, may_download: bool = True) -> ResolvedModel:
    """Find the start weights or the architecture, and settle family and task.

    Raises:
        ConfigError: the family or the task asked for is not that of the architecture.
        DataError: they are nowhere, and cannot be had.
    """
    weights, digest = resolve_weights(model.weights, may_download=may_download)
    head = head_of(Path(weights))
    family, task = (tasks.kind_of_head(head) if head else None) or tasks.kind_of_name(model.weights)
    family, task = model.family or family, model.task or task
    tasks.check(family, task)
    if head:  # a .pt is opened on the compute node only, and checked there
        tasks.check_head(head, weights=model.weights, family=family, task=task)
    return ResolvedModel(weights, digest, family, task)


def resolve_train_files(train: dict[str, Any], *, may_download: bool = True) -> tuple[dict[str, str], dict[str, str]]:
    """Find the files that training arguments name; returns their places and their digests, by argument.

    Raises:
        DataError: one is nowhere, and cannot be had.
    """
    named = {name: train[name] for name in _FILE_ARGUMENTS if isinstance(train.get(name), str)}
    found = {n: resolve_weights(v, key=f"train.{n}", may_download=may_download) for n, v in named.items()}
    return {name: place for name, (place, _) in found.items()}, {name: digest for name, (_, digest) in found.items()}


def resolve_weights(weights: str, *, key: str = "model.weights", may_download: bool = True) -> tuple[str, str]:
    """Find the start weights or architecture that `key` names; returns where, and the digest.

    Raises:
        DataError: they are nowhere, and cannot be had.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        if "'" in str(path.resolve()):
            raise DataError(f"{key}={weights}: ultralytics leaves out the ' of {path.resolve()}. Move the file.")
        return str(path.resolve()), digest_of_weights(path)
    ours = _ARCHITECTURES / weights
    if ours.is_file():
        return str(ours), digest_of_weights(ours)
    if path.suffix in (".yaml", ".yml"):
        shipped = shipped_architecture(path.name)
        if shipped is None:
            raise DataError(f"{key}={weights} does not exist, and ultralytics ships no architecture of that name.")
        return path.name, digest_of_weights(Path(path.name))
    found = _search(path.name) or (_download(path.name) if may_download else None)
    if found is None:
        folder = os.environ.get(WEIGHTS_VARIABLE) or Path.cwd()
        tried = " and could not be downloaded" if may_download else ""
        instead = f", or train from nothing with model.weights={path.stem}.yaml" if key == "model.weights" else ""
        raise DataError(
            f"{key}={weights} is not on this machine{tried}. Put the file at {Path(folder) / path.name}{instead}."
        )
    return str(found.resolve()), digest_of_weights(found)


def resolve_data(data: DataConfig, task: str = "detect", *, is_dry_run: bool = False) -> ResolvedData:
    """Find the data set and take its digest; the demonstration set is made first where it is asked for.

    Raises:
        DataError: the YAML or a folder that it names does not exist, or is not what `task` needs.
    """
    if data.yaml is None:
        assert data.digits is not None
        if task != "detect":
            raise DataError(f"data=digits holds boxes only, but model.task={task}. Name a data set with data.yaml=...")
        return _resolve_digits(data.digits, is_dry_run)
    path = Path(data.yaml).expanduser().resolve()
    if task == "classify":
        return _resolve_folder(path)
    if path.is_dir():
        raise DataError(f"data.yaml={data.yaml} is a folder, which only model.task=classify takes. Give its YAML.")
    if not path.is_file():
        raise DataError(f"data.yaml={data.yaml}: there is no such file. Give the path of your data set's YAML.")
    return _resolve_yaml(path, task)


def _resolve_folder(path: Path) -> ResolvedData:
    """A folder of images sorted into classes, as ultralytics' classification has it."""
    layout = "Classification takes a folder with train/CLASS/*.jpg and val/CLASS/*.jpg"
    if not path.is_dir():
        raise DataError(f"data.yaml={path} is no folder. {layout}; give its path.")
    validation = next((name for name in _VALIDATION if (path / name).is_dir()), None)
    if not (path / "train").is_dir() or validation is None:
        missing = "val" if (path / "train").is_dir() else "train"
        raise DataError(f"data.yaml={path} has no folder {missing}/. {layout}; sort the images so.")
    names = sorted(it.name for it in (path / "train").iterdir() if it.is_dir())
    if not names:
        raise DataError(f"{path / 'train'} has no folder for any class. {layout}; sort the images so.")
    content = {"path": str(path), "train": "train", "val": validation, "names": dict(enumerate(names))}
    if (path / "test").is_dir():
        content["test"] = "test"
    return ResolvedData(str(path), content, digest_of_data(path, path, content, "classify"))


def _resolve_yaml(path: Path, task: str = "detect") -> ResolvedData:
    content = {k: redacted(v) if isinstance(v, str) else v for k, v in read_yaml(path).items()}  # it is written down
    if content.get("names") is None and not isinstance(content.get("nc"), int):
        raise DataError(f"{path}: `names:` is missing. List the names of the classes there, by their number.")
    if task == "pose" and not isinstance(content.get("kpt_shape"), list):
        raise DataError(f"{path}: `kpt_shape:` is missing. Say there how many keypoints an object has, as [17, 3].")
    root = _root(path, content)
    content = {**content, "path": str(root)}
    return ResolvedData(str(path), content, digest_of_data(path, root, content, task))


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
