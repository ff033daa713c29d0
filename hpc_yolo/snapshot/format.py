"""Owns the bytes of a snapshot: one safetensors file, the plain values as JSON in its header, and checksums of both.

Nothing is pickled: tensors are raw bytes, everything else is JSON, so reading a snapshot runs no code.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpc_yolo.snapshot.reading import (
    LENGTH_BYTES,
    METADATA_KEY,
    DamagedSnapshotError,
    RawTensor,
    layout_checksum,
    read_raw,
)
from hpc_yolo.types import Phase

FORMAT = 1
#: Bytes a call of `write`: between two of them a write that nobody wants any more is given up.
_CHUNK = 16 << 20
_MOST_PARTS = 512  # of one writev; POSIX promises 16, Linux takes 1024
#: Parts that are smaller are joined: a file system that takes each by itself (FUSE) would be asked a thousand times.
_SMALL = 1 << 18

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
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(kw_only=True, frozen=True, slots=True)
class Position:
    """Where in the run a snapshot stands: `step` optimizer steps are done, `batch` batches of `epoch` (from 0) are done."""

    step: int
    epoch: int
    batch: int
    phase: Phase


class Form:
    """What of a file follows from its tensors' names, types, shapes and memory alone: made once, by the first write.

    Of a small network that is most of what a write does under the interpreter's lock, where the training waits for it.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    @cached_property
    def parts(self) -> dict[str, memoryview]:
        """The bytes of each tensor, in the order of the file, which keeps them aligned."""
        ordered = sorted(self._tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
        return {name: _bytes_of(tensor) for name, tensor in ordered}

    @cached_property
    def layout(self) -> int:
        return layout_checksum(self._entries)

    @cached_property
    def entries(self) -> str:
        """The tensors' part of the header, as JSON."""
        return json.dumps(self._entries)

    @cached_property
    def _entries(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        begin = 0
        for name, part in self.parts.items():
            tensor, end = self._tensors[name], begin + part.nbytes
            found[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
            begin = end
        return found


@dataclass(kw_only=True, slots=True)
class Snapshot:
    """The full resumable state. `plain` holds numbers, strings, lists and dicts only."""

    position: Position
    config_hash: str
    tensors: dict[str, Tensor] = field(repr=False)
    plain: dict[str, Any] = field(repr=False)
    form: Form | None = field(default=None, repr=False, compare=False)
    """Of these very tensors, where it was made before."""


class AbandonedError(Exception):
    """The write was given up half-way, because a newer state waits to be written."""


def write(snapshot: Snapshot, path: Path, is_wanted: Callable[[], bool] = lambda: True) -> int:
    """Write the whole file and sync it; returns its bytes. All tensors must be on the CPU and contiguous.

    It is written here and not by the safetensors package, because checksums and writes of ours leave the interpreter to
    the training meanwhile; tests read it back with that package.

    Args:
        is_wanted: asked between two chunks.

    Raises:
        AbandonedError: it is not wanted any more; the file is incomplete.
        OSError
    """
    form = snapshot.form or Form(snapshot.tensors)
    whole = [_header(snapshot, form), *form.parts.values()]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write_all(fd, whole, is_wanted)
        os.fsync(fd)
    finally:
        os.close(fd)
    return sum(part.nbytes for part in whole)


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


def _header(snapshot: Snapshot, form: Form) -> memoryview:
    body = {
        "format": FORMAT,
        "config_hash": snapshot.config_hash,
        "step": snapshot.position.step,
        "epoch": snapshot.position.epoch,
        "batch": snapshot.position.batch,
        "phase": snapshot.position.phase.value,
        "state": snapshot.plain,
        "digests": {name: zlib.crc32(part) for name, part in form.parts.items()},
        "layout": form.layout,
    }
    text = json.dumps(body)
    metadata = {METADATA_KEY: text, "crc32": str(zlib.crc32(text.encode()))}
    more = f", {form.entries[1:]}" if form.parts else "}"
    encoded = f'{{"__metadata__": {json.dumps(metadata)}{more}'.encode()
    encoded += b" " * (-len(encoded) % 8)
    return memoryview(len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded)


def _bytes_of(tensor: Tensor) -> memoryview:
    if not tensor.numel():
        return memoryview(b"")
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _write_all(fd: int, parts: list[memoryview], is_wanted: Callable[[], bool]) -> None:
    batch: list[memoryview] = []
    for part in _joined(parts):
        for begin in range(0, part.nbytes, _CHUNK):
            batch.append(part[begin : begin + _CHUNK])
            if len(batch) == _MOST_PARTS or len(batch[-1]) == _CHUNK:
                _write_batch(fd, batch, is_wanted)
                batch = []
    _write_batch(fd, batch, is_wanted)


def _joined(parts: list[memoryview]) -> Iterator[memoryview]:
    """The same bytes in larger parts."""
    small: list[memoryview] = []
    size = 0
    for part in parts:
        if (size and size + part.nbytes > _CHUNK) or part.nbytes >= _SMALL:
            yield memoryview(b"".join(small))
            small, size = [], 0
        if part.nbytes >= _SMALL:
            yield part
        else:
            small.append(part)
            size += part.nbytes
    yield memoryview(b"".join(small))


def _write_batch(fd: int, batch: list[memoryview], is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise AbandonedError
    batch = [part for part in batch if part.nbytes]
    while batch:
        written = os.writev(fd, batch)
        _begin_writing_back(fd)
        while batch and written >= len(batch[0]):
            written -= len(batch.pop(0))
        if written:
            batch[0] = batch[0][written:]


def _begin_writing_back(fd: int) -> None:
    """Have the kernel bring what is written to the disk now, while the rest is copied.

    That is what Linux does when it is told that the pages are not needed (posix_fadvise(2), of the whole file: by ranges it
    was slower here); and they are not: the page cache is for images.
    """
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
