"""An attempt that a newer one has taken over from can change nothing: it is stopped before each call of the kernel in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.attempts import claim, is_newest
from hpc_yolo.errors import SupersededError
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.staging import Stage, take_over

#: Every call by which a stage changes a folder or looks at the run.
CALLS = ("mkdir", "rmdir", "listdir", "open", "fsync", "rename", "unlink")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    it = RunDir(tmp_path / "run")
    it.path.mkdir()
    return it


def stage_of(run: RunDir, attempt: AttemptDir) -> Stage:
    return Stage(run.weights_dir, attempt.number, lambda: is_newest(run, attempt))


def succeed(run: RunDir) -> None:
    """The next attempt takes over, replaces last.pt, and keeps a file that the one before wants to remove."""
    newer = claim(run, past=1)
    take_over(run.weights_dir, newer.number)
    stage_of(run, newer).write(run.weights_dir / "last.pt", b"newer")
    (run.weights_dir / "kept").write_bytes(b"kept")


def stop_before(monkeypatch: pytest.MonkeyPatch, number: int, meanwhile: Callable[[], None]) -> list[str]:
    """Before the `number`-th call of the kernel, let `meanwhile` happen. Returns the calls, as they are made."""
    made: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def calling(*words: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == number:
                monkeypatch.undo()
                meanwhile()
            return real(*words, **options)

        monkeypatch.setattr(os, name, calling)

    for name in CALLS:
        wrap(name)
    return made


def older_attempt(run: RunDir, *, is_open: bool, is_blind: bool) -> Callable[[], None]:
    """What the older attempt does: it replaces last.pt, then removes a file that it thinks superfluous."""
    attempt = claim(run)
    stage = Stage(run.weights_dir, 1, lambda: is_blind or is_newest(run, attempt))
    if is_open:
        stage.write(run.weights_dir / "last.pt", b"oldest")

    def publish() -> None:
        stage.write(run.weights_dir / "last.pt", b"older")
        stage.remove(run.weights_dir / "kept")

    return publish


@pytest.mark.parametrize(
    ("is_open", "is_blind"),
    [(False, False), (True, False), pytest.param(True, True, id="the storage shows it no newer attempt")],
)
def test_stopped_anywhere_and_superseded_it_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_open: bool, is_blind: bool
) -> None:
    number, stops = 1, 0
    while True:
        run = RunDir(tmp_path / str(number))
        run.path.mkdir()
        publish = older_attempt(run, is_open=is_open, is_blind=is_blind)
        made = stop_before(monkeypatch, number, lambda run=run: succeed(run))
        try:
            publish()
        except SupersededError:
            stops += 1
        if len(made) < number:  # it was through before
            monkeypatch.undo()
            break
        assert (run.weights_dir / "last.pt").read_bytes() == b"newer", f"stopped before call {number}: {made}"
        assert (run.weights_dir / "kept").exists(), f"stopped before call {number}: {made}"
        number += 1

    assert stops >= 3
    assert number >= 6


def test_a_stage_that_the_newer_attempt_did_not_see_is_not_used(run: RunDir) -> None:
    older = claim(run)
    stage = stage_of(run, older)
    succeed(run)

    with pytest.raises(SupersededError, match="attempt 1 was superseded"):
        stage.write(run.weights_dir / "last.pt", b"older")
    assert sorted(it.name for it in run.weights_dir.iterdir()) == [".staged.a002", "kept", "last.pt"]


def test_an_older_attempt_that_starts_late_leaves_the_newer_stage_alone(run: RunDir) -> None:
    claim(run)
    succeed(run)
    take_over(run.weights_dir, 1)

    assert (run.weights_dir / ".staged.a002").is_dir()


def test_what_a_killed_attempt_left_half_written_is_removed(run: RunDir) -> None:
    older = claim(run)
    stage = stage_of(run, older)
    stage.open()
    (stage.path / "last.pt").write_bytes(b"ha")
    take_over(run.weights_dir, 2)

    assert list(run.weights_dir.iterdir()) == []


def test_a_folder_that_was_purged_is_made_anew_at_the_second_try(run: RunDir) -> None:
    stage = stage_of(run, claim(run))
    stage.write(run.weights_dir / "last.pt", b"before")
    shutil.rmtree(run.weights_dir)

    with pytest.raises(FileNotFoundError):
        stage.write(run.weights_dir / "last.pt", b"after")
    stage.write(run.weights_dir / "last.pt", b"after")
    assert (run.weights_dir / "last.pt").read_bytes() == b"after"


def test_a_run_that_was_removed_is_not_brought_back(run: RunDir) -> None:
    stage = stage_of(run, claim(run))
    stage.write(run.results_csv, b"epoch\n")
    shutil.rmtree(run.path)

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            stage.write(run.weights_dir / "last.pt", b"after")
    assert not run.path.exists()
