"""A module's tensors are found where they are now, under the names of its `state_dict`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from hpc_yolo.exact.places import Places


def names_and_tensors(module: nn.Module) -> dict[str, Any]:
    return {f"model/{name}": it.data_ptr() for name, it in module.state_dict().items()}


def found(places: Places) -> dict[str, Any]:
    return {name: it.data_ptr() for name, it in places.tensors().items()}


def test_all_of_a_detector_is_found_in_its_own_order() -> None:
    model = DetectionModel("yolo11n.yaml", verbose=False)

    assert list(found(Places(model, "model/")).items()) == list(names_and_tensors(model).items())


def test_a_tensor_that_was_replaced_is_found_where_it_is_now() -> None:
    model = nn.Linear(2, 2)
    places = Places(model, "model/")

    model.weight = nn.Parameter(torch.ones(2, 2))

    assert found(places) == names_and_tensors(model)


def test_what_is_not_part_of_the_state_is_left_out() -> None:
    model = nn.Module()
    model.register_buffer("anchors", torch.ones(1), persistent=False)
    model.register_buffer("count", torch.ones(1))
    model.register_parameter("bias", None)

    assert list(Places(model, "ema/").tensors()) == ["ema/count"]


def test_a_module_that_writes_its_own_entries_is_asked_each_time() -> None:
    class Packed(nn.Linear):
        def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
            destination[prefix + "packed"] = self.weight if keep_vars else self.weight.detach()

    model = Packed(2, 2)

    assert found(Places(model, "model/")) == names_and_tensors(model)
    assert list(Places(model, "model/").tensors()) == ["model/packed"]


def test_a_module_that_is_used_twice_has_both_of_its_names() -> None:
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, shared)

    assert found(Places(model, "model/")) == names_and_tensors(model)
