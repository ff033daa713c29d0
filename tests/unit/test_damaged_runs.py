"""Run directories as a full disk, a broken-off `rm` or another release leaves them: every command says something useful."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.rundir import RunDir
from tests.unit.runs_on_disk import make_done_run

COMMANDS = [
    "status",
    "status --json",
    "results",
    "report --json",
    "logs",
    "explain",
    "explain --json",
    "cancel",
    "requeue",
    "preempt",
    "clean",
    "compare",
]


def another_release(run: RunDir) -> None:
    run.run_yaml.write_text(run.run_yaml.read_text() + "format: 99\nlater: {nested: [1, 2]}\n")


def a_folder_for_a_file(run: RunDir) -> None:
    events = run.attempts()[-1].events
    events.unlink()
    events.mkdir()


DAMAGES: dict[str, Callable[[RunDir], object]] = {
    "no run.yaml": lambda run: run.run_yaml.unlink(),
    "an empty run.yaml": lambda run: run.run_yaml.write_text(""),
    "a run.yaml of zeros": lambda run: run.run_yaml.write_bytes(b"\0" * 4096),
    "half a run.yaml": lambda run: run.run_yaml.write_text("id: [3f2a"),
    "another release's": another_release,
    "no attempts": lambda run: shutil.rmtree(run.attempts_dir),
    "an attempt without files": lambda run: [file.unlink() for file in run.attempts()[-1].path.iterdir()],
    "no ledger": lambda run: run.attempts()[-1].events.unlink(),
    "a ledger of zeros": lambda run: run.attempts()[-1].events.write_bytes(b"\0" * 4096),
    "half a ledger": lambda run: run.attempts()[-1].events.write_text('{"t": 1, "kind": "attempt_st'),
    "a folder for a ledger": a_folder_for_a_file,
    "half a heartbeat": lambda run: run.attempts()[-1].heartbeat.write_text('{"step": 1'),
    "no snapshots and no weights": lambda run: [shutil.rmtree(it) for it in (run.snapshots_dir, run.weights_dir)],
    "half a ledger of jobs": lambda run: run.jobs.write_text('{"t": 1, "kind": "submitted", "job'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_command_ends_in_a_bug(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    well = make_done_run(tmp_path / "runs" / "lr" / "77d0aa10")
    run = make_done_run(tmp_path / "runs" / "lr" / "3f2a90c1")
    DAMAGES[damage](run)
    for command in COMMANDS:
        words = command.split()
        more = [str(well.path)] if command == "compare" else []
        code = main([*words[:1], str(run.path), *more, *words[1:]])
        said = capsys.readouterr()
        assert code != 70, f"{command}: {said.err}"
        assert "this is a bug" not in said.err


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_others_of_its_sweep_are_told_as_ever(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_done_run(tmp_path / "runs" / "lr" / "77d0aa10")
    DAMAGES[damage](make_done_run(tmp_path / "runs" / "lr" / "3f2a90c1"))

    assert main(["status", "--json", "--runs-dir", str(tmp_path / "runs")]) == 0
    rows = {row["dir"].rpartition("/")[2]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert rows["77d0aa10"] == "done"
    assert main(["results", str(tmp_path / "runs" / "lr"), "--json"]) == 0
    assert "77d0aa10" in {row["id"] for row in json.loads(capsys.readouterr().out)["runs"]}


def test_an_id_that_begins_two_runs_is_asked_back_with_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("lr/3f2a90c1", "dropout/3f2a0000"):
        make_done_run(tmp_path / "runs" / path)

    assert main(["logs", "3f2a", "--runs-dir", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert "means several runs" in said
    assert "lr/3f2a90c1" in said
    assert "dropout/3f2a0000" in said
