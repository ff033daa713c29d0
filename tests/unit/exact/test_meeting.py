"""Ranks that do not come together are told of by number, host and reason, within a bound."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.errors import GroupError
from hpc_yolo.exact import environment
from hpc_yolo.exact.place import Place
from hpc_yolo.exact.ranks import Alone, Wish, meet
from hpc_yolo.exact.stop import StopTraining
from hpc_yolo.rundir import AttemptDir

VERSIONS = {"torch": "2.15.0"}


def go_on() -> None:
    pass


def leave() -> None:
    raise StopTraining


def test_a_lone_process_waits_for_nobody(tmp_path: Path) -> None:
    ranks = meet(Place(), AttemptDir(tmp_path), "gloo", leave, VERSIONS)

    assert isinstance(ranks, Alone)
    assert ranks.agree(Wish.STOP) is Wish.STOP


def test_ranks_that_never_arrive_are_named(tmp_path: Path) -> None:
    with pytest.raises(GroupError, match=r"of 3 ranks, 1, 2 did not come within 0 s\."):
        meet(Place(0, 3), AttemptDir(tmp_path), "gloo", go_on, VERSIONS, within_s=0.2)


def test_a_folder_that_this_node_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        GroupError, match=r"rendezvous\.json did not appear on .* put runs_dir on storage that all nodes"
    ):
        meet(Place(1, 2), AttemptDir(tmp_path), "gloo", go_on, VERSIONS, within_s=0.2)


@pytest.mark.parametrize("place", [Place(0, 2), Place(1, 2)], ids=["rank 0", "another rank"])
def test_a_warning_ends_the_waiting(tmp_path: Path, place: Place) -> None:
    with pytest.raises(StopTraining):
        meet(place, AttemptDir(tmp_path), "gloo", leave, VERSIONS)


def test_other_packages_on_another_node_are_named(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def come(rank: int, **card: Any) -> None:
        try:
            meet(Place(rank, 2), AttemptDir(tmp_path), "gloo", go_on, card, within_s=30)
        except GroupError as error:
            errors.append(error)

    threads = [threading.Thread(target=come, args=(rank,), kwargs={"torch": f"2.{rank}"}) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(errors) == 2
    assert all("do not have the same: torch 2.0 and 2.1. Install one environment" in str(it) for it in errors)


def test_software_must_be_the_same_and_hardware_need_not() -> None:
    card = environment.card(dict.fromkeys(environment.COMPARED, "x"))

    assert {"torch", "ultralytics", "hpc-yolo's training code", "ranks"} <= card.keys()
    assert not {"GPU", "CPU vendor", "CPU vector instructions"} & card.keys()
