"""Owns what the bits depend on outside the config: pinned where that is possible, recorded, and compared on a resume.

`pin` runs before torch is imported, because libraries read their variables once.
"""

from __future__ import annotations

import gc
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from hpc_yolo.processes import node_name
from hpc_yolo.snapshot.reading import newest_state  # light: looks at headers only

_PACKAGE = Path(__file__).parents[1]
#: Packages whose version can change a bit of the result.
_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python", "pillow", "albumentations")

#: What is compared on a resume, with the words for the user. The rest of the record is for people.
COMPARED = {
    "device": "device",
    "gpu": "GPU",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "cpu_vendor": "CPU vendor",
    "cpu_capability": "CPU vector instructions",
    "cpu_threads": "CPU threads",
    "ranks": "ranks",
    "python": "Python",
    "code": "hpc-yolo's training code",
    **{name: name for name in _PACKAGES},
}

_LEVELS = ("default", "avx2", "avx512")
_ONEDNN = {"default": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE"}


def cpu_capability(flags: set[str]) -> str:
    """The highest level of vector instructions that torch has kernels for, from /proc/cpuinfo's flags."""
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"} <= flags:
        return "avx512"
    return "avx2" if {"avx2", "fma"} <= flags else "default"


def pin(cpu_threads: int, capability: str | None = None) -> str:
    """Pin threads and CPU kernels for this process and its children; returns the capability in force.

    Args:
        capability: that of the snapshot gone on from. Where this CPU has more, it is held back to it; where it has less,
            its own is returned, and the comparison will tell.
    """
    own = cpu_capability(_cpu()[1])
    level = own if capability is None else min(own, capability, key=_LEVELS.index)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(cpu_threads)
    os.environ["ATEN_CPU_CAPABILITY"] = level
    os.environ["ONEDNN_MAX_CPU_ISA"] = _ONEDNN[level]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return level


def pin_as_saved(cpu_threads: int, snapshots: Path) -> str:
    """As `pin`, to what the newest snapshot of that folder was saved with."""
    before = newest_state(snapshots)
    return pin(cpu_threads, None if before is None else before["environment"]["cpu_capability"])


def record(device: Any, cpu_threads: int, capability: str, ranks: int = 1) -> dict[str, Any]:
    """What this attempt runs on, as plain values. `device` is a torch.device."""
    import torch

    vendor, _, model = _cpu()
    is_cuda = device.type == "cuda"
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if is_cuda else None,
        "cuda": torch.version.cuda if is_cuda else None,
        "cudnn": torch.backends.cudnn.version() if is_cuda else None,
        "cpu_vendor": vendor,
        "cpu_capability": capability,
        "cpu_threads": cpu_threads,
        "ranks": ranks,
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: _version(name) for name in _PACKAGES},
        "ultralytics": _upstream_version(),
        "code": digest_of_code(_PACKAGE / "exact", _PACKAGE / "snapshot"),
        "node": node_name(),
        "cpu": model,
        "kernel": platform.release(),
        "hpc-yolo": _version("hpc-yolo"),
    }


def card(record: dict[str, Any]) -> dict[str, str]:
    """What processes that train together must have in common: software. Of other hardware only the bits depend."""
    return {COMPARED[name]: str(record[name]) for name in ("ranks", "python", "code", *_PACKAGES)}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What can change bits between two records, as `what: before -> now`. An earlier release may have recorded less."""
    return [
        f"{words}: {before.get(name)} -> {now.get(name)}"
        for name, words in COMPARED.items()
        if name in before and before[name] != now.get(name)
    ]


def digest_of_code(*folders: Path) -> str:
    """Of the Python files in these folders: their names and contents."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _upstream_version() -> str:
    """Of the ultralytics that is imported. A checkout keeps its version whatever is edited in it, so its code counts."""
    import ultralytics

    imported = Path(ultralytics.__file__).parent
    try:
        installed = Path(str(metadata.distribution("ultralytics").locate_file("ultralytics")))
    except metadata.PackageNotFoundError:
        installed = None
    if installed is not None and installed.is_dir() and installed.samefile(imported):
        return str(_version("ultralytics"))
    return f"{ultralytics.__version__} (a checkout, code {digest_of_code(imported)})"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> tuple[str, set[str], str]:
    """Vendor, flags and model name of the first CPU."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine(), set(), platform.processor()
    for line in text.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return fields.get("vendor_id", platform.machine()), flags, fields.get("model name", "")


def load_only_what_is_known(*, trust_weights: bool) -> None:
    """Before ultralytics is imported: of a .pt it shall make tensors and its own classes, and nothing that the file asks for.

    It needs torch 2.6, which is our oldest.
    """
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "false" if trust_weights else "true"


@contextmanager
def imports_for_good() -> Iterator[None]:
    """What is imported here stays: searching it for garbage, again and again, takes a tenth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
