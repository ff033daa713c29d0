"""The copy of a state is what the state was, however often it is taken and whatever has become of its tensors."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpc_yolo.snapshot.buffers import StateBuffer
from hpc_yolo.snapshot.format import Form, Position, Snapshot, write
from hpc_yolo.types import Phase


def some_state() -> dict[str, Tensor]:
    return {
        "model/weight": torch.nn.Parameter(torch.randn(4, 3)),
        "model/count": torch.tensor(7),
        "model/half": torch.randn(5).half(),
        "model/mask": torch.tensor([True, False, True]),
        "model/nothing": torch.empty(0, 3),
        "ema/weight": torch.randn(4, 3),
        "optimizer/0/step": torch.tensor(3.0),
        "model/aslant": torch.randn(3, 4).t(),
    }


def assert_is_copy(copy: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    assert copy.keys() == state.keys()
    for name, it in state.items():
        assert (copy[name].dtype, copy[name].shape) == (it.dtype, it.shape)
        assert torch.equal(copy[name], it), name
        assert copy[name].is_contiguous()
        assert copy[name].data_ptr() != it.data_ptr() or not it.numel()


def test_every_kind_of_tensor_is_copied_as_it_is_each_time() -> None:
    buffer, state = StateBuffer(), some_state()
    for _ in range(3):
        assert_is_copy(buffer.fill(state), state)
        with torch.no_grad():
            for it in state.values():
                if it.is_floating_point():
                    it.add_(1)
        state["model/count"] += 1


def test_a_copy_does_not_follow_the_state() -> None:
    buffer, state = StateBuffer(), some_state()
    before = state["ema/weight"].clone()
    copy = buffer.fill(state)
    state["ema/weight"] += 1

    assert torch.equal(copy["ema/weight"], before)


@pytest.mark.parametrize("name", ["model/weight", "ema/weight", "model/count"])
def test_a_tensor_that_was_replaced_is_noticed(name: str) -> None:
    buffer, state = StateBuffer(), some_state()
    buffer.fill(state)
    state[name] = torch.zeros_like(state[name])

    assert_is_copy(buffer.fill(state), state)


def test_memory_that_was_replaced_under_a_tensor_is_noticed() -> None:
    buffer, state = StateBuffer(), some_state()
    buffer.fill(state)
    state["model/weight"].data = torch.full((4, 3), 9.0)

    assert_is_copy(buffer.fill(state), state)


def test_gradients_come_and_go_and_are_not_held_on_to() -> None:
    buffer, state = StateBuffer(), some_state()
    buffer.fill(state)
    gone = []
    for number in range(3):
        gradient = torch.full((4, 3), float(number))
        gone.append(weakref.ref(gradient))
        with_gradient = {**state, "grad/weight": gradient, "loss/loss": torch.tensor(float(number))}
        assert_is_copy(buffer.fill(with_gradient), with_gradient)
        del gradient, with_gradient
        assert_is_copy(buffer.fill(state), state)

    assert [it() for it in gone] == [None] * 3


def test_a_passing_tensor_of_another_form_has_a_place_of_its_own() -> None:
    buffer, state = StateBuffer(), some_state()
    for loss in (torch.tensor(1.0), torch.tensor([1.0, 2.0]), torch.tensor(3)):
        now = {**state, "loss/loss": loss}
        assert_is_copy(buffer.fill(now), now)


def test_a_state_that_grows_finds_room() -> None:
    buffer, state = StateBuffer(), some_state()
    for number in range(6):
        state[f"optimizer/{number}/momentum_buffer"] = torch.randn(100)
        assert_is_copy(buffer.fill(state), state)


def test_an_empty_state_is_one_too() -> None:
    assert StateBuffer().fill({}) == {}


def test_what_a_file_keeps_from_the_last_one_is_still_so(tmp_path: Path) -> None:
    """Values, a gradient that came and went, a tensor that grew: each file is the one that is made from nothing."""
    buffer, state = StateBuffer(), some_state()
    changes = [
        {},
        {"ema/weight": torch.ones(4, 3)},
        {"grad/weight": torch.ones(4, 3)},
        {"ema/weight": torch.ones(9, 9)},
    ]
    for change in changes:
        state.update(change)
        copies = buffer.fill(state)
        assert bytes_of_file(copies, buffer.form, tmp_path) == bytes_of_file(dict(copies), None, tmp_path)
        state.pop("grad/weight", None)


def test_the_same_tensors_are_described_once(tmp_path: Path) -> None:
    buffer, state = StateBuffer(), some_state()
    buffer.fill(state)
    first = buffer.form
    buffer.fill(state)

    assert buffer.form is first is not None


def bytes_of_file(tensors: dict[str, Tensor], form: Form | None, folder: Path) -> bytes:
    position = Position(step=1, epoch=0, batch=1, phase=Phase.TRAIN)
    write(Snapshot(position=position, config_hash="abc", tensors=tensors, plain={}, form=form), folder / "file")
    return (folder / "file").read_bytes()
