"""Owns the bytes of a snapshot: one safetensors file, the plain values as JSON in its header, and checksums of both.

Nothing is pickled: tensors are raw bytes, everything else is JSON, so reading a snapshot runs no code.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hpc_yolo.errors import StorageError
from hpc_yolo.snapshot.reading import METADATA_KEY, DamagedSnapshotError, RawTensor, read_raw
from hpc_yolo.types import Phase

FORMAT = 1


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(kw_only=True, frozen=True, slots=True)
class Position:
    """Where in the run a snapshot stands: `step` optimizer steps are done, `batch` batches of `epoch` (from 0) are done."""

    step: int
    epoch: int
    batch: int
    phase: Phase


@dataclass(kw_only=True, slots=True)
class Snapshot:
    """The full resumable state. `plain` holds numbers, strings, lists and dicts only."""

    position: Position
    config_hash: str
    tensors: dict[str, Tensor] = field(repr=False)
    plain: dict[str, Any] = field(repr=False)


def write(snapshot: Snapshot, path: Path) -> None:
    """Write the whole file, unsynced. All tensors must be on the CPU and contiguous."""
    body = {
        "format": FORMAT,
        "config_hash": snapshot.config_hash,
        "step": snapshot.position.step,
        "epoch": snapshot.position.epoch,
        "batch": snapshot.position.batch,
        "phase": snapshot.position.phase.value,
        "state": snapshot.plain,
        "digests": {name: _checksum(tensor) for name, tensor in snapshot.tensors.items()},
    }
    text = json.dumps(body)
    try:
        save_file(snapshot.tensors, path, metadata={METADATA_KEY: text, "crc32": str(zlib.crc32(text.encode()))})
    except SafetensorError as error:  # how its Rust part tells of a full disk
        raise StorageError(f"cannot write {path}: {error}. Check space and quota, then run it again.") from error


def read(path: Path) -> Snapshot:
    """Read and verify a snapshot; every byte is checked.

    Raises:
        DamagedSnapshotError: with what is wrong.
    """
    raw = read_raw(path)
    body = raw.body
    if body["format"] != FORMAT:
        raise DamagedSnapshotError(f"{path} has format {body['format']}, but this release reads {FORMAT}")
    position = Position(step=body["step"], epoch=body["epoch"], batch=body["batch"], phase=Phase(body["phase"]))
    tensors = {name: _tensor(tensor) for name, tensor in raw.tensors.items()}
    return Snapshot(position=position, config_hash=body["config_hash"], tensors=tensors, plain=body["state"])


def _tensor(raw: RawTensor) -> Tensor:
    dtype = _DTYPES[raw.dtype]
    if not raw.data:
        return torch.empty(raw.shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw.data), dtype=dtype).reshape(raw.shape)


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(memoryview(tensor.reshape(-1).view(torch.uint8).numpy())) if tensor.numel() else 0
