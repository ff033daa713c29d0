"""`fingerprint`: a digest of the tensors alone, of finished runs, from undamaged snapshots."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpc_yolo.cli import main
from hpc_yolo.report.fingerprint import GROUPS, fingerprint
from hpc_yolo.rundir import RunDir
from tests.unit.runs_on_disk import make_done_run, make_run, some_tensors, write_snapshot


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_done_run(tmp_path / "3f2a")


def test_equal_tensors_give_equal_fingerprints(run: RunDir, tmp_path: Path) -> None:
    other = make_done_run(tmp_path / "77d0", time_s=99)

    assert fingerprint(run).sha256 == fingerprint(other).sha256


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_digest_follows_its_own_tensors_alone(run: RunDir, group: str) -> None:
    before = fingerprint(run)
    tensors = some_tensors()
    name = next(name for name in tensors if name.startswith(f"{group}/"))
    write_snapshot(run, {**tensors, name: tensors[name] * 2})
    after = fingerprint(run)

    assert before.sha256 != after.sha256
    assert [g for g in GROUPS if getattr(before, g) != getattr(after, g)] == [group]


@pytest.mark.parametrize("change", ["dtype", "shape", "name"])
def test_the_form_of_a_tensor_counts_too(run: RunDir, change: str) -> None:
    before = fingerprint(run)
    tensors = some_tensors()
    old = tensors.pop("model/0.weight")
    new = {"dtype": old.view(np.int32), "shape": old.reshape(3, 4), "name": old}[change]
    write_snapshot(run, {**tensors, "model/1.weight" if change == "name" else "model/0.weight": new})

    assert fingerprint(run).model != before.model


def test_json_and_text_tell_the_same(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", str(run.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["fingerprint", str(run.path)]) == 0
    text = capsys.readouterr().out

    assert (told["run"], told["step"], told["snapshot"]) == ("3f2a", 100, "step-000000100.a001.safetensors")
    assert all(told[key] in text for key in ("sha256", *GROUPS))


def test_a_run_that_is_not_done_is_refused_unless_any_will_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "3f2a")
    write_snapshot(run)

    assert main(["fingerprint", str(run.path)]) == 65
    assert "is pending, so it has no final fingerprint" in capsys.readouterr().err
    assert main(["fingerprint", str(run.path), "--any"]) == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "emptied", "header"])
def test_a_damaged_snapshot_is_told_of(run: RunDir, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(run.snapshots_dir.iterdir())
    content = bytearray(path.read_bytes())
    if damage == "flipped bit":
        content[-3] ^= 4
    if damage == "header":
        content[:8] = b"\xff" * 8
    keep = {"truncated": len(content) // 2, "emptied": 0}.get(damage, len(content))
    path.write_bytes(content[:keep])

    assert main(["fingerprint", str(run.path)]) == 74
    assert f"snapshot {path} is damaged" in capsys.readouterr().err
