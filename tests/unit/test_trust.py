"""On a machine of many: to whom a run's folder is open, and what is not loaded since others can write it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.submit.folders import make_folder
from hpc_yolo.submit.freeze import materialise
from hpc_yolo.sweeps import invocation_now, note_invocation
from hpc_yolo.trust import refuse_if_open
from tests.unit.submit.plans import make_plans


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o700), (0o077, 0o700), (0o002, 0o770), (0o007, 0o770)])
def test_others_may_not_look_into_what_is_made(
    umask: Callable[[int], int], tmp_path: Path, mask: int, expected: int
) -> None:
    """And those of the group may where the umask of who makes it lets them write, and so means them."""
    umask(mask)
    (plan,) = make_plans(tmp_path / "lr", 1)
    materialise(plan)
    invocation = note_invocation(tmp_path / "lr", invocation_now((), {}))

    assert mode(plan.run.path) == expected
    assert mode(make_folder(plan.run, "one")) == expected
    assert mode(invocation.parent) == expected


@pytest.mark.parametrize("part", ["run.yaml", "launch.yaml", "."])
def test_nothing_is_loaded_from_a_run_that_everybody_can_write(tmp_path: Path, part: str) -> None:
    (plan,) = make_plans(tmp_path / "lr", 1)
    materialise(plan)
    (plan.run.path / part).chmod(0o777)
    load = load_launch if part == "launch.yaml" else load_run

    with pytest.raises(ConfigError, match=r"can be written by everybody.* chmod -R o-w "):
        load(plan.run.launch_yaml if part == "launch.yaml" else plan.run)  # type: ignore[operator]


def test_a_folder_where_nobody_may_touch_what_others_made_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "like-tmp"
    folder.mkdir()
    folder.chmod(0o1777)

    refuse_if_open(folder, folder / "not there")
