"""Several ranks see each batch once between them, in the places that a lone process would have."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor
from ultralytics.cfg import get_cfg
from ultralytics.data import base
from ultralytics.data.build import build_dataloader, build_yolo_dataset
from ultralytics.data.utils import check_det_dataset

from hpc_yolo.exact.loader import make_exact
from hpc_yolo.exact.order import DataOrder, Slot
from hpc_yolo.exact.place import ALONE, Place
from tests.material import write_scenes


def order(rank: int = 0, world: int = 1, n: int = 22, batch: int = 6) -> DataOrder:
    return DataOrder(n, batch, seed=3, shuffle=True, drop_last=False, streams=2, window=8, place=Place(rank, world))


def places(slots: list[Slot]) -> list[tuple[int, int]]:
    return [(slot.slot, int(slot)) for slot in slots]


@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_shares_of_a_whole_batch_are_the_batch(world: int) -> None:
    alone = places(order().slots(1, 2, 0))

    assert [it for rank in range(world) for it in places(order(rank, world).slots(1, 2, 0))] == alone


@pytest.mark.parametrize("world", [2, 3, 4])
def test_in_the_last_batch_each_has_as_many_and_nothing_is_left_out(world: int) -> None:
    last = order().batches - 1
    alone = places(order().slots(0, last, 0))
    shares = [places(order(rank, world).slots(0, last, 0)) for rank in range(world)]

    assert {len(it) for it in shares} == {-(-len(alone) // world)}
    together = [it for share in shares for it in share]
    assert together[: len(alone)] == alone
    first = order().batch(0, 0)
    assert [index for _, index in together[len(alone) :]] == first[: len(together) - len(alone)]


def test_a_data_set_that_is_smaller_than_the_ranks_is_repeated() -> None:
    shares = [places(order(rank, 4, n=3, batch=8).slots(0, 0, 0)) for rank in range(4)]

    assert [len(it) for it in shares] == [1, 1, 1, 1]
    assert shares[3][0][1] == shares[0][0][1]


@pytest.mark.parametrize("batch", [0, 3])
def test_the_lanes_of_as_many_processes_are_their_own_parts(batch: int) -> None:
    """So an image that a mosaic draws was, or is, its process's own sample."""
    for rank in range(2):
        it = DataOrder(
            22, 6, seed=3, shuffle=True, drop_last=False, streams=1, window=100, lanes=2, place=Place(rank, 2)
        )
        own = {int(slot) for b in range(batch + 1) for slot in it.slots(0, b, 0)}
        slots = it.slots(0, batch, 0)

        assert {it.lane(slot) for slot in slots} == {rank}
        window = it.window(0, batch, rank)
        assert set(window) <= own
        assert len(window) >= 3 * (batch + 1) - 1


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("shares") / "data", train=50, val=2)


def samples(photos: Path, place: Place, lanes: int, batches: int) -> dict[tuple[int, int, int], Tensor]:
    """The pixels of each sample by epoch, batch and slot."""
    cfg = get_cfg(overrides={"task": "detect", "imgsz": 64, "mosaic": 1.0, "copy_paste": 0.0})
    data = check_det_dataset(str(photos))
    size = 6 // place.world
    dataset = build_yolo_dataset(cfg, data["train"], size, data, mode="train")
    loader = build_dataloader(dataset, size, workers=0, shuffle=True, rank=-1)
    order = make_exact(loader, seed=3, streams=2, lanes=lanes, place=place)
    found = {}
    for slots in islice(order, batches):
        found.update({(it.epoch, it.batch, it.slot): dataset[it]["img"] for it in slots})
    return found


def test_another_number_of_processes_sees_the_same_pixels(photos: Path) -> None:
    """Of a run that began with two; its data set is larger than what a mosaic draws from."""
    alone = samples(photos, ALONE, lanes=2, batches=12)
    for world in (2, 3):
        parts = [samples(photos, Place(rank, world), lanes=2, batches=12) for rank in range(world)]
        together = {at: pixels for part in parts for at, pixels in part.items()}

        assert {at: pixels for at, pixels in together.items() if at in alone}.keys() == alone.keys()
        assert [at for at, pixels in alone.items() if not torch.equal(pixels, together[at])] == []


def test_each_process_decodes_its_own_images_only(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    read = base.imread
    monkeypatch.setattr(base, "imread", lambda file, **options: decoded.append(file) or read(file, **options))
    counts = {}
    for lanes in (1, 2):
        decoded.clear()
        made = samples(photos, Place(0, 2), lanes, batches=9)
        counts[lanes] = len(decoded) / len(made)

    assert counts[2] <= 1.0
    assert counts[1] > 1.3  # where a mosaic draws from all ranks' parts
