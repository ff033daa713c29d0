"""The order of the data is a function of the position, and a good one."""

from __future__ import annotations

import pickle
from itertools import islice

from hpc_yolo.exact.order import DataOrder, PositionedBatches, Slot


def order(n: int = 23, batch_size: int = 4, **changes: object) -> DataOrder:
    options: dict[str, object] = {"seed": 3, "shuffle": True, "drop_last": False, "streams": 2, "window": 10, **changes}
    return DataOrder(n, batch_size, **options)  # type: ignore[arg-type]


def test_an_epoch_visits_every_image_once_and_epochs_differ() -> None:
    it = order()
    epochs = [[index for b in range(it.batches) for index in it.batch(epoch, b)] for epoch in (0, 1)]

    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(23))
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(23))


def test_another_seed_is_another_order() -> None:
    assert order(seed=3).batch(0, 0) != order(seed=4).batch(0, 0)


def test_without_shuffling_the_file_order_stays() -> None:
    assert order(shuffle=False).batch(5, 1) == [4, 5, 6, 7]


def test_drop_last_leaves_the_short_batch_out() -> None:
    assert order(drop_last=True).batches == 5
    assert order().batches == 6


def test_an_iterator_started_in_the_middle_continues_what_an_earlier_one_would_give() -> None:
    whole = PositionedBatches(order())
    from_middle = PositionedBatches(order())
    from_middle.restart_at(1, 2, 0)

    expected = [[(int(s), s.epoch, s.batch, s.slot) for s in batch] for batch in islice(iter(whole), 8, 20)]
    got = [[(int(s), s.epoch, s.batch, s.slot) for s in batch] for batch in islice(iter(from_middle), 12)]

    assert got == expected


def test_a_window_holds_the_stream_s_recent_images_only_whatever_was_asked_before() -> None:
    it = order(streams=2, window=10)
    window = it.window(1, 3)  # absolute batch 9: its stream has 9, 7, 5, ...

    assert window == (it.batch(1, 3) + it.batch(1, 1) + it.batch(0, 5))[:10]
    assert order(streams=2, window=10).window(1, 3) == window


def test_a_slot_survives_the_way_to_a_spawned_worker() -> None:
    slot = pickle.loads(pickle.dumps(Slot(7, 1, 2, 3, 4)))

    assert (int(slot), slot.epoch, slot.batch, slot.slot, slot.redo) == (7, 1, 2, 3, 4)
