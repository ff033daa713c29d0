"""What is kept beside runs of each `hpc-yolo train`, and what a sweep's parameters are by it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.rundir import invocations_dir
from hpc_yolo.sweeps import (
    Invocation,
    invocation_now,
    note_invocation,
    overrides_by_run,
    read_invocations,
    varying,
)  # fmt: skip

GRID = {
    "aaa": ("model=yolo11n", "train.lr0=0.1", "+cluster.sbatch.comment=x"),
    "bbb": ("model=yolo11n", "train.lr0=0.2", "~train.freeze"),
}


def kept(time: float = 1_700_000_000.25, **changes: object) -> Invocation:
    made = Invocation(time=time, folder="/home/me", words=("-m", "train.lr0=0.1,0.2"), overrides=GRID)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_what_is_kept_is_read_again_oldest_first(tmp_path: Path) -> None:
    later, earlier = kept(), kept(time=1_600_000_000.0, overrides={})
    for it in (later, earlier, later):  # the same moment twice: two processes would differ by their numbers
        note_invocation(tmp_path, it)

    assert read_invocations(tmp_path) == [earlier, later]


def test_a_file_that_is_broken_or_of_a_later_release_hides_no_other(tmp_path: Path) -> None:
    note_invocation(tmp_path, kept())
    (invocations_dir(tmp_path) / "cut.json").write_text('{"time": 1, "words"')
    (invocations_dir(tmp_path) / "later.json").write_text('{"time": 1, "words": [], "overrides": {}, "moon": "full"}')

    assert read_invocations(tmp_path) == [kept()]
    assert read_invocations(tmp_path / "nowhere") == []


def test_a_sweep_s_parameters_are_what_its_runs_differ_in() -> None:
    found = overrides_by_run([kept()])

    assert found["aaa"] == {"model": "yolo11n", "train.lr0": "0.1", "cluster.sbatch.comment": "x"}
    assert found["bbb"]["train.freeze"] == "(removed)"
    assert varying(found) == ["train.lr0", "cluster.sbatch.comment", "train.freeze"]
    assert varying({"aaa": found["aaa"]}) == []


def test_of_several_invocations_the_newest_counts() -> None:
    found = overrides_by_run([kept(), kept(overrides={"aaa": ("train.lr0=0.3",)})])

    assert found["aaa"] == {"train.lr0": "0.3"}
    assert found["bbb"]["train.lr0"] == "0.2"


def test_the_code_that_a_sweep_ran_with_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invocation_now([], {}).git is None
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], check=True)
    (tmp_path / "mine.py").write_text("secret = 1")

    found = invocation_now(["name=a"], {"aaa": ["x=1"]})

    assert found.git is not None
    assert (len(found.git["commit"]), found.git["changed"]) == (40, ["mine.py"])
    assert (found.words, found.overrides, found.folder) == (("name=a",), {"aaa": ("x=1",)}, str(tmp_path))
    assert found.versions["submitit"]
