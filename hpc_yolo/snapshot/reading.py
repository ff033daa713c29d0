"""Owns reading snapshots without torch: names, header and raw bytes of a safetensors file; standard library alone."""

from __future__ import annotations

import json
import mmap
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_yolo.errors import StorageError

METADATA_KEY = "hpc_yolo"

#: The file name of a committed snapshot: optimizer steps done, attempt. A staged or quarantined file never matches.
SNAPSHOT_NAME = re.compile(r"^step-(\d{9,})\.a(\d{3,})\.safetensors$")
LENGTH_BYTES = 8  # the file begins with the header's length, little-endian


class DamagedSnapshotError(StorageError):
    """The file is truncated, altered, or no snapshot of ours."""


@dataclass(frozen=True, slots=True)
class RawTensor:
    """One tensor as it lies in the file: dtype in safetensors' spelling (F32, BF16, I64 ...), little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class RawSnapshot:
    """A snapshot's plain values (`body`, the JSON that was saved) and its tensors by name, mapped, not copied."""

    path: Path
    body: dict[str, Any] = field(repr=False)
    tensors: Mapping[str, RawTensor] = field(repr=False)

    @property
    def step(self) -> int:
        return int(self.body["step"])


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A committed snapshot, by its name alone; the natural order is from old to new."""

    step: int
    attempt: int
    path: Path


def entries(folder: Path) -> list[Entry]:
    """Committed snapshots, oldest first. A staged, quarantined or foreign file is none."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    matches = ((name, SNAPSHOT_NAME.match(name)) for name in names)
    return sorted(Entry(int(m[1]), int(m[2]), folder / name) for name, m in matches if m)


def newest_file(folder: Path) -> Path | None:
    """The committed snapshot of the greatest step (of two attempts' at one step, the later's), by name alone."""
    found = entries(folder)
    return found[-1].path if found else None


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The plain state of the newest snapshot, from its header alone, tensors unverified; None where there is none."""
    path = newest_file(folder)
    return None if path is None else state_in(path)


def state_in(path: Path) -> dict[str, Any] | None:
    """The plain state of one snapshot, in the same way; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(LENGTH_BYTES), "little")))
        return dict(_body(header["__metadata__"])["state"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return None


def read_raw(path: Path) -> RawSnapshot:
    """Map a snapshot and check every byte of it against the checksums that were saved with it.

    Raises:
        DamagedSnapshotError: the file is truncated, altered, or no snapshot of ours.
        StorageError: it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        header, data = _split(content)
        metadata = header.pop("__metadata__", {})
        body = _body(metadata)
        tensors = {name: _tensor(name, entry, data) for name, entry in header.items()}
        _verify(body, header, tensors)
    except OSError as error:
        raise StorageError(
            f"cannot read snapshot {path}: {error.strerror}. Check its owner and permissions."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedSnapshotError(
            f"snapshot {path} is damaged ({error}). The next attempt puts it aside and goes on from the one before."
        ) from error
    return RawSnapshot(path, body, tensors)


def layout_checksum(entries: Mapping[str, Any]) -> int:
    """CRC-32 of the tensors' names, types, shapes and places, which no tensor's own checksum covers."""
    return zlib.crc32(json.dumps(entries, sort_keys=True).encode())


def _split(content: memoryview) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    end = LENGTH_BYTES + length
    if length < 2 or end > len(content):
        raise ValueError("its header is cut short")
    header = json.loads(bytes(content[LENGTH_BYTES:end]))
    return dict(header), content[end:]


def _tensor(name: str, entry: dict[str, Any], data: memoryview) -> RawTensor:
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"tensor {name} is cut short")
    return RawTensor(name, entry["dtype"], tuple(entry["shape"]), data[begin:end])


def _body(metadata: dict[str, str]) -> dict[str, Any]:
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ValueError("no hpc_yolo metadata")
    if "crc32" in metadata and metadata["crc32"] != str(zlib.crc32(text.encode())):
        raise ValueError("its metadata has changed since it was saved")
    return dict(json.loads(text))


def _verify(body: dict[str, Any], header: dict[str, Any], tensors: dict[str, RawTensor]) -> None:
    if body.get("layout", layout_checksum(header)) != layout_checksum(header):
        raise ValueError("its list of tensors has changed since it was saved")
    digests = body["digests"]
    if digests.keys() != tensors.keys():
        raise ValueError("its tensors are not those that were saved")
    for name, tensor in tensors.items():
        if zlib.crc32(tensor.data) != digests[name]:
            raise ValueError(f"the bytes of tensor {name} have changed since they were saved")
