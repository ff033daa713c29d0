"""A damaged file is loaded equal or refused with a message: never half, never with a crash of another kind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpc_yolo.errors import StorageError
from hpc_yolo.snapshot import format as file_format
from hpc_yolo.snapshot import lustre
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.store import SnapshotStore
from tests.unit.snapshot.test_store import snapshot
from tests.unit.stub_commands import Stubs, make_stubs


def is_equal(a: Snapshot, b: Snapshot) -> bool:
    same_rest = (a.position, a.config_hash, a.plain) == (b.position, b.config_hash, b.plain)
    return same_rest and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors | b.tensors)


def outcome_of(file: Path, saved: Snapshot) -> str:
    try:
        return "equal" if is_equal(saved, file_format.read(file)) else "half loaded"
    except StorageError as error:
        return f"refused: {file if str(file) in str(error) else error}"


@pytest.mark.parametrize("seed", range(40))
def test_bytes_flipped_cut_and_added_anywhere(tmp_path: Path, seed: int) -> None:
    """Twenty damages a seed."""
    chance, saved, file = random.Random(seed), snapshot(seed), tmp_path / "file"
    file_format.write(saved, file)
    whole, outcomes = file.read_bytes(), []
    for _ in range(20):
        damaged = bytearray(whole)
        at = chance.choice([chance.randrange(16), chance.randrange(len(whole))])
        match chance.randrange(4):
            case 0:
                damaged[at] ^= 1 << chance.randrange(8)
            case 1:
                del damaged[at:]
            case 2:
                damaged[at:at] = chance.randbytes(chance.randrange(1, 9))
            case _:
                damaged[at : at + 8] = bytes(8)
        file.write_bytes(damaged)
        outcomes.append(outcome_of(file, saved))

    assert set(outcomes) <= {"equal", f"refused: {file}"}
    file.write_bytes(whole)
    assert is_equal(saved, file_format.read(file))


def test_the_safetensors_package_reads_what_we_write(tmp_path: Path) -> None:
    saved = snapshot(3)
    file_format.write(saved, tmp_path / "file.safetensors")
    loaded = load_file(tmp_path / "file.safetensors")

    assert loaded.keys() == saved.tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.tensors.items())


def test_a_snapshot_of_another_configuration_is_put_aside(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).commit(snapshot(4), attempt=1)
    told: list[str] = []
    mine = SnapshotStore(tmp_path, config_hash="another")

    assert mine.newest(on_quarantine=lambda _path, why: told.append(why)) is None
    assert told == ["it was saved by another configuration"]
    assert mine.quarantined() == ["step-000000004.a001.safetensors.bad"]


def test_a_snapshot_of_a_later_format_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SnapshotStore(tmp_path)
    store.commit(snapshot(4), attempt=1)
    with monkeypatch.context() as later:
        later.setattr(file_format, "FORMAT", 99)
        store.commit(snapshot(5), attempt=1)
    found = store.newest()

    assert found is not None
    assert found[1].position.step == 4
    assert store.quarantined() == ["step-000000005.a001.safetensors.bad"]


def test_the_best_and_the_series_stay(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, keep=2)
    for step in range(1, 7):
        store.commit(snapshot(step), attempt=1, kept={2})

    assert [entry.step for entry in store.entries()] == [2, 5, 6]


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    return make_stubs(tmp_path / "bin", monkeypatch)


def test_on_lustre_a_big_file_is_striped(stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Lustre here: the file system's answer and `lfs` are stand-ins."""
    monkeypatch.setattr(lustre, "file_system_magic", lambda _folder: 0x0BD00BD0)
    monkeypatch.setattr(lustre, "STRIPE_ABOVE", 10)
    stubs.add("lfs", 'touch "$4"')
    store = SnapshotStore(tmp_path / "snapshots")

    assert store.commit(snapshot(1), attempt=1) is not None
    assert stubs.calls() == [
        f"lfs setstripe --stripe-count 4 {tmp_path}/snapshots/.staged.a001/step-000000001.a001.safetensors"
    ]
    monkeypatch.setattr(lustre, "STRIPE_ABOVE", 1 << 30)
    assert store.commit(snapshot(2), attempt=1) is not None
    assert len(stubs.calls()) == 1


def test_elsewhere_lfs_is_not_asked(stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lustre, "STRIPE_ABOVE", 10)
    stubs.add("lfs", "exit 0")

    assert SnapshotStore(tmp_path / "snapshots").commit(snapshot(1), attempt=1) is not None
    assert stubs.calls() == []
    assert lustre.file_system_magic(tmp_path) != 0
