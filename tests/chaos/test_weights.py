"""Start weights are a pickle, and so a program: a real worker does not run it, unless its user trusts who made them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tests.chaos.conftest import Factory, hpc_yolo


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_program_in_start_weights_is_not_run_unless_they_are_trusted(small: Factory, tmp_path: Path) -> None:
    trap, weights = tmp_path / "sprung", tmp_path / "gift.pt"
    torch.save({"model": Trap(trap)}, weights)
    options = [it for it in small.options if not it.startswith("model.weights=")]
    words = ["train", *options, f"model.weights={weights}", f"runs_dir={tmp_path}", "name=gift", "retry.max_restarts=0"]

    refused = hpc_yolo(*words)
    assert not trap.exists()
    trusting = hpc_yolo(*words, "model.trust_weights=true", "resubmit=failed")

    assert refused.returncode == 65
    assert "submit it again with model.trust_weights=true" in refused.stdout + refused.stderr
    assert trap.exists()
    assert trusting.returncode != 0  # it holds no model
    assert len([it for it in (tmp_path / "gift").iterdir() if (it / "run.yaml").exists()]) == 1  # the same id
