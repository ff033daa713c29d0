"""Owns the comparison of two runs: every tensor, value, table row and weight file, bit by bit."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.report.fingerprint import newest_snapshot
from hpc_yolo.report.history import read_history
from hpc_yolo.report.numbers import distance
from hpc_yolo.report.status import status_of
from hpc_yolo.report.tables import counted, render, short
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.reading import RawSnapshot, RawTensor
from hpc_yolo.types import RunState

#: Values of a snapshot that follow the clock or the machine, not the training. `results_csv` is compared as a table.
_NOT_COMPARED = frozenset({"seconds", "environment", "results_csv"})
_POSITION = ("step", "epoch", "batch", "phase")
#: The storages in a file of torch.save: `<any name>/data/<number>`, raw and in the order of saving.
_STORAGE = re.compile(r"^[^/]+/data/(\d+)$")
_ABSENT = "(absent)"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same. Of tensors, `a` and `b` are the first elements that differ."""

    what: str
    a: str
    b: str
    max_abs: float | None = None
    differing: int | None = None
    elements: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, and of each kind of thing how many were looked at."""

    checked: dict[str, int]
    differences: tuple[Difference, ...]

    @property
    def is_equal(self) -> bool:
        return not self.differences


def compare(a: RunDir, b: RunDir) -> Comparison:
    """Compare the newest snapshots, results.csv without its times, best.pt and last.pt.

    Raises:
        NotThereYetError: a run has no snapshot.
        StorageError: a snapshot is damaged.
    """
    left, right = newest_snapshot(a), newest_snapshot(b)
    values = values_of(left.body), values_of(right.body)
    rows = read_results(a.results_csv), read_results(b.results_csv)
    checked = {
        "tensor": _union(left.tensors, right.tensors),
        "value": _union(*values),
        "results.csv cell": _union(*rows),
    }
    differences = [*_of_values(*values), *_of_tensors(left, right), *_of_values(*rows)]
    for name in ("best.pt", "last.pt"):
        storages = read_storages(a.weights_dir / name), read_storages(b.weights_dir / name)
        checked[f"{name} storage"] = _union(*storages)
        differences.extend(_of_storages(name, *storages))
    return Comparison(checked, tuple(differences))


def values_of(body: dict[str, Any]) -> dict[str, str]:
    """The plain values of a snapshot that decide the training, flat: dotted name -> JSON text (NaN equals NaN)."""
    state = {k: v for k, v in body["state"].items() if k not in _NOT_COMPARED}
    return dict(_leaves("", {**{k: body[k] for k in _POSITION}, **state}))


def read_results(path: Path) -> dict[str, str]:
    """The cells of results.csv: `results.csv row 3 train/box_loss` -> text. Without the column `time`; {} if absent."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    header = lines[0] if lines else []
    return {
        f"results.csv row {number} {column}": cell
        for number, line in enumerate(lines[1:], start=1)
        for column, cell in zip(header, line, strict=False)
        if column != "time"
    }


def read_storages(path: Path) -> dict[str, bytes]:
    """The raw storages of a .pt by their number, unpickled nothing: dates and paths in the pickle do not count.

    A file that is cut short gives one entry that says so, which no good file has.
    """
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            found = {int(m[1]): m[0] for m in map(_STORAGE.match, archive.namelist()) if m}
            return {str(number): archive.read(found[number]) for number in sorted(found)}
    except (zipfile.BadZipFile, EOFError) as error:
        return {f"unreadable: {error}": str(path).encode()}


def remarks(a: RunDir, b: RunDir) -> Iterator[str]:
    """What to know beside the verdict: it says less than it seems."""
    if a.path.resolve() == b.path.resolve():
        yield "both are the same run directory, so this compares a run with itself."
    for run in (a, b):
        status = status_of(read_history(run))
        if status.state is not RunState.DONE:
            yield f"{run.path} is {status.state.value}, so its newest snapshot is compared, not its end."


def as_json(result: Comparison) -> str:
    differences = [asdict(difference) for difference in result.differences]
    return json.dumps({"equal": result.is_equal, "checked": result.checked, "differences": differences}, indent=2)


def as_text(result: Comparison) -> str:
    """What was looked at or what differs first; the last line is `bit-identical: yes` or `bit-identical: no`."""
    verdict = f"bit-identical: {'yes' if result.is_equal else 'no'}"
    if result.is_equal:
        looked_at = ", ".join(counted(number, what) for what, number in result.checked.items() if number)
        return f"equal: {looked_at}\n{verdict}"
    table = render(("WHAT", "A", "B", "MAX ABS DIFF", "ELEMENTS"), [_cells(d) for d in result.differences[:_SHOWN]])
    rest = len(result.differences) - _SHOWN
    more = [f"... and {counted(rest, 'more difference')}"] if rest > 0 else []
    return "\n".join([table, *more, verdict])


def _cells(difference: Difference) -> list[str]:
    share = "" if difference.differing is None else f"{difference.differing} of {difference.elements}"
    return [difference.what, difference.a, difference.b, short(difference.max_abs), share]


def _of_tensors(left: RawSnapshot, right: RawSnapshot) -> Iterator[Difference]:
    for name in sorted(left.tensors.keys() | right.tensors.keys()):
        a, b = left.tensors.get(name), right.tensors.get(name)
        if a is None or b is None or (a.dtype, a.shape) != (b.dtype, b.shape):
            yield Difference(name, _form(a), _form(b))
        elif bytes(a.data) != bytes(b.data):
            yield _of_bytes(name, a.dtype, a.data, b.data)


def _of_storages(name: str, left: dict[str, bytes], right: dict[str, bytes]) -> Iterator[Difference]:
    """A storage does not tell its type, so its elements are bytes here."""
    for key in [*left, *(key for key in right if key not in left)]:
        a, b = left.get(key), right.get(key)
        if a is None or b is None or len(a) != len(b):
            yield Difference(f"{name} storage {key}", _size(a), _size(b))
        elif a != b:
            apart = distance("U8", memoryview(a), memoryview(b))
            number = apart.differing if apart else None
            yield Difference(f"{name} storage {key}", "(bytes)", "(bytes)", None, number, len(a))


def _of_bytes(name: str, dtype: str, a: memoryview, b: memoryview) -> Difference:
    apart = distance(dtype, a, b)
    if apart is None:
        return Difference(name, "(bytes)", "(bytes)")
    return Difference(name, apart.a, apart.b, apart.max_abs, apart.differing, apart.elements)


def _of_values(left: dict[str, str], right: dict[str, str]) -> Iterator[Difference]:
    for name in [*left, *(name for name in right if name not in left)]:
        a, b = left.get(name), right.get(name)
        if a != b:
            yield Difference(name, _ABSENT if a is None else a, _ABSENT if b is None else b, _apart(a, b))


def _apart(a: str | None, b: str | None) -> float | None:
    try:
        return abs(float(a or "") - float(b or ""))
    except ValueError:
        return None


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Empty containers are leaves too: they differ from absent ones."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, inner in items for leaf in _leaves(f"{prefix}.{key}" if prefix else str(key), inner)]
    yield from found or [(prefix, json.dumps(value))]


def _form(tensor: RawTensor | None) -> str:
    return _ABSENT if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"


def _size(storage: bytes | None) -> str:
    return _ABSENT if storage is None else f"{len(storage)} bytes"


def _union(left: Mapping[str, object], right: Mapping[str, object]) -> int:
    return len(left.keys() | right.keys())
