"""At every kind of moment: a process that is really killed leaves whole files, and a run that goes on ends as undisturbed.

As undisturbed are also the files that ultralytics writes: best.pt is the best, results.csv has every epoch once.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from hpc_yolo.snapshot.store import SnapshotStore
from tests.deaths import DEATHS, DEATHS_OF_A_RESUME, DEATHS_OF_A_WRITE, always, attempt_in_a_process, in_second_epoch
from tests.lab import Lab, StopWhen, give_up, results_of, stop_at

_EARLY = {
    "before the first step",
    "between the csv row and last.pt",
    "in strip_optimizer of best.pt",
    "while the model is built",
}


def listed(moments: Any) -> list[Any]:
    """Those that every change must pass, and the others for the long run."""
    return [it if it in _EARLY else pytest.param(it, marks=pytest.mark.matrix) for it in moments]


def assert_nothing_is_cut(run: Path) -> None:
    """What has a final name can be read to its end."""
    for file in (run / "weights").glob("[!.]*.pt"):
        assert torch.load(file, weights_only=False)["epoch"] in (-1, 0, 1, 2)
    assert results_of(run)[-1:] in ("", "\n")
    store = SnapshotStore(run / "snapshots")
    assert store.newest() is not None or store.entries() == []
    assert store.quarantined() == []


def assert_files_are_true(run: Path) -> None:
    """ultralytics' own files, at the end of a run of three epochs."""
    rows = [line.split(",") for line in results_of(run).splitlines()]
    assert [row[0] for row in rows] == ["epoch", "1", "2", "3"]
    for name in ("best.pt", "last.pt"):
        checkpoint = torch.load(run / "weights" / name, weights_only=False)
        assert (checkpoint["epoch"], checkpoint["optimizer"], checkpoint["ema"]) == (-1, None, None)  # stripped
    fitness = [float(row[rows[0].index("metrics/mAP50-95(B)")]) for row in rows[1:]]
    best = torch.load(run / "weights" / "best.pt", weights_only=False)["train_metrics"]
    assert best["fitness"] == pytest.approx(max(fitness), rel=1e-4)
    assert sorted(it.name for it in (run / "weights").iterdir()) == ["best.pt", "last.pt"]


def assert_ends_as_undisturbed(lab: Lab, name: str) -> None:
    assert lab.attempt(name) == "done"
    assert lab.differences("undisturbed", name) == []
    assert_files_are_true(lab.root / name)


def test_the_files_of_an_undisturbed_run_are_true(lab: Lab) -> None:
    assert_files_are_true(lab.root / "undisturbed")


@pytest.mark.parametrize("moment", listed(DEATHS))
def test_a_process_killed(lab: Lab, moment: str) -> None:
    name = f"killed {moment}"

    assert attempt_in_a_process(lab, name, moment) == -signal.SIGKILL
    assert_nothing_is_cut(lab.root / name)
    assert_ends_as_undisturbed(lab, name)


@pytest.mark.parametrize("moment", listed(DEATHS_OF_A_RESUME))
def test_a_process_killed_during_its_resume(lab: Lab, moment: str) -> None:
    name = f"killed {moment}"
    assert lab.attempt(name, stop_at(1, 1)) == "stopped"

    assert attempt_in_a_process(lab, name, moment) == -signal.SIGKILL
    assert_nothing_is_cut(lab.root / name)
    assert lab.newest(name).position.batch == 2
    assert_ends_as_undisturbed(lab, name)


@pytest.mark.parametrize("moment", DEATHS_OF_A_WRITE)
def test_a_process_killed_in_a_write_leaves_the_weights_before(lab: Lab, moment: str) -> None:
    run, file = lab.root / moment, moment.rsplit(maxsplit=1)[-1]

    assert attempt_in_a_process(lab, moment, moment) == -signal.SIGKILL
    assert torch.load(run / "weights" / file, weights_only=False)["epoch"] == 0
    assert (run / "weights" / ".staged.a001" / file).exists()  # the cut one, which nobody reads
    assert_nothing_is_cut(run)
    assert_ends_as_undisturbed(lab, moment)


STOPS: dict[str, StopWhen] = {
    "while the model is built": ("get_model", always),
    "while the state is put back": ("resume_training", always),
    "before the first batch": ("on_train_epoch_start", always),
    "in the first step": ("optimizer_step", always),
    "between the csv row and last.pt": ("save_metrics", in_second_epoch),
    "after last.pt": ("save_model", in_second_epoch),
}


@pytest.mark.parametrize("moment", STOPS)
def test_an_attempt_that_goes_on_is_asked_to_stop(lab: Lab, moment: str) -> None:
    name = f"stopped {moment}"
    assert lab.attempt(name, stop_at(1, 1)) == "stopped"

    assert lab.attempt(name, STOPS[moment]) == "stopped"
    assert_ends_as_undisturbed(lab, name)


def test_asked_to_stop_twice_within_a_step_saves_once(lab: Lab) -> None:
    asked: list[str] = []

    def is_first_or_second(trainer: Any) -> bool:
        asked.append(trainer.epoch)
        return (trainer.epoch, trainer._batch) == (1, 1)

    def ask_twice(request: Any) -> None:
        request.note(signal.SIGUSR1)
        request.note(signal.SIGTERM)

    assert lab.attempt("twice", ("on_train_batch_end", is_first_or_second), ends=ask_twice) == "stopped"
    assert [it.step for it in SnapshotStore(lab.root / "twice" / "snapshots").entries()].count(
        lab.newest("twice").position.step
    ) == 1
    assert_ends_as_undisturbed(lab, "twice")


def test_stopped_again_and_again_before_a_batch_was_trained_it_loses_nothing(lab: Lab) -> None:
    assert lab.attempt("nowhere", stop_at(1, 1)) == "stopped"
    for _ in range(2):
        assert lab.attempt("nowhere", ("on_train_batch_start", always)) == "stopped"
        assert lab.attempt("nowhere", ("on_train_batch_start", always), ends=give_up) == "killed"
    assert lab.newest("nowhere").position.batch == 2

    assert_ends_as_undisturbed(lab, "nowhere")


@pytest.mark.matrix
def test_pictures_are_all_there_at_the_end(lab: Lab) -> None:
    options = {"plots": True}
    assert lab.attempt("pictures", **options) == "done"
    assert attempt_in_a_process(lab, "pictures killed", "in the middle of an epoch", **options) == -signal.SIGKILL
    assert attempt_in_a_process(lab, "pictures killed", "in the final evaluation", **options) == -signal.SIGKILL
    assert lab.attempt("pictures killed", **options) == "done"

    pictures = [sorted(p.name for p in (lab.root / it).glob("*.[jp][pn]g")) for it in ("pictures", "pictures killed")]
    assert {"results.png", "labels.jpg", "confusion_matrix.png", "train_batch0.jpg"} <= set(pictures[0])
    assert pictures[1] == pictures[0]
    assert lab.differences("pictures", "pictures killed") == []
