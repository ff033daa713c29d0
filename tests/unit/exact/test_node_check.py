"""A node is looked at before it trains: what is wrong with it alone sends the run elsewhere. No GPU is needed for that."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hpc_yolo.errors import DataError, NodeError
from hpc_yolo.events import Kind
from hpc_yolo.exact.data_here import check_data_here
from hpc_yolo.exact.node_check import check_gpu, check_memory, check_product, check_state, remarks
from hpc_yolo.processes import node_name
from tests.unit.runs_on_disk import begin, make_run, write_snapshot
from tests.unit.stub_commands import Stubs


def test_a_healthy_processor_computes_what_it_must() -> None:
    check_product(torch.device("cpu"))
    check_gpu("cpu")


def test_one_wrong_number_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a multiplier with a stuck bit would: all products in float32 are off in one place."""
    real = torch.Tensor.__matmul__

    def wrong(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        found = real(left, right)
        if found.dtype is torch.float32:
            found[3, 5] += 1
        return found

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    with pytest.raises(NodeError, match=f"cpu of {node_name()} computes wrong"):
        check_product(torch.device("cpu"))


def test_a_gpu_that_another_process_holds() -> None:
    check_memory(1 << 30, 80 << 30)
    with pytest.raises(NodeError, match="only 100 of 81920 MiB"):
        check_memory(100 << 20, 80 << 30)


@pytest.mark.parametrize(
    ("said", "sick"),
    [("No, No", ""), ("[N/A], [N/A]", ""), ("Yes, No", "retired_pages.pending"), ("No, Yes", "remapped_rows.failure")],
)
def test_a_gpu_that_waits_for_its_reset(stubs: Stubs, said: str, sick: str) -> None:
    stubs.add("nvidia-smi", f'echo "{said}"')
    if sick:
        with pytest.raises(NodeError, match=f"must be reset before it is used again: {sick} is Yes"):
            check_state("GPU-1")
    else:
        check_state("GPU-1")
    assert stubs.calls()[0].startswith("nvidia-smi --id=GPU-1 --query-gpu=retired_pages.pending,remapped_rows.failure")


def test_without_nvidia_smi_nothing_is_known(stubs: Stubs) -> None:
    check_state("1")

    assert stubs.calls() == []


def frozen(root: Path) -> Any:
    return SimpleNamespace(data={"path": str(root)})


def test_data_that_another_node_had_are_missing_here_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "3f2a")
    begin(run).start(host="node7").tell(Kind.TRAINING_STARTED, step=1)
    now = begin(run, 2).start(resumed_at=None)

    with pytest.raises(NodeError, match=f"node7 had it, so it may be missing on {node_name()} only"):
        check_data_here(run, now.dir, frozen(tmp_path / "gone"))


@pytest.mark.parametrize("has_trained_here", [True, False])
def test_data_that_no_other_node_had_are_the_runs_own_trouble(tmp_path: Path, has_trained_here: bool) -> None:
    run = make_run(tmp_path / "3f2a")
    earlier = begin(run).start(host=node_name() if has_trained_here else "node7")
    if has_trained_here:
        earlier.tell(Kind.TRAINING_STARTED, step=1)
    now = begin(run, 2).start(resumed_at=None)

    with pytest.raises(DataError):
        check_data_here(run, now.dir, frozen(tmp_path / "gone"))


def test_what_harms_nobody_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "3f2a")
    write_snapshot(run)
    earlier = begin(run).at(time.time() + 7200).start()
    now = begin(run, 2).start()

    (told,) = remarks(run, now.dir, time.time())

    assert told.startswith(f"the clock of {node_name()} is 2.0 hours behind")
    assert remarks(run, earlier.dir, time.time()) == []
