"""The run id: a promise across releases."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_yolo.submit.identity import run_id

DEFAULTS = {"lr0": 0.01, "epochs": 100}
ASKED: dict[str, Any] = {
    "task": "detect",
    "weights_digest": "w",
    "data_digest": "d",
    "train": {"lr0": 0.01, "epochs": 5},
    "train_defaults": DEFAULTS,
    "cpu_threads": 2,
    "streams": 8,
}


def test_ids_do_not_change_between_releases() -> None:
    assert run_id(**ASKED) == "ae8ab4797f"
    assert run_id(**{**ASKED, "cpu_threads": 1}) == "58a2b1923c"


def test_an_option_of_a_later_release_at_its_default_changes_nothing() -> None:
    later = {**ASKED, "train": {**ASKED["train"], "sparkle": 0.5}, "train_defaults": {**DEFAULTS, "sparkle": 0.5}}

    assert run_id(**later) == run_id(**ASKED)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "v"},
        {"data_digest": "e"},
        {"train": {"lr0": 0.02, "epochs": 5}},
        {"cpu_threads": 4},
        {"streams": 2},
        {"task": "segment"},
        {"family": "rtdetr"},
    ],
)
def test_what_decides_the_weights_decides_the_id(change: dict[str, Any]) -> None:
    assert run_id(**{**ASKED, **change}) != run_id(**ASKED)
