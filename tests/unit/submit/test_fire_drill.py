"""A drill on this machine, with the real worker; and what it says where a run did not come back as promised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.submit.fire_drill import _words, as_text, disturbances_of, judge
from tests.chaos.conftest import hpc_yolo
from tests.unit.runs_on_disk import begin, make_run, some_tensors, write_snapshot


def test_a_drill_on_this_machine(tmp_path: Path) -> None:
    small = ("data.digits.train_images=32", "data.digits.val_images=16", "train.epochs=8", "train.device=cpu")
    answer = hpc_yolo("drill", f"runs_dir={tmp_path}", *small, "--json", "--deadline", "200")

    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["problems"] == []
    assert [it["how"] for it in found["disturbances"]] == ["user signal", "user signal"]
    assert all(it["saved_at"] == it["resumed_at"] > 0 for it in found["disturbances"])
    assert "its undisturbed twin: done" in answer.stderr


def test_what_is_not_as_promised_is_told(tmp_path: Path) -> None:
    run, twin = make_run(tmp_path / "run"), make_run(tmp_path / "twin")
    begin(run).start().beat(40).tell(Kind.STOP_REQUESTED, signal="SIGUSR1").end("preemption", "requeue")
    begin(run, 2).start(resumed_at=30).tell(Kind.TRAINING_STARTED, step=31).beat(100).tell(
        Kind.FINISHED, step=100, metrics={}
    )
    begin(twin).start().beat(100).tell(Kind.FINISHED, step=100, metrics={})
    write_snapshot(run)
    write_snapshot(twin, tensors=some_tensors(seed=1))

    found = judge(run, twin, ["user signal", "scontrol requeue"])

    assert found.problems[:2] == ["2 disturbances, but 1 returns", "10 steps were done twice"]
    assert found.problems[2].startswith("the bits differ: `hpc-yolo compare")
    assert [it.saved_at for it in disturbances_of(run, ["user signal"])] == [None]
    assert as_text(found).count("NOT as promised") == 3


@pytest.mark.parametrize("word", ["name=mine", "data=custom", "experiment=quickstart"])
def test_what_the_user_says_counts_more(word: str) -> None:
    words = _words(["runs_dir=/scratch", word], "drill")

    assert [it for it in words if it.partition("=")[0] == word.partition("=")[0]] == [word]
