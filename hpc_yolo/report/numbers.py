"""Owns how far two tensors' bytes are apart, in numbers. Imports numpy only when it must: when they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_FORMATS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1", "BF16": "<u2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Distance:
    """How two tensors of one type and shape differ. `max_abs` is None where the difference is no number (NaN)."""

    a: str
    b: str
    """Both at the first element that differs."""
    max_abs: float | None
    differing: int
    elements: int


def distance(dtype: str, a: memoryview, b: memoryview) -> Distance | None:
    """Compare bit by bit, then measure; None for a dtype that has no numbers here (8-bit floats)."""
    if dtype not in _FORMATS:
        return None
    import numpy as np

    raw = np.frombuffer(a, _FORMATS[dtype]), np.frombuffer(b, _FORMATS[dtype])
    bits = f"u{raw[0].itemsize}"
    where = np.flatnonzero(raw[0].view(bits) != raw[1].view(bits))
    if not len(where):
        return None
    left, right = (_as_numbers(dtype, values[where]) for values in raw)
    with np.errstate(all="ignore"):
        largest = float(np.max(np.abs(left - right)))
    return Distance(
        a=repr(left[0].item()),
        b=repr(right[0].item()),
        max_abs=largest if np.isfinite(largest) else None,
        differing=len(where),
        elements=len(raw[0]),
    )


def _as_numbers(dtype: str, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    if dtype == "BF16":  # the upper half of a float32
        return (raw.astype("<u4") << 16).view("<f4").astype("f8")
    return raw if np.issubdtype(raw.dtype, np.int64) else raw.astype("f8")
