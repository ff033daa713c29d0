"""Interrupted == uninterrupted, to the bit, at every kind of moment."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import Cramped, Glitch, Lab, StopWhen, stop_at

LAST_BATCH = 3  # 14 images in batches of 4


def test_two_undisturbed_runs_are_the_same_bits(lab: Lab) -> None:
    assert lab.attempt("again") == "done"
    assert lab.differences("undisturbed", "again") == []


MOMENTS: dict[str, StopWhen] = {
    "at the first batch": stop_at(0, 0),
    "while warming up, with gradients pending": stop_at(1, 0),
    "at the last batch of an epoch": stop_at(0, LAST_BATCH),
    "in the middle of an epoch": stop_at(1, 1),
    "after mosaic was closed": stop_at(2, 1),
    "at the last batch of the run": stop_at(2, LAST_BATCH),
    "in validation": ("on_val_batch_end", lambda trainer: trainer.epoch == 1),
    "after validation": ("on_fit_epoch_end", lambda trainer: trainer.epoch == 1),
    "in the final evaluation": ("on_val_batch_end", lambda trainer: trainer._is_final),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_stopped_goes_on_to_the_same_bits(lab: Lab, moment: str) -> None:
    name = moment.replace(" ", "-")
    assert lab.attempt(name, MOMENTS[moment]) == "stopped"
    assert lab.attempt(name) == "done"
    assert lab.differences("undisturbed", name) == []


def test_a_stop_before_the_first_batch_saves_nothing_and_costs_nothing(lab: Lab) -> None:
    assert lab.attempt("at-once", ("on_train_epoch_start", lambda _trainer: True)) == "stopped"
    assert lab.attempt("at-once") == "done"
    assert lab.differences("undisturbed", "at-once") == []


def test_a_run_stopped_at_every_second_batch_is_still_the_same(lab: Lab) -> None:
    outcomes = []
    while not outcomes or outcomes[-1] == "stopped":
        seen: list[int] = []
        outcomes.append(
            lab.attempt("often", ("on_train_batch_end", lambda _t, seen=seen: seen.append(1) or len(seen) >= 2))
        )

    assert len(outcomes) == 7
    assert lab.differences("undisturbed", "often") == []


def test_the_number_of_dataloader_workers_may_change_between_attempts(lab: Lab) -> None:
    assert lab.attempt("workers", stop_at(0, 1), workers=2) == "stopped"
    assert lab.attempt("workers", stop_at(1, 2), workers=0) == "stopped"
    assert lab.attempt("workers", workers=1) == "done"
    assert lab.differences("undisturbed", "workers") == []


def test_an_epoch_that_is_redone_after_a_nan_can_be_interrupted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "trainer_class", Glitch)
    in_the_redo = ("on_train_batch_end", lambda trainer: (trainer.nan_recovery_attempts, trainer._batch) == (1, 2))
    assert lab.attempt("glitch") == "done"
    assert lab.attempt("glitch-stopped", in_the_redo) == "stopped"
    assert lab.newest("glitch-stopped").plain["nan_recovery_attempts"] == 1
    assert lab.attempt("glitch-stopped") == "done"

    assert lab.differences("glitch", "glitch-stopped") == []
    assert lab.differences("glitch", "undisturbed") != []


def test_a_batch_size_that_memory_halved_stays_halved(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "trainer_class", Cramped)
    assert lab.attempt("cramped") == "done"
    for moment in (stop_at(0, 2), stop_at(1, 5)):
        assert lab.attempt("cramped-stopped", moment) == "stopped"
        assert lab.newest("cramped-stopped").plain["args"]["batch"] == 2
    assert lab.attempt("cramped-stopped") == "done"

    assert lab.differences("cramped", "cramped-stopped") == []


OPTIONS: dict[str, dict[str, Any]] = {
    "augmented": {"mixup": 0.5, "cutmix": 0.3, "multi_scale": 0.5, "degrees": 10, "cos_lr": True},
    "adamw-no-accumulation": {"optimizer": "AdamW", "nbs": 4, "cache": "ram", "freeze": 1},
    "rectangular": {"rect": True, "val": False, "optimizer": "auto"},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_keep_the_promise(lab: Lab, options: str) -> None:
    chosen = OPTIONS[options]
    assert lab.attempt(f"{options}-undisturbed", **chosen) == "done"
    assert lab.attempt(f"{options}", stop_at(0, 2), **chosen) == "stopped"
    assert lab.attempt(f"{options}", stop_at(1, 1), **chosen) == "stopped"
    assert lab.attempt(f"{options}", **chosen) == "done"
    assert lab.differences(f"{options}-undisturbed", options) == []
