"""The comparison is worth something: leave one piece of the state out, and it is noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hpc_yolo.exact import trainer as exact_trainer
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.store import SnapshotStore
from tests.lab import Lab, Plateau, StopWhen, stop_at
from tests.material import write_architecture

Change = Callable[[Snapshot], None]


def tamper(lab: Lab, name: str, change: Change) -> None:
    """Change the newest snapshot of a stopped run, checksums and all."""
    snapshot = lab.newest(name)
    change(snapshot)
    SnapshotStore(RunDir(lab.root / name).snapshots_dir).commit(snapshot, attempt=1)


def set_plain(**values: Any) -> Change:
    return lambda snapshot: snapshot.plain.update(values)


def drop(prefix: str) -> Change:
    def change(snapshot: Snapshot) -> None:
        dropped = [name for name in snapshot.tensors if name.startswith(prefix)]
        assert dropped, f"no {prefix} in the state: this control controls nothing"
        for name in dropped:
            del snapshot.tensors[name]

    return change


def nudge(prefix: str) -> Change:
    def change(snapshot: Snapshot) -> None:
        name = next(n for n, t in snapshot.tensors.items() if n.startswith(prefix) and t.dtype == torch.float32)
        snapshot.tensors[name].view(-1)[0] += 1e-3

    return change


CONTROLS: dict[str, tuple[Change, StopWhen]] = {
    "one weight": (nudge("model/"), stop_at(1, 2)),
    "one EMA weight": (nudge("ema/"), stop_at(1, 2)),
    "the EMA counter": (set_plain(ema_updates=0), stop_at(1, 2)),
    "the momentum": (drop("optimizer/"), stop_at(1, 2)),
    "pending gradients": (drop("grad/"), stop_at(2, 1)),
    "the last optimizer step": (set_plain(last_opt_step=-1), stop_at(2, 0)),
    "the running loss": (nudge("loss/mean/"), stop_at(1, 2)),
    "rows of results.csv": (set_plain(results_csv=None), stop_at(1, 2)),
    "the best fitness": (set_plain(best_fitness=2.0), stop_at(1, 2)),
}


@pytest.mark.parametrize("left_out", CONTROLS)
def test_what_is_left_out_of_the_state_is_noticed(lab: Lab, left_out: str) -> None:
    change, moment = CONTROLS[left_out]
    name = "without-" + left_out.replace(" ", "-")
    assert lab.attempt(name, moment) == "stopped"
    tamper(lab, name, change)
    assert lab.attempt(name) == "done"
    assert lab.differences("undisturbed", name) != []


def test_the_stopper_is_part_of_the_state(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "trainer_class", Plateau)
    options = {"patience": 2, "epochs": 6}
    assert lab.attempt("plateau", **options) == "done"
    assert lab.newest("plateau").position.epoch == 2  # it stopped early: this control controls something
    for name in ("plateau-resumed", "plateau-forgotten"):
        assert lab.attempt(name, stop_at(1, 2), **options) == "stopped"
    tamper(lab, "plateau-forgotten", lambda it: it.plain["stopper"].update(best_fitness=0.0, best_epoch=0))
    for name in ("plateau-resumed", "plateau-forgotten"):
        assert lab.attempt(name, **options) == "done"

    assert lab.differences("plateau", "plateau-resumed") == []
    assert lab.newest("plateau-forgotten").position.epoch != 2


def test_the_criterion_s_counters_are_part_of_the_state(lab: Lab) -> None:
    """An end-to-end head (YOLO26) shifts the weights of its two losses with every epoch."""
    file = write_architecture(lab.root / "end2end.yaml", end2end=True, reg_max=1)
    options = {"model": str(file), "optimizer": "MuSGD"}
    assert lab.attempt("end2end", **options) == "done"
    for name in ("end2end-resumed", "end2end-forgotten"):
        assert lab.attempt(name, stop_at(1, 2), **options) == "stopped"
    assert lab.newest("end2end-forgotten").plain["criterion"]["updates"] == 1
    tamper(lab, "end2end-forgotten", lambda it: it.plain["criterion"].update(updates=0, o2m=0.8, o2o=0.2))
    for name in ("end2end-resumed", "end2end-forgotten"):
        assert lab.attempt(name, **options) == "done"

    assert lab.differences("end2end", "end2end-resumed") == []
    assert lab.differences("end2end", "end2end-forgotten") != []


def test_the_step_s_seed_is_needed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"multi_scale": 0.5, "workers": 1}  # the size is drawn in the main process
    monkeypatch.setattr(exact_trainer, "seed_all", lambda _value, _device: None)
    assert lab.attempt("unseeded", **options) == "done"
    assert lab.attempt("unseeded-resumed", stop_at(1, 2), **options) == "stopped"
    assert lab.attempt("unseeded-resumed", **options) == "done"

    assert lab.differences("unseeded", "unseeded-resumed") != []
