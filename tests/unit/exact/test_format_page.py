"""The page of the snapshot format tells of every field that a real snapshot has, and its example reads one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.reading import METADATA_KEY, newest_file
from tests.lab import Lab, stop_at

PAGE = (Path(__file__).parents[3] / "docs" / "snapshot-format.md").read_text(encoding="utf-8")
TOLD = set(re.findall(r"`(\w+)`", PAGE))


@pytest.fixture(scope="module")
def snapshot(lab: Lab) -> Path:
    assert lab.attempt("saved", stop_at(2, 1)) == "stopped"  # gradients are pending
    found = newest_file(RunDir(lab.root / "saved").snapshots_dir)
    assert found is not None
    return found


def test_every_field_is_told(snapshot: Path) -> None:
    with safe_open(snapshot, "pt") as file:
        metadata = file.metadata()
    body = json.loads(metadata[METADATA_KEY])

    assert {*metadata, *body, *body["state"]} - TOLD == set()


def test_every_kind_of_tensor_is_told(snapshot: Path) -> None:
    told = {name.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ").rstrip("/") for name in re.findall(r"`((?:\w+/)+\w+)`", PAGE)}
    with safe_open(snapshot, "pt") as file:
        names = list(file.keys())
    kinds = {
        re.sub(r"^(optimizer)/\d+/.*|^(loss/(?:items|mean))/.*|^(model|ema|grad)/.*", r"\1\2\3", it) for it in names
    }

    assert kinds == {"model", "ema", "optimizer", "grad", "loss/loss", "loss/items", "loss/mean"}
    assert kinds - {it.removesuffix("/INDEX") for it in told} == set()


def test_the_example_reads_it(snapshot: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, dict[str, object]] = {}

    exec(re.sub(r'"runs/[^"]+"', repr(str(snapshot)), code), names)  # noqa: S102

    assert names["weights"]
    assert all(name.startswith("ema/") for name in names["weights"])
