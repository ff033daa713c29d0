"""The snapshots folder: what is committed, kept, put aside and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hpc_yolo.errors import SupersededError
from hpc_yolo.snapshot import format as file_format
from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.snapshot.reading import newest_state, read_raw
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.staging import Stage, take_over
from hpc_yolo.types import Phase


def snapshot(step: int) -> Snapshot:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model/weight": torch.randn(3, 4, generator=generator),
        "model/count": torch.tensor(step),
        "model/half": torch.randn(5, generator=generator).half(),
        "model/empty": torch.empty(0, 2),
    }
    plain = {"best_fitness": 0.1 + 0.2, "patience": float("inf"), "lr": [1e-3, None], "names": {"0": "a"}}
    position = Position(step=step, epoch=1, batch=2, phase=Phase.TRAIN)
    return Snapshot(position=position, config_hash="abc", tensors=tensors, plain=plain)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots", keep=3)


@pytest.fixture
def two_snapshots(store: SnapshotStore) -> tuple[Path, Path]:
    older, newer = store.commit(snapshot(10), attempt=1), store.commit(snapshot(20), attempt=1)
    assert older is not None
    assert newer is not None
    return older, newer


def newest_path(store: SnapshotStore) -> Path | None:
    found = store.newest()
    return found[0] if found else None


def test_what_is_read_is_what_was_committed_to_the_bit(store: SnapshotStore) -> None:
    saved = snapshot(7)
    store.commit(saved, attempt=2)

    found = store.newest()

    assert found is not None
    path, loaded = found
    assert path.name == "step-000000007.a002.safetensors"
    assert loaded.position == saved.position
    assert loaded.plain == saved.plain
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_an_empty_folder_has_no_snapshot(store: SnapshotStore) -> None:
    assert store.newest() is None
    assert newest_state(store.folder) is None


def test_resume_falls_back_when_the_newest_snapshot_is_truncated(
    store: SnapshotStore, two_snapshots: tuple[Path, Path]
) -> None:
    older, newer = two_snapshots
    newer.write_bytes(newer.read_bytes()[:-10])

    assert newest_path(store) == older
    assert store.quarantined() == [newer.name + ".bad"]


@pytest.mark.parametrize("offset", [-1, -40, 9, 60])
def test_one_flipped_bit_anywhere_is_noticed(
    store: SnapshotStore, two_snapshots: tuple[Path, Path], offset: int
) -> None:
    older, newer = two_snapshots
    content = bytearray(newer.read_bytes())
    content[offset] ^= 1
    newer.write_bytes(content)
    told: list[tuple[Path, str]] = []

    found = store.newest(on_quarantine=lambda path, why: told.append((path, why)))

    assert found is not None
    assert found[0] == older
    assert [path.name for path, _ in told] == [newer.name + ".bad"]


def test_a_half_written_file_is_no_snapshot_and_is_removed_by_the_next_attempt(store: SnapshotStore) -> None:
    store.commit(snapshot(1), attempt=1)
    staged = store.folder / ".staged.a001" / "step-000000002.a001.safetensors"
    file_format.write(snapshot(2), staged)

    assert [entry.step for entry in store.entries()] == [1]
    take_over(store.folder, attempt=2)
    assert not staged.parent.exists()


def test_only_the_last_three_are_kept(store: SnapshotStore) -> None:
    for step in (5, 1, 9, 7, 3):
        store.commit(snapshot(step), attempt=1)

    assert [entry.step for entry in store.entries()] == [5, 7, 9]


def test_of_one_step_the_later_attempt_is_the_newer(store: SnapshotStore) -> None:
    store.commit(snapshot(4), attempt=2)
    store.commit(snapshot(4), attempt=1)

    newest = newest_path(store)
    assert newest is not None
    assert newest.name == "step-000000004.a002.safetensors"


def test_a_superseded_attempt_publishes_nothing(store: SnapshotStore) -> None:
    with pytest.raises(SupersededError):
        store.commit(snapshot(4), attempt=1, stage=Stage(store.folder, 1, is_newest=lambda: False))
    assert not store.folder.exists()


def test_the_light_reader_sees_the_same_state(store: SnapshotStore) -> None:
    path = store.commit(snapshot(4), attempt=1)
    assert path is not None

    assert newest_state(store.folder) == snapshot(4).plain
    assert bytes(read_raw(path).tensors["model/weight"].data) == snapshot(4).tensors["model/weight"].numpy().tobytes()
