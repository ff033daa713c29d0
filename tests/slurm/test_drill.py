"""`hpc-yolo drill` on the one-machine Slurm: two real interruptions, and what it says of them is what the ledgers say."""

from __future__ import annotations

import json
from pathlib import Path

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import RunDir
from tests.chaos.conftest import hpc_yolo
from tests.slurm.conftest import ON_SLURM, Cluster


def test_a_drill_shows_that_a_run_comes_back_exact(cluster: Cluster, tmp_path: Path) -> None:
    words = [
        *ON_SLURM,
        f"runs_dir={tmp_path}",
        "train.device=cpu",
        "data.digits.train_images=48",
        "data.digits.val_images=16",
    ]
    answer = hpc_yolo("drill", *words, "--json", "--deadline", "200")

    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["problems"], found["is_equal"], found["steps_redone"]) == ([], True, 0)
    assert [it["how"] for it in found["disturbances"]] == ["user signal", "scontrol requeue"]
    ledgers = [read_events(it.events) for it in RunDir(Path(found["run"])).attempts()]
    assert [it["saved_at"] for it in found["disturbances"]] == [it.last(Kind.STOPPED).step for it in ledgers[:2]]  # type: ignore[union-attr]
    assert len(RunDir(Path(found["twin"])).attempts()) == 1
